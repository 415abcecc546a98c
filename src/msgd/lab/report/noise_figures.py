"""The report's section on the measured noise."""

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
from msgd.lab.report.noise_tables import F, Number, found_of, mean_over


def noise_plots(results: Results, measured: Sequence[Measurement]) -> list[tuple[str, str, Any]]:
    """Draw what was measured.

    Args:
        results: the experiment's, for the colours of its methods.
        measured: in the order of the runs.

    Returns:
        Name, caption and figure of each plot; of what was not measured there is none.
    """
    plots: list[tuple[str, str, Any]] = []
    if spectra := found_of(measured, CovarianceResult):
        plots.append(("Spectrum of C", SPECTRUM, _spectrum(results, spectra)))
    if scales := found_of(measured, NoiseScaleResult):
        figure = _over_steps(results, scales, lambda f: f.noise_scale, "tr C/‖ḡ‖² [examples]")
        plots.append(("Noise scale over steps", NOISE_SCALE, figure))
    if sharp := found_of(measured, SharpnessResult):
        figure = _over_steps(results, sharp, lambda f: f.eigenvalues[0], "largest eigenvalue of H")
        rates = {done.run.lr for done in results.finished}
        if len(rates) == 1 and not any(done.run.momentum for done in results.finished):
            steps = [step for by_step in sharp.values() for step in by_step]
            ends = [math.sqrt(step) for step in (min(steps), max(steps))]
            _reference(figure, ends, [2 / rates.pop()] * 2, "2/η")
        plots.append(("Sharpness over steps", SHARPNESS, figure))
    if tails := found_of(measured, TailsResult):
        plots.append(("Is the noise normal?", QUANTILES, _quantiles(results, tails)))
        plots.append(("Excess kurtosis", KURTOSIS, _kurtosis(results, tails)))
    return plots


SPECTRUM = (
    "The largest eigenvalues of the covariance C of the gradients of single examples, after the last step measured. "
    "C is a property of where the run is, and not of the noise that took it there; the noise of the method's law is C "
    "times α/n, and more or less of ḡḡᵀ."
)

NOISE_SCALE = (
    "The batch size at which a mini-batch's noise is as large as the gradient; steps on a square-root scale. Above the "
    "method's b the step is mostly noise. It grows as ‖ḡ‖² falls, so that a high value alone says little."
)

SHARPNESS = (
    "The largest eigenvalue of the Hessian of the training loss; dashed: above 2/η gradient descent is unstable on a "
    "quadratic loss. It depends on how the network is parametrised, and fewer seeds than in the verdict show it."
)

QUANTILES = (
    "Quantiles of the noise along the leading eigenvector of C, after the last step measured, against those of a "
    "normal of equal median and quartiles. On the line: normal. Steeper at the ends: heavier tails. A jump: the "
    "gradient of one example is most of that eigenvector, and the example is in some batches and not in others."
)

KURTOSIS = (
    "Of the same noise, and of that along random directions; 0 for a normal, with 95% intervals (too short where few "
    "draws decide). A sum over many examples is nearly normal whatever the law; few large gradients make tails."
)


def _spectrum(results: Results, spectra: dict[str, dict[int, list[CovarianceResult]]]) -> Any:
    figure, of = go.Figure(), colours(results)
    for method, by_step in spectra.items():
        found = by_step[max(by_step)]
        k = min(len(each.eigenvalues) for each in found)
        values = [mean_over(found, lambda f, i=i: f.eigenvalues[i]) for i in range(k)]  # type: ignore[misc]
        kept = [value if value and value > 0 else None for value in values]  # the others have no logarithm
        _line(figure, method, list(range(1, k + 1)), kept, of[method], "eigenvalue %{x}: %{y:.3g}")
    layout(figure, x="number", y="eigenvalue of C", height=400)
    _logarithmic(figure)
    return figure


def _over_steps(results: Results, table: dict[str, dict[int, list[F]]], number: Number[F], label: str) -> Any:
    figure, of = go.Figure(), colours(results)
    for method, by_step in table.items():
        values = [mean_over(found, number) for found in by_step.values()]
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
    layout(figure, x="quantile of a normal", y="quantile of the noise", height=430)
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
