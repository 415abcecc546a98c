"""Options and arguments that several commands share, and the parsers of their values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from msgd.lab.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from msgd.lab.execution.workers import Workers


RecipeArgument = Annotated[
    str, typer.Argument(help="The name of a recipe (msgd recipes lists them), or the path of a TOML file.")
]
FolderArgument = Annotated[Path, typer.Argument(help="A folder written by msgd run, such as runs/mnist1d.")]

BackendOption = Annotated[
    str, typer.Option(help="Where jobs run: loky, in processes on this machine; dask, on a Dask cluster.")
]

AddressOption = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Address of the Dask scheduler.", show_default="a cluster on this machine"),
]

TrustOption = Annotated[bool, typer.Option("--trust", help="Run the Python code that the recipe names.")]


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """Parse the values of ``--set``.

    Args:
        pairs: settings such as ``"lr=0.2"``; a value that is not valid TOML is taken as a string.

    Returns:
        The values by their dotted keys.

    Raises:
        UserError: a setting has no key or no equals sign.
    """
    from msgd.lab.safe_io.bounded import parse_toml

    table: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UserError(f"--set {pair}: write it as --set key=value")
        try:
            table[key] = parse_toml(f"value = {value}")["value"]
        except ValueError:
            table[key] = value  # a string without quotes
    return table


def parse_names(text: str) -> list[str]:
    """Split a list of names at its commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def parse_rates(text: str) -> list[float]:
    """Parse the value of ``--tune``.

    Args:
        text: the option's value, such as ``"lr=0.1,0.2"``.

    Returns:
        The learning rates.

    Raises:
        UserError: the text does not have this form.
    """
    key, _, values = text.partition("=")
    try:
        rates = [float(value) for value in values.split(",")]
    except ValueError:
        rates = []
    if key.strip() != "lr" or not rates:
        raise UserError(f"--tune {text}: write it as --tune lr=0.1,0.2,0.4")
    return rates


def wants_events(log: str | None) -> bool:
    """Whether ``--log`` asks for TensorBoard's event files.

    Args:
        log: the option's value; None if the option was not given.

    Returns:
        True if it asks for event files.

    Raises:
        UserError: the value is not ``"tensorboard"``.
    """
    if log not in (None, "tensorboard"):
        raise UserError(f"--log: {log!r} is not known; write --log tensorboard")
    return log is not None


class ExecutionOptions(NamedTuple):
    """Options that decide where jobs run: the backend, the cluster's address, and the number of jobs at a time."""

    backend: str
    address: str | None
    jobs: int | None

    @contextmanager
    def workers(self, console: Console) -> Iterator[Workers]:
        """Connect to the workers.

        Args:
            console: prints which cluster is used.

        Yields:
            The workers.

        Raises:
            UserError: the backend is missing, or the cluster cannot be reached.
        """
        from msgd.lab.execution.workers import connect_workers

        with connect_workers(*self) as workers:
            if workers.description:
                console.print(workers.description)
            yield workers

    def worker_path(self, folder: Path) -> Path:
        """The path of a folder for the workers; it is absolute for a cluster, whose working directory differs."""
        return folder if self.backend == "loky" else folder.absolute()
