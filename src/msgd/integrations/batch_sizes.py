"""Number of examples in the coming batches of a loader, which must be known when a logical batch is drawn."""

from __future__ import annotations

from typing import Any

from torch.utils.data import BatchSampler

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
