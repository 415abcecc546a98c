"""The real command in processes of its own: results, resumption after kills, and bad input."""

import json
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.commands import fresh_msgd, here, msgd
from helpers.outcomes import outcome
from helpers.small import SMALL, write_fashion_mnist
from msgd.cli.app import app
from msgd.lab.errors import LABORATORY, missing_package
from msgd.lab.safe_io.lock import lock_folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory, fashion_mnist):
    """One finished experiment; tests copy it before they harm it."""
    folder = tmp_path_factory.mktemp("finished")
    recipe = folder / "small.toml"
    recipe.write_text(SMALL)
    done = msgd("run", recipe, "--out", folder / "out", "--data-dir", fashion_mnist, "--jobs", 1)
    assert (done.returncode, done.stderr) == (0, "")
    return recipe, folder / "out", done


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(finished[1], tmp_path / "out")
    return tmp_path / "out"


def test_results_json(finished):
    _, out, _ = finished
    results = json.loads((out / "results.json").read_text())
    assert results["recipe"] == "small"
    assert results["config"]["lr"] == 0.05
    assert {"torch", "numpy", "python", "cpu", "command", "commit"} <= set(results["environment"])
    assert [(run["method"], run["seed"]) for run in results["runs"]] == [
        (method, seed) for method in ("gd", "sgd", "bernoulli") for seed in (0, 1)
    ]
    for run in results["runs"]:
        assert run["steps"] == 60
        assert run["seconds"] > 0
        scores = ("accuracy", "calibration error", "loss")
        assert set(run["final"]) == {f"{split}_{score}" for split in ("test", "train") for score in scores}
        assert 0 <= run["final"]["test_accuracy"] <= 1
    assert [v["method"] for v in results["verdicts"]] == ["gd", "bernoulli"]
    keys = {"method", "reference", "difference", "ci_low", "ci_high", "margin", "p_difference", "p_equivalence"}
    assert all(keys | {"verdict"} <= set(verdict) for verdict in results["verdicts"])


def test_the_folder_of_a_run(finished):
    folder = finished[1] / "sgd" / "seed-1"
    assert {p.name for p in folder.iterdir()} == {
        ".lock",
        "checkpoint.safetensors",
        "config.toml",
        "environment.json",
        "metrics.jsonl",
    }
    config = tomllib.loads((folder / "config.toml").read_text())
    assert config["law"] == "MiniBatch(b=8, replacement=False)"  # in full: it identifies the run
    assert config["seed"] == 1
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 10, 20, 30, 40, 50, 60]


def test_what_the_terminal_says(finished, capsys):
    _, out, done = finished
    assert "Small" in done.stdout
    assert "3 methods × 2 seeds, 60 steps each" in done.stdout
    assert "the reference" in done.stdout
    assert f"Report: {out / 'report.html'}" in done.stdout
    assert "learning rate 0.05" in done.stdout
    code, again, _ = here(capsys, "compare", out)
    assert code == 0
    assert again.strip() in done.stdout


def test_running_again_trains_nothing_and_report_makes_it_anew(finished, copy, fashion_mnist, capsys):
    recipe, _, _ = finished
    before = outcome(copy)
    command = json.loads((copy / "results.json").read_text())["environment"]["command"]
    stamps = {p: p.stat().st_mtime_ns for p in copy.glob("*/seed-*/*") if p.name != ".lock"}
    code, said, _ = here(capsys, "run", recipe, "--out", copy, "--data-dir", fashion_mnist)
    assert code == 0
    assert "6 of 6 runs are finished already" in said
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    assert json.loads((copy / "results.json").read_text())["environment"]["command"] == command
    (copy / "results.json").unlink()
    (copy / "report.html").unlink()
    assert here(capsys, "report", copy)[0] == 0
    assert outcome(copy) == before
    assert (copy / "report.html").exists()


def test_more_seeds_and_fewer_methods(finished, copy, fashion_mnist):
    recipe, _, _ = finished
    done = msgd(
        "run", recipe, "--out", copy, "--data-dir", fashion_mnist, "--seeds", 3, "--methods", "sgd,gd", "--jobs", 1
    )
    assert done.returncode == 0, done.stderr
    assert "4 of 6 runs are finished already" in done.stdout
    results = json.loads((copy / "results.json").read_text())
    assert {(r["method"], r["seed"]) for r in results["runs"]} == {(m, s) for m in ("gd", "sgd") for s in range(3)}
    assert (copy / "bernoulli" / "seed-0" / "metrics.jsonl").exists()  # left alone
    assert "The folder also holds 2 finished runs of other methods or seeds" in done.stdout
    assert "--seeds 3" in results["environment"]["command"]


