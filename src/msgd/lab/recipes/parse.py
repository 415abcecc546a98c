"""A recipe read, validated, and cut down to the methods that are to run."""

from __future__ import annotations

from typing import Any, TypeVar

from msgd.lab.errors import UserError
from msgd.lab.networks.build import check_norm
from msgd.lab.recipes.build import law_of, noise_of, penalty_of
from msgd.lab.recipes.schema import LawTable, Recipe
from msgd.lab.recipes.source import read_table
from msgd.lab.recipes.validation import validate

AnyMethod = TypeVar("AnyMethod", bound=LawTable)


def parse_recipe(text: str, *, source: str, settings: dict[str, Any] | None = None) -> Recipe:
    """Validate a recipe.

    Args:
        text: TOML; with a key ``extends``, the name of a recipe of the package whose keys and methods hold where this
            one has none of its own.
        source: where it is from, for messages.
        settings: dotted keys and the values that replace the recipe's, such as ``{"methods.gd.lr": 0.6}``.

    Returns:
        The recipe.

    Raises:
        UserError: the first fault, with its key and what is allowed.
    """
    return validate_recipe(read_table(text, source=source, settings=settings), source=source)


def validate_recipe(table: dict[str, Any], *, source: str) -> Recipe:
    """Validate a recipe's table.

    Args:
        table: from `read_table`.
        source: where it is from, for messages.

    Returns:
        The recipe.

    Raises:
        UserError: the first fault, with its key and what is allowed.
    """
    recipe = validate(Recipe, table, source=source)
    for name, method in recipe.methods.items():
        where = f"{source}: methods.{name}"
        law_of(method, b=recipe.b, where=where)
        noise_of(method, b=recipe.b, lr=recipe.lr, where=where)
        penalty_of(method, b=recipe.b, where=where)
    check_norm(recipe.model, recipe.norm, recipe.ghost)
    return recipe


def select_methods(recipe: Recipe, names: list[str] | None) -> Recipe:
    """Keep the methods that are to be run.

    Args:
        recipe: with all its methods.
        names: of methods; None for all that are not optional.

    Returns:
        The recipe with those methods, in the recipe's order.

    Raises:
        UserError: an unknown name, or a reference that is no method at all.
    """
    return recipe.model_copy(update={"methods": choose_methods(recipe.methods, recipe.reference, names)})


def choose_methods(methods: dict[str, AnyMethod], reference: str, names: list[str] | None) -> dict[str, AnyMethod]:
    """Pick the methods that are to be run.

    Args:
        methods: all of a recipe.
        reference: its reference.
        names: of methods; None for all that are not optional.

    Returns:
        Those methods, in the recipe's order.

    Raises:
        UserError: an unknown name, or a reference that is no method at all.
    """
    if reference not in methods:
        raise UserError(f"reference: {reference!r} is not among the methods {', '.join(methods)}")
    for name in names or []:
        if name not in methods:
            raise UserError(f"--methods: there is no method {name!r}; take some of {', '.join(methods)}")
    chosen = {
        name: method
        for name, method in methods.items()
        if (name in names if names is not None else not method.optional)
    }
    if not chosen:
        raise UserError(f"no method is left to run: name some of {', '.join(methods)} with --methods")
    return chosen
