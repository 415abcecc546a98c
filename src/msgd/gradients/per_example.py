"""Per-example losses and their gradients, in bounded memory: the one place where they are computed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from msgd._checks import check_losses
from msgd.noise import Weights
from msgd.reweighting.weighted_mean import weighted_mean

LossFunction = Callable[[Tensor, Tensor], Tensor]  #: (outputs, targets) to one loss for each example, shape (batch,)
CHUNK = 250  #: examples whose gradients are held at once


class Data(Protocol):
    """n examples in chunks, in an order that never changes; `InMemory` and `Batches` are two."""

    @property
    def n(self) -> int:
        """Number of examples."""

    @property
    def parts(self) -> list[slice]:
        """Where each chunk lies among the n."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a chunk."""


class Examples:
    """A model, its loss, and the n examples that its gradients are of.

    Nothing is kept of a pass: each is of the parameters as they are then.

    Args:
        model: its parameters with ``requires_grad`` count.
        loss_fn: from the model's outputs and the targets to one loss for each example, shape (batch,).
        data: the examples in chunks; they are moved to where the parameters are.

    Raises:
        ValueError: the model has no parameters to train.
    """

    def __init__(self, model: nn.Module, loss_fn: LossFunction, data: Data) -> None:
        self.model, self.loss_fn, self.data = model, loss_fn, data
        if not self.parameters:
            raise ValueError("the model has no parameters to train: set requires_grad on some")
        self._no_forward_mode: RuntimeError | None = None
        self._no_vmap = False

    @property
    def n(self) -> int:
        """Number of examples."""
        return self.data.n

    @property
    def d(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The trained parameters, by name."""
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    @property
    def like(self) -> Tensor:
        """A parameter, for the device and the dtype of new tensors."""
        return next(iter(self.parameters.values()))

    def chunk(self, index: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a chunk, where the parameters are."""
        x, y = self.data[index]
        return x.to(self.like.device), y.to(self.like.device)

    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """One loss for each of some examples, at the parameters of the model."""
        return _checked(self.loss_fn(self.model(x), y), y)

    def losses_at(self, index: int, shift: Tensor) -> Tensor:
        """Losses of the examples in a chunk at θ + shift, with the parameters θ left as they are.

        Args:
            index: of the chunk.
            shift: shape (d,).

        Returns:
            Shape (examples in the chunk,).
        """
        moved = {name: θ + part for (name, θ), part in zip(self._detached.items(), self.split(shift), strict=True)}
        with torch.no_grad():
            return self._called(moved, *self.chunk(index))

    def combined(self, index: int, weights: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Σ_i w_i·g_i over a chunk, for each row of weights: one forward pass, and one backward pass a row.

        Args:
            index: of the chunk.
            weights: shape (k, examples in the chunk).

        Yields:
            k times one tensor for each parameter.
        """
        with torch.enable_grad():
            losses = self.losses(*self.chunk(index))
        for number, row in enumerate(weights, start=1):
            yield self._gradient(losses, row, retain_graph=number < len(weights))

    def mean_gradient(self) -> tuple[Tensor, ...]:
        """ḡ, one tensor for each parameter, summed over the chunks."""
        total = self.zeros()
        for index, part in enumerate(self.data.parts):
            share = self.like.new_full((1, part.stop - part.start), 1 / self.n)
            torch._foreach_add_(total, *self.combined(index, share))
        return total

    def rows(self, index: int, *, centre: tuple[Tensor, ...] | None = None) -> list[Tensor]:
        """g_i of the examples in a chunk, or g_i − centre.

        By `torch.func.vmap`; by one backward pass for each example where an operation has no batching rule.

        Args:
            index: of the chunk.
            centre: subtracted from each gradient, one tensor for each parameter; None for nothing.

        Returns:
            For each parameter a tensor of shape (examples in the chunk, its size).
        """
        x, y = self.chunk(index)
        rows = self._looped(x, y) if self._no_vmap else self._mapped(x, y)
        if centre is not None:
            rows = [row - m for row, m in zip(rows, centre, strict=True)]
        return [row.reshape(len(y), -1) for row in rows]

    def along(self, index: int, directions: Tensor) -> Tensor:
        """⟨g_i, u⟩ of the examples in a chunk, for each row u of ``directions``, shape (k, d).

        By forward mode, a pass for each direction; by a double backward pass where an operation has no forward mode.

        Args:
            index: of the chunk.
            directions: shape (k, d).

        Returns:
            Shape (k, examples in the chunk).

        Raises:
            NotImplementedError: an operation has neither; the message names it.
            OutOfMemoryError: as in any pass.
        """
        x, y = self.chunk(index)
        if self._no_forward_mode is None:
            _load_forward_mode()
            try:
                return torch.stack([self._forward_mode(x, y, self.split(u)) for u in directions])
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:  # no forward mode, or a fault of the model that shows again below
                self._no_forward_mode = error
        return self._double_backward(x, y, directions)

    def curved(
        self, x: Tensor, y: Tensor, divisor: int, *, along: tuple[Tensor, ...] | None = None
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Gradient g of the losses, summed over ``divisor``, and their Hessian times a vector, by double backward.

        Args:
            x: inputs of some examples.
            y: their targets.
            divisor: of the sum.
            along: the vector, one tensor for each parameter; None: g itself.

        Returns:
            The two, each with one tensor for each parameter.
        """
        parameters = tuple(self.parameters.values())
        with torch.enable_grad(), differentiable_attention():
            loss = weighted_mean(self.losses(x, y), Weights(None, torch.ones(len(y)), divisor))
            gradient = torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True)
            direction = along or tuple(g.detach() for g in gradient)
            # A gradient that does not depend on the parameters has no graph: its rows of the Hessian are 0.
            rows = [(g, v) for g, v in zip(gradient, direction, strict=True) if g.requires_grad]
            if not rows:
                return gradient, self.zeros()
            outputs, vectors = zip(*rows, strict=True)
            curved = torch.autograd.grad(outputs, parameters, vectors, materialize_grads=True)
        return tuple(g.detach() for g in gradient), curved

    def zeros(self) -> tuple[Tensor, ...]:
        """One tensor of zeros for each parameter."""
        return tuple(torch.zeros_like(parameter) for parameter in self.parameters.values())

    def split(self, flat: Tensor) -> list[Tensor]:
        """A vector of shape (d,) as one tensor for each parameter."""
        parameters = self.parameters.values()
        parts = torch.split(flat, [parameter.numel() for parameter in parameters])
        return [part.view(parameter.shape) for part, parameter in zip(parts, parameters, strict=True)]

    @property
    def _detached(self) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in self.parameters.items()}

    def _called(self, parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return _checked(self.loss_fn(functional_call(self.model, parameters, (x,)), y), y)

    def _mapped(self, x: Tensor, y: Tensor) -> list[Tensor]:
        def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            return self._called(parameters, x.unsqueeze(0), y.unsqueeze(0)).squeeze(0)

        try:
            with differentiable_attention():
                rows = vmap(grad(loss), in_dims=(None, 0, 0))(self._detached, x, y)
                return [_strided(row) for row in rows.values()]
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if "randomness" in str(error):
                raise ValueError(
                    "the model or the loss draws random numbers, so that gradients differ from pass to pass: "
                    "use model.eval(), or leave functional dropout out"
                ) from error
            looped = self._looped(x, y)  # a fault of the model shows again here
            self._no_vmap = True
            return looped

    def _looped(self, x: Tensor, y: Tensor) -> list[Tensor]:
        with torch.enable_grad():
            gradients = [self._gradient(self.losses(x[i : i + 1], y[i : i + 1]).squeeze(0)) for i in range(len(y))]
        return [torch.stack(gradient) for gradient in zip(*gradients, strict=True)]

    def _gradient(
        self, losses: Tensor, weights: Tensor | None = None, *, retain_graph: bool = False
    ) -> tuple[Tensor, ...]:
        parameters = list(self.parameters.values())
        gradient = torch.autograd.grad(losses, parameters, weights, retain_graph=retain_graph, materialize_grads=True)
        return tuple(map(_strided, gradient))

    def _forward_mode(self, x: Tensor, y: Tensor, tangents: list[Tensor]) -> Tensor:
        named = dict(zip(self._detached, tangents, strict=True))
        with torch.no_grad(), differentiable_attention():
            derivative: Tensor = jvp(lambda parameters: self._called(parameters, x, y), (self._detached,), (named,))[1]
        return derivative

    def _double_backward(self, x: Tensor, y: Tensor, directions: Tensor) -> Tensor:
        # G·v is linear in v, so its derivative in v along u is Gᵀ·u.
        with torch.enable_grad(), differentiable_attention():
            losses = self.losses(x, y)
            v = torch.zeros_like(losses, requires_grad=True)
            parameters = list(self.parameters.values())
            try:
                gradient = torch.autograd.grad(losses, parameters, v, create_graph=True, materialize_grads=True)
                pairs = [(g, i) for i, g in enumerate(gradient) if g.requires_grad]
                return torch.stack(
                    [
                        torch.autograd.grad([g for g, _ in pairs], v, [parts[i] for _, i in pairs], retain_graph=True)[
                            0
                        ]
                        for parts in map(self.split, directions)
                    ]
                )
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                raise NotImplementedError(
                    "Gᵀ·u takes forward mode or a double backward pass, and this model allows neither: "
                    f"{_first_line(self._no_forward_mode)}; {_first_line(error)}. Replace that operation"
                ) from error


@contextmanager
def differentiable_attention() -> Iterator[None]:
    """Attention step by step: its fused kernels have no batching rule, no forward mode and no second derivative."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _checked(losses: Tensor, y: Tensor) -> Tensor:
    check_losses(losses)
    if len(losses) != len(y):
        raise ValueError(f"the loss function returned {len(losses)} losses for {len(y)} examples: give one for each")
    return losses


def _strided(gradient: Tensor) -> Tensor:
    return gradient.to_dense() if gradient.is_sparse else gradient  # of an embedding with sparse=True


@cache
def _load_forward_mode() -> None:
    # torch 2.13 warns of its own use of torch.jit.script where forward mode is used for the first time.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.script", category=DeprecationWarning)
        jvp(torch.sin, (torch.zeros(()),), (torch.ones(()),))


def _first_line(error: Exception | None) -> str:
    return str(error).partition("\n")[0].rstrip(".")
