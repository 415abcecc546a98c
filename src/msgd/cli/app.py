"""The application `msgd` and its commands. A command imports torch only when it runs, so that help is quick."""

from __future__ import annotations

from typing import Annotated

import typer

from msgd.cli.export import export
from msgd.cli.init import init
from msgd.cli.measure import measure
from msgd.cli.run import run
from msgd.cli.show import compare, recipes, report, show

app = typer.Typer(
    name="msgd",
    help="The noise of stochastic gradient descent: run experiments by name and judge them with statistics.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _command in (init, run, report, measure, compare, export, recipes, show):
    app.command()(_command)


def _version(is_set: bool) -> None:
    if is_set:
        from msgd import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Parse the options that come before the command."""
