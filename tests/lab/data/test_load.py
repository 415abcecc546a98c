"""Data sets by name: all keep the same rules."""

import numpy as np
import pytest
import torch

from helpers.small import write_cifar10, write_cifar100, write_shakespeare, write_svhn
from msgd.lab.data.device import on_device
from msgd.lab.data.load import NAMES, READERS, TEXTS, load_data
from msgd.lab.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def folders(tmp_path_factory, fashion_mnist):
    writers = {
        "svhn": write_svhn,
        "cifar10": write_cifar10,
        "cifar100": write_cifar100,
        "shakespeare": write_shakespeare,
    }
    written = {name: write(tmp_path_factory.mktemp(name)) for name, write in writers.items()}
    return {"mnist1d": None, "fashion-mnist": fashion_mnist, "fashion-mnist-60k": fashion_mnist} | written


@pytest.mark.parametrize("name", NAMES)
def test_every_data_set_keeps_the_same_rules(folders, name):
    data = load_data(name, n=30, data_dir=folders[name])
    assert data.n == 30
    assert data.train_inputs.shape == (30, *data.input_shape)
    assert data.test_inputs.shape[1:] == data.input_shape
    for inputs, targets in ((data.train_inputs, data.train_targets), (data.test_inputs, data.test_targets)):
        assert inputs.dtype == (np.uint8 if name in READERS else np.int64 if name in TEXTS else np.float32)
        assert targets.dtype == np.int64
        assert targets.shape == (inputs.shape if name in TEXTS else (len(inputs),))
        assert 0 <= targets.min() <= targets.max() < data.classes
    x, _ = on_device(data.train_inputs, data.train_targets, CPU)
    assert (x.dtype, x.shape) == (torch.int64 if name in TEXTS else torch.float32, (30, *data.input_shape))


def test_a_missing_folder_and_too_large_n(fashion_mnist, tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_data("fashion-mnist", data_dir=tmp_path / "nowhere")
    with pytest.raises(UserError, match="has 60 training examples"):
        load_data("fashion-mnist", n=61, data_dir=fashion_mnist)
