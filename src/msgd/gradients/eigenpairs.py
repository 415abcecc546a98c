"""The largest eigenvalues of a symmetric operator, by Lanczos."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from msgd.noise import generator


def start_vector(size: int) -> NDArray[np.float64]:
    """Return the start vector of the Lanczos iteration: always the same normals, so that results are reproducible."""
    return generator(0, 0).standard_normal(size)


def largest_eigenpairs(operator: LinearOperator, k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the k largest eigenvalues of a symmetric operator, and their eigenvectors.

    Args:
        operator: a symmetric operator, shape (n, n).
        k: number of eigenvalues, below n.

    Returns:
        Eigenvalues in decreasing order, shape (k,), and unit eigenvectors, shape (n, k).

    Raises:
        RuntimeError: Lanczos did not converge.

    References:
        Lehoucq, Sorensen, Yang 1998, "ARPACK Users' Guide".
    """
    start = start_vector(operator.shape[0]).astype(operator.dtype)
    try:
        values, vectors = eigsh(operator, k, which="LA", v0=start)
    except ArpackNoConvergence as error:
        raise RuntimeError(
            f"Lanczos found {len(error.eigenvalues)} of {k} eigenvalues: use a smaller k, or a model in float64"
        ) from error
    order = np.argsort(values)[::-1]
    return values[order].astype(np.float64), vectors[:, order].astype(np.float64)
