"""What a loader will bring: a logical batch is drawn at its first micro-batch, when the others are still to come."""

from __future__ import annotations

from typing import Any

from torch.utils.data import BatchSampler

REMEDY = (
    "give a DataLoader made with batch_size= (and, for the whole of a short last batch, a dataset with a length), or "
    "logical_batch=, the number of examples of a step over all micro-batches and processes, with data that it divides"
)


def examples(batch_sampler: Any, first: int, stop: int) -> int | None:
    """Number of examples in some batches of one pass over the data.

    Args:
        batch_sampler: of a DataLoader.
        first: position of the first of these batches in the pass.
        stop: position after the last; batches beyond the end of the pass do not count.

    Returns:
        The number; None where it cannot be known before the batches are there: no batch sampler (an IterableDataset),
        one of the user's own, or no length.

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
