"""What a command prints: the console, tables, and the verdicts of an experiment."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from msgd.lab.kinds import Experiment


def make_console() -> Console:
    """A console on standard output; where that is no terminal, lines are not folded: programs search them."""
    terminal = sys.stdout.isatty()
    # No markup: a recipe's title may hold brackets.
    return Console(highlight=False, markup=False, width=None if terminal else 140, soft_wrap=not terminal)


def conclude(out: Path, console: Console) -> None:
    """Write results.json and report.html of a folder, and print the verdicts.

    Args:
        out: folder of the experiment.
        console: where to.

    Raises:
        UserError: there are no results, or they are damaged.
    """
    from msgd.lab.experiment_folder.results import write_results
    from msgd.lab.kinds import experiment_in
    from msgd.lab.report.html import write_page

    experiment = experiment_in(out)
    results = experiment.gather()
    write_results(results, out)
    report = write_page(experiment.page(results), out)
    print_verdicts(experiment, results, console)
    console.print(f"\nReport: {report}")


def print_verdicts(experiment: Experiment, results: object, console: Console) -> None:
    """Print an experiment's tables and sentences.

    Args:
        experiment: of either kind.
        results: what it gathered.
        console: where to.
    """
    for title, heads, body in experiment.tables(results):
        print_table(console, heads, body, title=title)
    print_sentences(console, experiment.sentences(results))


def print_sentences(console: Console, sentences: Iterable[str]) -> None:
    """Print sentences, a paragraph each, below an empty line.

    Args:
        console: where to.
        sentences: the paragraphs.
    """
    console.print()
    for sentence in sentences:
        console.print(sentence)


def print_table(
    console: Console, heads: Sequence[str], body: Iterable[Sequence[str]], *, title: str | None = None
) -> None:
    """Print a table, text to the left and numbers to the right.

    Args:
        console: where to.
        heads: of the columns.
        body: rows of text.
        title: above it.
    """
    from msgd.lab.text import LEFT

    table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    for head in heads:
        table.add_column(head, justify="left" if head in LEFT else "right")
    for row in body:
        table.add_row(*row)
    console.print()
    console.print(table)
