"""Data sets: MNIST-1D, generated offline, and Fashion-MNIST from its IDX files."""

from __future__ import annotations

import gzip
import math
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from msgd.errors import UserError

Array = NDArray[Any]

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
FASHION_MNIST_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
#: of the original archives, as their authors publish them
FASHION_MNIST_FILES = {
    "t10k-images-idx3-ubyte": "md5:bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "md5:bb300cfdad3c16e7a12a480ee83cd310",
    "train-images-idx3-ubyte": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "md5:25c81989df183df01b3e8a0aad5dffbe",
}


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


def on_device(inputs: Array, targets: Array, device: torch.device) -> tuple[Tensor, Tensor]:
    """Copy examples to the device: pixels scaled to [0, 1], images in channels-last layout.

    Args:
        inputs: as in `Data`.
        targets: as in `Data`.
        device: where to train.

    Returns:
        The inputs in float32 and the targets.
    """
    x = torch.from_numpy(np.array(inputs)).to(device)  # copied: a worker's array is read-only
    if inputs.dtype == np.uint8:
        x = x.float().div_(255)
    if x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    return x, torch.from_numpy(np.array(targets)).to(device)


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


def _fashion_mnist(data_dir: Path | None) -> Data:
    """As in the paper: trained on the official test images, tested on the official training images."""

    def split(part: str) -> tuple[Array, Array]:
        images = read_idx(_fashion_mnist_file(f"{part}-images-idx3-ubyte", data_dir), ndim=3)
        labels = read_idx(_fashion_mnist_file(f"{part}-labels-idx1-ubyte", data_dir), ndim=1)
        if len(images) != len(labels) or len(labels) == 0:
            raise UserError(f"Fashion-MNIST: {len(images)} images and {len(labels)} labels in the {part} files")
        if images.shape[1:] != (28, 28):
            raise UserError(
                f"Fashion-MNIST: images of {images.shape[1]}×{images.shape[2]} in the {part} file, not 28×28"
            )
        if labels.max() > 9:
            raise UserError(f"Fashion-MNIST: label {labels.max()} in the {part} file; labels are 0 … 9")
        return images[:, None], labels.astype(np.int64)

    return Data(*split("t10k"), *split("train"), 10)


def _fashion_mnist_file(name: str, data_dir: Path | None) -> Path:
    places = [DEBIAN_FASHION_MNIST] if data_dir is None else [data_dir]
    for place in places:
        for path in (place / f"{name}.gz", place / name):
            if path.is_file():
                return path
    if data_dir is not None:
        raise UserError(f"{data_dir} holds neither {name}.gz nor {name}: put the four IDX files of Fashion-MNIST there")
    import pooch

    try:
        return Path(
            pooch.retrieve(
                FASHION_MNIST_URL + f"{name}.gz",
                known_hash=FASHION_MNIST_FILES[name],
                fname=f"{name}.gz",
                path=pooch.os_cache("msgd") / "fashion-mnist",
            )
        )
    except Exception as error:  # whatever the network, the server or the checksum says
        raise UserError(
            f"{name}.gz could not be downloaded ({type(error).__name__}): install Debian's package "
            "dataset-fashion-mnist, or give --data-dir a folder with the four IDX files"
        ) from error


def read_idx(path: Path, *, ndim: int) -> Array:
    """Read an IDX file of bytes, gzipped or not.

    Args:
        path: the file.
        ndim: number of dimensions that it must have.

    Returns:
        A uint8 array.

    Raises:
        UserError: the file is no such IDX file, or is truncated.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4 + 4 * ndim)
            if len(head) < 4 + 4 * ndim or head[:4] != bytes([0, 0, 8, ndim]):
                raise UserError(f"{path} is not an IDX file of bytes in {ndim} dimensions: fetch it again")
            shape = tuple(int(size) for size in np.frombuffer(head[4:], dtype=">u4"))
            size = math.prod(shape)
            if size > 2**31:
                raise UserError(f"{path} claims {size} bytes: it is damaged, fetch it again")
            body = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}): fetch it again") from error
    if len(body) != size:
        raise UserError(f"{path} is truncated or too long: {size} bytes announced; fetch it again")
    return np.frombuffer(body, dtype=np.uint8).reshape(shape)


#: data sets that a seed draws anew
GENERATED: dict[str, Callable[[int], Data]] = {"mnist1d": _mnist1d}
#: data sets that are read from files in a folder, or downloaded
READ: dict[str, Callable[[Path | None], Data]] = {"fashion-mnist": _fashion_mnist}
NAMES = (*GENERATED, *READ)
