"""The description of an experiment: `config.toml` and `experiment.json` in its folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel

from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.scores import ACCURACY, LOSS, Score, check_scores
from msgd.lab.recipes.load import AnyRecipe, parse_recipe
from msgd.lab.recipes.own import recorded_own
from msgd.lab.recipes.source import Kind, kind_of
from msgd.lab.safe_io.bounded import (
    TOML_BYTES,
    raise_unreadable,
    read_bytes,
    read_json,
    read_toml,
)
from msgd.lab.safe_io.writing import write_atomically


def kind_in(folder: Path) -> Kind | None:
    """Read which kind of experiment a folder holds; None if its recipe cannot be read."""
    path = folder / "config.toml"
    try:
        return kind_of(read_toml(path), source=str(path))
    except (OSError, ValueError):
        return None


def check_kind(folder: Path, kind: Kind) -> None:
    """Check that a folder holds either no experiment or one of this kind.

    Args:
        folder: folder for the results.
        kind: the kind of the experiment that is about to run.

    Raises:
        UserError: the folder holds an experiment of another kind.
    """
    theirs = kind_in(folder)
    if theirs not in (None, kind):
        raise UserError(f"{folder} holds another experiment ({theirs}, and this is {kind}): give --out another folder")


def describe_experiment(
    out: Path,
    name: str,
    recipe: BaseModel,
    data: dict[str, Any],
    environment: dict[str, Any],
    *,
    keep_environment: bool,
    scores: Sequence[Score] | None = None,
) -> None:
    """Write an experiment's description into its folder, before its first run.

    Args:
        out: the experiment's folder.
        name: name of the recipe.
        recipe: the recipe, with all settings of this command.
        data: the facts about the data that the results need: ``n`` and ``digests``.
        environment: the command's environment.
        keep_environment: keep the environment of an earlier description of the same recipe, because nothing will be
            trained.
        scores: the scores of its runs, of which the first decides; None: accuracy and loss, or a simulation, which has
            none.
    """
    config = tomli_w.dumps(recipe.model_dump(exclude_none=True)).encode()
    about: dict[str, Any] = {"recipe": name, "data": data, "environment": environment}
    if scores is not None:
        about["scores"] = [{"name": s.name, "lower_is_better": s.lower_is_better} for s in check_scores(scores)]
    try:
        if keep_environment and _holds(out / "config.toml", recipe):
            about["environment"] = read_json(out / "experiment.json")["environment"]
    except (UserError, OSError, ValueError, KeyError, TypeError):
        pass  # no usable description: write a new one
    write_atomically(out / "config.toml", config)
    write_atomically(out / "experiment.json", json.dumps(about, indent=2).encode())


def _holds(path: Path, recipe: BaseModel) -> bool:
    """Whether a file holds this recipe, which an earlier version may have written without the keys that are new."""
    theirs = parse_recipe(read_bytes(path, TOML_BYTES).decode("utf-8"), source=str(path))
    return theirs.model_dump() == recipe.model_dump()


@dataclass(frozen=True)
class Description:
    """The description that `describe_experiment` wrote.

    Args:
        name: name of the recipe.
        recipe: the recipe.
        environment: the command's environment.
        data: facts about the data.
        scores: the scores of its runs, of which the first decides, without their margins, which the recipe has.
    """

    name: str
    recipe: AnyRecipe
    environment: dict[str, Any]
    data: dict[str, Any]
    scores: tuple[Score, ...] = (ACCURACY, LOSS)  #: what earlier versions wrote without naming it


def read_description(out: Path) -> Description:
    """Read an experiment's description.

    Args:
        out: the experiment's folder.

    Returns:
        The description.

    Raises:
        UserError: the folder holds no experiment, or a file in it is damaged.
    """
    path = out / "config.toml"
    try:
        text = read_bytes(path, TOML_BYTES).decode("utf-8")
        path = out / "experiment.json"
        about = read_json(path)
        name, environment, data = str(about["recipe"]), dict(about["environment"]), dict(about["data"])
        scores = _read_scores(about["scores"]) if "scores" in about else (ACCURACY, LOSS)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{out} holds no experiment: give the folder that msgd run wrote, such as runs/mnist1d"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise_unreadable(error)
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path} is damaged ({what}): let msgd run write it again") from error
    own = recorded_own(data.get("code"), path=path)
    recipe = parse_recipe(text, source=str(out / "config.toml"), own=own)
    return Description(name, recipe, environment, data, scores)


def _read_scores(entries: Any) -> tuple[Score, ...]:
    found = []
    for entry in entries if isinstance(entries, list) else [None]:
        match entry:
            case {"name": str(name), "lower_is_better": bool(lower_is_better)}:
                found.append(Score(name, lower_is_better))
            case _:
                raise ValueError("a score is a name and lower_is_better, which is true or false")
    return check_scores(found)
