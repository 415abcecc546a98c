"""Recipes: experiments as TOML files, validated."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from msgd.lab.data.device import Pixels
from msgd.lab.data.load import GENERATED, NAMES
from msgd.lab.networks.build import MODELS, NORMALISED
from msgd.lab.safe_io.bounded import plain_line

LARGEST = 10**6  #: number in a table: what a draw may take is in proportion to b, and msgd's data sets are smaller

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+_-]{0,63}$")]


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


Line = Annotated[str, StringConstraints(max_length=1000), AfterValidator(plain_line)]  #: text that is shown


# Bounds of what a recipe may ask for, far beyond what can be trained: without them a line of a recipe takes all memory.
Count = Annotated[int, Field(ge=1, le=10**9)]


EXAMPLES = 10**6


Examples = Annotated[int, Field(ge=1, le=EXAMPLES)]


STEPS = 10**8


Steps = Annotated[int, Field(ge=1, le=STEPS)]


BatchSize = Annotated[float, Field(ge=1, le=LARGEST)]


SOME = 1000  #: entries of a list, methods, and data sets that are drawn anew


AtSteps = Annotated[list[Steps], Field(max_length=SOME)]


RUNS = 10**5  #: of an experiment, or of its tuning


EVALUATIONS = 10**5  #: of a run; so many checkpoints as well


class Training(BaseModel):
    """What a method may override; None: as the recipe says."""

    lr: Positive | None = None
    lr_of: Name | None = None  #: take that method's learning rate, also a tuned one, ``lr_times`` over
    lr_times: Positive = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    steps: Steps | None = None
    eval_every: Count | None = None


class LawTable(BaseModel):
    """A law and that law's fields."""

    model_config = ConfigDict(extra="allow", strict=True)

    law: str
    optional: bool = False  #: run only where it is named

    def law_table(self) -> dict[str, Any]:
        """The law's name and its fields, without the other keys."""
        return {"law": self.law, **(self.model_extra or {})}


class Method(LawTable, Training):
    """A table ``[methods.NAME]``: a law, that law's fields, and what the method overrides."""

    noise: dict[str, Any] | None = None  #: in parameter space: a kind of `LANGEVIN`, and its fields
    penalty: dict[str, Any] | None = None  #: in the noise's place: a kind of `PENALTIES`, and its fields

    @model_validator(mode="after")
    def _one_rate(self) -> Self:
        if self.lr is not None and self.lr_of is not None:
            raise ValueError("give lr or lr_of, not both")
        if self.lr_of is None and self.lr_times != 1:
            raise ValueError("lr_times needs lr_of, the method whose rate is multiplied")
        return self


class Tune(BaseModel):
    """The table ``[tune]``: each method's learning rate is picked on a part held out of the training set."""

    model_config = ConfigDict(extra="forbid", strict=True)

    lr: Annotated[list[Positive], Field(min_length=1, max_length=SOME)]
    seeds: Count = 3
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2  #: fraction of the training examples


class Grid(BaseModel):
    """The table ``[grid]``: every method at every learning rate and batch size."""

    model_config = ConfigDict(extra="forbid", strict=True)

    lr: Annotated[list[Positive], Field(min_length=1, max_length=SOME)]
    b: Annotated[list[BatchSize], Field(min_length=1, max_length=SOME)]


class Recipe(BaseModel):
    """One experiment. Accuracies and ``margin`` are in [0, 1]."""

    model_config = ConfigDict(extra="forbid", strict=True)

    title: Line
    data: str
    n: Examples | None = None
    model: str
    norm: str | None = None  #: of the model; None: its own
    ghost: Count | None = None  #: examples in a group of the norm "batch"; None: the whole batch
    lr: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    b: BatchSize | None = None
    steps: Steps
    eval_every: Count
    checkpoint_every: Count = 500
    snapshots: AtSteps = []  #: after these steps the parameters are kept, for `msgd measure`
    lr_drops: AtSteps = []  #: after these steps the learning rate is multiplied by ``lr_drop``
    lr_drop: Annotated[float, Field(gt=0, lt=1)] = 0.1
    pixels: Pixels = "unit"
    augment: Count | None = None  #: random flips, and crops after padding by so many pixels
    micro_batch: Count | None = None  #: examples in memory at a time; the gradient is that of the whole batch
    vary: Annotated[list[Literal["init", "noise", "data"]], Field(min_length=1)] = ["init", "noise"]
    match: Literal["steps", "epochs", "examples"] = "steps"
    tune: Tune | None = None
    grid: Grid | None = None
    seeds: Count
    margin: Annotated[float, Field(gt=0, lt=1)]
    reference: Name
    methods: Annotated[dict[Name, Method], Field(min_length=1, max_length=SOME)]

    @property
    def batch_norm(self) -> bool:
        """Whether the network couples the examples of a batch."""
        return self.model in NORMALISED and self.norm in (None, "batch")

    @field_validator("data", "model")
    @classmethod
    def _known(cls, value: str, info: Any) -> str:
        allowed = NAMES if info.field_name == "data" else tuple(MODELS)
        if value not in allowed:
            raise ValueError(f"{value!r} is not known; there are {', '.join(allowed)}")
        return value

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        cells = len(self.grid.lr) * len(self.grid.b) if self.grid else 1
        if (runs := len(self.methods) * cells * self.seeds) > RUNS:
            raise ValueError(f"methods, seeds and [grid] make {runs} runs; an experiment has at most {RUNS}")
        if self.tune and (runs := len(self.methods) * len(self.tune.lr) * self.tune.seeds) > RUNS:
            raise ValueError(f"tune: methods, lr and seeds make {runs} runs; take at most {RUNS}")
        if "data" in self.vary and max(self.seeds, self.tune.seeds if self.tune else 1) > SOME:
            raise ValueError(f"vary: the data of all seeds are held at once; take at most {SOME} seeds")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if "data" in self.vary and self.data not in GENERATED:
            raise ValueError(f"vary: {self.data} is one data set, only {', '.join(GENERATED)} can be drawn anew")
        if self.tune and self.grid:
            raise ValueError("tune: a [grid] runs every learning rate, there is none to pick; leave one of the two out")
        if self.micro_batch and self.batch_norm and (self.ghost is None or self.micro_batch % self.ghost):
            raise ValueError(
                "micro_batch: batch norm would see other groups; set ghost, and micro_batch to a multiple of it"
            )
        if len(set(self.vary)) < len(self.vary):
            raise ValueError("vary: name each thing once")
        followers = [name for name, method in self.methods.items() if method.lr_of is not None]
        if self.grid and followers:
            raise ValueError(f"methods.{followers[0]}.lr_of: a [grid] sets the learning rates; leave lr_of out")
        for name in followers:
            source = self.methods[name].lr_of
            if source not in self.methods:
                raise ValueError(f"methods.{name}.lr_of: there is no method {source!r}; take {', '.join(self.methods)}")
            if source in followers:
                raise ValueError(f"methods.{name}.lr_of: {source} has no rate of its own; name a method that has")
        if self.grid and self.match != "steps":
            raise ValueError("match: the cells of a [grid] all take the same number of steps")
        return self
