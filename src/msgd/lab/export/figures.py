"""The figures of an experiment for print: curves, endpoints and differences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgd.lab.experiment_folder.results import Results
from msgd.lab.experiment_folder.scores import LOSS, Score
from msgd.lab.export.drawing import draw, literal, shortened, title
from msgd.lab.export.phase_figures import phase_figures
from msgd.lab.report.figures import COLOURS, colours
from msgd.lab.report.means import drawn_band, is_logarithmic, mean_curve
from msgd.statistics.paired_tests import mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DASHES = ("-", "--", ":", "-.")  #: tell apart the methods for which no colour is left
MARGIN = "#009E73"  #: colour of the margin
LONG, TALL = 0.7, 0.45  #: room for the title of a horizontal and of a vertical axis, over the figure's width
NAMES = 0.4  #: room for the names of the methods beside an axis, over the figure's width


def figures(results: Results, width: float) -> Iterator[tuple[str, Figure]]:
    """Draw the figures, by the score that decides; to be used within `msgd.lab.export.drawing.style`.

    Args:
        results: the experiment's results.
        width: in mm.

    Yields:
        The name of each figure, and the figure. A phase diagram has one for each method.
    """
    if results.recipe.grid:
        yield from phase_figures(results, width)
        return
    yield "curves", curves(results, results.score, "test", width)
    yield "train-loss", curves(results, LOSS, "train", width)
    if results.endpoints():
        yield "endpoints", endpoints(results, width)
    if any(c.ci_low is not None for c in results.comparisons):
        yield "differences", differences(results, width)


def curves(results: Results, score: Score, split: str, width: float) -> Figure:
    """Draw a score over steps: a line for each method, and a band for its 95% interval over seeds.

    Args:
        results: the experiment's results.
        score: the score.
        split: "test" or "train".
        width: in mm.

    Returns:
        The figure.
    """
    bands = {method: mean_curve(done, f"{split}_{score.name}") for method, done in results.by_method().items()}
    logarithmic = is_logarithmic(score, [centre for band in bands.values() for _, centre, _, _ in band])
    colour_of, shade = colours(results), min(0.12, 1 / len(bands))  # many bands upon each other stay pale

    def paint(axes: Axes, points: float) -> None:
        for place, (method, band) in enumerate(bands.items()):
            steps, centre, low, high = drawn_band(score, band, logarithmic=logarithmic)
            dash = DASHES[max(0, place - len(COLOURS) + 1) % len(DASHES)]
            axes.plot(steps, centre, dash, color=colour_of[method], label=literal(method), gid=f"mean of {method}")
            axes.fill_between(steps, low, high, color=colour_of[method], alpha=shade, linewidth=0, zorder=1)
        axes.margins(x=0.01)
        axes.set_xlabel("step")
        axes.set_ylabel(title(f"{'training' if split == 'train' else split} {score.title}", TALL * points))
        if logarithmic:
            _log_axis(axes)

    return draw(paint, width=width, entries=list(bands))


def _log_axis(axes: Axes) -> None:
    """Label a logarithmic axis with plain numbers, which are read more easily than powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < 10 * low:  # powers of ten and their simple multiples would be one or two
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 200 * low else (1.0,), numticks=8))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def endpoints(results: Results, width: float) -> Figure:
    """Draw a point for each run's endpoint, and beside them the method's mean with its 95% interval.

    Args:
        results: the experiment's results.
        width: in mm.

    Returns:
        The figure, with a row for each method.
    """
    score, ends, colour_of = results.score, results.endpoints(), colours(results)

    def paint(axes: Axes, points: float) -> None:
        for place, (method, by_seed) in enumerate(ends.items()):
            values = [score.scale * value for value in by_seed.values()]
            axes.plot(
                values, [place - 0.15] * len(values), "o", color=colour_of[method], markersize=3.5, alpha=0.6, mew=0
            )
            mean, low, high = mean_interval(values)
            axes.plot([low, high], [place + 0.18] * 2, "-", color=colour_of[method])
            axes.plot([mean], [place + 0.18], "D", color=colour_of[method], markersize=4)
        _rows(axes, list(ends), points)
        axes.set_xlabel(title(f"test {score.title}", LONG * points))

    return draw(paint, width=width, rows=len(ends))


def differences(results: Results, width: float) -> Figure:
    """Draw each method's difference from the reference, with its 95% (thin) and 90% interval, over the margin.

    Args:
        results: the experiment's results.
        width: in mm.

    Returns:
        The figure, with a row for each comparison that has an interval.
    """
    score, colour_of = results.score, colours(results)
    shown = [c for c in results.comparisons if c.ci_low is not None]

    def paint(axes: Axes, points: float) -> None:
        if score.margin is not None:
            margin = score.scale * score.margin
            axes.axvspan(-margin, margin, color=MARGIN, alpha=0.12, linewidth=0)
        axes.axvline(0, color="#888888", linewidth=0.6)
        for place, c in enumerate(shown):
            for low, high, thickness in ((c.ci_low, c.ci_high, 1.0), (c.ci90_low, c.ci90_high, 2.6)):
                ends = [score.scale * (low or 0.0), score.scale * (high or 0.0)]
                axes.plot(ends, [place] * 2, "-", color=colour_of[c.method], linewidth=thickness)
            axes.plot([score.scale * c.difference], [place], "o", color=colour_of[c.method], markersize=5)
        _rows(axes, [c.method for c in shown], points)
        unit = " [points]" if score.percent else ""
        what = f"difference in test {score.name} from {results.recipe.reference}{unit}"
        axes.set_xlabel(title(what, LONG * points))

    return draw(paint, width=width, rows=len(shown))


def _rows(axes: Axes, names: list[str], points: float) -> None:
    """Write a name before each row, the first one on top."""
    from matplotlib.ticker import MaxNLocator

    axes.set_yticks(range(len(names)), [literal(shortened(name, NAMES * points)) for name in names])
    axes.xaxis.set_major_locator(MaxNLocator(5))  # more numbers such as −0.10 would touch
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
