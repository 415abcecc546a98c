"""The folder of one run: what it holds, how it is written so that a kill at any moment loses nothing.

``config.toml`` says which run it is; ``environment.json`` where it ran; ``metrics.jsonl`` has a line for each
evaluation; ``checkpoint.safetensors`` the parameters and momenta at the last checkpoint; ``snapshots/STEP.safetensors``
the parameters after the steps that the recipe keeps. Metrics and snapshots are on disk before the checkpoint that
follows them, and a checkpoint replaces the one before in one step. No pickle is ever loaded.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import safetensors
import safetensors.torch
import tomli_w
from filelock import FileLock, Timeout
from torch import Tensor

from msgd.errors import UserError
from msgd.lab.files import (
    TOML_BYTES,
    check_inside,
    check_regular,
    check_tensor_file,
    parse_json,
    parse_toml,
    raise_unreadable,
    read,
    read_json,
)
from msgd.lab.plan import Run

METRICS = ("test_accuracy", "test_loss", "train_accuracy", "train_loss")
ENDPOINT = 10  #: the endpoint of a run is the mean over its last ten evaluations

# Bounds of what is read, see `files`.
LARGEST_LOSS = 1e100  #: far beyond float32, in which networks compute; means of such losses are finite
RECORD_BYTES = 500  #: of a line of the metrics; msgd writes less than 200

Record = dict[str, Any]


class Identified(Protocol):
    """A run of any kind of experiment: it says what decides its result."""

    def identity(self) -> dict[str, Any]:
        """Keys and values, ready for TOML."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """State of a run after ``step`` steps and ``seconds`` of training; it diverged if its loss was not finite any more.

    Args:
        step: number of steps taken.
        seconds: that they took.
        tensors: see `Trainer.state`.
        diverged: the number of steps after which a loss was NaN or infinite, at most ``step``; None: after none.
    """

    step: int
    seconds: float
    tensors: dict[str, Tensor]
    diverged: int | None = None

    @property
    def evaluated(self) -> int:
        """The metrics have every evaluation up to this step."""
        return self.step if self.diverged is None else self.diverged

    def ends(self, run: Run) -> bool:
        """Whether nothing of a run is left to be trained."""
        return self.step >= run.steps or self.diverged is not None


def folder_of(run: Run, out: Path) -> Path:
    """Folder of a run within the folder of its experiment."""
    return out / run.method / f"seed-{run.seed}"


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file in one step: after a kill it holds either the old content or the new.

    Args:
        path: the file.
        content: all of it.
    """
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)  # it may be a link, which would be followed
    with part.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


