"""Fixtures that the command's and the lab's tests share."""

import pytest

from small import write_fashion_mnist


@pytest.fixture(scope="session")
def fashion_mnist(tmp_path_factory):
    return write_fashion_mnist(tmp_path_factory.mktemp("fashion-mnist"))
