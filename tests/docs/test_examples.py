"""In each example three lines add the noise: without them it is the plain script, and runs."""

import ast
import re
from pathlib import Path

import pytest

from docs.test_readme import SHOWS, TOLERATED
from helpers.commands import script

EXAMPLES = Path(__file__).parents[2] / "examples"
NOISY = sorted(path.name for path in EXAMPLES.glob("*.py") if "Reweight" in path.read_text())
#: what is left out in the plain script, apart from `reweight.outputs` around the outputs
ADDED = re.compile(
    r"from msgd|\s+reweight = |\s+AcceleratedReweighter\(.*\)\.attach\(|\s+callbacks=\[ReweightCallback\(.*\)\],$"
)
GATE = "reweight.outputs("


def without_gate(line):
    """The line with ``x`` in place of ``reweight.outputs(x)``."""
    before, gate, rest = line.partition(GATE)
    if not gate:
        return line
    depth, end = 1, -1
    while depth:
        end += 1
        depth += {"(": 1, ")": -1}.get(rest[end], 0)
    return before + rest[:end] + rest[end + 1 :]


def plain(source):
    """The script without noise, and the number of its lines that differ."""
    lines = source.splitlines()
    kept = [without_gate(line) for line in lines if not ADDED.match(line)]
    changed = len(lines) - len(kept) + sum(line not in lines for line in kept)
    return "\n".join(kept) + "\n", changed


def names(source):
    """All names in a script: of variables, attributes, arguments and modules."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        for field in ("id", "attr", "arg", "name", "module"):
            if isinstance(value := getattr(node, field, None), str):
                found.add(value.split(".")[0])
    return found


def test_the_examples_with_noise():
    assert len(NOISY) == len(SHOWS) - 2  # least_squares.py and probe.py train without


@pytest.mark.parametrize("name", NOISY)
def test_three_lines_add_the_noise(name, tmp_path):
    source, changed = plain((EXAMPLES / name).read_text())
    assert changed <= 3
    assert not names(source) & {"msgd", "noise", "reweight", "Reweighter", "ReweightCallback", "AcceleratedReweighter"}
    assert "reweight" not in source
    (tmp_path / name).write_text(source)
    done = script(tmp_path / name, 1, ignore=TOLERATED)
    assert done.returncode == 0, done.stderr
    assert SHOWS[name] in done.stdout
