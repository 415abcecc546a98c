"""Read the cropped digits of Street View House Numbers (SVHN) from two MATLAB files."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from msgd.lab.data.download import Array, Source, Splits, check_images, read_bytes, unreadable_message
from msgd.lab.data.matlab import read_arrays
from msgd.lab.errors import UserError

SOURCE = Source(
    data_set="svhn",
    url="http://ufldl.stanford.edu/housenumbers/",
    files={
        "test_32x32.mat": (64275384, "eb5a983be6a315427106f1b164d9cef3"),
        "train_32x32.mat": (182040794, "e26dedcc434d2e4c54c9b2d4a06d8373"),
    },
    contents="test_32x32.mat and train_32x32.mat of SVHN",
)

TRAIN = 25_000  #: number of training examples, the first of the official test set
TEST = 70_000  #: number of test examples, the first of the official training set


def svhn(data_dir: Path | None) -> Splits:
    """Read SVHN. As in the paper, the training images are official test images, and vice versa.

    Args:
        data_dir: folder with the two files; None to download them.

    Returns:
        Images of 3×32×32 and classes 0 … 9, of at most 25,000 training and 70,000 test examples.
    """
    return *_split("test_32x32.mat", TRAIN, data_dir), *_split("train_32x32.mat", TEST, data_dir)


def _split(name: str, number: int, data_dir: Path | None) -> tuple[Array, Array]:
    path = SOURCE.find(name, data_dir)
    content = read_bytes(path)
    try:
        arrays = read_arrays(content, ("X", "y"))
    except (ValueError, zlib.error) as error:
        raise UserError(unreadable_message(path, error)) from error
    x, y = (arrays.get(name, np.empty(0)) for name in ("X", "y"))
    if x.dtype != np.uint8 or x.ndim != 4 or y.ndim != 2 or y.shape[1] != 1:
        raise UserError(
            f"{path} is not SVHN's: it must hold X, height×width×channels×n, uint8, and y, n×1; fetch the official file"
        )
    images, labels = x.transpose(3, 2, 0, 1), y[:, 0]
    check_images(images, labels, shape=(3, 32, 32), allowed=range(1, 11), path=path)
    return np.ascontiguousarray(images[:number]), labels[:number].astype(
        np.int64
    ) % 10  # label 10 stands for the digit 0
