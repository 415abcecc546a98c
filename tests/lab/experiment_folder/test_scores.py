"""Scores: the numbers in their unit, and the margins that a recipe gives them."""

import pytest

from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.scores import ACCURACY, LOSS, Score, check_scores, with_margins

R2 = Score("r2 loss", lower_is_better=True, margin=0.02)


def test_what_is_shown_in_percent():
    shown = {name: Score(name).percent for name in ("accuracy", "top5 accuracy", "inaccuracy", "accuracy loss", "mae")}
    assert [name for name, percent in shown.items() if percent] == ["accuracy", "top5 accuracy"]


def test_percentages_have_two_decimals_and_differences_in_points():
    accuracy = Score("accuracy", margin=0.015)
    assert accuracy.mean(0.51234, 0.00126) == "51.23 ± 0.13"
    assert accuracy.mean(0.5, None) == "50.00"
    assert accuracy.difference(-0.0123, -0.02, 0.01) == "-1.23"
    assert accuracy.in_words(0.004) == "+0.40 points"
    assert accuracy.interval(-0.02, 0.015) == "-2.00 … +1.50"
    assert (accuracy.short(0.712), accuracy.within, accuracy.title) == ("71.2%", "±1.5 points", "accuracy [%]")


@pytest.mark.parametrize(
    ("value", "half_width", "text"),
    [
        (0.51234, 0.0126, "0.512 ± 0.013"),
        (0.51234, 0.0000234, "0.512340 ± 0.000023"),
        (123.456, 4.2, "123.5 ± 4.2"),
        (123456.0, 789.0, "123456 ± 789"),
        (1234567.0, 20000.0, "1.235e+06 ± 20000"),
        (1e-9, 2.5e-11, "1.000e-09 ± 2.5e-11"),
        (3e90, 1e88, "3.000e+90 ± 1.0e+88"),
        (0.0, 2e-9, "0e+00 ± 2.0e-09"),
        (0.513249, 0.0, "0.5132 ± 0"),
        (-0.513249, None, "-0.5132"),
    ],
)
def test_other_scores_have_the_digits_of_their_interval(value, half_width, text):
    assert R2.mean(value, half_width) == text


def test_differences_in_the_unit_of_the_score():
    assert R2.difference(-0.1, -0.113, -0.087) == "-0.100"
    assert R2.interval(-0.113, -0.087) == "-0.113 … -0.087"
    assert R2.interval(None, None) == "–"
    assert R2.in_words(0.1) == "+0.1"
    assert (R2.short(0.51349), R2.within, R2.title, R2.key) == ("0.513", "±0.02", "r2 loss", "test_r2 loss")
    assert LOSS.within == ""


@pytest.mark.parametrize("name", ["", " loss", "loss ", "a\nb", "a\tb", "\x1b[2J", "\ud800", "x" * 41])
def test_names_that_are_no_plain_line(name):
    with pytest.raises(ValueError, match=r"character|space"):
        Score(name)
    assert Score("x" * 40).name == "x" * 40


@pytest.mark.parametrize("margin", [0.0, -1.0, float("inf"), float("nan")])
def test_margins_that_are_none(margin):
    with pytest.raises(ValueError, match=r"the margin of mae is .*; write a positive number"):
        Score("mae", margin=margin)


def test_an_experiment_has_some_scores_of_different_names():
    assert check_scores([ACCURACY, LOSS]) == (ACCURACY, LOSS)
    for scores in ([], [LOSS, Score("loss")], [Score(f"s{i}") for i in range(41)]):
        with pytest.raises(ValueError, match="scores"):
            check_scores(scores)


def test_each_score_gets_its_own_margin():
    found = with_margins([R2, Score("mae"), LOSS], 0.1, {"mae": 3.0})
    assert [(score.name, score.margin) for score in found] == [("r2 loss", 0.1), ("mae", 3.0), ("loss", None)]
    assert found[0].lower_is_better


@pytest.mark.parametrize(
    ("scores", "margin", "margins", "message"),
    [
        ([ACCURACY, LOSS], 0.1, {"perplexity": 1.0}, "no further score 'perplexity'; take some of loss"),
        ([ACCURACY], 0.1, {"loss": 1.0}, "no further score 'loss'; leave margins out"),
        ([ACCURACY, LOSS], 0.1, {"accuracy": 0.1}, "accuracy decides, and its margin is the key margin"),
        ([ACCURACY], 1.5, {}, "^margin: accuracy lies in .0, 1.; write less than 1, such as 0.015"),
        ([LOSS, ACCURACY], 1.5, {"accuracy": 1.0}, "^margins.accuracy: accuracy lies in"),
    ],
)
def test_margins_that_fit_no_score(scores, margin, margins, message):
    with pytest.raises(UserError, match=message):
        with_margins(scores, margin, margins)
    assert with_margins([LOSS], 1.5, {})[0].margin == 1.5
