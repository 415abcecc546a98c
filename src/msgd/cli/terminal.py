"""The output of a command: the console, tables, and the verdicts of an experiment."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from msgd.lab.kinds import Experiment


def make_console() -> Console:
    """Make a console on standard output; it wraps lines only on a terminal, so that programs can search the output."""
    terminal = sys.stdout.isatty()
    # Markup is off, because the title of a recipe may contain brackets.
    return Console(highlight=False, markup=False, width=None if terminal else 140, soft_wrap=not terminal)


def conclude(out: Path, console: Console) -> None:
    """Write results.json and report.html of an experiment, and print its verdicts.

    Args:
        out: folder of the experiment.
        console: the console to print to.

    Raises:
        UserError: there are no results, or a file is damaged.
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
        experiment: training or least squares.
        results: from the experiment's `gather`.
        console: the console to print to.
    """
    for title, heads, body in experiment.tables(results):
        print_table(console, heads, body, title=title)
    print_sentences(console, experiment.sentences(results))


def print_sentences(console: Console, sentences: Iterable[str]) -> None:
    """Print an empty line, then each sentence as its own paragraph.

    Args:
        console: the console to print to.
        sentences: the paragraphs.
    """
    console.print()
    for sentence in sentences:
        console.print(sentence)


def print_table(
    console: Console, heads: Sequence[str], body: Iterable[Sequence[str]], *, title: str | None = None
) -> None:
    """Print a table, with text aligned to the left and numbers to the right.

    Args:
        console: the console to print to.
        heads: headings of the columns.
        body: rows of cells, each a string.
        title: title printed above the table, if any.
    """
    from msgd.lab.report.text_table import text_table

    console.print()
    console.print(text_table(heads, body, title=title))
