"""The tables of the scores that do not decide."""

import pytest

from helpers.scored import SCORES, TEXT, VALUES, scored
from msgd.lab.experiment_folder.results import gather_results
from msgd.lab.report.other_scores import other_notes, other_tables

MARGINS = TEXT.replace("reference =", "margins = {mae = 0.3}\nreference =")


def test_each_method_has_its_mean_and_verdict(tmp_path):
    """The half widths of the 95% intervals are t(3) = 3.1824 times the standard errors."""
    scored(tmp_path, text=MARGINS)
    ((title, heads, body),) = other_tables(gather_results(tmp_path))
    assert title == "Other scores"
    assert heads == ("method", "test mae", "verdict", "test top accuracy", "verdict")
    assert body == [
        ("sgd", "12.10 ± 0.34", "the reference", "90.00 ± 1.30", "the reference"),
        ("cov", "12.13 ± 0.20", "equivalent", "89.75 ± 0.80", "inconclusive"),
    ]


def test_the_conditions_are_said(tmp_path):
    scored(tmp_path, text=MARGINS)
    (said,) = other_notes(gather_results(tmp_path))
    assert "Equivalence is tested for mae (within ±0.3)." in said
    assert "No equivalence is tested for top accuracy: the recipe's margins name none." in said
    assert "Lower values of mae are better." in said


def test_tables_are_at_most_80_characters_wide(tmp_path):
    names = [f"a score with a long name, number {i}" for i in range(5)]
    values = {m: {"mae": by["mae"]} | dict.fromkeys(names, by["mae"]) for m, by in VALUES.items()}
    scored(tmp_path, values=values, scores=[{"name": n, "lower_is_better": True} for n in ("mae", *names)])
    found = other_tables(gather_results(tmp_path))
    assert [heads[1::2] for _, heads, _ in found] == [(f"test {name}",) for name in names]
    short = [f"s{i}" for i in range(5)]
    values = {m: {"mae": by["mae"]} | dict.fromkeys(short, by["mae"]) for m, by in VALUES.items()}
    scored(tmp_path / "b", values=values, scores=[{"name": n, "lower_is_better": True} for n in ("mae", *short)])
    found = other_tables(gather_results(tmp_path / "b"))
    assert [len(heads) for _, heads, _ in found] == [5, 5, 3]
    assert [title for title, _, _ in found] == ["Other scores", *["Other scores, continued"] * 2]
    for _, heads, body in found:
        widths = [max(map(len, column)) for column in zip(heads, *body, strict=True)]
        assert sum(widths) + 2 * (len(widths) - 1) <= 80


@pytest.mark.parametrize("grid", ["", "[grid]\nlr = [0.1]\nb = [20]\n"], ids=["one score", "grid"])
def test_where_there_is_no_such_table(tmp_path, grid):
    text = TEXT.replace("[methods.sgd]", f"{grid}[methods.sgd]")
    scored(tmp_path, text=text, scores=SCORES if grid else SCORES[:1])
    found = gather_results(tmp_path)
    assert (other_tables(found), other_notes(found)) == ([], [])
