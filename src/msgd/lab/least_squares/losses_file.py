"""The files that hold the losses of simulated trajectories."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from msgd.lab.errors import UserError
from msgd.lab.least_squares.simulate import Array
from msgd.lab.recipes.least_squares import LeastSquaresRecipe
from msgd.lab.safe_io.tensors import HEADER_BYTES, read_tensors, to_safetensors
from msgd.lab.safe_io.writing import write_atomically

REMEDY = "delete it to simulate this part again"
PART = 250  #: number of trajectories that are simulated at once and written to one file


def parts_of(recipe: LeastSquaresRecipe) -> list[range]:
    """Divide the trajectories into parts of at most `PART`."""
    return [range(first, min(first + PART, recipe.trajectories)) for first in range(0, recipe.trajectories, PART)]


def losses_path(out: Path, method: str, part: range) -> Path:
    """The path of the file for a part of a method's trajectories."""
    return out / method / f"losses-{part.start}-{part.stop}.safetensors"


def read_losses(path: Path, shape: tuple[int, int]) -> Array | None:
    """Read the losses of a part.

    Args:
        path: path of the file.
        shape: numbers of trajectories and recorded steps.

    Returns:
        The losses; None if the part is not finished.

    Raises:
        UserError: the file is damaged.
    """
    if not path.exists():
        return None
    limit = HEADER_BYTES + 8 * shape[0] * shape[1]
    _, tensors = read_tensors(path, REMEDY, limit=limit, checksum=_crc32)
    losses: Array = tensors["losses"].numpy() if tensors.keys() == {"losses"} else np.empty(0)
    if losses.shape != shape or losses.dtype != np.float64:
        raise UserError(f"{path} is damaged (shape {losses.shape}, not {shape}): {REMEDY}")
    return losses


def write_losses(path: Path, losses: Array) -> None:
    """Write the losses of a part.

    Args:
        path: path of the file.
        losses: the losses, shape (trajectories, recorded steps).
    """
    tensors = {"losses": torch.from_numpy(losses)}
    write_atomically(path, to_safetensors(tensors, {"crc32": _crc32(tensors)}))


def _crc32(tensors: dict[str, Tensor]) -> str:
    """The checksum in these files, which covers the numbers but not the tensor's name."""
    return f"{zlib.crc32(b''.join(tensor.numpy().tobytes() for tensor in tensors.values())):08x}"
