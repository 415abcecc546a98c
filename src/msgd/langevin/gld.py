"""Gaussian noise added to the gradient in parameter space: the four kinds of GLD, and SGLD."""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from numpy.random import Generator
from torch import Tensor, nn

from msgd.checks import check_uncoupled, positive, whole
from msgd.chunks import InMemory
from msgd.langevin.gradients import diagonal, leading
from msgd.noise import NOISE, generator
from msgd.noise.law import batch_size
from msgd.per_example import CHUNK, Examples, LossFunction

State = dict[str, Tensor]  #: what was measured of C, to be saved with a checkpoint

_APART = 2**63  # keeps the noise independent of a law's draw with the same seed, step and stream


class ParameterNoise(ABC):
    """Gaussian noise in parameter space: the step is taken along gradient + noise.

    A noise is a frozen dataclass, driven by three methods::

        if noise.refresh_due(step):
            state = noise.measure(model, loss_fn, inputs, targets)
        added = noise.sample(state, parameters, seed=seed, step=step)
        for parameter, values in zip(parameters, added):  # after loss.backward()
            parameter.grad += values

    ``parameters`` are those that require a gradient: ``[p for p in model.parameters() if p.requires_grad]``.
    """

    @abstractmethod
    def refresh_due(self, step: int) -> bool:
        """Whether to measure before this step.

        Args:
            step: the step of training, from 0.

        Returns:
            True where ``measure`` is to be called.
        """

    def measure(
        self, model: nn.Module, loss_fn: LossFunction, inputs: Tensor, targets: Tensor, *, chunk: int = CHUNK
    ) -> State:
        """Measure the covariance C of the per-example gradients at the model's parameters.

        Args:
            model: without BatchNorm in train mode or active dropout.
            loss_fn: from outputs and targets to one loss for each example, shape (batch,).
            inputs: of all n training examples, along the first dimension.
            targets: likewise.
            chunk: number of examples whose gradients are held at once: memory grows with chunk·d. The result depends on
                it by rounding only.

        Returns:
            Tensors by name; see the class. They are of C, not yet of C/b.

        Raises:
            TypeError: ``chunk`` is no integer, or the losses are no floating-point tensor.
            ValueError: the examples are coupled or the gradients random; the losses are not one for each example;
                inputs and targets differ in number; ``chunk`` < 1.
        """
        check_uncoupled(model)
        return self._measured(Examples(model, loss_fn, InMemory(inputs, targets, chunk)))

    def sample(
        self, state: State, parameters: Iterable[Tensor], *, seed: int, step: int, stream: int = NOISE
    ) -> tuple[Tensor, ...]:
        """Draw the noise of one step: the same on every call, in every process, and (to rounding) on every device.

        Args:
            state: from `measure`, or from a checkpoint.
            parameters: the trained ones, in the model's order.
            seed: names the stream of noise, 0 ≤ seed < 2⁶⁴.
            step: the step of training, ≥ 0.
            stream: keeps several noises of one seed apart; it is independent of a law's draw with the same stream.

        Returns:
            For each parameter a tensor of its shape and dtype on its device, to be added to its gradient.

        Raises:
            TypeError: a number is no integer.
            ValueError: ``state`` was not measured by this kind of noise, or on other parameters.
        """
        like = list(parameters)
        if not like:
            raise ValueError("no parameters: give those of the model, and an iterator only once")
        sizes = [parameter.numel() for parameter in like]
        rng = generator(seed, step, operator.index(stream) ^ _APART)
        try:
            flat = self._sampled(state, sum(sizes), rng)
        except KeyError as missing:
            raise ValueError(
                f"the state has no {missing}: call {type(self).__name__}.measure at the first step, or load its state"
            ) from None
        if len(flat) != sum(sizes):
            raise ValueError(
                f"the state is of {len(flat)} parameters, and these are {sum(sizes)}: "
                "give those with requires_grad, or measure again"
            )
        flat = flat.to(like[0].device, like[0].dtype)
        return tuple(
            part.view(p.shape).to(p.device, p.dtype) for part, p in zip(torch.split(flat, sizes), like, strict=True)
        )

    @abstractmethod
    def _measured(self, examples: Examples) -> State: ...

    @abstractmethod
    def _sampled(self, state: State, d: int, rng: Generator) -> Tensor:
        """The noise, shape (d,)."""


