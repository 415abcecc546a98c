"""A data set in memory, and a file format that passes it to the workers of a cluster."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from msgd.lab.data.download import Array


@dataclass(frozen=True, eq=False)
class Data:
    """Training and test examples as NumPy arrays, which are cheap to pass between processes.

    Args:
        train_inputs: inputs, shape (n, …), float32, or uint8 for pixels 0 … 255, or int64 for the codes of characters.
        train_targets: class numbers, int64, shape (n,), or (n, T) for texts: a class for each of T characters.
        test_inputs: inputs of the test examples, in the same format.
        test_targets: class numbers of the test examples, in the same format.
        classes: number of classes.
    """

    train_inputs: Array
    train_targets: Array
    test_inputs: Array
    test_targets: Array
    classes: int

    @property
    def n(self) -> int:
        """Number of training examples."""
        return len(self.train_targets)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.train_inputs.shape[1:])

    def digest(self) -> str:
        """Compute the CRC-32 of all examples, which prevents that a run continues with other data.

        Returns:
            Eight hexadecimal digits.
        """
        crc = 0
        for array in (self.train_inputs, self.train_targets, self.test_inputs, self.test_targets):
            crc = zlib.crc32(np.ascontiguousarray(array).data, crc)
        return f"{crc:08x}"


def write_data(data: Data, path: Path) -> None:
    """Write a data set to an .npz file, which `read_data` reads in another process."""
    with path.open("wb") as file:
        np.savez(file, **{field.name: getattr(data, field.name) for field in fields(data)})


def read_data(path: Path) -> Data:
    """Read a data set from a file that `write_data` wrote."""
    with np.load(path) as arrays:
        values = {name: arrays[name] for name in arrays.files}
    return Data(**(values | {"classes": int(values["classes"])}))