def test_two_commands_on_one_folder(finished, copy, fashion_mnist, capsys):
    with lock_folder(copy):
        code, _, errors = here(capsys, "run", finished[0], "--out", copy, "--data-dir", fashion_mnist)
    assert code == 2
    assert "another msgd process is using" in errors


def flip_a_bit_of_a_checkpoint(out):
    checkpoint = out / "gd" / "seed-0" / "checkpoint.safetensors"
    content = bytearray(checkpoint.read_bytes())
    content[-7] ^= 1
    checkpoint.write_bytes(content)


def cut_a_checkpoint_short(out):
    checkpoint = out / "gd" / "seed-0" / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-9])


def scribble_over_metrics(out):
    metrics = out / "gd" / "seed-0" / "metrics.jsonl"
    lines = metrics.read_text().splitlines()
    metrics.write_text("\n".join([*lines[:2], "scribble", *lines[3:]]) + "\n")


@pytest.fixture
def places(finished, copy, fashion_mnist, tmp_path):
    """What the bad inputs below name: the run of a finished experiment, its folder, and files that do not fit."""
    broken, file = tmp_path / "broken", tmp_path / "file"
    write_fashion_mnist(broken)
    images = broken / "t10k-images-idx3-ubyte.gz"
    images.write_bytes(images.read_bytes()[:-100])
    file.write_text("")
    run = ["run", finished[0], "--data-dir", fashion_mnist, "--out", copy]
    return SimpleNamespace(run=run, out=copy, broken=broken, file=file, empty=tmp_path)


