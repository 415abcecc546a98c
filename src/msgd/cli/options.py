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
    return [name.strip() for name in text.split(",") if name.strip()]


def parse_rates(text: str) -> list[float]:
    key, equals, values = text.partition("=")
    try:
        if key.strip() != "lr" or not equals:
            raise ValueError
        return [float(value) for value in values.split(",")]
    except ValueError:
        raise UserError(f"--tune {text}: write --tune lr=0.1,0.2,0.4") from None


def wants_events(log: str | None) -> bool:
    if log not in (None, "tensorboard"):
        raise UserError(f"--log: {log!r} is not known; there is tensorboard")
    return log is not None


class ExecutionOptions(NamedTuple):
    """Who is to do the jobs, as the options say."""

    backend: str
    address: str | None
    jobs: int | None

    @contextmanager
    def workers(self, console: Console) -> Iterator[Workers]:
        from msgd.lab.execution.workers import connect_workers

        with connect_workers(*self) as workers:
            if workers.about:
                console.print(workers.about)
            yield workers

    def place(self, folder: Path) -> Path:
        """A folder as the workers of a cluster can name it: their working directory is another one."""
        return folder if self.backend == "loky" else folder.absolute()

    def device(self, name: str) -> str:
        """The device that an option names; the command itself needs none where a cluster has it."""
        if name not in ("auto", "cpu", "cuda"):
            raise UserError(f"--device: {name!r} is none of auto, cpu, cuda")
        if name == "cpu" or (name == "cuda" and self.backend != "loky"):
            return name
        import torch

        if torch.cuda.is_available():
            return "cuda"
        if name == "cuda":
            raise UserError("--device cuda: torch sees no CUDA device; use --device cpu")
        return "cpu"
