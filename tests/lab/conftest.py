"""Fixtures of the tests that train."""

import pytest
import torch

from msgd.lab.data import load


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(fashion_mnist):
    return load("fashion-mnist", n=40, data_dir=fashion_mnist)
