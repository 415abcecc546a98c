"""The commands that run no jobs: `msgd report`, `compare`, `recipes` and `show`."""

from __future__ import annotations

import typer

from msgd.cli.exit_codes import report_errors
from msgd.cli.options import FolderArgument, RecipeArgument
from msgd.cli.terminal import conclude, make_console, print_verdicts


def report(folder: FolderArgument) -> None:
    """Write report.html and results.json again from the finished runs in a folder."""
    with report_errors():
        conclude(folder, make_console())


def compare(folder: FolderArgument) -> None:
    """Print the verdicts of the finished runs in a folder, without writing any file."""
    with report_errors():
        from msgd.lab.kinds import experiment_in

        experiment = experiment_in(folder)
        print_verdicts(experiment, experiment.gather(), make_console())


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
