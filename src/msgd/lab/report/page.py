"""The report of a training experiment: verdicts, curves, endpoints and their origin in one HTML file."""

from __future__ import annotations

from collections.abc import Sequence

from msgd.lab.experiment_folder.results import Results
from msgd.lab.experiment_folder.scores import LOSS, Score
from msgd.lab.measure.measurements_file import Measurement
from msgd.lab.report.figures import curves, differences, endpoints
from msgd.lab.report.html import Plot, Section, Table, render_page
from msgd.lab.report.noise_figures import noise_plots
from msgd.lab.report.noise_tables import noise_notes, noise_rows, shape_rows
from msgd.lab.report.other_scores import other_tables
from msgd.lab.report.phase_diagram import heat_map, phase_notes, phase_rows, phase_word, phases
from msgd.lab.report.verdict import answers, columns, endpoint_text, notes, rows
from msgd.lab.text import plural

LEGEND = (
    "“Different” means that the paired t-test over seeds has a Holm-adjusted p ≤ 0.05. “Equivalent” means that the 90% "
    "interval of the difference lies within the margin (two one-sided tests at 5%). “Negligible” means both: the "
    "difference is real and lies within the margin. b_eff is the batch size whose SGD noise the law matches."
)


def tables(results: Results) -> list[Table]:
    """The tables of an experiment: one for all methods and those of the other scores, or one for each phase diagram.

    Args:
        results: the experiment's results, with at least one finished run.

    Returns:
        The title, column heads and rows of each table.
    """
    if results.recipe.grid:
        return [(plane.method, *phase_rows(plane, results.score)) for plane in phases(results)]
    return [(None, columns(results), rows(results)), *other_tables(results)]


def answer_sentences(results: Results) -> list[str]:
    """The sentences that answer an experiment's question."""
    return phase_notes(results) if results.recipe.grid else answers(results)


def page(results: Results, measured: Sequence[Measurement] = ()) -> str:
    """Compose the report.

    Args:
        results: the experiment's results, with at least one finished run.
        measured: the measurements of its noise.

    Returns:
        A complete HTML page that loads nothing from elsewhere.
    """
    seeds = len({done.run.seed for done in results.finished_runs})
    counts = [
        plural(len(results.by_method()), "method"),
        plural(seeds, "seed"),
        plural(len(results.finished_runs), "run"),
    ]
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
        setting=f"The results cover {counts[0]}, {counts[1]} and {counts[2]}. {_unit_text(results)}",
        answers=answer_sentences(results),
        sections=sections,
    )


def _unit_text(results: Results) -> str:
    score = results.score
    if score.percent:
        return "Accuracies are in percent, differences in percentage points."
    return f"The methods are compared by the test {score.name}, of which {_better(results)} values are better."


def _better(results: Results) -> str:
    return "lower" if results.score.lower_is_better else "higher"


def _plots(results: Results, seeds: int) -> list[Plot]:
    spread = (
        "Each line is the mean over seeds, and the band is its 95% interval."
        if seeds > 1
        else "Each line is the only seed of a method."
    )
    plots = [
        _curves(results, results.score, "test", spread),
        _curves(results, LOSS, "train", spread),
        Plot(
            "Where each run ended",
            f"Each point is one seed. {endpoint_text(results)}"
            + (" The diamond is the mean over seeds, with its 95% interval." if seeds > 1 else ""),
            endpoints(results),
        ),
    ]
    if results.comparisons and results.comparisons[0].ci_low is not None:
        caption = (
            f"Each method's difference from {results.recipe.reference} is paired by seed. The thin line is its 95% "
            "interval; the thick line is its 90% interval, which decides equivalence. The shaded band is the margin."
        )
        plots.append(Plot("Differences", caption, differences(results)))
    return plots


def _curves(results: Results, score: Score, split: str, caption: str) -> Plot:
    figure, name = curves(results, score, split), f"{'Training' if split == 'train' else 'Test'} {score.name}"
    if figure.layout.yaxis.type == "log":
        caption = f"{caption} The {score.name} axis is logarithmic."
    return Plot(name, caption, figure)


def _phase_plots(results: Results) -> list[Plot]:
    planes, score, reference = phases(results), results.score, results.recipe.reference
    # Where training breaks down, the loss in accuracy is many times any gain. Colours end at the largest gain, so that
    # such cells take the darkest red and the gains stay visible.
    sign = -1 if score.lower_is_better else 1
    shifts = [score.scale * c.difference for plane in planes for c in plane.gains.values()]
    gains = [sign * shift for shift in shifts if sign * shift > 0]
    reach = max([1.0, *gains] if score.percent else gains or [abs(shift) for shift in shifts if shift] or [1.0])
    what = f"{phase_word(score)} {reference}"
    words = f"{reach:.1f} points" if score.percent else f"{reach:.3g}"
    caption = (
        f"{'Gains are in points. ' if score.percent else ''}Blue cells are better than the reference, red cells are "
        f"worse; the colours are darkest from ±{words} on."
    )
    return [
        Plot(
            f"{plane.method}: {what}" if plane.gains else f"{plane.method}: test {score.name}",
            caption if plane.gains else "Accuracies are in percent." if score.percent else "",
            heat_map(plane, score, reach),
        )
        for plane in planes
    ]


def _tuning(results: Results) -> list[Section]:
    if results.tuning is None:
        return []
    means = "mean accuracies" if results.score.percent else f"the mean {results.score.name}"
    means += " on the held-out examples" + (" in percent" if results.score.percent else "")
    sentence = f"The table shows {means}; ← marks the rate that was picked."
    table = (None, *results.tuning.table(results.score, "{} ←"))
    return [Section("How the learning rates were picked", before=[sentence], tables=[table])]


def _noise(results: Results, measured: Sequence[Measurement]) -> list[Section]:
    if not measured:
        return []
    tables = [(None, *table) for table in (noise_rows(measured), shape_rows(measured))]
    plots = [Plot(*plot) for plot in noise_plots(results, measured)]
    return [Section("Measured noise", tables=tables, after=noise_notes(measured), plots=plots, deeper=1)]
