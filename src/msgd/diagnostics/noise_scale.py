"""The gradient noise scale tr C/‖ḡ‖²: its exact value, or an estimate from two batch sizes in a training loop."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from msgd._checks import positive_integer
from msgd.gradients.covariance import Covariance, mean_square
from msgd.gradients.gradient_matrix import GradientMatrix, check_matrix
from msgd.statistics.intervals import Estimate, mean_of, quantile


def simple_noise_scale(matrix: GradientMatrix) -> float:
    """Return the exact ``B_simple = tr C/‖ḡ‖²``, the batch size at which the noise is as large as the gradient.

    Args:
        matrix: G, of all training examples.

    Returns:
        The noise scale, in examples, which predicts the critical batch size; infinite if ḡ is 0.

    Raises:
        ValueError: all gradients are 0.

    Examples:
        >>> from torch import nn
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> squares = lambda out, y: 0.5 * (out - y).squeeze(1) ** 2
        >>> G = GradientMatrix(model, squares, torch.ones(2, 1), torch.tensor([[1.0], [3.0]]))
        >>> round(simple_noise_scale(G), 5)
        0.25

    References:
        McCandlish, Kaplan, Amodei et al. 2018, arXiv 1812.06162, section 2.2.
    """
    return _ratio(Covariance(matrix).trace(), mean_square(matrix))


def curved_noise_scale(matrix: GradientMatrix) -> float:
    """Return the exact ``B_noise = Tr(H·C)/(ḡᵀ·H·ḡ)``, the noise scale of a quadratic model of the loss.

    H is the Hessian of the mean loss. If H is a multiple of the identity, this equals `simple_noise_scale`. It costs n
    Hessian-vector products of all n examples.

    Args:
        matrix: G, of all training examples.

    Returns:
        The noise scale, in examples.

    Raises:
        ValueError: ``ḡᵀHḡ`` or ``Tr(H·C)`` is not positive, so that the quadratic model has no optimal step.

    Examples:
        >>> from torch import nn
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> squares = lambda out, y: 0.5 * (out - y).squeeze(1) ** 2
        >>> G = GradientMatrix(model, squares, torch.ones(2, 1), torch.tensor([[1.0], [3.0]]))
        >>> round(curved_noise_scale(G), 5)
        0.25

    References:
        McCandlish, Kaplan, Amodei et al. 2018, arXiv 1812.06162, section 2.2.
    """
    check_matrix(matrix)
    mean = matrix.mean()
    curvature = float(mean.double() @ matrix.hessian_product(mean).double())
    alignment = Covariance(matrix).hessian_alignment().value
    if not (curvature > 0 and alignment > 0):
        raise ValueError(
            f"ḡᵀHḡ = {curvature:.3g} and Tr(HC) = {alignment:.3g} must be positive: use simple_noise_scale"
        )
    return alignment / curvature


@dataclass(frozen=True)
class NoiseScale:
    """The noise scale of a phase of training, estimated from two batch sizes.

    Args:
        value: tr C/‖ḡ‖², in examples: the ratio of the two averages. It predicts the critical batch size, at which a
            step makes half the progress of a step without noise; infinite if the average of ‖ḡ‖² is not positive.
        low: lower end of the interval of ``value``, ≥ 0.
        high: upper end of the interval; infinite if the interval of ‖ḡ‖² contains 0.
        level: confidence level of the intervals.
        variance: estimate of tr C, the total variance of one example's gradient.
        mean_square: estimate of ‖ḡ‖².
        steps: number of logical batches.
    """

    value: float
    low: float
    high: float
    level: float
    variance: Estimate
    mean_square: Estimate
    steps: int

    def efficiency(self, b: float) -> float:
        """Return the progress of the best step at batch size b relative to a step without noise, ``1/(1 + value/b)``.

        Args:
            b: batch size, > 0.

        Returns:
            A number from 0 to 1, which is 1/2 at the critical batch size.
        """
        return 1 / (1 + self.value / b)


class NoiseScaleMeter:
    """Estimates the noise scale from the micro-batches of gradient accumulation; memory holds one gradient copy.

    A logical batch consists of k ≥ 2 micro-batches of b examples, with mean gradients m_j and mean M = Σ m_j/k. For
    independent examples ``E‖m_j‖² = ‖ḡ‖² + tr C/b`` and ``E‖M‖² = ‖ḡ‖² + tr C/(kb)``, so that each step gives the
    unbiased estimates

        S = (mean_j‖m_j‖² − ‖M‖²)/(1/b − 1/(kb))  of tr C,    Q = (k·‖M‖² − mean_j‖m_j‖²)/(k − 1)  of ‖ḡ‖².

    The reported noise scale is the ratio of their averages over steps, since the average of ratios is biased. Its
    interval is Fieller's, which assumes independent steps and normal averages. If the examples are drawn without
    replacement from n, S has the expectation tr C·n/(n − 1) and Q the expectation ‖ḡ‖² − tr C/(n − 1);
    ``population=n`` corrects both.

    Each call of `after_backward` reads the accumulated ``.grad``; gradients must be zero at the start of each logical
    batch. Losses are assumed to be divided by k, as in frameworks; otherwise S and Q are larger by a factor of k², and
    the ratio is unchanged. With random weights (`msgd.Reweighter`) the estimate includes the noise of the weights.

    Args:
        b: number of examples in each micro-batch.
        population: n, if the examples are drawn without replacement from n examples; else None.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is below 1.

    Examples:
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> meter = NoiseScaleMeter(b=1)
        >>> for x in torch.randn(50, 4, 1, 1, generator=torch.Generator().manual_seed(0)) + 2:
        ...     model.zero_grad()
        ...     for micro in x:
        ...         (model(micro).mean() / 4).backward()  # the gradient is x: tr C = 1, ‖ḡ‖² = 4
        ...         meter.after_backward(model.parameters())
        ...     meter.end_step()  # followed by optimizer.step()
        >>> estimate = meter.estimate()
        >>> estimate.low < 0.25 < estimate.high
        True

    References:
        McCandlish, Kaplan, Amodei et al. 2018, arXiv 1812.06162, appendix A.1. The interval: Fieller 1954, "Some
        problems in interval estimation".
    """

    def __init__(self, *, b: int, population: int | None = None) -> None:
        self.b = positive_integer("b", b)
        self.population = None if population is None else positive_integer("population", population)
        self._pairs: list[tuple[float, float]] = []
        self._squares: list[float] = []  #: squared norm of the gradient of each micro-batch
        self._before: list[Tensor | None] = []

    @property
    def steps(self) -> int:
        """Number of measured logical batches."""
        return len(self._pairs)

    @torch.no_grad()
    def after_backward(self, parameters: Iterable[Tensor]) -> None:
        """Record a micro-batch; call this right after its backward pass and before any gradient clipping.

        Args:
            parameters: the parameters of the model, the same in every call.
        """
        current = [parameter.grad for parameter in parameters]
        before = self._before or [None] * len(current)
        grown = [
            grad if old is None else grad - old for grad, old in zip(current, before, strict=True) if grad is not None
        ]
        self._squares.append(_square(grown))
        self._before = [None if grad is None else grad.clone() for grad in current]

    def end_step(self) -> None:
        """End a logical batch.

        Raises:
            ValueError: the logical batch had fewer than two micro-batches; it is not counted.
        """
        squares, gradient = self._squares, [grad for grad in self._before if grad is not None]
        self.discard()
        if len(squares) < 2:
            raise ValueError(
                f"{len(squares)} micro-batches in this step, but at least 2 are needed: accumulate gradients over "
                "micro-batches, or use diagnostics.simple_noise_scale"
            )
        k = len(squares)
        self.add(k * sum(squares), _square(gradient), micro_batches=k)

    def discard(self) -> None:
        """Drop the current logical batch, e.g. if it is incomplete or not all its micro-batches have b examples."""
        self._squares, self._before = [], []

    def add(self, micro_square: float, mean_square: float, *, micro_batches: int) -> None:
        """Record a logical batch whose norms are known, e.g. from the ranks of a data-parallel job.

        Args:
            micro_square: mean of ‖m_j‖² over the micro-batches.
            mean_square: ‖M‖².
            micro_batches: k ≥ 2, the number of micro-batches.

        Raises:
            TypeError: ``micro_batches`` is not an integer.
            ValueError: there are fewer than two micro-batches, or more examples than the population has; or a norm is
                not finite.
        """
        k = positive_integer("micro_batches", micro_batches)
        if k < 2:
            raise ValueError("1 micro-batch gives only one batch size: use at least 2 micro-batches")
        if self.population is not None and k * self.b > self.population:
            raise ValueError(
                f"{k} micro-batches of {self.b} do not fit in a population of {self.population}: check b and population"
            )
        if not (math.isfinite(micro_square) and math.isfinite(mean_square)):
            raise ValueError("the gradient is not finite: drop this step with discard()")
        variance = (micro_square - mean_square) / (1 / self.b - 1 / (k * self.b))
        square = (k * mean_square - micro_square) / (k - 1)
        if self.population is not None:
            square += variance / self.population
            variance *= 1 - 1 / self.population
        self._pairs.append((variance, square))

    def reset(self) -> None:
        """Discard all steps, so that the next estimate covers a new phase of training."""
        self._pairs.clear()
        self.discard()

    def estimate(self, *, level: float = 0.95) -> NoiseScale:
        """Return the noise scale of the steps since the start, or since the last `reset`.

        Args:
            level: confidence level of the intervals.

        Returns:
            Averages over the steps, their ratio, and intervals.

        Raises:
            ValueError: there are fewer than two steps, or ``level`` is not a probability.
        """
        quantile(max(self.steps, 2), level)  # raises if level is not a probability
        if self.steps < 2:
            raise ValueError(
                f"{self.steps} steps were measured, and at least 2 are needed: call after_backward(model.parameters()) "
                "after each backward pass and end_step() before each step of the optimizer"
            )
        pairs = np.array(self._pairs)
        variance, square = mean_of(pairs[:, 0], level), mean_of(pairs[:, 1], level)
        low, high = _fieller(pairs, level)
        value = _ratio(max(variance.value, 0.0), square.value) if square.value > 0 else math.inf
        return NoiseScale(value, low, high, level, variance, square, self.steps)


def _fieller(pairs: NDArray[np.float64], level: float) -> tuple[float, float]:
    # The interval contains all ρ ≥ 0 for which the mean of S − ρQ does not differ significantly from 0:
    # aρ² − 2bρ + c ≤ 0. They lie between the roots if the mean of Q differs from 0 (a > 0), else outside the roots.
    t2 = quantile(len(pairs), level) ** 2
    (s, q), cov = pairs.mean(0), np.cov(pairs.T) / len(pairs)
    a, b, c = q * q - t2 * cov[1, 1], s * q - t2 * cov[0, 1], s * s - t2 * cov[0, 0]
    root = math.sqrt(max(0.0, b * b - a * c))
    if a > 0 and q > 0:
        return max(0.0, float(b - root) / float(a)), max(0.0, float(b + root) / float(a))
    if a < 0 and root > 0:
        first, second = sorted(((b - root) / a, (b + root) / a))
        if first < 0 < second:
            return float(second), math.inf
    return 0.0, math.inf


def _ratio(variance: float, square: float) -> float:
    if square == 0 and variance == 0:
        raise ValueError("all gradients are 0 and have no noise scale: check the loss and the parameters")
    return variance / square if square > 0 else math.inf


def _square(tensors: list[Tensor]) -> float:
    norms = [torch.linalg.vector_norm(tensor, dtype=torch.float64) for tensor in tensors]
    return float(torch.stack(norms).square().sum()) if norms else 0.0
