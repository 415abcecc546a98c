"""Puts a run's network and data on the device where they are trained."""

from __future__ import annotations

import torch
from torch import nn

from msgd.lab.data.dataset import Data
from msgd.lab.data.device import on_device, pixel_statistics
from msgd.lab.networks.build import build_network
from msgd.lab.plan.run import Run
from msgd.lab.training.sgd import Examples, Trainer


def initial_network(run: Run, data: Data) -> nn.Module:
    """Build a run's network with its initial parameters.

    Args:
        run: the run, for its network and its seed.
        data: the data set, for the shapes of inputs and outputs.

    Returns:
        The network, on the CPU.
    """
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
    trainer = Trainer(initial_network(run, data).to(place), run.lr, run.momentum, run.weight_decay, run.micro_batch)
    statistics = pixel_statistics(data.train_inputs) if run.pixels == "standard" else None
    train_set, test_set = (
        on_device(inputs, targets, place, run.pixels, statistics=statistics)
        for inputs, targets in ((data.train_inputs, data.train_targets), (data.test_inputs, data.test_targets))
    )
    return trainer, train_set, test_set
