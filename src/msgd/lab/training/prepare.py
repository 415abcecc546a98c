"""Puts a run's network and data on the device where they are trained."""

from __future__ import annotations

import torch
from torch import nn

from msgd.lab.data.dataset import Data
from msgd.lab.data.device import Pixels, on_device, pixel_statistics
from msgd.lab.networks.build import build_network, initialise
from msgd.lab.optimizers.ema import Average
from msgd.lab.plan.run import Run
from msgd.lab.training.sgd import Examples, Trainer, trainable


def initial_network(run: Run, data: Data) -> nn.Module:
    """Build a run's network with its initial parameters.

    Args:
        run: the run, for its network and its seed.
        data: the data set, for the shapes of inputs and outputs.

    Returns:
        The network, on the CPU.
    """
    task = run.own.task
    if task is not None and callable(task.network):
        return initialise(task.network, run.init_seed)
    return build_network(
        run.model,
        input_shape=data.input_shape,
        classes=data.classes,
        seed=run.init_seed,
        norm=run.norm,
        ghost=run.ghost,
    )


def prepare(run: Run, data: Data, place: torch.device) -> tuple[Trainer, Examples, Examples]:
    """Put a run's network and data on a device.

    Args:
        run: the run.
        data: the data set.
        place: the device.

    Returns:
        The trainer with the initial network, the training examples, and the test examples.
    """
    trainer = trainer_of(run, initial_network(run, data).to(place))
    return trainer, *put_on_device(run, data, place)


def put_on_device(run: Run, data: Data, place: torch.device) -> tuple[Examples, Examples]:
    """Put a run's data on a device.

    Args:
        run: the run.
        data: the data set.
        place: the device.

    Returns:
        The training examples and the test examples.
    """
    statistics = pixel_statistics(data.train_inputs) if run.pixels == "standard" else None
    return (
        on_device(data.train_inputs, data.train_targets, place, pixels_of(run), statistics=statistics),
        on_device(data.test_inputs, data.test_targets, place, pixels_of(run), statistics=statistics),
    )


def trainer_of(run: Run, model: nn.Module) -> Trainer:
    """The trainer of a run's network."""
    optimizer = run.optimizer.build(trainable(model), run.lr) if run.optimizer is not None else None
    average = Average(model, run.ema) if run.ema else None
    return Trainer(
        model, run.lr, run.momentum, run.weight_decay, run.micro_batch, run.objective.loss, optimizer, average
    )


def pixels_of(run: Run) -> Pixels | None:
    """How pixels are scaled; data of the user's own are left as they are."""
    return None if run.own.task is not None and run.own.task.data is not None else run.pixels
