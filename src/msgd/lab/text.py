"""Words for numbers and laws, as tables and sentences show them."""

from __future__ import annotations

import dataclasses

from msgd.langevin import ParameterNoise, Penalty
from msgd.noise import Law, ScalarLaw

LEFT = ("method", "law", "verdict")  #: heads of the columns that hold text; the others hold numbers


def law_text(law: Law | ScalarLaw | ParameterNoise | Penalty) -> str:
    """A law as one writes it: without the arguments that have their default."""
    said = []
    for field in dataclasses.fields(law):  # type: ignore[arg-type]  # each of them is a dataclass
        value = getattr(law, field.name)
        if value != field.default:
            text = law_text(value) if isinstance(value, Law | ScalarLaw) else repr(value)
            said.append(text if field.name in ("inner", "scalar_law") else f"{field.name}={text}")
    return f"{type(law).__name__}({', '.join(said)})"


def plural(number: int, noun: str) -> str:
    """A number and its noun: 1 seed, 2 seeds."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
