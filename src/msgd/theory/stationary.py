"""The linear equation for stationary second moments, solved over pairs of eigendirections."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.sparse import linalg as iterative

from msgd.noise import Moments

Array = NDArray[np.float64]
DENSE = 1300  #: largest number of pairs (for rank 50) with dense matrices; above it the methods are iterative
_ROWS = 4096  # number of examples whose pairs are held at once


def squares(inputs: Array, sigma: Array) -> Array:
    """Return ``x_iᵀΣx_i`` for each row of ``inputs``, shape (n,)."""
    values: Array = np.einsum("ij,ij->i", inputs @ sigma, inputs)
    return values


def noise_covariance(inputs: Array, h: Array, moments: Moments, residuals: Array, second: Array) -> Array:
    """Return ``(α/n²)·Σ_i x_i x_iᵀ·E r_i² + β·H·E[eeᵀ]·H`` in the eigenbasis of H.

    Args:
        inputs: the x_i, shape (n, r).
        h: eigenvalues of H, shape (r,).
        moments: α and β.
        residuals: E r_i², shape (n,).
        second: E eeᵀ, shape (r, r).

    Returns:
        Covariance of the gradient noise, shape (r, r).
    """
    spread = inputs.T @ (residuals[:, None] * inputs)
    spread = (spread + spread.T) / 2  # exactly symmetric: a recursion may amplify an antisymmetric part
    noise: Array = moments.alpha / len(inputs) ** 2 * spread + moments.beta * np.multiply.outer(h, h) * second
    return noise


class StationaryEquation:
    """``γ·Σ − N(Σ) = source`` of `LeastSquares.stable_lr`, scaled: ``((1−μ)/η − A^−½·M·A^−½)·(A^½·Σ) = A^−½·source``.

    A symmetric matrix is represented by the vector of its pairs i ≤ j, with a factor √2 off the diagonal that preserves
    the inner product, so that all maps are symmetric.

    Args:
        inputs: the x_i in the eigenbasis of H, shape (n, r).
        h: eigenvalues of H, all positive, shape (r,).
        moments: α and β.
        mu: μ, the momentum.
    """

    def __init__(self, inputs: Array, h: Array, moments: Moments, mu: float) -> None:
        self._inputs, self._h, self._moments, self._mu = inputs, h, moments, mu
        self._pairs = first, second = np.triu_indices(len(h))
        self._factor: Array = np.where(first == second, 1.0, math.sqrt(2))
        hi, hj = h[first], h[second]
        self._scale: Array = 1 / np.sqrt(hi + hj)
        self._diagonal: Array = ((1 - mu) ** 2 * hi * hj - mu * (hi - hj) ** 2) / (1 - mu**2)
        self._matrix = self._dense() if len(hi) <= DENSE else None

    def largest_stable_lr(self) -> float:
        """Return ``(1−μ)/λ_max(A^−½·M·A^−½)``."""
        if self._matrix is not None:
            last = len(self._matrix) - 1
            largest = linalg.eigh(self._matrix, eigvals_only=True, subset_by_index=[last, last])[0]
        else:
            # No diagonal with positive entries is orthogonal to the eigenmatrix, which is positive semi-definite.
            start = self._vector(np.diag(self._h))
            operator = self._operator(0.0, 1.0)
            largest = iterative.eigsh(operator, k=1, which="LA", v0=start, return_eigenvectors=False)[0]
        return (1 - self._mu) / float(largest)

    def solve(self, lr: float, source: Array) -> Array | None:
        """Solve for Σ.

        Args:
            lr: η, below the largest stable one.
            source: symmetric, shape (r, r).

        Returns:
            Σ, shape (r, r); None if the iteration does not converge.
        """
        right, shift = self._scale * self._vector(source), (1 - self._mu) / lr
        failed = 0
        if self._matrix is not None:
            left = np.diag(np.full(len(right), shift)) - self._matrix
            solved: Array = linalg.solve(left, right, assume_a="pos")
        else:
            solved, failed = iterative.cg(self._operator(shift, -1.0), right, rtol=1e-12, maxiter=5000)
        return None if failed else self._symmetric(self._scale * solved)

    def _dense(self) -> Array:
        first, second = self._pairs
        fourth = np.zeros((len(first), len(first)))  # the map Σ → Σ_i x_i x_iᵀ·x_iᵀΣx_i
        for row in range(0, len(self._inputs), _ROWS):
            some = self._inputs[row : row + _ROWS]
            products = some[:, first] * some[:, second] * self._factor
            fourth += products.T @ products
        diagonal = self._diagonal + self._moments.beta * self._h[first] * self._h[second]
        matrix = self._moments.alpha / len(self._inputs) ** 2 * fourth + np.diag(diagonal)
        scaled: Array = matrix * np.multiply.outer(self._scale, self._scale)
        return scaled

    def _operator(self, shift: float, factor: float) -> iterative.LinearOperator:
        def multiply(x: Array) -> Array:
            x = x.ravel()
            sigma = self._symmetric(self._scale * x)
            noise = noise_covariance(self._inputs, self._h, self._moments, squares(self._inputs, sigma), sigma)
            product = self._scale * (self._vector(noise) + self._diagonal * self._scale * x)
            return shift * x + factor * product

        return iterative.LinearOperator((len(self._scale),) * 2, matvec=multiply, dtype=np.float64)

    def _vector(self, sigma: Array) -> Array:
        vector: Array = sigma[self._pairs] * self._factor
        return vector

    def _symmetric(self, vector: Array) -> Array:
        sigma = np.empty((len(self._h), len(self._h)))
        sigma[self._pairs] = sigma.T[self._pairs] = vector / self._factor
        return sigma
