"""Validate the table of a recipe, and describe its first error in words."""

from __future__ import annotations

from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from msgd.lab.errors import UserError

AnyModel = TypeVar("AnyModel", bound=BaseModel)


def validate(model: type[AnyModel], table: dict[str, Any], *, source: str) -> AnyModel:
    """Validate a recipe's table.

    Args:
        model: the class of the recipe.
        table: from `read_table`.
        source: name of the recipe in messages.

    Returns:
        The recipe.

    Raises:
        UserError: the table is invalid; the message names the first invalid key and what it allows.
    """
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise UserError(f"{source}: {_describe_first(error, model)}") from error


SHOWN = 100  #: largest number of characters of a value in a message

#: messages that replace pydantic's, by the type of its error
PLAIN = {
    "list_type": "write a list, in brackets",
    "dict_type": "write a table",
    "model_type": "write a table",
    "too_short": "write at least one",
}


def _describe_first(error: ValidationError, model: type[BaseModel]) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if part != "[key]")
    if first["type"] == "extra_forbidden":
        table = _table_of(model, str(first["loc"][0])) if len(first["loc"]) > 1 else model
        return f"unknown key {key!r}; allowed are {', '.join(table.model_fields)}"
    if first["type"] == "missing":
        missing = [".".join(map(str, f["loc"])) for f in error.errors() if f["type"] == "missing"]
        return f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
    if first["type"] == "value_error":  # raised by our validators, whose messages are complete
        return f"{key}: {first['ctx']['error']}" if key else str(first["ctx"]["error"])
    if first["loc"][-1] == "[key]":
        return f"{key!r}: write a method's name with only lower-case letters, digits, and + _ -"
    if first["type"] in PLAIN:
        return f"{key}: {PLAIN[first['type']]}, not {_shorten(first['input'])}"
    return f"{key}: {first['msg'][0].lower()}{first['msg'][1:]}, not {_shorten(first['input'])}"


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _table_of(model: type[BaseModel], key: str) -> type[BaseModel]:
    """The model of a nested table of a recipe, such as ``[tune]``."""
    for kind in get_args(model.model_fields[key].annotation):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return model
