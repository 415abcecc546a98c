"""The covariance C of the per-example gradients, the Fisher matrix F and a law's noise covariance, as operators."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from msgd._checks import positive_integer
from msgd.gradients.eigenpairs import largest_eigenpairs
from msgd.gradients.gradient_matrix import GradientMatrix, check_matrix, numpy_operator
from msgd.gradients.gram import leading_coefficients, recentre, scale_coefficients
from msgd.gradients.per_example import CHUNK
from msgd.noise import Injected, Law, Rademacher, generator
from msgd.statistics.intervals import Estimate, mean_of

Method = Literal["auto", "gram", "lanczos"]  #: how eigenvalues are computed


class Covariance:
    """``scale·C + mean_scale·ḡḡᵀ ∈ R^{d×d}``, with ``C = (1/n)·Σ g_i g_iᵀ − ḡḡᵀ``, as an operator.

    ``Covariance(G)`` is C, `fisher` is F = C + ḡḡᵀ, and `of_law` is the covariance of the gradient noise of a law of
    the weights. All three equal A·Aᵀ with ``A = G·S``, ``S = (√scale·P + √mean_scale·Q)/√n``, Q = 11ᵀ/n and P = I − Q.
    A product takes one product with Gᵀ and one with G, and the nonzero eigenvalues are those of the n×n matrix AᵀA.

    Args:
        matrix: G.
        scale: factor of C, ≥ 0.
        mean_scale: factor of ḡḡᵀ, ≥ 0.

    Raises:
        ValueError: a factor is negative or not finite.

    Examples:
        >>> from torch import nn
        >>> model = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> squares = lambda out, y: 0.5 * (out - y).squeeze(1) ** 2
        >>> G = GradientMatrix(model, squares, torch.eye(2), torch.tensor([[2.0], [4.0]]))
        >>> C = Covariance(G)
        >>> C @ torch.tensor([1.0, 0.0])  # C is the covariance of (−2, 0) and (0, −4)
        tensor([ 1., -2.])
        >>> round(C.trace(), 5), round(Covariance.fisher(G).trace(), 5)
        (5.0, 10.0)
        >>> round(float(C.eigenvalues(1)), 5)
        5.0

    References:
        Wu et al. 2020, arXiv 1906.07405: C, F and the covariance of the noise of a law.
    """

    def __init__(self, matrix: GradientMatrix, *, scale: float = 1.0, mean_scale: float = 0.0) -> None:
        check_matrix(matrix)
        for name, value in (("scale", scale), ("mean_scale", mean_scale)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be at least 0 and finite, not {value!r}")
        self.matrix, self.scale, self.mean_scale = matrix, float(scale), float(mean_scale)

    @classmethod
    def fisher(cls, matrix: GradientMatrix) -> Covariance:
        """Return the empirical Fisher matrix ``F = C + ḡḡᵀ = G·Gᵀ/n``.

        Args:
            matrix: G.

        Returns:
            F as an operator.
        """
        return cls(matrix, mean_scale=1.0)

    @classmethod
    def of_law(cls, matrix: GradientMatrix, law: Law) -> Covariance:
        """Return the covariance ``(α/n)·C + (α/n + β)·ḡḡᵀ`` of the gradient G·w/n, with w drawn from a law.

        Args:
            matrix: G.
            law: law of the weights of all n examples, with the moments α and β.

        Returns:
            The covariance as an operator.

        Raises:
            ValueError: the law has no finite variance, or is not defined for this n.
        """
        check_matrix(matrix)
        scale, mean_scale = _scales(law, matrix.shape[1])
        return cls(matrix, scale=scale, mean_scale=mean_scale)

    def __repr__(self) -> str:
        return f"Covariance({self.matrix!r}, scale={self.scale:.6g}, mean_scale={self.mean_scale:.6g})"

    @property
    def shape(self) -> tuple[int, int]:
        """(d, d)."""
        return self.matrix.shape[0], self.matrix.shape[0]

    @property
    def T(self) -> Covariance:  # noqa: N802
        """The covariance itself, which is symmetric."""
        return self

    def __matmul__(self, u: Tensor) -> Tensor:
        """Return the product with u of shape (d,) or (d, k); one forward-mode and one backward pass per column."""
        products = self.matrix.T @ u
        mean = products.mean(0, keepdim=True)
        return self.matrix @ ((self.scale * (products - mean) + self.mean_scale * mean) / self.matrix.shape[1])

    def as_linear_operator(self) -> LinearOperator[Any]:
        """Return the covariance as an operator for `scipy.sparse.linalg`, on NumPy vectors in the parameters' dtype."""
        return numpy_operator(self.shape, self.matrix, self.__matmul__, self.__matmul__)

    def trace(self) -> float:
        """Return the exact trace ``scale·tr C + mean_scale·‖ḡ‖²``.

        This takes one pass over the per-example gradients, and one for ḡ.
        """
        trace = 0.0
        if self.scale:
            trace += self.scale * float(self.matrix.column_norms(centred=True).double().square().mean())
        if self.mean_scale:
            trace += self.mean_scale * mean_square(self.matrix)
        return trace

    def eigenvalues(self, k: int, *, method: Method = "auto") -> Tensor:
        """Return the k largest eigenvalues, computed as in `eigenpairs`, without the eigenvectors.

        Args:
            k: number of eigenvalues, 1 ≤ k ≤ min(n, d).
            method: see `eigenpairs`.

        Returns:
            Eigenvalues in decreasing order, shape (k,), float64, on the CPU; 0 beyond the numerical rank.

        Raises:
            TypeError: ``k`` is not an integer.
            ValueError: ``k`` is out of range, or ``method`` is unknown or does not allow this k.
        """
        return torch.from_numpy(self._leading(k, method)[0])

    def eigenpairs(self, k: int, *, method: Method = "auto", vectors: int | None = None) -> tuple[Tensor, Tensor]:
        """Return the k largest eigenvalues and their eigenvectors.

        Both methods work with the n×n matrix AᵀA, so memory grows with n and not with d until the vectors are formed.

        Args:
            k: number of eigenpairs, 1 ≤ k ≤ min(n, d).
            method: "gram": from all n² products of gradients, which takes memory for n² numbers. "lanczos": the
                implicitly restarted Lanczos iteration (ARPACK), where each step takes a product with G and one with Gᵀ;
                k < n. "auto": "gram" if n ≤ 500 or k = n, else "lanczos".
            vectors: number of eigenvectors to form, those of the largest eigenvalues; None: all k.

        Returns:
            Eigenvalues in decreasing order, shape (k,), float64, on the CPU; 0 beyond the numerical rank. Unit
            eigenvectors as columns, shape (d, vectors), in the dtype and on the device of the parameters; 0 if the
            eigenvalue is 0. Of the coefficients of the examples' gradients, the one of largest size is positive.

        Raises:
            TypeError: a number is not an integer.
            ValueError: ``k`` or ``vectors`` is out of range, or ``method`` is unknown or does not allow this k.
        """
        if vectors is not None and positive_integer("vectors", vectors) > k:
            raise ValueError(f"{k} eigenpairs have no {vectors} vectors: use a larger k")
        values, coefficients = self._leading(k, method)
        return torch.from_numpy(values), self.matrix @ self._spread(self._tensor(coefficients[:, :vectors]))

    def stable_rank(self, *, method: Method = "auto") -> float:
        """Return the trace divided by the largest eigenvalue: 1 for rank one, d for the identity.

        It is the stable rank ‖A‖²_F/‖A‖²₂ of A.

        Args:
            method: see `eigenpairs`.

        Returns:
            A number from 1 to min(n, d).

        Raises:
            ValueError: the covariance is 0.
        """
        largest = float(self.eigenvalues(1, method=method)[0])
        if largest == 0:
            raise ValueError("the covariance is 0 and has no stable rank: check that the gradients are not all equal")
        return self.trace() / largest

    def hessian_alignment(self, *, draws: int | None = None, seed: int = 0, level: float = 0.95) -> Estimate:
        """Return ``Tr(H·Cov)`` with the Hessian H of the mean loss: the alignment of the noise with the curvature.

        The exact value is ``Σ_j a_jᵀ·H·a_j`` over the n columns of A, which takes n Hessian-vector products of all n
        examples. The estimate is the mean of ``(A·z)ᵀ·H·(A·z)`` over random sign vectors z, with one such product each.
        It is unbiased, since E zzᵀ = I and so ``E zᵀAᵀHA·z = Tr(AᵀHA) = Tr(H·AAᵀ)``.

        Args:
            draws: number of random vectors, ≥ 2; None: compute the exact value.
            seed: seed of the random vectors.
            level: confidence level of the interval.

        Returns:
            The value with its interval: a Student interval for the estimate, and length 0 for the exact value.

        Raises:
            TypeError: ``draws`` is not an integer.
            ValueError: ``draws`` < 2, or ``level`` is not between 0 and 1.

        References:
            Zhu, Wu, Yu, Wu, Ma 2019, arXiv 1803.00195: Tr(H·Cov) measures how well noise escapes from minima;
            isotropic noise of the same trace has Tr(H)·Tr(Cov)/d.
        """
        n = self.matrix.shape[1]
        if draws is None:
            total = 0.0
            for start in range(0, n, 16):  # columns at a time
                basis = torch.zeros(n, min(16, n - start), dtype=self.matrix.dtype, device=self.matrix.device)
                basis[start : start + basis.shape[1]].fill_diagonal_(1.0)
                total += float(self._curvature(basis).sum())
            return Estimate(total, total, total, level)
        samples = []
        for step in range(_draws(draws)):
            signs = generator(seed, step).integers(0, 2, size=(n, 1)) * 2.0 - 1.0
            samples.append(float(self._curvature(self._tensor(signs))))
        return mean_of(samples, level)

    def _curvature(self, z: Tensor) -> Tensor:
        directions = self.matrix @ self._spread(z)
        return (directions * self.matrix.hessian_product(directions)).double().sum(0)

    def _leading(self, k: int, method: Method) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        n, dtype = self.matrix.shape[1], self.matrix.dtype
        if positive_integer("k", k) > min(self.matrix.shape):
            raise ValueError(f"{self.shape[0]} parameters and {n} examples have no {k} eigenpairs: use a smaller k")
        if method not in ("auto", "gram", "lanczos"):
            raise ValueError(f'method must be "auto", "gram" or "lanczos", not {method!r}')
        if method == "gram" or (method == "auto" and (n <= 2 * CHUNK or k == n)):
            return leading_coefficients(self._gram().numpy(), k, dtype)
        if k == n:
            raise ValueError(f'Lanczos finds fewer than n eigenpairs, and k = n = {n}: use method="gram"')
        operator = numpy_operator((n, n), self.matrix, self._inner, self._inner)
        return scale_coefficients(*largest_eigenpairs(operator, k), dtype)

    def _gram(self) -> Tensor:
        """Return AᵀA."""
        if self.mean_scale == 0:
            return recentre(self.matrix.gram(centred=True)) * (self.scale / self.matrix.shape[1])
        return self._spread(self._spread(self.matrix.gram()).t())

    def _inner(self, z: Tensor) -> Tensor:
        """Return AᵀA·z, by two products."""
        return self._spread(self.matrix.T @ (self.matrix @ self._spread(z)))

    def _spread(self, z: Tensor) -> Tensor:
        """Return S·z."""
        mean = z.mean(0, keepdim=True)
        return (math.sqrt(self.scale) * (z - mean) + math.sqrt(self.mean_scale) * mean) / math.sqrt(len(z))

    def _tensor(self, array: NDArray[np.floating[Any]]) -> Tensor:
        return torch.from_numpy(array).to(self.matrix.device, self.matrix.dtype)


