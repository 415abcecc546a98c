"""The two numbers that determine the covariance of the weights: α and β of ``Cov(w) = α·I + β·11ᵀ``."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Moments:
    """Second moments α and β of an exchangeable weight vector w ∈ Rⁿ with E w = 1.

    ``Cov(w) = α·I + β·11ᵀ``, so the noise of the gradient ``g̃ = G·w/n`` has covariance

        Cov(g̃) = (α/n)·C + (α/n + β)·ḡḡᵀ,    C = (1/n)·Σ g_i g_iᵀ − ḡḡᵀ

    Args:
        alpha: coefficient of the identity, ≥ 0; infinite for a law without a finite variance.
        beta: coefficient of 11ᵀ, which is the covariance of two different weights.

    Examples:
        >>> sgd = Moments(alpha=50.0, beta=-0.05)  # 20 of 1000 with replacement
        >>> sgd.effective_batch_size(1000)
        20.0
        >>> sgd.mean_gradient_coefficient(1000)
        0.0

    References:
        Wu et al., "On the Noisy Gradient Descent that Generalizes as SGD", ICML 2020, arXiv 1906.07405.
    """

    alpha: float
    beta: float

    @property
    def variance(self) -> float:
        """Variance of one weight, α + β."""
        return self.alpha + self.beta

    def effective_batch_size(self, n: int) -> float:
        """Batch size whose SGD noise (with replacement) has the same coefficient of C: ``b_eff = n/α``.

        Args:
            n: number of examples.

        Returns:
            n/α; infinite for weights without noise.

        Raises:
            ValueError: the law has no finite variance.
        """
        self._need_variance()
        return n / self.alpha if self.alpha > 0 else math.inf

    def mean_gradient_coefficient(self, n: int) -> float:
        """Coefficient of ḡḡᵀ in the covariance of the gradient noise: ``α/n + β``.

        Args:
            n: number of examples.

        Returns:
            0 for noise of the "Cov" kind, α/n for noise of the "Fisher" kind (β = 0).

        Raises:
            ValueError: the law has no finite variance.
        """
        self._need_variance()
        return self.alpha / n + self.beta

    def _need_variance(self) -> None:
        if math.isinf(self.alpha):
            raise ValueError(
                "this law has no variance, so no batch size has the same noise: use a law with a finite variance"
            )
