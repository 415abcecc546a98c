"""The report: one HTML file that opens offline, with the curves, the endpoints, the verdicts and how they were made."""

from __future__ import annotations

import json
import math
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import tomli_w

from msgd.lab import runs
from msgd.lab.results import FinishedRun, Results
from msgd.lab.statistics import mean_interval
from msgd.lab.verdict import COLUMNS, LEFT, answers, notes, plural, rows

# Okabe and Ito's colours, which colour-blind readers can tell apart; grey for what is beyond them.
COLOURS = ("#000000", "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#999999")
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"

STYLE = """
body { font: 16px/1.5 FONT; color: #222; background: #fff; max-width: 1180px; margin: 2rem auto; padding: 0 1.5rem }
h1 { font-size: 1.6rem; margin-bottom: .3rem } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem }
p { max-width: 50rem; margin: .5rem 0 } .answer { font-size: 1.05rem } .note { color: #555; font-size: .92rem }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .75rem .3rem 0; text-align: right; white-space: nowrap; border-bottom: 1px solid #e4e4e4 }
th { border-bottom: 1px solid #888; font-weight: 600 }
.left { text-align: left } .law { white-space: normal; max-width: 22rem }
.law { font-family: ui-monospace, 'DejaVu Sans Mono', monospace; font-size: .82rem }
.equivalent { color: #00694c; font-weight: 600 } .different { color: #b34700; font-weight: 600 }
.trivial, .inconclusive { color: #555; font-weight: 600 }
details { margin: .6rem 0 } summary { cursor: pointer; font-weight: 600 }
pre { background: #f6f6f4; padding: .8rem 1rem; overflow-x: auto; font-size: .82rem; line-height: 1.4 }
.wide { overflow-x: auto }
""".replace("FONT", FONT)


def write_report(results: Results, out: Path) -> Path:
    """Write ``report.html``.

    Args:
        results: an experiment's, with at least one finished run.
        out: its folder.

    Returns:
        The file.
    """
    path = out / "report.html"
    runs.write_atomically(path, page(results).encode())
    return path


