"""Data of the user's own: tensors, NumPy arrays or map-style data sets, as the laboratory's `Data`."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msgd.lab.data.dataset import Data
from msgd.lab.data.download import Array
from msgd.lab.data.load import load_data
from msgd.lab.errors import UserError
from msgd.lab.tasks.task import Task

_FORM = "data must return (train inputs, train targets), (test inputs, test targets)"


def task_data(task: Task | None, name: str, *, n: int | None, data_dir: Path | None, seed: int) -> Data:
    """Load the data of a task.

    Args:
        task: the user's own task; None for a built-in one.
        name: name of the built-in data set, if the task has no data of its own.
        n: see `load_data`.
        data_dir: see `load_data`.
        seed: see `load_data`.

    Returns:
        The data set.
    """
    if task is not None and task.data is not None:
        return own_data(task.data, n=n, data_dir=data_dir, seed=seed)
    return load_data(name, n=n, data_dir=data_dir, seed=seed)


def own_data(source: Any, *, n: int | None, data_dir: Path | None, seed: int) -> Data:
    """Call the user's function for the data, and check what it returns.

    Args:
        source: `Task.data`.
        n: number of training examples to use, from the first; None for all.
        data_dir: value of the option ``--data-dir``.
        seed: seed of the data.

    Returns:
        The data set. Numbers in float64 become float32, the dtype of networks.

    Raises:
        UserError: the data have another form, or fewer than n training examples.
    """
    value = source
    if callable(source):
        values = {"data_dir": data_dir, "seed": seed}
        known = inspect.signature(source).parameters
        takes_all = any(each.kind is each.VAR_KEYWORD for each in known.values())
        value = source(**{key: value for key, value in values.items() if takes_all or key in known})
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise UserError(f"{_FORM}, not {_name(value)}")
    train, test = value
    train_inputs, train_targets = _pair(train, "train")
    test_inputs, test_targets = _pair(test, "test")
    if n is not None and n > len(train_targets):
        raise UserError(f"n: the data have {len(train_targets)} training examples, not {n}; set n to at most that")
    for part, first, second in (("inputs", train_inputs, test_inputs), ("targets", train_targets, test_targets)):
        if first.shape[1:] != second.shape[1:] or first.dtype != second.dtype:
            raise UserError(
                f"data: the training {part} have shape {first.shape} and dtype {first.dtype}, "
                f"and the test {part} {second.shape} and {second.dtype}: only their numbers may differ"
            )
    return Data(train_inputs[:n], train_targets[:n], test_inputs, test_targets, _outputs(train_targets))


def _pair(part: Any, name: str) -> tuple[Array, Array]:
    is_array = isinstance(part, tuple | list | np.ndarray | torch.Tensor)
    if hasattr(part, "__getitem__") and hasattr(part, "__len__") and not is_array:
        try:
            part = list(zip(*(part[number] for number in range(len(part))), strict=True))  # a map-style data set
        except TypeError:
            raise UserError(f"data: an example of the {name} data set must be a pair (input, target)") from None
    if not isinstance(part, tuple | list) or len(part) != 2:
        raise UserError(f"{_FORM}; the {name} part is not such a pair but {_name(part)}")
    inputs, targets = _array(part[0], f"{name} inputs"), _array(part[1], f"{name} targets")
    if len(inputs) != len(targets) or len(inputs) == 0:
        raise UserError(f"data: there are {len(inputs)} {name} inputs and {len(targets)} {name} targets")
    return inputs, targets


def _array(values: Any, name: str) -> Array:
    if isinstance(values, list | tuple):
        values = [np.asarray(each) for each in values]
        if len({each.shape for each in values}) > 1:
            raise UserError(f"data: the {name} differ in shape; pad or cut them to one shape")
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    array = np.ascontiguousarray(np.asarray(values))
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    if array.ndim == 0 or array.dtype.kind not in "fiub":
        raise UserError(
            f"data: the {name} must be numbers with examples along the first dimension, not {_name(values)}"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UserError(f"data: the {name} hold NaN or infinite values: remove or replace them")
    return array


def _outputs(targets: Array) -> int:
    """The number of outputs that a built-in network gets: classes, or the length of a target."""
    if targets.dtype.kind == "f":
        return int(np.prod(targets.shape[1:]))
    return max(2, int(targets.max()) + 1)


def _name(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if isinstance(value, tuple | list):
        return f"{len(value)} parts"
    return type(value).__name__ + (f" of shape {tuple(shape)}" if shape is not None else "")
