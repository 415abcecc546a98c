"""Fixtures of the tests that train."""

import shutil

import pytest
import torch

from helpers.measuring import RECIPE, trained
from msgd.lab.data.load import load_data


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(fashion_mnist):
    return load_data("fashion-mnist", n=40, data_dir=fashion_mnist)


@pytest.fixture(scope="session")
def experiment(tmp_path_factory, fashion_mnist):
    """A finished experiment of three methods and two seeds, with snapshots; tests copy it before they write to it."""
    return trained(tmp_path_factory.mktemp("experiment"), RECIPE, fashion_mnist)


@pytest.fixture
def copy(experiment, tmp_path):
    return shutil.copytree(experiment, tmp_path / "out")
