"""The commands that run no jobs: `msgd report`, `compare`, `recipes` and `show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msgd.cli.exit_codes import report_errors
from msgd.cli.options import FolderArgument, RecipeArgument
from msgd.cli.terminal import conclude, make_console, print_sentences, print_table, print_verdicts


def report(folder: FolderArgument) -> None:
    """Write report.html and results.json again from the finished runs in a folder."""
    with report_errors():
        conclude(folder, make_console())


def compare(
    folders: Annotated[list[Path], typer.Argument(help="Folders written by msgd run, such as runs/mnist1d.")],
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="[FOLDER:]METHOD", help="What the methods are compared with.", show_default="as the first folder's"
        ),
    ] = None,
) -> None:
    """Print the verdicts of the finished runs in a folder, or in several, without writing any file.

    With several folders, every method of each is compared with the reference of the first, paired by seed, by the first
    folder's score and margin.
    """
    with report_errors():
        from msgd.lab.experiment_folder.several import pool
        from msgd.lab.kinds import experiment_in
        from msgd.lab.report.several import pool_sentences
        from msgd.lab.report.verdict import columns, rows

        experiments = [experiment_in(folder) for folder in folders]
        if len(folders) == 1 and reference is None:
            print_verdicts(experiments[0], experiments[0].gather(), make_console())
            return
        pooled = pool(folders, [experiment.gather() for experiment in experiments], reference)
        console = make_console()
        print_table(console, columns(pooled.results), rows(pooled.results))
        print_sentences(console, pool_sentences(pooled))


def recipes() -> None:
    """List the recipes and their titles."""
    with report_errors(torch=False):
        from msgd.lab.recipes.source import read_table, recipe_names, recipe_text

        width = max(len(name) for name in recipe_names()) + 2
        for name in recipe_names():
            typer.echo(f"{name:<{width}}{read_table(recipe_text(name), source=name)['title']}")


def show(recipe: RecipeArgument) -> None:
    """Print the TOML of a recipe; save it to a file to write your own."""
    with report_errors(torch=False):
        from msgd.lab.recipes.source import recipe_text

        typer.echo(recipe_text(recipe), nl=False)
