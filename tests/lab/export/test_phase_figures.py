"""The map of a phase diagram shows the differences of the results."""

import numpy as np
import pytest

from helpers.made_results import made_results
from helpers.small import SMALL
from msgd.lab.export.drawing import style
from msgd.lab.export.phase_figures import phase_figures

GRID = SMALL + "[grid]\nlr = [0.1, 0.2]\nb = [4, 8]\n"


def maps(results):
    with style():
        return dict(phase_figures(results, 85.0))


def test_cells_are_the_differences():
    results = made_results(GRID)
    found = maps(results)
    compared = {c.method: 100 * c.difference for c in results.comparisons}
    axes = found["phase-bernoulli"].axes[0]
    wanted = [[compared[f"bernoulli+lr{lr}+b{b}"] for lr in ("0p1", "0p2")] for b in (4, 8)]
    assert np.asarray(axes.images[0].get_array()) == pytest.approx(np.array(wanted), rel=1e-12)
    assert [text.get_text() for text in axes.texts] == [f"{value:+.1f}" for row in wanted for value in row]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.1", "0.2"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["4", "8"]
    low, high = axes.images[0].get_clim()
    assert -low == high == pytest.approx(max([*compared.values(), 0]) or 1.0)


def test_the_reference_shows_its_means():
    results = made_results(GRID)
    means = {name: 100 * sum(by_seed.values()) / 3 for name, by_seed in results.endpoints().items()}
    axes = maps(results)["phase-sgd"].axes[0]
    assert axes.images[0].get_array()[1, 0] == pytest.approx(means["sgd+lr0p1+b8"], rel=1e-12)


def test_a_cell_that_diverged_says_so():
    axes = maps(made_results(GRID, diverged=[("bernoulli+lr0p2+b4", 0)]))["phase-bernoulli"].axes[0]
    assert [text.get_text() == "div." for text in axes.texts] == [False, True, False, False]


def test_numbers_that_do_not_fit_are_left_to_the_colours():
    rates = ", ".join(f"0.{i}" for i in range(1, 10))
    text = SMALL + f"[grid]\nlr = [{rates}]\nb = [4]\n"
    axes = maps(made_results(text, diverged=[("bernoulli+lr0p2+b4", 0)]))["phase-bernoulli"].axes[0]
    assert [text.get_text() for text in axes.texts] == ["", "×", *[""] * 7]
    assert np.isfinite(np.ma.filled(axes.images[0].get_array(), np.nan)).sum() == 8
    assert {label.get_rotation() for label in axes.get_xticklabels()} == {90}
