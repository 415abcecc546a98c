"""A check of the weighted gradient on a few examples, against the gradient of each example alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from msgd._checks import normalises_over_batch
from msgd._eval_mode import eval_mode
from msgd.noise.injected import Fisher
from msgd.noise.law import Law
from msgd.noise.sampling import FullBatch

#: Relative error below which two gradients are equal: rounding in float32, with some room for long sums.
TOLERANCE = 1e-4
_MOST = 16


@dataclass(frozen=True)
class GradientCheck:
    """What a check of the gradient found; ``str()`` of it is one line.

    Args:
        passed: whether the weighted gradient is that of the weighted examples.
        error: relative error of the weighted gradient, against Σ w_i κ_i g_i.
        coupling: relative error of the plain gradient, against Σ κ_i g_i, where g_i is the gradient of example i alone.
        scale: κ_i of each example; 1/n each for a mean over n examples.
        message: what was found, and the usual cause.
    """

    passed: bool
    error: float
    coupling: float
    scale: tuple[float, ...]
    message: str

    def __str__(self) -> str:
        return self.message


class _Draws(Protocol):
    law: Law
    seed: int
    step: int
    examples_since_step: int


def check_gradient(
    draws: _Draws, model: nn.Module, inputs: Any, loss: Callable[[nn.Module, Any], Tensor] | None
) -> GradientCheck:
    """Compare the weighted gradient with the sum Σ w_i κ_i g_i, where g_i is computed from example i alone.

    The factors κ_i are those of the loss without weights: 1/n for a mean over examples, c_i/Σc_j for a mean over
    tokens. They are found from the plain gradient, so that the check needs no knowledge of the loss.

    Args:
        draws: the draws of a `Reweighter`, whose law and step are set to those of the check.
        model: the model. For the check dropout is switched off; training mode and buffers are restored after it.
        inputs: the examples.
        loss: function of ``(model, inputs)``; None: ``model(**inputs).loss``.

    Returns:
        What was found.

    Raises:
        ValueError: the inputs hold fewer than 2 or more than 16 examples, or the loss of the batch or of one of them
            has no finite gradient.
    """
    if isinstance(inputs, Mapping):
        inputs = dict(inputs)  # such as what a tokenizer returns
    n = _number(inputs)
    for name, module in model.named_modules():
        if normalises_over_batch(module):
            return _failed(f"the examples are coupled: {name} normalises over the batch (BatchNorm)")
    law = Fisher(b=1)  # not the user's, which may add no noise to so few examples
    w = law.draw(n, seed=draws.seed, step=draws.step).dense().double()
    with _deterministic(model):
        gradient = _Gradient(draws, model, _own_loss if loss is None else loss)
        before = draws.examples_since_step
        weighted = gradient(inputs, law)
        if (seen := draws.examples_since_step - before) not in (0, n):
            return _failed(_miscounted(seen, n))
        plain = gradient(inputs, FullBatch())
        try:
            singles = [gradient(_example(inputs, i, n), FullBatch(), f" of example {i}") for i in range(n)]
        except ValueError as problem:
            if "more than 1 value per channel" not in str(problem):
                raise
            return _failed("the examples are coupled: a layer normalises over the batch (F.batch_norm)")
        alone = torch.stack(singles, 1)
    kappa = _scale(alone, plain)
    coupling = _relative(alone @ kappa, plain)
    error = _relative(alone @ (kappa * w), weighted)
    message = _problem(coupling, error, unchanged=_relative(plain, weighted) < TOLERANCE)
    found = message or (
        f"the gradient is that of {n} weighted examples (relative error {error:.1e}); the loss is {_name(kappa)}"
    )
    return GradientCheck(message is None, error, coupling, tuple(kappa.tolist()), found)


def _failed(message: str) -> GradientCheck:
    return GradientCheck(False, math.nan, math.nan, (), message)


def _miscounted(seen: int, n: int) -> str:
    """Describe a loss that weights another number of examples than there are rows."""
    found = f"the loss weights {seen} examples in {n} rows"
    if seen % n:
        return f"{found}: weight all outputs in one call, and check rows that are one example each"
    return (
        f"{found}, {seen // n} for each: if these are the tokens or the views of an example, pass examples=, the "
        "number of the example that each belongs to; if they are several outputs, weight them in one call"
    )


class _Gradient:
    """The gradient of a loss, as one vector in float64 on the CPU."""

    def __init__(self, draws: _Draws, model: nn.Module, loss: Callable[[nn.Module, Any], Tensor]) -> None:
        self.draws, self.model, self.loss, self.step = draws, model, loss, draws.step
        self.parameters = [p for p in model.parameters() if p.requires_grad]

    def __call__(self, inputs: Any, law: Law, of: str = "") -> Tensor:
        self.draws.law, self.draws.step = law, self.step
        with torch.enable_grad():
            value = self.loss(self.model, inputs)
            if not (isinstance(value, Tensor) and value.ndim == 0 and value.requires_grad):
                raise ValueError("the loss must be a scalar tensor with a gradient: return it from loss(model, inputs)")
            grads = torch.autograd.grad(value, self.parameters, allow_unused=True)
        pairs = zip(self.parameters, grads, strict=True)
        flat = torch.cat([(torch.zeros_like(p) if g is None else g).flatten().double().cpu() for p, g in pairs])
        if not bool(flat.isfinite().all()):
            raise ValueError(f"the gradient{of} is not finite: choose examples that each have targets of their own")
        return flat


def _scale(alone: Tensor, plain: Tensor) -> Tensor:
    """Return κ with ``alone @ κ = plain``, the simplest that fits: 1/n, then 1, then by least squares."""
    n = alone.shape[1]
    for simple in (torch.full((n,), 1 / n, dtype=torch.float64), torch.ones(n, dtype=torch.float64)):
        if _relative(alone @ simple, plain) < TOLERANCE:
            return simple
    fitted: Tensor = torch.linalg.lstsq(alone, plain[:, None], driver="gelsd").solution[:, 0]
    return fitted


def _problem(coupling: float, error: float, *, unchanged: bool) -> str | None:
    """Name the problem that the numbers show, and its usual causes; None if there is none."""
    if error <= TOLERANCE and coupling <= TOLERANCE:
        return None
    if unchanged and error > TOLERANCE:
        return (
            "the weights have no effect, because the loss does not depend on weighted outputs; usual causes: "
            "attach was not called, or on a module that the loss does not use; outputs were weighted and then not used"
        )
    if coupling > TOLERANCE:
        return (
            "the examples are coupled: the gradient of the batch is no sum of gradients of its examples "
            f"(relative error {coupling:.1e}); usual causes: contrastive, router and pair losses, mixing of examples"
        )
    return (
        f"only a part of the gradient is weighted (relative error {error:.1e}), because the loss also depends on "
        "outputs that are not; usual causes: a hook on the wrong module, a second head, a penalty on other outputs"
    )


def _name(kappa: Tensor) -> str:
    """Describe the scale of a loss."""
    low, high, n = float(kappa.min()), float(kappa.max()), len(kappa)
    if high - low < 0.01 * high and abs(high * n - 1) < 0.01:
        return "their mean"
    if high - low < 0.01 * high and abs(high - 1) < 0.01:
        return "their sum"
    share = f"{low * n:.3g} to {high * n:.3g} times"
    return f"a sum in which they count {share} as in their mean, as in a mean over tokens or with class weights"


def _relative(found: Tensor, truth: Tensor) -> float:
    return float((found - truth).norm() / truth.norm().clamp(min=torch.finfo(torch.float64).tiny))


def _own_loss(model: nn.Module, inputs: Any) -> Tensor:
    if not isinstance(inputs, Mapping):
        raise ValueError("without loss= the inputs must be a dictionary for model(**inputs).loss: pass loss=")
    loss: Tensor = model(**inputs).loss
    return loss


def _number(inputs: Any) -> int:
    """Return the number of examples in the inputs."""
    sizes = [x.shape[0] for x in pytree.tree_leaves(inputs) if isinstance(x, Tensor) and x.ndim]
    if not sizes or not 2 <= sizes[0] <= _MOST:
        raise ValueError(
            f"check needs a batch of 2 to {_MOST} examples, not {sizes[0] if sizes else 'inputs without tensors'}: "
            "pass a small part of a batch"
        )
    return sizes[0]


def _example(inputs: Any, i: int, n: int) -> Any:
    """Return the inputs of example i alone, as a batch of one."""
    return pytree.tree_map_only(Tensor, lambda x: x[i : i + 1] if x.ndim and x.shape[0] == n else x, inputs)


@contextmanager
def _deterministic(model: nn.Module) -> Iterator[None]:
    """Switch off dropout for a while; restore modes, buffers and random state after it."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        with eval_mode(model), torch.random.fork_rng(devices=[]):
            yield
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
