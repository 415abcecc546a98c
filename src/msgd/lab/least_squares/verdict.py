"""The verdicts of a least-squares experiment in words and rows, for the terminal and the report alike."""

from __future__ import annotations

from msgd.lab.least_squares.band import CurveTest
from msgd.lab.least_squares.results import MethodResult, SimulationResults
from msgd.lab.text import plural

SAFE = 1 / 3  #: of the largest mean-square-stable step: beyond, fourth moments may be infinite


def columns(results: SimulationResults) -> list[str]:
    """Heads of the verdict table."""
    return ["method", "law", "α", "β", "final loss", "exact", "max |z|", "band", "verdict", *_beside(results)]


def _beside(results: SimulationResults) -> list[str]:
    return [f"|z| on {results.recipe.reference}'s"] if any(j.reference for j in results.judged) else []


def rows(results: SimulationResults) -> list[list[str]]:
    """Spell out the verdict table, in the order of `columns`."""
    table = []
    for j in results.judged:
        final = "not finite" if j.final is None else _with_error(*j.final)
        row = [
            j.method,
            j.law,
            "∞" if j.alpha is None else f"{j.alpha:.5g}",
            "–" if j.beta is None else f"{j.beta:.5g}",
            final,
            "–" if j.exact is None else f"{j.exact[-1]:.4f}",
            *_own(j),
        ]
        if _beside(results):
            row.append(
                "" if j.reference is None else f"{_largest(j.reference)}, {'on' if j.reference.on_curve else 'off'}"
            )
        table.append(row)
    return table


def _with_error(mean: float, half: float) -> str:
    return f"{mean:.4f} ± {half:.4f}" if mean < 1000 else f"{mean:.0e} ± {half:.0e}"


def _own(j: MethodResult) -> list[str]:
    if j.own is None:
        return ["–", "–", "no curve"]
    band = "–" if j.own.half_width is None else f"±{100 * j.own.half_width:.1f}%"
    return [_largest(j.own), band, j.own.verdict]


def _largest(test: CurveTest) -> str:
    if test.largest is None:
        return "∞"
    return f"{test.largest:.2f}" if test.largest < 1000 else ">1000"


def _most(test: CurveTest) -> str:
    text = _largest(test)
    return f"max |z| {text[0]} {text[1:]}" if text.startswith(">") else f"max |z| = {text}"


def groups(results: SimulationResults) -> dict[tuple[str, str], list[MethodResult]]:
    """The methods that have an exact curve, by α and β: those of equal α and β have one curve."""
    table: dict[tuple[str, str], list[MethodResult]] = {}
    for j in results.judged:
        if j.exact is not None and j.alpha is not None and j.beta is not None:
            table.setdefault((f"{j.alpha:.5g}", f"{j.beta:.5g}"), []).append(j)
    return table


def answers(results: SimulationResults) -> list[str]:
    """Say what came out: who is on which curve."""
    said = []
    for (alpha, beta), members in groups(results).items():
        on = [j.method for j in members if j.own and j.own.on_curve]
        off = [j.method for j in members if j.own and not j.own.on_curve]
        start = f"α = {alpha}, β = {beta}: "
        if on:
            said.append(f"{start}on {'one' if len(on) > 1 else 'its'} exact curve: {', '.join(on)}.")
        if off:
            said.append(f"{start}off the exact curve: {', '.join(off)}.")
    return said + _of_reference(results)


def _of_reference(results: SimulationResults) -> list[str]:
    name = results.recipe.reference
    base = next((j for j in results.judged if j.method == name), None)
    if base is None or base.alpha is None:
        return [f"Nothing is compared with the reference: {name} has not been run."] if base is None else []
    said = []
    for j in results.judged:
        test = j.reference
        if test is None:
            continue
        where = f"{'in' if test.on_curve else 'leaves'} the band around {name}'s curve ({_most(test)})"
        if j.exact is None:
            why = "has no variance" if j.alpha is None else "ties steps together"
            said.append(f"{j.method} {why}, and so no exact curve: it {'stays ' if test.on_curve else ''}{where}.")
    other = [j for j in results.judged if j.reference and j.exact is not None and j.alpha is not None]
    close = [j for j in other if abs((j.alpha or 0) - base.alpha) <= 1e-9 * base.alpha and not _same(j, base)]
    for on, text in ((False, "leave the band around"), (True, "stay in the band around")):
        named = [f"{j.method} ({_most(j.reference)})" for j in close if j.reference and j.reference.on_curve == on]
        if named:
            said.append(f"{name}'s α and another β: {', '.join(named)} {text} {name}'s curve.")
    return said


def _same(j: MethodResult, base: MethodResult) -> bool:
    return j.beta is not None and base.beta is not None and abs(j.beta - base.beta) <= 1e-9 * abs(base.beta)


def notes(results: SimulationResults) -> list[str]:
    """Say what the answers rest on."""
    recipe = results.recipe
    said = [
        f"Band: the exact expected loss ± {results.critical:.2f} standard errors of the mean over "
        f"{recipe.trajectories} trajectories at {plural(len(recipe.recorded) - 1, 'step')}. If all of the "
        f"{plural(len(recipe.methods), 'method')} are on their curves, the probability that any leaves its band is at "
        f"most {recipe.false_alarms:g} (Bonferroni over steps and methods, so in truth less; means are taken as "
        "normal). The column “band”: its half-width where it is widest, relative to the loss; smaller deviations go "
        "unseen."
    ]
    unstable = [j.method for j in results.judged if j.stable_lr is not None and recipe.lr > SAFE * j.stable_lr]
    if unstable:
        said.append(
            f"The learning rate is above a third of the largest stable one for {', '.join(unstable)}: fourth "
            "moments of the parameters may be infinite there, and then no number of trajectories decides."
        )
    heavy = [j.method for j in results.judged if j.exact is not None and not j.fourth_moment]
    if heavy:
        said.append(f"No fourth moment: {', '.join(heavy)}. The band of such a law decides nothing.")
    if any(j.alpha is None and j.reference for j in results.judged):
        said.append(
            f"A law without a variance has no standard error: its mean is held against {recipe.reference}'s band."
        )
    if results.missing:
        said.append(f"Not finished, and not in these numbers: {', '.join(results.missing)}.")
    return said
