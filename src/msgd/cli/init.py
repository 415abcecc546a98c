"""The command `msgd init`."""

from __future__ import annotations

import shlex
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from msgd.cli.exit_codes import report_errors
from msgd.lab.errors import UserError

KINDS = ("classification", "regression", "language")


def init(
    folder: Annotated[Path, typer.Argument(help="A new folder, such as my-task.")],
    kind: Annotated[str, typer.Option(help="classification, regression or language.")] = "classification",
) -> None:
    """Write a task of your own to start from: task.py, a recipe named like the folder, and README.md."""
    with report_errors(torch=False):
        if kind not in KINDS:
            raise UserError(f"--kind: {kind!r} is not known; take one of {', '.join(KINDS)}")
        recipe = f"{folder.resolve().name}.toml"
        files = _files(kind, folder, recipe)
        _check_free(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write(text)
        typer.echo(f"{folder} holds {', '.join(files)}. To train, and to see the results:")
        for line in _commands(folder / recipe)[:2]:
            typer.echo(f"    {line}")


def _check_free(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty: name a new folder")
    if (folder.exists() and not folder.is_dir()) or folder.is_symlink():
        raise UserError(f"{folder} is a file or a link: name a new folder")


def _files(kind: str, folder: Path, recipe: str) -> dict[str, str]:
    """The names and the contents of the files."""
    templates = resources.files("msgd.lab") / "templates"
    task, toml, readme = (
        (templates / name).read_text(encoding="utf-8") for name in (f"{kind}.py", f"{kind}.toml", "README.md")
    )
    run, compare, measure = _commands(folder / recipe)
    reference = toml.split('reference = "')[1].partition('"')[0]
    shown = readme.format(
        name=folder.resolve().name,
        run=run,
        compare=compare,
        measure=f"{measure} --methods {reference}",
        tryout=f"{run} --methods {reference} --seeds 1 --steps 50 --out runs/try",
        out=_out(folder / recipe),
        recipe=recipe,
    )
    return {"task.py": task, recipe: toml, "README.md": shown}


def _out(recipe: Path) -> Path:
    """The folder that `msgd run` takes without ``--out``."""
    return Path("runs") / recipe.stem


def _commands(recipe: Path) -> list[str]:
    """The commands that train, print the verdicts again, and measure the noise."""
    out = shlex.quote(str(_out(recipe)))
    return [f"msgd run {shlex.quote(str(recipe))} --trust", f"msgd compare {out}", f"msgd measure {out} --trust"]
