"""Results of several folders, compared as one family."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

from helpers.made_results import made_results
from helpers.small import SMALL
from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.scores import ACCURACY, LOSS, Score
from msgd.lab.experiment_folder.several import folder_names, pool

A, B = Path("runs/a"), Path("runs/b")
OTHER_RATE = {"lr": 0.5}


def two(**settings):
    return made_results(seeds=5), made_results(seeds=4, seed=1, **{**OTHER_RATE, **settings})


def pooled(one, other, reference=None):
    return pool([A, B], [one, other], reference)


def test_every_method_is_compared_with_the_reference_of_the_first():
    one, other = two()
    found = pooled(one, other)
    assert found.copies == {}
    assert list(found.results.by_method()) == ["a:gd", "a:sgd", "a:bernoulli", "b:gd", "b:sgd", "b:bernoulli"]
    compared = {c.method: c for c in found.results.comparisons}
    assert list(compared) == ["a:gd", "a:bernoulli", "b:gd", "b:sgd", "b:bernoulli"]
    p_values = {}
    for label, c in compared.items():
        folder, method = label.split(":")
        base = one.endpoints()["sgd"]
        mine = {"a": one, "b": other}[folder].endpoints()[method]
        pairs = [(mine[seed], base[seed]) for seed in sorted(mine.keys() & base.keys())]
        assert (c.reference, c.seeds, c.margin) == ("a:sgd", {"a": 5, "b": 4}[folder], 0.1)
        assert c.difference == pytest.approx(math.fsum(x - y for x, y in pairs) / len(pairs), rel=1e-12)
        p_values[label] = stats.ttest_rel(*zip(*pairs, strict=True)).pvalue
    # Holm by hand: sorted, times the number of hypotheses left, never decreasing.
    largest = 0.0
    for rank, label in enumerate(sorted(p_values, key=p_values.get)):
        largest = max(largest, min(1.0, (5 - rank) * p_values[label]))
        assert compared[label].p_difference == pytest.approx(largest, rel=1e-9)


def test_the_first_folder_gives_score_and_margin():
    one = made_results(scores=(LOSS, ACCURACY), seeds=4, margin=0.25)
    other = made_results(scores=(ACCURACY, LOSS), seeds=4, seed=1, margin=0.125, **OTHER_RATE)
    results = pooled(one, other).results
    assert [score.name for score in results.scores] == ["loss"]
    assert {c.margin for c in results.comparisons} == {0.25}
    b = {c.method: c for c in results.comparisons}["b:gd"]
    mine, base = other.endpoints("loss")["gd"], one.endpoints("loss")["sgd"]
    assert b.difference == pytest.approx(sum(mine[s] - base[s] for s in range(4)) / 4, rel=1e-12)


@pytest.mark.parametrize(
    ("wanted", "reference"), [(None, "a:sgd"), ("gd", "a:gd"), ("a:gd", "a:gd"), ("b:sgd", "b:sgd")]
)
def test_another_reference(wanted, reference):
    results = pooled(*two(), wanted).results
    assert results.recipe.reference == reference
    assert {c.reference for c in results.comparisons} == {reference}
    assert len(results.comparisons) == 5


def test_a_copy_is_left_out_and_stands_for_the_reference():
    """A difference of zero by construction would only raise the others' p-values."""
    one, other = made_results(seeds=4), made_results(SMALL + '[methods.more]\nlaw = "bernoulli"\n', seeds=3, seed=1)
    found = pooled(one, other)
    assert found.copies == {"b:gd": "a:gd", "b:sgd": "a:sgd", "b:bernoulli": "a:bernoulli"}
    assert [c.method for c in found.results.comparisons] == ["a:gd", "a:bernoulli", "b:more"]
    assert pooled(one, other, "b:sgd").results.recipe.reference == "a:sgd"


def reverse_loss(results):
    return replace(results, scores=(replace(results.score, lower_is_better=not results.score.lower_is_better),))


#: the second folder, and what the line says
REFUSED = {
    "other content": (lambda: made_results(digest="e" * 64), "with the digest eeeeeeeeeeee"),
    "other data": (
        lambda: made_results(SMALL.replace("fashion-mnist", "fashion-mnist-60k"), digest="e"),
        "b was trained on fashion-mnist-60k, and a on fashion-mnist",
    ),
    "other score": (lambda: made_results(scores=(Score("f1"), LOSS)), "b has no score 'accuracy'"),
    "other direction": (lambda: reverse_loss(made_results()), "lower values of accuracy are better in b"),
    "a grid": (lambda: made_results(SMALL + "[grid]\nlr = [0.1]\nb = [4]\n"), "b holds a phase diagram"),
    "simulated": (object, "b holds simulated least squares"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_compared_is_refused_by_name(name):
    other, message = REFUSED[name]
    with pytest.raises(UserError) as caught:
        pooled(made_results(), other())
    assert message in str(caught.value)


def test_folders_without_a_common_seed_are_refused():
    other = made_results(seeds=4, **OTHER_RATE)
    late = replace(other, finished_runs=[done for done in other.finished_runs if done.run.seed == 3])
    with pytest.raises(UserError, match="b has no seed in common with a"):
        pooled(made_results(seeds=3), late)


def test_an_unknown_reference_is_refused():
    with pytest.raises(UserError, match="--reference adam: there is no finished run of it; take one of a:gd, a:sgd"):
        pooled(*two(), "adam")


def test_names_of_folders(tmp_path, monkeypatch):
    assert folder_names([Path("x/a"), Path("x/b")]) == ["a", "b"]
    assert folder_names([Path("x/a"), Path("y/a")]) == ["x/a", "y/a"]
    assert folder_names([Path("x/a/out"), Path("y/a/out"), Path("z")]) == ["x/a/out", "y/a/out", "z"]
    monkeypatch.chdir(tmp_path)
    assert folder_names([Path()]) == [tmp_path.name]
    assert folder_names([Path("bad\x1b[2J")]) == [r"bad\x1b[2J"]
    with pytest.raises(UserError, match="given twice"):
        folder_names([Path("a"), Path("b"), Path("x/../a")])
