"""Warnings, once each, about calls that look as if the examples or the optimizer steps were not what they seem."""

from __future__ import annotations

import sys
import warnings
import weakref
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

#: A graph is followed over this many nodes: enough for the path from a loss to the last layer.
_DEPTH = 12
#: The steps of all optimizers since they are counted: a fused optimizer leaves the versions of its parameters alone.
_STEPS: list[int] = []
#: Frames between a call of the user's and a warning.
_PASSED = ("msgd.reweighting", "torch.nn.modules.module")


class Suspicions:
    """Looks at the calls of one `Reweighter`.

    Args:
        quiet: look at nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._looked = self._warned_of_step = quiet
        self._parameter: weakref.ref[Tensor] | None = None
        self._seen = -1, -1  # version of the parameter and number of steps, at the call before

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_parameter": None}  # which belongs to this process

    def first_call(self, values: Tensor, *, losses: bool) -> None:
        """Warn if the examples of the first call look like tokens.

        Args:
            values: losses of shape (batch,), or outputs whose first dimension is the batch.
            losses: whether they are losses.
        """
        if self._looked or torch.compiler.is_compiling():
            return
        self._looked = True
        shape = _flattened_from(values)
        if shape is not None:
            _warn(
                f"{len(values)} examples that were flattened from shape {tuple(shape)}: if these are tokens of "
                f"{shape[0]} sequences, call reweight.outputs before the view, or use msgd.per_sequence for the losses"
            )
        elif losses and 0 < (zeros := int((values.detach() == 0).sum())) < len(values):
            _warn(
                f"{zeros} of {len(values)} losses are exactly 0, as those of ignored tokens (ignore_index) or of "
                "classes with weight 0 are: if so, use reweight.outputs(y) with your mean loss, which leaves them out"
            )

    def call(self, values: Tensor, logical_batch: int | None, offset: int) -> None:
        """Warn if optimizer steps and logical batches do not seem to come together.

        Args:
            values: losses or outputs.
            logical_batch: the size of a logical batch; None: each call is one.
            offset: position of the first of the values in the logical batch.
        """
        if self._warned_of_step or torch.compiler.is_compiling():
            return
        if logical_batch is None:
            self._between(values)
            return
        if offset and self._seen[1] not in (-1, _steps()):
            self._warned_of_step = True
            _warn(
                f"an optimizer step came after {offset} of {logical_batch} examples of a logical batch: before a "
                "shorter one call reweight.begin(its size), and evaluate under torch.no_grad()"
            )
        self._seen = -1, _steps()

    def _between(self, values: Tensor) -> None:
        """Warn if the gradient of an earlier logical batch is still there, and no optimizer step came between."""
        parameter = _first_parameter(values)
        if parameter is None:
            return
        same = self._parameter is not None and self._parameter() is parameter
        seen = parameter._version, _steps()
        if same and seen == self._seen and _left(parameter.grad):
            self._warned_of_step = True
            _warn(
                "a logical batch begins, and the gradient of the one before has not been used by an optimizer step: "
                "with gradient accumulation pass logical_batch=, the number of examples of a step, or call "
                "reweight.watch(optimizer, learn=True)"
            )
        self._parameter, self._seen = weakref.ref(parameter), seen


def _warn(message: str) -> None:
    frame, depth = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_PASSED):
        frame, depth = frame.f_back, depth + 1
    warnings.warn(message, UserWarning, stacklevel=depth)  # the line of the user's call


def _first_parameter(values: Tensor) -> Tensor | None:
    """Return the first leaf in the graph of a tensor, found over the first edges only."""
    node: Any = values.grad_fn
    for _ in range(_DEPTH):
        if node is None:
            return None
        following = [edge for edge, _ in node.next_functions if edge is not None]
        for each in (node, *following):
            leaf: Tensor | None = getattr(each, "variable", None)
            if leaf is not None:
                return leaf
        node = following[0] if following else None
    return None


def _steps() -> int:
    """Return the number of optimizer steps since the first call, but for those that are compiled."""
    if not _STEPS:
        _STEPS.append(0)
        register_optimizer_step_post_hook(_count)
    return _STEPS[0]


def _count(*args: Any) -> None:
    del args
    if not torch.compiler.is_compiling():
        _STEPS[0] += 1


def _left(gradient: Tensor | None) -> bool:
    """Say whether a gradient waits for a step: one that is not finite waits for none, as a GradScaler skips it."""
    return gradient is not None and bool(gradient.isfinite().all())


def _flattened_from(values: Tensor) -> tuple[int, ...] | None:
    """Return the shape (batch, length, …) of a tensor whose view (batch·length, …) led to ``values``."""
    node: Any = values.grad_fn
    for _ in range(_DEPTH):
        if node is None:
            return None
        shape = getattr(node, "_saved_self_sym_sizes", None) if "View" in type(node).__name__ else None
        if shape and len(shape) > 1 and shape[0] != len(values) and shape[0] * shape[1] == len(values):
            return tuple(int(size) for size in shape)
        # The first edge of a linear layer is its bias.
        node = next((edge for edge, _ in node.next_functions if edge and not hasattr(edge, "variable")), None)
    return None
