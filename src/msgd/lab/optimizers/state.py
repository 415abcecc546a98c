"""An optimizer of a run: one step, and its state as named tensors that continue a run bitwise."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from msgd.lab.errors import UserError

Make = Callable[[list[nn.Parameter]], list[torch.optim.Optimizer]]  #: fresh optimizers for parameters

#: Python numbers become tensors of these types; the name of the tensor ends in ``:bool``, ``:int`` or ``:float``
NUMBERS: dict[type, torch.dtype] = {bool: torch.bool, int: torch.int64, float: torch.float64}
PREFIX = "optimizer."


class BuiltOptimizer:
    """One or several optimizers of torch that train the parameters of one network.

    Args:
        named_parameters: names and parameters, in the order of the gradients.
        make: a function that makes fresh optimizers. Each parameter belongs to one of them.
    """

    def __init__(self, named_parameters: list[tuple[str, nn.Parameter]], make: Make) -> None:
        self.parameters = dict(named_parameters)
        self.make = make
        self.optimizers = make(list(self.parameters.values()))
        self.initial = [copy.deepcopy(_fields(group)) for _, group in self._groups()]

    def step(self, lr: float, gradients: tuple[Tensor, ...]) -> None:
        """Take one step.

        Args:
            lr: learning rate of this step, for all parameters.
            gradients: a tensor for each parameter; the optimizer may overwrite them.
        """
        for _, group in self._groups():
            group["lr"] = lr
        try:
            for parameter, gradient in zip(self.parameters.values(), gradients, strict=True):
                # State takes the layout of the gradient. The parameter's layout is the same after a restart; that of a
                # gradient is autograd's choice, and sums over another layout round differently.
                if gradient.stride() != parameter.stride():
                    gradient = torch.empty_like(parameter).copy_(gradient)
                parameter.grad = gradient.detach()
            with torch.enable_grad():
                for optimizer in self.optimizers:
                    optimizer.step()
        finally:
            for parameter in self.parameters.values():
                parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """All that steps change besides the parameters, by name.

        Returns:
            ``optimizer.PARAMETER.KEY`` for the state of a parameter and ``optimizer.group0.KEY`` for the numbers in the
            groups of an optimizer that is not torch's own, whose groups do not change. A Python number is a tensor of
            shape (), and its name ends in its type, such as ``:int``.

        Raises:
            UserError: the state holds something that is neither a tensor nor a number.
        """
        return {name: tensor.contiguous() for name, tensor in self._tensors()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Load a state that `state` returned: the next steps are bitwise those of the optimizer that had it.

        Args:
            tensors: by name; names without the prefix ``optimizer.`` are ignored.
        """
        # torch's own load_state_dict would cast the state to the type of the parameter.
        likes = dict(self._probe()._tensors())
        owners = {name: optimizer.state for optimizer in self.optimizers for name in self._names(optimizer)}
        for optimizer in self.optimizers:
            optimizer.state.clear()
        for full, tensor in tensors.items():
            if not full.startswith(PREFIX):
                continue
            owner, _, key = full.removeprefix(PREFIX).rpartition(".")
            key, _, number = key.partition(":")
            if owner in self.parameters:
                parameter = self.parameters[owner]
                value = tensor.item() if number else _placed(tensor, likes.get(full), parameter)
                owners[owner][parameter][key] = value
            else:
                groups = dict(self._groups())
                like = groups[owner].get(key)
                groups[owner][key] = tensor.item() if number else _placed(tensor, like, groups[owner]["params"][0])

    def shapes(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """What `state` holds after a step, found by one step along zero on copies of the parameters.

        Returns:
            Shape and type by name. Before the first step, `state` has some of these names, or none. An optimizer of
            one's own that adds state in a later step has more of them.
        """
        return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in self._probe()._tensors()}

    def _probe(self) -> BuiltOptimizer:
        """A fresh optimizer after one step along zero: its state has the places and layouts of this one's state."""
        parameters = {name: nn.Parameter(value.detach().clone()) for name, value in self.parameters.items()}
        cards = sorted({value.device.index for value in parameters.values() if value.device.type == "cuda"})
        with torch.random.fork_rng(devices=cards):  # an optimizer may draw
            probe = BuiltOptimizer(list(parameters.items()), self.make)
            lr = self.optimizers[0].param_groups[0]["lr"]
            probe.step(lr, tuple(torch.zeros_like(value) for value in parameters.values()))
        return probe

    def _names(self, optimizer: torch.optim.Optimizer) -> list[str]:
        members = {id(value) for group in optimizer.param_groups for value in group["params"]}
        return [name for name, value in self.parameters.items() if id(value) in members]

    def _groups(self) -> Iterator[tuple[str, dict[str, Any]]]:
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        return ((f"group{i}", group) for i, group in enumerate(groups))

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        names = {id(value): name for name, value in self.parameters.items()}
        for optimizer in self.optimizers:
            kind = type(optimizer).__name__
            for owner, entries in optimizer.state.items():
                if id(owner) not in names:
                    raise UserError(f"{kind}: state[{owner!r}] would be lost in a checkpoint; keep it in state[p]")
                for key, value in entries.items():
                    yield _entry(kind, names[id(owner)], key, value)
        kinds = [type(optimizer) for optimizer in self.optimizers for _ in optimizer.param_groups]
        for kind_of_group, (label, group), initial in zip(kinds, self._groups(), self.initial, strict=True):
            if kind_of_group.__module__.startswith("torch.optim."):
                continue
            for key, value in _fields(group).items():
                if type(value) in NUMBERS or isinstance(value, Tensor) or key not in initial or value != initial[key]:
                    yield _entry(kind_of_group.__name__, label, key, value)


def _fields(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key not in {"params", "lr"}}


def _entry(kind: str, owner: str, key: Any, value: Any) -> tuple[str, Tensor]:
    """The name and the tensor of one value in the state of an optimizer."""
    if not isinstance(key, str) or not key.isidentifier():
        raise UserError(f"{kind}: the key {key!r} of its state is not a name; use letters, digits and _")
    if isinstance(value, Tensor):
        return f"{PREFIX}{owner}.{key}", value.detach()
    if type(value) not in NUMBERS:
        raise UserError(
            f"{kind}: {key} in its state is a {type(value).__name__}, which a checkpoint cannot hold; "
            "keep tensors and numbers there"
        )
    return f"{PREFIX}{owner}.{key}:{type(value).__name__}", torch.tensor(value, dtype=NUMBERS[type(value)])


def _placed(tensor: Tensor, like: Tensor | None, parameter: Tensor) -> Tensor:
    """A copy with the device and the layout of `like`; without it, on the device of the parameter."""
    if like is None or like.shape != tensor.shape:
        return tensor.detach().clone().to(parameter.device)
    return torch.empty_like(like, dtype=tensor.dtype, requires_grad=False).copy_(tensor)
