"""Number of examples in the coming batches of a loader that Accelerate has prepared."""

from __future__ import annotations

from typing import Any

from accelerate.data_loader import BatchSamplerShard, SkipBatchSampler

from msgd.integrations.batch_sizes import examples


def examples_in_loader(loader: Any, first: int, stop: int) -> int | None:
    """Return the number of examples in this process's batches of one pass over a prepared loader.

    Args:
        loader: a DataLoader that ``accelerator.prepare`` or ``skip_first_batches`` returned.
        first: position of the first of these batches in the pass.
        stop: position after the last batch; batches beyond the end of the pass do not count.

    Returns:
        The number, or None if it is not known in advance.
    """
    sampler = getattr(loader, "batch_sampler", None)
    while isinstance(sampler, SkipBatchSampler):  # of accelerator.skip_first_batches
        first, stop = first + sampler.skip_batches, stop + sampler.skip_batches
        sampler = sampler.batch_sampler
    if not isinstance(sampler, BatchSamplerShard):
        return examples(sampler, first, stop)
    if not (sampler.even_batches or sampler.drop_last):
        return None
    # All batches are full: Accelerate completes the last ones with examples from the start of the data set.
    full = sampler.batch_size // (sampler.num_processes if sampler.split_batches else 1)
    return max(0, min(stop, len(sampler)) - first) * int(full)
