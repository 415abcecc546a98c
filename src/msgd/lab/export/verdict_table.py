"""The verdicts of an experiment as LaTeX tables, whose caption says what the numbers are."""

from __future__ import annotations

from collections.abc import Sequence

from msgd.lab.experiment_folder.metrics import ENDPOINT
from msgd.lab.experiment_folder.results import Results
from msgd.lab.export.latex import HEAD, table
from msgd.lab.report.html import Table
from msgd.lab.report.means import mean_text
from msgd.lab.report.phase_diagram import phase_notes, phase_rows, phases
from msgd.lab.report.verdict import b_eff
from msgd.lab.text import plural


def latex_verdicts(results: Results) -> str:
    """Write the verdicts by the score that decides.

    Args:
        results: the experiment's results.

    Returns:
        A table, or for a phase diagram one for each method. The numbers are those of the terminal.
    """
    if results.recipe.grid:
        note = phase_notes(results)[0]
        return HEAD + "\n".join(
            table(
                *phase_rows(plane, results.score),
                caption=f"{plane.method}. {note} {_setting(results)} {_endpoint(results)}",
                label=f"phase-{plane.method.replace('_', '-').replace('+', '-')}",
            )
            for plane in phases(results)
        )
    return HEAD + table(_heads(results), _rows(results), caption=_caption(results), label="verdicts")


def latex_tables(tables: Sequence[Table], title: str) -> str:
    """Write tables of another kind of experiment.

    Args:
        tables: title, headings and rows of each.
        title: of the experiment, for the captions.

    Returns:
        The tables.
    """
    parts = [
        table(heads, body, caption=f"{title}: {name}." if name else f"{title}.", label=f"table-{number}")
        for number, (name, heads, body) in enumerate(tables, start=1)
    ]
    return HEAD + "\n".join(parts)


def _heads(results: Results) -> tuple[str, ...]:
    difference = "difference [points]" if results.score.percent else "difference"
    return ("method", "b_eff", *_varying(results), f"test {results.score.title}", difference, "95% interval", "verdict")


def _varying(results: Results) -> list[str]:
    """The settings that differ between methods, and thus take a column."""
    runs = [done.run for done in results.finished_runs]
    return [key for key in ("lr", "steps") if len({getattr(run, key) for run in runs}) > 1]


def _rows(results: Results) -> list[tuple[str, ...]]:
    score, ends, diverged = results.score, results.endpoints(), results.diverged_runs()
    compared = {c.method: c for c in results.comparisons}
    rows = []
    for method, done in results.by_method().items():
        run, c = done[0].run, compared.get(method)
        settings = [f"{getattr(run, key):.4g}" if key == "lr" else str(run.steps) for key in _varying(results)]
        if c is not None:
            ends95 = (c.ci_low, c.ci_high)
            judged = (score.difference(c.difference, *ends95), score.interval(*ends95), c.verdict)
        elif method in diverged:
            judged = ("", "", f"{len(diverged[method])} of {len(done)} diverged")
        else:
            judged = ("", "", "the reference" if method == results.recipe.reference else "no pair with the reference")
        rows.append((method, b_eff(run), *settings, mean_text(score, ends.get(method, {})), *judged))
    return rows


def _caption(results: Results) -> str:
    score, reference = results.score, results.recipe.reference
    sentences = [
        f"Test {score.name} at the end of training, as the mean over seeds ± half its 95% t-interval.",
        _setting(results),
        _endpoint(results),
        f"Differences from {reference} are paired by seed, with 95% t-intervals. “Different” means p ≤ 0.05 in the "
        f"paired t-test, adjusted by Holm over the {plural(len(results.comparisons), 'comparison')}.",
    ]
    if score.margin is not None:
        sentences.append(
            f"“Equivalent” means that the 90% interval lies within {score.within} (two one-sided tests at 5%), and "
            "“negligible” means both."
        )
    if score.lower_is_better:
        sentences.append(f"Lower values of {score.name} are better.")
    return " ".join(sentences)


def _setting(results: Results) -> str:
    """What was trained, in words that hold on every machine."""
    runs = [done.run for done in results.finished_runs]
    counts = sorted({len(done) for done in results.by_method().values()})
    seeds = plural(counts[0], "seed") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    steps = sorted({run.steps for run in runs})
    length = plural(steps[0], "step") if len(steps) == 1 else f"{steps[0]} to {steps[-1]} steps"
    rates = {f"{run.lr:.4g}" for run in runs}
    rate = f", learning rate {rates.pop()}" if len(rates) == 1 else ""
    run = runs[0]
    return f"{run.data} with {plural(run.n, 'training example')}, network {run.model}; {seeds}, {length}{rate}."


def _endpoint(results: Results) -> str:
    least = min(min(ENDPOINT, len(done.run.evaluations) - 1) for done in results.finished_runs)
    evaluations = "evaluation" if least == 1 else f"{least} evaluations"
    return f"The {results.score.name} of a run is that of its last {evaluations}{', on average' if least > 1 else ''}."
