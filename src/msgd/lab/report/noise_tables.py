"""The measured noise as table rows and sentences, for the terminal and the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import TypeVar

from msgd.lab.measure.measurements_file import (
    CovarianceResult,
    Direction,
    Interval,
    Measurement,
    NoiseScaleResult,
    SharpnessResult,
    TailsResult,
)

F = TypeVar("F", CovarianceResult, NoiseScaleResult, TailsResult, SharpnessResult)
Number = Callable[[F], float | None]
Rows = tuple[list[str], list[list[str]]]  #: column heads, and a row of texts for each method


def results_by_step(measured: Sequence[Measurement], kind: type[F]) -> dict[str, dict[int, list[F]]]:
    """Group the results of one kind by method and step.

    Args:
        measured: the measurements, in the order of the runs.
        kind: the class of the results, such as `CovarianceResult`.

    Returns:
        Method → step → one result for each seed.
    """
    table: dict[str, dict[int, list[F]]] = {}
    for m in measured:
        if isinstance(m.found, kind):
            table.setdefault(m.method, {}).setdefault(m.step, []).append(m.found)
    return {method: dict(sorted(by_step.items())) for method, by_step in table.items()}


def mean_over_seeds(results: Sequence[F], number: Number[F]) -> float | None:
    """Mean of a number over seeds; None where a seed lacks the number."""
    values = [number(each) for each in results]
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def noise_rows(measured: Sequence[Measurement]) -> Rows:
    """Format C, the noise scale and the noise of each method after its last measured step.

    Args:
        measured: the measurements, in the order of the runs.

    Returns:
        Column heads, and rows of means over seeds.
    """
    columns: list[tuple[str, dict[str, str]]] = [
        ("tr C", _last(measured, CovarianceResult, lambda f: f.trace)),
        ("‖ḡ‖²", _last(measured, CovarianceResult, lambda f: f.mean_square)),
        ("tr C/‖ḡ‖²", _last(measured, NoiseScaleResult, lambda f: f.noise_scale)),
        ("b_eff", _last(measured, NoiseScaleResult, lambda f: f.b_eff)),
        ("tr Cov(noise)", _last(measured, CovarianceResult, lambda f: f.noise_trace)),
        ("λ₁(C)", _last(measured, CovarianceResult, lambda f: f.eigenvalues[0])),
        ("stable rank", _last(measured, CovarianceResult, lambda f: f.stable_rank)),
        ("Tr(H·C)", _last(measured, CovarianceResult, lambda f: _value(f.alignment))),
        (
            "Tr(H·Cov)",
            _last(measured, CovarianceResult, lambda f: f.noise_alignment.value if f.noise_alignment else None),
        ),
    ]
    return _rows(measured, columns)


def shape_rows(measured: Sequence[Measurement]) -> Rows:
    """Format the sharpness and the tails of each method after its last measured step.

    Args:
        measured: the measurements, in the order of the runs.

    Returns:
        Column heads, and rows; the sharpness is a mean over seeds, the tails are those of the first seed.
    """
    columns = [
        ("λ₁(H)", _last(measured, SharpnessResult, lambda f: f.eigenvalues[0])),
        ("Tr H", _last(measured, SharpnessResult, lambda f: f.trace.value)),
        ("loss change", _last(measured, SharpnessResult, lambda f: f.loss_change.value)),
        ("excess kurtosis", _leading(measured, lambda d: _interval_text(d.excess_kurtosis))),
        ("p normal", _leading(measured, lambda d: "<0.0001" if d.p_normal < 1e-4 else f"{d.p_normal:.4f}")),
        ("Hill", _leading(measured, lambda d: _interval_text(d.hill))),
        ("stable index", _leading(measured, lambda d: _interval_text(d.block_index))),
    ]
    return _rows(measured, columns)


def noise_notes(measured: Sequence[Measurement]) -> list[str]:
    """State how the noise was measured, and what could not be measured.

    Args:
        measured: the measurements, in the order of the runs.

    Returns:
        Sentences.
    """
    costs = " and ".join(dict.fromkeys(m.cost for m in measured))
    seeds = sorted({m.seed for m in measured})
    gradients: dict[tuple[str, int, int], float] = {}
    for m in measured:
        place = (m.method, m.seed, m.step)
        gradients[place] = gradients.get(place, 0.0) + m.gradients
    spelled = ", ".join(map(str, seeds))
    several = f"The numbers are means over a method's measured seeds ({spelled} in all); the tails show its first seed."
    alone = (
        f"Only seed {seeds[0]} was measured: differences between methods may be chance; --seeds 4 measures more seeds."
    )
    sentences = [
        f"The noise was measured on all training examples, without augmentation or weight decay, at {costs} cost: "
        f"up to {max(gradients.values()):,.0f} gradient equivalents per checkpoint. "
        + (several if len(seeds) > 1 else alone)
    ]
    if any(m.what == "tails" and m.found for m in measured):
        sentences.append(
            "Kurtosis, p and the two indexes describe the noise along the leading eigenvector of C. Hill's index "
            "assumes a power-law tail, and the stable index assumes a stable law. The noise of finitely many examples "
            "has neither: where p is small and a few examples make the tail, the two indexes mean nothing."
        )
    notes: dict[tuple[str, str], list[str]] = {}
    for m in measured:
        for note in m.notes:
            methods = notes.setdefault((m.what.replace("-", " ").capitalize(), note), [])
            if m.method not in methods:
                methods.append(m.method)
    return sentences + [f"{what} of {', '.join(methods)}: {note}." for (what, note), methods in notes.items()]


def _at_the_end(measured: Sequence[Measurement], kind: type[F]) -> dict[str, list[F]]:
    """The results after each method's last measured step; a run that diverged before has no result there."""
    last: dict[str, int] = {}
    for m in measured:
        last[m.method] = max(m.step, last.get(m.method, 0))
    table = results_by_step(measured, kind)
    return {method: by_step[last[method]] for method, by_step in table.items() if last[method] in by_step}


def _last(measured: Sequence[Measurement], kind: type[F], number: Number[F]) -> dict[str, str]:
    values = {method: mean_over_seeds(found, number) for method, found in _at_the_end(measured, kind).items()}
    form = {method: ",.0f" if value and value >= 1000 else ".3g" for method, value in values.items()}
    return {method: format(value, form[method]) for method, value in values.items() if value is not None}


def _leading(measured: Sequence[Measurement], text: Callable[[Direction], str]) -> dict[str, str]:
    return {method: text(found[0].directions[0]) for method, found in _at_the_end(measured, TailsResult).items()}


def _value(estimate: Interval | None) -> float | None:
    return estimate.value if estimate else None


def _interval_text(estimate: Interval | None) -> str:
    if estimate is None:
        return "–"
    low, high = ("∞" if end is None else f"{end:.2f}" for end in (estimate.low, estimate.high))
    return f"{estimate.value:.2f} ({low} … {high})"


def _rows(measured: Sequence[Measurement], columns: list[tuple[str, dict[str, str]]]) -> Rows:
    last: dict[str, int] = {}
    for m in measured:
        last[m.method] = max(m.step, last.get(m.method, 0))
    columns = [("step", {method: str(step) for method, step in last.items()}), *(c for c in columns if c[1])]
    body = [[method, *(texts.get(method, "–") for _, texts in columns)] for method in last]
    return ["method", *(head for head, _ in columns)], body
