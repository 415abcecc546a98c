"""The products GᵀG of the per-example gradients, and the eigenvectors of GGᵀ that they give."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations_with_replacement

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import linalg
from torch import Tensor


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
