"""The verdict in words and rows, for the terminal and the report alike."""

from __future__ import annotations

import math

from msgd.lab.experiment_folder.metrics import ENDPOINT
from msgd.lab.experiment_folder.results import FinishedRun, Results
from msgd.lab.experiment_folder.tuning import Tuning
from msgd.lab.plan.run import Run
from msgd.lab.text import law_text, plural
from msgd.statistics.paired_tests import Comparison, mean_interval

MEASURED = ("test accuracy", "difference", "95% interval", "p differ", "p equiv", "verdict")
MOST_NAMED = 5  #: runs of one method that a note names


def columns(results: Results) -> tuple[str, ...]:
    """Heads of the verdict table; learning rate and steps are among them where the methods' differ."""
    done = [finished.run for finished in results.finished]
    extra = [
        head for head, values in (("lr", {r.lr for r in done}), ("steps", {r.steps for r in done})) if len(values) > 1
    ]
    return ("method", "law", "b_eff", *extra, *MEASURED)


#: what the methods have in common, by the recipe's `match`
MATCHED = {
    "steps": "The methods are matched by steps, unless the table shows others; a step costs what its law computes.",
    "epochs": "The methods are matched by epochs: each visits as many examples as the reference in its steps.",
    "examples": "The methods are matched by examples computed: each trains until it has cost as much as the reference.",
}


def rows(results: Results) -> list[tuple[str, ...]]:
    """Spell out the verdict table.

    Args:
        results: an experiment's.

    Returns:
        A row of texts for each method, in the order of `columns`; accuracies in percent, differences in points.
    """
    compared = {c.method: c for c in results.comparisons}
    scores, diverged, heads = results.scores(), results.diverged(), columns(results)
    table = []
    for method, done in results.by_method().items():
        run = done[0].run
        values = list(scores.get(method, {}).values())
        accuracy = "–"
        if values:
            mean, low, high = mean_interval(values)
            accuracy = f"{100 * mean:.2f}" + (f" ± {50 * (high - low):.2f}" if len(values) > 1 else "")
        extra = {"lr": f"{run.lr:.4g}", "steps": str(run.steps)}
        cells = _cells(compared.get(method), method, results)
        if method in diverged:
            cells = (*cells[:-1], f"{len(diverged[method])} of {len(done)} diverged")
        table.append(
            (
                method,
                method_text(run),
                b_eff(run),
                *(extra[c] for c in heads if c in extra),
                accuracy,
                *cells,
            )
        )
    return table


def _cells(c: Comparison | None, method: str, results: Results) -> tuple[str, ...]:
    if c is None:
        return ("", "", "", "", "the reference" if method == results.recipe.reference else "no pair with the reference")
    interval = "–" if c.ci_low is None or c.ci_high is None else f"{100 * c.ci_low:+.2f} … {100 * c.ci_high:+.2f}"
    return (f"{100 * c.difference:+.2f}", interval, _p(c.p_difference), _p(c.p_equivalence), c.verdict)


def _p(p: float | None) -> str:
    if p is None:
        return "–"
    return "<0.0001" if p < 1e-4 else f"{p:.4f}"


def method_text(run: Run) -> str:
    """A run's law, and what it adds in parameter space or has in the noise's place."""
    return " + ".join(law_text(part) for part in (run.law, run.noise, run.penalty) if part is not None)


def b_eff(run: Run) -> str:
    """The batch size whose noise the run's law has; a dash where the noise is not the law's alone."""
    if run.noise is not None or run.penalty is not None:
        return "–"
    moments = run.law.moments(run.n)
    if math.isinf(moments.alpha):
        return "none"
    value = moments.effective_batch_size(run.n)
    return "∞" if math.isinf(value) else f"{value:.2f}"


def answers(results: Results) -> list[str]:
    """Say what came out.

    Args:
        results: an experiment's.

    Returns:
        A sentence for each verdict that occurs.
    """
    recipe, points = results.recipe, 100 * results.recipe.margin
    reference = recipe.reference
    said = []
    groups: dict[str, list[Comparison]] = {}
    for c in results.comparisons:
        groups.setdefault(c.verdict, []).append(c)
    for verdict, start in (
        ("different", f"Different from {reference}: "),
        ("equivalent", f"Equivalent to {reference} within ±{points:g} points: "),
        ("negligible", f"Different from {reference}, yet within ±{points:g} points: "),
        ("inconclusive", "Inconclusive: "),
    ):
        if verdict in groups:
            said.append(start + ", ".join(_named(c) for c in groups[verdict]) + ".")
    if reference not in results.by_method():
        said.append(f"Nothing is compared: no run of the reference {reference} is finished.")
    elif reference in results.diverged():
        said.append(f"Nothing is compared: the reference {reference} diverged.")
    return said


