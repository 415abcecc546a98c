"""The report: one HTML file that opens offline, with the curves, the endpoints, the verdicts and how they were made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel

from msgd.lab import measurements, runs
from msgd.lab.figures import FONT, curves, differences, endpoints, heat_map
from msgd.lab.measurements import Measurement
from msgd.lab.noise_page import noise_plots
from msgd.lab.noise_tables import noise_notes, noise_rows, shape_rows
from msgd.lab.phase import phase_notes, phase_rows, phases
from msgd.lab.results import Results
from msgd.lab.verdict import LEFT, answers, columns, endpoint_text, notes, plural, rows

KINDS = {"law": "left law", "method": "left", "verdict": "left"}  #: CSS classes of the columns of text
LEGEND = """<p class=note>“Different”: paired t-test over seeds, Holm-adjusted p ≤ 0.05. “Equivalent”: the 90% interval
of the difference lies within the margin (two one-sided tests at 5%). “Trivial”: both. b_eff is the batch size whose
noise the law has.</p>"""

STYLE = """
body { font: 16px/1.5 FONT; color: #222; background: #fff; max-width: 1180px; margin: 2rem auto; padding: 0 1.5rem }
h1 { font-size: 1.6rem; margin-bottom: .3rem } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem }
p { max-width: 50rem; margin: .5rem 0 } .answer { font-size: 1.05rem } .note { color: #555; font-size: .92rem }
table { border-collapse: collapse; margin: .6rem 0; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .75rem .3rem 0; text-align: right; white-space: nowrap; border-bottom: 1px solid #e4e4e4 }
th { border-bottom: 1px solid #888; font-weight: 600 }
.left { text-align: left } .law { white-space: normal; max-width: 22rem }
.law { font-family: ui-monospace, 'DejaVu Sans Mono', monospace; font-size: .82rem }
.equivalent { color: #00694c; font-weight: 600 } .different { color: #b34700; font-weight: 600 }
.on { color: #00694c; font-weight: 600 } .off { color: #b34700; font-weight: 600 }
.trivial, .inconclusive { color: #555; font-weight: 600 } .diverged { color: #a00000; font-weight: 600 }
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

    Raises:
        UserError: ``measurements.json`` is there and damaged.
    """
    path = out / "report.html"
    measured = measurements.read(out)
    current = measurements.current(measured, [done.run for done in results.finished]) if measured else []
    runs.write_atomically(path, encoded(page(results, current)))
    return path


def encoded(html: str) -> bytes:
    """A page as it is written; a command may hold bytes that are no text, and UTF-8 cannot have them."""
    return html.encode("utf-8", errors="backslashreplace")


def page(results: Results, measured: Sequence[Measurement] = ()) -> str:
    """Compose the report.

    Args:
        results: an experiment's, with at least one finished run.
        measured: what was measured of its noise.

    Returns:
        A complete HTML page that needs nothing else.
    """
    answer = "".join(f"<p class=answer>{escape(said)}</p>" for said in answers(results))
    title = escape(results.recipe.title)
    seeds = len({done.run.seed for done in results.finished})
    counts = [plural(len(results.by_method()), "method"), plural(seeds, "seed"), plural(len(results.finished), "run")]
    spread = "Mean over seeds, with its 95% interval" if seeds > 1 else "One seed"
    plots = _phase_plots(results) if results.recipe.grid else _plots(results, spread)
    body = figures_html(plots)
    if results.recipe.grid:
        answer = "".join(f"<p class=answer>{escape(said)}</p>" for said in phase_notes(results))
        table = "".join(f"<h2>{escape(p.method)}</h2>{html_table(*phase_rows(p))}" for p in phases(results))
        legend = ""
    else:
        table, legend = _table(results), LEGEND
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>{STYLE}</style></head><body>
<h1>{title}</h1>
<p class=note>{", ".join(counts)}.
Accuracies in percent, differences in points.</p>
{answer}
<div class=wide>{table}</div>
{"".join(f"<p class=note>{escape(note)}</p>" for note in notes(results))}
{legend}
{_tuning(results)}
{body}
{_noise(results, measured)}
{made(results.recipe, results.environment)}
</body></html>
"""


def made(recipe: BaseModel, environment: dict[str, Any]) -> str:
    """Say in HTML how an experiment was made: command, recipe, environment."""
    return f"""<h2>How this was made</h2>
<pre>{escape(str(environment.get("command", "")))}</pre>
<details><summary>Recipe</summary><pre>{escape(tomli_w.dumps(recipe.model_dump(exclude_none=True)))}</pre></details>
<details><summary>Environment</summary><pre>{escape(json.dumps(environment, indent=2))}</pre></details>"""


def _plots(results: Results, spread: str) -> list[tuple[str, str, Any]]:
    several = len({done.run.seed for done in results.finished}) > 1
    plots = [
        ("Test accuracy", f"{spread}.", curves(results, "test_accuracy")),
        ("Training loss", f"{spread}; logarithmic.", curves(results, "train_loss")),
        (
            "Where each run ended",
            f"A point per seed. {endpoint_text(results)}"
            + (" The bar: the mean, with its 95% interval." if several else ""),
            endpoints(results),
        ),
    ]
    if results.comparisons and results.comparisons[0].ci_low is not None:
        caption = (
            f"From {results.recipe.reference}, paired by seed: the 95% interval and, thick, the 90% interval, which "
            "decides equivalence; shaded: the margin."
        )
        plots.append(("Differences", caption, differences(results)))
    return plots


def _phase_plots(results: Results) -> list[tuple[str, str, Any]]:
    planes = phases(results)
    # Where training breaks down the loss is many times any gain: it takes the darkest red, and the gains stay visible.
    reach = max([1.0, *(100 * c.difference for plane in planes for c in plane.gains.values())])
    reference = results.recipe.reference
    return [
        (
            f"{plane.method}: gain over {reference}" if plane.gains else f"{plane.method}: test accuracy",
            f"Points; blue: better than the reference, red: worse; darkest from ±{reach:.1f} on."
            if plane.gains
            else "Percent.",
            heat_map(plane, reach),
        )
        for plane in planes
    ]


def _tuning(results: Results) -> str:
    if results.tuning is None:
        return ""
    return (
        "<h2>How the learning rates were picked</h2><p class=note>Mean accuracy on the held-out examples in percent; "
        f"←: picked.</p><div class=wide>{html_table(*results.tuning.table('{} ←'))}</div>"
    )


def _noise(results: Results, measured: Sequence[Measurement]) -> str:
    if not measured:
        return ""
    tables = "".join(
        f"<div class=wide>{html_table(*table)}</div>" for table in (noise_rows(measured), shape_rows(measured))
    )
    said = "".join(f"<p class=note>{escape(note)}</p>" for note in noise_notes(measured))
    plots = "".join(_plot("h3", *plot, first=False) for plot in noise_plots(results, measured))
    return f"<h2>The noise, measured</h2>{tables}{said}{plots}"


def _plot(head: str, name: str, caption: str, figure: Any, *, first: bool) -> str:
    return f"<{head}>{escape(name)}</{head}><p class=note>{escape(caption)}</p>{_html(figure, first=first)}"


def _table(results: Results) -> str:
    heads = columns(results)
    return html_table(heads, rows(results))


def html_table(heads: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """Compose a table.

    Args:
        heads: of the columns.
        body: rows of text.

    Returns:
        HTML, every text escaped.
    """
    head = "".join(f'<th class="{"left" if c in LEFT else ""}">{escape(c)}</th>' for c in heads)
    lines = ""
    for row in body:
        cells = ""
        for column, text in zip(heads, row, strict=True):
            kind = KINDS.get(column, "") + (f" {escape(text)}" if column == "verdict" else "")
            cells += f'<td class="{kind}">{escape(text)}</td>'
        lines += f"<tr>{cells}</tr>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def figures_html(plots: Sequence[tuple[str, str, Any]]) -> str:
    """Compose the report's figures.

    Args:
        plots: heading, caption and figure of each.

    Returns:
        HTML; the first figure brings the script that all need.
    """
    return "".join(_plot("h2", *plot, first=number == 0) for number, plot in enumerate(plots))


def _html(figure: Any, *, first: bool) -> str:
    return str(
        figure.to_html(
            full_html=False,
            include_plotlyjs="inline" if first else False,
            config={"displayModeBar": False, "responsive": True},
        )
    )
