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
