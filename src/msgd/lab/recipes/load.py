"""Load a recipe: read its TOML, validate it, and build its laws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgd.lab.errors import UserError
from msgd.lab.networks.build import MODELS, check_norm
from msgd.lab.recipes.least_squares import LeastSquaresRecipe
from msgd.lab.recipes.own import NOTHING_OWN, OwnParts, load_own
from msgd.lab.recipes.schema import Recipe
from msgd.lab.recipes.source import kind_of, read_table, recipe_names, recipe_text
from msgd.lab.recipes.updates import optimizer_of, schedule_of
from msgd.lab.recipes.validation import validate

AnyRecipe = Recipe | LeastSquaresRecipe


def load(name: str, settings: dict[str, Any] | None = None, *, trust: bool = False) -> AnyRecipe:
    """Load a recipe by its name or from a file.

    Args:
        name: the name of a recipe in the package, or the path of a TOML file.
        settings: new values by dotted keys, such as ``{"methods.gd.lr": 0.6}``.
        trust: whether the user allows the code to run that the recipe names.

    Returns:
        The recipe, with the laws that were built to validate it.

    Raises:
        UserError: the recipe does not exist or is invalid; the message names the first invalid key and what it allows.
            Or it names code that the user did not allow to run.
    """
    is_built_in = name in recipe_names()
    source, folder = f"recipe {name}" if is_built_in else name, Path() if is_built_in else Path(name).parent
    table = read_table(recipe_text(name), source=source, settings=settings)
    return recipe_from(table, source=source, own=load_own(table, folder, source=source, trust=trust))


def parse_recipe(
    text: str, *, source: str, settings: dict[str, Any] | None = None, own: OwnParts = NOTHING_OWN
) -> AnyRecipe:
    """Parse a recipe of either kind.

    Args:
        text: TOML. The key ``extends`` may name a recipe in the package; this recipe then inherits the keys and the
            methods that it does not set.
        source: name of the recipe in messages.
        settings: as in `load`.
        own: the user's own parts.

    Returns:
        The recipe.

    Raises:
        UserError: the recipe is invalid; the message names the first invalid key and what it allows.
    """
    table = read_table(text, source=source, settings=settings)
    return recipe_from(table, source=source, own=own)


def recipe_from(table: dict[str, Any], *, source: str, own: OwnParts = NOTHING_OWN) -> AnyRecipe:
    """Validate a recipe's table.

    Args:
        table: from `read_table`.
        source: name of the recipe in messages.
        own: the user's own parts.

    Returns:
        The recipe.

    Raises:
        UserError: the recipe is invalid; the message names the first invalid key and what it allows.
    """
    if kind_of(table, source=source) == "least-squares":
        simulated = validate(LeastSquaresRecipe, table, source=source)
        if not own.is_nothing:
            raise UserError(
                f"{source}: simulated least squares take the laws of the package; leave code of your own out"
            )
        simulated.check_laws(source=source)
        return simulated
    recipe = validate(Recipe, table, source=source)
    recipe.set_own(own)
    try:
        for name in recipe.methods:
            recipe.law(name)
            recipe.noise(name, lr=recipe.lr)
            recipe.penalty(name)
            optimizer_of(recipe, name)
            schedule_of(recipe, name)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    task = own.task
    if own.loaded:
        for key, value, part in (("data", recipe.data, "data"), ("model", recipe.model, "network")):
            if value is None and getattr(task, part, None) is None:
                raise UserError(f"{source}: {recipe.task} defines no {part}: define it, or name one: {key} = …")
    smoothed = recipe.label_smoothing or any(method.label_smoothing for method in recipe.methods.values())
    if smoothed and task is not None and task.loss is not None:
        raise UserError(f"{source}: label_smoothing: it belongs to the built-in cross-entropy; smooth in your own loss")
    if recipe.model in MODELS:
        check_norm(recipe.model, recipe.norm, recipe.ghost)
    return recipe
