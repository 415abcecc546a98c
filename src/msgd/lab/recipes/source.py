"""The TOML of recipes: where it is found, what it extends, which kind of experiment it is, the first fault in words."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Literal

from msgd.lab.errors import UserError
from msgd.lab.safe_io.bounded import TOML_BYTES, check_values, has_control, parse_toml, read_bytes

Kind = Literal["training", "least-squares"]  #: of experiment: the recipe's key ``experiment``; without it, "training"


def recipe_names() -> list[str]:
    """Names of the recipes in the package."""
    folder = resources.files("msgd.lab") / "recipes"
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def recipe_text(name: str) -> str:
    """Read a recipe's TOML.

    Args:
        name: a recipe of the package, or the path of a TOML file.

    Returns:
        Its text.

    Raises:
        UserError: there is no such recipe, or the file cannot be read.
    """
    if name in recipe_names():
        return (resources.files("msgd.lab") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    if not name.endswith(".toml") or not Path(name).stem.strip("."):  # its stem names the folder: runs/.. is none
        known = ", ".join(recipe_names())
        raise UserError(f"there is no recipe {name!r}: take one of {known}, or the path of a TOML file")
    try:
        text = read_bytes(Path(name), TOML_BYTES).decode("utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"recipe {name} cannot be read: {error}") from error
    if has_control(text):  # msgd show would hand it to the terminal
        raise UserError(f"recipe {name} cannot be read: it has control characters, which TOML writes as \\u001b")
    return text


def read_table(text: str, *, source: str, settings: dict[str, Any] | None = None) -> dict[str, Any]:
    """Read a recipe's table, whatever kind of experiment it describes.

    Args:
        text: TOML; with a key ``extends``, the name of a recipe of the package whose keys and methods hold where this
            one has none of its own.
        source: where it is from, for messages.
        settings: dotted keys and the values that replace the recipe's, such as ``{"methods.gd.lr": 0.6}``.

    Returns:
        The table, with what it extends and the settings; not validated.

    Raises:
        UserError: it is not TOML, extends no recipe, or a setting does not fit.
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
    """Tell which kind of experiment a recipe's table describes.

    Args:
        table: from `read_table`.
        source: where it is from, for messages.

    Returns:
        The kind.

    Raises:
        UserError: there is no such kind.
    """
    named = table.get("experiment")
    if named is None:
        return "training"
    if named != "least-squares":
        raise UserError(f'{source}: experiment: {named!r} is not known; write "least-squares", or leave it out')
    return "least-squares"


def _table(text: str, source: str, children: tuple[str, ...] = ()) -> dict[str, Any]:
    """A recipe's table, laid over that of the recipe it extends."""
    try:
        table = parse_toml(text)
    except ValueError as error:
        raise UserError(f"{source} is not TOML: {error}") from error
    name = table.pop("extends", None)
    if name is None:
        return table
    if not isinstance(name, str) or name not in recipe_names() or name in children:
        raise UserError(f"{source}: extends: {name!r} is no other recipe of the package; see msgd recipes")
    base = _table(recipe_text(name), f"recipe {name}", (*children, name))
    methods = table.get("methods", {})
    if not isinstance(methods, dict) or not all(isinstance(method, dict) for method in methods.values()):
        raise UserError(f"{source}: methods: write a table [methods.NAME] for each; --methods runs only some of them")
    inherited = base["methods"]
    # A method that names its law is a new one; one that does not changes what is inherited.
    merged = {key: method if "law" in method else inherited.get(key, {}) | method for key, method in methods.items()}
    return base | table | {"methods": inherited | merged}


def _set(table: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise UserError(f"--set {key}: {part} is not a table")
    table[last] = value


def _check_methods(table: dict[str, Any], settings: dict[str, Any]) -> None:
    """Refuse a setting of a method that is not there: a misspelt name would be a new method without a law."""
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
