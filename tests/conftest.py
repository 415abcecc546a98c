"""Fixtures that the command's and the lab's tests share."""

import os
import signal

import pytest

from small import SMALL, STARTED, write_fashion_mnist


@pytest.fixture(scope="session")
def fashion_mnist(tmp_path_factory):
    return write_fashion_mnist(tmp_path_factory.mktemp("fashion-mnist"))


@pytest.fixture(autouse=True)
def nothing_is_left_running():
    """A command that a failed test leaves behind would run on, and fail the tests after it."""
    yield
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path
