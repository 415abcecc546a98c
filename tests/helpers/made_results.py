"""Results of experiments that nobody trained: any endpoints, any scores."""

import dataclasses

import numpy as np

from helpers.small import SMALL
from msgd.lab.experiment_folder.metrics import endpoint_of
from msgd.lab.experiment_folder.results import FinishedRun, Results, compare_methods
from msgd.lab.experiment_folder.scores import ACCURACY, LOSS, with_margins
from msgd.lab.plan.grid import planned_runs
from msgd.lab.recipes.load import parse_recipe

DIVERGED = ("gd", 1)  #: method and seed of a run that diverged, for `made_results`


def made_results(text=SMALL, *, scores=(ACCURACY, LOSS), seeds=3, diverged=(), digest="d", seed=0, **settings):
    """Results whose every run has its own curves, drawn from a seed.

    diverged: pairs of a method and a seed whose run ends after 20 steps.
    """
    recipe = parse_recipe(text, source="small", settings={"seeds": seeds, **settings})
    names = dict.fromkeys(["loss", *(score.name for score in scores)])
    metrics = [f"{split}_{name}" for split in ("test", "train") for name in names]
    rng = np.random.default_rng(seed)
    finished = []
    for run in planned_runs(recipe, n=40, digests=[digest]):
        steps = run.evaluations[:3] if (run.method, run.seed) in diverged else run.evaluations
        records = [{"step": step} | {metric: float(rng.uniform(0.1, 0.9)) for metric in metrics} for step in steps]
        ends = len(steps) == len(run.evaluations)
        seconds = float(rng.uniform(1, 2))
        finished.append(FinishedRun(run, seconds, records, *((endpoint_of(records),) if ends else (None, 20))))
    margins = with_margins(scores, recipe.margin, recipe.margins)
    empty = Results("small", recipe, {}, finished, 0, 0, [], margins)
    return dataclasses.replace(empty, comparisons=compare_methods(empty, empty.score))
