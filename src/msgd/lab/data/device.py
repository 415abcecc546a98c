"""Data on the device that trains: pixels scaled, images in channels-last layout."""

from __future__ import annotations

import platform
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from msgd.lab.data.download import Array
from msgd.lab.errors import UserError

CHUNK = 1000  #: images whose pixels are counted at once
Pixels = Literal["unit", "raw", "standard"]
Statistics = tuple[Array, Array]


def pixel_statistics(train_inputs: Array) -> Statistics:
    """Mean and standard deviation of each channel over all training pixels, exact sums of counted values.

    Args:
        train_inputs: shape (n, channels, …), uint8; numbers of another type are no pixels, and stay what they are.

    Returns:
        Mean and standard deviation, each float32 of shape (channels,), of pixels 0 … 255; 0 and 1 for other numbers.
        A channel of one value only has standard deviation 1, so that it becomes 0.
    """
    channels = train_inputs.shape[1]
    if train_inputs.dtype != np.uint8:
        return np.zeros(channels, np.float32), np.ones(channels, np.float32)
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, len(train_inputs), CHUNK):
        for channel, total in enumerate(counts):
            total += np.bincount(train_inputs[start : start + CHUNK, channel].ravel(), minlength=256)
    share = counts / counts.sum(axis=1, keepdims=True)
    values = np.arange(256)
    mean = share @ values
    std = np.sqrt((share * (values - mean[:, None]) ** 2).sum(axis=1))
    return mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)


def on_device(
    inputs: Array,
    targets: Array,
    device: torch.device,
    pixels: Pixels = "unit",
    *,
    statistics: Statistics | None = None,
) -> tuple[Tensor, Tensor]:
    """Copy examples to the device: pixels as floats, images in channels-last layout.

    Args:
        inputs: as in `Data`; what is not uint8 is no pixels, and keeps its values.
        targets: as in `Data`.
        device: where to train.
        pixels: "unit" for [0, 1], "raw" for 0 … 255, "standard" for mean 0 and variance 1 in each channel.
        statistics: `pixel_statistics` of the training images, which "standard" needs, for test images too.

    Returns:
        The inputs in float32 and the targets.

    Raises:
        ValueError: `pixels` is none of the three, or "standard" comes without statistics.
    """
    if pixels not in get_args(Pixels):
        raise ValueError(f"pixels: {pixels!r} is none of {', '.join(get_args(Pixels))}")
    if pixels == "standard" and statistics is None:
        raise ValueError('pixels="standard" needs statistics=pixel_statistics(train_inputs)')
    x = torch.from_numpy(np.array(inputs)).to(device)  # copied: a worker's array is read-only
    if x.ndim == 4:
        # With one channel contiguous() would leave the strides as they are, and convolutions go by the strides.
        x = torch.empty_like(x, memory_format=torch.channels_last).copy_(x)
    if inputs.dtype == np.uint8:
        x = x.float()
        if pixels == "unit":
            x.div_(255)
        elif pixels == "standard" and statistics is not None:
            mean, std = (torch.from_numpy(each).to(device).view(-1, *[1] * (x.ndim - 2)) for each in statistics)
            x.sub_(mean).div_(std)
    return x, torch.from_numpy(np.array(targets)).to(device)


def check_device(device: str) -> None:
    """Check that this machine has the device; the command may have been given on another one.

    Args:
        device: "cpu" or "cuda".

    Raises:
        UserError: there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device cuda: torch sees no CUDA device on {platform.node()}; use --device cpu")


def find_device(name: str, *, local: bool = True) -> str:
    """Decide on a device.

    Args:
        name: "auto", "cpu" or "cuda", as the option has it.
        local: this process will compute; otherwise workers elsewhere, which alone need the device.

    Returns:
        "cpu" or "cuda".

    Raises:
        UserError: there is no such device.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device: {name!r} is none of auto, cpu, cuda")
    if name == "cpu" or (name == "cuda" and not local):
        return name
    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise UserError("--device cuda: torch sees no CUDA device; use --device cpu")
    return "cpu"
