"""Fixtures that the command's and the lab's tests share."""

import atexit
import os
import shutil
import signal
import tempfile

import pytest
import torch

from helpers.commands import STARTED
from helpers.small import SMALL, write_fashion_mnist

# Dask, torchrun and torch.compile leave files in the system's temporary folder. Those of the tests go to this one, and
# are removed at the end. Pytest keeps its own folder, with the files of tests that fail, where it always is.
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="msgd-tests-")
tempfile.tempdir = None
atexit.register(shutil.rmtree, os.environ["TMPDIR"], ignore_errors=True)


@pytest.fixture(scope="session")
def fashion_mnist(tmp_path_factory):
    return write_fashion_mnist(tmp_path_factory.mktemp("fashion-mnist"))


@pytest.fixture(autouse=True)
def the_same_numbers():
    """What a test draws without a seed of its own does not depend on the tests before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """What a shell starts in the background ignores Ctrl-C, and so would the commands that are tested here."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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
