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


class CompiledDraw:
    """The draw of an object, for compiled functions, which hold its number.

    Args:
        draw: bound method of ``(n, step, offset)`` that returns n weights on the CPU, in float32.
    """

    def __init__(self, draw: Callable[[int, int | None, int | None], Tensor]) -> None:
        number = next(_NUMBERS)
        _DRAWERS[number] = WeakMethod(draw, lambda _: _DRAWERS.pop(number, None))
        self._number = number
        self._last = torch.zeros(())  # what the call before returned

    def __call__(self, outputs: Tensor, n: int, step: int | None, offset: int | None) -> Tensor:
        """Return the next n weights.

        Args:
            outputs: the outputs to be weighted.
            n: number of weights.
            step: as for `Reweighter`.
            offset: as for `Reweighter`.

        Returns:
            Weights on the CPU, in float32.
        """
        known = -1 if step is None else step, -1 if offset is None else offset
        weights: Tensor
        weights, self._last = next_weights(outputs.detach(), self._last, self._number, n, *known)
        return weights


# The outputs are an argument so that the compiler neither evaluates the draw ahead nor moves it before the network, and
# each call has a result of the one before so that the compiler neither exchanges two draws nor takes them for one.
@torch.library.custom_op("msgd::next_weights", mutates_args=())
def next_weights(outputs: Tensor, last: Tensor, number: int, n: int, step: int, offset: int) -> tuple[Tensor, Tensor]:
    """Return the next n weights of the object with this number; step and offset are -1 for None.

    Args:
        outputs: the outputs to be weighted.
        last: second result of the call before.
        number: number of the object.
        n: number of weights.
        step: as for `Reweighter`.
        offset: as for `Reweighter`.

    Returns:
        Weights on the CPU, shape (n,), and a scalar tensor for the next call.

    Raises:
        ValueError: it is called in a backward pass, where activation checkpointing computes the outputs again.
    """
    del outputs
    if torch._C._current_graph_task_id() != -1:
        raise ValueError(
            "the outputs are weighted in a compiled function within activation checkpointing, which would draw twice: "
            "weight them outside of the checkpoint"
        )
    weights: Tensor = _DRAWERS[number]()(n, None if step < 0 else step, None if offset < 0 else offset)
    return weights.clone(), last.clone()  # an operator may not return its inputs, or a view of what it keeps


@next_weights.register_fake
def _shape_of_weights(
    outputs: Tensor, last: Tensor, number: int, n: int, step: int, offset: int
) -> tuple[Tensor, Tensor]:
    del outputs, number, step, offset
    return torch.empty(n, dtype=torch.float32), torch.empty_like(last)
