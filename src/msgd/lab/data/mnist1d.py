"""MNIST-1D, generated from a seed."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import numpy as np

from msgd.lab.data.dataset import Data


def mnist1d(seed: int) -> Data:
    """Generate MNIST-1D: 4000 training and 1000 test examples of 40 numbers, in 10 classes.

    Args:
        seed: 0 gives the published data set, any other seed another sample of the same distribution.

    Returns:
        The data set.

    References:
        Greydanus, Kobak 2024, "Scaling down deep learning with MNIST-1D", arXiv 2011.14439.
    """
    with _without_missing_backend():
        from mnist1d.data import get_dataset_args, make_dataset

    settings = get_dataset_args()
    settings.seed += seed

    # make_dataset seeds the global generators, so their states are restored afterwards.
    states = random.getstate(), np.random.get_state()
    try:
        arrays = make_dataset(settings)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
    return Data(
        arrays["x"].astype(np.float32),
        arrays["y"].astype(np.int64),
        arrays["x_test"].astype(np.float32),
        arrays["y_test"].astype(np.int64),
        classes=10,
    )


@contextmanager
def _without_missing_backend() -> Iterator[None]:
    """Leave out MPLBACKEND while matplotlib is imported, if it names a module of a notebook that is not installed.

    The package mnist1d imports matplotlib, which then refuses to start, and a command started from a notebook inherits
    the variable.

    Yields:
        Nothing.
    """
    backend = os.environ.get("MPLBACKEND", "")
    if not backend.startswith("module://") or _exists(backend.removeprefix("module://")):
        yield
        return
    del os.environ["MPLBACKEND"]
    try:
        yield
    finally:
        os.environ["MPLBACKEND"] = backend


def _exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
