"""LaTeX that compiles whatever it says."""

import random

import pytest

from helpers.latex import check_text, read_tables
from msgd.lab.export.latex import cell, escape, table

HOSTILE = [
    r"\input{/etc/passwd}",
    r"\end{table}\immediate\write18{rm}",
    "100% & more_ #1 $x^2$ ~ {a} }{",
    "minus − en – em — “quotes” ± ∞ α…",
    "a--b '' ,, `` ?` !`",
    "中文 🎲 é ñ Å ç š ī ø ß",
    "[1] *",
    "trailing backslash \\",
    "line\nbreak\tand\x00null",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_only_text(text):
    check_text(escape(text))
    check_text(cell(text))


def test_the_checker_itself_refuses():
    for bad in (r"\input{x}", "50%", "a_b", "{", "}", "$x", "é", "a & b", "x^2"):
        with pytest.raises(AssertionError):
            check_text(bad)


def test_any_text_is_only_text():
    rng = random.Random(0)
    letters = "\\{}$&#%_~^<>|`\"'[]*-,?!ab1 −–…±é中\u0301"
    for _ in range(2000):
        check_text(escape("".join(rng.choices(letters, k=12))))


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("-0.40", "$-0.40$"),
        ("44.66 ± 1.52", r"$44.66 \pm 1.52$"),
        ("-1.34 … +0.55", "$[-1.34, +0.55]$"),
        ("+1.2 ± 0.3*", r"$+1.2 \pm 0.3${*}"),
        ("1.2e-05 ± 3e+07", r"$1.2 \times 10^{-5} \pm 3 \times 10^{7}$"),
        ("∞", r"$\infty$"),
        ("–", "--"),
        ("<0.0001", r"\textless{}0.0001"),
        ("sgd-again", "sgd-again"),
        ("a--b", "a-{}-b"),
        ("é", r"\'{e}"),
        ("ī", r"\={\i}"),
        ("中", "U+4E2D"),
        ("", ""),
    ],
)
def test_cells(text, latex):
    assert cell(text) == latex


def test_a_table_has_a_cell_for_each_column():
    source = table(["method", "50% _x"], [["a&b", "1.5"], ["[2]", "-1 … +1"]], caption="A & B", label="x")
    assert read_tables(source) == [
        (r"A \& B", "tab:x", [["method", r"50\% \_x"], [r"a\&b", "$1.5$"], ["{[}2{]}", "$[-1, +1]$"]])
    ]
    assert r"\begin{tabular}{lr}" in source
