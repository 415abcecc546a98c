"""The conditions of a comparison across folders, in sentences."""

from __future__ import annotations

from msgd.lab.experiment_folder.results import FinishedRun
from msgd.lab.experiment_folder.several import Pool
from msgd.lab.report.verdict import answers, notes


def pool_sentences(pool: Pool) -> list[str]:
    """State the verdicts across folders, and what the pairs do and do not have in common.

    Args:
        pool: the results of several folders.

    Returns:
        The verdicts, then their conditions.
    """
    results = pool.results
    reference, count = results.recipe.reference, len(results.comparisons)
    sentences = answers(results)
    family = "the one comparison" if count == 1 else f"all {count} comparisons"
    sentences.append(
        f"Each method is compared with {reference}, paired by seed; the p-values are adjusted by Holm over {family}."
    )
    sentences += [
        f"{name} has the settings and the noise of {other}, run for run, so it is left out."
        for name, other in pool.copies.items()
    ]
    fewer = [c.method for c in results.comparisons if c.seeds < len(results.by_method()[c.method])]
    if fewer:
        sentences.append(f"The differences of {', '.join(fewer)} are over the seeds that {reference} has too.")
    return [*sentences, *_apart(pool), *notes(results)]


def _apart(pool: Pool) -> list[str]:
    """Name the methods whose runs differ from the reference's in more than the method."""
    by_method, reference = pool.results.by_method(), pool.results.recipe.reference
    base = {each.run.seed: each for each in by_method[reference]}
    found: dict[str, list[str]] = {}
    for method, done in by_method.items():
        pairs = [(each, base[each.run.seed]) for each in done if each.run.seed in base]
        for what in dict.fromkeys(what for pair in pairs for what in _differences(*pair)):
            found.setdefault(what, []).append(method)
    return [text.format(", ".join(found[what]), reference) for what, text in SENTENCES.items() if what in found]


#: what differs → a sentence about the methods and the reference
SENTENCES = {
    "init": "The pairs of {0} and {1} do not share their initial parameters (another model, norm or vary), which "
    "usually widens the intervals.",
    "code": "The user's own code of {0} differs from that of {1}: the pairs share their initial parameters and the "
    "meaning of the score only if the code of the network and of the score is the same.",
    "steps": "{0} and {1} were trained for different numbers of steps: the differences are not those of noise alone.",
    "lr": "{0} and {1} have different learning rates: the differences are not those of noise alone.",
    "optimizer": "{0} and {1} differ in the optimizer or its schedule: the differences are not those of noise alone.",
    "eval_every": "{0} and {1} are evaluated at different steps: their last evaluations span different times.",
}


def _differences(one: FinishedRun, other: FinishedRun) -> list[str]:
    a, b = one.run, other.run
    apart = {
        "init": (a.model, a.norm, a.init_seed) != (b.model, b.norm, b.init_seed),
        "code": a.code != b.code,
        "steps": a.steps != b.steps,
        "lr": a.lr != b.lr,
        "optimizer": (a.momentum, a.weight_decay, a.optimizer, a.schedule, a.lr_drops)
        != (b.momentum, b.weight_decay, b.optimizer, b.schedule, b.lr_drops),
        "eval_every": a.eval_every != b.eval_every,
    }
    return [what for what, differs in apart.items() if differs]
