"""Checkpoints and snapshots of a run, written so that a kill at any moment loses nothing.

``checkpoint.safetensors`` holds all tensors that training changes (parameters, buffers, momenta, and the measured state
of noise in parameter space), and as metadata the number of steps, the seconds, the step after which the run diverged,
if it did, and a checksum. ``snapshots/STEP.safetensors`` holds the parameters and buffers after each step that the
recipe keeps.

The other files of a run's folder have their own modules: ``config.toml`` and ``environment.json`` (`identity`),
``metrics.jsonl`` (`metrics`). Metrics and snapshots are on disk before the checkpoint that follows them, and a
checkpoint replaces the previous one atomically. No pickle is ever loaded.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.identity import fingerprint
from msgd.lab.plan.run import Run
from msgd.lab.safe_io.tensors import crc32, read_tensors, to_safetensors
from msgd.lab.safe_io.writing import check_inside, write_atomically


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """State of a run after ``step`` steps and ``seconds`` of training.

    Args:
        step: number of steps taken.
        seconds: training time of these steps in seconds.
        tensors: the state of training, see `Trainer.state`.
        diverged: the number of steps after which a loss was NaN or infinite, at most ``step``; None: every loss was
            finite.
    """

    step: int
    seconds: float
    tensors: dict[str, Tensor]
    diverged: int | None = None

    @property
    def last_metrics_step(self) -> int:
        """The step up to which the metrics hold every evaluation."""
        return self.step if self.diverged is None else self.diverged

    def ends(self, run: Run) -> bool:
        """Whether the run is complete: all its steps are taken, or it diverged."""
        return self.step >= run.steps or self.diverged is not None


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the folder's checkpoint, after the metrics before it are on disk."""
    with (folder / "metrics.jsonl").open("rb+") as file:
        os.fsync(file.fileno())
    metadata = {
        "step": str(checkpoint.step),
        "seconds": repr(checkpoint.seconds),
        "crc32": crc32(checkpoint.tensors),
    }
    if checkpoint.diverged is not None:
        metadata["diverged"] = str(checkpoint.diverged)
    write_atomically(folder / "checkpoint.safetensors", to_safetensors(checkpoint.tensors, metadata))


def read_checkpoint(folder: Path, *, tensors: bool = True) -> Checkpoint | None:
    """Read the folder's checkpoint.

    Args:
        folder: the run's folder.
        tensors: read and check the tensors as well; otherwise leave them out.

    Returns:
        The checkpoint; None if the folder has none yet.

    Raises:
        UserError: the checkpoint is damaged.
    """
    path = folder / "checkpoint.safetensors"
    if not path.exists():
        return None
    metadata, loaded = read_tensors(path, _remedy(folder), tensors=tensors)
    try:
        step, seconds = int(metadata["step"]), float(metadata["seconds"])
        diverged = int(metadata["diverged"]) if "diverged" in metadata else None
    except (KeyError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}): {_remedy(folder)}") from error
    if not (0 <= (diverged or 0) <= step and 0 <= seconds < math.inf):
        values = f"step {step}, {seconds} seconds, diverged {diverged}"
        raise UserError(f"{path} is damaged ({values}): {_remedy(folder)}")
    return Checkpoint(step, seconds, loaded, diverged)


def write_snapshot(run: Run, folder: Path, step: int, tensors: dict[str, Tensor]) -> None:
    """Write the parameters after a step; a step that is trained again writes the same file again.

    Args:
        run: the run.
        folder: its folder.
        step: number of steps taken.
        tensors: the state of training; its momenta and noise are not written.
    """
    model = {name: value for name, value in tensors.items() if name.startswith("model.")}
    metadata = {"step": str(step), "run": fingerprint(run), "crc32": crc32(model)}
    path = folder / "snapshots" / f"{step}.safetensors"
    check_inside(path.parent, folder)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, to_safetensors(model, metadata))


def snapshot_steps(folder: Path) -> list[int]:
    """The steps at which a run's folder has a snapshot of the parameters, in increasing order."""
    names = (path.stem for path in (folder / "snapshots").glob("*.safetensors"))
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def read_snapshot(run: Run, folder: Path, step: int) -> dict[str, Tensor]:
    """Read a snapshot.

    Args:
        run: the run that the snapshot must belong to.
        folder: its folder.
        step: number of steps after which the snapshot was taken.

    Returns:
        The tensors of the model, by name.

    Raises:
        UserError: the snapshot is missing or damaged, or it belongs to another run.
    """
    path = folder / "snapshots" / f"{step}.safetensors"
    metadata, loaded = read_tensors(path, _remedy(folder))
    if metadata.get("step") != str(step) or metadata.get("run") != fingerprint(run):
        raise UserError(f"{path} belongs to another run or step: delete it, or {folder} to train this run again")
    return loaded


def _remedy(folder: Path) -> str:
    return f"delete {folder} to train this run again"
