"""The types of a recipe's values, with their bounds."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints

from msgd.lab.recipes.build import LARGEST
from msgd.lab.safe_io.bounded import plain_line

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+_-]{0,63}$")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
LARGEST_RATE = 1e38  #: networks compute in float32, which holds no number above 3.4e38


def _within_float32(value: float) -> float:
    if value > LARGEST_RATE:
        raise ValueError(f"{value:g} is too large for float32, in which networks compute; write at most 1e38")
    return value


def _within_scores(value: float) -> float:
    if value > LARGEST_RATE:
        raise ValueError(f"{value:g} is beyond any difference between two scores; write at most 1e38")
    return value


Margin = Annotated[Positive, AfterValidator(_within_scores)]
Rate = Annotated[Positive, AfterValidator(_within_float32)]
Decay = Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(_within_float32)]
Amount = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Table = str | dict[str, Any]  #: a name, or a table with the key ``kind`` and the fields of that kind
Line = Annotated[str, StringConstraints(max_length=1000), AfterValidator(plain_line)]  #: text for display

# Limits on a recipe, far above anything that can be trained. Without them one line of a recipe could use all memory.
Count = Annotated[int, Field(ge=1, le=10**9)]
EXAMPLES = 10**6
Examples = Annotated[int, Field(ge=1, le=EXAMPLES)]
STEPS = 10**8
Steps = Annotated[int, Field(ge=1, le=STEPS)]
BatchSize = Annotated[float, Field(ge=1, le=LARGEST)]
SOME = 1000  #: largest number of entries in a list, of methods, and of generated data sets
AtSteps = Annotated[list[Steps], Field(max_length=SOME)]
RUNS = 10**5  #: largest number of runs of an experiment, or of its tuning
EVALUATIONS = 10**5  #: largest number of evaluations of a run, and of checkpoints
