"""What the verdict says in words."""

import dataclasses

from helpers.small import SMALL
from msgd.lab.experiment_folder.results import FinishedRun, Results
from msgd.lab.experiment_folder.scores import Score
from msgd.lab.plan.grid import planned_runs, references
from msgd.lab.recipes.load import parse_recipe
from msgd.lab.report.phase_diagram import phase_rows, phases
from msgd.lab.report.verdict import answers, columns, notes, rows
from msgd.statistics.paired_tests import compare

AGAIN = SMALL + '[methods.sgd-again]\nlaw = "mini-batch"\n'


def results(accuracies, text=AGAIN, **settings):
    """Results of runs that end with the given accuracies: method → one for each seed, None where it diverged."""
    seeds = len(next(iter(accuracies.values())))
    recipe = parse_recipe(text, source="small", settings={"seeds": seeds, **settings})
    finished = [
        FinishedRun(run, 1.0, [], *({"test_accuracy": value},) if value is not None else (None, 10 + run.seed))
        for run in planned_runs(recipe, n=40, digests=["d"])
        for value in accuracies.get(run.method, [])[run.seed : run.seed + 1]
    ]
    scores = (Score("accuracy", margin=recipe.margin),)
    empty = Results("small", recipe, {}, finished, 0, 0, [], scores)
    return dataclasses.replace(empty, comparisons=compare(empty.endpoints(), recipe.reference, recipe.margin))


def test_a_null_that_differs_warns():
    low, high = [0.50, 0.51, 0.49, 0.50], [0.80, 0.82, 0.79, 0.81]
    said = " ".join(notes(results({"sgd": low, "sgd-again": high})))
    assert "sgd-again repeats sgd with a different noise stream. By chance alone it differs from sgd by +30.50" in said
    assert "no method's difference from sgd means more than this one" in said
    fair = " ".join(notes(results({"sgd": low, "sgd-again": [0.51, 0.50, 0.50, 0.49]})))
    assert "chance alone produces a difference of that size." in fair


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


def test_a_method_with_a_run_that_diverged_is_not_judged_by_the_others():
    """Without the seed that diverged gd would be better by 30 points."""
    low, high = [0.50, 0.51, 0.49, 0.50], [0.80, None, 0.79, 0.81]
    found = results({"sgd": low, "gd": high, "bernoulli": [0.40, 0.42, 0.39, 0.40]})
    assert [c.method for c in found.comparisons] == ["bernoulli"]
    table = {row[0]: row[-6:] for row in rows(found)}
    assert table["gd"] == ("–", "", "", "", "", "1 of 4 diverged")
    assert table["bernoulli"][-1] == "different"
    said = [note for note in notes(found) if "diverged" in note]
    assert len(said) == 1
    assert said[0].startswith("gd diverged: its loss was no longer finite with seed 1 after 11 steps. It has no")
    assert sorted(done["diverged"] for done in found.as_json()["runs"] if done["final"] is None) == [11]
    whole = results({"sgd": low, "gd": [0.80, 0.82, 0.79, 0.81], "bernoulli": [0.40, 0.42, 0.39, 0.40]})
    assert [c.verdict for c in whole.comparisons] == ["different", "different"]  # a control


def test_nothing_is_compared_with_a_reference_that_diverged():
    found = results({"sgd": [None] * 7, "gd": [0.5] * 7})
    assert found.comparisons == []
    assert answers(found) == ["Nothing is compared: the reference sgd diverged."]
    assert "seed 4 after 14 steps, and in 2 more runs." in " ".join(notes(found))
    assert {row[0]: row[-1] for row in rows(found)} == {
        "gd": "no pair with the reference",
        "sgd": "7 of 7 diverged",
    }


def test_cells_of_a_phase_diagram_that_diverged():
    text = AGAIN + "[grid]\nlr = [0.1, 0.2]\nb = [8]\n"
    good = [0.5, 0.6]
    accuracies = {"sgd+lr0p1+b8": good, "sgd+lr0p2+b8": good, "gd+lr0p1": good, "gd+lr0p2": [0.5, None]}
    recipe = parse_recipe(text, source="small")
    finished = results(accuracies, text)
    found = dataclasses.replace(finished, comparisons=compare(finished.endpoints(), references(recipe), recipe.margin))
    table = {phase.method: phase_rows(phase, found.score) for phase in phases(found)}
    assert table["gd"][0] == ["b", "lr 0.1", "lr 0.2"]
    assert table["gd"][1][0][2] == "1 of 2 diverged"
    assert table["sgd"][1][0][2] == "55.00 ± 63.53"
    assert "1 run diverged, in 1 cell: a cell with a diverged run has no accuracy." in notes(found)
