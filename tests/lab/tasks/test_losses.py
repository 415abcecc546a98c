"""The built-in loss and scores against torch and against loops."""

import math

import pytest
import torch
from torch.nn import functional as F

from msgd.lab.tasks.losses import (
    calibration,
    classification_scores,
    cross_entropy,
    smoothed_cross_entropy,
    text_scores,
)


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(*shape, generator=generator, dtype=torch.float64)
    return logits, torch.randint(shape[-1], shape[:-1], generator=generator)


@pytest.mark.parametrize("shape", [(7, 5), (300, 10), (6, 4, 5)])
def test_cross_entropy_of_each_example(shape):
    logits, targets = drawn(*shape)
    alone = [F.cross_entropy(z.reshape(-1, shape[-1]), y.reshape(-1)) for z, y in zip(logits, targets, strict=True)]
    torch.testing.assert_close(cross_entropy(logits, targets), torch.stack(alone), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(7, 5), (6, 4, 5)])
def test_smoothing_gives_every_class_its_share(shape):
    logits, targets = drawn(*shape)
    share = torch.full_like(logits, 0.2 / shape[-1])
    share.scatter_add_(-1, targets[..., None], torch.full_like(targets[..., None], 0, dtype=torch.float64) + 0.8)
    expected = -(share * logits.log_softmax(-1)).sum(-1).reshape(len(targets), -1).mean(1)
    torch.testing.assert_close(smoothed_cross_entropy(0.2)(logits, targets), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(400, 4), (50, 8, 4)])
def test_the_calibration_error_is_that_of_its_definition(shape):
    logits, targets = drawn(*shape)
    flat, classes = logits.reshape(-1, shape[-1]).softmax(1), targets.reshape(-1)
    confidence, predicted = flat.max(1)
    total = 0.0
    for bin_ in range(15):
        inside = [i for i, c in enumerate(confidence.tolist()) if bin_ / 15 <= c < (bin_ + 1) / 15 or c == bin_ == 1]
        if inside:
            accuracy = sum(int(predicted[i] == classes[i]) for i in inside) / len(inside)
            mean = sum(confidence[i].item() for i in inside) / len(inside)
            total += len(inside) / len(classes) * abs(accuracy - mean)
    found = calibration(logits, targets)
    assert found.shape == (shape[0], 15)
    assert found.mean(0).abs().sum().item() == pytest.approx(total, rel=1e-10)


def test_a_confidence_of_one_is_in_the_last_bin():
    logits = torch.tensor([[1000.0, 0.0], [1000.0, 0.0]])
    assert calibration(logits, torch.tensor([0, 1])).mean(0).tolist() == [0.0] * 14 + [0.5]


def test_scores_of_classes_and_of_text():
    logits, targets = drawn(6, 4, 5)
    right = (logits.argmax(-1) == targets).double().mean(1)
    assert torch.equal(classification_scores(logits, targets)["accuracy"], right)
    scores = text_scores(logits, targets)
    assert list(scores) == ["bits per character", "accuracy"]
    torch.testing.assert_close(scores["bits per character"], cross_entropy(logits, targets) / math.log(2))
