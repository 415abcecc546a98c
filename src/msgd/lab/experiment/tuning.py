"""Picks each method's learning rate on examples held out of the training set, never on the test set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from msgd.lab.data.dataset import Data
from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.identity import run_folder
from msgd.lab.experiment_folder.metrics import endpoint_of
from msgd.lab.experiment_folder.resume import read_run_state
from msgd.lab.experiment_folder.scores import ACCURACY, Score
from msgd.lab.experiment_folder.tuning import Tuning
from msgd.lab.plan.resolve import resolve
from msgd.lab.plan.run import Run
from msgd.lab.recipes.schema import Recipe

FIRST_SEED = (
    1000  #: first seed of tuning: no run of the experiment shares initial parameters or noise with a tuning run
)


def hold_out(data: Data, fraction: float) -> Data:
    """Split the training set, so that its last examples replace the test set.

    Args:
        data: the data set; the result does not contain its test examples.
        fraction: the fraction of the training examples to hold out, in (0, 1).

    Returns:
        The data for tuning.

    Raises:
        UserError: one of the two parts would be empty.
    """
    n = data.n - round(fraction * data.n)
    if not 0 < n < data.n:
        raise UserError(f"tune: held_out = {fraction} of {data.n} examples leaves one part empty: set another fraction")
    inputs, targets = data.train_inputs, data.train_targets
    return Data(inputs[:n], targets[:n], inputs[n:], targets[n:], data.classes)


def tuning_runs(recipe: Recipe, data: Mapping[int, Data], out: Path) -> list[tuple[Run, Path]]:
    """Plan the tuning runs of every method that does not copy its learning rate from another method.

    Args:
        recipe: a recipe with a table ``[tune]``.
        data: seed → the data from `hold_out`.
        out: the experiment's folder.

    Returns:
        The runs and their folders, ordered by learning rate first.
    """
    assert recipe.tune is not None
    tuned = {name: method for name, method in recipe.methods.items() if method.lr_of is None}
    planned = []
    for lr in sorted(set(recipe.tune.lr)):
        methods = {name: method.model_copy(update={"lr": lr}) for name, method in tuned.items()}
        at_rate = recipe.model_copy(update={"methods": methods, "seeds": recipe.tune.seeds, "snapshots": []})
        digests = [part.digest() for part in data.values()]
        trials = resolve(at_rate, n=next(iter(data.values())).n, digests=digests, first_seed=FIRST_SEED)
        planned += [(run, run_folder(run, out / "tuning" / f"lr-{lr:g}")) for run in trials]
    return planned


def pick_rates(recipe: Recipe, planned: list[tuple[Run, Path]], held_out: int, score: Score = ACCURACY) -> Tuning:
    """Pick each method's learning rate from the finished tuning runs.

    Args:
        recipe: a recipe with a table ``[tune]``.
        planned: the runs from `tuning_runs`, all finished.
        held_out: number of held-out examples.
        score: the score that decides.

    Returns:
        The tuning. A rate at which a run diverged, or has no score, is picked only where there is no other; then the
        smallest is.
    """
    assert recipe.tune is not None
    values: dict[str, dict[str, list[float | None]]] = {}
    for run, folder in planned:
        checkpoint, records = read_run_state(run, folder)
        diverged = checkpoint is None or checkpoint.diverged is not None
        value = None if diverged else endpoint_of(records).get(score.key)
        values.setdefault(run.method, {}).setdefault(f"{run.lr:g}", []).append(value)
    means = {method: {lr: _mean(v) for lr, v in by_lr.items()} for method, by_lr in values.items()}
    chosen = {method: float(_best(by_lr, score)) for method, by_lr in means.items()}
    return Tuning(held_out, recipe.tune.seeds, means, chosen)


def _mean(values: list[float | None]) -> float | None:
    finite = [value for value in values if value is not None]
    return float(np.mean(finite)) if len(finite) == len(values) else None


def _best(by_lr: dict[str, float | None], score: Score) -> str:
    """The rate with the best mean. The rates are in increasing order: the smallest of equal ones is picked."""
    best, highest = next(iter(by_lr)), None
    for lr, mean in by_lr.items():
        gain = mean if mean is None or not score.lower_is_better else -mean
        if gain is not None and (highest is None or gain > highest):
            best, highest = lr, gain
    return best


def with_tuned_rates(recipe: Recipe, tuning: Tuning) -> Recipe:
    """Set each method's learning rate to the one that was picked for it."""
    methods = {
        name: method.model_copy(update={"lr": tuning.chosen[name]}) if name in tuning.chosen else method
        for name, method in recipe.methods.items()
    }
    return recipe.model_copy(update={"methods": methods})
