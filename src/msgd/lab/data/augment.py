"""Augmentation of images with random crops and horizontal flips, independent for each image."""

from __future__ import annotations

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional as F


def crop_and_flip(
    images: Tensor, pad: int, rng: Generator, *, among: int | None = None, part: slice = slice(None)
) -> Tensor:
    """Pad each image with zeros, crop it at a random offset, and flip it horizontally with probability 1/2.

    All (2·pad+1)² offsets are equally likely. The vertical offsets of all images are drawn first, then the horizontal
    ones, then the flips.

    Args:
        images: shape (n, channels, height, width).
        pad: width of the padding on each side, in pixels.
        rng: a NumPy generator, so that the crops are the same on every device.
        among: number of images in the logical batch, of which ``images`` is a part; None if ``images`` is all of it.
        part: position of ``images`` in the logical batch. How the batch is split does not change the crop of an image.

    Returns:
        New images of the same shape and memory layout.

    Raises:
        ValueError: the shape is not that of images, or ``pad`` is negative.

    Examples:
        >>> image = torch.arange(1.0, 10).reshape(1, 1, 3, 3)
        >>> crop_and_flip(image, pad=1, rng=np.random.default_rng(0))[0, 0].tolist()
        [[6.0, 5.0, 4.0], [9.0, 8.0, 7.0], [0.0, 0.0, 0.0]]

    References:
        He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", CVPR 2016, Section 4.2.
    """
    if images.ndim != 4:
        raise ValueError(f"images must have shape (n, channels, height, width), not {tuple(images.shape)}")
    if pad < 0:
        raise ValueError(f"pad must be 0 or more, not {pad}")
    n, channels, height, width = images.shape
    together = n if among is None else among
    places = 2 * pad + 1  # 0 … 2·pad: `integers` leaves out its upper end
    draws = np.stack([rng.integers(end, size=together) for end in (places, places, 2)])[:, part]
    top, left, flip = torch.from_numpy(draws).to(images.device)[:, :, None]

    y = torch.arange(height, device=images.device)
    x = torch.arange(width, device=images.device)
    rows = top + y
    columns = left + torch.where(flip == 1, width - 1 - x, x)
    # Selecting pixels from a flat list is three to four times faster than indexing in four dimensions.
    padded = F.pad(images, (pad,) * 4).permute(0, 2, 3, 1)
    line = torch.arange(n, device=images.device)[:, None] * padded.shape[1] + rows
    pixel = line[:, :, None] * padded.shape[2] + columns[:, None, :]
    selected = padded.reshape(-1, channels).index_select(0, pixel.flatten())
    cropped = selected.view(n, height, width, channels).permute(0, 3, 1, 2)
    return cropped if images.is_contiguous(memory_format=torch.channels_last) else cropped.contiguous()
