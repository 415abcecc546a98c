"""The exported rows hold what results.json holds."""

import math

import pytest

from helpers.made_results import DIVERGED, made_results
from helpers.small import SMALL
from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.scores import ACCURACY, LOSS
from msgd.lab.export.records import COMPARISON, curve_rows, decided_by, run_rows, verdict_rows


def test_runs_are_those_of_results_json():
    results = made_results(diverged=[DIVERGED])
    stored = results.as_json()["runs"]
    rows = run_rows(results)
    assert len(rows) == len(stored) == 9
    for row, run in zip(rows, stored, strict=True):
        assert {key: row[key] for key in ("method", "seed", "steps", "seconds", "diverged")} == {
            key: run[key] for key in ("method", "seed", "steps", "seconds", "diverged")
        }
        assert {key: value for key, value in row.items() if key.startswith(("test_", "train_"))} == (run["final"] or {})
        assert row["lr"] == 0.05


def test_effective_batch_sizes():
    sizes = {row["method"]: row["b_eff"] for row in run_rows(made_results())}
    assert sizes["gd"] == math.inf
    n, b = 40, 8
    # Cov of a mini-batch without replacement is (n−b)/(n−1) of that with replacement, so it matches b·(n−1)/(n−b).
    assert sizes["sgd"] == pytest.approx(b * (n - 1) / (n - b), rel=1e-12)
    gld = SMALL + '[methods.gld]\nlaw = "full-batch"\nnoise = {kind = "gld-diag", refresh = 5}\n'
    assert {row["method"]: row["b_eff"] for row in run_rows(made_results(gld))}["gld"] is None


def test_curves_have_a_row_for_each_evaluation():
    results = made_results(diverged=[DIVERGED])
    rows = curve_rows(results)
    assert len(rows) == 8 * 7 + 3
    mine = [row for row in rows if (row["method"], row["seed"]) == ("sgd", 2)]
    assert [row["step"] for row in mine] == [0, 10, 20, 30, 40, 50, 60]
    run = next(done for done in results.finished_runs if (done.run.method, done.run.seed) == ("sgd", 2))
    assert [row["train_loss"] for row in mine] == [record["train_loss"] for record in run.records]


def test_verdicts_of_every_score():
    results = made_results()
    rows = {(row["score"], row["method"]): row for row in verdict_rows(results)}
    assert list(rows) == [(score, method) for score in ("accuracy", "loss") for method in ("gd", "sgd", "bernoulli")]
    stored = results.as_json()
    for score, verdicts in (("accuracy", stored["verdicts"]), ("loss", stored["verdicts_by_score"]["loss"])):
        for verdict in verdicts:
            row = rows[score, verdict["method"]]
            assert {key: row[key] for key in COMPARISON if key != "pairs"} == {
                key: verdict[key] for key in COMPARISON if key != "pairs"
            }
            assert row["pairs"] == verdict["seeds"]
    assert rows["loss", "gd"]["margin"] is None
    assert rows["accuracy", "gd"]["margin"] == 0.1
    reference = rows["loss", "sgd"]
    assert (reference["verdict"], reference["difference"]) == ("reference", None)
    values = [run["final"]["test_loss"] for run in stored["runs"] if run["method"] == "sgd"]
    mean = sum(values) / 3
    half = 4.302652729749464 * math.sqrt(sum((v - mean) ** 2 for v in values) / 2 / 3)  # t of 2 degrees of freedom
    assert reference["mean"] == pytest.approx(mean, rel=1e-12)
    assert (reference["mean_low"], reference["mean_high"]) == pytest.approx((mean - half, mean + half), rel=1e-9)


def test_verdicts_of_what_cannot_be_compared():
    rows = {row["method"]: row for row in verdict_rows(made_results(diverged=[DIVERGED])) if row["score"] == "accuracy"}
    assert (rows["gd"]["verdict"], rows["gd"]["mean"], rows["gd"]["seeds"]) == ("diverged", None, 0)
    single = {row["method"]: row for row in verdict_rows(made_results(seeds=1))}
    assert single["gd"]["mean_low"] is None
    assert single["gd"]["difference"] is not None


def test_another_score_decides():
    results = made_results()
    by_loss = decided_by(results, "loss")
    assert by_loss.score.name == LOSS.name
    assert by_loss.comparisons == results.comparisons_of("loss")
    assert by_loss.comparisons_of("accuracy") == results.comparisons
    assert by_loss.endpoints() == results.endpoints("loss")
    assert decided_by(results, None).score.name == ACCURACY.name
    with pytest.raises(UserError, match="--score f1: there is no such score; take one of accuracy, loss"):
        decided_by(results, "f1")
