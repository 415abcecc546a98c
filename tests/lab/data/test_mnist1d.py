"""MNIST-1D is the published data set."""

import random

import numpy as np

from msgd.lab.data.dataset import Data
from msgd.lab.data.load import load_data


def test_mnist1d_is_the_packages_own():
    random.seed(1)
    np.random.seed(1)
    before = random.getstate()[1][:3], np.random.get_state()[1][:3].tolist()
    data = load_data("mnist1d", n=1000)
    assert (random.getstate()[1][:3], np.random.get_state()[1][:3].tolist()) == before
    from mnist1d.data import make_dataset

    made = make_dataset()
    np.testing.assert_array_equal(data.train_inputs, made["x"][:1000].astype(np.float32))
    np.testing.assert_array_equal(data.test_targets, made["y_test"])
    assert data.train_inputs.shape == (1000, 40)
    assert data.test_inputs.shape == (1000, 40)
    fewer = Data(data.train_inputs[:999], data.train_targets[:999], data.test_inputs, data.test_targets, 10)
    assert data.digest() == load_data("mnist1d", n=1000).digest()
    assert data.digest() != fewer.digest()
