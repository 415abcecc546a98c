"""The LaTeX table has the numbers of the results."""

import re

from helpers.latex import read_tables
from helpers.made_results import DIVERGED, made_results
from helpers.small import SMALL
from msgd.lab.experiment_folder.scores import Score
from msgd.lab.export.verdict_table import latex_tables, latex_verdicts
from msgd.statistics.paired_tests import mean_interval


def numbers(cell):
    return [float(found) for found in re.findall(r"[+-]?\d+\.\d+", cell)]


def test_cells_equal_the_results():
    results = made_results(diverged=[DIVERGED])
    [(caption, label, [heads, *rows])] = read_tables(latex_verdicts(results))
    assert label == "tab:verdicts"
    assert heads[0] == "method"
    assert heads[2:] == [r"test accuracy {[}\%{]}", r"difference {[}points{]}", r"95\% interval", "verdict"]
    by_method = {row[0]: row[1:] for row in rows}
    [c] = results.comparisons
    assert c.method == "bernoulli"
    mean, low, high = mean_interval(list(results.endpoints()["bernoulli"].values()))
    _, shown, difference, interval, verdict = by_method["bernoulli"]
    assert numbers(shown) == [round(100 * mean, 2), round(50 * (high - low), 2)]
    assert numbers(difference) == [round(100 * c.difference, 2)]
    assert numbers(interval) == [round(100 * c.ci_low, 2), round(100 * c.ci_high, 2)]
    assert verdict == c.verdict
    assert by_method["sgd"][-3:] == ["", "", "the reference"]
    assert by_method["gd"][1:] == ["--", "", "", "1 of 3 diverged"]
    for fact in ("fashion-mnist with 40 training examples", "3 seeds, 60 steps, learning rate 0.05", r"$\pm$10 points"):
        assert fact in caption
    assert "its last 6 evaluations, on average" in caption


def test_hostile_names_of_scores():
    score = Score(r"50% _of_ \input{x} & $y$ #1 − –", lower_is_better=True)
    [(caption, _, [heads, *rows])] = read_tables(latex_verdicts(made_results(scores=(score,))))
    assert len(rows) == 3
    assert r"50\% \_of\_ \textbackslash{}input\{x\} \& \$y\$ \#1 $-$ --" in heads[2]
    assert "Lower values of" in caption


def test_rates_and_steps_take_a_column_where_they_differ():
    results = made_results(**{"methods.gd.lr": 0.5, "methods.gd.steps": 90})
    [(caption, _, [heads, *rows])] = read_tables(latex_verdicts(results))
    assert heads[2:4] == ["lr", "steps"]
    assert [row[2:4] for row in rows] == [["$0.5$", "$90$"], ["$0.05$", "$60$"], ["$0.05$", "$60$"]]
    assert "60 to 90 steps" in caption
    assert "learning rate 0" not in caption


def test_a_phase_diagram_has_a_table_for_each_method():
    tables = read_tables(latex_verdicts(made_results(SMALL + "[grid]\nlr = [0.1, 0.2]\nb = [4, 8]\n")))
    assert [label for _, label, _ in tables] == ["tab:phase-gd", "tab:phase-sgd", "tab:phase-bernoulli"]
    for _, _, (heads, *rows) in tables:
        assert heads == ["b", "lr 0.1", "lr 0.2"]
        assert len(rows) in (1, 2)


def test_tables_of_another_kind():
    source = latex_tables([(None, ["method", "z"], [["sgd", "-1.5"]]), ("More_", ["law"], [["Cov(b=4)"]])], "100%")
    assert [(caption, label) for caption, label, _ in read_tables(source)] == [
        (r"100\%.", "tab:table-1"),
        (r"100\%: More\_.", "tab:table-2"),
    ]
