"""The verdicts of an experiment as table rows and sentences, for the terminal and the report."""

from __future__ import annotations

import math

from msgd.lab.experiment_folder.metrics import ENDPOINT
from msgd.lab.experiment_folder.results import FinishedRun, Results
from msgd.lab.experiment_folder.scores import Score
from msgd.lab.experiment_folder.tuning import Tuning
from msgd.lab.plan.run import Run
from msgd.lab.recipes.own import RecordedLaw
from msgd.lab.report.means import mean_text
from msgd.lab.report.other_scores import other_notes
from msgd.lab.text import law_text, plural
from msgd.statistics.paired_tests import Comparison

VERDICT_COLUMNS = ("difference", "95% interval", "p differ", "p equiv", "verdict")
MAX_LISTED = 5  #: the largest number of diverged runs that a note lists for one method


def columns(results: Results) -> tuple[str, ...]:
    """Column heads of the verdict table, with the learning rate and the steps where they differ between methods."""
    done = [finished.run for finished in results.finished_runs]
    extra = [
        head for head, values in (("lr", {r.lr for r in done}), ("steps", {r.steps for r in done})) if len(values) > 1
    ]
    return ("method", "law", "b_eff", *extra, f"test {results.score.name}", *VERDICT_COLUMNS)


#: a sentence on what all methods have in common, for each value of the recipe's `match`
MATCH_SENTENCES = {
    "steps": "The methods are matched by steps, unless the table shows others; the cost of a step depends on its law.",
    "epochs": "The methods are matched by epochs: each visits as many examples as the reference does.",
    "examples": "The methods are matched by examples computed: each trains until it has cost as much as the reference.",
}


def rows(results: Results) -> list[tuple[str, ...]]:
    """Format the rows of the verdict table.

    Args:
        results: the experiment's results.

    Returns:
        A row of texts for each method, in the order of `columns`; accuracies in percent, their differences in
        points.
    """
    compared = {c.method: c for c in results.comparisons}
    ends, diverged, heads = results.endpoints(), results.diverged_runs(), columns(results)
    alone, table = len({_extras(done[0].run) for done in results.by_method().values()}) == 1, []
    for method, done in results.by_method().items():
        run = done[0].run
        extra = {"lr": f"{run.lr:.4g}", "steps": str(run.steps)}
        cells = _cells(compared.get(method), method, results)
        if method in diverged:
            cells = (*cells[:-1], f"{len(diverged[method])} of {len(done)} diverged")
        table.append(
            (
                method,
                method_text(run, alone=alone),
                b_eff(run),
                *(extra[c] for c in heads if c in extra),
                mean_text(results.score, ends.get(method, {})),
                *cells,
            )
        )
    return table


def _cells(c: Comparison | None, method: str, results: Results) -> tuple[str, ...]:
    if c is None:
        return ("", "", "", "", "the reference" if method == results.recipe.reference else "no pair with the reference")
    score, ends = results.score, (c.ci_low, c.ci_high)
    numbers = (score.difference(c.difference, *ends), score.interval(*ends))
    return (*numbers, _p(c.p_difference), _p(c.p_equivalence), c.verdict)


def _p(p: float | None) -> str:
    if p is None:
        return "–"
    return "<0.0001" if p < 1e-4 else f"{p:.4f}"


def method_text(run: Run, *, alone: bool) -> str:
    """A run's law, with what is added to its noise or replaces it.

    Args:
        run: the run.
        alone: whether all methods share their optimizer and what belongs to it; if not, these are named as well.

    Returns:
        The text.
    """
    law = run.law.call if isinstance(run.law, RecordedLaw) else law_text(run.law)
    parts = [law, *(law_text(part) for part in (run.noise, run.penalty) if part is not None)]
    return " + ".join(parts if alone else [*parts, *_extras(run)])


def _extras(run: Run) -> tuple[str, ...]:
    """The optimizer of a run, and what is added to it."""
    optimizer = [] if run.optimizer is None else [run.optimizer.kind.rpartition(":")[2]]
    changes = (("label smoothing", run.label_smoothing), ("clip", run.clip), ("SAM", run.sam), ("average", run.ema))
    return (*optimizer, *(f"{name} {value:g}" for name, value in changes if value))


