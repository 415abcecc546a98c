"""The optimizer and the schedule of a method, from its tables or those of the recipe."""

from __future__ import annotations

from typing import Any

from msgd.lab.errors import UserError
from msgd.lab.optimizers import optimizer as optimizers
from msgd.lab.optimizers import schedule as schedules
from msgd.lab.optimizers.optimizer import Optimizer
from msgd.lab.optimizers.schedule import Schedule
from msgd.lab.recipes.schema import Recipe
from msgd.lab.tasks.code import is_reference


def optimizer_of(recipe: Recipe, name: str) -> Optimizer | None:
    """Build the description of a method's optimizer.

    Args:
        recipe: the recipe.
        name: name of the method.

    Returns:
        The optimizer; None for the laboratory's own SGD.

    Raises:
        UserError: the optimizer or a field is unknown or invalid, or the method also has what belongs to SGD.
    """
    method = recipe.methods[name]
    table = recipe.setting(name, "optimizer")
    if table is None:
        return None
    where = "optimizer" if method.optimizer is None else f"methods.{name}.optimizer"
    for key in ("momentum", "weight_decay"):
        if getattr(recipe, key) or getattr(method, key):
            raise UserError(f'{key}: write it in the table of the optimizer: {where} = {{ kind = "…", {key} = … }}')
    if method.noise is not None:
        raise UserError(f"methods.{name}.noise: its size fits the steps of plain SGD; leave the optimizer out")
    fields = {"kind": table} if isinstance(table, str) else table
    if is_reference(fields.get("kind")) and not recipe.own.loaded:
        return Optimizer(fields["kind"], optimizers.frozen_fields(fields, where))
    return optimizers.optimizer_of(fields, where=where, source=_source(recipe, fields.get("kind")))


def schedule_of(recipe: Recipe, name: str) -> Schedule | None:
    """Build a method's schedule of the learning rate.

    Args:
        recipe: the recipe.
        name: name of the method.

    Returns:
        The schedule; None for a constant rate, or the drops that ``lr_drops`` sets.

    Raises:
        UserError: the schedule or a field is unknown or invalid, or ``lr_drops`` is set as well.
    """
    method = recipe.methods[name]
    table = recipe.setting(name, "schedule")
    if table is None:
        return None
    where = "schedule" if method.schedule is None else f"methods.{name}.schedule"
    if recipe.lr_drops:
        raise UserError(f'lr_drops: {where} sets the rate as well; write {where} = {{ kind = "drops", drops = […] }}')
    kind = table if isinstance(table, str) else table.get("kind")
    if is_reference(kind) and not recipe.own.loaded:
        return Schedule(str(kind), warmup=0 if isinstance(table, str) else int(table.get("warmup", 0)))
    return schedules.schedule_of(table, where=where, function=_source(recipe, kind))


def _source(recipe: Recipe, kind: Any) -> Any:
    """The object that a reference names; None for a built-in kind."""
    return recipe.own.find(kind) if is_reference(kind) else None
