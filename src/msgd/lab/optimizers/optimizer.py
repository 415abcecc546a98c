"""An optimizer as a recipe describes it: a class of torch.optim or of one's own, and its fields."""

from __future__ import annotations

import copy
import inspect
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from msgd.lab.errors import UserError
from msgd.lab.optimizers.state import BuiltOptimizer

REFUSED = {
    "LBFGS": "it evaluates the loss several times in a step (a closure), and every evaluation would need its own draw",
    "SparseAdam": "it takes sparse gradients only, and the gradients here are dense",
}

#: fields that are not for a recipe: a run minimises its loss, in plain steps
WITHHELD = ("lr", "maximize", "differentiable", "capturable")


@dataclass(frozen=True)
class Optimizer:
    """A class of optimizer and its fields. The repr is part of the identity of a run.

    Args:
        kind: the name of a class in `torch.optim`, or a reference to a class of one's own, such as
            ``task.py:MyOptimizer``.
        fields: names and values of keyword arguments, sorted by name; lists are tuples.
        source: the class of one's own; None for a class of torch.
    """

    kind: str
    fields: tuple[tuple[str, Any], ...] = ()
    source: type | None = field(default=None, compare=False, repr=False)

    def build(self, named_parameters: list[tuple[str, nn.Parameter]], lr: float) -> BuiltOptimizer:
        """Make the optimizer of a run.

        Muon updates matrices only: every parameter of two dimensions, an embedding as well. AdamW updates the others,
        with the same weight decay if the table sets one. Unless the table sets ``adjust_lr_fn``, it is
        "match_rms_adamw", which scales Muon's updates like those of AdamW, so that one learning rate fits both.

        Args:
            named_parameters: names and parameters of the network.
            lr: learning rate of the first step.

        Returns:
            The optimizer, before its first step.
        """
        fields = dict(self.fields)

        def make(parameters: list[nn.Parameter]) -> list[torch.optim.Optimizer]:
            if self.source is None and self.kind == "Muon":
                return _muon_and_adamw(parameters, lr, fields)
            return [(self.source or getattr(torch.optim, self.kind))(parameters, lr=lr, **fields)]

        return BuiltOptimizer(named_parameters, make)


def optimizer_kinds() -> list[str]:
    """List the classes of torch.optim that a recipe may name; older versions of torch have fewer."""
    classes = {name: value for name, value in vars(torch.optim).items() if inspect.isclass(value)}
    return sorted(
        name
        for name, value in classes.items()
        if issubclass(value, torch.optim.Optimizer) and name != "Optimizer" and name not in REFUSED
    )


def optimizer_of(table: dict[str, Any], *, where: str, source: type | None = None) -> Optimizer:
    """Read the table of an optimizer, such as ``{kind = "AdamW", betas = [0.9, 0.95]}``.

    Args:
        table: ``kind``, and keyword arguments of the class.
        where: place of the table in messages.
        source: the class to which ``kind`` refers, if it is one's own: a subclass of `torch.optim.Optimizer` that is
            made by ``source(parameters, lr=…)``.

    Returns:
        The optimizer, which has taken a step on a small matrix.

    Raises:
        UserError: the kind or a field is unknown, a value is wrong, or a checkpoint could not hold its state.
    """
    kind = table.get("kind")
    if not isinstance(kind, str):
        raise UserError(f'{where}: kind: write the name of an optimizer, such as kind = "AdamW"')
    if source is None:
        kind = _spelled(kind, where)
    elif not inspect.isclass(source) or not issubclass(source, torch.optim.Optimizer):
        raise UserError(f"{where}: {kind} is not a subclass of torch.optim.Optimizer; derive it from that class")
    fields = frozen_fields(table, where)
    _check_fields(kind, dict(fields), source, where)
    optimizer = Optimizer(kind, fields, source)
    try:
        _try(optimizer)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    except Exception as error:  # the constructor and the step may be anybody's code
        raise UserError(f"{where}: {kind}: {error or type(error).__name__}") from error
    return optimizer


def frozen_fields(table: dict[str, Any], where: str) -> tuple[tuple[str, Any], ...]:
    """The fields of a table as `Optimizer` keeps them.

    Args:
        table: as in `optimizer_of`.
        where: place of the table in messages.

    Returns:
        Names and values, sorted by name.

    Raises:
        UserError: a value is not a number, a string, a truth value, or a list of these.
    """
    return tuple(sorted((key, _frozen(value, f"{where}: {key}")) for key, value in table.items() if key != "kind"))


