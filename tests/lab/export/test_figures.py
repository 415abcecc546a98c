"""The figures show the numbers of the results."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex

from helpers.made_results import DIVERGED, made_results
from helpers.small import SMALL
from msgd.lab.experiment_folder.scores import LOSS, Score
from msgd.lab.export.drawing import content, style
from msgd.lab.export.figures import curves, differences, endpoints, figures
from msgd.lab.report.figures import COLOURS
from msgd.lab.report.means import mean_curve
from msgd.statistics.paired_tests import mean_interval

SEVEN = SMALL + "".join(f'[methods.more-{i}]\nlaw = "bernoulli"\n' for i in range(4))


@pytest.fixture(autouse=True)
def in_style():
    with style():
        yield


def lines(figure):
    return {line.get_gid() or i: line for i, line in enumerate(figure.axes[0].lines)}


def mean_of(results, method, metric):
    runs = [done.records for done in results.finished_runs if done.run.method == method]
    length = min(map(len, runs))
    return [np.mean([run[i][metric] for run in runs]) for i in range(length)]


def test_curves_are_the_means_over_seeds():
    results = made_results(diverged=[DIVERGED])
    figure = curves(results, results.score, "test", 85.0)
    drawn = lines(figure)
    assert list(drawn) == ["mean of gd", "mean of sgd", "mean of bernoulli"]
    for place, method in enumerate(("gd", "sgd", "bernoulli")):
        x, y = drawn[f"mean of {method}"].get_data()
        assert list(x) == list(range(0, 70, 10))[: 3 if method == "gd" else 7]  # up to where a run diverged
        assert y == pytest.approx([100 * v for v in mean_of(results, method, "test_accuracy")], rel=1e-12)
        assert to_hex(drawn[f"mean of {method}"].get_color()) == COLOURS[place].lower()
    assert figure.axes[0].get_ylabel() == "test accuracy [%]"
    bands = figure.axes[0].collections
    values = [done.records[6]["test_accuracy"] for done in results.finished_runs if done.run.method == "sgd"]
    _, low, high = mean_interval(values)
    corners = bands[1].get_paths()[0].vertices
    at_end = corners[corners[:, 0] == 60][:, 1]
    assert (min(at_end), max(at_end)) == pytest.approx((max(100 * low, 0), min(100 * high, 100)), rel=1e-9)


def test_the_paths_in_the_svg_are_the_curves():
    """The points of a path are an affine map of steps and means."""
    results = made_results()
    root = ET.fromstring(content(curves(results, LOSS, "train", 85.0), "svg"))
    name = "{http://www.w3.org/2000/svg}"
    paths = {
        group.get("id").removeprefix("mean of "): group.find(f"{name}path").get("d")
        for group in root.iter(f"{name}g")
        if (group.get("id") or "").startswith("mean of ")
    }
    assert list(paths) == ["gd", "sgd", "bernoulli"]
    drawn, true = [], []
    for method, path in paths.items():
        drawn += [float(y) for _, y in re.findall(r"[ML] ([\d.]+) ([\d.]+)", path)]
        true += mean_of(results, method, "train_loss")
    assert len(drawn) == len(true) == 21
    slope, start = np.polyfit(np.log(true), drawn, 1)  # the axis of a loss is logarithmic
    assert slope < 0
    assert np.abs(np.polyval([slope, start], np.log(true)) - drawn).max() < 1e-3


def test_endpoints_and_differences():
    results = made_results()
    figure = endpoints(results, 85.0)
    points = [line.get_xdata() for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [list(x) for x in points] == [
        pytest.approx([100 * v for v in by_seed.values()], rel=1e-12) for by_seed in results.endpoints().values()
    ]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["gd", "sgd", "bernoulli"]
    figure = differences(results, 85.0)
    intervals = [list(line.get_xdata()) for line in figure.axes[0].lines if len(line.get_xdata()) == 2][1:]
    first, second = results.comparisons
    wanted = [
        [100 * end for end in ends]
        for c in (first, second)
        for ends in ((c.ci_low, c.ci_high), (c.ci90_low, c.ci90_high))
    ]
    assert np.array(intervals) == pytest.approx(np.array(wanted), rel=1e-12)
    [band] = figure.axes[0].patches
    assert (band.get_x(), band.get_width()) == pytest.approx((-10, 20))  # the margin of 0.1, in points


def test_a_score_without_a_margin_has_no_band():
    bare = replace(made_results(scores=(Score("f1"),)), scores=(Score("f1"),))
    assert list(differences(bare, 85.0).axes[0].patches) == []


def test_names_of_the_figures():
    assert [name for name, _ in figures(made_results(), 85.0)] == ["curves", "train-loss", "endpoints", "differences"]
    assert [name for name, _ in figures(made_results(seeds=1), 85.0)] == ["curves", "train-loss", "endpoints"]
    nothing = made_results(diverged=[(method, 0) for method in ("gd", "sgd", "bernoulli")])
    assert [name for name, _ in figures(nothing, 85.0)] == ["curves", "train-loss"]
    grid = made_results(SMALL + "[grid]\nlr = [0.1, 0.2]\nb = [4, 8]\n")
    assert [name for name, _ in figures(grid, 85.0)] == ["phase-gd", "phase-sgd", "phase-bernoulli"]


def test_no_two_methods_look_alike():
    text = SMALL + "".join(f'[methods.more-{i}]\nlaw = "bernoulli"\n' for i in range(8))
    drawn = lines(curves(made_results(text), LOSS, "test", 85.0)).values()
    looks = {(to_hex(line.get_color()), line.get_linestyle()) for line in drawn}
    assert len(looks) == len(drawn) == 11


def test_hostile_names_of_scores():
    score = Score("$x_ <b>&</b> 中", lower_is_better=True)
    for _, figure in figures(made_results(SEVEN, scores=(score,)), 85.0):
        for form in ("svg", "pdf", "png"):
            assert content(figure, form)
    svg = content(curves(made_results(scores=(score,)), score, "test", 85.0), "svg").decode()
    assert "test $x_ &lt;b&gt;&amp;&lt;/b&gt; 中" in svg


def test_steps_without_the_metric_are_left_out():
    results = made_results(seeds=2)
    done = results.by_method()["sgd"]
    del done[0].records[0]["test_accuracy"]
    done[1].records[3]["test_accuracy"] = None
    assert [step for step, *_ in mean_curve(done, "test_accuracy")] == [10, 20, 40, 50, 60]
