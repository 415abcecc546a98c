"""The schema of a recipe: its keys, their types and bounds, and the conditions between them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from msgd.lab.data.device import Pixels
from msgd.lab.data.load import GENERATORS, NAMES, READERS, TEXTS
from msgd.lab.errors import UserError
from msgd.lab.networks.build import MODELS, NORMALISED
from msgd.lab.recipes.bounds import (
    RUNS,
    SOME,
    Amount,
    AtSteps,
    BatchSize,
    Count,
    Decay,
    Examples,
    Fraction,
    Line,
    Margin,
    Name,
    Rate,
    Steps,
    Table,
)
from msgd.lab.recipes.build import Part, build_part
from msgd.lab.recipes.method import Grid, LawTable, Method, Tune
from msgd.lab.recipes.own import NOTHING_OWN, OwnParts
from msgd.lab.safe_io.bounded import plain_line
from msgd.lab.tasks.code import is_reference, modules_in
from msgd.langevin import ParameterNoise, Penalty
from msgd.noise import Law


class MethodsRecipe(BaseModel):
    """The common part of both kinds of recipe: methods, and a cache of the laws built from their tables."""

    if TYPE_CHECKING:  # the subclasses define these fields, in the order of config.toml
        methods: Mapping[str, LawTable]
        reference: str
        b: float | None

    _built: dict[str, Any] = PrivateAttr(
        default_factory=dict
    )  # shared by copies of the recipe, because the keys hold all arguments
    _own_keys: set[str] = PrivateAttr(default_factory=set)
    _own: OwnParts = PrivateAttr(default=NOTHING_OWN)  # set when the recipe is loaded

    @property
    def own(self) -> OwnParts:
        """The user's own parts."""
        return self._own

    def set_own(self, own: OwnParts) -> None:
        """Set the user's own parts, before any law is built."""
        self._own = own

    def own_laws(self) -> dict[str, Law]:
        """The laws of the user's own that were built so far, by their keys in the cache."""
        return {key: law for key, law in self._built.items() if isinstance(law, Law) and key in self._own_keys}

    def law(self, name: str, *, b: float | None = None) -> Law:
        """Build the law of a method, or return it from the cache.

        Args:
            name: name of the method.
            b: batch size for a law that has a field b which the method does not set; None for the recipe's b.

        Returns:
            The law.

        Raises:
            UserError: the law or a field is unknown, or the law refuses a value.
        """
        method = self.methods[name]
        others = tuple(key for key in type(method).model_fields if key != "law")
        law: Law = self._part("law", method.law_table(), f"methods.{name}", b=b, others=others)
        return law

    def select(self, names: list[str] | None) -> Self:
        """Select the methods to run.

        Args:
            names: names of the methods; None for all that are not optional.

        Returns:
            A copy of the recipe with these methods, in the order of the recipe.

        Raises:
            UserError: a name is unknown, no method is left, or the reference is not a method of the recipe.
        """
        known = ", ".join(self.methods)
        if self.reference not in self.methods:
            raise UserError(f"reference: {self.reference!r} is not a method of the recipe; take one of {known}")
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
            if modules_in(table):
                self._own_keys.add(key)
            if key in self._own.laws:
                self._built[key] = self._own.laws[key]
            else:
                find = self._own.find
                self._built[key] = build_part(
                    part, table, b=b, where=where, others=others, defaults=defaults, find=find
                )
        return self._built[key]


