"""The files that hold the losses of simulated trajectories."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import safetensors

from msgd.lab.errors import UserError
from msgd.lab.least_squares.recipe import LeastSquaresRecipe
from msgd.lab.least_squares.simulate import Array
from msgd.lab.safe_io.bounded import raise_unreadable
from msgd.lab.safe_io.tensors import HEADER_BYTES, check_tensor_file

PART = 250  #: trajectories that are simulated at once, and kept in one file


def parts_of(recipe: LeastSquaresRecipe) -> list[range]:
    """Share out the trajectories."""
    return [range(first, min(first + PART, recipe.trajectories)) for first in range(0, recipe.trajectories, PART)]


def losses_path(out: Path, method: str, part: range) -> Path:
    """File of a part of a method's trajectories."""
    return out / method / f"losses-{part.start}-{part.stop}.safetensors"


def read_losses(path: Path, shape: tuple[int, int]) -> Array | None:
    """Read the losses of a part.

    Args:
        path: of the file.
        shape: trajectories and recorded steps.

    Returns:
        The losses; None where the part is not done.

    Raises:
        UserError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        check_tensor_file(path, HEADER_BYTES + 8 * shape[0] * shape[1])
        with safetensors.safe_open(path, framework="np") as file:
            found: Array = file.get_tensor("losses")
            checksum = (file.metadata() or {})["crc32"]
        damage = None if found.shape == shape and found.dtype == np.float64 else f"shape {found.shape}, not {shape}"
        if damage is None and checksum != f"{zlib.crc32(found.tobytes()):08x}":
            damage = "wrong checksum"
    except (OSError, KeyError, ValueError, TypeError, safetensors.SafetensorError) as error:
        raise_unreadable(error)
        damage = str(error)
    if damage is not None:
        raise UserError(f"{path} is damaged ({damage}): delete it to simulate this part again")
    return found
