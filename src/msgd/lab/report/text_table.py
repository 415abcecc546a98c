"""A table for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table

from msgd.lab.text import LEFT


def text_table(heads: Sequence[str], body: Iterable[Sequence[str]], *, title: str | None = None) -> Table:
    """Make a table, with text aligned to the left and numbers to the right.

    Args:
        heads: headings of the columns.
        body: rows of cells, each a string.
        title: title above the table, if any.

    Returns:
        The table, for a console of rich.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    for head in heads:
        table.add_column(head, justify="left" if head in LEFT else "right")
    for row in body:
        table.add_row(*row)
    return table
