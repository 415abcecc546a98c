"""Experiments from Python: methods are compared on a task that is given as objects."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from msgd.lab.api.result import Result, load
from msgd.lab.errors import UserError
from msgd.lab.execution.workers import connect_workers
from msgd.lab.kinds import RunOptions, TrainingExperiment
from msgd.lab.recipes.load import recipe_from
from msgd.lab.recipes.own import NOTHING_OWN, PYTHON, OwnParts
from msgd.lab.recipes.schema import Recipe
from msgd.lab.tasks.fingerprint import fingerprint
from msgd.lab.tasks.task import Task, check_builds
from msgd.noise import LAWS, SCALAR_LAWS, Law

SOURCE = "lab.compare"
EVALUATIONS = 30

Method = Law | Mapping[str, Any]


def compare(
    task: Task | str,
    methods: Mapping[str, Method],
    *,
    lr: float,
    steps: int,
    out: str | Path,
    seeds: int = 8,
    reference: str | None = None,
    margin: float | None = None,
    jobs: int | None = None,
    device: str = "auto",
    data_dir: str | Path | None = None,
    backend: str = "loky",
    address: str | None = None,
    quiet: bool = False,
    **keys: Any,
) -> Result:
    """Train every method with every seed on a task, and compare the methods with a reference.

    A call that was interrupted continues when it is made again; `msgd report` and `msgd compare` work on the folder,
    too. Runs take processes of their own: in a script, call this function below ``if __name__ == "__main__":``.

    Args:
        task: data, network, loss and scores; or the name of a built-in data set, with the network that its recipe has.
        methods: name → a law, or the keys of the method, such as ``{"law": noise.Cov(20), "optimizer": "AdamW"}``.
        lr: learning rate.
        steps: number of steps of each run.
        out: folder for the results.
        seeds: number of seeds.
        reference: the method that the others are compared with; None for the first one.
        margin: largest difference in the deciding score that does not matter; None to test no equivalence.
        jobs: number of runs at a time; None for one per core.
        device: "auto", "cpu" or "cuda".
        data_dir: folder with the files of the data.
        backend: "loky" for processes of this machine, or "dask".
        address: address of the scheduler of a Dask cluster.
        quiet: whether to show no progress.
        **keys: further keys of a recipe, such as ``optimizer``, ``schedule``, ``eval_every``, ``tune``.

    Returns:
        The results.

    Raises:
        UserError: there is a fault in the task, the methods or the folder; the message names the remedy.

    Examples:
        >>> from msgd import noise
        >>> compare("mnist1d", {"sgd": noise.MiniBatch(20)}, lr=0.1, steps=0, out="unused")
        Traceback (most recent call last):
            ...
        msgd.lab.errors.UserError: lab.compare: steps: input should be greater than or equal to 1, not 0
    """
    keys |= {"lr": lr, "steps": steps, "seeds": seeds} | ({} if margin is None else {"margin": margin})
    recipe = _recipe(task, methods, {"reference": reference or next(iter(methods), "")} | keys, title=Path(out).name)
    requested = RunOptions(backend, jobs, device, None if data_dir is None else Path(data_dir))
    return _run(recipe, Path(out).absolute(), requested, address, quiet=quiet)


def _recipe(task: Task | str, methods: Mapping[str, Method], keys: dict[str, Any], *, title: str) -> Recipe:
    table, own = _recipe_table(task, methods)
    steps = keys["steps"]
    usual = {"title": f"Comparison in {title}", "eval_every": max(1, int(steps) // EVALUATIONS)}
    recipe = recipe_from(usual | table | keys, source=SOURCE, own=own)
    assert isinstance(recipe, Recipe)
    return recipe.select(None)


def _run(recipe: Recipe, folder: Path, requested: RunOptions, address: str | None, *, quiet: bool) -> Result:
    experiment = TrainingExperiment(folder.name, recipe, folder)
    options, console = experiment.plan(requested), Console(highlight=False, markup=False, quiet=quiet)
    console.soft_wrap = not (console.is_terminal or console.is_jupyter)  # so that programs can search the lines
    with connect_workers(requested.backend, address, options.jobs) as workers:
        experiment.run(options, workers, console)
    result = load(folder)
    result.write()
    return result


def _recipe_table(task: Task | str, methods: Mapping[str, Method]) -> tuple[dict[str, Any], OwnParts]:
    """The part of a recipe that describes the task and the methods, and the objects that it refers to."""
    if isinstance(task, str):
        task = Task(data=task, network=USUAL_NETWORKS.get(task))
    if not isinstance(task, Task):
        raise UserError(f"{SOURCE}: the task must be a lab.Task or the name of a data set, not {type(task).__name__}")
    check_builds(task.network)
    table: dict[str, Any] = {"task": PYTHON}
    objects: dict[str, Any] = {}
    parts: dict[str, Any] = {"loss": task.loss, "scores": task.scores}
    for key, part, value in (("data", "data", task.data), ("model", "network", task.network)):
        if isinstance(value, str):
            table[key] = value
        else:
            parts[part] = value
    own_task = Task(**parts, lower_is_better=tuple(task.lower_is_better))
    table["methods"] = {name: _method_table(name, method, objects) for name, method in methods.items()}
    if own_task.is_empty and not objects:
        return {key: value for key, value in table.items() if key != "task"}, NOTHING_OWN
    hashed = {part: value for part, value in parts.items() if callable(value)} | objects
    identity = tuple(f"{name} sha256:{fingerprint(value)}" for name, value in sorted(hashed.items()))
    own = OwnParts(None if own_task.is_empty else own_task, None, identity, _Objects(objects))
    return table, own


#: the network that the recipes use for a built-in data set
USUAL_NETWORKS = {
    "mnist1d": "mlp",
    "fashion-mnist": "conv-small",
    "fashion-mnist-60k": "conv-small",
    "svhn": "vgg11",
    "cifar10": "resnet18",
    "cifar100": "resnet18",
    "shakespeare": "gpt",
}


@dataclasses.dataclass(frozen=True, eq=False)
class _Objects:
    """Finds the classes that a table refers to; it can be sent to other processes."""

    by_name: dict[str, Any]

    def __call__(self, reference: str) -> Any:
        return self.by_name[reference.partition(":")[2]]


def _method_table(name: str, method: Method, objects: dict[str, Any]) -> dict[str, Any]:
    if isinstance(method, Law):
        return _law_table(method, objects)
    if not isinstance(method, Mapping) or not isinstance(method.get("law"), Law):
        raise UserError(
            f'{SOURCE}: methods[{name!r}] must be a law such as noise.Cov(20), or a dict with a law under "law"'
        )
    table = dict(method)
    table |= _law_table(table["law"], objects)
    for key in ("optimizer", "schedule"):
        if key in table:
            table[key] = _with_references(table[key], objects)
    return table


def _with_references(value: Any, objects: dict[str, Any]) -> Any:
    """Put references in place of an own class of optimizer, or of an own schedule."""
    if isinstance(value, Mapping):
        return {key: _with_references(each, objects) if key == "kind" else each for key, each in value.items()}
    if isinstance(value, str):
        return value
    objects[value.__name__] = value
    return f"{PYTHON}:{value.__name__}"


def _law_table(law: Any, objects: dict[str, Any]) -> dict[str, Any]:
    """The table of a law, or of a scalar law, from which a recipe builds it again."""
    known = {made: name for name, made in (LAWS | SCALAR_LAWS).items()}
    kind = type(law)
    if not dataclasses.is_dataclass(law):
        raise UserError(f"{SOURCE}: {kind.__name__}: a law of your own is a class with @dataclass(frozen=True)")
    if kind not in known:
        objects[kind.__name__] = kind
    table: dict[str, Any] = {"law": known.get(kind, f"{PYTHON}:{kind.__name__}")}
    for field in dataclasses.fields(law):
        value = getattr(law, field.name)
        if value is None or (field.default is not dataclasses.MISSING and value == field.default):
            continue
        table[field.name] = _law_table(value, objects) if dataclasses.is_dataclass(value) else value
    return table
