"""The Gram matrix GᵀG of the per-example gradients, and the diagonal and leading eigenpairs of the covariance C."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import combinations_with_replacement

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import linalg
from torch import Tensor

from msgd.gradients.per_example import Examples


def gram(rows: Callable[[int], list[Tensor]], parts: list[slice]) -> Tensor:
    """Return the Gram matrix ``K_ij = ⟨g_i, g_j⟩``, computed over pairs of chunks, so that two chunks are held.

    Products within a parameter are computed in its dtype, sums over parameters in float64.

    Args:
        rows: function from the index of a chunk to its gradients. It is called for pairs i ≤ j in order: if it caches
            two chunks, each gradient is computed about (chunks)/2 + 1 times.
        parts: positions of each chunk among the n examples.

    Returns:
        The matrix K, shape (n, n), float64, on the CPU.
    """
    n = parts[-1].stop
    products = torch.zeros(n, n, dtype=torch.float64)
    for i, j in combinations_with_replacement(range(len(parts)), 2):
        block = torch.stack([a @ b.t() for a, b in zip(rows(i), rows(j), strict=True)]).sum(0, dtype=torch.float64)
        products[parts[i], parts[j]] = block.cpu()
        products[parts[j], parts[i]] = block.t().cpu()
    return products


def recentre(products: Tensor) -> Tensor:
    """Remove from the Gram matrix of centred columns the rounding error of their mean; in place."""
    mean = products.mean(0)
    products += mean.mean() - mean - mean[:, None]
    return products


def leading_coefficients(
    products: NDArray[np.float64], k: int, dtype: torch.dtype
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the k largest eigenvalues λ of ``K = AᵀA``, and the eigenvectors of AAᵀ as coefficients of A's columns.

    With ``K·u = λu``, ``A·u/√λ`` is a unit eigenvector of AAᵀ for the same λ, with the coefficients u/√λ.

    Args:
        products: K, shape (n, n).
        k: number of eigenvalues, ≤ n.
        dtype: dtype of the numbers from which K was computed; it determines which eigenvalues are 0 to rounding.

    Returns:
        Eigenvalues in decreasing order, shape (k,), 0 beyond the numerical rank; and the coefficients, shape (n, k), 0
        if the eigenvalue is 0. The sign is such that the coefficient of largest size is positive.
    """
    n = len(products)
    values, vectors = linalg.eigh(products, subset_by_index=[n - k, n - 1])
    return scale_coefficients(values[::-1], vectors[:, ::-1], dtype)


def scale_coefficients(
    values: NDArray[np.float64], vectors: NDArray[np.float64], dtype: torch.dtype
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Convert eigenpairs of K in decreasing order to the result of `leading_coefficients`."""
    n, k = vectors.shape
    values = np.where(values > n * torch.finfo(dtype).eps * max(values[0], 0.0), values, 0.0)
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(k)])
    return values, vectors * signs * np.divide(1.0, np.sqrt(values), out=np.zeros(k), where=values > 0)


def covariance_diagonal(examples: Examples) -> Tensor:
    """Return the diagonal of C, in one pass over the per-example gradients.

    With the computed mean gradient m and e_i = g_i − m, ``C_jj = Σe²_ij/n − (Σe_ij/n)²``. This removes the rounding
    error of m, and nothing cancels if ḡ is large. Sums within a chunk are in the dtype of the parameters (in float64
    the pass would take twice as long), sums over chunks in float64.

    Args:
        examples: the examples, with a model that passes `check_uncoupled`.

    Returns:
        The diagonal, shape (d,), float64, on the CPU, in the order of the parameters.
    """
    sums = torch.zeros(examples.d, dtype=torch.float64)
    squares = torch.zeros_like(sums)
    mean = examples.mean_gradient()
    for index in range(len(examples.data.parts)):
        rows = examples.rows(index, centre=mean)
        sums += torch.cat([row.sum(0) for row in rows]).cpu()
        squares += torch.cat([row.square_().sum(0) for row in rows]).cpu()
    return (squares / examples.n - (sums / examples.n).square()).clamp_(min=0)


def leading_eigenpairs(examples: Examples, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the trace of C and its k largest eigenpairs, from the centred Gram matrix of the n gradients.

    With the (d, n) matrix G_c of the g_i − ḡ, C = G_c·G_cᵀ/n has the nonzero eigenvalues of K = G_cᵀ·G_c/n, and
    K u = λu gives the eigenvector G_c·u/√(nλ). K is computed over pairs of chunks, so that two chunks of gradients are
    held. With c = n/chunk chunks each gradient is computed about c/2 + 1 times, and once if one chunk holds all.

    Args:
        examples: the examples, with a model that passes `check_uncoupled`.
        k: number of eigenpairs, at most n.

    Returns:
        tr C, a float64 scalar, and the eigenvalues in decreasing order, shape (k,), float64, 0 beyond the numerical
        rank; both on the CPU. Unit eigenvectors, shape (k, d), in the dtype and on the device of the parameters, 0 if
        the eigenvalue is 0. Of the coefficients of the examples' gradients, the one of largest size is positive.
    """
    n, parts, centre = examples.n, examples.data.parts, examples.mean_gradient()
    rows_of = lru_cache(maxsize=2)(lambda index: examples.rows(index, centre=centre))
    products = recentre(gram(rows_of, parts) / n)
    values, coefficients = leading_coefficients(products.numpy(), k, examples.like.dtype)
    weights = torch.from_numpy(coefficients.T / math.sqrt(n)).to(examples.like)
    directions = weights.new_zeros(k, examples.d)
    for index, part in enumerate(parts):
        directions += torch.cat([weights[:, part] @ row for row in rows_of(index)], dim=1)
    return products.trace(), torch.from_numpy(values), directions
