"""How much two subspaces have in common."""

from __future__ import annotations

import torch
from torch import Tensor


def subspace_cosines(first: Tensor, second: Tensor) -> Tensor:
    """Cosines of the principal angles between two subspaces: the singular values of ``Q₁ᵀ·Q₂``.

    Args:
        first: columns that span one, shape (d, k), such as eigenvectors.
        second: likewise, shape (d, m).

    Returns:
        In decreasing order, shape (min(k, m),), from 0 (orthogonal) to 1 (shared).

    Raises:
        ValueError: the shapes do not fit, or the columns are linearly dependent.

    Examples:
        >>> subspace_cosines(torch.eye(3)[:, :2], torch.tensor([[0.0], [3.0], [4.0]]))
        tensor([0.6000])

    References:
        Björck, Golub 1973, "Numerical methods for computing angles between linear subspaces".
    """
    if first.ndim != 2 or second.ndim != 2 or len(first) != len(second):
        raise ValueError(
            f"shapes {tuple(first.shape)} and {tuple(second.shape)}: give (d, k) and (d, m), columns that span"
        )
    bases = []
    for columns in (first, second):
        basis, triangle = torch.linalg.qr(columns)
        diagonal = triangle.diagonal().abs()
        if len(diagonal) < columns.shape[1] or bool((diagonal <= 1e-6 * columns.norm(dim=0)).any()):
            raise ValueError("the columns are linearly dependent: leave out eigenvectors whose eigenvalue is 0")
        bases.append(basis)
    cosines: Tensor = torch.linalg.svdvals(bases[0].t() @ bases[1])
    return cosines.clamp(max=1.0)
