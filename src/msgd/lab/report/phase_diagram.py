"""A phase diagram: each method's gain over the reference by learning rate and batch size. `heat_map` is its picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from msgd.lab.experiment_folder.results import Results
from msgd.lab.experiment_folder.scores import Score
from msgd.lab.plan.grid import cells
from msgd.lab.report.figures import layout
from msgd.lab.report.verdict import endpoint_text
from msgd.statistics.paired_tests import Comparison, mean_interval


@dataclass(frozen=True)
class PhasePlane:
    """One method's results on the plane of learning rate and batch size.

    Args:
        method: its name in the recipe.
        lrs: learning rates, the columns.
        bs: batch sizes, the rows; None for a method whose law has no batch size.
        gains: (lr, b) → the comparison with the reference; empty for the reference itself.
        means: (lr, b) → the mean score and the ends of its 95% interval, in the score's unit.
        diverged: (lr, b) → the number of diverged runs and of all runs; such a cell has neither gain nor mean.
    """

    method: str
    lrs: list[float]
    bs: list[float | None]
    gains: dict[tuple[float, float | None], Comparison]
    means: dict[tuple[float, float | None], tuple[float, float, float]]
    diverged: dict[tuple[float, float | None], tuple[int, int]]


def phases(results: Results) -> list[PhasePlane]:
    """Arrange the results of a recipe that has a table ``[grid]``.

    Args:
        results: the experiment's results.

    Returns:
        A plane for each method with a finished run, in the recipe's order.
    """
    compared = {c.method: c for c in results.comparisons}
    ends, diverged, finished = results.endpoints(), results.diverged_runs(), results.by_method()
    planes, table = [], cells(results.recipe)
    for method in results.recipe.methods:
        mine = {name: cell for name, cell in table.items() if cell.method == method and name in finished}
        if mine:
            planes.append(
                PhasePlane(
                    method,
                    sorted({cell.lr for cell in mine.values()}),
                    sorted({cell.b for cell in mine.values()}, key=lambda b: b or 0),
                    {(cell.lr, cell.b): compared[name] for name, cell in mine.items() if name in compared},
                    {
                        (cell.lr, cell.b): mean_interval(list(ends[name].values()))
                        for name, cell in mine.items()
                        if name in ends
                    },
                    {
                        (cell.lr, cell.b): (len(diverged[name]), len(finished[name]))
                        for name, cell in mine.items()
                        if name in diverged
                    },
                )
            )
    return planes


def phase_rows(phase: PhasePlane, score: Score) -> tuple[list[str], list[list[str]]]:
    """Format one method's plane as a table.

    Args:
        phase: the plane.
        score: the score that decides.

    Returns:
        The column heads, and a row for each batch size: differences ± half their 95% interval, with * where the
        Holm-adjusted p ≤ 0.05; for the reference, means.
    """
    heads = ["b", *(f"lr {lr:g}" for lr in phase.lrs)]
    body = []
    for b in phase.bs:
        row = ["" if b is None else f"{b:g}"]
        for lr in phase.lrs:
            gain, mean = phase.gains.get((lr, b)), phase.means.get((lr, b))
            if gain is not None:
                row.append(_gain_text(gain, score) + ("*" if _is_significant(gain) else ""))
            elif mean is not None:
                centre, low, high = mean
                row.append(score.mean(centre, (high - low) / 2))
            elif (lr, b) in phase.diverged:
                row.append("{} of {} diverged".format(*phase.diverged[lr, b]))
            else:
                row.append("–")
        body.append(row)
    return heads, body


def _gain_text(c: Comparison, score: Score) -> str:
    shown = score.difference(c.difference, c.ci_low, c.ci_high)
    if c.ci_low is None or c.ci_high is None:
        return shown
    half_width = (c.ci_high - c.ci_low) / 2
    return f"{shown} ± {score.mean(half_width, half_width).partition(' ')[0]}"


def _is_significant(c: Comparison) -> bool:
    return c.p_difference is not None and c.p_difference <= 0.05


def phase_word(score: Score) -> str:
    """What a positive number in a cell means: a gain, or a difference where lower values are better."""
    return "difference from" if score.lower_is_better else "gain over"


def phase_notes(results: Results) -> list[str]:
    """Explain the numbers of a phase diagram."""
    reference, score = results.recipe.reference, results.score
    unit = f"points of test {score.name}" if score.percent else f"test {score.name}"
    lower = f" Lower {score.name} is better, so a negative number is a gain." if score.lower_is_better else ""
    return [
        f"Each cell shows the {phase_word(score)} {reference} at the same learning rate, in {unit} ± half the 95% "
        "interval, paired by seed; * marks a p-value, Holm-adjusted over all cells, of at most 0.05. For the "
        f"reference, and for methods that have no cell of it to compare with, the cells show the {score.name}"
        + (" in percent." if score.percent else ".")
        + lower,
        endpoint_text(results),
    ]


def heat_map(phase: PhasePlane, score: Score, reach: float) -> Any:
    """Draw a method's difference from the reference at each learning rate and batch size; for the reference, its mean.

    Args:
        phase: the method's plane.
        score: the score that decides.
        reach: the difference, in points or the score's unit, at which the colour scale ends, the same for all methods.

    Returns:
        The figure. Blue is better than the reference, and red is worse.
    """
    gains = {place: score.scale * c.difference for place, c in phase.gains.items()}
    shown = gains or {place: score.scale * mean for place, (mean, _, _) in phase.means.items()}
    rows = [[shown.get((lr, b)) for lr in phase.lrs] for b in phase.bs]
    form = ("{:+.1f}" if gains else "{:.1f}") if score.percent else ("{:+.2g}" if gains else "{:.3g}")
    scale = ("RdBu" if gains else "Blues") + ("_r" if score.lower_is_better else "")

    def label(place: tuple[float, float | None]) -> str:
        return "diverged" if place in phase.diverged else form.format(shown[place]) if place in shown else ""

    figure = go.Figure(
        go.Heatmap(
            z=rows,
            x=[f"{lr:g}" for lr in phase.lrs],
            y=["" if b is None else f"{b:g}" for b in phase.bs],
            text=[[label((lr, b)) for lr in phase.lrs] for b in phase.bs],
            texttemplate="%{text}",
            textfont={"size": 15},
            colorscale=scale,
            **({"zmin": -reach, "zmax": reach} if gains else {}),
            colorbar={"title": ("points" if gains else "%") if score.percent else score.name},
            hovertemplate="lr %{x}, b %{y}: %{text}<extra></extra>",
        )
    )
    layout(figure, x="learning rate", y="b" if phase.bs != [None] else "", height=130 + 55 * len(phase.bs))
    figure.update_xaxes(type="category")
    figure.update_yaxes(type="category", showgrid=False, autorange="reversed")  # in the order of the table
    return figure
