"""Logical batches that a framework announces: how many examples the coming batches of a loader have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler

from msgd.noise.law import Weights
from msgd.reweighting.gradient_check import GradientCheck
from msgd.reweighting.reweighter import Reweighter

REMEDY = (
    "use a DataLoader with batch_size= and a dataset with a length, or pass logical_batch=, the number of examples of "
    "a step over all micro-batches and processes, which must divide the number of examples"
)


def examples(batch_sampler: Any, first: int, stop: int) -> int | None:
    """Return the number of examples in consecutive batches of one pass over the data.

    Args:
        batch_sampler: the batch sampler of a DataLoader.
        first: position of the first of these batches in the pass.
        stop: position after the last batch; batches beyond the end of the pass do not count.

    Returns:
        The number, or None if it is not known in advance: the loader has no batch sampler (an IterableDataset) or a
        custom one, or its sampler has no length.

    Examples:
        >>> examples(BatchSampler(range(10), batch_size=4, drop_last=False), 1, 4)
        6
    """
    if type(batch_sampler) is not BatchSampler:  # a subclass may form batches of any size
        return None
    try:
        n = len(batch_sampler.sampler)  # type: ignore[arg-type]
    except TypeError:
        return None
    if batch_sampler.drop_last:
        n -= n % batch_sampler.batch_size
    return max(0, min(stop * batch_sampler.batch_size, n) - first * batch_sampler.batch_size)


class AnnouncedReweighter(Reweighter):
    """A `Reweighter` that asks its framework for the logical batch before it draws the weights of a micro-batch.

    A subclass defines `_before_micro_batch`, which begins a logical batch where one begins, and `_after_micro_batch`,
    which raises if the optimizer step and the end of the logical batch do not come together.
    """

    _asks = True  # False within a micro-batch, and in a check of the gradient

    def weights(self, n: int, *, step: int | None = None, **more: Any) -> Weights:
        """Return the weights of the next n losses, as `msgd.Reweighter.weights` does.

        Args:
            n: number of losses in this micro-batch, ≥ 1.
            step: use the draw of this step and do not advance.
            **more: as for `msgd.Reweighter.weights`.

        Returns:
            Weights for `weighted_mean`.
        """
        with self._micro_batch(n, asks=step is None and torch.is_grad_enabled()):
            return super().weights(n, step=step, **more)

    def check(self, *args: Any, **kwargs: Any) -> GradientCheck:
        """Compare the weighted gradient with that of each example alone, as `msgd.Reweighter.check` does.

        Args:
            *args: as for `msgd.Reweighter.check`.
            **kwargs: as for `msgd.Reweighter.check`.

        Returns:
            What was found.
        """
        self._asks = False
        try:
            return super().check(*args, **kwargs)
        finally:
            self._asks = True

    def __call__(self, losses: Tensor, *, step: int | None = None, **more: Any) -> Tensor:
        """Weight the losses of one micro-batch, as `msgd.Reweighter` does.

        Args:
            losses: one loss per example, shape (batch,).
            step: use the draw of this step and do not advance.
            **more: as for a call of `msgd.Reweighter`.

        Returns:
            The scalar to call ``.backward()`` on.
        """
        with self._micro_batch(len(losses) if losses.ndim else 0, asks=step is None and torch.is_grad_enabled()):
            return super().__call__(losses, step=step, **more)

    def _next_gate_weights(self, n: int, step: int | None, offset: int | None) -> Tensor:
        with self._micro_batch(n, asks=step is None):  # in a compiled function gradients are disabled here
            return super()._next_gate_weights(n, step, offset)

    def _look_for_step(self, values: Tensor, step: int | None) -> None:
        """Do not guess where optimizer steps are: the framework knows."""

    @contextmanager
    def _micro_batch(self, n: int, *, asks: bool) -> Iterator[None]:
        """Surround the draw for a micro-batch of n examples with the questions to the framework."""
        if not (asks and self._asks):
            yield
            return
        self._asks = False
        try:
            self._before_micro_batch()
            yield
            self._after_micro_batch(n)
        finally:
            self._asks = True

    def _before_micro_batch(self) -> None:
        raise NotImplementedError

    def _after_micro_batch(self, n: int) -> None:
        raise NotImplementedError
