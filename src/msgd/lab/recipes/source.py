"""The TOML of a recipe: find it, merge it with the recipe that it extends and with settings, and tell its kind."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Literal

from msgd.lab.errors import UserError
from msgd.lab.safe_io.bounded import TOML_BYTES, check_values, has_control, parse_toml, read_bytes

Kind = Literal[
    "training", "least-squares"
]  #: kind of experiment, the value of the key ``experiment``; "training" without it


def recipe_names() -> list[str]:
    """List the names of the recipes in the package."""
    folder = resources.files("msgd.lab") / "recipes"
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def recipe_text(name: str) -> str:
    """Read the TOML of a recipe.

    Args:
        name: the name of a recipe in the package, or the path of a TOML file.

    Returns:
        The text of the recipe.

    Raises:
        UserError: the recipe does not exist, or the file cannot be read.
    """
    if name in recipe_names():
        return (resources.files("msgd.lab") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    if not name.endswith(".toml") or not Path(name).stem.strip(
        "."
    ):  # the stem becomes the name of a folder, which must not be ..
        known = ", ".join(recipe_names())
        raise UserError(f"there is no recipe {name!r}: take one of {known}, or the path of a TOML file")
    try:
        text = read_bytes(Path(name), TOML_BYTES).decode("utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"recipe {name} cannot be read: {error}") from error
    if has_control(text):  # msgd show would print them on the terminal
        raise UserError(
            f"recipe {name} cannot be read: it has control characters; write them as escapes such as \\u001b"
        )
    return text


def read_table(text: str, *, source: str, settings: dict[str, Any] | None = None) -> dict[str, Any]:
    """Read the table of a recipe of either kind.

    Args:
        text: TOML. The key ``extends`` may name a recipe in the package; this recipe then inherits the keys and the
            methods that it does not set.
        source: name of the recipe in messages.
        settings: new values by dotted keys, such as ``{"methods.gd.lr": 0.6}``.

    Returns:
        The table, merged with the inherited keys and the settings, but not validated.

    Raises:
        UserError: the text is not TOML, ``extends`` names no recipe, or a setting does not fit.
    """
    table = _table(text, source)
    for key, value in (settings or {}).items():
        _set(table, key, value)
    _check_methods(table, settings or {})
    try:
        check_values(table)
    except ValueError as error:
        raise UserError(f"{source}: {error}") from error
    return table


def kind_of(table: dict[str, Any], *, source: str) -> Kind:
    """Determine the kind of experiment that a table describes.

    Args:
        table: from `read_table`.
        source: name of the recipe in messages.

    Returns:
        The kind.

    Raises:
        UserError: the key ``experiment`` has an unknown value.
    """
    kind = table.get("experiment")
    if kind is None:
        return "training"
    if kind != "least-squares":
        raise UserError(f'{source}: experiment: {kind!r} is not known; write "least-squares", or leave it out')
    return "least-squares"


def _table(text: str, source: str, children: tuple[str, ...] = ()) -> dict[str, Any]:
    """The table of a recipe, merged with the table of the recipe that it extends."""
    try:
        table = parse_toml(text)
    except ValueError as error:
        raise UserError(f"{source} is not TOML: {error}") from error
    name = table.pop("extends", None)
    if name is None:
        return table
    if not isinstance(name, str) or name not in recipe_names() or name in children:
        raise UserError(f"{source}: extends: {name!r} is not another recipe of the package; msgd recipes lists them")
    base = _table(recipe_text(name), f"recipe {name}", (*children, name))
    methods = table.get("methods", {})
    if not isinstance(methods, dict) or not all(isinstance(method, dict) for method in methods.values()):
        raise UserError(
            f"{source}: methods: write a table [methods.NAME] for each method; --methods selects some of them"
        )
    inherited = base["methods"]
    # A method with a law replaces the inherited method of that name; one without changes keys of it.
    merged = {key: method if "law" in method else inherited.get(key, {}) | method for key, method in methods.items()}
    if "task" in table:  # it brings data and a network; those of the other recipe would go before them
        base = {key: value for key, value in base.items() if key not in {"data", "model"}}
    return base | table | {"methods": inherited | merged}


def _set(table: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise UserError(f"--set {key}: {part} is not a table")
    table[last] = value


def _check_methods(table: dict[str, Any], settings: dict[str, Any]) -> None:
    """Refuse settings of methods that do not exist: a misspelt name would make a new method without a law."""
    for key in settings:
        top, _, rest = key.partition(".")
        name, _, inner = rest.partition(".")
        method = table["methods"].get(name) if top == "methods" and inner else None
        if isinstance(method, dict) and "law" not in method:
            others = [
                other for other, fields in table["methods"].items() if isinstance(fields, dict) and "law" in fields
            ]
            raise UserError(
                f"--set {key}: there is no method {name!r}; take {', '.join(others)}, or give it a law: "
                f"--set methods.{name}.law=…"
            )
