"""Build laws, parameter noise and penalties from the tables of a recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from msgd.lab.errors import UserError
from msgd.lab.tasks.code import is_reference
from msgd.langevin import LANGEVIN, PENALTIES
from msgd.noise import LAWS, SCALAR_LAWS, Law, ScalarLaw

LARGEST = 10**6  #: largest number in a table; a draw takes memory in proportion to b, and all data sets are smaller

Part = Literal["law", "scalar law", "noise", "penalty"]

#: for each part, the key that names its class, and the classes by name
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
    find: Callable[[str], Any] | None = None,
) -> Any:
    """Build the frozen dataclass that a table describes.

    Args:
        part: which part of a recipe the table describes.
        table: the name of the class and its fields; a field that is a law or a scalar law is a nested table.
        b: the recipe's b, used if the class has a field b and the table does not set it.
        where: position of the table in the recipe, for messages.
        others: keys that the recipe allows beside the fields, for messages.
        defaults: values for fields that the class has and the table does not set.
        find: finds the classes of the user's own laws, see `OwnParts`.

    Returns:
        An instance of the class.

    Raises:
        UserError: the name or a field is unknown, a field is missing, or the class refuses a value.
    """
    key, known = KNOWN[part]
    name = table.get(key)
    if find is not None and part in OWN and is_reference(name):
        made = own_law(part, find(str(name)), where=f"{where}.{key}")
    elif isinstance(name, str) and name in known:
        made = known[name]
    else:
        raise UserError(f"{where}.{key}: {name!r} is not a {part}; there are {', '.join(known)}")
    fields = {field.name: field for field in dataclasses.fields(made)}
    values = {field: value for field, value in table.items() if field != key}
    for field, value in values.items():
        if field not in fields:
            allowed = ", ".join([*fields, *others]) or "none"
            raise UserError(f"{where}: unknown key {field!r}; the {part} {name} allows {allowed}")
        if isinstance(value, dict):
            inner: Part = "scalar law" if field == "scalar_law" else "law"
            values[field] = build_part(inner, value, b=b, where=f"{where}.{field}", find=find)
        elif isinstance(value, int | float) and not abs(value) <= LARGEST:
            raise UserError(f"{where}.{field}: {value!r} is not a number of at most {LARGEST}")
    values = {field: value for field, value in defaults.items() if field in fields} | values
    if "b" in fields and b is not None:
        values.setdefault("b", int(b) if float(b).is_integer() else b)
    missing = [key for key, field in fields.items() if field.default is dataclasses.MISSING and key not in values]
    if missing:
        raise UserError(f"{where}: the {part} {name} needs {', '.join(missing)}")
    try:
        return made(**values)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{where}: {error}") from error


OWN: dict[Part, type] = {"law": Law, "scalar law": ScalarLaw}  #: the parts that may be classes of the user's own


def own_law(part: Part, found: Any, *, where: str) -> Any:
    """Check a class of the user's own.

    Args:
        part: "law" or "scalar law".
        found: what the reference named.
        where: position of the reference in the recipe, for messages.

    Returns:
        The class.

    Raises:
        UserError: it is not a dataclass that inherits from `Law` or `ScalarLaw`.
    """
    base = OWN[part]
    if not (isinstance(found, type) and issubclass(found, base) and dataclasses.is_dataclass(found)):
        raise UserError(
            f"{where}: a {part} of your own is a class with @dataclass(frozen=True) that inherits from "
            f"msgd.noise.{base.__name__}"
        )
    return found
