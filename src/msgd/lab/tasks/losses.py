"""The built-in loss and the built-in scores of classification, for classes and for sequences of classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from msgd.lab.networks.perceptron import log_softmax

LossFunction = Callable[[Tensor, Tensor], Tensor]  #: maps (outputs, targets) to one loss per example, shape (batch,)

#: maps (outputs, targets) to a tensor for each score, see `Task`
ScoreFunction = Callable[[Tensor, Tensor], Mapping[str, Tensor]]
BINS = 15  #: number of bins of confidence
CLASSIFICATION = ("accuracy", "calibration error")  #: the scores of `classification_scores`
TEXT = ("bits per character", "accuracy")  #: the scores of `text_scores`
LOWER_IS_BETTER = ("loss", "calibration error", "bits per character")


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each example; of a sequence, the mean over its positions.

    Args:
        logits: shape (n, classes), or (n, T, classes) for sequences.
        targets: class numbers, shape (n,), or (n, T).

    Returns:
        Shape (n,).
    """
    if logits.ndim == 3:
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape).mean(1)
    probabilities, classes = log_softmax(logits)
    return F.nll_loss(probabilities if classes == 1 else probabilities.t(), targets, reduction="none")


def smoothed_cross_entropy(smoothing: float) -> LossFunction:
    """Cross-entropy with targets that give every class the probability ``smoothing/classes``, and the rest to the own.

    Args:
        smoothing: in [0, 1).

    Returns:
        The loss function.

    References:
        Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: Rethinking the Inception architecture, CVPR 2016, arXiv 1512.00567.
    """

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        losses = F.cross_entropy(
            logits.reshape(-1, logits.shape[-1]), targets.flatten(), reduction="none", label_smoothing=smoothing
        )
        return losses.view(len(targets), -1).mean(1)

    return loss


def classification_scores(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """The accuracy and the expected calibration error.

    Args:
        logits: as in `cross_entropy`.
        targets: as in `cross_entropy`.

    Returns:
        "accuracy" of shape (n,), and "calibration error" of shape (n, 15) from `calibration`.
    """
    is_right = (logits.argmax(-1) == targets).view(len(targets), -1)
    return {"accuracy": is_right.double().mean(1), "calibration error": calibration(logits, targets)}


def text_scores(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """The cross-entropy in bits per character, and the accuracy of the predicted characters.

    Args:
        logits: shape (n, T, characters).
        targets: the next characters, shape (n, T).

    Returns:
        "bits per character" and "accuracy", each of shape (n,).
    """
    bits = cross_entropy(logits, targets) / math.log(2)
    return {"bits per character": bits, "accuracy": (logits.argmax(-1) == targets).double().mean(1)}


def calibration(logits: Tensor, targets: Tensor) -> Tensor:
    """The parts of the expected calibration error: confidence − correctness of each example, in its bin of confidence.

    The error is Σ_bins |mean over all examples|, which is how the laboratory reports a score of shape (n, bins). The
    bins are [0, 1/15), [1/15, 2/15) … of the largest probability.

    Args:
        logits: shape (n, classes), or (n, T, classes) for sequences.
        targets: class numbers, shape (n,), or (n, T).

    Returns:
        Shape (n, 15).

    Examples:
        >>> logits = torch.tensor([[0.0, 0.0], [0.0, 0.0]])  # a confidence of 1/2, and one of two is right
        >>> calibration(logits, torch.tensor([0, 1])).mean(0).abs().sum().item()
        0.0

    References:
        Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks, ICML 2017, arXiv 1706.04599, equ. 3.
    """
    n, flat = len(targets), logits.reshape(-1, logits.shape[-1])
    best, predicted = flat.max(1)
    confidence = (best - flat.logsumexp(1)).exp().double()
    gap = confidence - (predicted == targets.flatten()).double()
    number = (confidence * BINS).long().clamp(0, BINS - 1)
    parts = torch.zeros(len(flat), BINS, dtype=torch.float64, device=flat.device)
    return parts.scatter_(1, number[:, None], gap[:, None]).view(n, -1, BINS).mean(1)
