"""The user's own parts of a recipe: loaded from trusted code, or as an experiment's folder recorded them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from numpy.random import Generator
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from msgd.lab.errors import UserError
from msgd.lab.safe_io.bounded import plain_line
from msgd.lab.tasks.code import Code, is_reference, load_code, modules_in
from msgd.lab.tasks.faults import user_code
from msgd.lab.tasks.task import Task, task_in
from msgd.noise import Law, Sample
from msgd.noise.moments import Moments


def _refuse(reference: str) -> Any:
    raise UserError(f"{reference} is code: add --trust to run it")


@dataclass(frozen=True, eq=False)
class OwnParts:
    """The user's own parts of a recipe.

    Args:
        task: the task; None if data, network, loss and scores are built in, or only recorded.
        code: the files; None without files, or if they are not loaded.
        identity: what belongs to a run's identity: the files' names and hashes.
        find: reference → object.
        laws: laws that were recorded, by the key of `MethodsRecipe.law`; their code is not loaded.
    """

    task: Task | None = None
    code: Code | None = None
    identity: tuple[str, ...] = ()
    find: Callable[[str], Any] = _refuse
    laws: Mapping[str, RecordedLaw] = field(default_factory=dict)

    @property
    def is_nothing(self) -> bool:
        """Whether everything is built in."""
        return self.task is None and self.code is None and not self.identity

    def faults_in(self, what: str) -> AbstractContextManager[None]:
        """Turn exceptions into one line, as `user_code` does, if there is code of the user's own."""
        return nullcontext() if self.is_nothing else user_code(what)

    @property
    def loaded(self) -> bool:
        """Whether the code may run: false for what a folder recorded."""
        return self.find is not _refuse


NOTHING_OWN = OwnParts()
PYTHON = "python"  #: stands for the module in references to objects of a program that called `lab.compare`


@dataclass(frozen=True, repr=False)
class RecordedLaw(Law):
    """A law of the user's own as a report shows it, without its code.

    Args:
        text: its repr, which belongs to a run's identity.
        call: its text in tables.
        alpha: its α at the experiment's n.
        beta: its β.
        examples: mean number of examples with a nonzero weight.
        is_correlated: whether its steps depend on each other.
    """

    text: str
    call: str
    alpha: float
    beta: float
    examples: float
    is_correlated: bool

    def __repr__(self) -> str:
        return self.text

    @property
    def correlated(self) -> bool:
        """See `Law.correlated`."""
        return self.is_correlated

    def moments(self, n: int) -> Moments:  # noqa: ARG002 - recorded for the experiment's n
        """See `Law.moments`."""
        return Moments(self.alpha, self.beta)

    def sample(self, n: int, rng: Generator) -> Sample:  # noqa: ARG002 - the signature of a law
        """Raise, because a recorded law cannot be drawn.

        Args:
            n: see `Law.sample`.
            rng: see `Law.sample`.

        Raises:
            UserError: always.
        """
        raise UserError(f"{self.call} is code: add --trust to run it")


def load_own(table: dict[str, Any], folder: Path, *, source: str, trust: bool) -> OwnParts:
    """Load the code that a recipe names.

    Args:
        table: the recipe's table.
        folder: the folder of the recipe.
        source: name of the recipe in messages.
        trust: whether the user allowed this code to run.

    Returns:
        The parts; nothing if the recipe names no code.

    Raises:
        UserError: the recipe names code, and the user did not allow it; or a file is missing or cannot be loaded.
    """
    modules = modules_in(table)
    if not modules:
        return NOTHING_OWN
    if PYTHON in modules:
        raise UserError(f"{source} was written by lab.compare, with functions of a program: run that program again")
    if not trust:
        shown = ", ".join(str(folder / name) if name.endswith(".py") else f"the module {name}" for name in modules)
        raise UserError(f"{source} would run the code in {shown}: read it, then add --trust")
    code = load_code(folder.resolve(), tuple(modules))
    task = Task()
    if table.get("task") is not None:
        task = task_in(code.module(table["task"]), table["task"])
    parts = {"data": table.get("data"), "network": table.get("model")}
    own = dict(vars(task))
    for part, value in parts.items():
        if value is not None:  # the recipe's own key goes before the task
            own[part] = code.find(value) if is_reference(value) else None
    task = Task(**own)
    return OwnParts(None if task.is_empty else task, code, code.identity, code.find)


class _Law(BaseModel):
    """A law in experiment.json; an infinite α is null."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: Annotated[str, Field(max_length=1000)]
    call: Annotated[str, Field(max_length=1000)]
    alpha: float | None
    beta: float
    examples: Annotated[float, Field(ge=0, le=10**9)]
    is_correlated: bool


class _Own(BaseModel):
    """The key ``code`` of experiment.json."""

    model_config = ConfigDict(extra="forbid", strict=True)

    folder: str | None
    modules: list[str]
    identity: list[str]
    laws: dict[str, _Law]


def record_own(own: OwnParts, laws: Mapping[str, tuple[Law, str, float]], *, n: int) -> dict[str, Any] | None:
    """Describe the user's own parts for experiment.json, so that reports need no code.

    Args:
        own: the parts.
        laws: the own laws by their keys, each with its text in tables and its mean number of examples.
        n: number of training examples.

    Returns:
        The description; None if nothing is own.
    """
    if own.is_nothing:
        return None
    table = {}
    for key, (law, call, examples) in laws.items():
        moments = law.moments(n)
        alpha = moments.alpha if math.isfinite(moments.alpha) else None
        table[key] = _Law(
            text=repr(law),
            call=call,
            alpha=alpha,
            beta=moments.beta,
            examples=examples,
            is_correlated=law.correlated,
        )
    code = own.code
    return _Own(
        folder=str(code.folder) if code else None,
        modules=list(code.modules) if code else [],
        identity=list(own.identity),
        laws=table,
    ).model_dump()


def recorded_own(table: Any, *, path: Path) -> OwnParts:
    """Read what `record_own` described.

    Args:
        table: the key ``code`` of experiment.json; None without one.
        path: path of the file, for messages.

    Returns:
        The parts, without code.

    Raises:
        UserError: the file is damaged.
    """
    if table is None:
        return NOTHING_OWN
    try:
        file = _Own.model_validate(table)
        lines = [file.folder or "", *file.modules, *file.identity, *(law.call for law in file.laws.values())]
        for line in lines:
            plain_line(line)
    except (ValidationError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is damaged (its record of the code: {reason}): let msgd run write it again") from None
    laws = {
        key: RecordedLaw(**(law.model_dump() | {"alpha": math.inf if law.alpha is None else law.alpha}))
        for key, law in file.laws.items()
    }
    code = None if file.folder is None else Code(Path(file.folder), tuple(file.modules))
    return OwnParts(code=code, identity=tuple(file.identity), laws=laws)
