"""Per-example gradients in bounded memory, and what the noise needs of their covariance C."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations_with_replacement

import numpy as np
import torch
from scipy import linalg
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from msgd.langevin.checks import whole
from msgd.noise import Weights
from msgd.reweight import weighted_mean

LossFunction = Callable[[Tensor, Tensor], Tensor]  #: (outputs, targets) to one loss for each example, shape (batch,)

CHUNK = 250  #: examples whose gradients are held at once


@dataclass(frozen=True, eq=False)
class Examples:
    """A model, its loss, and the n examples that its gradients are of.

    Args:
        model: its parameters with ``requires_grad`` count.
        loss_fn: from the model's outputs and the targets to one loss for each example, shape (batch,).
        inputs: of all n examples, along the first dimension.
        targets: likewise.
        chunk: number of examples computed at once; memory grows with chunk·d.

    Raises:
        TypeError: ``chunk`` is no integer.
        ValueError: there are no examples or no parameters, inputs and targets differ in number, or ``chunk`` < 1.
    """

    model: nn.Module
    loss_fn: LossFunction
    inputs: Tensor
    targets: Tensor
    chunk: int

    def __post_init__(self) -> None:
        whole("chunk", self.chunk)
        if len(self.inputs) != len(self.targets) or len(self.targets) == 0:
            raise ValueError(
                f"{len(self.inputs)} inputs for {len(self.targets)} targets: give one target for each, at least one"
            )
        if not self.parameters:
            raise ValueError("the model has no parameters to train: set requires_grad on some")

    @property
    def n(self) -> int:
        """Number of examples."""
        return len(self.targets)

    @property
    def d(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The trained parameters, by name."""
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    def parts(self) -> list[slice]:
        """Chunks of the examples, in order."""
        return [slice(start, start + self.chunk) for start in range(0, self.n, self.chunk)]

    def loss(self, part: slice | Tensor, divisor: int) -> Tensor:
        """Sum of the losses of some examples, divided by a number: their share of a mean."""
        losses = self.loss_fn(self.model(self.inputs[part]), self.targets[part])
        return weighted_mean(losses, Weights(None, torch.ones(len(self.targets[part])), divisor))

    @cached_property
    def mean_gradient(self) -> tuple[Tensor, ...]:
        """ḡ, one tensor for each parameter, summed over the chunks."""
        parameters = tuple(self.parameters.values())
        total = tuple(torch.zeros_like(parameter) for parameter in parameters)
        with torch.enable_grad():
            for part in self.parts():
                share = torch.autograd.grad(self.loss(part, self.n), parameters, materialize_grads=True)
                torch._foreach_add_(total, share)
        return total

    def centred(self, part: slice) -> list[Tensor]:
        """g_i − ḡ of the examples in a chunk: for each parameter one tensor of shape (examples, its size)."""
        mean = self.mean_gradient  # checks the shape of the losses
        detached = {name: value.detach() for name, value in self.parameters.items()}

        def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            return self.loss_fn(functional_call(self.model, parameters, (x.unsqueeze(0),)), y.unsqueeze(0)).squeeze(0)

        with differentiable_attention():
            rows = vmap(grad(loss), in_dims=(None, 0, 0))(detached, self.inputs[part], self.targets[part])
        return [(rows[name] - m).reshape(len(rows[name]), -1) for name, m in zip(detached, mean, strict=True)]


def differentiable_attention() -> AbstractContextManager[None]:
    """Attention step by step: its fused kernels have neither a batching rule nor a second derivative."""
    return sdpa_kernel(SDPBackend.MATH)


def diagonal(examples: Examples) -> Tensor:
    """The diagonal of C, in one pass over the per-example gradients.

    With e_i = g_i − m and m the mean gradient as computed, ``C_jj = Σe²_ij/n − (Σe_ij/n)²``: the rounding of m is taken
    out, and nothing cancels where ḡ is large. Sums within a chunk are in the dtype of the parameters (in float64 the
    pass would take twice as long), those over chunks in float64.

    Args:
        examples: of a model that `check_uncoupled` lets pass.

    Returns:
        Shape (d,), float64, on the CPU, in the order of the parameters.
    """
    sums = torch.zeros(examples.d, dtype=torch.float64)
    squares = torch.zeros_like(sums)
    for part in examples.parts():
        rows = examples.centred(part)
        sums += torch.cat([row.sum(0) for row in rows]).cpu()
        squares += torch.cat([row.square_().sum(0) for row in rows]).cpu()
    return (squares / examples.n - (sums / examples.n).square()).clamp_(min=0)


def leading(examples: Examples, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The trace of C and its k largest eigenpairs, from the centred Gram matrix of the n gradients.

    With G_c the (d, n) matrix of g_i − ḡ, C = G_c·G_cᵀ/n has the eigenvalues of K = G_cᵀ·G_c/n, and K u = λu gives the
    eigenvector G_c·u/√(nλ). K is summed over pairs of chunks, so that two chunks of gradients are held; with
    c = n/chunk chunks each gradient is computed about c/2 + 1 times, and once where one chunk holds all.

    Args:
        examples: of a model that `check_uncoupled` lets pass.
        k: number of eigenpairs, at most n.

    Returns:
        tr C, a float64 scalar; the eigenvalues in decreasing order, shape (k,), float64, those beyond the numerical
        rank 0; both on the CPU. Unit eigenvectors, shape (k, d), where the parameters are and in their dtype, 0 where
        the eigenvalue is 0. The sign: the example with the largest share in it has a positive one.
    """
    n, parts = examples.n, examples.parts()
    held = lru_cache(maxsize=2)(lambda index: examples.centred(parts[index]))
    gram = torch.zeros(n, n, dtype=torch.float64)
    for i, j in combinations_with_replacement(range(len(parts)), 2):
        block = torch.stack([a @ b.t() for a, b in zip(held(i), held(j), strict=True)]).sum(0, dtype=torch.float64)
        gram[parts[i], parts[j]] = block.cpu()
        gram[parts[j], parts[i]] = block.t().cpu()
    gram /= n
    mean = gram.mean(0)  # the mean as computed leaves its rounding behind
    gram += mean.mean() - mean - mean[:, None]

    values, vectors = linalg.eigh(gram.numpy(), subset_by_index=[n - k, n - 1])
    values, vectors = values[::-1], vectors[:, ::-1]
    some = next(iter(examples.parameters.values()))
    values = np.where(values > n * torch.finfo(some.dtype).eps * max(values[0], 0.0), values, 0.0)
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(k)])
    # The scale 1/√(nλ) stands here, 0 where λ is.
    share = vectors * signs * np.divide(1.0, np.sqrt(n * values), out=np.zeros(k), where=values > 0)

    weights = torch.from_numpy(share.T.copy()).to(some)
    directions = weights.new_zeros(k, examples.d)
    for index, part in enumerate(parts):
        directions += torch.cat([weights[:, part] @ row for row in held(index)], dim=1)
    return gram.trace(), torch.from_numpy(values.copy()), directions
