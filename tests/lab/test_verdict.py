"""What the verdict says in words."""

import dataclasses

from msgd.lab.config import parse_recipe
from msgd.lab.results import FinishedRun, Results, planned_runs
from msgd.lab.statistics import compare
from msgd.lab.verdict import columns, notes, rows
from small import SMALL

AGAIN = SMALL + '[methods.sgd-again]\nlaw = "mini-batch"\n'


def results(accuracies, text=AGAIN, **settings):
    """Results of runs that end with the given accuracies: method → one for each seed."""
    seeds = len(next(iter(accuracies.values())))
    recipe = parse_recipe(text, source="small", settings={"seeds": seeds, **settings})
    finished = [
        FinishedRun(run, 1.0, [], {"test_accuracy": accuracies[run.method][run.seed]})
        for run in planned_runs(recipe, n=40, digests=["d"])
        if run.method in accuracies
    ]
    empty = Results("small", recipe, {}, finished, 0, 0, [])
    return dataclasses.replace(empty, comparisons=compare(empty.scores(), recipe.reference, recipe.margin))


def test_a_null_that_differs_warns():
    low, high = [0.50, 0.51, 0.49, 0.50], [0.80, 0.82, 0.79, 0.81]
    said = " ".join(notes(results({"sgd": low, "sgd-again": high})))
    assert "sgd-again is sgd with another noise stream: its difference of +30.50 points" in said
    assert "chance was unkind" in said
    fair = " ".join(notes(results({"sgd": low, "sgd-again": [0.51, 0.50, 0.50, 0.49]})))
    assert "is what chance does." in fair


def test_rates_and_steps_are_columns_where_they_differ():
    same = results({"sgd": [0.5, 0.6], "gd": [0.5, 0.6]})
    assert not {"lr", "steps"} & set(columns(same))
    apart = results({"sgd": [0.5, 0.6], "gd": [0.5, 0.6]}, **{"methods.gd.lr": 0.5, "methods.gd.steps": 90})
    assert columns(apart)[3:5] == ("lr", "steps")
    assert [row[3:5] for row in rows(apart)] == [("0.5", "90"), ("0.05", "60")]
    assert "compares noise and rate at once" in " ".join(notes(apart))


def test_noise_in_parameter_space_stands_beside_the_law():
    text = AGAIN + '[methods.gld]\nlaw = "full-batch"\nnoise = {kind = "gld-diag", refresh = 5}\n'
    table = {row[0]: row for row in rows(results({"sgd": [0.5, 0.6], "gld": [0.5, 0.6]}, text))}
    assert table["gld"][1:3] == ("FullBatch() + GLDDiag(b=8, refresh=5)", "–")


def test_what_the_methods_are_matched_by_is_said():
    done = {"sgd": [0.5, 0.6], "gd": [0.5, 0.6]}
    assert "matched by examples computed" in " ".join(notes(results(done, match="examples")))
    assert "matched by epochs" in " ".join(notes(results(done, match="epochs")))
    assert "matched" not in " ".join(notes(results(done)))
    assert "The seeds vary noise, and nothing else." in notes(results(done, vary=["noise"]))
