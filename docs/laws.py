"""Writes laws.md, the page of every law, and a picture of one draw of each: `make docs`."""

from __future__ import annotations

import inspect
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from msgd import noise
from msgd.noise import Law, generator

HERE = Path(__file__).parent
N, B, DRAWS, SHOWN = 1000, 20, 400, 300


def halving(step: int) -> Law:
    """Return the law of b = 20 for 1000 steps, then that of 40."""
    return noise.Cov(B if step < 1000 else 2 * B)


#: file name of the picture → the law, at n = 1000 and b = 20
LAWS: dict[str, Law] = {
    "full-batch": noise.FullBatch(),
    "mini-batch": noise.MiniBatch(B),
    "mini-batch-replacement": noise.MiniBatch(B, replacement=True),
    "reshuffled": noise.Reshuffled(B),
    "bernoulli": noise.Bernoulli(B),
    "poisson": noise.Poisson(B),
    "bayesian-bootstrap": noise.BayesianBootstrap(B),
    "fisher": noise.Fisher(B),
    "cov": noise.Cov(B),
    "sparse-fisher": noise.SparseFisher(B, support=100),
    "sparse-cov": noise.SparseCov(B, support=100),
    "rademacher": noise.Injected(noise.Rademacher(), B),
    "uniform": noise.Injected(noise.Uniform(), B),
    "laplace": noise.Injected(noise.Laplace(), B),
    "gamma": noise.Injected(noise.Gamma(0.5), B),
    "student-t-5": noise.Injected(noise.StudentT(5), B),
    "student-t-3": noise.Injected(noise.StudentT(3), B),
    "student-t-1.5": noise.Injected(noise.StudentT(1.5, scale="iqr"), B),
    "two-batch": noise.noise_enhancement(B, 1),
    "two-batch-disjoint": noise.TwoBatch(B, 1, disjoint=True),
    "anticorrelated": noise.Anticorrelated(noise.Fisher(B)),
    "scheduled": noise.Scheduled(halving),
    "subsampled": noise.Subsampled(250, noise.Fisher(B)),
    "grouped": noise.Grouped(100, noise.Cov(B)),
    "subsampled-emulate": noise.Subsampled(250, noise.Emulate(B)),
}


def kurtosis(law: Law) -> str:
    """Kurtosis of one weight, pooled over draws; ∞ where the scalar law says so."""
    scalar = law.scalar_law.kurtosis if isinstance(law, noise.Injected) else 0.0
    if not math.isfinite(scalar):
        return "∞" if scalar == math.inf else "undefined"
    w = np.concatenate([law.at_step(N, seed=0, step=step).dense(N) for step in range(DRAWS)]) - 1
    return f"{(w**4).mean() / (w**2).mean() ** 2:.2g}" if w.any() else "–"


def picture(w: NDArray[np.float64]) -> str:
    """One draw as an SVG: a bar from 1 to the weight for each of the first examples."""
    width, height, top = 600, 110, max(8.0, float(np.abs(w - 1).max()))
    zero = height / 2

    def y(value: float) -> float:
        return zero - (value - 1) / top * (height / 2 - 6)

    bars = "".join(f"M{2 * i + 1} {zero:.1f}V{y(value):.1f}" for i, value in enumerate(w) if value != 1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width + 60} {height}" width="{width + 60}">'
        f'<rect width="{width + 60}" height="{height}" fill="#fff"/>'
        f'<path d="M0 {zero}H{width}" stroke="#999"/><path d="{bars}" stroke="#0072B2" stroke-width="1.4" fill="none"/>'
        f'<g font-family="sans-serif" font-size="11" fill="#333"><text x="{width + 6}" y="{zero + 4}">w = 1</text>'
        f'<text x="{width + 6}" y="13">{1 + top:.0f}</text><text x="{width + 6}" y="{height - 4}">{1 - top:.0f}</text>'
        "</g></svg>\n"
    )


def section(name: str, law: Law) -> str:
    """A law's part of the page."""
    moments = law.moments(N)
    if math.isinf(moments.alpha):
        facts = "no variance: α = ∞"
    else:
        b_eff = moments.effective_batch_size(N)
        along = moments.mean_gradient_coefficient(N)
        facts = (
            f"α = {moments.alpha:.4g}, β = {moments.beta:.4g}; b_eff = {'∞' if math.isinf(b_eff) else f'{b_eff:.4g}'}; "
            f"coefficient of ḡḡᵀ {0 if abs(along) < 1e-12 else along:.3g}"
        )
    summary = (inspect.getdoc(type(law)) or "").splitlines()[0].replace("``", "`")
    text = repr(law).replace("__main__.", "").replace("laws.", "")
    return (
        f"### `{text}`\n\n{summary}\n\n{facts}; kurtosis {kurtosis(law)}.\n\n![One draw]({'laws/' + name + '.svg'})\n"
    )


def page() -> str:
    """The whole page."""
    head = f"""# The laws

Every law at n = {N} with the argument b = {B}, written by `make docs`. The gradient of example i is g_i, their mean ḡ,
and C = (1/n)·Σ g_i g_iᵀ − ḡḡᵀ their covariance. Cov(w) = α·I + β·11ᵀ, so the gradient noise has the covariance
(α/n)·C + (α/n + β)·ḡḡᵀ; b_eff = n/α is the batch size with the same part along C, and α/n + β is what the law adds
along ḡ. Laws made of others have another b_eff than their b: `TwoBatch` is noisier than one batch of b by design,
`Grouped` and `Subsampled` hand b to a law over fewer examples. α and β are exact and derived in each law's docstring;
the kurtosis of one weight is measured on {DRAWS} draws (3 for a normal). A picture shows the weights of the first
{SHOWN} examples of a draw, as bars from 1.
For `Reshuffled`, `Anticorrelated` and `Scheduled`, which tie steps together or change with them, the moments are those
of one step on its own (of step 0; `halving` is a function from the step to a law, here Cov(20), and Cov(40) from step
1000 on).
"""
    return "\n".join([head, *(section(name, law) for name, law in LAWS.items())])


def main() -> None:
    """Write the page and its pictures."""
    (HERE / "laws").mkdir(exist_ok=True)
    (HERE / "laws.md").write_text(page(), encoding="utf-8")
    for name, law in LAWS.items():
        w = law.sample(N, generator(0, 0)).dense(N)[:SHOWN]
        (HERE / "laws" / f"{name}.svg").write_text(picture(w), encoding="utf-8")


if __name__ == "__main__":
    main()
