"""Fixtures that the command's and the lab's tests share."""

import pytest

from small import SMALL, write_fashion_mnist


@pytest.fixture(scope="session")
def fashion_mnist(tmp_path_factory):
    return write_fashion_mnist(tmp_path_factory.mktemp("fashion-mnist"))


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path