def page(results: Results) -> str:
    """Compose the report.

    Args:
        results: an experiment's, with at least one finished run.

    Returns:
        A complete HTML page that needs nothing else.
    """
    answer = "".join(f"<p class=answer>{escape(said)}</p>" for said in answers(results))
    title = escape(results.recipe.title)
    recipe = tomli_w.dumps(results.recipe.model_dump(exclude_none=True))
    environment = json.dumps(results.environment, indent=2)
    seeds = len({done.run.seed for done in results.finished})
    counts = [plural(len(results.by_method()), "method"), plural(seeds, "seed"), plural(len(results.finished), "run")]
    spread = "Mean over seeds, with its 95% interval" if seeds > 1 else "One seed"
    plots = [
        ("Test accuracy", f"{spread}.", curves(results, "test_accuracy")),
        ("Training loss", f"{spread}; logarithmic.", curves(results, "train_loss")),
        (
            "Where each run ended",
            f"A point per seed: its mean over the last {runs.ENDPOINT} evaluations."
            + (" The bar: the mean, with its 95% interval." if seeds > 1 else ""),
            endpoints(results),
        ),
    ]
    if results.comparisons and results.comparisons[0].ci_low is not None:
        caption = (
            f"From {results.recipe.reference}, paired by seed: the 95% interval and, thick, the 90% interval, which "
            "decides equivalence; shaded: the margin."
        )
        plots.append(("Differences", caption, differences(results)))
    body = "".join(
        f"<h2>{escape(name)}</h2><p class=note>{escape(caption)}</p>{_html(figure, first=number == 0)}"
        for number, (name, caption, figure) in enumerate(plots)
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>{STYLE}</style></head><body>
<h1>{title}</h1>
<p class=note>{", ".join(counts)}.
Accuracies in percent, differences in points.</p>
{answer}
<div class=wide>{_table(results)}</div>
{"".join(f"<p class=note>{escape(note)}</p>" for note in notes(results))}
<p class=note>“Different”: paired t-test over seeds, Holm-adjusted p ≤ 0.05. “Equivalent”: the 90% interval of the
difference lies within the margin (two one-sided tests at 5%). “Trivial”: both. b_eff is the batch size whose noise
the law has.</p>
{body}
<h2>How this was made</h2>
<pre>{escape(str(results.environment.get("command", "")))}</pre>
<details><summary>Recipe</summary><pre>{escape(recipe)}</pre></details>
<details><summary>Environment</summary><pre>{escape(environment)}</pre></details>
</body></html>
"""


def _table(results: Results) -> str:
    head = "".join(f'<th class="{"left" if c in LEFT else ""}">{escape(c)}</th>' for c in COLUMNS)
    body = ""
    for row in rows(results):
        cells = ""
        for column, text in zip(COLUMNS, row, strict=True):
            kind = {"law": "left law", "method": "left", "verdict": f"left {text}"}.get(column, "")
            cells += f'<td class="{kind}">{escape(text)}</td>'
        body += f"<tr>{cells}</tr>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _colours(results: Results) -> dict[str, str]:
    return {method: COLOURS[min(i, len(COLOURS) - 1)] for i, method in enumerate(results.recipe.methods)}


def _layout(figure: Any, *, x: str, y: str, height: int) -> Any:
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
    return figure


def curves(results: Results, metric: str) -> Any:
    """Draw a metric over steps: a line for each method, and a band for its 95% interval over seeds."""
    figure, colours = go.Figure(), _colours(results)
    percent = metric.endswith("accuracy")
    for method, done in results.by_method().items():
        steps, centre, low, high = _band(done, metric)
        if percent:
            centre, low, high = ([min(max(100 * v, 0), 100) for v in values] for values in (centre, low, high))
        else:  # a t-interval may reach below zero, where a logarithm cannot follow
            low = [max(v, 0.2 * c) for v, c in zip(low, centre, strict=True)]
        if len(done) > 1:
            figure.add_scatter(
                x=steps + steps[::-1],
                y=high + low[::-1],
                fill="toself",
                fillcolor=colours[method],
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
            line={"color": colours[method], "width": 2},
            legendgroup=method,
            hovertemplate=method + ": %{y:.4g} at step %{x}<extra></extra>",
        )
    label = metric.replace("_", " ").replace("train", "training") + (" [%]" if percent else "")
    _layout(figure, x="step", y=label, height=430)
    if not percent:
        drawn = [v for trace in figure.data if trace.showlegend is not False for v in trace.y]
        decades = math.log10(max(drawn) / min(drawn)) if drawn and min(drawn) > 0 else 1
        figure.update_yaxes(type="log", exponentformat="power", dtick=1 if decades >= 1 else "D2")
    return figure


def _band(done: list[FinishedRun], metric: str) -> tuple[list[int], list[float], list[float], list[float]]:
    steps, bands = [], []
    for records in zip(*(run.records for run in done), strict=True):
        values = [record[metric] for record in records]
        if None not in values:  # a diverged loss has no mean
            steps.append(records[0]["step"])
            bands.append(mean_interval(values))
    centre, low, high = ([band[i] for band in bands] for i in range(3))
    return steps, centre, low, high


def endpoints(results: Results) -> Any:
    """Draw a point for each run's endpoint, beside the method's mean and its 95% interval."""
    figure, colours = go.Figure(), _colours(results)
    for place, (method, by_seed) in enumerate(results.scores().items()):
        values = [100 * value for value in by_seed.values()]
        spots = [place - 0.12 + 0.2 * (i / max(1, len(values) - 1) - 0.5) for i in range(len(values))]
        figure.add_scatter(
            x=spots,
            y=values,
            mode="markers",
            marker={"color": colours[method], "size": 7, "opacity": 0.65},
            text=[f"seed {seed}" for seed in by_seed],
            hovertemplate=method + ", %{text}: %{y:.2f}<extra></extra>",
            showlegend=False,
        )
        mean, _, high = mean_interval(values)
        figure.add_scatter(
            x=[place + 0.18],
            y=[mean],
            error_y={"type": "data", "array": [high - mean], "thickness": 2, "width": 6},
            mode="markers",
            marker={"color": colours[method], "size": 11, "symbol": "diamond"},
            hovertemplate=method + ": mean %{y:.2f}<extra></extra>",
            showlegend=False,
        )
    _layout(figure, x="", y="test accuracy [%]", height=400)
    names = list(results.scores())
    figure.update_xaxes(tickvals=list(range(len(names))), ticktext=names, range=[-0.6, len(names) - 0.4])
    return figure


def differences(results: Results) -> Any:
    """Draw each method's difference from the reference with its 95% interval, over the margin."""
    figure, colours = go.Figure(), _colours(results)
    shown = [c for c in results.comparisons if c.ci_low is not None and c.ci_high is not None]
    margin = 100 * results.recipe.margin
    reach = 1.1 * max([margin, *(abs(100 * end) for c in shown for end in (c.ci_low or 0, c.ci_high or 0))])
    figure.add_vrect(x0=-margin, x1=margin, fillcolor="#009E73", opacity=0.08, line_width=0)
    figure.add_vline(x=0, line={"color": "#888", "width": 1})
    for c, high, width in [(c, c.ci_high, 2) for c in shown] + [(c, c.ci90_high, 5) for c in shown]:
        figure.add_scatter(
            x=[100 * c.difference],
            y=[c.method],
            error_x={
                "type": "data",
                "array": [100 * ((high or 0) - c.difference)],
                "thickness": width,
                "width": 6 - width,
            },
            mode="markers",
            marker={"color": colours[c.method], "size": 11},
            hovertemplate=f"{c.method}: " + "%{x:+.2f} points<extra></extra>",
            showlegend=False,
        )
    _layout(
        figure,
        x=f"difference in test accuracy from {results.recipe.reference} [points]",
        y="",
        height=90 + 48 * len(shown),
    )
    figure.update_xaxes(range=[-reach, reach])
    figure.update_yaxes(range=[len(shown) - 0.4, -0.6], showgrid=False)
    return figure


def _html(figure: Any, *, first: bool) -> str:
    return str(
        figure.to_html(
            full_html=False,
            include_plotlyjs="inline" if first else False,
            config={"displayModeBar": False, "responsive": True},
        )
    )
