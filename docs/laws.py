"""Write laws.md, the page of every law, and a picture of one draw of each: `make docs`."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from msgd import noise
from msgd.lab.text import law_text
from msgd.noise import Law, generator

HERE = Path(__file__).parent
N, B, DRAWS, SHOWN = 1000, 20, 400, 300
Facts = tuple[str, str, str, str, str]


def halving(step: int) -> Law:
    """Return Cov(20) for the first 1000 steps and Cov(40) after them."""
    return noise.Cov(B if step < 1000 else 2 * B)


#: the name of the picture → the law, at n = 1000 and b = 20
LAWS: dict[str, Law] = {
    "full-batch": noise.FullBatch(),
    "mini-batch": noise.MiniBatch(B),
    "mini-batch-replacement": noise.MiniBatch(B, replacement=True),
    "reshuffled": noise.Reshuffled(B),
    "emulate-reshuffled": noise.EmulateReshuffled(200, B),
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


#: what a law does, and its weights as TeX
ABOUT: dict[type[Law], tuple[str, str]] = {
    noise.FullBatch: ("Gradient descent without noise.", r"w = 1"),
    noise.MiniBatch: (
        "SGD: a random batch of b examples, drawn without or with replacement.",
        r"w_i = \frac{n}{b}\,k_i,\quad k_i \text{ the number of times that example } i \text{ is drawn}",
    ),
    noise.Reshuffled: (
        "SGD with a data loader: each epoch visits the examples in the order of a new random permutation, b per step.",
        r"w_i = \frac{n}{b} \text{ on the next } b \text{ examples of the permutation, else } 0",
    ),
    noise.EmulateReshuffled: (
        "A data loader with shuffled batches of B, as noisy as one with shuffled batches of b. The sum of the Gaussian "
        "weights is fixed for each batch, and for each example over B/b epochs.",
        r"w_i = \frac{n}{B}\left(1 + \sigma\,(\Pi\varepsilon)_i\right) \text{ on the next } B \text{ examples of the "
        r"permutation, else } 0,\quad \Pi \text{ a projection}",
    ),
    noise.Bernoulli: (
        "MSGD-Bernoulli: each example is kept independently with probability b/n.",
        r"w_i = \frac{n}{b}\,k_i,\quad k_i \sim \operatorname{Bernoulli}\left(\frac{b}{n}\right)",
    ),
    noise.Poisson: (
        "Poisson sampling: each example is counted independently.",
        r"w_i = \frac{n}{b}\,k_i,\quad k_i \sim \operatorname{Poisson}\left(\frac{b}{n}\right)",
    ),
    noise.BayesianBootstrap: (
        "The Bayesian bootstrap with total concentration b − 1.",
        r"w \sim n\operatorname{Dirichlet}\left(\frac{b-1}{n}, \dots, \frac{b-1}{n}\right)",
    ),
    noise.Fisher: (
        "MSGD-Fisher: independent Gaussian weights.",
        r"w = 1 + \sqrt{\frac{n}{b}}\,\varepsilon,\quad \varepsilon \sim N(0, I_n)",
    ),
    noise.Cov: (
        "MSGD-Cov: Gaussian weights, centred over the batch.",
        r"w = 1 + \sqrt{\frac{n}{b}}\,(\varepsilon - \bar\varepsilon),\quad \varepsilon \sim N(0, I_n)",
    ),
    noise.SparseFisher: (
        "MSGD-[Fisher-m]: Gaussian weights on m random examples and the weight 1 on the others.",
        r"w = 1 + \sigma\varepsilon \text{ on a random } m\text{-subset, else } 1,\quad \sigma^2 = \frac{n^2}{bm}",
    ),
    noise.SparseCov: (
        "MSGD-[Cov-m]: like `SparseFisher`, with ε centred over the subset.",
        r"w = 1 + \sigma(\varepsilon - \bar\varepsilon) \text{ on a random } m\text{-subset, else } 1,"
        r"\quad \sigma^2 = \frac{n(n-1)}{b(m-1)}",
    ),
    noise.Injected: (
        "Noise with any scalar law of unit variance in place of the Gaussian; optionally centred, as in `Cov`, and on "
        "a random subset of `support` examples.",
        r"w = 1 + \sigma\varepsilon,\quad \sigma = \sqrt{\frac{n}{b}} \text{ on all examples}",
    ),
    noise.TwoBatch: (
        "Two mini-batches, one of them with a negative weight. `noise_enhancement` and `svag` build it.",
        r"w = (1+\gamma)\,w^{(1)} - \gamma\,w^{(2)},\quad w^{(j)} = \frac{n}{b} \text{ on a random } b\text{-subset}",
    ),
    noise.Anticorrelated: (
        "The difference of the noise of two consecutive steps, where `inner` draws the noise.",
        r"w_t = 1 + \frac{\xi_t - \xi_{t-1}}{\sqrt2},\quad \xi_t = w^{\text{inner}}_t - 1",
    ),
    noise.Scheduled: ("A law for each step, given as a function of the step.", r"w_t \sim \text{law}(t)"),
    noise.Subsampled: (
        "[MSGD-X]-B: a random subset of B examples, whose weights `inner` draws over the B examples.",
        r"w = \frac{n}{B}\,w^{\text{inner}} \text{ on a random } B\text{-subset, else } 0",
    ),
    noise.Grouped: (
        "A random partition into groups of `size` examples, such as ghost batches; `inner` draws for each group anew.",
        r"w = \left(w^{(1)}, w^{(2)}, \dots\right),\quad w^{(k)} \text{ independent draws of the inner law}",
    ),
}


def kurtosis(law: Law) -> str:
    """Kurtosis of one weight, pooled over draws; ∞ if the scalar law has none that is finite."""
    scalar = law.scalar_law.kurtosis if isinstance(law, noise.Injected) else 0.0
    if not math.isfinite(scalar):
        return "∞" if scalar == math.inf else "undefined"
    w = np.concatenate([law.at_step(N, seed=0, step=step).dense(N) for step in range(DRAWS)]) - 1
    return f"{float(f'{(w**4).mean() / (w**2).mean() ** 2:.2g}'):g}" if w.any() else "–"


def picture(w: NDArray[np.float64]) -> str:
    """Draw the weights of one draw as an SVG: a bar from 1 to the weight for each of the first examples."""
    width, height, top = 560, 120, max(8.0, float(np.abs(w - 1).max()))
    zero, step = height / 2, 560 / SHOWN

    def y(value: float) -> float:
        return zero - (value - 1) / top * (height / 2 - 6)

    bars = "".join(f"M{step * (i + 0.5):.1f} {zero:.0f}V{y(value):.1f}" for i, value in enumerate(w) if value != 1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width + 64} {height}" width="{width + 64}">'
        f'<rect width="{width + 64}" height="{height}" fill="#fff"/>'
        f'<path d="M0 {zero:.0f}H{width}" stroke="#999"/>'
        f'<path d="{bars}" stroke="#0072B2" stroke-width="1.5" fill="none"/>'
        f'<g font-family="sans-serif" font-size="15" fill="#222"><text x="{width + 6}" y="{zero + 5:.0f}">w = 1</text>'
        f'<text x="{width + 6}" y="15">{1 + top:.0f}</text><text x="{width + 6}" y="{height - 4}">{1 - top:.0f}</text>'
        "</g></svg>\n"
    )


def facts(law: Law) -> Facts:
    """A law's α, β, b_eff, coefficient of ḡḡᵀ, and kurtosis."""
    moments = law.moments(N)
    if math.isinf(moments.alpha):
        return "∞", "–", "none", "–", kurtosis(law)
    b_eff = moments.effective_batch_size(N)
    along = moments.mean_gradient_coefficient(N)
    return (
        f"{moments.alpha:.4g}",
        f"{moments.beta:.4g}",
        "∞" if math.isinf(b_eff) else f"{b_eff:.4g}",
        f"{0 if abs(along) < 1e-12 else along:.3g}",
        kurtosis(law),
    )


