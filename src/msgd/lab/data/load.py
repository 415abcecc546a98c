"""Load a data set by its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgd.lab.data.cifar import cifar10, cifar100
from msgd.lab.data.dataset import Data
from msgd.lab.data.download import Splits
from msgd.lab.data.fashion_mnist import fashion_mnist
from msgd.lab.data.mnist1d import mnist1d
from msgd.lab.data.shakespeare import shakespeare
from msgd.lab.data.svhn import svhn
from msgd.lab.errors import UserError


def load_data(name: str, *, n: int | None = None, data_dir: Path | None = None, seed: int = 0) -> Data:
    """Load a data set by name.

    Args:
        name: one of `NAMES`.
        n: number of training examples to use, from the first; None for all.
        data_dir: folder that holds the data set's files; None to use an installed package or a download.
        seed: seed of a generated data set; 0 gives the data set that its authors published.

    Returns:
        The data set.

    Raises:
        UserError: a file is missing or damaged, or the data set has fewer than n training examples.
    """
    if data_dir is not None and not data_dir.is_dir():
        raise UserError(f"the folder {data_dir} does not exist: give --data-dir the folder with the files of {name}")
    data = GENERATORS[name](seed) if name in GENERATORS else (READERS | TEXTS)[name](data_dir)
    if n is not None and n > data.n:
        raise UserError(
            f"n: {name} has {data.n} training examples, but the recipe asks for {n}; set n to at most {data.n}"
        )
    return Data(data.train_inputs[:n], data.train_targets[:n], data.test_inputs, data.test_targets, data.classes)


def _images(splits: Callable[[Path | None], Splits], classes: int) -> Callable[[Path | None], Data]:
    return lambda data_dir: Data(*splits(data_dir), classes)


#: data sets that are generated from a seed
GENERATORS: dict[str, Callable[[int], Data]] = {"mnist1d": mnist1d}

#: data sets that are read from files, in a folder or downloaded; all of them are images
READERS: dict[str, Callable[[Path | None], Data]] = {
    "fashion-mnist": _images(fashion_mnist, 10),
    "fashion-mnist-60k": _images(lambda data_dir: fashion_mnist(data_dir, official=True), 10),
    "svhn": _images(svhn, 10),
    "cifar10": _images(cifar10, 10),
    "cifar100": _images(cifar100, 100),
}

#: data sets whose examples are sequences of characters, read from a file, in a folder or downloaded
TEXTS: dict[str, Callable[[Path | None], Data]] = {"shakespeare": shakespeare}

NAMES = (*GENERATORS, *READERS, *TEXTS)
