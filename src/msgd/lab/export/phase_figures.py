"""The phase diagram of an experiment for print: a map of each method's gain over learning rate and batch size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from msgd.lab.experiment_folder.results import Results
from msgd.lab.experiment_folder.scores import Score
from msgd.lab.export.drawing import LETTER, POINTS, draw, shortened, title
from msgd.lab.report.phase_diagram import PhasePlane, phase_word, phases

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAN = float("nan")
TALL = 0.55  #: height of the colour bar over the figure's width
WIDE = 0.65  #: width of the map over the figure's width


def phase_figures(results: Results, width: float) -> Iterator[tuple[str, Figure]]:
    """Draw each method's plane.

    Args:
        results: the results of a recipe that has a table ``[grid]``.
        width: in mm.

    Yields:
        The name of each figure, and the figure.
    """
    planes, score = phases(results), results.score
    sign = -1 if score.lower_is_better else 1
    gains = [sign * score.scale * c.difference for plane in planes for c in plane.gains.values()]
    # The colours end at the largest gain: where training breaks down, the loss is many times any gain.
    reach = max([gain for gain in gains if gain > 0] or [abs(gain) for gain in gains if gain] or [1.0])
    for plane in planes:
        yield f"phase-{plane.method}", phase_figure(plane, score, reach, results.recipe.reference, width)


def phase_figure(plane: PhasePlane, score: Score, reach: float, reference: str, width: float) -> Figure:
    """Draw one method's difference from the reference at each learning rate and batch size; or its mean.

    Args:
        plane: the method's plane.
        score: the score that decides.
        reach: the difference, in points or the score's unit, at which the colour scale ends.
        reference: the reference.
        width: in mm.

    Returns:
        The figure. Blue is better than the reference, and red is worse.
    """
    gains = {place: score.scale * c.difference for place, c in plane.gains.items()}
    shown = gains or {place: score.scale * mean for place, (mean, _, _) in plane.means.items()}
    rows = [[shown.get((lr, b), NAN) for lr in plane.lrs] for b in plane.bs]
    colours = ("RdBu" if gains else "Blues") + ("_r" if score.lower_is_better else "")
    form = ("{:+.1f}" if gains else "{:.1f}") if score.percent else ("{:+.2g}" if gains else "{:.3g}")
    unit = (" [points]" if gains else " [%]") if score.percent else ""
    what = f"{phase_word(score)} {reference}{unit}" if gains else f"test {score.title}"

    def paint(axes: Axes, points: float) -> None:
        low, high = (-reach, reach) if gains else (None, None)
        picture = axes.imshow(rows, cmap=colours, aspect="auto", vmin=low, vmax=high)
        # Where the columns are too narrow for numbers, the colours speak alone.
        narrow = max(map(len, map(form.format, shown.values())), default=0) * LETTER > WIDE * points / len(plane.lrs)
        for i, b in enumerate(plane.bs):
            for j, lr in enumerate(plane.lrs):
                number = form.format(shown[lr, b]) if (lr, b) in shown and not narrow else ""
                text = ("×" if narrow else "div.") if (lr, b) in plane.diverged else number
                ink = _ink(picture.to_rgba(np.array([shown[lr, b]]))[0]) if (lr, b) in shown else "black"
                axes.text(j, i, text, ha="center", va="center", color=ink, fontsize=POINTS)
        axes.set_xticks(range(len(plane.lrs)), [f"{lr:g}" for lr in plane.lrs], rotation=90 if narrow else 0)
        axes.set_yticks(range(len(plane.bs)), ["" if b is None else f"{b:g}" for b in plane.bs])
        axes.set_xlabel("learning rate")
        axes.set_ylabel("" if plane.bs == [None] else "b")
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.tick_params(length=0)
        bar = axes.figure.colorbar(picture, ax=axes, extend="both" if gains else "neither")
        bar.set_label(title(f"{shortened(plane.method, TALL * points)}: {what}", TALL * points))
        bar.outline.set_visible(False)

    return draw(paint, width=width, rows=len(plane.bs))


def _ink(rgba: NDArray[np.float64]) -> str:
    """Black on a light ground and white on a dark one."""
    red, green, blue = rgba[:3]
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