def _normal(number: int, rng: Generator) -> Tensor:
    return torch.from_numpy(rng.standard_normal(number))


@dataclass(frozen=True)
class GLDConst(ParameterNoise):
    """GLD const: isotropic noise ``N(0, (tr C₀/(b·d))·I)``, with C₀ the covariance at the start.

    The total variance is that of SGD's noise at the first step, and stays so. State: ``trace``, a float64 scalar. Every
    parameter moves, also one that no loss depends on.

    Args:
        b: batch size whose noise is matched, ≥ 1, a real number.

    Raises:
        TypeError: ``b`` is not a number.
        ValueError: ``b`` < 1.

    Examples:
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
        Zhu, Wu, Yu, Wu, Ma 2019, arXiv 1803.00195 (in their code the standard deviation is an argument).
    """

    b: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "b", batch_size(self.b))

    def refresh_due(self, step: int) -> bool:
        """At the start only (see `ParameterNoise.refresh_due`)."""
        return step == 0

    def _measured(self, examples: Examples) -> State:
        return _trace(examples)

    def _sampled(self, state: State, d: int, rng: Generator) -> Tensor:
        return _isotropic(state, self.b, d, rng)


@dataclass(frozen=True)
class _Refreshed(ParameterNoise):
    """Measured again every ``refresh`` steps."""

    b: float
    refresh: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "b", batch_size(self.b))
        object.__setattr__(self, "refresh", whole("refresh", self.refresh))

    def refresh_due(self, step: int) -> bool:
        """Every ``refresh`` steps from the first (see `ParameterNoise.refresh_due`)."""
        return step % self.refresh == 0


