"""A task is tried before it is trained: one loss and one value of each score per example, and none coupled."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from msgd.lab.errors import UserError
from msgd.lab.tasks.objective import Objective
from msgd.lab.tasks.trial import try_task

X, Y = torch.randn(9, 3, generator=torch.Generator().manual_seed(0)), torch.arange(9.0)[:, None]


def square(outputs, targets):
    return F.mse_loss(outputs, targets, reduction="none").mean(1)


def trial(loss=square, scores=lambda o, t: {"mae": (o - t).abs().mean(1)}, network=None):
    return try_task(network or nn.Linear(3, 1), Objective(loss, loss, scores), X, Y)


def test_the_names_of_the_scores():
    assert trial() == ["mae"]
    assert trial(scores=lambda o, _: {"a": o[:, 0], "r2 loss": torch.stack([o[:, 0]] * 3, 1)}) == ["a", "r2 loss"]


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda o, t: square(o, t).mean(), r"loss: it has shape \(\) for 4 examples: return one loss per example"),
        (lambda o, t: (o - t) ** 2, r"loss: it has shape \(4, 1\)"),
        (lambda *_: 3.0, "loss: it has type float"),
        (lambda o, t: square(o.detach(), t), "loss: it has no gradient"),
        (lambda o, t: square(o - o.mean(), t), "the loss of an example depends on the outputs of other examples"),
    ],
)
def test_losses_that_are_refused(loss, message):
    with pytest.raises(UserError, match=message):
        trial(loss)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (lambda o, _: o[:, 0], "scores: return a dict"),
        (lambda *_: {}, "scores: return a dict"),
        (lambda o, t: {"mae": (o - t).abs().mean()}, r"scores: 'mae' has shape \(\) for 4 examples"),
        (lambda *_: {"mae": 3.0}, "scores: 'mae' has type float"),
        (lambda o, _: {"": o[:, 0]}, "scores: '' is no name"),
        (lambda o, _: {"a\nb": o[:, 0]}, "is no name"),
        (lambda o, _: {"top 5 accuracy": o[:, 0] + 100}, "is shown in percent, so it must lie in .0, 1."),
    ],
)
def test_scores_that_are_refused(scores, message):
    with pytest.raises(UserError, match=message):
        trial(scores=scores)


def test_a_network_without_parameters():
    with pytest.raises(UserError, match="it has no parameters to train"):
        trial(network=nn.ReLU())


@pytest.mark.parametrize(
    ("targets", "network", "message"),
    [
        (
            Y[:, 0],
            nn.Linear(3, 9),
            r"needs class numbers 0, 1, … as targets, .* not float32 of shape",
        ),
        (Y[:, 0].long() - 1, nn.Linear(3, 9), "with negative numbers; convert them, or define loss"),
        (Y[:, 0].long(), nn.Linear(3, 8), "it has 8 outputs, but there is a target 8: K classes need K outputs"),
        (Y[:, 0].long(), nn.Flatten(0), "it has no parameters"),
        (Y.long(), nn.Linear(3, 9), r"needs an output per class, .* not float32 of shape \(4, 9\)"),
        (Y[:, 0].long(), nn.LSTM(3, 9), "needs an output per class, .* not type tuple"),
        (Y[:, 0].long(), nn.Linear(4, 9), "^network: RuntimeError: mat1 and mat2"),
    ],
)
def test_classes_and_outputs_that_do_not_fit_the_built_in_loss(targets, network, message):
    with pytest.raises(UserError, match=message):
        try_task(network, Objective(), X, targets)
