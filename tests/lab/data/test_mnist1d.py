"""MNIST-1D is the published data set."""

import os
import random
import subprocess
import sys

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


def test_the_backend_of_a_notebook_does_no_harm():
    """matplotlib, which the package imports, refuses the backend that a notebook leaves in the environment."""
    code = (
        "import os\nfrom msgd.lab.data.load import load_data\n"
        "print(load_data('mnist1d').digest(), os.environ['MPLBACKEND'])"
    )
    environment = os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    command = [sys.executable, "-c", code]  # a fresh interpreter, which has not imported matplotlib
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{load_data('mnist1d').digest()} module://matplotlib_inline.backend_inline\n"
