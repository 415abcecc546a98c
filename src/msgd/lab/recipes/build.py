"""Laws, noises and penalties from the tables of a recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from msgd.lab.errors import UserError
from msgd.langevin import LANGEVIN, PENALTIES
from msgd.noise import LAWS, SCALAR_LAWS

LARGEST = 10**6  #: number in a table: what a draw may take is in proportion to b, and msgd's data sets are smaller

Part = Literal["law", "scalar law", "noise", "penalty"]

#: what may be named, and the key that names it
KNOWN: dict[Part, tuple[str, Mapping[str, type]]] = {
    "law": ("law", LAWS),
    "scalar law": ("law", SCALAR_LAWS),
    "noise": ("kind", LANGEVIN),
    "penalty": ("kind", PENALTIES),
}


def build_part(
    part: Part,
    table: dict[str, Any],
    *,
    b: float | None,
    where: str,
    others: Sequence[str] = (),
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> Any:
    """Build what a table names: a frozen dataclass from its fields.

    Args:
        part: what it is.
        table: its name, and its fields; a field that is itself a law or a scalar law is such a table.
        b: the recipe's b, for fields of that name which are left out.
        where: the table's place, for messages.
        others: keys that may stand beside the fields, for messages.
        defaults: values of fields that are left out, where there are such fields.

    Returns:
        An instance.

    Raises:
        UserError: an unknown name or field, or a value that is refused.
    """
    key, known = KNOWN[part]
    name = table.get(key)
    if not isinstance(name, str) or name not in known:
        raise UserError(f"{where}.{key}: {name!r} is not a {part}; there are {', '.join(known)}")
    fields = {field.name: field for field in dataclasses.fields(known[name])}
    given = {field: value for field, value in table.items() if field != key}
    for field, value in given.items():
        if field not in fields:
            allowed = ", ".join([*fields, *others]) or "none"
            raise UserError(f"{where}: unknown key {field!r}; with the {part} {name} allowed are {allowed}")
        if isinstance(value, dict):
            inner: Part = "scalar law" if field == "scalar_law" else "law"
            given[field] = build_part(inner, value, b=b, where=f"{where}.{field}")
        elif isinstance(value, int | float) and not abs(value) <= LARGEST:
            raise UserError(f"{where}.{field}: {value!r} is not a number of at most {LARGEST}")
    given = {field: value for field, value in defaults.items() if field in fields} | given
    if "b" in fields and b is not None:
        given.setdefault("b", int(b) if float(b).is_integer() else b)
    needed = [key for key, field in fields.items() if field.default is dataclasses.MISSING and key not in given]
    if needed:
        raise UserError(f"{where}: the {part} {name} needs {', '.join(needed)}")
    try:
        return known[name](**given)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{where}: {error}") from error
