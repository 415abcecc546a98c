"""Networks of the experiments, in plain torch."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from msgd.errors import UserError
from msgd.noise import INIT, generator


def build(name: str, *, input_shape: tuple[int, ...], classes: int, seed: int) -> nn.Module:
    """Build a network with the initial parameters that belong to a seed.

    Args:
        name: a key of `MODELS`.
        input_shape: shape of one input.
        classes: number of outputs.
        seed: of the initialisation; methods that share it start from the same parameters.

    Returns:
        The network, on the CPU, channels-last where it has convolutions.

    Raises:
        UserError: the network cannot take such inputs.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(seed, 0, INIT).integers(2**63)))
        model = MODELS[name](input_shape, classes)
    for parameter in model.parameters():
        if parameter.ndim == 4:  # on a CPU a convolution in channels-last layout is up to three times faster
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model


def _mlp(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Two hidden layers of 100 ReLU units."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(input_shape), 100),
        nn.ReLU(inplace=True),
        nn.Linear(100, 100),
        nn.ReLU(inplace=True),
        nn.Linear(100, classes),
    )


def _conv_small(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """The paper's network for Fashion-MNIST: 11,330 parameters for 10 classes."""
    if input_shape != (1, 28, 28):
        raise UserError(f"model: conv-small takes images of shape (1, 28, 28), and the data has {input_shape}; use mlp")
    return nn.Sequential(
        nn.Conv2d(1, 10, 5),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        nn.Conv2d(10, 10, 5),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(160, 50),
        nn.ReLU(inplace=True),
        nn.Linear(50, classes),
    )


MODELS: dict[str, Callable[[tuple[int, ...], int], nn.Module]] = {"mlp": _mlp, "conv-small": _conv_small}
