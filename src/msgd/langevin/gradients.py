"""What the noise in parameter space needs of the covariance C of the per-example gradients."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from msgd.gram import gram, leading_shares, recentred
from msgd.per_example import Examples


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
