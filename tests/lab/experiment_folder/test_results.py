"""Results by scores of any unit: against SciPy's own tests, in folders that a user's task would leave."""

import json

import pytest
from scipy import stats

from faults.folders import finished
from helpers.scored import SCORES, TEXT, VALUES, scored
from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.results import gather_results
from msgd.lab.experiment_folder.scores import Score

MARGINS = TEXT.replace("reference =", "margins = {mae = 0.3}\nreference =")


def test_the_first_score_decides_and_each_has_its_own_tests(tmp_path):
    scored(tmp_path, text=MARGINS)
    found = gather_results(tmp_path)
    assert found.scores == (
        Score("r2 loss", lower_is_better=True, margin=0.02),
        Score("mae", lower_is_better=True, margin=0.3),
        Score("top accuracy"),
    )
    for score in found.scores:
        mine, theirs = (VALUES[method][score.name] for method in ("cov", "sgd"))
        assert found.endpoints(score.name)["cov"] == pytest.approx(dict(enumerate(mine)), rel=1e-15)
        (c,) = found.comparisons_of(score.name)
        assert c.p_difference == pytest.approx(stats.ttest_rel(mine, theirs).pvalue, rel=1e-9)
        assert c.margin == score.margin
        assert (c.p_equivalence is None) == (score.margin is None)
    assert found.endpoints() == found.endpoints("r2 loss")
    assert [c.verdict for c in found.comparisons] == ["different"]
    assert [found.comparisons_of(name)[0].verdict for name in ("mae", "top accuracy")] == ["equivalent", "inconclusive"]


def test_what_the_file_says_of_the_scores(tmp_path):
    scored(tmp_path, text=MARGINS)
    found = gather_results(tmp_path)
    table = json.loads(json.dumps(found.as_json(), allow_nan=False))
    margins = [0.02, 0.3, None]
    assert table["scores"] == [score | {"margin": m} for score, m in zip(SCORES, margins, strict=True)]
    assert list(table["verdicts_by_score"]) == ["mae", "top accuracy"]
    assert table["verdicts"][0]["difference"] == pytest.approx(-0.1)
    assert table["verdicts_by_score"]["mae"][0]["difference"] == pytest.approx(0.025)
    assert table["runs"][0]["final"]["test_mae"] == 12.0


def test_holm_adjusts_over_the_methods_of_one_score(tmp_path):
    text = MARGINS + '[methods.fisher]\nlaw = "fisher"\n'
    values = VALUES | {"fisher": VALUES["cov"] | {"mae": VALUES["sgd"]["mae"]}}
    scored(tmp_path, text=text, values=values)
    found = gather_results(tmp_path)
    for c in found.comparisons:  # both differ alike
        assert c.p_difference == pytest.approx(2 * c.p_unadjusted, rel=1e-12)
    mae = {c.method: c for c in found.comparisons_of("mae")}
    assert mae["cov"].p_difference == pytest.approx(min(1, 2 * mae["cov"].p_unadjusted), rel=1e-12)
    assert mae["fisher"].p_difference == 1


def test_a_method_without_the_score_is_left_out_for_it(tmp_path):
    values = VALUES | {"cov": VALUES["cov"] | {"mae": [12.0, 12.0, None, 12.0]}}
    scored(tmp_path, values=values)
    found = gather_results(tmp_path)
    assert set(found.endpoints("mae")) == {"sgd"}
    assert found.comparisons_of("mae") == []
    assert set(found.endpoints()) == {"sgd", "cov"}
    assert "test_mae" not in found.by_method()["cov"][2].final


def test_a_score_that_begins_late_is_no_endpoint(tmp_path):
    """There are three evaluations, all of which make the endpoint."""
    scored(tmp_path, late=["top accuracy"])
    found = gather_results(tmp_path)
    assert found.endpoints("top accuracy") == {}
    assert set(found.endpoints("mae")) == {"sgd", "cov"}


def test_a_folder_of_an_earlier_version_has_accuracy_and_loss(tmp_path):
    finished(tmp_path / "out")
    found = gather_results(tmp_path / "out")
    assert [(s.name, s.lower_is_better, s.margin) for s in found.scores] == [
        ("accuracy", False, 0.05),
        ("loss", True, None),
    ]
    for name in ("accuracy", "loss"):
        ends = {m: {d.run.seed: d.final[f"test_{name}"] for d in done} for m, done in found.by_method().items()}
        assert found.endpoints(name) == ends


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MARGINS.replace("mae =", "rmse ="), "margins: there is no further score 'rmse'; take some of mae, top acc"),
        (MARGINS.replace("mae =", "'top accuracy' ="), None),
        (MARGINS.replace("mae = 0.3", "'top accuracy' = 3.0"), "margins.top accuracy: .* write less than 1"),
        (TEXT.replace("margin = 0.02", "margin = 20.0"), None),
    ],
)
def test_margins_of_the_recipe(tmp_path, text, message):
    scored(tmp_path, text=text)
    if message is None:
        gather_results(tmp_path)
    else:
        with pytest.raises(UserError, match=message):
            gather_results(tmp_path)


def test_an_accuracy_has_a_margin_below_1(tmp_path):
    finished(tmp_path / "out", TEXT.replace("margin = 0.02", "margin = 20.0"))
    with pytest.raises(UserError, match=r"margin: accuracy lies in \[0, 1\]; write less than 1"):
        gather_results(tmp_path / "out")
