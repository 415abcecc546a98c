"""A recipe's table checked against its model; the first fault in words."""

from __future__ import annotations

from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from msgd.lab.errors import UserError

AnyModel = TypeVar("AnyModel", bound=BaseModel)


def validate(model: type[AnyModel], table: dict[str, Any], *, source: str) -> AnyModel:
    """Validate a recipe's table.

    Args:
        model: the kind of recipe.
        table: from `read_table`.
        source: where it is from, for messages.

    Returns:
        The recipe.

    Raises:
        UserError: the first fault, with its key and what is allowed.
    """
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise UserError(f"{source}: {_first_fault(error, model)}") from error


SHOWN = 100  #: characters of a value in a message

#: pydantic's words for what a recipe's author calls otherwise
PLAIN = {
    "list_type": "write a list, in brackets",
    "dict_type": "write a table",
    "model_type": "write a table",
    "too_short": "write at least one",
}


def _first_fault(error: ValidationError, model: type[BaseModel]) -> str:
    fault = error.errors()[0]
    key = ".".join(str(part) for part in fault["loc"] if part != "[key]")
    if fault["type"] == "extra_forbidden":
        table = _table_of(model, str(fault["loc"][0])) if len(fault["loc"]) > 1 else model
        return f"unknown key {key!r}; allowed are {', '.join(table.model_fields)}"
    if fault["type"] == "missing":
        missing = [".".join(map(str, f["loc"])) for f in error.errors() if f["type"] == "missing"]
        return f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
    if fault["type"] == "value_error":  # one of ours, which says what was given
        return f"{key}: {fault['ctx']['error']}" if key else str(fault["ctx"]["error"])
    if fault["loc"][-1] == "[key]":
        return f"{key!r}: a method's name has lower-case letters, digits and + _ - only"
    if fault["type"] in PLAIN:
        return f"{key}: {PLAIN[fault['type']]}, not {_shown(fault['input'])}"
    return f"{key}: {fault['msg'][0].lower()}{fault['msg'][1:]}, not {_shown(fault['input'])}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _table_of(model: type[BaseModel], key: str) -> type[BaseModel]:
    """The model of a table within a recipe, such as ``[tune]``."""
    for kind in get_args(model.model_fields[key].annotation):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return model
