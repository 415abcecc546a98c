"""Recipes: experiments as TOML files, validated, and resolved into runs."""

from __future__ import annotations

import dataclasses
import tomllib
import zlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from msgd.errors import UserError
from msgd.lab.data import DATA_SETS
from msgd.lab.models import MODELS, check_norm
from msgd.noise import LAWS, SCALAR_LAWS, Law, ScalarLaw

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+_-]{0,63}$")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Training(BaseModel):
    """What a method may override; None: as the recipe says."""

    lr: Positive | None = None
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    steps: Count | None = None
    eval_every: Count | None = None


class Method(Training):
    """A table ``[methods.NAME]``: a law, that law's fields, and what the method overrides."""

    model_config = ConfigDict(extra="allow", strict=True)

    law: str
    optional: bool = False  #: run only where it is named

    def law_table(self) -> dict[str, Any]:
        """The law's name and its fields, without the overrides."""
        return {"law": self.law, **(self.model_extra or {})}


class Recipe(BaseModel):
    """One experiment. Accuracies and ``margin`` are in [0, 1]."""

    model_config = ConfigDict(extra="forbid", strict=True)

    title: str
    data: str
    n: Count | None = None
    model: str
    norm: str | None = None  #: of the model; None: its own
    ghost: Count | None = None  #: group size of the norm "batch"; None: the whole batch
    lr: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    b: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None
    steps: Count
    eval_every: Count
    checkpoint_every: Count = 500
    seeds: Count
    margin: Annotated[float, Field(gt=0, lt=1)]
    reference: Name
    methods: Annotated[dict[Name, Method], Field(min_length=1)]

    @field_validator("data", "model")
    @classmethod
    def _known(cls, value: str, info: Any) -> str:
        allowed: dict[str, Any] = DATA_SETS if info.field_name == "data" else MODELS
        if value not in allowed:
            raise ValueError(f"{value!r} is not known; there are {', '.join(allowed)}")
        return value


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run: a method, a seed, and all that decides its result."""

    method: str
    seed: int
    law: Law
    data: str
    data_digest: str
    n: int
    model: str
    lr: float
    momentum: float
    weight_decay: float
    steps: int
    eval_every: int
    checkpoint_every: int = dataclasses.field(compare=False)
    norm: str | None = None
    ghost: int | None = None

    @property
    def stream(self) -> int:
        """The method's own noise stream: independent of the other methods' at the same seed."""
        return 2**32 + zlib.crc32(self.method.encode())

    @property
    def evaluations(self) -> list[int]:
        """The steps after which the run is evaluated: the start, every ``eval_every``, and the end."""
        return [*range(0, self.steps, self.eval_every), self.steps]

    def identity(self) -> dict[str, Any]:
        """All that decides the result, as a TOML table without what is None; two runs that agree here are the same."""
        table = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.compare}
        return {key: value for key, value in (table | {"law": repr(self.law)}).items() if value is not None}


def recipe_names() -> list[str]:
    """Names of the recipes in the package."""
    folder = resources.files("msgd.lab") / "recipes"
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def recipe_text(name: str) -> str:
    """Read a recipe's TOML.

    Args:
        name: a recipe of the package, or the path of a TOML file.

    Returns:
        Its text.

    Raises:
        UserError: there is no such recipe, or the file cannot be read.
    """
    if name in recipe_names():
        return (resources.files("msgd.lab") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    if not name.endswith(".toml"):
        known = ", ".join(recipe_names())
        raise UserError(f"there is no recipe {name!r}: take one of {known}, or the path of a TOML file")
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"recipe {name} cannot be read: {error}") from error


def parse_recipe(text: str, *, source: str, settings: dict[str, Any] | None = None) -> Recipe:
    """Validate a recipe.

    Args:
        text: TOML.
        source: where it is from, for messages.
        settings: dotted keys and the values that replace the recipe's, such as ``{"methods.gd.lr": 0.6}``.

    Returns:
        The recipe.

    Raises:
        UserError: the first fault, with its key and what is allowed.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{source} is not TOML: {error}") from error
    for key, value in (settings or {}).items():
        _set(table, key, value)
    try:
        recipe = Recipe.model_validate(table)
    except ValidationError as error:
        raise UserError(f"{source}: {_first_fault(error)}") from error
    for name, method in recipe.methods.items():
        build_law(method.law_table(), b=recipe.b, where=f"{source}: methods.{name}")
    check_norm(recipe.model, recipe.norm, recipe.ghost)
    return recipe


