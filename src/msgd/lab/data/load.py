"""Data sets by name, and how their examples get to the device."""

from __future__ import annotations

import platform
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from msgd.errors import UserError
from msgd.lab.data_sets.archives import Array, Splits
from msgd.lab.data_sets.cifar import cifar10, cifar100
from msgd.lab.data_sets.fashion_mnist import fashion_mnist
from msgd.lab.data_sets.svhn import svhn

CHUNK = 1000  #: images whose pixels are counted at once

Pixels = Literal["unit", "raw", "standard"]
Statistics = tuple[Array, Array]


@dataclass(frozen=True, eq=False)
class Data:
    """Training and test examples as NumPy arrays, which travel cheaply between processes.

    Args:
        train_inputs: shape (n, …), float32, or uint8 for pixels 0 … 255.
        train_targets: int64 class numbers, shape (n,).
        test_inputs: as the training inputs.
        test_targets: as the training targets.
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
        """A checksum of all the examples, so that a run is not continued on other data.

        Returns:
            Eight hexadecimal digits.
        """
        crc = 0
        for array in (self.train_inputs, self.train_targets, self.test_inputs, self.test_targets):
            crc = zlib.crc32(np.ascontiguousarray(array).data, crc)
        return f"{crc:08x}"


def pixel_statistics(train_inputs: Array) -> Statistics:
    """Mean and standard deviation of each channel over all training pixels, exact sums of counted values.

    Args:
        train_inputs: shape (n, channels, …), uint8; numbers of another type are no pixels, and stay what they are.

    Returns:
        Mean and standard deviation, each float32 of shape (channels,), of pixels 0 … 255; 0 and 1 for other numbers.
        A channel of one value only has standard deviation 1, so that it becomes 0.
    """
    channels = train_inputs.shape[1]
    if train_inputs.dtype != np.uint8:
        return np.zeros(channels, np.float32), np.ones(channels, np.float32)
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, len(train_inputs), CHUNK):
        for channel, total in enumerate(counts):
            total += np.bincount(train_inputs[start : start + CHUNK, channel].ravel(), minlength=256)
    share = counts / counts.sum(axis=1, keepdims=True)
    values = np.arange(256)
    mean = share @ values
    std = np.sqrt((share * (values - mean[:, None]) ** 2).sum(axis=1))
    return mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)


def on_device(
    inputs: Array,
    targets: Array,
    device: torch.device,
    pixels: Pixels = "unit",
    *,
    statistics: Statistics | None = None,
) -> tuple[Tensor, Tensor]:
    """Copy examples to the device: pixels as floats, images in channels-last layout.

    Args:
        inputs: as in `Data`; what is not uint8 is no pixels, and keeps its values.
        targets: as in `Data`.
        device: where to train.
        pixels: "unit" for [0, 1], "raw" for 0 … 255, "standard" for mean 0 and variance 1 in each channel.
        statistics: `pixel_statistics` of the training images, which "standard" needs, for test images too.

    Returns:
        The inputs in float32 and the targets.

    Raises:
        ValueError: `pixels` is none of the three, or "standard" comes without statistics.
    """
    if pixels not in get_args(Pixels):
        raise ValueError(f"pixels: {pixels!r} is none of {', '.join(get_args(Pixels))}")
    if pixels == "standard" and statistics is None:
        raise ValueError('pixels="standard" needs statistics=pixel_statistics(train_inputs)')
    x = torch.from_numpy(np.array(inputs)).to(device)  # copied: a worker's array is read-only
    if x.ndim == 4:
        # With one channel contiguous() would leave the strides as they are, and convolutions go by the strides.
        x = torch.empty_like(x, memory_format=torch.channels_last).copy_(x)
    if inputs.dtype == np.uint8:
        x = x.float()
        if pixels == "unit":
            x.div_(255)
        elif pixels == "standard" and statistics is not None:
            mean, std = (torch.from_numpy(each).to(device).view(-1, *[1] * (x.ndim - 2)) for each in statistics)
            x.sub_(mean).div_(std)
    return x, torch.from_numpy(np.array(targets)).to(device)


def check_device(device: str) -> None:
    """Check that this machine has the device; the command may have been given on another one.

    Args:
        device: "cpu" or "cuda".

    Raises:
        UserError: there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device cuda: torch sees no CUDA device on {platform.node()}; use --device cpu")


def load(name: str, *, n: int | None = None, data_dir: Path | None = None, seed: int = 0) -> Data:
    """Load a data set by name.

    Args:
        name: one of `NAMES`.
        n: use the first n training examples; None for all.
        data_dir: folder that holds the data set's files; None for the usual places.
        seed: draws the data, where they are generated; 0 is the data set as its authors made it.

    Returns:
        The data set.

    Raises:
        UserError: a file is missing or damaged, or there are fewer than n examples.
    """
    if data_dir is not None and not data_dir.is_dir():
        raise UserError(f"data folder {data_dir} does not exist: give --data-dir the folder with the files of {name}")
    data = GENERATED[name](seed) if name in GENERATED else READ[name](data_dir)
    if n is not None and n > data.n:
        raise UserError(f"n: {name} has {data.n} training examples, and the recipe asks for {n}")
    return Data(data.train_inputs[:n], data.train_targets[:n], data.test_inputs, data.test_targets, data.classes)


def write_data(data: Data, path: Path) -> None:
    """Write a data set to an .npz file, for processes that have no other way to get it."""
    with path.open("wb") as file:
        np.savez(file, **{field.name: getattr(data, field.name) for field in fields(data)})


def read_data(path: Path) -> Data:
    """Read what `write_data` wrote."""
    with np.load(path) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    return Data(**(found | {"classes": int(found["classes"])}))


def _mnist1d(seed: int) -> Data:
    from mnist1d.data import get_dataset_args, make_dataset

    how = get_dataset_args()
    how.seed += seed

    # make_dataset seeds the global generators; whoever calls us keeps theirs.
    states = random.getstate(), np.random.get_state()
    try:
        made = make_dataset(how)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
    return Data(
        made["x"].astype(np.float32),
        made["y"].astype(np.int64),
        made["x_test"].astype(np.float32),
        made["y_test"].astype(np.int64),
        classes=10,
    )


def _images(splits: Callable[[Path | None], Splits], classes: int) -> Callable[[Path | None], Data]:
    return lambda data_dir: Data(*splits(data_dir), classes)


#: data sets that a seed draws anew
GENERATED: dict[str, Callable[[int], Data]] = {"mnist1d": _mnist1d}
#: data sets that are read from files in a folder, or downloaded
READ: dict[str, Callable[[Path | None], Data]] = {
    "fashion-mnist": _images(fashion_mnist, 10),
    "fashion-mnist-60k": _images(lambda data_dir: fashion_mnist(data_dir, official=True), 10),
    "svhn": _images(svhn, 10),
    "cifar10": _images(cifar10, 10),
    "cifar100": _images(cifar100, 100),
}
NAMES = (*GENERATED, *READ)
