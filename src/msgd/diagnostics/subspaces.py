"""Principal angles between two subspaces."""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import subspace_angles
from torch import Tensor


def subspace_cosines(first: Tensor, second: Tensor) -> Tensor:
    """Return the cosines of the principal angles between two subspaces: the singular values of ``Q₁ᵀ·Q₂``.

    Args:
        first: columns that span the first subspace, shape (d, k), such as eigenvectors.
        second: columns that span the second subspace, shape (d, m).

    Returns:
        Cosines in decreasing order, shape (min(k, m),), from 0 (orthogonal) to 1 (shared direction).

    Raises:
        ValueError: the shapes do not match, or the columns are linearly dependent.

    Examples:
        >>> subspace_cosines(torch.eye(3)[:, :2], torch.tensor([[0.0], [3.0], [4.0]]))
        tensor([0.6000])

    References:
        Björck, Golub 1973, "Numerical methods for computing angles between linear subspaces".
    """
    if first.ndim != 2 or second.ndim != 2 or len(first) != len(second):
        raise ValueError(
            f"shapes {tuple(first.shape)} and {tuple(second.shape)}: pass columns that span, of (d, k) and (d, m)"
        )
    arrays = []
    for columns in (first, second):
        array = columns.detach().double().cpu().numpy()
        diagonal = np.abs(np.diagonal(np.linalg.qr(array, mode="r")))
        if len(diagonal) < array.shape[1] or (diagonal <= 1e-6 * np.linalg.norm(array, axis=0)).any():
            raise ValueError("the columns are linearly dependent: leave out eigenvectors whose eigenvalue is 0")
        arrays.append(array)
    cosines = np.cos(subspace_angles(*arrays)[::-1])
    return torch.from_numpy(cosines.clip(max=1.0)).to(first.device, first.dtype)