@contextmanager
def locked(folder: Path, *, patience: float = 0) -> Iterator[None]:
    """Hold a folder for one process; the operating system lets go of it however the process ends.

    Args:
        folder: made where it does not exist.
        patience: seconds to wait for another process to let go.

    Yields:
        Nothing.

    Raises:
        UserError: another process holds it, or a file stands in its place.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{folder} cannot be a folder, there is a file in its place: give another --out") from None
    check_inside(folder / ".lock", folder)  # FileLock empties the file
    try:
        lock = FileLock(folder / ".lock").acquire(timeout=patience)
    except Timeout:
        raise UserError(f"another msgd is at work in {folder}: wait for it, or give another --out") from None
    with lock:
        yield


def write_identity(run: Identified, folder: Path, environment: dict[str, Any]) -> None:
    """Say in the folder which run it is, and where it runs."""
    write_atomically(folder / "config.toml", tomli_w.dumps(run.identity()).encode())
    write_atomically(folder / "environment.json", json.dumps(environment, indent=2).encode())


def note_processes(folder: Path, environment: dict[str, Any]) -> None:
    """Note in a run's environment that another number of processes goes on with it: it then rounds otherwise.

    Args:
        folder: of the run.
        environment: in which it is continued.
    """
    path, now = folder / "environment.json", environment.get("processes_per_run", 1)
    try:
        about = read_json(path)
        before = str(about.get("processes_per_run", 1))
    except (OSError, ValueError, AttributeError):
        return  # it is a record for people, nothing depends on it
    if before.split()[-1:] != [str(now)]:
        write_atomically(path, json.dumps(about | {"processes_per_run": f"{before}, then {now}"}, indent=2).encode())


def check_identity(run: Identified, folder: Path) -> None:
    """Make sure that a folder, if it holds a run, holds this one.

    Args:
        run: the run that is to be in it.
        folder: its folder.

    Raises:
        UserError: it holds another run, or its ``config.toml`` is damaged.
    """
    path = folder / "config.toml"
    if not path.exists():
        return
    mine = run.identity()
    try:
        text = read(path, TOML_BYTES).decode("utf-8")
        if text == tomli_w.dumps(mine):  # which is all that there mostly is to see, and quicker than to read it
            return
        theirs = parse_toml(text)
    except (OSError, ValueError) as error:
        raise_unreadable(error)
        raise UserError(f"{path} is damaged ({error}): delete {folder} to run it again") from error
    for key in [*mine, *theirs]:
        if mine.get(key) != theirs.get(key):
            raise UserError(
                f"{folder} holds a run with {key} = {theirs.get(key)}, and this one has {mine.get(key)}: "
                "give --out another folder, or delete that one"
            )


def packed(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """Compose a safetensors file.

    Args:
        tensors: by name.
        metadata: strings by name.

    Returns:
        Its bytes.

    Raises:
        MemoryError: there is too little memory; safetensors itself would abort the process, or wait for itself forever.
    """
    bytearray(3 * sum(tensor.nbytes for tensor in tensors.values()) + 2**20)  # it has two copies at a time
    return safetensors.torch.save(tensors, metadata)


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the folder's checkpoint, once the metrics before it are on disk."""
    with (folder / "metrics.jsonl").open("rb+") as file:
        os.fsync(file.fileno())
    metadata = {
        "step": str(checkpoint.step),
        "seconds": repr(checkpoint.seconds),
        "crc32": crc32(checkpoint.tensors),
    }
    if checkpoint.diverged is not None:
        metadata["diverged"] = str(checkpoint.diverged)
    write_atomically(folder / "checkpoint.safetensors", packed(checkpoint.tensors, metadata))


def read_checkpoint(folder: Path, *, tensors: bool = True) -> Checkpoint | None:
    """Read the folder's checkpoint.

    Args:
        folder: of a run.
        tensors: read the tensors and check them, too; otherwise they are left out.

    Returns:
        The checkpoint, None where there is none yet.

    Raises:
        UserError: it is damaged.
    """
    path = folder / "checkpoint.safetensors"
    if not path.exists():
        return None
    metadata, loaded = _read_tensors(path, folder, tensors=tensors)
    try:
        step, seconds = int(metadata["step"]), float(metadata["seconds"])
        diverged = int(metadata["diverged"]) if "diverged" in metadata else None
    except (KeyError, ValueError) as error:
        raise UserError(_damage(path, folder, error)) from error
    if not (0 <= (diverged or 0) <= step and 0 <= seconds < math.inf):
        raise UserError(_damage(path, folder, f"step {step}, {seconds} seconds, diverged {diverged}"))
    return Checkpoint(step, seconds, loaded, diverged)


def write_snapshot(run: Run, folder: Path, step: int, tensors: dict[str, Tensor]) -> None:
    """Keep the parameters after a step; a step that is trained again writes the same again.

    Args:
        run: whose they are.
        folder: its folder.
        step: after which they are.
        tensors: the state of training, of which momenta and noise are left out.
    """
    model = {name: value for name, value in tensors.items() if name.startswith("model.")}
    metadata = {"step": str(step), "run": fingerprint(run), "crc32": crc32(model)}
    path = folder / "snapshots" / f"{step}.safetensors"
    check_inside(path.parent, folder)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, packed(model, metadata))


def snapshot_steps(folder: Path) -> list[int]:
    """The steps whose parameters a run's folder keeps as snapshots, in order."""
    names = (path.stem for path in (folder / "snapshots").glob("*.safetensors"))
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def read_snapshot(run: Run, folder: Path, step: int) -> dict[str, Tensor]:
    """Read a snapshot.

    Args:
        run: whose it must be.
        folder: its folder.
        step: after which it was taken.

    Returns:
        The tensors of the model, by name.

    Raises:
        UserError: it is missing, damaged, or of another run.
    """
    path = folder / "snapshots" / f"{step}.safetensors"
    metadata, loaded = _read_tensors(path, folder)
    if metadata.get("step") != str(step) or metadata.get("run") != fingerprint(run):
        raise UserError(f"{path} is of another run or step: delete it, or {folder} to train this run again")
    return loaded


