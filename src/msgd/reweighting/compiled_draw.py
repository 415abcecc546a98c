"""The next draw as an operator, so that a compiled function can contain it whole."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any
from weakref import WeakMethod

import torch
from torch import Tensor

_DRAWERS: dict[int, Any] = {}
_NUMBERS = count()


def register(draw: Callable[[int, int | None, int | None], Tensor]) -> int:
    """Give the draw of an object a number, which a compiled function can hold.

    Args:
        draw: bound method of ``(n, step, offset)`` that returns n weights on the CPU, in float32.

    Returns:
        The number.
    """
    number = next(_NUMBERS)
    _DRAWERS[number] = WeakMethod(draw, lambda _: _DRAWERS.pop(number, None))
    return number


# The outputs are an argument so that the compiler neither evaluates the draw ahead nor moves it before the network.
@torch.library.custom_op("msgd::next_weights", mutates_args=())
def next_weights(outputs: Tensor, number: int, n: int, step: int, offset: int) -> Tensor:
    """Return the next n weights of the object with this number; step and offset are -1 for None.

    Args:
        outputs: the outputs to be weighted.
        number: the number from `register`.
        n: number of weights.
        step: as for `Reweighter`.
        offset: as for `Reweighter`.

    Returns:
        Weights on the CPU, shape (n,).
    """
    del outputs
    weights: Tensor = _DRAWERS[number]()(n, None if step < 0 else step, None if offset < 0 else offset)
    return weights.clone()  # an operator may not return a view of what it keeps


@next_weights.register_fake
def _shape_of_weights(outputs: Tensor, number: int, n: int, step: int, offset: int) -> Tensor:
    del outputs, number, step, offset
    return torch.empty(n, dtype=torch.float32)
