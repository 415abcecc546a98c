"""The quantities that `msgd measure` measures on one run after one step, and their cost levels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import numpy as np
import torch
from scipy import special
from torch import Tensor

from msgd.diagnostics import (
    Covariance,
    Estimate,
    block_index,
    excess_kurtosis,
    gaussianity,
    hessian_eigenvalues,
    hessian_trace,
    hill,
    loss_change,
    mean_square,
    noise_along,
    random_directions,
)
from msgd.lab.measure.cost import CostCountingMatrix
from msgd.lab.measure.measurements_file import (
    Cost,
    CovarianceResult,
    Direction,
    Interval,
    NoiseScaleResult,
    SharpnessResult,
    TailsResult,
)
from msgd.lab.plan.run import Run
from msgd.langevin import SGLD, GLDConst, GLDDiag, GLDDynamic, GLDLeading

SHARE = 0.05  #: norm of the random perturbation for the loss change, as a fraction of ‖θ‖

#: normal scores at which the quantiles are recorded
SCORES = np.linspace(-3, 3, 41)


@dataclass(frozen=True)
class Level:
    """The numbers of eigenvalues, directions and draws at a cost level.

    Args:
        k: number of eigenvalues of C.
        alignment: number of draws for Tr(H·C); 0: leave it out; None: compute it exactly from n Hessian-vector
            products.
        hessian: number of eigenvalues of H.
        trace: number of draws for Tr H.
        change: number of draws for the loss change.
        directions: number of random directions, in addition to the leading eigenvector of C.
        draws: number of draws of the noise along each direction.
    """

    k: int
    alignment: int | None
    hessian: int
    trace: int
    change: int
    directions: int
    draws: int


LEVELS: dict[Cost, Level] = {
    "cheap": Level(k=10, alignment=0, hessian=1, trace=12, change=8, directions=3, draws=1000),
    "medium": Level(k=20, alignment=64, hessian=5, trace=48, change=32, directions=8, draws=4000),
    "full": Level(k=20, alignment=None, hessian=20, trace=192, change=128, directions=16, draws=16_000),
}


@dataclass(frozen=True, eq=False)
class Subject:
    """A run after one of its steps; values that several quantities need are computed once.

    Args:
        matrix: the gradient matrix G of all training examples at the run's parameters.
        run: the run.
        step: the number of steps after which the parameters were saved.
        level: the numbers of eigenvalues, directions and draws.
    """

    matrix: CostCountingMatrix
    run: Run
    step: int
    level: Level

    @cached_property
    def covariance(self) -> Covariance:
        """The covariance C of the per-example gradients."""
        return Covariance(self.matrix)

    @cached_property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """The leading eigenvalues of C, and the eigenvector of the largest, shape (d, 1)."""
        return self.covariance.eigenpairs(min(self.level.k, *self.matrix.shape), vectors=1)

    @cached_property
    def trace(self) -> float:
        """The trace of C."""
        return self.covariance.trace()

    @cached_property
    def mean_square(self) -> float:
        """‖ḡ‖²."""
        return mean_square(self.matrix)

    @cached_property
    def alignment(self) -> Estimate:
        """Tr(H·C), estimated or exact, depending on the level."""
        return self.covariance.hessian_alignment(draws=self.level.alignment)

    @cached_property
    def curvature(self) -> float:
        """ḡᵀHḡ."""
        mean = self.matrix.mean()
        return float(mean.double() @ self.matrix.hessian_product(mean).double())


def measure_covariance(subject: Subject) -> tuple[CovarianceResult, list[str]]:
    """Measure C and the noise of the run's method.

    Args:
        subject: the run after one of its steps.

    Returns:
        The result and notes.
    """
    matrix, run, level = subject.matrix, subject.run, subject.level
    values = subject.pairs[0].tolist()
    noise, notes = noise_trace(run, subject.step, subject.trace, subject.mean_square, matrix.shape[0])
    found = CovarianceResult(
        eigenvalues=values,
        trace=subject.trace,
        mean_square=subject.mean_square,
        stable_rank=subject.trace / values[0] if values[0] > 0 else None,
        noise_trace=noise,
    )
    if level.alignment != 0:
        alignment = subject.alignment
        found.alignment = interval(alignment)
        moments = run.law.moments(run.n)
        if math.isfinite(moments.alpha) and run.noise is None and run.penalty is None:
            scale, shift = moments.alpha / run.n, moments.mean_gradient_coefficient(run.n) * subject.curvature
            ends = {end: scale * getattr(alignment, end) + shift for end in ("value", "low", "high")}
            found.noise_alignment = interval(replace(alignment, **ends))
    return found, notes


def noise_trace(run: Run, step: int, trace: float, square: float, d: int) -> tuple[float | None, list[str]]:
    """The total variance of the noise in a run's gradient.

    It is ``(α/n)·tr C + (α/n + β)·‖ḡ‖²``, plus the variance of the noise in parameter space if there is any.

    Args:
        run: the run, with its law, noise and penalty.
        step: the number of steps after which the parameters were saved.
        trace: tr C at these parameters.
        square: ‖ḡ‖² at these parameters.
        d: number of parameters.

    Returns:
        The variance, None if it is infinite or not known, and notes.
    """
    if run.penalty is not None:
        return 0.0, ["the method has a penalty in place of noise, so its noise variance is 0"]
    moments = run.law.moments(run.n)
    if math.isinf(moments.alpha):
        return None, ["the law has no variance"]
    notes = ["the law ties steps together: these moments are those of a single step"] if run.law.correlated else []
    total = moments.alpha / run.n * trace + moments.mean_gradient_coefficient(run.n) * square
    if run.noise is None:
        return max(total, 0.0), notes
    notes.append(
        "the method adds Gaussian noise in parameter space: the law of the weights gives only part of the noise"
    )
    if isinstance(run.noise, SGLD):
        return total + 2 * run.noise.temperature / run.lr_at(step) * d, notes
    if isinstance(run.noise, GLDConst) and step > 0:
        return None, [*notes, "the added noise keeps its variance of step 0, so the total at this step is not known"]
    assert isinstance(run.noise, GLDConst | GLDDynamic | GLDDiag | GLDLeading)
    return total + trace / run.noise.b, notes


def measure_noise_scale(subject: Subject) -> tuple[NoiseScaleResult, list[str]]:
    """Measure the gradient noise scale as `simple_noise_scale` does, at full cost also as `curved_noise_scale` does.

    Args:
        subject: the run after one of its steps.

    Returns:
        The result and notes.
    """
    size, notes = subject.run.effective_batch_size, []
    found = NoiseScaleResult(
        trace=subject.trace,
        mean_square=subject.mean_square,
        noise_scale=subject.trace / subject.mean_square if subject.mean_square > 0 else None,
        b_eff=None if size is None else finite_or_none(size),
    )
    if subject.level.alignment is None:
        if subject.alignment.value > 0 and subject.curvature > 0:
            found.curved = subject.alignment.value / subject.curvature
        else:
            notes.append("Tr(H·C) or ḡᵀHḡ is not positive: the quadratic model has no noise scale")
    return found, notes


def measure_tails(subject: Subject) -> tuple[TailsResult | None, list[str]]:
    """Measure how far the noise of a run's law is from normal, along the leading eigenvector of C and at random.

    Args:
        subject: the run after one of its steps.

    Returns:
        The result, None if the law has no noise, and notes.
    """
    matrix, run, level = subject.matrix, subject.run, subject.level
    if run.penalty is not None or run.law.moments(run.n).alpha == 0:
        gaussian = ", and the noise in parameter space is Gaussian" if run.noise is not None else ""
        return None, [f"the weights have no noise{gaussian}"]
    directions = torch.cat([subject.pairs[1], random_directions(matrix, level.directions)], dim=1)
    samples = noise_along(matrix, directions, run.law, draws=level.draws)
    names = ["leading", *(f"random {number + 1}" for number in range(level.directions))]
    normal = gaussianity(samples)
    found = [
        Direction(
            name=name,
            excess_kurtosis=interval(excess_kurtosis(column)),
            hill=interval_or_none(hill, column),
            block_index=interval_or_none(block_index, column),
            p_normal=p,
            quantiles=standard_quantiles(column),
        )
        for name, column, p in zip(names, samples.t(), normal.adjusted, strict=True)
    ]
    notes = ["the law ties steps together: draws are not independent, so the intervals are too short"]
    return TailsResult(draws=level.draws, directions=found), notes if run.law.correlated else []


def standard_quantiles(samples: Tensor) -> list[float]:
    """Quantiles at the normal scores `SCORES`, after scaling the samples to the median and quartiles of a normal.

    Args:
        samples: the samples, shape (m,).

    Returns:
        A quantile for each of `SCORES`.
    """
    values = samples.numpy()
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    scale = (high - low) / (2 * special.ndtri(0.75)) or 1.0
    return [float(q) for q in (np.quantile(values, special.ndtr(SCORES)) - median) / scale]


def measure_sharpness(subject: Subject, norm: float) -> tuple[SharpnessResult, list[str]]:
    """Measure how sharp the mean training loss is.

    Args:
        subject: the run after one of its steps.
        norm: ‖θ‖; the norm of a random perturbation is `SHARE` of it.

    Returns:
        The result and notes.
    """
    matrix, level, d = subject.matrix, subject.level, subject.matrix.shape[0]
    size = SHARE * norm / math.sqrt(d)
    found = SharpnessResult(
        eigenvalues=hessian_eigenvalues(matrix, min(level.hessian, d)).tolist(),
        trace=interval(hessian_trace(matrix, draws=level.trace)),
        size=size,
        loss_change=interval(loss_change(matrix, size, draws=level.change)),
    )
    return found, []


def interval_or_none(estimator: Callable[[Tensor], Estimate], samples: Tensor) -> Interval | None:
    """An estimate with its interval; None if the samples do not allow it, such as a tail index of bounded samples."""
    try:
        found = estimator(samples)
    except ValueError:
        return None
    return interval(found) if math.isfinite(found.value) else None


def finite_or_none(value: float) -> float | None:
    """The value; None for NaN and infinities, which JSON cannot represent."""
    return value if math.isfinite(value) else None


def interval(estimate: Estimate) -> Interval:
    """Convert an estimate to the form of the file."""
    table = asdict(estimate)
    return Interval(**table | {end: finite_or_none(table[end]) for end in ("low", "high")})
