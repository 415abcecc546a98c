"""Text for laws and numbers in tables and sentences."""

from __future__ import annotations

import dataclasses

from msgd.langevin import ParameterNoise, Penalty
from msgd.noise import Law, ScalarLaw

LEFT = ("method", "law", "verdict")  #: headings of the columns that hold text; the other columns hold numbers


def law_text(law: Law | ScalarLaw | ParameterNoise | Penalty) -> str:
    """Write a law as a Python call, without the arguments that have their default value."""
    arguments = []
    for field in dataclasses.fields(law):  # type: ignore[arg-type]  # all of these are dataclasses
        value = getattr(law, field.name)
        if value != field.default:
            text = law_text(value) if isinstance(value, Law | ScalarLaw) else repr(value)
            arguments.append(text if field.name in ("inner", "scalar_law") else f"{field.name}={text}")
    return f"{type(law).__name__}({', '.join(arguments)})"


def plural(number: int, noun: str) -> str:
    """Write a number with its noun, such as ``1 seed`` or ``2 seeds``."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