def b_eff(run: Run) -> str:
    """The batch size whose SGD noise the run's law matches; a dash where the noise is not the law's alone."""
    value = run.effective_batch_size
    if value is None:
        return "none" if run.noise is None and run.penalty is None else "–"
    return "∞" if math.isinf(value) else f"{value:.2f}"


def answers(results: Results) -> list[str]:
    """State the verdicts.

    Args:
        results: the experiment's results.

    Returns:
        A sentence for each verdict that occurs.
    """
    reference, within = results.recipe.reference, results.score.within
    sentences = []
    groups: dict[str, list[Comparison]] = {}
    for c in results.comparisons:
        groups.setdefault(c.verdict, []).append(c)
    for verdict, one, several in (
        ("different", f"method differs from {reference}", f"methods differ from {reference}"),
        (
            "equivalent",
            f"method is equivalent to {reference} within {within}",
            f"methods are equivalent to {reference} within {within}",
        ),
        (
            "negligible",
            f"method differs from {reference}, but its difference lies within {within}",
            f"methods differ from {reference}, but their differences lie within {within}",
        ),
        ("inconclusive", "comparison is inconclusive", "comparisons are inconclusive"),
    ):
        if members := groups.get(verdict):
            text = one if len(members) == 1 else several
            details = ", ".join(_with_detail(c, results.score) for c in members)
            sentences.append(f"{len(members)} {text}: {details}.")
    if reference not in results.by_method():
        sentences.append(f"Nothing is compared: no run of the reference {reference} is finished.")
    elif reference in results.diverged_runs():
        sentences.append(f"Nothing is compared: the reference {reference} diverged.")
    elif reference not in results.endpoints():
        sentences.append(f"Nothing is compared: the reference {reference} has no {results.score.name}.")
    return sentences


def notes(results: Results) -> list[str]:
    """State the conditions of the verdicts.

    Args:
        results: the experiment's results.

    Returns:
        Sentences on repetitions of the reference, on diverged and missing runs, and on the conditions of the
        comparison.
    """
    recipe, score = results.recipe, results.score
    sentences = [_null_text(c, recipe.reference, score) for c in results.comparisons if is_null(results, c.method)]
    diverged = results.diverged_runs()
    if recipe.grid and diverged:
        runs_of = sum(map(len, diverged.values()))
        sentences.append(
            f"{plural(runs_of, 'run')} diverged, in {plural(len(diverged), 'cell')}: a cell with a diverged run has no "
            f"{score.name}."
        )
    else:
        sentences += [
            _diverged_text(method, done, len(results.by_method()[method]), score) for method, done in diverged.items()
        ]
    sentences += _without_score(results)
    if results.missing_runs:
        sentences.append(f"These numbers do not include {plural(results.missing_runs, 'unfinished run')}.")
    if results.other_runs:
        sentences.append(
            f"The folder also holds {plural(results.other_runs, 'finished run')} of other methods or seeds, which this "
            "table does not show."
        )
    if not results.recipe.grid:  # a phase diagram claims no equivalence, and shows its rates
        claim = (
            "The recipe sets no margin, so no equivalence is tested."
            if score.margin is None
            else "A method is equivalent if the 90% interval of its difference, which is narrower than the 95% "
            f"interval shown, lies within {score.within}."
        )
        sentences.append(f"{endpoint_text(results)} {claim}")
        if score.lower_is_better:
            sentences.append(f"Lower {score.name} is better: a negative difference is a gain.")
        sentences.append(_condition_text(results))
        if results.recipe.match != "steps" or len({done.run.steps for done in results.finished_runs}) > 1:
            sentences.append(MATCH_SENTENCES[results.recipe.match])
    if results.recipe.vary != ["init", "noise"]:
        sentences.append(f"The seeds vary {' and '.join(results.recipe.vary)}, and nothing else.")
    return [*sentences, *other_notes(results)]


