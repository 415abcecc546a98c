"""The commands that run no jobs."""

import json
import tomllib

from helpers.commands import here
from helpers.measuring import trained
from helpers.small import SMALL


def test_recipes_and_show(tmp_path, capsys):
    code, listed, _ = here(capsys, "recipes")
    assert code == 0
    assert "mnist1d " in listed
    code, shown, _ = here(capsys, "show", "mnist1d")
    assert code == 0
    tomllib.loads(shown)
    mine = tmp_path / "mine.toml"
    mine.write_text(shown)
    assert here(capsys, "show", mine) == (0, shown, "")


def test_compare_several_folders(tmp_path, fashion_mnist, capsys):
    first = trained(tmp_path / "one", SMALL, fashion_mnist)
    second = trained(tmp_path / "two", SMALL, fashion_mnist, "--set", "lr=0.2", "--methods", "sgd,bernoulli")
    names = ["one/out", "two/out"]  # both are called out
    capsys.readouterr()
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    code, said, errors = here(capsys, "compare", first, second)
    assert (code, errors) == (0, "")
    ends = {
        (folder, run["method"], run["seed"]): run["final"]["test_accuracy"]
        for folder in names
        for run in json.loads((tmp_path / folder / "results.json").read_text())["runs"]
    }
    lines = {line.split()[0]: line for line in said.splitlines() if line.startswith(tuple(names)) and "  " in line}
    assert list(lines) == [f"{names[0]}:{m}" for m in ("gd", "sgd", "bernoulli")] + [
        f"{names[1]}:{m}" for m in ("sgd", "bernoulli")
    ]
    pairs = [ends[names[1], "bernoulli", seed] - ends[names[0], "sgd", seed] for seed in (0, 1)]
    assert f" {100 * sum(pairs) / 2:+.2f} " in lines[f"{names[1]}:bernoulli"]
    assert "different learning rates" in said
    code, said, _ = here(capsys, "compare", first, second, "--reference", f"{second}:sgd")
    assert code == 0
    assert "two/out:sgd" in next(line for line in said.splitlines() if line.rstrip().endswith("the reference"))
    code, _, errors = here(capsys, "compare", first, first)
    assert (code, len(errors.splitlines())) == (2, 1)
    assert "given twice" in errors
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_compare_one_folder_with_another_reference(tmp_path, fashion_mnist, capsys):
    folder = trained(tmp_path / "one", SMALL, fashion_mnist)
    capsys.readouterr()
    code, said, _ = here(capsys, "compare", folder, "--reference", "gd")
    assert code == 0
    assert next(line for line in said.splitlines() if line.rstrip().endswith("the reference")).startswith("out:gd")
