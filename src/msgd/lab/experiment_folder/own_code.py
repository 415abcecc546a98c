"""The copy of the user's own files in an experiment's folder, and the recipe with its code loaded again."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.description import Description
from msgd.lab.recipes.load import parse_recipe
from msgd.lab.recipes.own import OwnParts, load_own
from msgd.lab.recipes.source import read_table
from msgd.lab.safe_io.bounded import TOML_BYTES, read_bytes
from msgd.lab.safe_io.writing import check_inside, write_atomically
from msgd.lab.tasks.code import CODE_BYTES, Code, named_hash

FOLDER = "code"


def copy_code(code: Code, out: Path) -> None:
    """Copy the user's files into an experiment's folder, so that the folder tells what was run.

    Args:
        code: the files that were loaded.
        out: the experiment's folder.
    """
    for name, _ in code.hashes:
        source, copy = code.folder / name, out / FOLDER / name
        if source.is_file():  # a module of an installed package is not below the recipe's folder
            check_inside(copy.parent, out)
            copy.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(copy, source.read_bytes())


def with_code(description: Description, out: Path, *, trust: bool) -> Description:
    """Load the code of an experiment again, from where it was or from the copy in the experiment's folder.

    Args:
        description: of the experiment.
        out: its folder.
        trust: whether the user allows the code to run.

    Returns:
        The description, whose recipe has its code loaded; unchanged if the recipe names no code.

    Raises:
        UserError: the user did not allow the code to run, or the files are missing or have changed.
    """
    own = description.recipe.own
    if own.is_nothing:
        return description
    if own.code is None:
        raise UserError(f"{out} was written by lab.compare, with functions that no file holds: measure it from Python")
    path = out / "config.toml"
    text = read_bytes(path, TOML_BYTES).decode()
    table = read_table(text, source=str(path))
    loaded = load_own(table, _unchanged_folder(own, out), source=str(path), trust=trust)
    if loaded.identity != own.identity:
        raise UserError(_changed(own, out))
    return replace(description, recipe=parse_recipe(text, source=str(path), own=loaded))


def _unchanged_folder(own: OwnParts, out: Path) -> Path:
    """The folder whose files have the recorded hashes, found without running them."""
    assert own.code is not None
    for folder in (own.code.folder, out / FOLDER):
        named = [(folder / name, digest) for name, digest in map(named_hash, own.identity)]
        present = [(path, digest) for path, digest in named if path.is_file()]
        if present and all(_hash(path) == digest for path, digest in present):
            return folder
    raise UserError(_changed(own, out))


def _hash(path: Path) -> str:
    try:
        return hashlib.sha256(read_bytes(path, CODE_BYTES)).hexdigest()
    except (OSError, ValueError):
        return ""


def _changed(own: OwnParts, out: Path) -> str:
    names = ", ".join(name for name, _ in map(named_hash, own.identity))
    return f"{names}: the code has changed since {out} was trained, and {out / FOLDER} lacks it: restore these files"