def select_methods(recipe: Recipe, names: list[str] | None) -> Recipe:
    """Keep the methods that are to be run.

    Args:
        recipe: with all its methods.
        names: of methods; None for all that are not optional.

    Returns:
        The recipe with those methods, in the recipe's order.

    Raises:
        UserError: an unknown name, or a reference that is no method at all.
    """
    if recipe.reference not in recipe.methods:
        raise UserError(f"reference: {recipe.reference!r} is not among the methods {', '.join(recipe.methods)}")
    for name in names or []:
        if name not in recipe.methods:
            raise UserError(f"--methods: there is no method {name!r}; take some of {', '.join(recipe.methods)}")
    chosen = {
        name: method
        for name, method in recipe.methods.items()
        if (name in names if names is not None else not method.optional)
    }
    if not chosen:
        raise UserError(f"no method is left to run: name some of {', '.join(recipe.methods)} with --methods")
    return recipe.model_copy(update={"methods": chosen})


def _set(table: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise UserError(f"--set {key}: {part} is not a table")
    table[last] = value


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    key = ".".join(str(part) for part in fault["loc"] if part != "[key]")
    if fault["type"] == "extra_forbidden":
        return f"unknown key {key!r}; allowed are {', '.join(Recipe.model_fields)}"
    if fault["type"] == "missing":
        missing = [".".join(map(str, f["loc"])) for f in error.errors() if f["type"] == "missing"]
        return f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
    if fault["loc"][-1] == "[key]":
        return f"{key!r}: a method's name has lower-case letters, digits and + _ - only"
    if fault["type"] == "value_error":  # one of ours, which says what was given
        return f"{key}: {fault['ctx']['error']}"
    return f"{key}: {fault['msg'][0].lower()}{fault['msg'][1:]}, not {fault['input']!r}"


def build_law(table: dict[str, Any], *, b: float | None, where: str) -> Law:
    """Build a law from a recipe's table.

    Args:
        table: ``law``, its name, and its fields; a field that is itself a law or a scalar law is such a table.
        b: the recipe's b, for laws that have one and do not say otherwise.
        where: the table's place, for messages.

    Returns:
        The law.

    Raises:
        UserError: an unknown law or field, or a value that the law refuses.
    """
    law: Law = _build(table, LAWS, b=b, where=where, overrides=(*Training.model_fields, "optional"))
    return law


def _build(
    table: dict[str, Any],
    known: Mapping[str, type[Law | ScalarLaw]],
    *,
    b: float | None,
    where: str,
    overrides: tuple[str, ...],
) -> Any:
    name = table.get("law")
    if not isinstance(name, str) or name not in known:
        raise UserError(f"{where}.law: {name!r} is not a law; there are {', '.join(known)}")
    fields = {field.name: field for field in dataclasses.fields(known[name])}  # type: ignore[arg-type]  # all are
    given = {key: value for key, value in table.items() if key != "law"}
    for key, value in given.items():
        if key not in fields:
            allowed = ", ".join([*fields, *overrides]) or "none"
            raise UserError(f"{where}: unknown key {key!r}; with the law {name} allowed are {allowed}")
        if isinstance(value, dict):
            inner = SCALAR_LAWS if key == "scalar_law" else LAWS
            given[key] = _build(value, inner, b=b, where=f"{where}.{key}", overrides=())
    if "b" in fields and b is not None:
        given.setdefault("b", int(b) if float(b).is_integer() else b)
    needed = [key for key, field in fields.items() if field.default is dataclasses.MISSING and key not in given]
    if needed:
        raise UserError(f"{where}: the law {name} needs {', '.join(needed)}")
    try:
        return known[name](**given)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {error}") from error


def resolve(recipe: Recipe, *, n: int, data_digest: str) -> list[Run]:
    """Spell out every run of a recipe.

    Args:
        recipe: the recipe.
        n: number of training examples.
        data_digest: `Data.digest` of the data.

    Returns:
        The runs, seeds within methods.

    Raises:
        UserError: a law that cannot be had with n examples.
    """
    runs = []
    for name, method in recipe.methods.items():
        law = build_law(method.law_table(), b=recipe.b, where=f"methods.{name}")
        try:
            law.moments(n)
        except ValueError as error:
            raise UserError(f"methods.{name}: {error}") from error
        training = {
            key: getattr(recipe, key) if getattr(method, key) is None else getattr(method, key)
            for key in Training.model_fields
        }
        runs += [
            Run(
                method=name,
                seed=seed,
                law=law,
                data=recipe.data,
                data_digest=data_digest,
                n=n,
                model=recipe.model,
                checkpoint_every=recipe.checkpoint_every,
                norm=recipe.norm,
                ghost=recipe.ghost,
                **training,
            )
            for seed in range(recipe.seeds)
        ]
    return runs
