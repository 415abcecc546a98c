"""The gradient noise of a law along fixed directions: scalars, whose distribution can be examined."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from msgd._checks import positive_integer
from msgd.gradients.gradient_matrix import GradientMatrix, check_matrix
from msgd.noise import Law, generator
from msgd.noise.streams import DIRECTIONS


def random_directions(matrix: GradientMatrix, k: int, *, seed: int = 0) -> Tensor:
    """Draw independent directions, uniform on the unit sphere: normal vectors divided by their norms.

    Args:
        matrix: G, which determines d, dtype and device.
        k: number of directions.
        seed: seed of the directions; they are independent of the weights with the same seed.

    Returns:
        Directions as unit columns, shape (d, k).

    Raises:
        TypeError: ``k`` is not an integer.
        ValueError: ``k`` < 1.

    Examples:
        >>> from torch import nn
        >>> G = GradientMatrix(nn.Linear(3, 1), lambda out, y: (out - y)[:, 0] ** 2, torch.ones(2, 3), torch.ones(2, 1))
        >>> U = random_directions(G, 2)
        >>> torch.allclose(U.norm(dim=0), torch.ones(2))
        True
    """
    check_matrix(matrix)
    normals = generator(seed, 0, DIRECTIONS).standard_normal((matrix.shape[0], positive_integer("k", k)))
    columns = torch.from_numpy(normals / np.linalg.norm(normals, axis=0))
    return columns.to(matrix.device, matrix.dtype)


def gradients_along(matrix: GradientMatrix, directions: Tensor) -> Tensor:
    """Return ``u·(g_i − ḡ)``, the centred gradient of each example along a direction u.

    This takes one forward-mode pass per direction.

    Args:
        matrix: G.
        directions: directions u as columns, shape (d, k), or one direction of shape (d,).

    Returns:
        The values, shape (n, k) or (n,), float64, on the CPU; every column has mean 0.

    Raises:
        TypeError: the dtype or the device of ``directions`` is not that of the parameters.
        ValueError: the shape of ``directions`` is wrong.

    Examples:
        >>> from torch import nn
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> squares = lambda out, y: 0.5 * (out - y).squeeze(1) ** 2
        >>> G = GradientMatrix(model, squares, torch.ones(2, 1), torch.tensor([[1.0], [3.0]]))
        >>> gradients_along(G, torch.ones(1))  # g is (−1, −3)
        tensor([ 1., -1.], dtype=torch.float64)
    """
    check_matrix(matrix)
    products = (matrix.T @ directions).double().cpu()
    return products - products.mean(0)


def noise_along(matrix: GradientMatrix, directions: Tensor, law: Law, *, draws: int, seed: int = 0) -> Tensor:
    """Draw ``uᵀ(G·w/n − ḡ) = Σ_i (w_i − 1)·u·g_i/n``, the gradient noise of a law along directions u.

    Gᵀ·u takes one forward-mode pass per direction. After that a draw costs n·k multiplications, for any network.

    Args:
        matrix: G.
        directions: directions u as columns, shape (d, k), or one direction of shape (d,); see `random_directions`.
        law: law of the weights of all n examples. Its draws are those of steps 0, 1, …. If the steps of the law are
            correlated, the draws are not independent, although the tests and intervals of this package assume it.
        draws: number of draws.
        seed: seed of the draws.

    Returns:
        The draws, shape (draws, k) or (draws,), float64, on the CPU. The draws in a column are independent; the k
        columns are not, since they share the weights.

    Raises:
        TypeError: ``draws`` is not an integer, or the dtype or the device of ``directions`` is not that of the
            parameters.
        ValueError: ``draws`` < 1, the shape of ``directions`` is wrong, or the law is not defined for this n.

    Examples:
        >>> from torch import nn
        >>> from msgd.noise import MiniBatch
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> squares = lambda out, y: 0.5 * (out - y).squeeze(1) ** 2
        >>> G = GradientMatrix(model, squares, torch.ones(2, 1), torch.tensor([[1.0], [3.0]]))
        >>> noise_along(G, torch.ones(1), MiniBatch(1), draws=100).abs().unique()  # −1 or −3, minus their mean
        tensor([1.], dtype=torch.float64)

    References:
        Wu et al. 2020, arXiv 1906.07405: the noise is G(w − 1)/n. Panigrahi et al. 2019, arXiv 1910.09626, examine it
        along random directions.
    """
    check_matrix(matrix)
    n = matrix.shape[1]
    steps = range(positive_integer("draws", draws))
    law.moments(n)  # raises if the law is not defined for this n, before the pass over the examples
    products = (matrix.T @ directions).double().cpu().numpy()
    rows = [(law.at_step(n, seed=seed, step=step).dense(n) - 1.0) @ products / n for step in steps]
    return torch.from_numpy(np.stack(rows))
