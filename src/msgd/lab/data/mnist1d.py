"""MNIST-1D, generated from a seed."""

from __future__ import annotations

import random

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
