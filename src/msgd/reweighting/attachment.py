"""Hooks that weight the outputs of a module, or of a model's head, in every forward pass."""

from __future__ import annotations

import sys
import warnings
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from msgd._checks import normalises_over_batch
from msgd.reweighting.documents import examples_in
from msgd.reweighting.gate import (
    carries_gradient,
    gate_examples,
    gated_linear,
    gated_tensors,
    map_tensors,
    number_of_examples,
    refuse_backward,
    spread,
)
from msgd.reweighting.graph import ungated_parameter

#: Names of the heads of Transformers models that ``get_output_embeddings`` does not return.
_HEADS = ("classifier", "score", "classification_head", "qa_outputs", "lm_head", "logits_proj", "head")
#: Losses of routers, which no example has to itself; their gradient stays as it is.
_ROUTER = ("aux_loss", "router_loss", "router_aux_loss", "z_loss", "router_z_loss")
_FUSED = (
    "this loss was computed without the weights, because {} was not called: a fused loss uses its parameters directly. "
    "Switch it off (use_liger_kernel=False), or compute the loss from the outputs"
)
_OWN_LOSS = (
    "this loss was computed inside of {}, without the weights: name the module whose outputs it is computed from, "
    "such as the last layer, reweight.attach(model, head={!r}), or module={!r} in a callback; a loss that compares "
    "examples, such as a contrastive one, cannot be weighted"
)


