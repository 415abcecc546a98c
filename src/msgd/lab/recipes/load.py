"""Load a recipe: read its TOML, validate it, and build its laws."""

from __future__ import annotations

from typing import Any

from msgd.lab.errors import UserError
from msgd.lab.networks.build import check_norm
from msgd.lab.recipes.least_squares import LeastSquaresRecipe
from msgd.lab.recipes.schema import Recipe
from msgd.lab.recipes.source import kind_of, read_table, recipe_names, recipe_text
from msgd.lab.recipes.validation import validate

AnyRecipe = Recipe | LeastSquaresRecipe


def load(name: str, settings: dict[str, Any] | None = None) -> AnyRecipe:
    """Load a recipe by its name or from a file.

    Args:
        name: the name of a recipe in the package, or the path of a TOML file.
        settings: new values by dotted keys, such as ``{"methods.gd.lr": 0.6}``.

    Returns:
        The recipe, with the laws that were built to validate it.

    Raises:
        UserError: the recipe does not exist or is invalid; the message names the first invalid key and what it allows.
    """
    source = f"recipe {name}" if name in recipe_names() else name
    return parse_recipe(recipe_text(name), source=source, settings=settings)


def parse_recipe(text: str, *, source: str, settings: dict[str, Any] | None = None) -> AnyRecipe:
    """Parse a recipe of either kind.

    Args:
        text: TOML. The key ``extends`` may name a recipe in the package; this recipe then inherits the keys and the
            methods that it does not set.
        source: name of the recipe in messages.
        settings: as in `load`.

    Returns:
        The recipe.

    Raises:
        UserError: the recipe is invalid; the message names the first invalid key and what it allows.
    """
    table = read_table(text, source=source, settings=settings)
    return recipe_from(table, source=source)


def recipe_from(table: dict[str, Any], *, source: str) -> AnyRecipe:
    """Validate a recipe's table.

    Args:
        table: from `read_table`.
        source: name of the recipe in messages.

    Returns:
        The recipe.

    Raises:
        UserError: the recipe is invalid; the message names the first invalid key and what it allows.
    """
    if kind_of(table, source=source) == "least-squares":
        simulated = validate(LeastSquaresRecipe, table, source=source)
        simulated.check_laws(source=source)
        return simulated
    recipe = validate(Recipe, table, source=source)
    try:
        for name in recipe.methods:
            recipe.law(name)
            recipe.noise(name, lr=recipe.lr)
            recipe.penalty(name)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    check_norm(recipe.model, recipe.norm, recipe.ghost)
    return recipe
