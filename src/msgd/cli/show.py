"""The commands that read: `msgd report`, `compare`, `recipes` and `show`."""

from __future__ import annotations

import typer

from msgd.cli.exit_codes import clear_errors
from msgd.cli.options import FolderArgument, RecipeArgument
from msgd.cli.terminal import conclude, make_console, print_verdicts


def report(folder: FolderArgument) -> None:
    """Write report.html and results.json anew from the finished runs in a folder."""
    with clear_errors():
        conclude(folder, make_console())


def compare(folder: FolderArgument) -> None:
    """Print the verdicts of the finished runs in a folder; writes nothing."""
    with clear_errors():
        from msgd.lab.kinds import experiment_in

        experiment = experiment_in(folder)
        print_verdicts(experiment, experiment.gather(), make_console())


def recipes() -> None:
    """List the recipes."""
    with clear_errors():
        from msgd.lab.recipes.source import read_table, recipe_names, recipe_text

        width = max(len(name) for name in recipe_names()) + 2
        for name in recipe_names():
            typer.echo(f"{name:<{width}}{read_table(recipe_text(name), source=name)['title']}")


def show(recipe: RecipeArgument) -> None:
    """Print a recipe's TOML; save it to a file to make your own."""
    with clear_errors():
        from msgd.lab.recipes.source import recipe_text

        typer.echo(recipe_text(recipe), nl=False)