def mean_square(matrix: GradientMatrix) -> float:
    """Return ``‖ḡ‖²``, in one pass over the examples.

    Args:
        matrix: G.

    Returns:
        The squared norm of the mean gradient.
    """
    check_matrix(matrix)
    return float(matrix.mean().double().square().sum())


def trace_estimate(
    matrix: GradientMatrix, *, draws: int, law: Law | None = None, seed: int = 0, level: float = 0.95
) -> Estimate:
    """Estimate tr C from random weights: the mean of ``(‖G·(w − 1)/n‖² − (α/n + β)·‖ḡ‖²)/(α/n)`` over draws of w.

    Each draw takes one product with G. The estimate is unbiased, since
    ``E‖G(w − 1)/n‖² = Tr Cov(G·w/n) = (α/n)·tr C + (α/n + β)·‖ḡ‖²`` for every law, and ‖ḡ‖² is exact. With the default
    law the standard deviation of a draw is at most about √2·‖C‖_F.

    Args:
        matrix: G.
        draws: number of draws, ≥ 2.
        law: law of the weights, with finite variance; None: centred random signs, for which α/n = 1 and the second term
            is 0.
        seed: seed of the draws, which are those of steps 0, 1, … of the law.
        level: confidence level of the interval.

    Returns:
        The estimate with a Student interval.

    Raises:
        TypeError: ``draws`` is not an integer.
        ValueError: ``draws`` < 2, ``level`` is not between 0 and 1, or the law has no noise or no finite variance.

    Examples:
        >>> from torch import nn
        >>> model = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> squares = lambda out, y: 0.5 * (out - y).squeeze(1) ** 2
        >>> G = GradientMatrix(model, squares, torch.eye(2), torch.tensor([[2.0], [4.0]]))
        >>> trace_estimate(G, draws=200).low < Covariance(G).trace() < trace_estimate(G, draws=200).high
        True

    References:
        Wu et al. 2020, arXiv 1906.07405, for the covariance; Hutchinson 1989 for traces from random vectors.
    """
    check_matrix(matrix)
    n = matrix.shape[1]
    law = Injected(Rademacher(), 1, centred=True) if law is None else law
    scale, mean_scale = _scales(law, n)
    if scale == 0:
        raise ValueError(f"{law!r} has no noise at n = {n}: use a law with noise, such as noise.Cov(1)")
    along_mean = mean_scale * mean_square(matrix) if mean_scale else 0.0
    samples = []
    for step in range(_draws(draws)):
        noise = torch.from_numpy(law.at_step(n, seed=seed, step=step).dense(n) - 1.0) / n
        square = (matrix @ noise.to(matrix.device, matrix.dtype)).double().square().sum()
        samples.append((float(square) - along_mean) / scale)
    return mean_of(samples, level)


def _scales(law: Law, n: int) -> tuple[float, float]:
    """Return α/n and α/n + β; the second is set to 0 if it differs from 0 only by rounding."""
    moments = law.moments(n)
    along_mean = moments.mean_gradient_coefficient(n)
    return moments.alpha / n, along_mean if along_mean > 1e-12 * moments.alpha / n else 0.0


def _draws(draws: int) -> int:
    if positive_integer("draws", draws) < 2:
        raise ValueError("draws must be at least 2: an interval needs two samples")
    return draws