def _without_score(results: Results) -> list[str]:
    """Name the methods that cannot be judged, because a run's last evaluations lack the score that decides."""
    names = [m for m in results.by_method() if m not in results.endpoints() and m not in results.diverged_runs()]
    if not names:
        return []
    name = results.score.name
    return [
        f"A run of {', '.join(names)} has no finite {name} in each of its last {ENDPOINT} evaluations, so there is no "
        "verdict."
    ]


def _null_text(c: Comparison, reference: str, score: Score) -> str:
    start = f"{c.method} repeats {reference} with a different noise stream"
    points = score.in_words(c.difference, c.ci_low, c.ci_high)
    if c.verdict in ("different", "negligible") and c.p_unadjusted is not None:
        return (
            f"{start}. By chance alone it differs from {reference} by {points} (p = {c.p_unadjusted:.1g} unadjusted): "
            f"no method's difference from {reference} means more than this one."
        )
    return f"{start}. It differs from {reference} by {points}: chance alone produces a difference of that size."


def _diverged_text(method: str, diverged: list[FinishedRun], finished: int, score: Score) -> str:
    steps = [f"with seed {run.run.seed} after {plural(run.diverged or 0, 'step')}" for run in diverged[:MAX_LISTED]]
    rest = len(diverged) - MAX_LISTED
    more = f", and in {rest} more {'run' if rest == 1 else 'runs'}" if rest > 0 else ""
    why = ", because a mean without these runs would make it look better than it is" if len(diverged) < finished else ""
    return (
        f"{method} diverged: its loss was no longer finite {', '.join(steps)}{more}. "
        f"It has no {score.name} and no verdict{why}."
    )


def endpoint_text(results: Results) -> str:
    """State which evaluations a run's score is the mean of, and warn where they include early ones."""
    counts = {min(ENDPOINT, len(done.run.evaluations) - 1) for done in results.finished_runs}
    name = results.score.name
    if counts == {ENDPOINT}:
        return f"The {name} of a run is the mean over its last {ENDPOINT} evaluations."
    return (
        f"The {name} of a run is the mean over all {min(counts)} evaluations after the start, which are too few to "
        "leave the early ones out: set a smaller eval_every."
    )


def _tuning_text(tuning: Tuning) -> str:
    edge = tuning.at_edge()
    return (
        f"Each method uses the learning rate that was best on {tuning.held_out} examples held out of the training set, "
        f"on average over {plural(tuning.seeds, 'seed')}; the test set was not used. The rates are "
        + ", ".join(f"{method} {lr:g}" for method, lr in tuning.chosen.items())
        + "."
        + (
            f" The smallest or largest rate was best for {', '.join(edge)}: a better one may lie beyond."
            if edge
            else ""
        )
    )


def _with_detail(c: Comparison, score: Score) -> str:
    if c.verdict == "inconclusive":
        if c.seeds < 2:
            return f"{c.method} (one seed shows no spread; use more seeds)"
        return f"{c.method} (" + (f"about {c.seeds_needed} seeds would decide)" if c.seeds_needed else "too noisy)")
    return f"{c.method} ({score.difference(c.difference, c.ci_low, c.ci_high)})"


def is_null(results: Results, method: str) -> bool:
    """Whether a method repeats the reference: the same law and settings under another name."""
    by_method = results.by_method()
    if method == results.recipe.reference or not {method, results.recipe.reference} <= set(by_method):
        return False
    mine, theirs = (by_method[m][0].run.identity() for m in (method, results.recipe.reference))
    return mine | {"method": "", "seed": 0} == theirs | {"method": "", "seed": 0}


def _condition_text(results: Results) -> str:
    if results.tuning:
        return _tuning_text(results.tuning)
    rates = {f"{done.run.lr:g}" for done in results.finished_runs}
    if len(rates) > 1:
        return (
            "The methods use the different learning rates that the table shows, so it compares noise and rate at once."
        )
    rate = rates.pop()
    text = f"All methods share the learning rate {rate}, so the table compares kinds of noise, not tuned optimizers."
    if "gd" in results.by_method():
        text += (
            " At another rate gd can do better: before you call one method better, give each its own rate, tuned on"
            " held-out examples, with --tune lr=A,B,… and a new --out."
        )
    return text
