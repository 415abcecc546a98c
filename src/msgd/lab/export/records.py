"""The rows of an experiment's exported tables: its runs, its curves and its verdicts, in full precision."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.results import Results
from msgd.lab.experiment_folder.scores import Score
from msgd.statistics.paired_tests import Comparison, mean_interval

Rows = list[dict[str, Any]]  #: column → value; None, or a column that a row lacks, is an empty cell


def decided_by(results: Results, name: str | None) -> Results:
    """The same results, with another score as the one that decides.

    Args:
        results: the experiment's results.
        name: name of the score; None keeps the one that decides.

    Returns:
        The results.

    Raises:
        UserError: there is no such score.
    """
    if name is None:
        return results
    found = [score for score in results.scores if score.name == name]
    if not found:
        known = ", ".join(score.name for score in results.scores)
        raise UserError(f"--score {name}: there is no such score; take one of {known}")
    others = tuple(score for score in results.scores if score.name != name)
    return replace(results, scores=(found[0], *others), comparisons=results.comparisons_of(name))


def run_rows(results: Results) -> Rows:
    """A row for each finished run: its settings, its cost, and each metric at its endpoint.

    Args:
        results: the experiment's results.

    Returns:
        The rows. ``seconds`` is training time; ``diverged`` is the number of steps after which a loss was not finite,
        and such a run has no metrics.
    """
    return [
        {
            "method": done.run.method,
            "seed": done.run.seed,
            "lr": done.run.lr,
            "steps": done.run.steps,
            "b_eff": done.run.effective_batch_size,
            "seconds": done.seconds,
            "diverged": done.diverged,
            **(done.final or {}),
        }
        for done in results.finished_runs
    ]


def curve_rows(results: Results) -> Rows:
    """A row for each evaluation of each finished run: method, seed, step, and the metrics."""
    return [
        {"method": done.run.method, "seed": done.run.seed, **record}
        for done in results.finished_runs
        for record in done.records
    ]


def verdict_rows(results: Results) -> Rows:
    """A row for each method by each score: its mean, and its comparison with the reference.

    Args:
        results: the experiment's results.

    Returns:
        The rows. Means, differences and margins are in the score's unit, an accuracy in [0, 1]; ``mean_low`` and
        ``mean_high`` are the ends of the mean's 95% interval. The verdict of the reference is "reference"; of a method
        with a diverged run "diverged"; of another without a pair "no pair".
    """
    return [row for score in results.scores for row in _rows_of(results, score)]


def _rows_of(results: Results, score: Score) -> Rows:
    ends, diverged = results.endpoints(score.name), results.diverged_runs()
    compared = {c.method: c for c in results.comparisons_of(score.name)}
    references = {c.reference for c in compared.values()} | {results.recipe.reference}
    rows = []
    for method in results.by_method():
        values = list(ends.get(method, {}).values())
        mean, low, high = mean_interval(values) if values else (None, None, None)
        if len(values) < 2:  # a single value has no interval
            low = high = None
        why = "diverged" if method in diverged else "reference" if method in references else "no pair"
        about = {"score": score.name, "lower_is_better": score.lower_is_better, "method": method, "seeds": len(values)}
        means = {"mean": mean, "mean_low": low, "mean_high": high}
        rows.append(about | means | _comparison(compared.get(method), why))
    return rows


def _comparison(c: Comparison | None, why: str) -> dict[str, Any]:
    if c is None:
        return dict.fromkeys(COMPARISON) | {"verdict": why}
    values = asdict(c)
    return {key: values["seeds" if key == "pairs" else key] for key in COMPARISON}


#: columns from `Comparison`; its ``seeds`` is the number of pairs
COMPARISON = (
    "reference",
    "pairs",
    "difference",
    "ci_low",
    "ci_high",
    "ci90_low",
    "ci90_high",
    "margin",
    "p_unadjusted",
    "p_difference",
    "p_equivalence",
    "verdict",
    "seeds_needed",
)
