"""What a user may give: numbers in range, and a model whose examples have gradients of their own."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

_TO_ONE = {True: "squeeze(1)", False: "flatten(1).mean(1)"}


def positive_integer(name: str, value: int) -> int:
    """Check a whole number ≥ 1.

    Args:
        name: of the argument, for the message.
        value: its value.

    Returns:
        The value as an int.

    Raises:
        TypeError: it is not an integer.
        ValueError: it is below 1.
    """
    if isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, not {_shown(value)}") from None
    if number < 1:
        raise ValueError(f"{name} must be at least 1, not {number}")
    return number


def real_number(name: str, value: float) -> float:
    """Check a real number; its range is for the caller to check.

    Args:
        name: of the argument, for the message.
        value: its value.

    Returns:
        The value as a float, which may be infinite or NaN.

    Raises:
        TypeError: the value is not a number. A bool is not one here.
    """
    try:
        if isinstance(value, bool | str):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, not {_shown(value)}") from None


def _shown(value: object) -> str:
    """Return a value for a message: its text, or its class for a tensor and where the text is long."""
    text = repr(value)
    short = len(text) <= 100 and "\n" not in text and not isinstance(value, Tensor)
    return text if short else f"a {type(value).__name__}"


def positive(name: str, value: float) -> float:
    """Check a positive real number.

    Args:
        name: of the argument, for the message.
        value: its value.

    Returns:
        The value as a float.

    Raises:
        TypeError: it is not a number.
        ValueError: it is not positive or not finite.
    """
    number = real_number(name, value)
    if not 0 < number < math.inf:
        raise ValueError(f"{name} must be positive and finite, not {value!r}")
    return number


def check_state(owner: str, state: object, mine: Mapping[str, object], same: Iterable[str]) -> None:
    """Refuse a state to resume from that is another one's.

    Args:
        owner: what resumes, for the message.
        state: what was given.
        mine: its state now.
        same: keys that have to agree.

    Raises:
        ValueError: it is no such state, or of another seed, law and so on.
    """
    if not isinstance(state, dict) or set(state) != set(mine):
        raise ValueError(f"not the state of a {owner}: it needs the keys {', '.join(mine)}")
    for key in same:
        if state[key] != mine[key]:
            raise ValueError(
                f"this state is of {key} {state[key]}, and this {owner} has {mine[key]}: "
                f"build the {owner} as it was when the state was saved"
            )


def check_losses(losses: Tensor) -> None:
    """Refuse what is not one loss for each example.

    Args:
        losses: what a loss function returned.

    Raises:
        TypeError: it is no floating-point tensor.
        ValueError: its shape is not (batch,).
    """
    if not isinstance(losses, Tensor) or not losses.is_floating_point():
        raise TypeError("losses must be a floating-point tensor of one loss for each example")
    if losses.ndim != 1:
        raise ValueError(
            f"losses have shape {tuple(losses.shape)}, and one loss for each example is needed, shape (batch,): "
            'use reduction="none" in the loss'
            + ("" if losses.ndim == 0 else ", then losses." + _TO_ONE[losses.ndim == 2 and losses.shape[1] == 1])
            + (", or msgd.per_sequence where they are of tokens" if losses.ndim == 2 and losses.shape[1] > 1 else "")
        )


def check_sample_weight(sample_weight: Tensor, losses: Tensor) -> None:
    """Refuse weights of the examples that do not belong to the losses.

    Args:
        sample_weight: what was given.
        losses: one for each example.

    Raises:
        TypeError: it is no floating-point tensor.
        ValueError: its shape is not that of the losses.
    """
    if not isinstance(sample_weight, Tensor) or not sample_weight.is_floating_point():
        raise TypeError("sample_weight must be a floating-point tensor of one weight for each example")
    if sample_weight.shape != losses.shape:
        raise ValueError(
            f"sample_weight has shape {tuple(sample_weight.shape)} for losses of shape {tuple(losses.shape)}: "
            "give one weight for each loss"
        )


def check_weights_add_up(sample_weight: Tensor, total: Any) -> None:
    """Refuse weights of the examples by which the loss would not be a mean; this waits for the device.

    Args:
        sample_weight: one weight for each example.
        total: what the loss is divided by; None if it is not known yet.

    Raises:
        ValueError: a weight is negative or not a number, or the total is not positive.
    """
    if not bool((sample_weight >= 0).all()):
        raise ValueError("sample_weight must be at least 0: leave out negative weights and those that are not numbers")
    if total is not None and not float(total) > 0:
        raise ValueError(
            f"the sum of sample_weight is {float(total):g}, and the loss is divided by it: leave out this batch, "
            "or pass weights that are not all 0"
        )


def normalises_over_batch(module: nn.Module) -> bool:
    """Say whether a module couples the examples of a batch.

    Args:
        module: a module.

    Returns:
        True for a BatchNorm in training mode or without running statistics.
    """
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None)


def check_uncoupled(model: nn.Module) -> None:
    """Refuse a model in which an example's gradient is not its own, or not the same twice.

    Args:
        model: whose modules are looked at.

    Raises:
        ValueError: a BatchNorm normalises over the batch, or a dropout is active.
    """
    for name, module in model.named_modules():
        where = f"{name or 'the model'} ({type(module).__name__})"
        if normalises_over_batch(module):
            raise ValueError(
                f"{where} normalises over the batch, so that no example has a gradient of its own: "
                "use model.eval() with running statistics, or GroupNorm or LayerNorm in its place"
            )
        if module.training and _dropout(module) > 0:
            raise ValueError(
                f"{where} drops at random, so that gradients differ from pass to pass: use model.eval() or dropout 0"
            )


def _dropout(module: nn.Module) -> float:
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p
    return module.dropout if isinstance(module, nn.MultiheadAttention | nn.RNNBase) else 0.0
