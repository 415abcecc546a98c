"""The page of an experiment whose score is no accuracy: its sentences, axes and colours."""

import pytest

from faults.folders import finished
from helpers.scored import SCORES, TEXT, VALUES, scored
from msgd.lab.experiment_folder.results import gather_results
from msgd.lab.experiment_folder.scores import LOSS, Score
from msgd.lab.experiment_folder.tuning import Tuning, write_tuning
from msgd.lab.report.figures import curves, differences, endpoints
from msgd.lab.report.page import page, tables
from msgd.lab.report.phase_diagram import heat_map, phase_notes, phases
from msgd.lab.report.verdict import answers, notes

GRID = TEXT.replace("[methods.sgd]", "[grid]\nlr = [0.1]\nb = [20]\n[methods.sgd]")


def test_a_score_that_is_no_accuracy_is_shown_in_its_unit(tmp_path):
    scored(tmp_path)
    found = gather_results(tmp_path)
    (_, heads, body), _ = tables(found)
    assert heads[3:6] == ("test r2 loss", "difference", "95% interval")
    assert [row[3] for row in body] == ["0.505 ± 0.021", "0.405 ± 0.033"]
    assert body[1][4:6] == ("-0.100", "-0.113 … -0.087")
    assert answers(found) == ["1 method differs from sgd: cov (-0.100)."]
    said = " ".join(notes(found))
    assert "lies within ±0.02." in said
    assert "Lower r2 loss is better: a negative difference is a gain." in said
    html = page(found)
    for word in ("Test r2 loss", "difference in test r2 loss from sgd", "of which lower values are better"):
        assert word in html
    for word in ("points", "Accuracies", "test accuracy"):
        assert word not in html.replace("grid points", "").split("</script>")[-1]


def test_the_figures_are_in_the_unit_of_the_score(tmp_path):
    scored(tmp_path)
    found = gather_results(tmp_path)
    drawn = endpoints(found)
    assert list(drawn.data[0].y) == pytest.approx(VALUES["sgd"]["r2 loss"], rel=1e-15)
    assert drawn.layout.yaxis.title.text == "test r2 loss"
    drawn = differences(found)
    assert drawn.layout.xaxis.title.text == "difference in test r2 loss from sgd"
    assert drawn.data[0].x[0] == pytest.approx(-0.1)
    assert (drawn.layout.shapes[0].x0, drawn.layout.shapes[0].x1) == (-0.02, 0.02)


def test_axes_are_logarithmic_where_that_can_be(tmp_path):
    low = {"log-likelihood": [-3.0, -2.0, -1.0, -2.0], "perplexity": [10.0, 20.0, 30.0, 20.0]}
    high = {"log-likelihood": [-3.0, -2.0, -1.0, -2.0], "perplexity": [900.0, 800.0, 700.0, 900.0]}
    names = [{"name": "log-likelihood", "lower_is_better": False}, {"name": "perplexity", "lower_is_better": True}]
    scored(tmp_path, values={"sgd": low, "cov": high}, scores=names)
    found = gather_results(tmp_path)
    kinds = [curves(found, score, "test").layout.yaxis.type for score in (*found.scores, LOSS)]
    assert kinds == [None, "log", "log"]
    assert "The loss axis is logarithmic." in page(found)
    assert "The log-likelihood axis" not in page(found)


def test_a_score_that_begins_late_is_drawn_from_there(tmp_path):
    scored(tmp_path, late=["mae"])
    drawn = curves(gather_results(tmp_path), Score("mae"), "train")
    assert list(drawn.data[1].x) == [20, 30]
    assert drawn.layout.yaxis.title.text == "training mae"


@pytest.mark.parametrize("lower", [True, False])
def test_blue_is_better_and_red_is_worse(tmp_path, lower):
    """cov has the smaller value."""
    scored(tmp_path, text=GRID, scores=[SCORES[0] | {"lower_is_better": lower}])
    found = gather_results(tmp_path)
    plane = next(plane for plane in phases(found) if plane.method == "cov")
    heat = heat_map(plane, found.score, 0.1).data[0]
    colour = heat.colorscale[0][1]  # of the lowest value
    assert heat.z[0][0] == pytest.approx(-0.1)
    assert (heat.zmin, heat.zmax) == (-0.1, 0.1)
    red, _, blue = (int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))
    assert (blue > red) == lower
    said = phase_notes(found)[0]
    assert ("the difference from sgd" in said) == lower
    assert ("so a negative number is a gain" in said) == lower
    assert ("cov: difference from sgd" if lower else "cov: gain over sgd") in page(found)


def test_accuracies_are_shown_as_ever(tmp_path):
    finished(tmp_path / "out", GRID)
    html = page(gather_results(tmp_path / "out"))
    assert "Accuracies are in percent, differences in percentage points." in html
    assert "Gains are in points. Blue cells are better than the reference" in html
    assert "in points of test accuracy ± half the 95% interval" in html


def test_the_means_of_tuning(tmp_path):
    text = TEXT.replace("[methods.sgd]", "[tune]\nlr = [0.1, 0.2]\n[methods.sgd]")
    scored(tmp_path, text=text)
    means = {m: {"0.1": 0.51239, "0.2": None} for m in ("sgd", "cov")}
    write_tuning(Tuning(200, 3, means, dict.fromkeys(means, 0.1)), tmp_path)
    found = gather_results(tmp_path)
    assert found.tuning.table(found.score, "{} ←")[1] == [[m, "0.5124 ←", "diverged"] for m in ("sgd", "cov")]
    assert "The table shows the mean r2 loss on the held-out examples; ← marks" in page(found)


def test_a_reference_without_the_score(tmp_path):
    values = VALUES | {"sgd": VALUES["sgd"] | {"r2 loss": [None] * 4}}
    scored(tmp_path, values=values)
    found = gather_results(tmp_path)
    assert answers(found) == ["Nothing is compared: the reference sgd has no r2 loss."]
    assert "A run of sgd has no finite r2 loss in each of its last 10 evaluations" in " ".join(notes(found))
    assert "Test r2 loss" in page(found)
