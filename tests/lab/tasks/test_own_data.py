"""Data of the user's own, in every form that is allowed, and what is refused."""

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from msgd.lab.errors import UserError
from msgd.lab.tasks.own_data import own_data

X, Y = np.arange(12.0).reshape(6, 2), np.array([0, 1, 2, 0, 1, 2])


def load(source, **options):
    return own_data(source, **({"n": None, "data_dir": None, "seed": 0} | options))


@pytest.mark.parametrize(
    "value",
    [
        ((X, Y), (X[:2], Y[:2])),
        ([torch.tensor(X), torch.tensor(Y)], [torch.tensor(X[:2]), torch.tensor(Y[:2])]),
        (TensorDataset(torch.tensor(X), torch.tensor(Y)), TensorDataset(torch.tensor(X[:2]), torch.tensor(Y[:2]))),
        ((X.tolist(), Y.tolist()), (X[:2].tolist(), Y[:2].tolist())),
    ],
)
def test_forms(value):
    for source in (value, lambda: value):
        data = load(source)
        assert data.train_inputs.dtype == np.float32
        assert data.train_inputs.tolist() == X.tolist()
        assert data.train_targets.tolist() == Y.tolist()
        assert data.test_inputs.tolist() == X[:2].tolist()
        assert (data.n, data.classes) == (6, 3)


def test_the_function_gets_what_it_asks_for(tmp_path):
    def form(seed, data_dir):
        return (X + seed, np.full(6, len(str(data_dir)))), (X, Y)

    data = load(form, seed=3, data_dir=tmp_path)
    assert data.train_inputs[0].tolist() == [3.0, 4.0]
    assert data.train_targets[0] == len(str(tmp_path))
    assert load(lambda seed: ((X + seed, Y), (X, Y)), seed=1).train_inputs[0, 0] == 1
    assert load(lambda **options: ((X + options["seed"], Y), (X, Y)), seed=2).train_inputs[0, 0] == 2


def test_regression_bytes_and_half_precision():
    data = load(((X, X), (X, X)))
    assert data.classes == 2
    assert load(((X.astype(np.uint8), Y), (X.astype(np.uint8), Y))).train_inputs.dtype == np.uint8
    half = torch.tensor(X).bfloat16()
    assert load(((half, Y), (half, Y))).train_inputs.dtype == np.float32


def test_the_first_n():
    assert load(((X, Y), (X, Y)), n=4).n == 4
    with pytest.raises(UserError, match="the data have 6 training examples, not 7"):
        load(((X, Y), (X, Y)), n=7)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "data must return .train inputs, train targets., .test inputs, test targets., not NoneType"),
        (((X, Y), (X, Y), (X, Y)), "test targets., not 3 parts"),
        ((X, Y), "the train part is not such a pair but ndarray of shape .6, 2."),
        (((X, Y), (X[:, :1], Y)), r"training inputs have shape \(6, 2\).* and the test inputs \(6, 1\)"),
        (((X, Y), (X, Y.astype(float))), "only their numbers may differ"),
        (((X, Y[:3]), (X, Y)), "there are 6 train inputs and 3 train targets"),
        (((X[:0], Y[:0]), (X, Y)), "there are 0 train inputs"),
        ((([[1.0], [1.0, 2.0]], [0, 1]), (X, Y)), "the train inputs differ in shape; pad or cut them"),
        (((np.array(["a", "b"]), [0, 1]), (X, Y)), "the train inputs must be numbers"),
        (((X * np.nan, Y), (X, Y)), "the train inputs hold NaN or infinite values"),
        (((X, Y, X), (X, Y)), "the train part is not such a pair but 3 parts"),
    ],
)
def test_refused(value, message):
    with pytest.raises(UserError, match=message):
        load(value)
