"""The gate: the identity forward, and each example's gradient times its weight backward."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from msgd.noise.law import Weights

Outputs = TypeVar("Outputs")


class _Gate(torch.autograd.Function):
    """y forward, w·grad backward; w has a shape that broadcasts to that of y."""

    @staticmethod
    def forward(y: Tensor, w: Tensor) -> Tensor:
        del w
        return y.detach()  # and not a view, which a loss could not change in place

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        del output
        # Not by save_for_backward: activation checkpointing would replace these weights by those of its second pass.
        ctx.w = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return (grads[0] * ctx.w).to(grads[0].dtype), None


class _GatedLinear(torch.autograd.Function):
    """y = h·Vᵀ + c forward; backward as for the gate behind it, without a pass over the gradient of y.

    For y with more columns than h, as in the head of a language model, it is cheaper to weight h than the gradient of
    y: ∂h = w·(∂y·V), ∂V = ∂yᵀ·(w·h), ∂c = Σ w·∂y.
    """

    @staticmethod
    def forward(h: Tensor, V: Tensor, c: Tensor | None, w: Tensor) -> Tensor:
        del w
        return F.linear(h, V, c)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None, Tensor], output: Tensor) -> None:
        del output
        h, V, _, ctx.w = inputs
        ctx.save_for_backward(h, V)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        h, V = ctx.saved_tensors
        rows = grads[0].reshape(-1, V.shape[0])
        w = ctx.w.expand((*h.shape[:-1], 1)).reshape(-1, 1)
        to_h = to_V = to_c = None
        if ctx.needs_input_grad[0]:
            to_h = (rows.mm(V) * w).to(h.dtype).view_as(h)
        if ctx.needs_input_grad[1]:
            to_V = rows.t().mm((h.reshape(-1, h.shape[-1]) * w).to(h.dtype))
        if ctx.needs_input_grad[2]:
            to_c = (rows * w).to(rows.dtype).sum(0)
        return to_h, to_V, to_c, None


class _NoBackward(torch.autograd.Function):
    """A loss that was computed without the weights: the identity forward, an error backward."""

    @staticmethod
    def forward(loss: Tensor, remedy: str) -> Tensor:
        del remedy
        return loss.clone()  # no view, because frameworks scale losses in place

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, str], output: Tensor) -> None:
        del output
        ctx.remedy = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        del grads
        raise ValueError(ctx.remedy)


def refuse_backward(loss: Tensor, remedy: str) -> Tensor:
    """Return the loss, whose backward pass raises.

    Args:
        loss: a loss that does not depend on weighted outputs.
        remedy: the message of the error.

    Returns:
        The same value.
    """
    refused: Tensor = _NoBackward.apply(loss, remedy)  # type: ignore[no-untyped-call]
    return refused


def gate(y: Tensor, w: Tensor, *, batch_dim: int = 0) -> Tensor:
    """Return y; in the backward pass its gradient is multiplied by w.

    Args:
        y: outputs of a network, any shape.
        w: one weight for each example, shape (batch,); or one for each token, shape (batch, length), (tokens,) …, the
            first dimensions of y.
        batch_dim: dimension of the examples in y, for weights of shape (batch,).

    Returns:
        A tensor with the values of y.

    Examples:
        >>> y = torch.ones(2, 3, requires_grad=True)
        >>> gate(y, torch.tensor([0.0, 2.0])).sum().backward()
        >>> y.grad
        tensor([[0., 0., 0.],
                [2., 2., 2.]])
    """
    leading = batch_dim if w.ndim == 1 else 0
    shape = (1,) * leading + w.shape + (1,) * (y.ndim - leading - w.ndim)
    gated: Tensor = _Gate.apply(y, w.view(shape))  # type: ignore[no-untyped-call]
    return gated


def gated_linear(h: Tensor, weight: Tensor, bias: Tensor | None, w: Tensor) -> Tensor:
    """Return ``gate(F.linear(h, weight, bias), w)``, without a pass over the gradient of the outputs.

    Args:
        h: inputs, shape (batch, …, d).
        weight: shape (outputs, d).
        bias: shape (outputs,), or None.
        w: weights, the first dimensions of h, such as (batch,).

    Returns:
        The outputs, shape (batch, …, outputs).
    """
    device = h.device.type
    if torch.is_autocast_enabled(device) and h.dtype != torch.float64:  # which autocast leaves alone
        dtype = torch.get_autocast_dtype(device)
        h, weight, bias = h.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    w = w.view(w.shape + (1,) * (h.ndim - w.ndim))
    outputs: Tensor = _GatedLinear.apply(h, weight, bias, w)  # type: ignore[no-untyped-call]
    return outputs


def weighted_outputs(outputs: Outputs, weights: Weights, *, batch_dim: int = 0) -> Outputs:
    """Return the outputs of a network; the gradient of a mean loss of them becomes ``G·w/n``.

    The function twin of `Reweighter.outputs`, for weights of your own, such as those of a `WeightedBatchSampler`. In
    the backward pass the gradient of example i is multiplied by ``value_i·k/n`` for k examples, so that a loss that is
    their mean, 1/k·Σ ℓ_i, has the gradient 1/n·Σ value_i·∇ℓ_i. It works inside compiled functions.

    Args:
        outputs: outputs of the examples in ``weights.index``, in that order: a tensor of shape (k, …), or a tuple, list
            or dictionary of them.
        weights: one draw of a law.
        batch_dim: dimension of the examples.

    Returns:
        The same structure with the same values.

    Raises:
        ValueError: an output has another number of examples than the weights.

    Examples:
        >>> y = torch.zeros(2, requires_grad=True)
        >>> weighted_outputs(y, Weights(torch.tensor([1, 3]), torch.tensor([2.0, 6.0]), n=4)).mean().backward()
        >>> y.grad  # value/n
        tensor([0.5000, 1.5000])

    References:
        Wu et al. 2020, arXiv 1906.07405.
    """
    k = len(weights.value)

    def gated(y: Tensor) -> Tensor:
        if not 0 <= batch_dim < y.ndim or y.shape[batch_dim] != k:
            raise ValueError(f"outputs of shape {tuple(y.shape)} for {k} weights: pass the outputs of these examples")
        return gate_examples(y, weights.value.to(y.device) * (k / weights.n), None, batch_dim)

    return map_tensors(gated, outputs)


def carries_gradient(value: object) -> bool:
    """Say whether a value is a tensor that a gradient can flow back into.

    Args:
        value: any value.

    Returns:
        True for tensors that require a gradient, with gradients enabled.
    """
    return isinstance(value, Tensor) and value.requires_grad and torch.is_grad_enabled()


def gated_tensors(outputs: object) -> list[Tensor]:
    """Return the tensors among the outputs that a gradient can flow back into.

    Args:
        outputs: a tensor, or a tuple, list, dictionary or ModelOutput of tensors.

    Returns:
        The tensors, in order.

    Raises:
        TypeError: there is no tensor, or the rows of the outputs are tokens.
    """
    if isinstance(outputs, PackedSequence):
        raise TypeError("the rows of a PackedSequence are tokens: call pad_packed_sequence before reweight.outputs")
    leaves = pytree.tree_leaves(outputs)
    if not any(isinstance(leaf, Tensor) for leaf in leaves):
        raise TypeError(
            f"outputs must be a tensor, or a tuple, list, dictionary or ModelOutput of tensors, not "
            f"{type(outputs).__name__}: call reweight.outputs on the tensors that the loss depends on"
        )
    return [leaf for leaf in leaves if carries_gradient(leaf)]


def number_of_examples(tensors: list[Tensor], batch_dim: int) -> int:
    """Return the number of examples in the outputs.

    Args:
        tensors: the outputs.
        batch_dim: dimension of the examples.

    Returns:
        Their size in this dimension.

    Raises:
        ValueError: a tensor has no such dimension, or the tensors differ in size.
    """
    for y in tensors:
        if not 0 <= batch_dim < y.ndim:
            raise ValueError(
                f"an output of shape {tuple(y.shape)} has no dimension {batch_dim} of examples"
                + (": it looks like a loss; weight the outputs that it is computed from" if y.ndim == 0 else "")
            )
    n = tensors[0].shape[batch_dim]
    for y in tensors[1:]:
        if y.shape[batch_dim] != n:  # no set of them, which would compile anew for each size
            raise ValueError(
                f"the outputs have {n} and {y.shape[batch_dim]} examples in dimension {batch_dim}: weight those that "
                "the loss depends on by reweight.outputs, or say batch_dim="
            )
    return n


def gate_examples(y: Tensor, w: Tensor, at: Tensor | None, batch_dim: int = 0) -> Tensor:
    """Return y, gated by the weights of its examples or of its tokens' examples.

    Args:
        y: outputs.
        w: one weight for each example, shape (n,).
        at: position of each token's example, the first dimensions of y, -1 for none; None: y has the n examples.
        batch_dim: dimension of the examples in y, without ``at``.

    Returns:
        A tensor with the values of y.

    Raises:
        ValueError: the shape of ``at`` is not that of the first dimensions of y, or ``batch_dim`` is given with it.
    """
    if not carries_gradient(y):
        return y
    if at is not None and batch_dim:
        raise ValueError("examples= has the shape of the first dimensions of the outputs: leave batch_dim= out")
    w = w.to(y.device, torch.promote_types(y.dtype, torch.float32))
    return gate(y, w, batch_dim=batch_dim) if at is None else gate(y, spread(w, at, y))


def spread(w: Tensor, at: Tensor, y: Tensor) -> Tensor:
    """Return the weight of each token of y, 1 where it belongs to no example.

    Args:
        w: one weight for each example, shape (n,).
        at: position of each token's example, -1 for none. If it has one column more than y, y has no output for the
            last token, as the predictions of next tokens do.
        y: outputs, shape (batch, length, …) or (rows, …).

    Returns:
        Weights in the shape of the first dimensions of y.

    Raises:
        ValueError: the shapes do not fit.
    """
    if at.ndim == 2 and y.ndim >= 2 and at.shape[1] == y.shape[1] + 1:
        at = at[:, :-1]
    if y.shape[: at.ndim] != at.shape:
        raise ValueError(
            f"outputs of shape {tuple(y.shape)}, but examples= has {tuple(at.shape)}: give it the shape of the "
            "first dimensions of the outputs"
        )
    return torch.cat([w, w.new_ones(1)])[at]


def map_tensors(function: Any, outputs: Outputs) -> Outputs:
    """Apply a function to every tensor in a tuple, list, dictionary or ModelOutput.

    Args:
        function: from a tensor to a tensor.
        outputs: the structure; other values in it are kept.

    Returns:
        The same structure.
    """
    mapped: Outputs = pytree.tree_map_only(Tensor, function, outputs)
    return mapped
