"""A figure for print: its size, its fonts and its files. Matplotlib draws it, since Plotly's files need a browser."""

from __future__ import annotations

import io
import os
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RATIO = 0.75  #: height of a figure over its width
WIDTH = 85.0  #: mm, one column of a journal
POINTS = 7.0  #: size of the smallest letters, which journals ask for
INCH = 25.4  #: mm
LEGEND_LINE = 1.5 * POINTS  #: height of a legend's line in points
LETTER = 0.62 * POINTS  #: typical width of a letter in points
HANDLE = 26.0  #: width of the line before a legend's entry, with the gaps around it, in points

#: matplotlib types its keys one by one
STYLE: dict[Any, object] = {
    "font.size": POINTS + 1,
    "axes.labelsize": POINTS + 1,
    "xtick.labelsize": POINTS,
    "ytick.labelsize": POINTS,
    "legend.fontsize": POINTS,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "lines.linewidth": 1.2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "msgd",  # the same names in every file
    "pdf.fonttype": 42,  # whole TrueType fonts, which journals ask for, and not Type 3
    "savefig.dpi": 300,
}
#: no dates and no versions, so that the same results give the same bytes
METADATA: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}

Draw = Callable[["Axes", float], None]  #: draws into the axes of a figure whose width is given in points


def draw(painter: Draw, *, width: float, entries: Sequence[str] = (), rows: int = 0) -> Figure:
    """Make a figure with one pair of axes; to be called within `style`.

    Args:
        painter: draws into the axes; it receives the figure's width in points.
        width: in mm.
        entries: of the legend, which stands above the axes, where it covers no data.
        rows: number of lines of text beside the vertical axis, for which the figure grows where they need it.

    Returns:
        The figure, of the ratio `RATIO` unless the legend has more than two lines or there are many rows.
    """
    from matplotlib.figure import Figure

    points = width / INCH * 72
    columns = legend_columns(entries, points)
    lines = -(-len(entries) // columns)
    height = max(RATIO * points, (rows + 4) * LEGEND_LINE) + max(0, lines - 2) * LEGEND_LINE
    figure = Figure(figsize=(points / 72, height / 72), layout="constrained")
    axes = figure.subplots()
    painter(axes, points)
    if entries:
        handles, _ = axes.get_legend_handles_labels()
        names = [literal(shortened(name, points)) for name in entries]
        figure.legend(handles, names, loc="outside upper center", ncols=columns, handlelength=1.6, columnspacing=1.0)
    return figure


def legend_columns(entries: Sequence[str], points: float) -> int:
    """The number of columns of a legend that fits a width in points."""
    longest = max((len(shortened(entry, points)) for entry in entries), default=1)
    return max(1, min(len(entries), int(points // (longest * LETTER + HANDLE))))


def shortened(text: str, points: float) -> str:
    """A text that fits a width in points beside a legend's line: a longer one keeps its start and its end."""
    most = int((points - HANDLE) / LETTER)
    return text if len(text) <= most else f"{text[: most // 2]}…{text[len(text) - (most - 1) // 2 :]}"


def literal(text: str) -> str:
    """A text that matplotlib shows as it is: between two dollar signs it would read a formula."""
    return text.replace("$", r"\$")


def title(text: str, points: float) -> str:
    """The title of an axis of a length in points, in several lines if it is long, as matplotlib shows it."""
    return literal(textwrap.fill(text, max(8, int(points * (POINTS / (POINTS + 1)) / LETTER))))


def content(figure: Figure, form: str) -> bytes:
    """The bytes of a figure's file; to be called within `style`.

    Args:
        figure: the figure.
        form: "svg", "pdf" or "png".

    Returns:
        The bytes, which are the same at every call.
    """
    file = io.BytesIO()
    with warnings.catch_warnings():
        # A name may hold characters that the font lacks; they are shown as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(file, format=form, metadata=METADATA[form])
    return file.getvalue()


@contextmanager
def style() -> Iterator[None]:
    """Apply the style of the figures, whatever the user's matplotlibrc says, and undo it at the end.

    Yields:
        Nothing.
    """
    # MPLBACKEND may name a backend that is missing here, with which matplotlib refuses to start. None is needed:
    # a figure of its object API chooses the canvas by the format of the file.
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield
