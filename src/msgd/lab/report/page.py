"""The report: one HTML file that opens offline, with the curves, the endpoints, the verdicts and how they were made."""

from __future__ import annotations

from collections.abc import Sequence

from msgd.lab.experiment_folder.results import Results
from msgd.lab.measure.measurements_file import Measurement
from msgd.lab.report.figures import curves, differences, endpoints, heat_map
from msgd.lab.report.html import Plot, Section, Table, render_page
from msgd.lab.report.noise_figures import noise_plots
from msgd.lab.report.noise_tables import noise_notes, noise_rows, shape_rows
from msgd.lab.report.phase_diagram import phase_notes, phase_rows, phases
from msgd.lab.report.verdict import answers, columns, endpoint_text, notes, rows
from msgd.lab.text import plural

LEGEND = (
    "“Different”: paired t-test over seeds, Holm-adjusted p ≤ 0.05. “Equivalent”: the 90% interval of the difference "
    "lies within the margin (two one-sided tests at 5%). “Negligible”: both, a difference that is real and within the "
    "margin. b_eff is the batch size whose noise the law has."
)


def tables(results: Results) -> list[Table]:
    """The tables of an experiment: one of the methods, or one for each plane of a phase diagram.

    Args:
        results: an experiment's, with at least one finished run.

    Returns:
        Title, heads and rows of each.
    """
    if results.recipe.grid:
        return [(plane.method, *phase_rows(plane)) for plane in phases(results)]
    return [(None, columns(results), rows(results))]


def answers_of(results: Results) -> list[str]:
    """The sentences that answer an experiment's question."""
    return phase_notes(results) if results.recipe.grid else answers(results)


def page(results: Results, measured: Sequence[Measurement] = ()) -> str:
    """Compose the report.

    Args:
        results: an experiment's, with at least one finished run.
        measured: what was measured of its noise.

    Returns:
        A complete HTML page that needs nothing else.
    """
    seeds = len({done.run.seed for done in results.finished})
    counts = [plural(len(results.by_method()), "method"), plural(seeds, "seed"), plural(len(results.finished), "run")]
    plots = _phase_plots(results) if results.recipe.grid else _plots(results, seeds)
    legend = [] if results.recipe.grid else [LEGEND]
    sections = [
        Section(tables=tables(results), after=[*notes(results), *legend]),
        *_tuning(results),
        Section(plots=plots),
        *_noise(results, measured),
    ]
    return render_page(
        results.recipe,
        results.environment,
        title=results.recipe.title,
        setting=f"{', '.join(counts)}. Accuracies in percent, differences in points.",
        answers=answers_of(results),
        sections=sections,
    )


def _plots(results: Results, seeds: int) -> list[Plot]:
    spread = "Mean over seeds, with its 95% interval" if seeds > 1 else "One seed"
    plots = [
        Plot("Test accuracy", f"{spread}.", curves(results, "test_accuracy")),
        Plot("Training loss", f"{spread}; logarithmic.", curves(results, "train_loss")),
        Plot(
            "Where each run ended",
            f"A point per seed. {endpoint_text(results)}"
            + (" The bar: the mean, with its 95% interval." if seeds > 1 else ""),
            endpoints(results),
        ),
    ]
    if results.comparisons and results.comparisons[0].ci_low is not None:
        caption = (
            f"From {results.recipe.reference}, paired by seed: the 95% interval and, thick, the 90% interval, which "
            "decides equivalence; shaded: the margin."
        )
        plots.append(Plot("Differences", caption, differences(results)))
    return plots


def _phase_plots(results: Results) -> list[Plot]:
    planes = phases(results)
    # Where training breaks down the loss is many times any gain: it takes the darkest red, and the gains stay visible.
    reach = max([1.0, *(100 * c.difference for plane in planes for c in plane.gains.values())])
    reference = results.recipe.reference
    return [
        Plot(
            f"{plane.method}: gain over {reference}" if plane.gains else f"{plane.method}: test accuracy",
            f"Points; blue: better than the reference, red: worse; darkest from ±{reach:.1f} on."
            if plane.gains
            else "Percent.",
            heat_map(plane, reach),
        )
        for plane in planes
    ]


def _tuning(results: Results) -> list[Section]:
    if results.tuning is None:
        return []
    sentence = "Mean accuracy on the held-out examples in percent; ←: picked."
    table = (None, *results.tuning.table("{} ←"))
    return [Section("How the learning rates were picked", before=[sentence], tables=[table])]


def _noise(results: Results, measured: Sequence[Measurement]) -> list[Section]:
    if not measured:
        return []
    tables = [(None, *table) for table in (noise_rows(measured), shape_rows(measured))]
    plots = [Plot(*plot) for plot in noise_plots(results, measured)]
    return [Section("The noise, measured", tables=tables, after=noise_notes(measured), plots=plots, deeper=1)]
