"""Results in Python: their rows are those of the folder, and their figures and tables show them."""

import json

import numpy as np
import pytest

from msgd import lab, noise
from msgd.lab.errors import UserError


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp("result") / "out"
    methods = {"sgd": noise.MiniBatch(20), "cov": noise.Cov(20)}
    options = {"n": 100, "margin": 0.05, "jobs": 1, "quiet": True}
    return lab.compare("mnist1d", methods, lr=0.05, steps=60, seeds=3, out=out, **options)


def test_rows_are_those_of_results_json(result):
    written = json.loads((result.folder / "results.json").read_text())
    rows = result.records()
    assert [(row["method"], row["seed"]) for row in rows] == [(m, s) for m in ("sgd", "cov") for s in range(3)]
    for row, run in zip(rows, written["runs"], strict=True):
        assert row["test_accuracy"] == run["final"]["test_accuracy"]
    frame = result.frame()
    assert frame["test_loss"].tolist() == [row["test_loss"] for row in rows]
    assert [c.difference for c in result.verdicts] == [v["difference"] for v in written["verdicts"]]


def test_curves_hold_every_evaluation(result):
    curves = result.curves()
    lines = (result.folder / "cov" / "seed-1" / "metrics.jsonl").read_text().splitlines()
    mine = curves[(curves.method == "cov") & (curves.seed == 1)]
    assert mine["test_loss"].tolist() == [json.loads(line)["test_loss"] for line in lines]
    assert mine["step"].tolist() == list(range(0, 61, 2))


def test_verdicts_of_every_score(result):
    assert result.scores == ("accuracy", "calibration error", "loss")
    rows = {name: [r[f"test_{name}"] for r in result.records()] for name in result.scores}
    for name in result.scores:
        (comparison,) = result.verdicts_of(name)
        assert comparison.difference == pytest.approx(np.mean(rows[name][3:]) - np.mean(rows[name][:3]), abs=1e-12)
    with pytest.raises(UserError, match="there is no score 'f1'; take one of accuracy, calibration error, loss"):
        result.verdicts_of("f1")


def test_figures(result):
    figure = result.figure("loss")
    last = [r for r in result.curves().to_dict("records") if (r["method"], r["step"]) == ("cov", 60)]
    mean = np.mean([r["test_loss"] for r in last])
    lines = [trace for trace in figure.data if trace.name == "cov" and trace.y is not None]
    assert any(abs(trace.y[-1] - mean) < 1e-9 for trace in lines)
    for name in (None, "accuracy", "train_loss", "endpoints", "differences"):
        assert result.figure(name).data
    with pytest.raises(UserError, match="there is no score 'f1'"):
        result.figure("f1")


def test_it_shows_its_table(result):
    text, html = repr(result), result._repr_html_()
    for part in ("test accuracy", "MiniBatch(b=20)", "the reference"):
        assert part in text
        assert part in html
    assert html.count("<table>") == 2
    assert "<script" not in html


def test_a_folder_is_loaded(result):
    assert repr(lab.load(result.folder)) == repr(result)
    with pytest.raises(UserError, match="holds no experiment"):
        lab.load(result.folder / "nothing")
