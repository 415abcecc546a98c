"""Each method's learning rate, picked on examples held out of the training set, never on the test set."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from msgd.errors import UserError
from msgd.lab import runs
from msgd.lab.config import Count, Name, Positive, Recipe
from msgd.lab.data import Data
from msgd.lab.files import read_json
from msgd.lab.plan import Run, resolve

FIRST_SEED = 1000  #: so that no run of the experiment itself shares its initial parameters or noise with a tuning run


Rate = Annotated[str, StringConstraints(pattern=r"^[0-9.e+-]{1,30}$")]


class _File(BaseModel):
    """What ``tuning.json`` holds: the fields of `Tuning`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    held_out: Count
    seeds: Count
    accuracy: Annotated[dict[Name, dict[Rate, Annotated[float, Field(ge=0, le=1)]]], Field(min_length=1)]
    chosen: dict[Name, Positive]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        rates = {frozenset(row) for row in self.accuracy.values()}
        if len(rates) > 1 or self.accuracy.keys() != self.chosen.keys():
            raise ValueError("not every method has every learning rate, and one that was picked")
        tried = {float(rate) for rate in next(iter(rates))}
        if not tried >= set(self.chosen.values()):
            raise ValueError("a learning rate was picked that was not tried")
        return self


@dataclass(frozen=True)
class Tuning:
    """What the tuning found.

    Args:
        held_out: number of training examples that were held out.
        seeds: tuning runs of each method and learning rate.
        accuracy: method → learning rate, as text → mean accuracy on the held-out examples; 0 where a run
            diverged.
        chosen: method → the learning rate with the highest mean; the smaller one of two.
    """

    held_out: int
    seeds: int
    accuracy: dict[str, dict[str, float]]
    chosen: dict[str, float]

    def at_edge(self) -> list[str]:
        """The methods whose rate is the smallest or largest tried: their best may lie beyond."""
        tried = [float(lr) for lr in next(iter(self.accuracy.values()))]
        return [m for m, lr in self.chosen.items() if len(tried) > 1 and lr in (min(tried), max(tried))]

    def table(self, picked: str) -> tuple[list[str], list[list[str]]]:
        """Spell out the accuracies.

        Args:
            picked: how a picked rate's accuracy is written, such as ``"{} ←"``.

        Returns:
            Heads, and a row for each method; accuracies in percent.
        """
        rates = sorted({lr for row in self.accuracy.values() for lr in row}, key=float)
        forms = {m: [picked if float(lr) == self.chosen[m] else "{}" for lr in rates] for m in self.accuracy}
        body = [
            [m, *(form.format(f"{100 * row[lr]:.2f}") for form, lr in zip(forms[m], rates, strict=True))]
            for m, row in self.accuracy.items()
        ]
        return ["method", *(f"lr {lr}" for lr in rates)], body


def hold_out(data: Data, fraction: float) -> Data:
    """Split the training set: its last examples take the place of the test set.

    Args:
        data: the data set; its test examples are left out of the result.
        fraction: of the training examples, in (0, 1).

    Returns:
        The data to tune on.

    Raises:
        UserError: one of the two parts would be empty.
    """
    kept = data.n - round(fraction * data.n)
    if not 0 < kept < data.n:
        raise UserError(f"tune: held_out = {fraction} of {data.n} examples leaves one part empty")
    inputs, targets = data.train_inputs, data.train_targets
    return Data(inputs[:kept], targets[:kept], inputs[kept:], targets[kept:], data.classes)


def tuning_runs(recipe: Recipe, data: Mapping[int, Data], out: Path) -> list[tuple[Run, Path]]:
    """Plan the tuning of every method that does not take its rate from another.

    Args:
        recipe: with a table ``[tune]``.
        data: from `hold_out`, by seed.
        out: the experiment's folder.

    Returns:
        Runs and their folders, learning rates outermost.
    """
    assert recipe.tune is not None
    tuned = {name: method for name, method in recipe.methods.items() if method.lr_of is None}
    planned = []
    for lr in sorted(set(recipe.tune.lr)):
        methods = {name: method.model_copy(update={"lr": lr}) for name, method in tuned.items()}
        at_rate = recipe.model_copy(update={"methods": methods, "seeds": recipe.tune.seeds, "snapshots": []})
        digests = [part.digest() for part in data.values()]
        trials = resolve(at_rate, n=next(iter(data.values())).n, digests=digests, first_seed=FIRST_SEED)
        planned += [(run, runs.folder_of(run, out / "tuning" / f"lr-{lr:g}")) for run in trials]
    return planned


def pick(recipe: Recipe, planned: list[tuple[Run, Path]], held_out: int) -> Tuning:
    """Pick each method's learning rate from the finished tuning runs.

    Args:
        recipe: with a table ``[tune]``.
        planned: from `tuning_runs`, all finished.
        held_out: number of held-out examples.

    Returns:
        The tuning.
    """
    assert recipe.tune is not None
    scores: dict[str, dict[str, list[float]]] = {}
    for run, folder in planned:
        checkpoint, records = runs.state_of(run, folder)
        diverged = checkpoint is None or checkpoint.diverged is not None
        accuracy = -math.inf if diverged else runs.final(records)["test_accuracy"]
        scores.setdefault(run.method, {}).setdefault(f"{run.lr:g}", []).append(accuracy)
    means = {method: {lr: max(0.0, float(np.mean(v))) for lr, v in by_lr.items()} for method, by_lr in scores.items()}
    # max takes the first of equals, and the rates come in increasing order
    chosen = {method: float(max(by_lr, key=lambda lr: by_lr[lr])) for method, by_lr in means.items()}
    return Tuning(held_out, recipe.tune.seeds, means, chosen)


def with_chosen(recipe: Recipe, tuning: Tuning) -> Recipe:
    """Give each method the learning rate that was picked for it."""
    methods = {
        name: method.model_copy(update={"lr": tuning.chosen[name]}) if name in tuning.chosen else method
        for name, method in recipe.methods.items()
    }
    return recipe.model_copy(update={"methods": methods})


def write(tuning: Tuning, out: Path) -> None:
    """Write ``tuning.json``."""
    runs.write_atomically(out / "tuning.json", (json.dumps(asdict(tuning), indent=2) + "\n").encode())


def read(out: Path) -> Tuning:
    """Read ``tuning.json``.

    Args:
        out: the experiment's folder.

    Returns:
        The tuning.

    Raises:
        UserError: it is missing or damaged.
    """
    path = out / "tuning.json"
    try:
        found = _File.model_validate(read_json(path))
    except ValidationError as error:
        fault = error.errors()[0]
        said = f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
        raise UserError(f"{path} is missing or damaged ({said}): msgd run writes it anew") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is missing or damaged ({error}): msgd run writes it anew") from error
    return Tuning(found.held_out, found.seeds, found.accuracy, found.chosen)
