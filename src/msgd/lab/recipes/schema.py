"""Recipes: experiments as TOML files, validated."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    StringConstraints,
    field_validator,
    model_validator,
)

from msgd.lab.data.device import Pixels
from msgd.lab.data.load import GENERATORS, NAMES
from msgd.lab.errors import UserError
from msgd.lab.networks.build import MODELS, NORMALISED
from msgd.lab.recipes.build import LARGEST, Part, build_part
from msgd.lab.safe_io.bounded import plain_line
from msgd.langevin import ParameterNoise, Penalty
from msgd.noise import Law

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


class MethodsRecipe(BaseModel):
    """A recipe of any kind: it has methods, and keeps the laws that were built from their tables."""

    if TYPE_CHECKING:  # fields of the recipes themselves, which fix their order in config.toml
        methods: Mapping[str, LawTable]
        reference: str
        b: float | None

    _built: dict[str, Any] = PrivateAttr(default_factory=dict)  # copies of a recipe share it: a key says all

    def law(self, name: str, *, b: float | None = None) -> Law:
        """Build a method's law, or take the one that was built before.

        Args:
            name: of the method.
            b: for laws that have one and do not say otherwise; None: the recipe's.

        Returns:
            The law.

        Raises:
            UserError: an unknown law or field, or a value that the law refuses.
        """
        method = self.methods[name]
        others = tuple(key for key in type(method).model_fields if key != "law")
        law: Law = self._part("law", method.law_table(), f"methods.{name}", b=b, others=others)
        return law

    def select(self, names: list[str] | None) -> Self:
        """Keep the methods that are to run.

        Args:
            names: of methods; None for all that are not optional.

        Returns:
            The recipe with those methods, in the recipe's order.

        Raises:
            UserError: an unknown name, or a reference that is no method at all.
        """
        known = ", ".join(self.methods)
        if self.reference not in self.methods:
            raise UserError(f"reference: {self.reference!r} is not among the methods {known}")
        for name in names or []:
            if name not in self.methods:
                raise UserError(f"--methods: there is no method {name!r}; take some of {known}")
        selected = {
            name: method
            for name, method in self.methods.items()
            if (name in names if names is not None else not method.optional)
        }
        if not selected:
            raise UserError(f"no method is left to run: name some of {known} with --methods")
        return self.model_copy(update={"methods": selected})

    def _part(
        self,
        part: Part,
        table: dict[str, Any],
        where: str,
        *,
        b: float | None = None,
        others: tuple[str, ...] = (),
        defaults: Mapping[str, Any] = MappingProxyType({}),
    ) -> Any:
        b = self.b if b is None else b
        key = repr((part, table, b, dict(defaults)))
        if key not in self._built:
            self._built[key] = build_part(part, table, b=b, where=where, others=others, defaults=defaults)
        return self._built[key]


class Recipe(MethodsRecipe):
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
        if "data" in self.vary and self.data not in GENERATORS:
            raise ValueError(f"vary: {self.data} is one data set, only {', '.join(GENERATORS)} can be drawn anew")
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

    def noise(self, name: str, *, lr: float) -> ParameterNoise | None:
        """Build a method's noise in parameter space.

        Args:
            name: of the method.
            lr: the learning rate, for a noise that depends on it.

        Returns:
            The noise; None where the method has none.

        Raises:
            UserError: as `law`; or the noise has SGD's covariance, and the gradient has noise already.
        """
        method = self.methods[name]
        if method.noise is None:
            return None
        where = f"methods.{name}.noise"
        noise: ParameterNoise = self._part("noise", method.noise, where, defaults={"lr": lr})
        if method.noise["kind"] != "sgld" and method.law != "full-batch":
            raise UserError(
                f'{where}: {method.noise["kind"]} stands for SGD\'s noise; give the method law = "full-batch"'
            )
        return noise

    def penalty(self, name: str) -> Penalty | None:
        """Build a method's penalty.

        Args:
            name: of the method.

        Returns:
            The penalty; None where the method has none.

        Raises:
            UserError: as `law`; or the method has a penalty and noise.
        """
        method, where = self.methods[name], f"methods.{name}.penalty"
        if method.penalty is None:
            return None
        if method.law != "full-batch" or method.noise is not None:
            raise UserError(f'{where}: it stands in the noise\'s place; give the method law = "full-batch" alone')
        penalty: Penalty = self._part("penalty", method.penalty, where)
        return penalty