def fingerprint(run: Run) -> str:
    """A checksum of all that decides a run's result."""
    return f"{zlib.crc32(tomli_w.dumps(run.identity()).encode()):08x}"


def _read_tensors(path: Path, folder: Path, *, tensors: bool = True) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        check_tensor_file(path)
        with safetensors.safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            loaded = {key: file.get_tensor(key) for key in file.keys()} if tensors else {}  # noqa: SIM118
        checksum = crc32(loaded)
    except (OSError, ValueError, TypeError, safetensors.SafetensorError) as error:  # NumPy lacks some types
        raise_unreadable(error)
        raise UserError(_damage(path, folder, error)) from error
    if tensors and metadata.get("crc32") != checksum:
        raise UserError(_damage(path, folder, "wrong checksum"))
    return metadata, loaded


def _damage(path: Path, folder: Path, what: object) -> str:
    return f"{path} is damaged ({what}): delete {folder} to train this run again"


def crc32(tensors: dict[str, Tensor]) -> str:
    """A checksum of tensors and their names.

    Args:
        tensors: by name.

    Returns:
        Eight hexadecimal digits.
    """
    crc = 0
    for name in sorted(tensors):
        crc = zlib.crc32(name.encode(), crc)
        crc = zlib.crc32(np.ascontiguousarray(tensors[name].cpu().numpy()).data, crc)
    return f"{crc:08x}"


def append_record(folder: Path, record: Record) -> None:
    """Add an evaluation to the metrics; it outlives a kill of the process.

    A loss that is not finite is written as null: JSON has no NaN.
    """
    safe = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in record.items()}
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(safe) + "\n")


def read_records(run: Run, folder: Path, *, step: int) -> list[Record]:
    """Read the evaluations up to a step; what was written after it is left out.

    Args:
        run: whose evaluations they are.
        folder: its folder.
        step: of the last checkpoint.

    Returns:
        One record for each of ``run.evaluations`` up to ``step``.

    Raises:
        UserError: one of them is missing or damaged.
    """
    path = folder / "metrics.jsonl"
    expected = [at for at in run.evaluations if at <= step]
    damaged = f"is damaged: delete {folder} to train this run again"
    try:
        check_regular(path)
        with path.open("rb") as file:
            lines = file.read(RECORD_BYTES * len(expected)).splitlines()[: len(expected)]
        records = [parse_json(line) for line in lines]
    except (OSError, ValueError) as error:
        raise_unreadable(error)
        raise UserError(f"{path} {damaged} ({error})") from error
    for number, at in enumerate(expected):
        if number >= len(records) or not _is_record(records[number], at):
            raise UserError(f"{path} {damaged} (line {number + 1} is not the evaluation at step {at})")
    return records


def state_of(run: Run, folder: Path) -> tuple[Checkpoint | None, list[Record]]:
    """Check all that a run's folder holds, and read where the run stands.

    Args:
        run: the run that is to be in it.
        folder: its folder.

    Returns:
        The checkpoint, None where there is none yet, and the evaluations up to it.

    Raises:
        UserError: the folder holds another run or is damaged.
    """
    check_identity(run, folder)
    checkpoint = read_checkpoint(folder)
    return checkpoint, read_records(run, folder, step=checkpoint.evaluated) if checkpoint else []


def _is_record(record: Any, step: int) -> bool:
    if not (isinstance(record, dict) and record.get("step") == step):
        return False
    for key in METRICS:
        value = record.get(key, "missing")
        if key.endswith("accuracy"):
            if not (isinstance(value, float) and 0 <= value <= 1):
                return False
        elif value is not None and not (isinstance(value, float) and abs(value) < LARGEST_LOSS):
            return False
    return True


def keep_records(folder: Path, records: list[Record]) -> None:
    """Cut the metrics back to these records."""
    write_atomically(folder / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in records).encode())


def final(records: list[Record]) -> dict[str, float]:
    """Endpoint of a run that did not diverge: each metric's mean over the last evaluations, the first left out."""
    last = [record for record in records if record["step"] > 0][-ENDPOINT:]
    return {key: math.fsum(record[key] for record in last) / len(last) for key in METRICS}
