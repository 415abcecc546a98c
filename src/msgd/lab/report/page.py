"""The report: one HTML file that opens offline, with the curves, the endpoints, the verdicts and how they were made."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from msgd.lab.experiment_folder.results import Results
from msgd.lab.measure.measurements_file import Measurement, current_measurements, read_measurements
from msgd.lab.report.figures import curves, differences, endpoints, heat_map
from msgd.lab.report.html import STYLE, encode_page, figures_html, html_table, plot_html, provenance_html
from msgd.lab.report.noise_figures import noise_plots
from msgd.lab.report.noise_tables import noise_notes, noise_rows, shape_rows
from msgd.lab.report.phase_diagram import phase_notes, phase_rows, phases
from msgd.lab.report.verdict import answers, columns, endpoint_text, notes, rows
from msgd.lab.safe_io.writing import write_atomically
from msgd.lab.text import plural

LEGEND = """<p class=note>“Different”: paired t-test over seeds, Holm-adjusted p ≤ 0.05. “Equivalent”: the 90% interval
of the difference lies within the margin (two one-sided tests at 5%). “Trivial”: both. b_eff is the batch size whose
noise the law has.</p>"""


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
    measured = read_measurements(out)
    current = current_measurements(measured, [done.run for done in results.finished]) if measured else []
    write_atomically(path, encode_page(page(results, current)))
    return path


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
{provenance_html(results.recipe, results.environment)}
</body></html>
"""


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
    plots = "".join(plot_html("h3", *plot, first=False) for plot in noise_plots(results, measured))
    return f"<h2>The noise, measured</h2>{tables}{said}{plots}"


def _table(results: Results) -> str:
    heads = columns(results)
    return html_table(heads, rows(results))