def _muon_and_adamw(parameters: list[nn.Parameter], lr: float, fields: dict[str, Any]) -> list[torch.optim.Optimizer]:
    matrices = [parameter for parameter in parameters if parameter.ndim == 2]
    others = [parameter for parameter in parameters if parameter.ndim != 2]
    if not matrices:
        raise UserError("optimizer: Muon updates matrices, and this network has none; take AdamW")
    muon = torch.optim.Muon(matrices, lr=lr, **{"adjust_lr_fn": "match_rms_adamw", **fields})
    if not others:
        return [muon]
    shared = {key: value for key, value in fields.items() if key == "weight_decay"}
    return [muon, torch.optim.AdamW(others, lr=lr, **shared)]


def _spelled(kind: str, where: str) -> str:
    """The kind in torch's spelling."""
    for name, reason in REFUSED.items():
        if kind.lower() == name.lower():
            raise UserError(f"{where}: {name} cannot train here: {reason}; take one of {', '.join(optimizer_kinds())}")
    for name in optimizer_kinds():
        if kind.lower() == name.lower():
            return name
    raise UserError(
        f"{where}: there is no optimizer {kind!r}; torch {torch.__version__} has {', '.join(optimizer_kinds())}"
    )


def _frozen(value: Any, where: str) -> Any:
    """A value of a recipe that can be compared and hashed."""
    if isinstance(value, list | tuple):
        return tuple(_frozen(part, where) for part in value)
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: {value} is not finite")
    if not isinstance(value, bool | int | float | str):
        raise UserError(f"{where}: {value!r} is not a number, a string, true, false, or a list of these")
    return value


def _check_fields(kind: str, values: dict[str, Any], source: type | None, where: str) -> None:
    """Check the names of the fields and, for a class of torch, the types of their values."""
    if "lr" in values:
        raise UserError(f"{where}: lr: write lr beside the optimizer, not in it")
    signature = list(inspect.signature(source or getattr(torch.optim, kind)).parameters.values())
    any_name = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature)
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    arguments = {parameter.name: parameter for parameter in signature[1:] if parameter.kind in named}
    if "lr" not in arguments and not any_name:
        raise UserError(f"{where}: {kind} takes no lr; its constructor has the form (params, lr, …)")
    allowed = [name for name in arguments if name not in WITHHELD]
    for name, value in values.items():
        if name in WITHHELD or (name not in allowed and not any_name):
            raise UserError(f"{where}: {kind} has no field {name!r} here; it has {', '.join(allowed) or 'none'}")
        if source is None:
            _check_type(name, value, arguments[name].default, where)


def _check_type(name: str, value: Any, default: Any, where: str) -> None:
    """Check a value against the default value of torch, which would take a string for true."""
    if isinstance(default, bool) or name in {"foreach", "fused"}:
        if not isinstance(value, bool):
            raise UserError(f"{where}: {name}: write true or false, not {value!r}")
    elif isinstance(default, int | float):
        if not _is_number(value):
            raise UserError(f"{where}: {name}: write a number, not {value!r}")
    elif isinstance(default, tuple) and not (
        isinstance(value, tuple) and len(value) == len(default) and all(_is_number(part) for part in value)
    ):
        raise UserError(f"{where}: {name}: write a list of {len(default)} numbers")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _try(optimizer: Optimizer) -> None:
    """Take a step on a small matrix; refuse an optimizer whose state a checkpoint would lose."""
    with torch.random.fork_rng(devices=[]):
        matrix = nn.Parameter(torch.ones(2, 3))
        built = optimizer.build([("matrix", matrix)], 1e-3)
        before = _attributes(built)
        built.step(1e-3, (torch.ones(2, 3),))
        after = _attributes(built)
        built.load(built.state())
    for name, value in after.items():
        old = before.get(name)
        same = isinstance(old, Tensor) and torch.equal(old, value) if isinstance(value, Tensor) else old == value
        if not same:
            raise UserError(
                f"{optimizer.kind}: a step changes its attribute {name}, which a checkpoint does not hold; "
                "keep it in state[p], or in a parameter group"
            )


def _attributes(built: BuiltOptimizer) -> dict[str, Any]:
    """Copies of the numbers and tensors that an optimizer keeps outside its state and its groups."""
    return {
        name: copy.deepcopy(value)
        for optimizer in built.optimizers
        for name, value in vars(optimizer).items()
        if isinstance(value, bool | int | float | Tensor)
    }