def notes(results: Results) -> list[str]:
    """Say what the answers rest on.

    Args:
        results: an experiment's.

    Returns:
        Sentences on the null row, diverged and missing runs, and what the comparison is conditional on.
    """
    recipe, points = results.recipe, 100 * results.recipe.margin
    said = [
        f"{c.method} is {recipe.reference} with another noise stream: its difference of {100 * c.difference:+.2f} "
        "points is what chance does"
        + (
            f", and chance was unkind (p = {c.p_unadjusted:.1g} unadjusted): no method's difference from "
            f"{recipe.reference} means more than this one."
            if c.verdict in ("different", "negligible") and c.p_unadjusted is not None
            else "."
        )
        for c in results.comparisons
        if is_null(results, c.method)
    ]
    diverged = results.diverged()
    if recipe.grid and diverged:
        runs_of = sum(map(len, diverged.values()))
        said.append(f"{plural(runs_of, 'run')} diverged, in {plural(len(diverged), 'cell')}: those have no accuracy.")
    else:
        said += [_diverged(method, done, len(results.by_method()[method])) for method, done in diverged.items()]
    if results.missing:
        said.append(f"{plural(results.missing, 'run')} not finished, and not in these numbers.")
    if results.others:
        said.append(
            f"{plural(results.others, 'finished run')} of other methods or seeds in the folder, not shown here."
        )
    if not results.recipe.grid:  # a phase diagram claims no equivalence, and shows its rates
        said.append(
            f"{endpoint_text(results)} Equivalent: the 90% interval of the difference, narrower than the 95% interval "
            f"shown, lies within ±{points:g} points."
        )
        said.append(_conditional(results))
        if results.recipe.match != "steps" or len({done.run.steps for done in results.finished}) > 1:
            said.append(MATCHED[results.recipe.match])
    if results.recipe.vary != ["init", "noise"]:
        said.append(f"The seeds vary {' and '.join(results.recipe.vary)}, and nothing else.")
    return said


def _diverged(method: str, done: list[FinishedRun], among: int) -> str:
    steps = [f"seed {each.run.seed} after {plural(each.diverged or 0, 'step')}" for each in done[:MOST_NAMED]]
    more = f" and {plural(len(done) - MOST_NAMED, 'run')} more" if len(done) > MOST_NAMED else ""
    why = ": without these runs it would look better than it is" if len(done) < among else ""
    return (
        f"{method} diverged, its loss no longer finite: {', '.join(steps)}{more}. "
        f"It has no accuracy and no verdict{why}."
    )


def endpoint_text(results: Results) -> str:
    """Say what a run's accuracy is the mean of, and warn where that reaches back to the start."""
    counts = {min(ENDPOINT, len(done.run.evaluations) - 1) for done in results.finished}
    if counts == {ENDPOINT}:
        return f"Accuracy: mean of a run's last {ENDPOINT} evaluations."
    return (
        f"Accuracy: mean of all {min(counts)} evaluations after the start: too few to leave the early ones out; "
        "set a smaller eval_every."
    )


def _tuned(tuning: Tuning) -> str:
    edge = tuning.at_edge()
    return (
        f"Each method has the learning rate that was best on {tuning.held_out} examples held out of the training set "
        f"(mean of {plural(tuning.seeds, 'seed')}; the test set had no part in it): "
        + ", ".join(f"{method} {lr:g}" for method, lr in tuning.chosen.items())
        + "."
        + (f" At the edge of what was tried, so perhaps not yet its best: {', '.join(edge)}." if edge else "")
    )


def _named(c: Comparison) -> str:
    if c.verdict == "inconclusive":
        if c.seeds < 2:
            return f"{c.method} (one seed has no spread; use more)"
        return f"{c.method} (" + (f"about {c.seeds_needed} seeds would do)" if c.seeds_needed else "too noisy)")
    return f"{c.method} ({100 * c.difference:+.2f})"


def is_null(results: Results, method: str) -> bool:
    """Whether a method is the reference again: the same law and settings under another name."""
    by_method = results.by_method()
    if method == results.recipe.reference or not {method, results.recipe.reference} <= set(by_method):
        return False
    mine, theirs = (by_method[m][0].run.identity() for m in (method, results.recipe.reference))
    return mine | {"method": "", "seed": 0} == theirs | {"method": "", "seed": 0}


def _conditional(results: Results) -> str:
    if results.tuning:
        return _tuned(results.tuning)
    rates = {f"{done.run.lr:g}" for done in results.finished}
    if len(rates) > 1:
        return "The methods have the learning rates that the table shows: it compares noise and rate at once."
    text = f"All methods share the learning rate {rates.pop()}: this compares kinds of noise, not tuned optimizers."
    if "gd" in results.by_method():
        text += (
            " At another rate gd can do better: --tune lr=A,B,… and another --out pick each method's own on held-out"
            " examples; do so before calling one of them better."
        )
    return text
