"""n examples in chunks, in a fixed order: tensors in memory, or the batches of a loader."""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate

import torch
from torch import Tensor

from msgd._checks import positive_integer


class InMemory:
    """Examples held as two tensors.

    Args:
        inputs: inputs of all n examples, along the first dimension.
        targets: targets of all n examples, along the first dimension.
        chunk: number of examples in a chunk; the last chunk may be shorter.

    Raises:
        TypeError: ``chunk`` is not an integer.
        ValueError: there are no examples, inputs and targets differ in number, or ``chunk`` < 1.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, chunk: int) -> None:
        positive_integer("chunk", chunk)
        _check_pair(inputs, targets)
        self.inputs, self.targets, self.n = inputs, targets, len(targets)
        self.parts = _parts([self.n], chunk)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        part = self.parts[index]
        return self.inputs[part], self.targets[part]

    def at_most(self, chunk: int) -> InMemory:
        """Return the same examples in chunks of this size."""
        return InMemory(self.inputs, self.targets, chunk)


class Batches:
    """Examples from a loader; each chunk lies within one batch.

    Args:
        loader: the loader of the batches.
        chunk: largest number of examples in a chunk; None: one chunk per batch.

    Raises:
        TypeError: ``chunk`` is not an integer.
        ValueError: ``chunk`` < 1.
    """

    def __init__(self, loader: SteadyLoader, chunk: int | None = None) -> None:
        self._loader, self.n = loader, sum(loader.sizes)
        self.parts = _parts(loader.sizes, max(loader.sizes) if chunk is None else positive_integer("chunk", chunk))
        self._starts = list(accumulate(loader.sizes, initial=0))

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        part = self.parts[index]
        number = bisect_right(self._starts, part.start) - 1
        x, y = self._loader.fetch(number)
        inside = slice(part.start - self._starts[number], part.stop - self._starts[number])
        return x[inside], y[inside]

    def at_most(self, chunk: int) -> Batches:
        """Return the same examples in chunks of at most this size."""
        return Batches(self._loader, chunk)


class SteadyLoader:
    """Batches that are checked to be the same in every pass; one batch is held at a time.

    The constructor iterates over the batches once, and records their number and a CRC-32 of the shapes, dtypes and
    bytes of each. It then fetches the first batch again and compares it. Every later pass compares each batch that it
    fetches, and the number of batches when it reaches the last one.

    Args:
        batches: pairs (inputs, targets) of tensors, iterated over once per pass, such as a DataLoader without shuffling
            and random augmentation, or a list.

    Raises:
        TypeError: ``batches`` is an iterator, which ends after one pass; or a batch is not a pair of tensors.
        ValueError: there are no batches, one is empty, inputs and targets differ in number, or the first batch changes.
    """

    def __init__(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        if isinstance(batches, Iterator):
            raise TypeError("an iterator ends after one pass: pass the DataLoader itself, or a list of batches")
        self._batches = batches
        self._marks: list[int] = []
        self.sizes: list[int] = []
        for batch in batches:
            x, y = _pair(batch)
            self._marks.append(_mark(x, y))
            self.sizes.append(len(y))
        if not self.sizes:
            raise ValueError("there are no batches: pass at least one")
        self._iterator = iter(batches)
        self._at = -1
        self._current = self.fetch(0)

    def fetch(self, number: int) -> tuple[Tensor, Tensor]:
        """Return a batch: the current one, or a later one of this pass, or one of a new pass.

        Args:
            number: index of the batch.

        Returns:
            Inputs and targets.

        Raises:
            ValueError: a batch up to this one differs from that of the first pass.
        """
        if number < self._at:
            self._iterator, self._at = iter(self._batches), -1
        while self._at < number:
            batch = next(self._iterator, None)
            if batch is None or _mark(*_pair(batch)) != self._marks[self._at + 1]:
                raise self._changed(f"batch {self._at + 1} {'is missing' if batch is None else 'differs'}")
            self._current = batch
            self._at += 1
            if self._at == len(self._marks) - 1 and next(self._iterator, None) is not None:
                raise self._changed("there are more batches")
        return self._current

    def _changed(self, difference: str) -> ValueError:
        self._iterator, self._at = iter(self._batches), -1
        return ValueError(
            f"the batches are not those of the first pass ({difference}): "
            "use a DataLoader with shuffle=False and without random augmentation"
        )


def _parts(sizes: list[int], chunk: int) -> list[slice]:
    parts, start = [], 0
    for size in sizes:
        parts += [slice(at, min(at + chunk, start + size)) for at in range(start, start + size, chunk)]
        start += size
    return parts


def _pair(batch: object) -> tuple[Tensor, Tensor]:
    match batch:
        case (Tensor() as x, Tensor() as y):
            _check_pair(x, y)
            return x, y
    raise TypeError("each batch must be a pair (inputs, targets) of tensors")


def _check_pair(inputs: Tensor, targets: Tensor) -> None:
    if len(inputs) != len(targets) or len(targets) == 0:
        raise ValueError(
            f"{len(inputs)} inputs for {len(targets)} targets: pass one target per input, and at least one"
        )


def _mark(x: Tensor, y: Tensor) -> int:
    mark = 0
    for tensor in (x, y):
        mark = zlib.crc32(f"{tensor.dtype} {tuple(tensor.shape)}".encode(), mark)
        mark = zlib.crc32(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data, mark)
    return mark
