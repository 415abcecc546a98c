"""The progress of a command's jobs: a bar on a terminal, otherwise one line for each finished job."""

from __future__ import annotations

from importlib.util import find_spec
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from msgd.lab.text import plural


class JobProgress:
    """Shows the progress of a command's jobs.

    Args:
        console: the console to print to.
        jobs: number of jobs.
        noun: a noun for a job, in the singular.
        total: total work of all jobs; None if each job is one unit of work.
        unit: name of a unit of work, to show the work per second; None to show no rate.
    """

    def __init__(
        self, console: Console, jobs: int, noun: str, *, total: float | None = None, unit: str | None = None
    ) -> None:
        self._console, self._jobs, self._noun, self._ended = console, jobs, noun, 0
        columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%")]
        rate = [_Rate(unit)] if unit else []
        self._bar = Progress(
            *columns,
            *rate,
            TimeRemainingColumn(),
            console=console,
            speed_estimate_period=60,
            disable=not (console.is_terminal or _draws_widgets(console)),
        )
        self._task = self._bar.add_task(self._description(), total=jobs if total is None else total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, work: float = 1.0) -> None:
        """Add an amount of finished work."""
        self._bar.advance(self._task, work)

    def move_to(self, work: float) -> None:
        """Set the amount of finished work."""
        self._bar.update(self._task, completed=work)

    def job_ended(self, line: str) -> None:
        """Count a finished job.

        Args:
            line: a line about its outcome, printed if there is no bar.
        """
        self._ended += 1
        self._bar.update(self._task, description=self._description())
        if self._bar.disable:
            self._console.print(f"[{self._ended}/{self._jobs}] {line}")

    def _description(self) -> str:
        return f"{self._ended} of {plural(self._jobs, self._noun)}"


def _draws_widgets(console: Console) -> bool:
    """Whether the console is a notebook that can update what it has drawn."""
    return console.is_jupyter and find_spec("ipywidgets") is not None


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} {self._unit}/s" if task.speed else "")
