"""The report's figures: curves, endpoints and differences."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from msgd.lab.experiment_folder.results import Results
from msgd.lab.experiment_folder.scores import Score
from msgd.lab.report.means import drawn_band, is_logarithmic, mean_curve
from msgd.statistics.paired_tests import mean_interval

# Okabe and Ito's colours, which colour-blind readers can tell apart; all further methods are grey.
COLOURS = ("#000000", "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#999999")
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"


def colours(results: Results) -> dict[str, str]:
    """The colour of each method."""
    return {method: COLOURS[min(i, len(COLOURS) - 1)] for i, method in enumerate(results.by_method())}


def layout(figure: Any, *, x: str, y: str, height: int) -> None:
    """Apply the report's layout to a figure.

    Args:
        figure: the figure, changed in place.
        x: title of the x axis.
        y: title of the y axis.
        height: height in pixels.
    """
    figure.update_layout(
        template="simple_white",
        height=height,
        margin={"l": 70, "r": 20, "t": 10, "b": 50},
        font={"family": FONT, "size": 14},
        hovermode="closest",
        legend={"orientation": "v"},
    )
    figure.update_xaxes(title=x)
    figure.update_yaxes(title=y, gridcolor="#ececec", showgrid=True)


def curves(results: Results, score: Score, split: str) -> Any:
    """Draw a score over steps: a line for each method, and a band for its 95% interval over seeds.

    Args:
        results: the experiment's results.
        score: the score.
        split: "test" or "train".

    Returns:
        The figure.
    """
    figure, colour_of = go.Figure(), colours(results)
    bands = {method: mean_curve(done, f"{split}_{score.name}") for method, done in results.by_method().items()}
    drawn = [centre for band in bands.values() for _, centre, _, _ in band]
    logarithmic = is_logarithmic(score, drawn)
    for method, done in results.by_method().items():
        steps, centre, low, high = drawn_band(score, bands[method], logarithmic=logarithmic)
        if len(done) > 1:
            figure.add_scatter(
                x=steps + steps[::-1],
                y=high + low[::-1],
                fill="toself",
                fillcolor=colour_of[method],
                opacity=0.12,
                line={"width": 0},
                mode="lines",
                hoverinfo="skip",
                showlegend=False,
                legendgroup=method,
            )
        figure.add_scatter(
            x=steps,
            y=centre,
            name=method,
            mode="lines",
            line={"color": colour_of[method], "width": 2},
            legendgroup=method,
            hovertemplate=method + ": %{y:.4g} at step %{x}<extra></extra>",
        )
    layout(figure, x="step", y=f"{'training' if split == 'train' else split} {score.title}", height=430)
    if logarithmic:
        figure.update_yaxes(type="log", exponentformat="power", dtick=1 if max(drawn) >= 10 * min(drawn) else "D2")
    return figure


def endpoints(results: Results) -> Any:
    """Draw a point for each run's endpoint, beside the method's mean and its 95% interval."""
    figure, colour_of = go.Figure(), colours(results)
    score = results.score
    form = ".2f" if score.percent else ".4g"
    for place, (method, by_seed) in enumerate(results.endpoints().items()):
        values = [score.scale * value for value in by_seed.values()]
        spots = [place - 0.12 + 0.2 * (i / max(1, len(values) - 1) - 0.5) for i in range(len(values))]
        figure.add_scatter(
            x=spots,
            y=values,
            mode="markers",
            marker={"color": colour_of[method], "size": 7, "opacity": 0.65},
            text=[f"seed {seed}" for seed in by_seed],
            hovertemplate=method + ", %{text}: %{y:" + form + "}<extra></extra>",
            showlegend=False,
        )
        mean, _, high = mean_interval(values)
        figure.add_scatter(
            x=[place + 0.18],
            y=[mean],
            error_y={"type": "data", "array": [high - mean], "thickness": 2, "width": 6},
            mode="markers",
            marker={"color": colour_of[method], "size": 11, "symbol": "diamond"},
            hovertemplate=method + ": mean %{y:" + form + "}<extra></extra>",
            showlegend=False,
        )
    layout(figure, x="", y=f"test {score.title}", height=400)
    names = list(results.endpoints())
    figure.update_xaxes(tickvals=list(range(len(names))), ticktext=names, range=[-0.6, len(names) - 0.4])
    return figure


def differences(results: Results) -> Any:
    """Draw each method's difference from the reference with its 95% interval, over the margin."""
    figure, colour_of = go.Figure(), colours(results)
    shown = [c for c in results.comparisons if c.ci_low is not None and c.ci_high is not None]
    score = results.score
    margin = score.scale * (score.margin or 0.0)
    ends = (abs(score.scale * end) for c in shown for end in (c.ci_low or 0, c.ci_high or 0))
    reach = 1.1 * max([margin, *ends]) or 1.0
    figure.add_vrect(x0=-margin, x1=margin, fillcolor="#009E73", opacity=0.08, line_width=0)
    figure.add_vline(x=0, line={"color": "#888", "width": 1})
    for c, high, width in [(c, c.ci_high, 2) for c in shown] + [(c, c.ci90_high, 5) for c in shown]:
        figure.add_scatter(
            x=[score.scale * c.difference],
            y=[c.method],
            error_x={
                "type": "data",
                "array": [score.scale * ((high or 0) - c.difference)],
                "thickness": width,
                "width": 6 - width,
            },
            mode="markers",
            marker={"color": colour_of[c.method], "size": 11},
            hovertemplate=f"{c.method}: " + "%{x:" + ("+.2f} points" if score.percent else "+.4g}") + "<extra></extra>",
            showlegend=False,
        )
    layout(
        figure,
        x=f"difference in test {score.name} from {results.recipe.reference}" + (" [points]" if score.percent else ""),
        y="",
        height=90 + 48 * len(shown),
    )
    figure.update_xaxes(range=[-reach, reach])
    figure.update_yaxes(range=[len(shown) - 0.4, -0.6], showgrid=False)
    return figure