class Attachment:
    """Weights the outputs of a module in every forward pass with gradients; ``remove()`` detaches.

    Args:
        draw: function of ``(outputs, n)`` that returns the next n weights, on the device of the outputs.
        module: the model, or the module whose outputs the loss depends on.
        head: name of the module within the model whose outputs are weighted; None: the head that is found.
        batch_dim: dimension of the examples.

    Raises:
        TypeError: ``module`` is not a module.
        ValueError: something is attached to it already, or it has no such head.
    """

    def __init__(
        self, draw: Callable[[Tensor, int], Tensor], module: nn.Module, head: str | None = None, batch_dim: int = 0
    ) -> None:
        if not isinstance(module, nn.Module):
            raise TypeError(f"attach needs a module, not {type(module).__name__}")
        self._draw: Any = draw  # None in a model that was loaded
        self._batch_dim = batch_dim
        self._names: Callable[[], Any] = weakref.WeakMethod(module.named_parameters)
        self._looked = False
        self.head, name = _head_of(module) if head is None else (_named(module, head), head)
        if self.head is None and _is_linear(module, batch_dim):
            self.head = module
        target = module if self.head is None else self.head
        if getattr(target, "_msgd_attachment", None) is not None:
            raise ValueError(f"weights are attached to this {type(target).__name__} already: remove() the first handle")
        self.name = f"{name}: {type(target).__name__}" if name else type(target).__name__
        coupled = [name for name, each in module.named_modules() if normalises_over_batch(each)]
        if coupled:
            warnings.warn(
                f"{coupled[0] or 'the module'} normalises over the batch (BatchNorm), which couples the examples: the "
                "noise is not exactly that of the law",
                UserWarning,
                stacklevel=4,
            )
        linear = [name for name, each in module.named_modules() if name and isinstance(each, nn.Linear)]
        last = linear[-1] if linear else "head"
        # of an error in the backward pass of a loss without weights
        self._remedy = _OWN_LOSS.format(self.name, last, last) if self.head is None else _FUSED.format(self.name)
        self._within = False  # a forward pass of the module, with gradients
        self._rows = 0  # of the inputs of this pass; 0: not known
        self._at: Tensor | None = None  # position of each token's example, if documents are packed
        self._n = 0
        self._w: Tensor | None = None  # weights of this pass, drawn when the head is called
        self._removals: list[Callable[[], Any]] = [
            module.register_forward_pre_hook(self._before, with_kwargs=True).remove,
            module.register_forward_hook(self._after, always_call=True).remove,
        ]
        if self.head is not None:
            self._hold(self.head)
        object.__setattr__(target, "_msgd_attachment", self)
        self._removals.append(partial(vars(target).pop, "_msgd_attachment", None))
        _forget_compiled()

    def __repr__(self) -> str:
        return f"Attachment({self.name})"

    def __getstate__(self) -> dict[str, Any]:
        # A model that is saved whole takes its hooks along: without a Reweighter they do nothing.
        return vars(self) | {"_draw": None, "_removals": [], "_names": None, "_looked": True, "_w": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> Attachment:
        # A copy of the model, such as an average of its parameters, keeps hooks to the same weights.
        return self

    def remove(self) -> None:
        """Detach from the module."""
        for removal in self._removals:
            removal()
        self._removals = []
        _forget_compiled()

    def _active(self) -> bool:
        return self._draw is not None and torch.is_grad_enabled()

    def _hold(self, head: nn.Module) -> None:
        if _is_linear(head, self._batch_dim):
            vars(head)["forward"] = partial(self._linear, head)
            self._removals.append(partial(vars(head).pop, "forward", None))
        else:
            self._removals.append(head.register_forward_hook(self._gate_head).remove)

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Begin a forward pass: look at the inputs."""
        self._within, self._w, self._at = self._active(), None, None
        if not self._within:
            return
        del module
        self._rows, self._n, self._at = examples_in(args, kwargs, self._batch_dim)

    def _after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """End a forward pass: weight its outputs if there is no head, or if the head was not called."""
        del module, args
        within, self._within = self._within, False
        if not within or output is None:
            return None
        if self._w is not None:
            self._look_for_other_ways(output)
            return None
        for name in [*output] if isinstance(output, Mapping) else []:
            if str(name).endswith("loss") and name not in _ROUTER and carries_gradient(output[name]):
                output[name] = refuse_backward(output[name], self._remedy)
        tensors = [y for y in gated_tensors(output) if y.ndim]
        if tensors and self._at is None:
            self._n = self._expect(number_of_examples(tensors, self._batch_dim))
        w = self._weights(tensors[0]) if tensors else torch.empty(0)
        loose = isinstance(output, Mapping)

        def gated(y: Tensor) -> Tensor:
            if not carries_gradient(y):
                return y
            if y.ndim == 0:
                return y if loose else refuse_backward(y, self._remedy)
            return gate_examples(y, w, self._at, self._batch_dim)

        return map_tensors(gated, output)

    def _look_for_other_ways(self, output: Any) -> None:
        """Look once whether the outputs also lead to parameters without passing a gate."""
        if self._looked or not isinstance(output, Mapping) or torch.compiler.is_compiling():
            return
        self._looked = True
        for key, y in sorted(output.items(), key=lambda item: item[0] == "loss"):  # outputs before the loss
            name = str(key)
            if not (name == "loss" or (name.endswith("logits") and name != "router_logits")) or not carries_gradient(y):
                continue
            parameter = ungated_parameter(y, self._names()())
            if parameter is None:
                continue
            if name == "loss":
                warnings.warn(
                    f"a part of the loss reaches the {parameter} without weights, as the loss of a router "
                    f"does, or a penalty; if it is no such part, attach to another module than {self.name}",
                    UserWarning,
                    stacklevel=2,
                )
            else:
                raise ValueError(
                    f"{name} comes from another head than {self.name}, and would not be weighted: let one module "
                    "return the outputs of all heads, and attach to it, or weight them by reweight.outputs in one call"
                )

    def _linear(self, head: Any, *args: Tensor, **kwargs: Tensor) -> Tensor:
        """The forward pass of a linear head."""
        h = args[0] if args else kwargs["input"]
        trained = [x for x in (h, head.weight, head.bias) if x is not None and x.requires_grad]
        if not self._active() or not trained:
            plain: Tensor = nn.Linear.forward(head, h)
            return plain
        w = self._head_weights(h)
        return gated_linear(h, head.weight, head.bias, w if self._at is None else spread(w, self._at, h))

    def _gate_head(self, head: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Weight the outputs of a head that is not a linear layer."""
        del head, args
        tensors = gated_tensors(output) if self._active() else []
        if not tensors:
            return None
        number_of_examples(tensors, self._batch_dim)
        w = self._head_weights(tensors[0])
        return map_tensors(lambda y: gate_examples(y, w, self._at, self._batch_dim), output)

    def _head_weights(self, y: Tensor) -> Tensor:
        if not self._within:  # the head is called by itself
            self._w, self._at, self._rows, self._n = None, None, 0, y.shape[self._batch_dim]
        if self._at is None:
            self._n = self._expect(y.shape[self._batch_dim])
        return self._weights(y)

    def _expect(self, rows: int) -> int:
        """Return the number of rows; raise if it is not that of the inputs."""
        if self._rows != 0 and self._rows != rows:  # "in" is wrong for compiled sizes
            raise ValueError(
                f"{self.name} has {rows} rows for {self._rows} examples in the inputs, so that it is not clear which "
                "example a row belongs to: use reweight.outputs(y, examples=…) instead of attach"
            )
        return rows

    def _weights(self, y: Tensor) -> Tensor:
        """Return the weights of this pass, drawn once for all calls of the head in it."""
        if self._w is None:
            self._w = self._draw(y, self._n)
        return self._w


def _named(module: nn.Module, name: str) -> nn.Module:
    """Return a module within another one."""
    modules: dict[str, nn.Module] = dict(module.named_modules())
    if name not in modules:
        raise ValueError(f"the model has no module {name!r}; there are {', '.join(filter(None, modules))}"[:500])
    return modules[name]


def _is_linear(module: nn.Module, batch_dim: int) -> bool:
    """Say whether a module is a plain linear layer, at which weighting the inputs is enough."""
    return type(module).forward is nn.Linear.forward and "forward" not in vars(module) and batch_dim == 0


def _forget_compiled() -> None:
    """Make compiled functions be compiled again: they do not notice hooks that come or go after they have run."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


def _head_of(module: nn.Module) -> tuple[nn.Module | None, str]:
    """Return the head of a Transformers model and its name; None for other modules."""
    model: Any = module
    while isinstance(model, nn.parallel.DistributedDataParallel) or hasattr(model, "_orig_mod"):
        model = model._orig_mod if hasattr(model, "_orig_mod") else model.module
    find = getattr(model, "get_output_embeddings", None)
    if not callable(find):
        return None, ""
    try:
        head = find()
    except (AttributeError, NotImplementedError):
        head = None
    for name in _HEADS:
        if not isinstance(head, nn.Module):
            head = getattr(model, name, None)
    if not isinstance(head, nn.Module):
        return None, ""
    return head, next((name for name, found in model.named_modules() if found is head), "")
