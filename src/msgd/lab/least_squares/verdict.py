"""The verdicts of a least-squares experiment as table rows and sentences, for the terminal and the report."""

from __future__ import annotations

from msgd.lab.least_squares.band import CurveTest
from msgd.lab.least_squares.results import MethodResult, SimulationResults
from msgd.lab.text import plural

#: fraction of the largest mean-square-stable learning rate above which fourth moments may be infinite
SAFE_FRACTION = 1 / 3


def columns(results: SimulationResults) -> list[str]:
    """Column heads of the verdict table."""
    return ["method", "law", "α", "β", "final loss", "exact", "max |z|", "band", "verdict", *_reference_column(results)]


def _reference_column(results: SimulationResults) -> list[str]:
    return [f"|z| on {results.recipe.reference}'s"] if any(j.reference for j in results.methods) else []


def rows(results: SimulationResults) -> list[list[str]]:
    """Format the rows of the verdict table, in the order of `columns`."""
    table = []
    for j in results.methods:
        final = "not finite" if j.final is None else _with_error(*j.final)
        row = [
            j.method,
            j.law,
            "∞" if j.alpha is None else f"{j.alpha:.5g}",
            "–" if j.beta is None else f"{j.beta:.5g}",
            final,
            "–" if j.exact is None else f"{j.exact[-1]:.4f}",
            *_own_cells(j),
        ]
        if _reference_column(results):
            row.append(
                "" if j.reference is None else f"{_largest(j.reference)}, {'on' if j.reference.on_curve else 'off'}"
            )
        table.append(row)
    return table


def _with_error(mean: float, half: float) -> str:
    return f"{mean:.4f} ± {half:.4f}" if mean < 1000 else f"{mean:.0e} ± {half:.0e}"


def _own_cells(j: MethodResult) -> list[str]:
    if j.own is None:
        return ["–", "–", "no curve"]
    band = "–" if j.own.half_width is None else f"±{100 * j.own.half_width:.1f}%"
    return [_largest(j.own), band, j.own.verdict]


def _largest(test: CurveTest) -> str:
    if test.largest is None:
        return "∞"
    return f"{test.largest:.2f}" if test.largest < 1000 else ">1000"


def _max_z(test: CurveTest) -> str:
    text = _largest(test)
    return f"max |z| {text[0]} {text[1:]}" if text.startswith(">") else f"max |z| = {text}"


def groups(results: SimulationResults) -> dict[tuple[str, str], list[MethodResult]]:
    """The methods that have an exact curve, by α and β; methods with equal α and β share one curve."""
    table: dict[tuple[str, str], list[MethodResult]] = {}
    for j in results.methods:
        if j.exact is not None and j.alpha is not None and j.beta is not None:
            table.setdefault((f"{j.alpha:.5g}", f"{j.beta:.5g}"), []).append(j)
    return table


def answers(results: SimulationResults) -> list[str]:
    """State which methods lie on which exact curve."""
    sentences = []
    for (alpha, beta), members in groups(results).items():
        on = [j.method for j in members if j.own and j.own.on_curve]
        off = [j.method for j in members if j.own and not j.own.on_curve]
        for names, one, several in (
            (on, "lies on its exact curve", "lie on one exact curve"),
            (off, "lies off its exact curve", "lie off their exact curve"),
        ):
            if names:
                place = one if len(names) == 1 else several
                start = f"{plural(len(names), 'method')} with α = {alpha} and β = {beta}"
                sentences.append(f"{start} {place}: {', '.join(names)}.")
    return sentences + _reference_answers(results)


def _reference_answers(results: SimulationResults) -> list[str]:
    name = results.recipe.reference
    base = next((j for j in results.methods if j.method == name), None)
    if base is None or base.alpha is None:
        return [f"Nothing is compared with the reference: {name} has not been run."] if base is None else []
    sentences = []
    for j in results.methods:
        test = j.reference
        if test is None:
            continue
        where = f"{'in' if test.on_curve else 'leaves'} the band around {name}'s curve ({_max_z(test)})"
        if j.exact is None:
            why = "has no variance" if j.alpha is None else "ties steps together"
            sentences.append(f"{j.method} {why}, and so no exact curve: it {'stays ' if test.on_curve else ''}{where}.")
    other = [j for j in results.methods if j.reference and j.exact is not None and j.alpha is not None]
    close = [j for j in other if abs((j.alpha or 0) - base.alpha) <= 1e-9 * base.alpha and not _has_same_beta(j, base)]
    for on, one, several in ((False, "leaves", "leave"), (True, "stays in", "stay in")):
        names = [f"{j.method} ({_max_z(j.reference)})" for j in close if j.reference and j.reference.on_curve == on]
        if names:
            verb = one if len(names) == 1 else several
            start = f"{plural(len(names), 'method')} with {name}'s α but another β"
            sentences.append(f"{start} {verb} the band around {name}'s curve: {', '.join(names)}.")
    return sentences


def _has_same_beta(j: MethodResult, base: MethodResult) -> bool:
    return j.beta is not None and base.beta is not None and abs(j.beta - base.beta) <= 1e-9 * abs(base.beta)


def notes(results: SimulationResults) -> list[str]:
    """State the conditions of the verdicts."""
    recipe = results.recipe
    sentences = [
        f"The band is the exact expected loss ± {results.critical:.2f} standard errors of the mean over "
        f"{recipe.trajectories} trajectories, at {plural(len(recipe.recorded) - 1, 'step')}. If all of the "
        f"{plural(len(recipe.methods), 'method')} are on their curves, the probability that any leaves its band is at "
        f"most {recipe.false_alarms:g} (it is smaller in truth, because Bonferroni's correction over steps and methods "
        "is conservative; the means are taken as normal). The column “band” gives the band's half-width where it is "
        "widest, relative to the loss; smaller deviations go unseen."
    ]
    unstable = [
        j.method for j in results.methods if j.stable_lr is not None and recipe.lr > SAFE_FRACTION * j.stable_lr
    ]
    if unstable:
        sentences.append(
            f"The learning rate is above a third of the largest stable one for {', '.join(unstable)}: fourth "
            "moments of the parameters may be infinite there, and then no number of trajectories decides."
        )
    heavy = [j.method for j in results.methods if j.exact is not None and not j.fourth_moment]
    if heavy:
        sentences.append(f"The weights of {', '.join(heavy)} have no fourth moment: their bands decide nothing.")
    if any(j.alpha is None and j.reference for j in results.methods):
        sentences.append(
            f"A law without a variance has no standard error: its mean is compared with {recipe.reference}'s band."
        )
    if results.missing_methods:
        sentences.append(
            f"These numbers do not include methods that are not finished: {', '.join(results.missing_methods)}."
        )
    return sentences
