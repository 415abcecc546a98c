"""The report of a least-squares experiment: the curves, the deviations of the simulation, and their origin."""

from __future__ import annotations

import math
from typing import Any

import plotly.graph_objects as go

from msgd.lab.least_squares.results import MethodResult, SimulationResults
from msgd.lab.least_squares.verdict import answers, columns, groups, notes, rows
from msgd.lab.report.figures import COLOURS, layout
from msgd.lab.report.html import Plot, Section, render_page
from msgd.lab.text import plural

SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "triangle-down", "star", "hexagon", "pentagon")
NO_CURVE = COLOURS[-1]


def page(results: SimulationResults) -> str:
    """Compose the report.

    Args:
        results: the experiment's results, with at least one finished method.

    Returns:
        A complete HTML page that loads nothing from elsewhere.
    """
    recipe = results.recipe
    setting = (
        f"The results cover {plural(len(results.methods), 'method')} with {recipe.trajectories} trajectories each, at "
        f"n = {recipe.n}, d = {recipe.d}, η = {recipe.lr:g}"
        + (f", μ = {recipe.momentum:g}" if recipe.momentum else "")
        + "."
    )
    table = (None, columns(results), rows(results))
    return render_page(
        recipe,
        results.environment,
        title=recipe.title,
        setting=setting,
        answers=answers(results),
        sections=[Section(tables=[table], after=notes(results), plots=_plots(results))],
    )


def _plots(results: SimulationResults) -> list[Plot]:
    reference = results.recipe.reference
    plots = [
        Plot(
            "Expected training loss",
            "The lines are exact, one for each pair of α and β; the points are means over the simulated trajectories. "
            "The loss axis is logarithmic, and a method without variance may leave the picture.",
            losses(results),
        )
    ]
    if any(j.method == reference and j.exact for j in results.methods):
        plots.append(
            Plot(
                f"Deviation from {reference}'s curve",
                f"The lines are exact, the points are simulated, and the shaded area is the band of {reference}.",
                deviations(results),
            )
        )
    plots.append(
        Plot(
            "Residuals",
            "Each point is the mean loss minus the method's own exact loss, in standard errors. The dashed lines are "
            f"the band, ±{results.critical:.2f}. The steps of one method are correlated.",
            residuals(results),
        )
    )
    return plots


def _colours(results: SimulationResults) -> dict[str, str]:
    """The colour of each method: one for each exact curve, grey without a curve or once the colours run out."""
    table: dict[str, str] = {}
    for number, members in enumerate(groups(results).values()):
        table |= {j.method: COLOURS[min(number, len(COLOURS) - 1)] for j in members}
    return {j.method: table.get(j.method, NO_CURVE) for j in results.methods}


def _points(
    figure: Any, results: SimulationResults, values: dict[str, list[float | None]], text: str, mode: str = "markers"
) -> None:
    colours = _colours(results)
    for number, j in enumerate(results.methods):
        if j.method in values:
            figure.add_scatter(
                x=results.recipe.recorded,
                y=values[j.method],
                name=j.method,
                mode=mode,
                line={"width": 0.7},
                marker={
                    "color": colours[j.method],
                    "size": 6,
                    "symbol": SYMBOLS[number % len(SYMBOLS)],
                    "opacity": 0.7,
                },
                hovertemplate=f"{j.method}: %{{y:{text}}} at step %{{x}}<extra></extra>",
            )


def _lines(figure: Any, results: SimulationResults, values: dict[str, list[float]]) -> None:
    colours = _colours(results)
    for (alpha, beta), members in groups(results).items():
        figure.add_scatter(
            x=results.recipe.recorded,
            y=values[members[0].method],
            name=f"α = {alpha}, β = {beta}",
            mode="lines",
            line={"color": colours[members[0].method], "width": 2},
            hoverinfo="skip",
        )


def losses(results: SimulationResults) -> Any:
    """Draw the exact curves and the simulated means."""
    figure = go.Figure()
    _lines(figure, results, {j.method: j.exact for j in results.methods if j.exact})
    _points(figure, results, {j.method: j.mean for j in results.methods}, ".4g")
    layout(figure, x="step", y="training loss", height=520)
    figure.update_layout(legend={"font": {"size": 12}})
    # Without a variance, a mean may have any size: it leaves the picture, so that the curves stay visible.
    drawn = [math.log10(v) for j in results.methods for v in j.exact or [] if v > 0]
    if drawn:
        figure.update_yaxes(range=[min(drawn) - 0.2, max(drawn) + 1])
    figure.update_yaxes(type="log", exponentformat="power")
    return figure


def deviations(results: SimulationResults) -> Any:
    """Draw each curve's and each mean's deviation from the reference's exact loss, in percent of that loss."""
    figure, steps = go.Figure(), results.recipe.recorded
    base = next(j for j in results.methods if j.method == results.recipe.reference)
    exact = base.exact or []

    def percent(values: list[float]) -> list[float]:
        return [100 * (value / of - 1) for value, of in zip(values, exact, strict=True)]

    half = [100 * results.critical * (error or 0) / of for error, of in zip(base.error, exact, strict=True)]
    figure.add_scatter(
        x=[*steps, *steps[::-1]],
        y=[*half, *(-value for value in half[::-1])],
        fill="toself",
        fillcolor=_colours(results)[base.method],
        opacity=0.15,
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
    )
    shown = _near(results, base)
    _lines(figure, results, {j.method: percent(j.exact) for j in results.methods if j.exact})
    _points(
        figure,
        results,
        {
            j.method: [None if v is None else 100 * (v / of - 1) for v, of in zip(j.mean, exact, strict=True)]
            for j in results.methods
        },
        "+.2f",
    )
    layout(figure, x="step", y="deviation [%]", height=520)
    reach = 1.15 * max([*half, *(abs(v) for j in shown for v in percent(j.exact or []))])
    figure.update_yaxes(range=[-reach, reach])
    figure.update_layout(legend={"font": {"size": 12}})
    return figure


def _near(results: SimulationResults, base: MethodResult) -> list[MethodResult]:
    """Methods whose noise is close to the reference's; others, such as gradient descent, would stretch the axis."""
    alpha = base.alpha or 0.0
    near = [j for j in results.methods if j.exact and j.alpha is not None and abs(j.alpha - alpha) <= 0.3 * alpha]
    return near or [base]


def residuals(results: SimulationResults) -> Any:
    """Draw z over the steps for every method that has a curve."""
    figure = go.Figure()
    for end in (-results.critical, results.critical):
        figure.add_hline(y=end, line={"color": "#888", "width": 1, "dash": "dash"})
    _points(figure, results, {j.method: j.own.scores for j in results.methods if j.own}, "+.2f", "lines+markers")
    layout(figure, x="step", y="z", height=420)
    reach = 1.3 * results.critical
    largest = [abs(z) for j in results.methods if j.own for z in j.own.scores if z is not None]
    figure.update_yaxes(range=[-max(reach, *largest), max(reach, *largest)])
    return figure
