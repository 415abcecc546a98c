"""Which run a folder holds: all that decides its result."""

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


class Identified(Protocol):
    """A run of any kind of experiment: it says what decides its result."""

    def identity(self) -> dict[str, Any]:
        """Keys and values, ready for TOML."""


def run_folder(run: Run, out: Path) -> Path:
    """Folder of a run within the folder of its experiment."""
    return out / run.method / f"seed-{run.seed}"


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
        text = read_bytes(path, TOML_BYTES).decode("utf-8")
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


def fingerprint(run: Run) -> str:
    """A checksum of all that decides a run's result."""
    return f"{zlib.crc32(tomli_w.dumps(run.identity()).encode()):08x}"
