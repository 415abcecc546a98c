"""`msgd export` on folders that msgd run wrote."""

import csv
import json
import os
import shutil
import xml.etree.ElementTree as ET

import pytest

from helpers.commands import fresh_msgd, here
from helpers.latex import read_tables
from helpers.measuring import trained
from helpers.small import LEAST_SQUARES, SMALL

FIGURES = ["curves", "train-loss", "endpoints", "differences"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, fashion_mnist):
    return trained(tmp_path_factory.mktemp("training"), SMALL.replace("steps = 60", "steps = 20"), fashion_mnist)


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "out")


@pytest.fixture
def simulated(tmp_path, capsys):
    recipe = tmp_path / "ls.toml"
    recipe.write_text(LEAST_SQUARES)
    assert here(capsys, "run", recipe, "--out", tmp_path / "ls", "--jobs", 1)[0] == 0
    return tmp_path / "ls"


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_csv_is_results_json(copy, capsys):
    before = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    code, said, errors = here(capsys, "export", copy, "--to", "csv")
    assert (code, errors) == (0, "")
    assert said.split() == [str(copy / "export" / f"{name}.csv") for name in ("runs", "curves", "verdicts")]
    assert {p: p.read_bytes() for p in before} == before
    stored = json.loads((copy / "results.json").read_text())
    for row, run in zip(read(copy / "export" / "runs.csv"), stored["runs"], strict=True):
        assert (row["method"], int(row["seed"]), int(row["steps"])) == (run["method"], run["seed"], run["steps"])
        assert float(row["seconds"]) == run["seconds"]
        assert {key: float(row[key]) for key in run["final"]} == run["final"]  # bitwise
    verdicts = {row["method"]: row for row in read(copy / "export" / "verdicts.csv") if row["score"] == "accuracy"}
    for verdict in stored["verdicts"]:
        row = verdicts[verdict["method"]]
        for key in ("difference", "ci_low", "ci_high", "ci90_low", "ci90_high", "margin", "p_difference"):
            assert float(row[key]) == verdict[key]
        assert row["verdict"] == verdict["verdict"]
    lines = (copy / "sgd" / "seed-1" / "metrics.jsonl").read_text().splitlines()
    curve = [row for row in read(copy / "export" / "curves.csv") if (row["method"], row["seed"]) == ("sgd", "1")]
    assert [float(row["train_loss"]) for row in curve] == [json.loads(line)["train_loss"] for line in lines]


def test_the_other_formats(copy, tmp_path, capsys):
    assert here(capsys, "export", copy, "--to", "latex", "--score", "loss")[0] == 0
    [(caption, _, [heads, *rows])] = read_tables((copy / "export" / "verdicts.tex").read_text())
    assert "test loss" in heads
    assert "Lower values of loss are better" in caption
    assert [row[0] for row in rows] == ["gd", "sgd", "bernoulli"]
    for form, start in (("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG")):
        code, said, errors = here(capsys, "export", copy, "--to", form, "--width", 120, "--out", tmp_path / "figures")
        assert (code, errors) == (0, "")
        paths = [tmp_path / "figures" / f"{name}.{form}" for name in FIGURES]
        assert said.split() == list(map(str, paths))
        assert all(path.read_bytes().startswith(start) for path in paths)
    width = ET.parse(tmp_path / "figures" / "curves.svg").getroot().get("width")
    assert float(width.removesuffix("pt")) == pytest.approx(120 / 25.4 * 72, abs=1e-3)
    pytest.importorskip("pyarrow")
    assert here(capsys, "export", copy, "--to", "parquet")[0] == 0
    assert (copy / "export" / "runs.parquet").read_bytes().startswith(b"PAR1")


def test_the_same_files_in_a_fresh_process(copy, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MPLBACKEND", "no such backend")  # as a notebook leaves it
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    done = fresh_msgd("export", copy, "--to", "pdf", "--out", tmp_path / "one")
    assert (done.returncode, done.stderr) == (0, "")
    monkeypatch.delenv("MPLBACKEND")
    assert here(capsys, "export", copy, "--to", "pdf", "--out", tmp_path / "two")[0] == 0
    for name in FIGURES:
        one, two = ((tmp_path / folder / f"{name}.pdf").read_bytes() for folder in ("one", "two"))
        assert one == two


def test_simulated_least_squares(simulated, capsys):
    for form in ("csv", "latex"):
        assert here(capsys, "export", simulated, "--to", form)[0] == 0
    rows = read(simulated / "export" / "verdicts.csv")
    assert [row["method"] for row in rows] == ["sgd", "cov"]
    [(_, _, [heads, *body])] = read_tables((simulated / "export" / "verdicts.tex").read_text())
    assert heads[0] == "method"
    assert [row[0] for row in body] == ["sgd", "cov"]
    for options, message in ((["svg"], "msgd report draws"), (["csv", "--score", "x"], "leave --score out")):
        code, _, errors = here(capsys, "export", simulated, "--to", *options)
        assert code == 2
        assert message in errors
        assert len(errors.splitlines()) == 1


#: the options, and what the line says
BAD = {
    "format": (["--to", "xlsx"], "take one of csv, parquet, latex, svg, pdf, png"),
    "narrow": (["--to", "svg", "--width", "3"], "from 60 to 400"),
    "wide": (["--to", "svg", "--width", "1e9"], "from 60 to 400"),
    "no number": (["--to", "svg", "--width", "nan"], "from 60 to 400"),
    "width of a table": (["--to", "csv", "--width", "85"], "csv has no width"),
    "unknown score": (["--to", "png", "--score", "f1"], "take one of accuracy, "),
    "score of csv": (["--to", "csv", "--score", "loss"], "hold every score"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_options_are_one_line_and_write_nothing(copy, capsys, name):
    options, message = BAD[name]
    code, said, errors = here(capsys, "export", copy, *options)
    assert (code, said) == (2, "")
    assert message in errors
    assert len(errors.splitlines()) == 1
    assert not (copy / "export").exists()


def test_bad_folders_are_one_line(copy, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("mine")
    outside = tmp_path / "outside"
    outside.mkdir()
    for where, message in (
        (file, "is a file, not a folder"),
        (file / "deeper", "lies in a file"),
        (copy, "holds an experiment"),
    ):
        code, _, errors = here(capsys, "export", copy, "--to", "csv", "--out", where)
        assert (code, len(errors.splitlines())) == (2, 1)
        assert message in errors
    (copy / "export").symlink_to(outside)
    code, _, errors = here(capsys, "export", copy, "--to", "csv")
    assert code == 2
    assert "is a link" in errors
    assert list(outside.iterdir()) == []
    assert file.read_text() == "mine"
    code, _, errors = here(capsys, "export", tmp_path, "--to", "csv")
    assert code == 2
    assert "holds no experiment" in errors


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only_is_one_line(copy, tmp_path, capsys):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    code, _, errors = here(capsys, "export", copy, "--to", "csv", "--out", locked / "files")
    assert (code, len(errors.splitlines())) == (2, 1)
    assert "you may not use this folder" in errors