@dataclass(frozen=True)
class GLDDynamic(_Refreshed):
    """GLD dynamic: isotropic noise ``N(0, (tr C/(b·d))·I)``, with C measured again every ``refresh`` steps.

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

    def _measured(self, examples: Examples) -> State:
        return _trace(examples)

    def _sampled(self, state: State, d: int, rng: Generator) -> Tensor:
        return _isotropic(state, self.b, d, rng)


def _trace(examples: Examples) -> State:
    return {"trace": diagonal(examples).sum()}


def _isotropic(state: State, b: float, d: int, rng: Generator) -> Tensor:
    return _normal(d, rng) * math.sqrt(float(state["trace"]) / (b * d))


@dataclass(frozen=True)
class GLDDiag(_Refreshed):
    """GLD diag: independent noise ``N(0, diag(C)/b)``, with C measured again every ``refresh`` steps.

    Each parameter has the variance that SGD gives it. State: ``diagonal``, float64, shape (d,).

    Args:
        b: batch size whose noise is matched, ≥ 1, a real number.
        refresh: number of steps from one measurement to the next, ≥ 1.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is below 1.

    Examples:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> squares = lambda out, y: 0.5 * (out - y).squeeze(1) ** 2
        >>> GLDDiag(4).measure(model, squares, torch.eye(2), torch.tensor([[2.0], [4.0]]))
        {'diagonal': tensor([1., 4.], dtype=torch.float64)}

    References:
        Zhu, Wu, Yu, Wu, Ma 2019, arXiv 1803.00195.
    """

    def _measured(self, examples: Examples) -> State:
        return {"diagonal": diagonal(examples)}

    def _sampled(self, state: State, d: int, rng: Generator) -> Tensor:  # noqa: ARG002
        variance = state["diagonal"].cpu() / self.b
        return variance.sqrt_() * _normal(len(variance), rng)


@dataclass(frozen=True)
class GLDLeading(_Refreshed):
    """GLD leading: noise ``N(0, (s/b)·Σ_j λ_j v_j v_jᵀ)`` along the k leading eigenvectors v_j of C.

    The factor ``s = tr C / Σ_j λ_j`` gives it the whole trace tr(C)/b of SGD's noise. State: ``trace``, a float64
    scalar; ``eigenvalues`` of C, float64, shape (k,); ``eigenvectors``, shape (k, d), in the dtype of the parameters
    and where they are, 0 beyond the rank of C. A measurement costs n²·d products; with ``chunk`` ≥ n in `measure` each
    gradient is computed once.

    Args:
        b: batch size whose noise is matched, ≥ 1, a real number.
        k: number of eigenvectors, ≥ 1.
        refresh: number of steps from one measurement to the next, ≥ 1.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is below 1; or, from ``measure``, k > n.

    Examples:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> squares = lambda out, y: 0.5 * (out - y).squeeze(1) ** 2
        >>> state = GLDLeading(4, k=1).measure(model, squares, torch.eye(2), torch.tensor([[2.0], [4.0]]))
        >>> {name: [round(abs(x), 3) for x in value.flatten().tolist()] for name, value in state.items()}
        {'trace': [5.0], 'eigenvalues': [5.0], 'eigenvectors': [0.447, 0.894]}

    References:
        Zhu, Wu, Yu, Wu, Ma 2019, arXiv 1803.00195. Their code has k = 20, measures every 10 steps and adds noise at
        those steps only, not rescaled; here it comes at every step, with the total variance of the other kinds.
    """

    k: int = field(default=20, kw_only=True)
    refresh: int = field(default=10, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "k", whole("k", self.k))

    def _measured(self, examples: Examples) -> State:
        if self.k > examples.n:
            raise ValueError(f"C of {examples.n} examples has no {self.k} eigenvectors: use k ≤ {examples.n}")
        trace, values, vectors = leading(examples, self.k)
        return {"trace": trace, "eigenvalues": values, "eigenvectors": vectors}

    def _sampled(self, state: State, d: int, rng: Generator) -> Tensor:  # noqa: ARG002
        values, vectors = state["eigenvalues"].cpu(), state["eigenvectors"]
        total = float(values.sum())
        scale = float(state["trace"]) / (self.b * total) if total > 0 else 0.0
        return ((values * scale).sqrt_() * _normal(len(values), rng)).to(vectors) @ vectors


@dataclass(frozen=True)
class SGLD(ParameterNoise):
    """SGLD: isotropic noise ``N(0, (2T/η)·I)`` on the mini-batch gradient g̃, so that ``θ ← θ − η·g̃ + √(2ηT)·ξ``.

    For small η and full batches θ settles to the density ∝ exp(−L(θ)/T); with L the mean negative log-likelihood of n
    examples, T = 1/n is the posterior under a flat prior. It holds without momentum. Nothing is measured; the state is
    empty.

    Args:
        temperature: T > 0, in units of the loss.
        lr: η > 0, the learning rate of the step.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is not positive or not finite.

    Examples:
        >>> noise = SGLD(temperature=0.005, lr=0.1)  # standard deviation √(2·0.005/0.1) = 0.32 in the gradient
        >>> (added,) = noise.sample({}, [torch.zeros(10_000)], seed=0, step=0)
        >>> round(float(added.std()), 2)
        0.32

    References:
        Welling, Teh 2011, "Bayesian learning via stochastic gradient Langevin dynamics", ICML (a decreasing η there).
    """

    temperature: float
    lr: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperature", positive("temperature", self.temperature))
        object.__setattr__(self, "lr", positive("lr", self.lr))

    def refresh_due(self, step: int) -> bool:
        """At the start, so that a loop has the empty state (see `ParameterNoise.refresh_due`)."""
        return step == 0

    def _measured(self, examples: Examples) -> State:  # noqa: ARG002
        return {}

    def _sampled(self, state: State, d: int, rng: Generator) -> Tensor:  # noqa: ARG002
        return _normal(d, rng) * math.sqrt(2 * self.temperature / self.lr)
