"""What the command line says of a finished experiment of any kind, and writes of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from msgd.lab.experiment_folder.description import kind_in
from msgd.lab.experiment_folder.results import Results, gather_results, write_results
from msgd.lab.least_squares import report as least_squares_report
from msgd.lab.least_squares import verdict as least_squares
from msgd.lab.least_squares.results import SimulationResults, gather_simulations
from msgd.lab.report.page import write_report
from msgd.lab.report.phase_diagram import phase_notes, phase_rows, phases
from msgd.lab.report.verdict import LEFT, answers, columns, notes, rows

#: title, heads and rows
Shown = tuple[str | None, Sequence[str], Sequence[Sequence[str]]]


def gather_any(out: Path) -> Results | SimulationResults:
    """Read the results in a folder, of whichever kind of experiment.

    Args:
        out: folder of the experiment.

    Returns:
        The results.

    Raises:
        UserError: there are none, or they are damaged.
    """
    return gather_simulations(out) if kind_in(out) == "least-squares" else gather_results(out)


def conclude(out: Path, console: Console) -> None:
    """Write results.json and report.html of a folder, and print the verdicts.

    Args:
        out: folder of the experiment.
        console: where to.

    Raises:
        UserError: there are no results, or they are damaged.
    """
    gathered = gather_any(out)
    write_results(gathered, out)
    if isinstance(gathered, Results):
        page = write_report(gathered, out)
    else:
        page = least_squares_report.write_report(gathered, out)
    print_verdicts(gathered, console)
    console.print(f"\nReport: {page}")


def print_verdicts(gathered: Results | SimulationResults, console: Console) -> None:
    """Print tables and sentences.

    Args:
        gathered: from `gather`.
        console: where to.
    """
    tables, sentences = _spelled_out(gathered)
    for title, heads, body in tables:
        print_table(console, heads, body, title=title)
    console.print()
    for sentence in sentences:
        console.print(sentence)


def print_table(
    console: Console, heads: Sequence[str], body: Sequence[Sequence[str]], *, title: str | None = None
) -> None:
    """Print a table, text to the left and numbers to the right.

    Args:
        console: where to.
        heads: of the columns.
        body: rows of text.
        title: above it.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    for head in heads:
        table.add_column(head, justify="left" if head in LEFT else "right")
    for row in body:
        table.add_row(*row)
    console.print()
    console.print(table)


def _spelled_out(gathered: Results | SimulationResults) -> tuple[list[Shown], list[str]]:
    if not isinstance(gathered, Results):
        table = (None, least_squares.columns(gathered), least_squares.rows(gathered))
        return [table], [*least_squares.answers(gathered), *least_squares.notes(gathered)]
    if gathered.recipe.grid:
        planes = [(phase.method, *phase_rows(phase)) for phase in phases(gathered)]
        return [*planes], [*phase_notes(gathered), *notes(gathered)]
    return [(None, columns(gathered), rows(gathered))], [*answers(gathered), *notes(gathered)]


def make_console() -> Console:
    from rich.console import Console

    # No markup: a recipe's title may hold brackets.
    terminal = sys.stdout.isatty()  # elsewhere lines are not folded: they are searched, and may hold a long path
    return Console(highlight=False, markup=False, width=None if terminal else 140, soft_wrap=not terminal)