def title(law: Law) -> str:
    """A law as one writes it in Python, without arguments that have their default value."""
    if isinstance(law, noise.Scheduled):
        return "Scheduled(halving)"
    return law_text(law)


def section(name: str, law: Law, values: Facts) -> str:
    """A law's part of the page."""
    description, formula = ABOUT[type(law)]
    alpha, beta, b_eff, along, kurt = values
    line = f"α = {alpha}, β = {beta}; b_eff = {b_eff}; coefficient of ḡḡᵀ {along}; kurtosis {kurt}."
    if alpha == "∞":
        line = f"No variance: α = ∞; kurtosis {kurt}."
    heading = f"### `{title(law)}`\n\n{description}\n\n$$\n{formula}\n$$\n\n{line}\n\n"
    return f"{heading}![The weights of one draw](laws/{name}.svg)\n"


def page() -> str:
    """The whole page."""
    scalars = ", ".join(f"`{name}`" for name in noise.SCALAR_LAWS)
    head = rf"""# The laws

A law is a distribution of the weights $w$ of the examples. All laws are exchangeable, so the covariance of a law
has two parameters:

$$
\operatorname{{Cov}}(w) = \alpha I + \beta\,\mathbf 1 \mathbf 1^{{\mathsf T}}, \qquad
\operatorname{{Cov}}(\tilde g) = \frac{{\alpha}}{{n}}\,C
+ \left(\frac{{\alpha}}{{n}} + \beta\right) \bar g \bar g^{{\mathsf T}} .
$$

$\bar g$ is the mean of the per-example gradients $g_i$, and $C = \frac1n \sum_i g_i g_i^{{\mathsf T}} - \bar g \bar
g^{{\mathsf T}}$ is their covariance. $b_{{\text{{eff}}}} = n/\alpha$ is the batch size whose SGD noise has the same
part along $C$. The *coefficient of* $\bar g \bar g^{{\mathsf T}}$, $\alpha/n + \beta$, is the noise that the law
adds along the mean gradient.

A draw depends on (seed, step) alone. It is the same in every process and after every restart:

```python
>>> from msgd import noise
>>> law = noise.MiniBatch(20)
>>> law.draw(1000, seed=0, step=7)
Weights(index=tensor([...]), value=tensor([50., ...]), n=1000)
```

`Emulate(b)` is not among the laws below, because it depends on the size of the batch that it is applied to: it adds
only the noise that the batch lacks compared with a batch of b. `Subsampled(B, Emulate(b))` shows it over batches of
B.

## Names in recipes

A recipe names a law in lower case with hyphens: `MiniBatch` is `mini-batch`, `SparseFisher` is `sparse-fisher`.
`Scheduled` takes a Python function, so it is for your own loop only. The scalar laws for `injected` are {scalars}.

## Overview

Every law at n = {N} with b = {B}. α and β are exact; each law's [docstring](api/noise.md) derives them. The
kurtosis of one weight is measured on {DRAWS} draws and is 3 for a normal law.

- A law that is made of others has a different b_eff. `TwoBatch` is noisier than one batch of b by design. `Grouped`
  and `Subsampled` apply b to fewer examples.
- `Reshuffled`, `EmulateReshuffled` and `Anticorrelated` make the steps dependent, and `Scheduled` changes with the
  step. The table shows the moments of one step by itself, for `Scheduled` those of step 0. `halving` is a function
  that returns Cov(20) for the first 1000 steps and Cov(40) after them.

| law | α | β | b_eff | coefficient of ḡḡᵀ | kurtosis |
| :-- | --: | --: | --: | --: | --: |
"""
    found = {name: facts(law) for name, law in LAWS.items()}
    rows = "\n".join(f"| `{title(law)}` | {' | '.join(found[name])} |" for name, law in LAWS.items())
    after = (
        f"\n\n## Each law\n\nA picture shows the weights of the first {SHOWN} examples of one draw, as bars from 1.\n"
    )
    return head + rows + after + "\n" + "\n".join(section(name, law, found[name]) for name, law in LAWS.items())


def main() -> None:
    """Write the page and its pictures."""
    (HERE / "laws").mkdir(exist_ok=True)
    (HERE / "laws.md").write_text(page(), encoding="utf-8")
    for name, law in LAWS.items():
        w = law.sample(N, generator(0, 0)).dense(N)[:SHOWN]
        (HERE / "laws" / f"{name}.svg").write_text(picture(w), encoding="utf-8")


if __name__ == "__main__":
    main()
