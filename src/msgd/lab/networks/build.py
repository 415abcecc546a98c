"""Build the networks of the experiments by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from msgd.lab.errors import UserError
from msgd.lab.networks.gpt import gpt
from msgd.lab.networks.perceptron import perceptron
from msgd.lab.networks.resnet import NORMS, resnet18
from msgd.lab.networks.vgg import vgg11
from msgd.noise import INIT, generator


def build_network(
    name: str,
    *,
    input_shape: tuple[int, ...],
    classes: int,
    seed: int,
    norm: str | None = None,
    ghost: int | None = None,
) -> nn.Module:
    """Build a network, with initial parameters that depend only on the seed.

    Args:
        name: a key of `MODELS`.
        input_shape: shape of one input.
        classes: number of outputs.
        seed: seed of the initialisation; methods that share it start from the same parameters.
        norm: normalisation, a key of `resnet.NORMS`; None for the network's default, which is "batch" for resnet18.
        ghost: group size of the norm "batch", see `GhostBatchNorm2d`; None to normalise over the whole batch.

    Returns:
        The network, on the CPU; convolutions have the channels-last layout.

    Raises:
        UserError: the network does not accept inputs of this shape, or does not offer this normalisation.
    """
    check_norm(name, norm, ghost)
    options = {"norm": norm or "batch", "ghost": ghost} if name in NORMALISED else {}
    return initialise(lambda: MODELS[name](input_shape, classes, **options), seed)


def initialise(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a network with torch's generator at the seed of the initialisation; the generator is restored afterwards.

    Args:
        build: builds the network.
        seed: as in `build_network`.

    Returns:
        The network, on the CPU; convolutions have the channels-last layout.

    Raises:
        UserError: the function returned something else.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(seed, 0, INIT).integers(2**63)))
        model = build()
    if not isinstance(model, nn.Module):
        raise UserError(f"network: the function must return a torch.nn.Module, not {type(model).__name__}")
    for parameter in model.parameters():
        if parameter.ndim == 4:  # on a CPU, channels-last convolutions are up to three times faster
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model


def check_norm(name: str, norm: str | None, ghost: int | None) -> None:
    """Check that a network offers a normalisation.

    Args:
        name: a key of `MODELS`.
        norm: as in `build_network`.
        ghost: as in `build_network`.

    Raises:
        UserError: the network has no normalisation, or not this one.
    """
    if name not in NORMALISED:
        for key, value in (("norm", norm), ("ghost", ghost)):
            if value is not None:
                raise UserError(f"{key}: {name} has no normalisation; leave {key} out, or use {NORMALISED[0]}")
        return
    if norm is not None and norm not in NORMS:
        raise UserError(f"norm: {norm!r} is not known; there are {', '.join(NORMS)}")
    if ghost is not None and norm not in {None, "batch"}:
        raise UserError(f'ghost: the norm "{norm}" has no groups of examples; leave ghost out, or set norm = "batch"')
    if ghost is not None and ghost < 2:
        raise UserError(f"ghost: a group has at least 2 examples, not {ghost}")


def _conv_small(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """The paper's network for Fashion-MNIST: 11,330 parameters for 10 classes."""
    if input_shape != (1, 28, 28):
        raise UserError(f"model: conv-small takes images of shape (1, 28, 28), not {input_shape}; use mlp")
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


def _vgg11(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    _check_small_images("vgg11", input_shape)
    return vgg11(input_shape, classes)


def _resnet18(input_shape: tuple[int, ...], classes: int, *, norm: str, ghost: int | None) -> nn.Module:
    _check_small_images("resnet18", input_shape)
    return resnet18(input_shape, classes, norm=norm, ghost=ghost)


def _check_small_images(name: str, input_shape: tuple[int, ...]) -> None:
    if input_shape not in {(1, 32, 32), (3, 32, 32)}:
        raise UserError(f"model: {name} takes images of shape (1, 32, 32) or (3, 32, 32), not {input_shape}; use mlp")


MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": perceptron,
    "conv-small": _conv_small,
    "vgg11": _vgg11,
    "resnet18": _resnet18,
    "gpt": gpt,
}

NORMALISED = ("resnet18",)  #: networks that accept norm and ghost
