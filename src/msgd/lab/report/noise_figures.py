"""The figures of the report's section on the measured noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from msgd.lab.experiment_folder.results import Results
from msgd.lab.measure.measurements_file import (
    CovarianceResult,
    Measurement,
    NoiseScaleResult,
    SharpnessResult,
    TailsResult,
)
from msgd.lab.measure.quantities import SCORES
from msgd.lab.report.figures import colours, layout
from msgd.lab.report.noise_tables import F, Number, mean_over_seeds, results_by_step


def noise_plots(results: Results, measured: Sequence[Measurement]) -> list[tuple[str, str, Any]]:
    """Draw the measurements.

    Args:
        results: the experiment's results, for the colours of its methods.
        measured: the measurements, in the order of the runs.

    Returns:
        Name, caption and figure of each plot; a quantity that was not measured has no plot.
    """
    plots: list[tuple[str, str, Any]] = []
    if spectra := results_by_step(measured, CovarianceResult):
        plots.append(("Spectrum of C", SPECTRUM, _spectrum(results, spectra)))
    if scales := results_by_step(measured, NoiseScaleResult):
        figure = _over_steps(results, scales, lambda f: f.noise_scale, "tr C/‖ḡ‖² [examples]")
        plots.append(("Noise scale over steps", NOISE_SCALE, figure))
    if sharp := results_by_step(measured, SharpnessResult):
        figure = _over_steps(results, sharp, lambda f: f.eigenvalues[0], "largest eigenvalue of H")
        rates = {done.run.lr for done in results.finished_runs}
        if len(rates) == 1 and not any(done.run.momentum for done in results.finished_runs):
            steps = [step for by_step in sharp.values() for step in by_step]
            ends = [math.sqrt(step) for step in (min(steps), max(steps))]
            _reference(figure, ends, [2 / rates.pop()] * 2, "2/η")
        plots.append(("Sharpness over steps", SHARPNESS, figure))
    if tails := results_by_step(measured, TailsResult):
        plots.append(("Is the noise normal?", QUANTILES, _quantiles(results, tails)))
        plots.append(("Excess kurtosis", KURTOSIS, _kurtosis(results, tails)))
    return plots


SPECTRUM = (
    "The figure shows the largest eigenvalues of the covariance C of the per-example gradients after the last measured "
    "step. C depends on the parameters that the run has reached, not on the noise that led there; the noise of the "
    "method's law has the covariance (α/n)·C plus a multiple of ḡḡᵀ."
)

NOISE_SCALE = (
    "The noise scale is the batch size at which a mini-batch's noise is as large as the gradient. Where it is above "
    "the method's b, a step is mostly noise. It grows as ‖ḡ‖² falls, so a high value alone says little. The axis of "
    "the steps has a square-root scale."
)

SHARPNESS = (
    "The sharpness is the largest eigenvalue of the Hessian of the training loss. Above 2/η (dashed), gradient descent "
    "is unstable on a quadratic loss. The sharpness depends on how the network is parametrised, and fewer seeds are "
    "measured than the verdict uses."
)

QUANTILES = (
    "The figure plots the quantiles of the noise along the leading eigenvector of C, after the last measured step, "
    "against those of a normal distribution with the same median and quartiles. Normal noise lies on the dashed line; "
    "a curve that is steeper at its ends has heavier tails. A curve jumps where the gradient of one example makes up "
    "most of that eigenvector, because the example is in some batches and not in others."
)

KURTOSIS = (
    "The figure shows the excess kurtosis of the same noise, and of the noise along random directions, with 95% "
    "intervals, which are too short where few draws decide. A normal distribution has 0. A sum over many examples is "
    "nearly normal whatever the law; a few large gradients make heavy tails."
)


def _spectrum(results: Results, spectra: dict[str, dict[int, list[CovarianceResult]]]) -> Any:
    figure, of = go.Figure(), colours(results)
    for method, by_step in spectra.items():
        found = by_step[max(by_step)]
        k = min(len(each.eigenvalues) for each in found)
        values = [mean_over_seeds(found, lambda f, i=i: f.eigenvalues[i]) for i in range(k)]  # type: ignore[misc]
        kept = [value if value and value > 0 else None for value in values]  # other values have no logarithm
        _line(figure, method, list(range(1, k + 1)), kept, of[method], "eigenvalue %{x}: %{y:.3g}")
    layout(figure, x="index", y="eigenvalue of C", height=400)
    _logarithmic(figure)
    return figure


def _over_steps(results: Results, table: dict[str, dict[int, list[F]]], number: Number[F], label: str) -> Any:
    figure, of = go.Figure(), colours(results)
    for method, by_step in table.items():
        values = [mean_over_seeds(found, number) for found in by_step.values()]
        kept = [value if value and value > 0 else None for value in values]
        steps = list(by_step)
        _line(figure, method, [math.sqrt(step) for step in steps], kept, of[method], "%{y:.3g}", steps)
    steps = sorted({step for by_step in table.values() for step in by_step})
    layout(figure, x="step", y=label, height=400)
    figure.update_xaxes(tickvals=[math.sqrt(step) for step in steps], ticktext=[str(step) for step in steps])
    _logarithmic(figure)
    return figure


def _quantiles(results: Results, tails: dict[str, dict[int, list[TailsResult]]]) -> Any:
    figure, of = go.Figure(), colours(results)
    scores = [float(score) for score in SCORES]
    _reference(figure, [-3, 3], [-3, 3], "normal")
    for method, by_step in tails.items():
        found = by_step[max(by_step)][0].directions[0]
        _line(figure, method, scores, list(found.quantiles), of[method], "%{y:.2f} for %{x:.2f}")
    layout(figure, x="quantile of a normal distribution", y="quantile of the noise", height=430)
    return figure


def _kurtosis(results: Results, tails: dict[str, dict[int, list[TailsResult]]]) -> Any:
    figure, of = go.Figure(), colours(results)
    for place, (method, by_step) in enumerate(tails.items()):
        directions = by_step[max(by_step)][0].directions
        for number, direction in enumerate(directions):
            found, leading = direction.excess_kurtosis, number == 0
            high, low = (found.value if end is None else end for end in (found.high, found.low))
            figure.add_scatter(
                x=[place - 0.2 + 0.4 * number / max(1, len(directions) - 1)],
                y=[found.value],
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [high - found.value],
                    "arrayminus": [found.value - low],
                    "thickness": 2 if leading else 1,
                    "width": 4,
                },
                mode="markers",
                marker={
                    "color": of[method],
                    "size": 11 if leading else 7,
                    "symbol": "diamond" if leading else "circle",
                },
                hovertemplate=f"{method}, {'leading' if leading else 'random'}: " + "%{y:.2f}<extra></extra>",
                showlegend=False,
            )
    figure.add_hline(y=0, line={"color": "#888", "width": 1, "dash": "dash"})
    layout(figure, x="", y="excess kurtosis", height=380)
    figure.update_xaxes(tickvals=list(range(len(tails))), ticktext=list(tails), range=[-0.6, len(tails) - 0.4])
    return figure


def _line(
    figure: Any,
    method: str,
    x: Sequence[float],
    y: Sequence[float | None],
    colour: str,
    hover: str,
    steps: Sequence[int] | None = None,
) -> None:
    figure.add_scatter(
        x=list(x),
        y=list(y),
        name=method,
        mode="lines+markers",
        line={"color": colour, "width": 2},
        marker={"size": 5},
        text=[f" at step {step}" for step in steps] if steps else None,
        hovertemplate=f"{method}: {hover}" + ("%{text}" if steps else "") + "<extra></extra>",
    )


def _reference(figure: Any, x: Sequence[float], y: Sequence[float], name: str) -> None:
    line = {"color": "#888", "width": 1, "dash": "dash"}
    figure.add_scatter(x=list(x), y=list(y), mode="lines", line=line, name=name, hoverinfo="skip")


def _logarithmic(figure: Any) -> None:
    drawn = [v for trace in figure.data for v in trace.y if v]
    decades = math.log10(max(drawn) / min(drawn)) if drawn else 1
    figure.update_yaxes(type="log", exponentformat="power", dtick=1 if decades >= 2 else "D2")