class Recipe(MethodsRecipe):
    """The recipe of a training experiment. A margin has the unit of its score; an accuracy lies in [0, 1]."""

    model_config = ConfigDict(extra="forbid", strict=True)

    title: Line
    task: str | None = None  #: the user's own file or module with data, network, loss, scores; see `task_in`
    data: str | None = None
    n: Examples | None = None
    model: str | None = None
    norm: str | None = None  #: normalisation of the model; None for its default
    ghost: Count | None = None  #: number of examples in a group of the norm "batch"; None for the whole batch
    lr: Rate
    momentum: Fraction = 0.0
    weight_decay: Decay = 0.0
    optimizer: Table | None = None  #: None for the laboratory's own SGD, which ``momentum`` and ``weight_decay`` set
    schedule: Table | None = None
    clip: Amount = 0.0
    label_smoothing: Fraction = 0.0
    ema: Fraction = 0.0
    sam: Amount = 0.0
    b: BatchSize | None = None
    steps: Steps
    eval_every: Count
    eval_train: Examples | None = None  #: number of training examples that an evaluation visits; None for all
    checkpoint_every: Count = 500
    snapshots: AtSteps = []  #: steps after which the parameters are saved for `msgd measure`
    lr_drops: AtSteps = []  #: steps after which the learning rate is multiplied by ``lr_drop``
    lr_drop: Annotated[float, Field(gt=0, lt=1)] = 0.1
    pixels: Pixels = "unit"
    augment: Count | None = None  #: padding in pixels for random crops, with random flips; None for no augmentation
    micro_batch: Count | None = None  #: examples computed at a time; the gradient stays that of the whole batch
    vary: Annotated[list[Literal["init", "noise", "data"]], Field(min_length=1)] = ["init", "noise"]
    match: Literal["steps", "epochs", "examples"] = "steps"
    tune: Tune | None = None
    grid: Grid | None = None
    seeds: Count
    margin: Margin | None = None  #: of the score that decides; None to claim no equivalence
    margins: dict[Annotated[str, AfterValidator(plain_line)], Margin] = {}  #: name → margin of the other scores
    reference: Name
    methods: Annotated[dict[Name, Method], Field(min_length=1, max_length=SOME)]

    @property
    def batch_norm(self) -> bool:
        """Whether the network couples the examples of a batch."""
        return self.model in NORMALISED and self.norm in (None, "batch")

    def setting(self, name: str, key: str) -> Any:
        """The value of a key for a method: the method's own, or the recipe's."""
        value = getattr(self.methods[name], key)
        return getattr(self, key) if value is None else value

    @property
    def own_data(self) -> bool:
        """Whether the data come from the user's own code."""
        return self.data is None or is_reference(self.data)

    @field_validator("data", "model")
    @classmethod
    def _known(cls, value: str | None, info: Any) -> str | None:
        allowed = NAMES if info.field_name == "data" else tuple(MODELS)
        if value is not None and value not in allowed and not is_reference(value):
            raise ValueError(f"{value!r} is not known; take one of {', '.join(allowed)}, or name code: task.py:NAME")
        return value

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        cells = len(self.grid.lr) * len(self.grid.b) if self.grid else 1
        if (runs := len(self.methods) * cells * self.seeds) > RUNS:
            raise ValueError(f"methods, seeds and [grid] make {runs} runs; an experiment has at most {RUNS}")
        if self.tune and (runs := len(self.methods) * len(self.tune.lr) * self.tune.seeds) > RUNS:
            raise ValueError(f"tune: methods, lr and seeds make {runs} runs; take at most {RUNS}")
        if "data" in self.vary and max(self.seeds, self.tune.seeds if self.tune else 1) > SOME:
            raise ValueError(f"vary: the data of all seeds are in memory together; take at most {SOME} seeds")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.task is None and None in (self.data, self.model):
            missing = [key for key in ("data", "model") if getattr(self, key) is None]
            raise ValueError(f'{" and ".join(missing)}: name one, or a task of your own: task = "task.py"')
        if (self.data in TEXTS and self.model in MODELS) != (self.model == "gpt" and not self.own_data):
            raise ValueError(f"model: gpt is for texts ({', '.join(TEXTS)}), and no other network is; not {self.data}")
        if "data" in self.vary and not self.own_data and self.data not in GENERATORS:
            raise ValueError(f"vary: {self.data} is a fixed data set; leave out data, or use {', '.join(GENERATORS)}")
        if self.augment and not self.own_data and self.data not in READERS:
            raise ValueError(f"augment: {self.data} has no images to crop and flip; leave augment out")
        if self.own_data and self.pixels != "unit":
            raise ValueError("pixels: data of your own keep their values; scale them in data(), and leave pixels out")
        return self

    @model_validator(mode="after")
    def _consistent_methods(self) -> Self:
        for name, method in self.methods.items():
            if self.setting(name, "sam") and (method.noise or method.penalty):
                raise ValueError(f"methods.{name}.sam: it has no noise or penalty beside it; leave one of them out")
        if self.tune and self.grid:
            raise ValueError("tune: a [grid] runs every learning rate, so none is picked; leave out [tune] or [grid]")
        if self.micro_batch and self.batch_norm and (self.ghost is None or self.micro_batch % self.ghost):
            raise ValueError(
                "micro_batch: it would change the groups of batch norm; set ghost, and micro_batch to a multiple of it"
            )
        if len(set(self.vary)) < len(self.vary):
            raise ValueError("vary: write each entry only once")
        followers = [name for name, method in self.methods.items() if method.lr_of is not None]
        if self.grid and followers:
            raise ValueError(f"methods.{followers[0]}.lr_of: a [grid] sets the learning rates; leave lr_of out")
        for name in followers:
            source = self.methods[name].lr_of
            if source not in self.methods:
                raise ValueError(f"methods.{name}.lr_of: there is no method {source!r}; take {', '.join(self.methods)}")
            if source in followers:
                raise ValueError(
                    f"methods.{name}.lr_of: {source} has no learning rate of its own; name a method that has one"
                )
        if self.grid and self.match != "steps":
            raise ValueError("match: the cells of a [grid] all take the same number of steps; leave match out")
        return self

    def noise(self, name: str, *, lr: float) -> ParameterNoise | None:
        """Build the parameter noise of a method.

        Args:
            name: name of the method.
            lr: learning rate, for noise that depends on it.

        Returns:
            The noise, or None if the method has none.

        Raises:
            UserError: the noise is invalid, or it stands for SGD's noise while the method's gradient is noisy already.
        """
        method = self.methods[name]
        if method.noise is None:
            return None
        where = f"methods.{name}.noise"
        noise: ParameterNoise = self._part("noise", method.noise, where, defaults={"lr": lr})
        if method.noise["kind"] != "sgld" and method.law != "full-batch":
            raise UserError(
                f'{where}: {method.noise["kind"]} replaces SGD\'s noise; give the method law = "full-batch"'
            )
        return noise

    def penalty(self, name: str) -> Penalty | None:
        """Build the penalty of a method.

        Args:
            name: name of the method.

        Returns:
            The penalty, or None if the method has none.

        Raises:
            UserError: the penalty is invalid, or the method also has noise.
        """
        method, where = self.methods[name], f"methods.{name}.penalty"
        if method.penalty is None:
            return None
        if method.law != "full-batch" or method.noise is not None:
            raise UserError(f'{where}: a penalty replaces the noise; give the method law = "full-batch", and no noise')
        penalty: Penalty = self._part("penalty", method.penalty, where)
        return penalty
