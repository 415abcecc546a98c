"""Copy data to a device, with scaled pixels and images in channels-last layout; choose the device."""

from __future__ import annotations

import platform
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from msgd.lab.data.download import Array
from msgd.lab.errors import UserError

CHUNK = 1000  #: number of images whose pixels are counted at a time
Pixels = Literal["unit", "raw", "standard"]
Statistics = tuple[Array, Array]


def pixel_statistics(train_inputs: Array) -> Statistics:
    """Mean and standard deviation of each channel over all training pixels, computed exactly from a histogram.

    Args:
        train_inputs: shape (n, channels, …); uint8 for pixels. Inputs of another dtype are not pixels and not scaled.

    Returns:
        Mean and standard deviation of pixels 0 … 255, each of shape (channels,), float32; 0 and 1 if the inputs are
        not pixels. A constant channel gets standard deviation 1, so that standardising it gives 0.
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
    pixels: Pixels | None = "unit",
    *,
    statistics: Statistics | None = None,
) -> tuple[Tensor, Tensor]:
    """Copy examples to a device, with pixels as floats and images in channels-last layout.

    Args:
        inputs: as in `Data`; inputs that are not uint8 are not pixels and keep their values.
        targets: as in `Data`.
        device: the device.
        pixels: "unit" for [0, 1], "raw" for 0 … 255, "standard" for mean 0 and variance 1 in each channel; None for
            data that are left as they are.
        statistics: `pixel_statistics` of the training images. "standard" needs them, for test images too.

    Returns:
        The inputs, pixels in float32, and the targets.

    Raises:
        ValueError: ``pixels`` is not one of the three, or "standard" has no statistics.
    """
    if pixels is not None and pixels not in get_args(Pixels):
        raise ValueError(f"pixels: {pixels!r} is none of {', '.join(get_args(Pixels))}")
    if pixels == "standard" and statistics is None:
        raise ValueError('pixels="standard" needs statistics=pixel_statistics(train_inputs)')
    x = torch.from_numpy(np.array(inputs)).to(device)  # a copy, because the array of a worker is read-only
    if x.ndim == 4:
        # With one channel, contiguous() would not change the strides, which decide the layout of convolutions.
        x = torch.empty_like(x, memory_format=torch.channels_last).copy_(x)
    if inputs.dtype == np.uint8 and pixels is not None:
        x = x.float()
        if pixels == "unit":
            x.div_(255)
        elif pixels == "standard" and statistics is not None:
            mean, std = (torch.from_numpy(each).to(device).view(-1, *[1] * (x.ndim - 2)) for each in statistics)
            x.sub_(mean).div_(std)
    return x, torch.from_numpy(np.array(targets)).to(device)


def check_device(device: str) -> None:
    """Check that this machine has the device; a worker may run on another machine than the command.

    Args:
        device: "cpu" or "cuda".

    Raises:
        UserError: torch sees no CUDA device.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device cuda: torch sees no CUDA device on {platform.node()}; use --device cpu")


def find_device(name: str, *, local: bool = True) -> str:
    """Choose the device.

    Args:
        name: "auto", "cpu" or "cuda", the value of the option ``--device``.
        local: whether jobs run on this machine; if not, only the workers of the cluster need the device.

    Returns:
        "cpu" or "cuda".

    Raises:
        UserError: the name is unknown, or torch sees no CUDA device.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device: {name!r} is not known; write auto, cpu or cuda")
    if name == "cpu" or (name == "cuda" and not local):
        return name
    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise UserError("--device cuda: torch sees no CUDA device; use --device cpu")
    return "cpu"
