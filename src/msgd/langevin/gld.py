"""Gradient Langevin dynamics (GLD): four kinds of Gaussian noise added to the full gradient in parameter space."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from numpy.random import Generator
from torch import Tensor

from msgd._checks import positive_integer
from msgd.gradients.gram import covariance_diagonal, leading_eigenpairs
from msgd.gradients.per_example import Examples
from msgd.langevin.parameter_noise import ParameterNoise, State, standard_normal
from msgd.noise.law import batch_size


@dataclass(frozen=True)
class GLDConst(ParameterNoise):
    """GLD const: isotropic noise ``N(0, (tr C₀/(b·d))·I)``, with C₀ the covariance at the start.

    The total variance is that of SGD's noise at the first step, and remains constant. The noise moves every parameter,
    including those that no loss depends on. State: ``trace``, a float64 scalar.

    Args:
        b: batch size whose noise is matched, ≥ 1, a real number.

    Raises:
        TypeError: ``b`` is not a number.
        ValueError: ``b`` < 1.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> squares = lambda out, y: 0.5 * (out - y).squeeze(1) ** 2
        >>> noise = GLDConst(4)
        >>> state = noise.measure(model, squares, torch.ones(2, 1), torch.tensor([[1.0], [3.0]]))
        >>> state  # the gradients are −1 and −3
        {'trace': tensor(1., dtype=torch.float64)}
        >>> noise.sample(state, model.parameters(), seed=0, step=0)
        (tensor([[...]]),)

    References:
        Zhu, Wu, Yu, Wu, Ma 2019, arXiv 1803.00195 (their code takes the standard deviation as an argument).
    """

    b: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "b", batch_size(self.b))

    def refresh_due(self, step: int) -> bool:
        """True at the first step only (see `ParameterNoise.refresh_due`)."""
        return step == 0

    def _measure(self, examples: Examples) -> State:
        return _trace(examples)

    def _sample(self, state: State, d: int, rng: Generator) -> Tensor:
        return _isotropic(state, self.b, d, rng)


@dataclass(frozen=True)
class _PeriodicNoise(ParameterNoise):
    """Noise whose covariance is measured every ``refresh`` steps."""

    b: float
    refresh: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "b", batch_size(self.b))
        object.__setattr__(self, "refresh", positive_integer("refresh", self.refresh))

    def refresh_due(self, step: int) -> bool:
        """True at every ``refresh``-th step from step 0 on (see `ParameterNoise.refresh_due`)."""
        return step % self.refresh == 0


@dataclass(frozen=True)
class GLDDynamic(_PeriodicNoise):
    """GLD dynamic: isotropic noise ``N(0, (tr C/(b·d))·I)``, with C measured every ``refresh`` steps.

    The total variance follows that of SGD's noise. State: ``trace``, a float64 scalar.

    Args:
        b: batch size whose noise is matched, ≥ 1, a real number.
        refresh: number of steps from one measurement to the next, ≥ 1.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is below 1.

    Examples:
        >>> noise = GLDDynamic(20, refresh=10)
        >>> [step for step in range(25) if noise.refresh_due(step)]
        [0, 10, 20]

    References:
        Zhu, Wu, Yu, Wu, Ma 2019, arXiv 1803.00195.
    """

    def _measure(self, examples: Examples) -> State:
        return _trace(examples)

    def _sample(self, state: State, d: int, rng: Generator) -> Tensor:
        return _isotropic(state, self.b, d, rng)


def _trace(examples: Examples) -> State:
    return {"trace": covariance_diagonal(examples).sum()}


def _isotropic(state: State, b: float, d: int, rng: Generator) -> Tensor:
    return standard_normal(d, rng) * math.sqrt(float(state["trace"]) / (b * d))


@dataclass(frozen=True)
class GLDDiag(_PeriodicNoise):
    """GLD diag: independent noise ``N(0, diag(C)/b)``, with C measured every ``refresh`` steps.

    The noise of each parameter has the variance of SGD's noise. State: ``diagonal``, float64, shape (d,).

    Args:
        b: batch size whose noise is matched, ≥ 1, a real number.
        refresh: number of steps from one measurement to the next, ≥ 1.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is below 1.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> squares = lambda out, y: 0.5 * (out - y).squeeze(1) ** 2
        >>> GLDDiag(4).measure(model, squares, torch.eye(2), torch.tensor([[2.0], [4.0]]))
        {'diagonal': tensor([1., 4.], dtype=torch.float64)}

    References:
        Zhu, Wu, Yu, Wu, Ma 2019, arXiv 1803.00195.
    """

    def _measure(self, examples: Examples) -> State:
        return {"diagonal": covariance_diagonal(examples)}

    def _sample(self, state: State, d: int, rng: Generator) -> Tensor:  # noqa: ARG002
        variance = state["diagonal"].cpu() / self.b
        return variance.sqrt_() * standard_normal(len(variance), rng)


@dataclass(frozen=True)
class GLDLeading(_PeriodicNoise):
    """GLD leading: noise ``N(0, (s/b)·Σ_j λ_j v_j v_jᵀ)`` along the k leading eigenvectors v_j of C.

    The factor ``s = tr C / Σ_j λ_j`` makes the total variance equal to tr(C)/b, that of SGD's noise. State: ``trace``,
    a float64 scalar; ``eigenvalues`` of C, float64, shape (k,); ``eigenvectors``, shape (k, d), in the dtype and on the
    device of the parameters, 0 beyond the rank of C. A measurement costs n²·d multiplications; with ``chunk`` ≥ n in
    `measure` each gradient is computed once.

    Args:
        b: batch size whose noise is matched, ≥ 1, a real number.
        k: number of eigenvectors, ≥ 1.
        refresh: number of steps from one measurement to the next, ≥ 1.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is below 1; ``measure`` also raises it if k > n.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> squares = lambda out, y: 0.5 * (out - y).squeeze(1) ** 2
        >>> state = GLDLeading(4, k=1).measure(model, squares, torch.eye(2), torch.tensor([[2.0], [4.0]]))
        >>> {name: [round(abs(x), 3) for x in value.flatten().tolist()] for name, value in state.items()}
        {'trace': [5.0], 'eigenvalues': [5.0], 'eigenvectors': [0.447, 0.894]}

    References:
        Zhu, Wu, Yu, Wu, Ma 2019, arXiv 1803.00195. Their code uses k = 20, measures every 10 steps and adds noise only
        at those steps, without rescaling. Here noise is added at every step, with the total variance of the other
        kinds.
    """

    k: int = field(default=20, kw_only=True)
    refresh: int = field(default=10, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "k", positive_integer("k", self.k))

    def _measure(self, examples: Examples) -> State:
        if self.k > examples.n:
            raise ValueError(f"{examples.n} examples give at most as many eigenvectors of C: use k ≤ {examples.n}")
        trace, values, vectors = leading_eigenpairs(examples, self.k)
        return {"trace": trace, "eigenvalues": values, "eigenvectors": vectors}

    def _sample(self, state: State, d: int, rng: Generator) -> Tensor:  # noqa: ARG002
        values, vectors = state["eigenvalues"].cpu(), state["eigenvectors"]
        total = float(values.sum())
        scale = float(state["trace"]) / (self.b * total) if total > 0 else 0.0
        return ((values * scale).sqrt_() * standard_normal(len(values), rng)).to(vectors) @ vectors
