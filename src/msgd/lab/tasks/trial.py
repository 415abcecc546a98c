"""Tries a task on a few examples, before anything is trained: the shapes of losses and scores, and their gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from msgd.lab.errors import UserError
from msgd.lab.tasks.faults import user_code
from msgd.lab.tasks.losses import cross_entropy
from msgd.lab.tasks.objective import Objective

TRIED = 4  #: number of examples, of which a coupled loss would use several
LONGEST_NAME = 40


def try_task(network: nn.Module, objective: Objective, inputs: Tensor, targets: Tensor) -> list[str]:
    """Compute the loss and the scores of a few examples, and check their form.

    Args:
        network: the network with its initial parameters.
        objective: the loss and the scores.
        inputs: the training inputs, of which the first are tried.
        targets: the training targets.

    Returns:
        The names of the scores, in order.

    Raises:
        UserError: the loss or a score is not one number per example, the loss has no gradient, or the loss of an
            example depends on another example.
    """
    if objective.reported_loss is cross_entropy:
        _check_classes(targets)
    few = targets[:TRIED]
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UserError("network: it has no parameters to train")
    network.eval()
    with user_code("network"):
        outputs = network(inputs[:TRIED])
    if objective.reported_loss is cross_entropy:
        _check_logits(outputs, targets)
    with user_code("loss"):
        losses = objective.loss(outputs, few)
    _check_losses(losses, len(few))
    if isinstance(outputs, Tensor):
        _check_uncoupled(losses, outputs)
    with torch.no_grad(), user_code("scores"):
        scores: Any = objective.scores(outputs, few)
    if not isinstance(scores, dict) or not scores:
        raise UserError(f'scores: return a dict such as {{"mae": …}}, not {type(scores).__name__}')
    for name, values in scores.items():
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= LONGEST_NAME:
            raise UserError(f"scores: {name!r} is no name: write a text of at most {LONGEST_NAME} characters")
        if not isinstance(values, Tensor) or values.ndim not in (1, 2) or len(values) != len(few):
            raise UserError(
                f"scores: {name!r} has {_shape(values)} for {len(few)} examples: return one value per example, "
                f"shape (batch,)"
            )
        if name.endswith("accuracy") and not ((values >= 0) & (values <= 1)).all():
            raise UserError(f"scores: {name!r} is shown in percent, so it must lie in [0, 1]; give it another name")
    return list(scores)


def _check_classes(targets: Tensor) -> None:
    if targets.dtype != torch.int64 or targets.ndim not in (1, 2) or targets.min() < 0:
        raise UserError(
            f"data: the built-in cross-entropy needs class numbers 0, 1, … as targets, int64 of shape (n,), not "
            f"{_form(targets)}{'' if targets.numel() and targets.min() >= 0 else ' with negative numbers'}; convert "
            "them, or define loss"
        )


def _check_logits(outputs: Any, targets: Tensor) -> None:
    """Check that the network has an output for each class."""
    if not isinstance(outputs, Tensor) or outputs.ndim != targets.ndim + 1 or not outputs.is_floating_point():
        raise UserError(
            f"network: the built-in cross-entropy needs an output per class, a tensor of shape (batch, classes), not "
            f"{_form(outputs)}; change the network, or define loss"
        )
    if (largest := int(targets.max())) >= outputs.shape[-1]:
        raise UserError(
            f"network: it has {outputs.shape[-1]} outputs, but there is a target {largest}: K classes need K outputs, "
            "and the targets 0 … K−1"
        )


def _form(value: Any) -> str:
    return (
        f"{str(value.dtype).removeprefix('torch.')} of {_shape(value)}" if isinstance(value, Tensor) else _shape(value)
    )


def _check_losses(losses: Any, number: int) -> None:
    if not isinstance(losses, Tensor) or losses.shape != (number,):
        raise UserError(
            f"loss: it has {_shape(losses)} for {number} examples: return one loss per example, shape (batch,), with "
            'reduction="none" and a mean over the other dimensions'
        )
    if not losses.is_floating_point() or not losses.requires_grad:
        raise UserError("loss: it has no gradient: compute it from the network's outputs with torch")


def _check_uncoupled(losses: Tensor, outputs: Tensor) -> None:
    """Check that the loss of the first example has no gradient with respect to the outputs of the others."""
    if not outputs.requires_grad or len(losses) < 2:
        return
    (gradient,) = torch.autograd.grad(losses[0], outputs, retain_graph=True, allow_unused=True)
    if gradient is not None and gradient.shape[:1] == losses.shape and gradient[1:].abs().sum() > 0:
        raise UserError(
            "loss: the loss of an example depends on the outputs of other examples, so a weight would reach several: "
            "compute each example's loss from its own outputs"
        )


def _shape(value: Any) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"type {type(value).__name__}"