#: name → the arguments, what is damaged before, what the line says
BAD_INPUTS = {
    "unknown recipe": (lambda _: ["run", "mnist2d"], None, "take one of"),
    "unknown key": (
        lambda at: [*at.run, "--set", "learning_rate=1"],
        None,
        "unknown key 'learning_rate'; allowed are",
    ),
    "wrong type": (lambda at: [*at.run, "--set", "lr=fast"], None, "lr: "),
    "mini-batch larger than n": (lambda at: [*at.run, "--set", "b=41"], None, "use b ≤ n"),
    "missing data folder": (lambda at: [*at.run[:2], "--data-dir", at.empty / "no"], None, "does not exist"),
    "truncated IDX": (
        lambda at: [*at.run[:2], "--data-dir", at.broken, "--out", at.out],
        None,
        "fetch it again",
    ),
    "unwritable out": (lambda at: [*at.run[:-1], at.file / "out"], None, "is a file, not a folder"),
    "corrupt checkpoint": (lambda at: at.run, flip_a_bit_of_a_checkpoint, "wrong checksum"),
    "truncated checkpoint": (lambda at: at.run, cut_a_checkpoint_short, "is damaged"),
    "damaged metrics": (lambda at: at.run, scribble_over_metrics, "metrics.jsonl is damaged"),
    "damaged metrics in a report": (
        lambda at: ["report", at.out],
        scribble_over_metrics,
        "metrics.jsonl is damaged",
    ),
    "seeds 0": (lambda at: [*at.run, "--seeds", 0], None, "seeds: "),
    "steps 0": (lambda at: [*at.run, "--steps", 0], None, "steps: "),
    "other settings": (lambda at: [*at.run, "--set", "lr=0.2"], None, "give --out another folder"),
    "unknown method": (lambda at: [*at.run, "--methods", "adam"], None, "no method 'adam'"),
    "unknown device": (lambda at: [*at.run, "--device", "tpu"], None, "auto, cpu or cuda"),
    "malformed set": (lambda at: [*at.run, "--set", "lr"], None, "--set key=value"),
    "no experiment": (lambda at: ["compare", at.empty], None, "holds no experiment"),
    "wrong model": (lambda at: [*at.run, "--set", "model=resnet"], None, "take one of mlp, conv-small"),
    "jobs 0": (lambda at: [*at.run, "--jobs", 0], None, "jobs"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input_is_one_line_and_loses_nothing(places, copy, capsys, name):
    arguments, harm, message = BAD_INPUTS[name]
    if harm:
        harm(copy)
    before = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    code, _, errors = here(capsys, *arguments(places))
    assert code == 2, errors
    assert message in errors
    if name != "jobs 0":  # the option parser shows the usage as well
        assert len(errors.splitlines()) == 1
        assert errors.startswith("msgd: ")
    assert {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()} == before


def test_bad_input_in_a_fresh_interpreter(finished):
    done = fresh_msgd("run", finished[0], "--set", "lrr=1")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("msgd: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_fault_of_ours_is_one_line_and_exit_1(copy, capsys, monkeypatch):
    monkeypatch.setattr("msgd.lab.kinds.gather_results", lambda *_: 1 / 0)
    code, _, errors = here(capsys, "compare", copy)
    assert code == 1
    assert errors.startswith("msgd: a bug in msgd: ZeroDivisionError")
    assert len(errors.splitlines()) == 1
    monkeypatch.setenv("MSGD_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        app(["compare", str(copy)])


def test_nothing_is_finished_yet(copy, capsys):
    for checkpoint in copy.glob("*/seed-*/checkpoint.safetensors"):
        checkpoint.unlink()
    for command in ("compare", "report"):
        code, _, errors = here(capsys, command, copy)
        assert code == 2
        assert "no run in" in errors


def test_a_diverged_run_is_named(tmp_path, fashion_mnist, recipe_file, capsys):
    arguments = ["run", recipe_file, "--out", tmp_path / "out", "--data-dir", fashion_mnist, "--jobs", 1]
    code, said, _ = here(capsys, *arguments, "--set", "lr=1e6", "--methods", "sgd", "--steps", 20)
    assert code == 0
    assert "2 of 2 diverged" in said
    assert "sgd diverged: its loss was no longer finite with seed 0 after " in said
    assert "Nothing is compared: the reference sgd diverged." in said


def test_version(capsys):
    assert here(capsys, "--version") == (0, "0.1.0\n", "")


def test_help_does_not_wait_for_torch():
    code = "import sys; from msgd.__main__ import main\ntry: main()\nfinally: sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Usage: " in done.stdout


def test_without_the_extra():
    code = "import sys; sys.modules['typer'] = None\nfrom msgd.__main__ import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("msgd: typer is not installed: pip install typer (the laboratory needs: typer rich ")


def test_a_missing_package_is_named():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [entry.partition(">")[0] for entry in project["optional-dependencies"]["lab"]] == LABORATORY.split()
    message = missing_package(ModuleNotFoundError(name="tomli_w"))
    assert message.startswith("tomli_w is not installed: pip install tomli-w (")


class Links(HTMLParser):
    """Collects what a page would fetch."""

    def __init__(self):
        super().__init__()
        self.fetched = []

    def handle_starttag(self, tag, attrs):
        self.fetched += [value for key, value in attrs if key in ("src", "href") and tag != "a"]


def test_the_report_needs_nothing_else(finished):
    text = (finished[1] / "report.html").read_text()
    parser = Links()
    parser.feed(text)
    assert parser.fetched == []
    for expected in ("Test accuracy", "Training loss", "Where each run ended", "small.toml", "torch"):
        assert expected in text


def test_the_report_escapes_what_it_is_given(copy, capsys):
    config = copy / "config.toml"
    config.write_text(config.read_text().replace('title = "Small"', 'title = "<script>alert(1)</script>"'))
    assert here(capsys, "report", copy)[0] == 0
    text = (copy / "report.html").read_text()
    assert "<script>alert(1)" not in text
    assert "&lt;script&gt;alert(1)" in text


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_report_opens_in_a_browser(finished, tmp_path):
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    page = (finished[1] / "report.html").as_uri()
    done = subprocess.run(
        [CHROMIUM, *flags, f"--user-data-dir={tmp_path}", "--virtual-time-budget=10000", "--dump-dom", page],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.count('class="main-svg"') >= 8  # two layers for each of the four figures
    for trace in ("gd", "sgd", "bernoulli"):
        assert f'data-unformatted="{trace}"' in done.stdout
    assert "Uncaught" not in done.stderr


def test_a_title_with_brackets_is_shown_as_it_is(capsys, monkeypatch):
    """On a terminal, too, where brackets were taken for markup."""
    from msgd.cli.terminal import make_console

    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    make_console().print("noise [red]b[/blue]")
    assert "noise [red]b[/blue]" in capsys.readouterr().out
