"""The tables of a recipe: a method, the tuning of learning rates, and a grid."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from msgd.lab.recipes.bounds import (
    SOME,
    Amount,
    BatchSize,
    Count,
    Decay,
    Fraction,
    Name,
    Positive,
    Rate,
    Steps,
    Table,
)


class Training(BaseModel):
    """The keys that a method may override; None keeps the value of the recipe."""

    lr: Rate | None = None
    lr_of: Name | None = None  #: use this method's learning rate, tuned or not, times ``lr_times``
    lr_times: Positive = 1.0
    momentum: Fraction | None = None
    weight_decay: Decay | None = None
    steps: Steps | None = None
    eval_every: Count | None = None
    optimizer: Table | None = None  #: a class of torch.optim, or of the user's own, and its fields
    schedule: Table | None = None  #: how the learning rate changes, see `Schedule`
    clip: Amount | None = None  #: largest norm of a gradient; 0 for no limit
    label_smoothing: Fraction | None = None
    ema: Fraction | None = None  #: decay of the average of parameters that is evaluated too
    sam: Amount | None = None  #: radius ρ of sharpness-aware minimisation; 0 for none


class LawTable(BaseModel):
    """A table with the name of a law and the fields of that law."""

    model_config = ConfigDict(extra="allow", strict=True)

    law: str
    optional: bool = False  #: run the method only if --methods names it

    def law_table(self) -> dict[str, Any]:
        """The name of the law and its fields, without the other keys."""
        return {"law": self.law, **(self.model_extra or {})}


class Method(LawTable, Training):
    """A table ``[methods.NAME]``: a law, its fields, and the keys that the method overrides."""

    noise: dict[str, Any] | None = None  #: noise in parameter space: a key of `LANGEVIN`, and its fields
    penalty: dict[str, Any] | None = None  #: penalty instead of noise: a key of `PENALTIES`, and its fields

    @model_validator(mode="after")
    def _one_rate(self) -> Self:
        if self.lr is not None and self.lr_of is not None:
            raise ValueError("give lr or lr_of, not both")
        if self.lr_of is None and self.lr_times != 1:
            raise ValueError("lr_times needs lr_of: name the method whose learning rate is multiplied")
        return self


class Tune(BaseModel):
    """The table ``[tune]``: the learning rate of each method is picked on held-out training examples."""

    model_config = ConfigDict(extra="forbid", strict=True)

    lr: Annotated[list[Rate], Field(min_length=1, max_length=SOME)]
    seeds: Count = 3
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2  #: fraction of the training examples that is held out


class Grid(BaseModel):
    """The table ``[grid]``: every method runs at every learning rate and batch size."""

    model_config = ConfigDict(extra="forbid", strict=True)

    lr: Annotated[list[Rate], Field(min_length=1, max_length=SOME)]
    b: Annotated[list[BatchSize], Field(min_length=1, max_length=SOME)]
