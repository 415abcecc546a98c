"""Exact mean and covariance of the parameters of SGD on least squares, from the law's α and β."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from msgd._checks import positive, positive_integer
from msgd.noise import Law, Moments
from msgd.theory.arguments import moments_at, momentum_below_one
from msgd.theory.stationary import Array, StationaryEquation, noise_covariance, squares


@dataclass(frozen=True, eq=False)
class ParameterMoments:
    """Mean and covariance of the parameters at each step, θ_0 included.

    Args:
        mean: E θ_k, shape (steps + 1, d).
        covariance: Cov(θ_k), shape (steps + 1, d, d).

    Examples:
        >>> ParameterMoments(np.array([[2.0]]), np.array([[[1.0]]])).second_moment
        array([[[5.]]])
    """

    mean: Array
    covariance: Array

    @property
    def second_moment(self) -> Array:
        """E θ_k θ_kᵀ, shape (steps + 1, d, d)."""
        return self.covariance + self.mean[:, :, None] * self.mean[:, None, :]


class LeastSquares:
    """SGD with random weights on ``L(θ) = ½·mean((Xθ − y)²)``: moments of θ_k, stationary state, stable step size.

    Each step is a step of torch.optim.SGD, with independent draws w_k:

        v_{k+1} = μ·v_k + G(θ_k)·w_k/n,    θ_{k+1} = θ_k − η·v_{k+1},    v_0 = 0

    With the minimum-norm solution θ*, e = θ − θ*, H = XᵀX/n and the residuals r = Xθ − y, the columns of G are
    g_i = x_i·r_i, and ḡ = H·e. Given θ and Cov(w) = α·I + β·11ᵀ, the noise has the covariance
    (1/n²)·Σ_ij Cov(w_i, w_j)·g_i g_jᵀ = (α/n)·F + β·ḡḡᵀ with F = (1/n)·Σ g_i g_iᵀ. This is quadratic in θ. Let m, Σ be
    the mean and covariance of e, and r_i(m) the residuals at the mean, so that E r_i² = x_iᵀΣx_i + r_i(m)². Then

        Q(m, Σ) = (α/n)·(1/n)·Σ_i x_i x_iᵀ·(x_iᵀΣx_i + r_i(m)²) + β·H(Σ + mmᵀ)H
        m ← (I − ηH)·m,    Σ ← (I − ηH)·Σ·(I − ηH) + η²·Q(m, Σ)                               (μ = 0)
        E L(θ) = L(θ*) + ½·tr H(Σ + mmᵀ)

    is a closed recursion, in which the law enters only through α and β: two laws with equal α and β, Gaussian or not,
    have the same E L at every step. With momentum it is a recursion of the mean and covariance of (e, v). θ does not
    change outside the range of Xᵀ, so X may have any rank.

    Args:
        X: inputs, shape (n, d).
        y: targets, shape (n,).

    Attributes:
        n: number of examples.
        d: number of parameters.
        rank: numerical rank of X.
        solution: θ*, shape (d,).
        minimum: L(θ*).
        hessian: H, shape (d, d).

    Raises:
        ValueError: the shapes do not match, a number is not finite, or X is zero.

    Examples:
        >>> from msgd.noise import Cov, MiniBatch
        >>> problem = LeastSquares([[1.0], [1.0], [2.0]], [0.0, 3.0, 2.0])
        >>> sgd = problem.expected_loss(MiniBatch(1, replacement=True), lr=0.2, steps=2, start=[0.0])
        >>> sgd.round(6)
        array([2.166667, 1.411111, 1.103556])
        >>> gaussian = problem.expected_loss(Cov(1), lr=0.2, steps=2, start=[0.0])
        >>> bool(np.array_equal(sgd, gaussian))
        True

    References:
        Wu et al. 2020, arXiv 1906.07405 (α and β). For mini-batches: Ziyin, Liu, Mori, Ueda 2022, arXiv 2102.05375
        (stationary covariance); Mulayoff, Michaeli 2024, arXiv 2306.07850 (covariance and stability).
    """

    def __init__(self, X: ArrayLike, y: ArrayLike) -> None:
        inputs, targets = np.asarray(X, dtype=np.float64), np.asarray(y, dtype=np.float64)
        if inputs.ndim != 2 or not inputs.size:
            raise ValueError(f"X must be of shape (n, d), not {inputs.shape}")
        self.n, self.d = inputs.shape
        if targets.shape != (self.n,):
            raise ValueError(f"y must be of shape (n,) = ({self.n},), not {targets.shape}: one target for each example")
        if not (np.isfinite(inputs).all() and np.isfinite(targets).all()):
            raise ValueError("X and y must be finite: leave out examples with missing values")
        left, singular, right = np.linalg.svd(inputs, full_matrices=False)
        self.rank = int((singular > singular[0] * max(inputs.shape) * np.finfo(np.float64).eps).sum())
        if not self.rank:
            raise ValueError("X is zero, and the loss does not depend on θ: pass inputs that are not all 0")
        # In the eigenbasis of H on its range, H is diagonal with entries h, and an example's input is a row of _inputs.
        self._basis: Array = right[: self.rank].T
        self._inputs: Array = left[:, : self.rank] * singular[: self.rank]
        self._h: Array = singular[: self.rank] ** 2 / self.n
        self._hh = np.multiply.outer(self._h, self._h)
        self.solution: Array = self._basis @ ((left.T @ targets)[: self.rank] / singular[: self.rank])
        self._residuals: Array = inputs @ self.solution - targets
        self.minimum = float(0.5 * np.mean(self._residuals**2))
        self.hessian: Array = inputs.T @ inputs / self.n

    def moments_of_parameters(
        self, law: Law | Moments, *, lr: float, steps: int, start: ArrayLike, momentum: float = 0.0
    ) -> ParameterMoments:
        """Return the mean and covariance of θ_0 … θ_steps by the recursion of the class, in O(n·rank²) per step.

        Args:
            law: law of the weights, with independent steps and finite variance, or its `Moments` for n examples. With a
                `Scheduled` law each step has its own moments.
            lr: η > 0.
            steps: number of steps, ≥ 1.
            start: θ_0, shape (d,).
            momentum: 0 ≤ μ < 1.

        Returns:
            The moments; not finite if they overflow.

        Raises:
            TypeError: an argument has the wrong type, or the steps of the law depend on each other.
            ValueError: an argument is out of range, or the law has no finite variance.

        Examples:
            >>> from msgd.noise import MiniBatch
            >>> problem = LeastSquares([[1.0], [1.0]], [0.0, 2.0])  # a step with lr = 1 jumps to 0 or to 2
            >>> moments = problem.moments_of_parameters(MiniBatch(1), lr=1.0, steps=1, start=[5.0])
            >>> moments.mean[1].round(12), moments.covariance[1].round(12)
            (array([1.]), array([[1.]]))
        """
        theta = self._vector("start", start)
        fixed = theta - self._basis @ (self._basis.T @ (theta - self.solution))
        mean, covariance = [], []
        with np.errstate(over="ignore", invalid="ignore"):
            for m, sigma in self._descent(law, lr, steps, theta, momentum):
                mean.append(fixed + self._basis @ m)
                covariance.append(self._basis @ sigma @ self._basis.T)
        return ParameterMoments(np.array(mean), np.array(covariance))

    def expected_loss(
        self, law: Law | Moments, *, lr: float, steps: int, start: ArrayLike, momentum: float = 0.0
    ) -> Array:
        """Return the exact expected training loss ``E L(θ_k) = L(θ*) + ½·tr H(Σ_k + m_k m_kᵀ)``.

        Args:
            law: see `moments_of_parameters`.
            lr: η > 0.
            steps: number of steps, ≥ 1.
            start: θ_0, shape (d,).
            momentum: 0 ≤ μ < 1.

        Returns:
            The expected losses from E L(θ_0) on, shape (steps + 1,); infinite where they overflow.

        Raises:
            TypeError: see `moments_of_parameters`.
            ValueError: see `moments_of_parameters`.

        Examples:
            >>> from msgd.noise import Bernoulli
            >>> problem = LeastSquares([[1.0], [1.0]], [0.0, 2.0])
            >>> problem.expected_loss(Bernoulli(1), lr=1.0, steps=2, start=[1.0]).round(12)
            array([0.5  , 0.75 , 0.875])
        """
        descent = self._descent(law, lr, steps, self._vector("start", start), momentum)
        return self._expected(self.minimum + 0.5 * float(self._h @ (sigma.diagonal() + m**2)) for m, sigma in descent)

    def excess_risk(
        self,
        law: Law | Moments,
        *,
        lr: float,
        steps: int,
        start: ArrayLike,
        truth: ArrayLike,
        test_moment: ArrayLike,
        momentum: float = 0.0,
    ) -> Array:
        """Return the exact expected excess risk ``½·E (θ_k − θ°)ᵀM(θ_k − θ°)`` on a test distribution with optimum θ°.

        Args:
            law: see `moments_of_parameters`.
            lr: η > 0.
            steps: number of steps, ≥ 1.
            start: θ_0, shape (d,).
            truth: θ°, shape (d,); with θ° = θ* and M = H the result is the excess training loss.
            test_moment: M = E xxᵀ over test inputs, shape (d, d).
            momentum: 0 ≤ μ < 1.

        Returns:
            The excess risks, shape (steps + 1,); infinite where they overflow.

        Raises:
            TypeError: see `moments_of_parameters`.
            ValueError: see `moments_of_parameters`; or the shape of M is wrong.

        Examples:
            >>> from msgd.noise import FullBatch
            >>> problem = LeastSquares([[1.0, 0.0]], [1.0])  # does not depend on the second parameter
            >>> at = {"lr": 0.5, "steps": 2, "start": [0.0, 3.0], "truth": [1.0, 1.0]}
            >>> problem.excess_risk(FullBatch(), **at, test_moment=[[1.0, 0.0], [0.0, 1.0]]).tolist()
            [2.5, 2.125, 2.03125]
        """
        moment = np.asarray(test_moment, dtype=np.float64)
        if moment.shape != (self.d, self.d):
            raise ValueError(f"test_moment must be of shape (d, d) = {(self.d, self.d)}, not {moment.shape}")
        theta = self._vector("start", start)
        best = self._vector("truth", truth)
        fixed = theta - self._basis @ (self._basis.T @ (theta - self.solution)) - best
        within = self._basis.T @ moment @ self._basis

        def risk(m: Array, sigma: Array) -> float:
            away = fixed + self._basis @ m
            return float(0.5 * ((within * sigma).sum() + away @ moment @ away))

        return self._expected(risk(m, sigma) for m, sigma in self._descent(law, lr, steps, theta, momentum))

    def stable_lr(self, law: Law | Moments, *, momentum: float = 0.0) -> float:
        """Return the largest mean-square stable step size: below it Σ_k is bounded for every start, above it not.

        Let h_i be the eigenvalues of H. The coordinates of e in its eigenbasis are AR(2) processes
        e_{k+1} = (1 + μ − ηh)·e_k − μ·e_{k−1} − η·ξ_k. If ξ had a constant covariance Q, Σ_ij would converge to
        Q_ij/γ_ij with

            γ_ij = (1−μ)·(h_i+h_j)/η − ((1−μ)²·h_i h_j − μ·(h_i−h_j)²)/(1−μ²),

        which is positive for η < 2(1+μ)/max h. The part of Q that is linear in Σ is
        N(Σ) = (α/n²)·Σ_i x_i x_iᵀ·x_iᵀΣx_i + β·HΣH. Both N and 1/γ map positive semi-definite matrices to such, so the
        second moments are stable if the spectral radius of N/γ is below 1, and the radius is an eigenvalue (Krein,
        Rutman). Both maps are symmetric, so this holds exactly if γ − N is positive definite. As γ is linear in 1/η,

            η_max = (1−μ) / λ_max(A^−½·M·A^−½),    A = diag(h_i+h_j),
            M = N + diag(((1−μ)²·h_i h_j − μ·(h_i−h_j)²)/(1−μ²)),

        without a search. It is at most 2(1+μ)/max h, the limit for the mean, which is also the limit for w = 1. Without
        momentum, η_max = 2h / ((1+β)·h² + (α/n)·mean(x⁴)) for d = 1; for any d and β ≥ −1,
        η_max ≥ 2 / ((1+β)·max h + (α/n)·max‖x_i‖²), below which Σ = I contracts.

        Args:
            law: law with independent and identical steps and finite variance, or its `Moments` for n examples.
            momentum: 0 ≤ μ < 1.

        Returns:
            η_max > 0.

        Raises:
            TypeError: an argument has the wrong type, or the law has changing or dependent steps.
            ValueError: an argument is out of range, or the law has no finite variance.

        Examples:
            >>> from msgd.noise import FullBatch, MiniBatch
            >>> problem = LeastSquares([[1.0], [3.0]], [0.0, 2.0])  # h = 5, mean(x⁴) = 41
            >>> round(problem.stable_lr(FullBatch()), 12), round(problem.stable_lr(MiniBatch(1)) * 4.1, 12)
            (0.4, 1.0)

        References:
            Mulayoff, Michaeli 2024, arXiv 2306.07850, for mini-batches without momentum.
        """
        return self._equation(law, momentum).largest_stable_lr()

    def stationary_covariance(self, law: Law | Moments, *, lr: float, momentum: float = 0.0) -> Array:
        """Return the covariance of θ_k as k → ∞.

        Without momentum it solves ``Σ = (I − ηH)·Σ·(I − ηH) + η²·Q(0, Σ)``; with momentum the analogous equation. This
        is a Lyapunov equation with multiplicative noise: Q depends on Σ, whereas SciPy's solve_discrete_lyapunov needs
        a constant Q(0, 0) and would underestimate Σ. In the notation of `stable_lr` the equation is
        γ·Σ − N(Σ) = Q(0, 0), which is symmetric and positive definite. For d = 1 without momentum, with the residuals r
        at θ*, Σ = (α/n)·mean(x²r²) / (2h/η − (1+β)·h² − (α/n)·mean(x⁴)).

        Args:
            law: see `stable_lr`.
            lr: η, below ``stable_lr``.
            momentum: 0 ≤ μ < 1.

        Returns:
            The covariance, shape (d, d); 0 outside the range of Xᵀ, where θ remains at its start.

        Raises:
            TypeError: see `stable_lr`.
            ValueError: see `stable_lr`; or there is no stationary state.

        Examples:
            >>> from msgd.noise import MiniBatch
            >>> problem = LeastSquares([[1.0], [1.0]], [0.0, 2.0])
            >>> problem.stationary_covariance(MiniBatch(1), lr=1.0).round(12)  # θ is 0 or 2
            array([[1.]])
        """
        equation = self._equation(law, momentum)
        limit = equation.largest_stable_lr()
        if positive("lr", lr) >= limit:
            raise ValueError(
                f"there is no stationary state at lr = {lr:g}: use an lr below stable_lr, which is {limit:.6g} here"
            )
        source = self._noise(moments_at(law, self.n, None), self._residuals**2, np.zeros_like(self._hh))
        sigma = equation.solve(lr, source)
        if sigma is None:
            raise ValueError(f"no convergence at lr = {lr:g}, close to stable_lr = {limit:.6g}: use a smaller lr")
        covariance: Array = self._basis @ sigma @ self._basis.T
        return covariance

    def _descent(
        self, law: Law | Moments, lr: float, steps: int, start: Array, momentum: float
    ) -> Iterator[tuple[Array, Array]]:
        # Yields the mean and covariance of e at each step, in the eigenbasis.
        eta, mu, h = np.float64(positive("lr", lr)), momentum_below_one(momentum), self._h  # η² may overflow
        m, velocity = self._basis.T @ (start - self.solution), np.zeros(self.rank)
        sigma, cross, kinetic = np.zeros((3, self.rank, self.rank))  # Cov(e, e), Cov(e, v), Cov(v, v)
        yield m, sigma
        for step in range(positive_integer("steps", steps)):
            with np.errstate(over="ignore", invalid="ignore"):
                residuals = squares(self._inputs, sigma) + (self._inputs @ m + self._residuals) ** 2
                noise = self._noise(moments_at(law, self.n, step), residuals, sigma + np.multiply.outer(m, m))
                velocity = mu * velocity + h * m
                m = m - eta * velocity
                mixed = h[:, None] * cross
                link = sigma * h + mu * cross  # Cov(e_k, v_{k+1})
                kinetic = self._hh * sigma + mu * (mixed + mixed.T) + mu**2 * kinetic + noise
                sigma = sigma - eta * (link + link.T) + eta**2 * kinetic
                cross = link - eta * kinetic
            yield m, sigma

    def _noise(self, moments: Moments, residuals: Array, second: Array) -> Array:
        return noise_covariance(self._inputs, self._h, moments, residuals, second)

    def _equation(self, law: Law | Moments, momentum: float) -> StationaryEquation:
        moments = moments_at(law, self.n, None)
        return StationaryEquation(self._inputs, self._h, moments, momentum_below_one(momentum))

    def _vector(self, name: str, value: ArrayLike) -> Array:
        vector = np.asarray(value, dtype=np.float64)
        if vector.shape != (self.d,) or not np.isfinite(vector).all():
            raise ValueError(f"{name} must be {self.d} finite numbers, one per parameter")
        return vector

    @staticmethod
    def _expected(values: Iterator[float]) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            expected = np.array(list(values))
        expected[np.isnan(expected)] = math.inf
        return expected
