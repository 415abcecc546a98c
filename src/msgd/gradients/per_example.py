"""Per-example losses and gradients, computed chunk by chunk in bounded memory."""

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

LossFunction = Callable[[Tensor, Tensor], Tensor]  #: maps (outputs, targets) to one loss per example, shape (batch,)
CHUNK = 250  #: default number of examples whose gradients are held at once


class Data(Protocol):
    """n examples in chunks, in a fixed order; `InMemory` and `Batches` implement this protocol."""

    @property
    def n(self) -> int:
        """Number of examples."""

    @property
    def parts(self) -> list[slice]:
        """The positions of each chunk among the n examples."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a chunk."""


class Examples:
    """A model, a loss function and n examples, for computing per-example gradients.

    No result is cached: each pass uses the current parameters of the model.

    Args:
        model: the model; its parameters with ``requires_grad`` are the trained ones.
        loss_fn: maps the model's outputs and the targets to one loss per example, shape (batch,).
        data: the examples in chunks; they are moved to the device of the parameters.

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
        """A parameter, whose device and dtype new tensors take."""
        return next(iter(self.parameters.values()))

    def chunk(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the inputs and targets of a chunk, on the device of the parameters."""
        x, y = self.data[index]
        return x.to(self.like.device), y.to(self.like.device)

    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """Return one loss per example, at the current parameters of the model."""
        return _check_per_example(self.loss_fn(self.model(x), y), y)

    def losses_at(self, index: int, shift: Tensor) -> Tensor:
        """Return the losses of the examples in a chunk at θ + shift, without changing the parameters θ.

        Args:
            index: index of the chunk.
            shift: vector in parameter space, shape (d,).

        Returns:
            The losses, shape (examples in the chunk,).
        """
        moved = {name: θ + part for (name, θ), part in zip(self._detached.items(), self.split(shift), strict=True)}
        with torch.no_grad():
            return self._call(moved, *self.chunk(index))

    def weighted_sums(self, index: int, weights: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Yield Σ_i w_i·g_i over a chunk for each row of weights: one forward pass, and one backward pass per row.

        Args:
            index: index of the chunk.
            weights: shape (k, examples in the chunk).

        Yields:
            For each of the k rows, one tensor per parameter.
        """
        with torch.enable_grad():
            losses = self.losses(*self.chunk(index))
        for number, row in enumerate(weights, start=1):
            yield self._gradient(losses, row, retain_graph=number < len(weights))

    def mean_gradient(self) -> tuple[Tensor, ...]:
        """Return ḡ, one tensor per parameter, accumulated over the chunks."""
        total = self.zeros()
        for index, part in enumerate(self.data.parts):
            share = self.like.new_full((1, part.stop - part.start), 1 / self.n)
            torch._foreach_add_(total, *self.weighted_sums(index, share))
        return total

    def rows(self, index: int, *, centre: tuple[Tensor, ...] | None = None) -> list[Tensor]:
        """Return the gradients g_i of the examples in a chunk, or g_i − centre.

        They are computed by `torch.func.vmap`, or by one backward pass per example if an operation of the model has no
        batching rule.

        Args:
            index: index of the chunk.
            centre: subtracted from each gradient, one tensor per parameter; None to subtract nothing.

        Returns:
            For each parameter a tensor of shape (examples in the chunk, size of the parameter).
        """
        x, y = self.chunk(index)
        rows = self._rows_by_loop(x, y) if self._no_vmap else self._rows_by_vmap(x, y)
        if centre is not None:
            rows = [row - m for row, m in zip(rows, centre, strict=True)]
        return [row.reshape(len(y), -1) for row in rows]

    def along(self, index: int, directions: Tensor) -> Tensor:
        """Return ⟨g_i, u⟩ of the examples in a chunk, for each row u of ``directions``.

        This takes one forward-mode pass per direction, or a double backward pass if an operation of the model has no
        forward mode.

        Args:
            index: index of the chunk.
            directions: vectors in parameter space as rows, shape (k, d).

        Returns:
            The inner products, shape (k, examples in the chunk).

        Raises:
            NotImplementedError: an operation supports neither; the message names it.
            OutOfMemoryError: a chunk does not fit in the memory of the device.
        """
        x, y = self.chunk(index)
        if self._no_forward_mode is None:
            _load_forward_mode()
            try:
                return torch.stack([self._forward_mode(x, y, self.split(u)) for u in directions])
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:  # no forward mode, or an error of the model that occurs again below
                self._no_forward_mode = error
        return self._double_backward(x, y, directions)

    def gradient_and_hvp(
        self, x: Tensor, y: Tensor, divisor: int, *, along: tuple[Tensor, ...] | None = None
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return the gradient g of the sum of losses divided by ``divisor``, and its Hessian-vector product.

        The product takes a double backward pass.

        Args:
            x: inputs of some examples.
            y: targets of these examples.
            divisor: number by which the sum of the losses is divided.
            along: the vector that the Hessian is multiplied with, one tensor per parameter; None: g itself.

        Returns:
            The gradient and the product, each with one tensor per parameter.
        """
        parameters = tuple(self.parameters.values())
        with torch.enable_grad(), differentiable_attention():
            loss = weighted_mean(self.losses(x, y), Weights(None, torch.ones(len(y)), divisor))
            gradient = torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True)
            direction = along or tuple(g.detach() for g in gradient)
            # A gradient that does not depend on the parameters has no graph; its rows of the Hessian are 0.
            rows = [(g, v) for g, v in zip(gradient, direction, strict=True) if g.requires_grad]
            if not rows:
                return gradient, self.zeros()
            outputs, vectors = zip(*rows, strict=True)
            curved = torch.autograd.grad(outputs, parameters, vectors, materialize_grads=True)
        return tuple(g.detach() for g in gradient), curved

    def zeros(self) -> tuple[Tensor, ...]:
        """Return one tensor of zeros per parameter."""
        return tuple(torch.zeros_like(parameter) for parameter in self.parameters.values())

    def split(self, flat: Tensor) -> list[Tensor]:
        """Split a vector of shape (d,) into one tensor per parameter."""
        parameters = self.parameters.values()
        parts = torch.split(flat, [parameter.numel() for parameter in parameters])
        return [part.view(parameter.shape) for part, parameter in zip(parts, parameters, strict=True)]

    @property
    def _detached(self) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in self.parameters.items()}

    def _call(self, parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return _check_per_example(self.loss_fn(functional_call(self.model, parameters, (x,)), y), y)

    def _rows_by_vmap(self, x: Tensor, y: Tensor) -> list[Tensor]:
        def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            return self._call(parameters, x.unsqueeze(0), y.unsqueeze(0)).squeeze(0)

        try:
            with differentiable_attention():
                rows = vmap(grad(loss), in_dims=(None, 0, 0))(self._detached, x, y)
                return [_to_dense(row) for row in rows.values()]
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if "randomness" in str(error):
                raise ValueError(
                    "the model or the loss draws random numbers, so that gradients differ from pass to pass: "
                    "use model.eval(), or remove functional dropout"
                ) from error
            rows_by_loop = self._rows_by_loop(x, y)  # an error of the model occurs again here
            self._no_vmap = True
            return rows_by_loop

    def _rows_by_loop(self, x: Tensor, y: Tensor) -> list[Tensor]:
        with torch.enable_grad():
            gradients = [self._gradient(self.losses(x[i : i + 1], y[i : i + 1]).squeeze(0)) for i in range(len(y))]
        return [torch.stack(gradient) for gradient in zip(*gradients, strict=True)]

    def _gradient(
        self, losses: Tensor, weights: Tensor | None = None, *, retain_graph: bool = False
    ) -> tuple[Tensor, ...]:
        parameters = list(self.parameters.values())
        gradient = torch.autograd.grad(losses, parameters, weights, retain_graph=retain_graph, materialize_grads=True)
        return tuple(map(_to_dense, gradient))

    def _forward_mode(self, x: Tensor, y: Tensor, tangents: list[Tensor]) -> Tensor:
        named = dict(zip(self._detached, tangents, strict=True))
        with torch.no_grad(), differentiable_attention():
            derivative: Tensor = jvp(lambda parameters: self._call(parameters, x, y), (self._detached,), (named,))[1]
        return derivative

    def _double_backward(self, x: Tensor, y: Tensor, directions: Tensor) -> Tensor:
        # ⟨G·v, u⟩ is linear in v, so its gradient with respect to v is Gᵀ·u.
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
                    "Gᵀ·u needs forward mode or a double backward pass, and an operation of this model has neither: "
                    f"{_first_line(self._no_forward_mode)}; {_first_line(error)}. Replace that operation"
                ) from error


@contextmanager
def differentiable_attention() -> Iterator[None]:
    """Disable fused attention kernels, which have no batching rule, no forward mode and no second derivative."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _check_per_example(losses: Tensor, y: Tensor) -> Tensor:
    check_losses(losses)
    if len(losses) != len(y):
        raise ValueError(f"the loss function returned {len(losses)} losses for {len(y)} examples: return one for each")
    return losses


def _to_dense(gradient: Tensor) -> Tensor:
    return gradient.to_dense() if gradient.is_sparse else gradient  # embeddings with sparse=True give sparse gradients


@cache
def _load_forward_mode() -> None:
    # torch 2.13 warns about its own use of torch.jit.script when forward mode is used for the first time.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.script", category=DeprecationWarning)
        jvp(torch.sin, (torch.zeros(()),), (torch.ones(()),))


def _first_line(error: Exception | None) -> str:
    return str(error).partition("\n")[0].rstrip(".")
