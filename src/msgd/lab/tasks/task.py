"""A task: data, network, loss and scores; and what a task of the user's own consists of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import nn

from msgd.lab.errors import UserError
from msgd.lab.tasks.losses import LossFunction, ScoreFunction


@dataclass(frozen=True, eq=False)
class Task:
    """What is learned: data, network, loss and scores.

    Whatever is left out is built in: the data set and the network that the recipe names, the cross-entropy, and the
    accuracy.

    Args:
        data: a function of ``data_dir`` and ``seed`` (it may leave out either), which returns ``(train inputs, train
            targets), (test inputs, test targets)``: tensors, NumPy arrays, or two map-style data sets. Or these pairs
            themselves, or the name of a built-in data set.
        network: a function without arguments, such as a class, that builds the network; torch's generator has the seed
            of the run's initial parameters. Or the name of a built-in network.
        loss: a function of outputs and targets that returns one loss per example, shape (batch,).
        scores: a function of outputs and targets that returns a dict, name → a value per example, shape (batch,). The
            first score decides. A score is the mean over all examples; of shape (batch, k), it is the sum of the
            absolute values of the k means, as in `calibration`.
        lower_is_better: the names of the scores of which a lower value is better; "loss" always is.

    Examples:
        >>> import torch
        >>> from torch.nn import functional as F
        >>> x = torch.linspace(-1, 1, 40)[:, None]
        >>> Task(
        ...     data=((x, x**2), (x, x**2)),
        ...     network=lambda: nn.Sequential(nn.Linear(1, 20), nn.ReLU(), nn.Linear(20, 1)),
        ...     loss=lambda outputs, targets: F.mse_loss(outputs, targets, reduction="none").mean(1),
        ... ).lower_is_better
        ()
    """

    data: Any = None
    network: Callable[[], nn.Module] | str | None = None
    loss: LossFunction | None = None
    scores: ScoreFunction | None = None
    lower_is_better: Sequence[str] = ()

    @property
    def is_empty(self) -> bool:
        """Whether everything is built in."""
        return all(part is None for part in (self.data, self.network, self.loss, self.scores))


def check_builds(network: Any) -> None:
    """Check that a network is built for each run.

    Args:
        network: `Task.network`.

    Raises:
        UserError: it is a network already, whose parameters all runs would share.
    """
    if isinstance(network, nn.Module):
        raise UserError(
            "network: it must be a function or a class that builds the network, so that every run has its own: "
            "write lambda: in front, or def network(): return …"
        )


def task_in(module: ModuleType, name: str) -> Task:
    """The task that a module defines.

    Args:
        module: the module; it may define ``data``, ``network``, ``loss``, ``scores`` and ``LOWER_IS_BETTER``.
        name: its name in the recipe.

    Returns:
        The task.

    Raises:
        UserError: the module defines none of them, or something else under one of these names.
    """
    parts = {part: getattr(module, part, None) for part in ("data", "network", "loss", "scores")}
    if all(value is None for value in parts.values()):
        raise UserError(f"task: {name} defines none of data, network, loss, scores; msgd init FOLDER writes an example")
    for part, value in parts.items():
        if value is not None and not callable(value):
            raise UserError(f"task: {part} in {name} must be a function, not {type(value).__name__}")
    check_builds(parts["network"])
    lower = getattr(module, "LOWER_IS_BETTER", ())
    if isinstance(lower, str) or not all(isinstance(each, str) for each in lower):
        raise UserError(f'task: LOWER_IS_BETTER in {name} must be a list of scores, such as ["mae"]')
    return Task(**parts, lower_is_better=tuple(lower))
