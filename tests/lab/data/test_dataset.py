"""A data set in memory."""

import numpy as np

from msgd.lab.data.dataset import Data


def test_data_holds_its_shape():
    data = Data(np.zeros((3, 4), np.float32), np.zeros(3, np.int64), np.zeros((2, 4), np.float32), np.zeros(2), 10)
    assert (data.n, data.input_shape) == (3, (4,))
