"""Sharpness of the loss: the Hessian's largest eigenvalues and trace, and the loss under random perturbations."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from msgd._checks import positive, positive_integer
from msgd.gradients.eigenpairs import largest_eigenpairs, start_vector
from msgd.gradients.gradient_matrix import GradientMatrix, check_matrix, numpy_operator
from msgd.noise import generator
from msgd.statistics.intervals import Estimate, mean_of, quantile

Method = Literal["auto", "dense", "lanczos"]  #: how eigenvalues are computed
_COLUMNS = 16  # number of columns of the identity that are multiplied at once


def hessian_eigenvalues(matrix: GradientMatrix, k: int = 1, *, method: Method = "auto") -> Tensor:
    """Return the k largest eigenvalues of the Hessian H of the mean loss, without the eigenvectors.

    The largest is the sharpness: gradient descent on a quadratic with this curvature is stable if ``η < 2/λ_max``.

    Args:
        matrix: G, whose mean loss is differentiated twice.
        k: number of eigenvalues, 1 ≤ k ≤ d.
        method: see `hessian_eigenpairs`.

    Returns:
        Eigenvalues in decreasing order, shape (k,), float64, on the CPU.

    Raises:
        TypeError: ``k`` is not an integer.
        ValueError: ``k`` is out of range, ``method`` is unknown or does not allow this k, or the Hessian is not finite.
        RuntimeError: Lanczos did not converge.

    Examples:
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> squares = lambda out, y: 0.5 * (out - y).squeeze(1) ** 2
        >>> G = GradientMatrix(model, squares, torch.tensor([[2.0, 0.0], [0.0, 4.0]]), torch.ones(2, 1))
        >>> hessian_eigenvalues(G, 2)  # the Hessian is diag(4, 16)/2
        tensor([8., 2.], dtype=torch.float64)

    References:
        Cohen, Kaur, Li, Kolter, Talwalkar 2021, arXiv 2103.00065: the sharpness and 2/η.
    """
    return hessian_eigenpairs(matrix, k, method=method)[0]


def hessian_eigenpairs(matrix: GradientMatrix, k: int, *, method: Method = "auto") -> tuple[Tensor, Tensor]:
    """Return the k (algebraically) largest eigenvalues of the Hessian H of the mean loss, and their eigenvectors.

    Args:
        matrix: G, whose mean loss is differentiated twice.
        k: number of eigenpairs, 1 ≤ k ≤ d.
        method: "dense": from the full matrix H, with d Hessian-vector products and d² numbers. "lanczos": the
            implicitly restarted Lanczos iteration (ARPACK), with one product per step, from a fixed start vector;
            k < d. "auto": "dense" if d is at most four times the size of the Lanczos basis, max(2k + 1, 20) vectors;
            else "lanczos".

    Returns:
        Eigenvalues in decreasing order, shape (k,), float64, on the CPU. Unit eigenvectors as columns, shape (d, k),
        in the dtype and on the device of the parameters; the entry of largest size in each is positive.

    Raises:
        TypeError: ``k`` is not an integer.
        ValueError: ``k`` is out of range, ``method`` is unknown or does not allow this k, or the Hessian is not finite.
        RuntimeError: Lanczos did not converge.

    Examples:
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> squares = lambda out, y: 0.5 * (out - y).squeeze(1) ** 2
        >>> G = GradientMatrix(model, squares, torch.tensor([[2.0, 0.0], [0.0, 4.0]]), torch.ones(2, 1))
        >>> hessian_eigenpairs(G, 1)[1]
        tensor([[0.],
                [1.]])
    """
    check_matrix(matrix)
    d = matrix.shape[0]
    if positive_integer("k", k) > d:
        raise ValueError(f"{d} parameters have no {k} eigenpairs: use a smaller k")
    if method not in ("auto", "dense", "lanczos"):
        raise ValueError(f'method must be "auto", "dense" or "lanczos", not {method!r}')
    if method == "lanczos" and k == d:
        raise ValueError(f'Lanczos finds fewer than d eigenpairs, and k = d = {d}: use method="dense"')
    dense = method == "dense" or (method == "auto" and d <= 4 * max(2 * k + 1, 20))
    values, vectors = _dense(matrix) if dense else _lanczos(matrix, k)
    order = np.argsort(values)[::-1][:k]
    values, vectors = values[order], vectors[:, order]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), np.arange(k)])
    return torch.from_numpy(values), torch.from_numpy(vectors).to(matrix.device, matrix.dtype)


def hessian_trace(matrix: GradientMatrix, *, draws: int, seed: int = 0, level: float = 0.95) -> Estimate:
    """Estimate Tr H from ``draws`` Hessian-vector products: ``Tr(QᵀHQ) + mean zᵀPHP·z``, P = I − QQᵀ (Hutch++).

    A third of the products forms a sketch H·S with random signs S. Q is an orthonormal basis of the sketch; it captures
    the few directions of large curvature that dominate the spectrum of a network. A third of the products gives the
    exact trace within Q. The remaining products are used for Hutchinson's estimator on the complement of Q, with random
    signs z independent of Q. The estimate is unbiased: given Q, ``E zᵀPHP·z = Tr(PHP) = Tr H − Tr(QᵀHQ)``, since
    E zzᵀ = I and P² = P. Hutchinson's estimator alone has the variance 2(‖H‖_F² − Σ H_jj²) per draw, which those few
    directions dominate; here the variance is that of PHP.

    Given Q the draws are independent, and the interval is a Student interval. It is too short for a few draws from a
    long-tailed distribution.

    Args:
        matrix: G, whose mean loss is differentiated twice.
        draws: number of products, ≥ 2. Below 5 there is no sketch; from 3d + 2 on the trace is exact. draws/3 vectors
            of length d are held at once.
        seed: seed of the random signs.
        level: confidence level of the interval.

    Returns:
        The estimate with its interval.

    Raises:
        TypeError: ``draws`` is not an integer.
        ValueError: ``draws`` < 2, ``level`` is not a probability, or the Hessian is not finite.

    Examples:
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> squares = lambda out, y: 0.5 * (out - y).squeeze(1) ** 2
        >>> G = GradientMatrix(model, squares, torch.tensor([[2.0, 0.0], [0.0, 4.0]]), torch.ones(2, 1))
        >>> round(hessian_trace(G, draws=8).value, 4)
        10.0

    References:
        Meyer, Musco, Musco, Woodruff 2021, arXiv 2010.09649, algorithm 1; Hutchinson 1989, "A stochastic estimator of
        the trace of the influence matrix".
    """
    check_matrix(matrix)
    sketched = min(max(0, (positive_integer("draws", draws) - 2) // 3), matrix.shape[0])
    quantile(draws - 2 * sketched, level)  # raises if there is no interval
    basis, within = None, 0.0
    if sketched:
        signs = torch.stack([_signs(matrix, seed, step) for step in range(sketched)], dim=1)
        basis = torch.linalg.qr(_hessian_product(matrix, signs))[0]
        within = float((basis * _hessian_product(matrix, basis)).double().sum())
    samples = []
    for step in range(sketched, draws - sketched):
        z = _signs(matrix, seed, step)
        if basis is not None:
            z -= basis @ (basis.t() @ z)
        samples.append(within + float((z * _hessian_product(matrix, z)).double().sum()))
    return mean_of(samples, level)


def loss_change(matrix: GradientMatrix, size: float, *, draws: int, seed: int = 0, level: float = 0.95) -> Estimate:
    """Estimate ``E[L(θ + δ) − L(θ)]`` for ``δ ~ N(0, size²·I)``: the mean increase of the loss around θ.

    The estimate is the mean over draws of ``(L(θ + δ) + L(θ − δ))/2 − L(θ)``, with two forward passes per draw. It is
    unbiased, since −δ and δ have the same distribution. Odd terms of L, such as ḡ·δ, cancel within a pair, which
    reduces the variance. For small sizes the expectation is ``size²·Tr(H)/2`` up to terms of order size⁴; a size is
    small if no ReLU changes its sign, since H does not include kinks. The parameters are not modified: the model is
    evaluated at perturbed copies.

    The value is not invariant: if layers can be rescaled without changing the function, rescaling changes the value for
    a given size (Dinh et al. 2017, arXiv 1703.04933). Compare values only within one parametrisation. The expected
    ‖δ‖² is size²·d. In float32 the losses have a relative rounding error of about 1e−7: use float64 if the change is
    that small.

    Args:
        matrix: G, whose mean loss is L.
        size: standard deviation of each parameter's perturbation, > 0.
        draws: number of pairs, ≥ 2.
        seed: seed of the perturbations.
        level: confidence level of the interval.

    Returns:
        The estimate with a Student interval.

    Raises:
        TypeError: ``draws`` is not an integer, or ``size`` is not a number.
        ValueError: ``draws`` < 2, ``size`` is not positive, ``level`` is not a probability, or a loss is not finite.

    Examples:
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> _ = torch.nn.init.zeros_(model.weight)
        >>> squares = lambda out, y: 0.5 * (out - y).squeeze(1) ** 2
        >>> G = GradientMatrix(model, squares, torch.tensor([[2.0, 0.0], [0.0, 4.0]]), torch.ones(2, 1))
        >>> estimate = loss_change(G, 0.1, draws=100)
        >>> estimate.low < 0.1**2 * 10 / 2 < estimate.high
        True

    References:
        Neyshabur, Bhojanapalli, McAllester, Srebro 2017, arXiv 1706.08947, section 2.2: expected sharpness.
    """
    check_matrix(matrix)
    size = positive("size", size)
    quantile(positive_integer("draws", draws), level)  # raises if there is no interval
    here = matrix.mean_loss()
    samples = []
    for step in range(draws):
        normal = torch.from_numpy(generator(seed, step).standard_normal(matrix.shape[0]))
        shift = (size * normal).to(matrix.device, matrix.dtype)
        samples.append((matrix.mean_loss(shift) + matrix.mean_loss(-shift)) / 2 - here)
        if not math.isfinite(samples[-1]):
            raise ValueError(f"the loss is not finite within size = {size:.6g} of the parameters: use a smaller size")
    return mean_of(samples, level)


def _hessian_product(matrix: GradientMatrix, v: Tensor) -> Tensor:
    product = matrix.hessian_product(v)
    if not bool(product.isfinite().all()):
        raise ValueError("the Hessian is not finite: check whether training has diverged")
    return product


def _signs(matrix: GradientMatrix, seed: int, step: int) -> Tensor:
    signs = generator(seed, step).integers(0, 2, size=matrix.shape[0]) * 2.0 - 1.0
    return torch.from_numpy(signs).to(matrix.device, matrix.dtype)


def _dense(matrix: GradientMatrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    d = matrix.shape[0]
    blocks = []
    for start in range(0, d, _COLUMNS):
        columns = torch.zeros(d, min(_COLUMNS, d - start), dtype=matrix.dtype, device=matrix.device)
        columns[start : start + columns.shape[1]].fill_diagonal_(1.0)
        blocks.append(_hessian_product(matrix, columns).double().cpu())
    hessian = torch.cat(blocks, dim=1)
    values, vectors = torch.linalg.eigh((hessian + hessian.t()) / 2)
    return values.numpy(), vectors.numpy()


def _lanczos(matrix: GradientMatrix, k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    d = matrix.shape[0]
    start = torch.from_numpy(start_vector(d)).to(matrix.device, matrix.dtype)
    if not _hessian_product(matrix, start).any():  # ARPACK fails on a zero Hessian
        return np.zeros(k), np.eye(d, k)

    def product(v: Tensor) -> Tensor:
        return _hessian_product(matrix, v)

    return largest_eigenpairs(numpy_operator((d, d), matrix, product, product), k)
