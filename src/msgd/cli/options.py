"""Options and arguments that several commands share, and how their values are read."""

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


RecipeArgument = Annotated[str, typer.Argument(help="A recipe's name (see msgd recipes) or a TOML file of yours.")]
FolderArgument = Annotated[Path, typer.Argument(help="A folder that msgd run wrote, such as runs/mnist1d.")]

BackendOption = Annotated[
    str, typer.Option(help="Who does the jobs: loky, processes of this machine; dask, a Dask cluster.")
]

AddressOption = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Of the Dask scheduler.", show_default="a cluster on this machine"),
]


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """Parse the values of ``--set``.

    Args:
        pairs: texts such as ``"lr=0.2"``; a value is TOML, or else a string.

    Returns:
        Values by dotted keys.

    Raises:
        UserError: a text has no key or no equals sign.
    """
    from msgd.lab.safe_io.bounded import parse_toml

    table: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UserError(f"--set {pair}: write --set key=value")
        try:
            table[key] = parse_toml(f"value = {value}")["value"]
        except ValueError:
            table[key] = value  # a string without quotes
    return table


def parse_names(text: str) -> list[str]:
    """Split names at commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def parse_rates(text: str) -> list[float]:
    """Parse the value of ``--tune``.

    Args:
        text: such as ``"lr=0.1,0.2"``.

    Returns:
        The learning rates.

    Raises:
        UserError: the text has another form.
    """
    key, _, values = text.partition("=")
    try:
        rates = [float(value) for value in values.split(",")]
    except ValueError:
        rates = []
    if key.strip() != "lr" or not rates:
        raise UserError(f"--tune {text}: write --tune lr=0.1,0.2,0.4")
    return rates


def wants_events(log: str | None) -> bool:
    """Whether ``--log`` asks for TensorBoard's event files.

    Args:
        log: the option's value; None: it was not given.

    Returns:
        Whether it does.

    Raises:
        UserError: it asks for something else.
    """
    if log not in (None, "tensorboard"):
        raise UserError(f"--log: {log!r} is not known; there is tensorboard")
    return log is not None


class ExecutionOptions(NamedTuple):
    """The options that say who does the jobs: backend, address of a cluster, jobs at a time."""

    backend: str
    address: str | None
    jobs: int | None

    @contextmanager
    def workers(self, console: Console) -> Iterator[Workers]:
        """Connect to the workers.

        Args:
            console: where a cluster is named.

        Yields:
            The workers.

        Raises:
            UserError: there are none to be had.
        """
        from msgd.lab.execution.workers import connect_workers

        with connect_workers(*self) as workers:
            if workers.about:
                console.print(workers.about)
            yield workers

    def place(self, folder: Path) -> Path:
        """The path by which workers find a folder: those of a cluster have another working directory."""
        return folder if self.backend == "loky" else folder.absolute()
