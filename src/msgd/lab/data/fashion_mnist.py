"""Read Fashion-MNIST from its four IDX files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from msgd.lab.data.download import Array, Source, Splits, check_images, read_bytes
from msgd.lab.errors import UserError

SOURCE = Source(
    data_set="fashion-mnist",
    url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    files={
        "t10k-images-idx3-ubyte.gz": (4422102, "bef4ecab320f06d8554ea6380940ec79"),
        "t10k-labels-idx1-ubyte.gz": (5148, "bb300cfdad3c16e7a12a480ee83cd310"),
        "train-images-idx3-ubyte.gz": (26421880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        "train-labels-idx1-ubyte.gz": (29515, "25c81989df183df01b3e8a0aad5dffbe"),
    },
    contents="the four IDX files of Fashion-MNIST",
    system_folder=Path("/usr/share/datasets/fashion-mnist"),
    package_hint="install Debian's package dataset-fashion-mnist, or ",
)


def fashion_mnist(data_dir: Path | None, *, official: bool = False) -> Splits:
    """Read Fashion-MNIST. As in the paper, the training set is the official test set, and vice versa.

    Args:
        data_dir: folder with the four files, gzipped or not; None for the Debian package or a download.
        official: if true, train on the 60,000 official training images and test on the 10,000 official test images.

    Returns:
        Images of 1×28×28 and classes 0 … 9.
    """
    train, test = ("train", "t10k") if official else ("t10k", "train")
    return *_split(train, data_dir), *_split(test, data_dir)


def _split(part: str, data_dir: Path | None) -> tuple[Array, Array]:
    images_path, labels_path = (
        SOURCE.find(f"{part}-{what}-ubyte.gz", data_dir, other_name=f"{part}-{what}-ubyte")
        for what in ("images-idx3", "labels-idx1")
    )
    images, labels = read_idx(images_path, ndim=3), read_idx(labels_path, ndim=1)
    check_images(images, labels, shape=(28, 28), allowed=range(10), path=images_path, labels_path=labels_path)
    return images[:, None], labels.astype(np.int64)


def read_idx(path: Path, *, ndim: int) -> Array:
    """Read an IDX file of bytes, gzipped or not.

    Args:
        path: the file.
        ndim: number of dimensions that the array must have.

    Returns:
        An array of dtype uint8.

    Raises:
        UserError: the file is not an IDX file of bytes with so many dimensions, or is truncated.
    """
    content = read_bytes(path)
    start = 4 + 4 * ndim
    if len(content) < start or content[:4] != bytes([0, 0, 8, ndim]):
        raise UserError(f"{path} is not an IDX file of bytes in {ndim} dimensions: fetch it again")
    shape = tuple(int(size) for size in np.frombuffer(content[4:start], dtype=">u4"))
    if len(content) - start != math.prod(shape):
        raise UserError(
            f"{path} is truncated or too long: its header announces {math.prod(shape)} bytes; fetch it again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)
