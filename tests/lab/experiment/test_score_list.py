"""The scores of an experiment and their directions."""

import pytest

from msgd.lab.errors import UserError
from msgd.lab.experiment.score_list import list_scores
from msgd.lab.tasks.task import Task


def test_the_loss_is_last_and_lower_is_better():
    scores = list_scores(["accuracy", "calibration error"], None, averaged=False)
    assert [(score.name, score.lower_is_better) for score in scores] == [
        ("accuracy", False),
        ("calibration error", True),
        ("loss", True),
    ]


def test_own_directions_and_averages():
    scores = list_scores(["mae", "r2"], Task(lower_is_better=["mae"]), averaged=True)
    assert [(score.name, score.lower_is_better) for score in scores] == [
        ("mae", True),
        ("r2", False),
        ("loss", True),
        ("averaged mae", True),
        ("averaged r2", False),
        ("averaged loss", True),
    ]
    assert [score.name for score in list_scores(["loss"], None, averaged=False)] == ["loss"]


def test_a_direction_of_no_score():
    with pytest.raises(UserError, match="LOWER_IS_BETTER: there is no score 'mse'; take some of mae, loss"):
        list_scores(["mae"], Task(lower_is_better=["mse"]), averaged=False)
