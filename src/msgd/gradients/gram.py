"""The products GᵀG of the per-example gradients, and the eigenvectors of GGᵀ that they give."""

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
    """``K_ij = ⟨g_i, g_j⟩``, summed over pairs of chunks, so that two chunks of gradients are held.

    Products within a parameter are in its dtype, sums over parameters in float64.

    Args:
        rows: from the number of a chunk to its gradients; called for pairs i ≤ j in order, so that remembering two
            makes each gradient computed about (chunks)/2 + 1 times.
        parts: where each chunk lies among the n examples.

    Returns:
        Shape (n, n), float64, on the CPU.
    """
    n = parts[-1].stop
    products = torch.zeros(n, n, dtype=torch.float64)
    for i, j in combinations_with_replacement(range(len(parts)), 2):
        block = torch.stack([a @ b.t() for a, b in zip(rows(i), rows(j), strict=True)]).sum(0, dtype=torch.float64)
        products[parts[i], parts[j]] = block.cpu()
        products[parts[j], parts[i]] = block.t().cpu()
    return products


def recentred(products: Tensor) -> Tensor:
    """Take out of the products of centred columns what the rounding of their mean left behind; in place."""
    mean = products.mean(0)
    products += mean.mean() - mean - mean[:, None]
    return products


def leading_shares(
    products: NDArray[np.float64], k: int, dtype: torch.dtype
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The k largest eigenvalues λ of ``K = AᵀA``, and what makes A's left singular vectors of the right ones.

    With ``K·u = λu``, ``A·u/√λ`` is a unit eigenvector of AAᵀ to the same λ; u/√λ are the shares of A's columns in it.

    Args:
        products: K, shape (n, n).
        k: their number, ≤ n.
        dtype: of the numbers that K was computed from: it says which eigenvalues are 0 to rounding.

    Returns:
        Eigenvalues in decreasing order, shape (k,), those beyond the numerical rank 0; the shares, shape (n, k), 0
        where the eigenvalue is. The sign: the column with the largest share has a positive one.
    """
    n = len(products)
    values, vectors = linalg.eigh(products, subset_by_index=[n - k, n - 1])
    return scaled_shares(values[::-1], vectors[:, ::-1], dtype)


def scaled_shares(
    values: NDArray[np.float64], vectors: NDArray[np.float64], dtype: torch.dtype
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What `leading_shares` makes of eigenpairs in decreasing order."""
    n, k = vectors.shape
    values = np.where(values > n * torch.finfo(dtype).eps * max(values[0], 0.0), values, 0.0)
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(k)])
    return values, vectors * signs * np.divide(1.0, np.sqrt(values), out=np.zeros(k), where=values > 0)


def diagonal(examples: Examples) -> Tensor:
    """The diagonal of C, in one pass over the per-example gradients.

    With e_i = g_i − m and m the mean gradient as computed, ``C_jj = Σe²_ij/n − (Σe_ij/n)²``: the rounding of m is taken
    out, and nothing cancels where ḡ is large. Sums within a chunk are in the dtype of the parameters (in float64 the
    pass would take twice as long), those over chunks in float64.

    Args:
        examples: of a model that `check_uncoupled` lets pass.

    Returns:
        Shape (d,), float64, on the CPU, in the order of the parameters.
    """
    sums = torch.zeros(examples.d, dtype=torch.float64)
    squares = torch.zeros_like(sums)
    mean = examples.mean_gradient()
    for index in range(len(examples.data.parts)):
        rows = examples.rows(index, centre=mean)
        sums += torch.cat([row.sum(0) for row in rows]).cpu()
        squares += torch.cat([row.square_().sum(0) for row in rows]).cpu()
    return (squares / examples.n - (sums / examples.n).square()).clamp_(min=0)


def leading(examples: Examples, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The trace of C and its k largest eigenpairs, from the centred Gram matrix of the n gradients.

    With G_c the (d, n) matrix of g_i − ḡ, C = G_c·G_cᵀ/n has the eigenvalues of K = G_cᵀ·G_c/n, and K u = λu gives the
    eigenvector G_c·u/√(nλ). K is summed over pairs of chunks, so that two chunks of gradients are held; with
    c = n/chunk chunks each gradient is computed about c/2 + 1 times, and once where one chunk holds all.

    Args:
        examples: of a model that `check_uncoupled` lets pass.
        k: number of eigenpairs, at most n.

    Returns:
        tr C, a float64 scalar; the eigenvalues in decreasing order, shape (k,), float64, those beyond the numerical
        rank 0; both on the CPU. Unit eigenvectors, shape (k, d), where the parameters are and in their dtype, 0 where
        the eigenvalue is 0. The sign: the example with the largest share in it has a positive one.
    """
    n, parts, centre = examples.n, examples.data.parts, examples.mean_gradient()
    held = lru_cache(maxsize=2)(lambda index: examples.rows(index, centre=centre))
    products = recentred(gram(held, parts) / n)
    values, shares = leading_shares(products.numpy(), k, examples.like.dtype)
    weights = torch.from_numpy(shares.T / math.sqrt(n)).to(examples.like)
    directions = weights.new_zeros(k, examples.d)
    for index, part in enumerate(parts):
        directions += torch.cat([weights[:, part] @ row for row in held(index)], dim=1)
    return products.trace(), torch.from_numpy(values), directions
