"""The identity of a run: all settings that determine its result."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any, Protocol

import tomli_w

from msgd.lab.errors import UserError
from msgd.lab.plan.run import Run
from msgd.lab.safe_io.bounded import (
    TOML_BYTES,
    parse_toml,
    raise_unreadable,
    read_bytes,
    read_json,
)
from msgd.lab.safe_io.writing import write_atomically
from msgd.lab.tasks.code import named_hash


class HasIdentity(Protocol):
    """A run of any kind of experiment, with the settings that determine its result."""

    def identity(self) -> dict[str, Any]:
        """The settings as keys and values, ready for TOML."""


def run_folder(run: Run, out: Path) -> Path:
    """The folder of a run within the folder of its experiment."""
    return out / run.method / f"seed-{run.seed}"


def write_identity(run: HasIdentity, folder: Path, environment: dict[str, Any]) -> None:
    """Write the run's identity and its environment into its folder."""
    write_atomically(folder / "config.toml", tomli_w.dumps(run.identity()).encode())
    write_atomically(folder / "environment.json", json.dumps(environment, indent=2).encode())


def note_processes(folder: Path, environment: dict[str, Any]) -> None:
    """Record in a run's environment that another number of processes continues it, because this changes rounding.

    Args:
        folder: the run's folder.
        environment: the environment in which the run is continued.
    """
    path, now = folder / "environment.json", environment.get("processes_per_run", 1)
    try:
        about = read_json(path)
        before = str(about.get("processes_per_run", 1))
    except (OSError, ValueError, AttributeError):
        return  # people read this record, but nothing depends on it
    if before.split()[-1:] != [str(now)]:
        write_atomically(path, json.dumps(about | {"processes_per_run": f"{before}, then {now}"}, indent=2).encode())


def check_identity(run: HasIdentity, folder: Path) -> None:
    """Check that a folder holds either no run or this one.

    Args:
        run: the run that the folder is for.
        folder: the folder.

    Raises:
        UserError: the folder holds another run, or its ``config.toml`` is damaged.
    """
    path = folder / "config.toml"
    if not path.exists():
        return
    mine = run.identity()
    try:
        text = read_bytes(path, TOML_BYTES).decode("utf-8")
        if text == tomli_w.dumps(mine):  # the usual case; comparing texts is faster than parsing
            return
        theirs = parse_toml(text)
    except (OSError, ValueError) as error:
        raise_unreadable(error)
        raise UserError(f"{path} is damaged ({error}): delete {folder} to run it again") from error
    if mine.get("code") != theirs.get("code"):
        raise UserError(_changed_code(mine.get("code") or [], theirs.get("code") or [], folder))
    if mine.get("data") == theirs.get("data") and mine.get("data_digest") != theirs.get("data_digest"):
        raise UserError(
            f"{folder} was trained on other data of {mine.get('data')} (another checksum): give the --data-dir of then "
            "(data of your own must be the same for the same seed), or give --out another folder"
        )
    for key in [*mine, *theirs]:
        if mine.get(key) != theirs.get(key):
            raise UserError(
                f"{folder} holds a run with {key} = {theirs.get(key)}, and this one has {mine.get(key)}: "
                f"give --out another folder, or delete {folder}"
            )


def _changed_code(mine: list[str], theirs: list[str], folder: Path) -> str:
    files = sorted({named_hash(line)[0] for line in {*map(str, mine)} ^ {*map(str, theirs)}})
    return (
        f"{', '.join(files)} has changed since {folder} was trained: restore it from the folder code of the "
        f"experiment, give --out another folder, or delete {folder}"
    )


def fingerprint(run: Run) -> str:
    """A checksum of the run's identity."""
    return f"{zlib.crc32(tomli_w.dumps(run.identity()).encode()):08x}"
