"""What `msgd init` writes runs, survives a kill, and overwrites nothing."""

import os
import signal
import tomllib

import pytest
import torch

from helpers.commands import here, msgd, start, wait_until
from helpers.outcomes import trained_runs
from msgd.cli.init import KINDS

REFERENCE = {"classification": "sgd", "regression": "sgd", "language": "small"}
FEW = (
    "--steps",
    80,
    "--seeds",
    1,
    "--set",
    "checkpoint_every=10",
    "--set",
    "eval_every=40",
    "--set",
    "eval_train=20",
    "--jobs",
    1,
    "--trust",
)


def made(folder, kind, capsys):
    """The recipe in a folder that the command made, and what it printed."""
    code, said, errors = here(capsys, "init", folder, "--kind", kind)
    assert (code, errors) == (0, "")
    return folder / f"{folder.name}.toml", said


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_task_runs_and_continues_after_a_kill(kind, tmp_path, capsys):
    recipe, said = made(tmp_path / "new", kind, capsys)
    assert f"    msgd run {recipe} --trust" in said.splitlines()
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"task.py", "new.toml", "README.md"}
    chosen = (*FEW, "--methods", f"{REFERENCE[kind]},large-noisy")
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    process = start("run", recipe, "--out", killed, *chosen)
    wait_until(lambda: any(killed.glob("*/seed-0/checkpoint.safetensors")) or process.poll() is not None)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert [step for step, *_ in trained_runs(killed).values()] != [80, 80]

    done = msgd("run", recipe, "--out", whole, *chosen)
    assert (done.returncode, done.stderr) == (0, "")
    done = msgd("run", recipe, "--out", killed, *chosen)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(trained_runs(whole)) == 2
    assert trained_runs(killed) == trained_runs(whole)
    code, said, _ = here(capsys, "run", recipe, "--out", whole, *chosen)
    assert code == 0
    assert "2 of 2 runs are finished already" in said


@pytest.mark.parametrize("kind", KINDS)
def test_the_recipe_compares_noise_with_noise(kind, tmp_path, capsys):
    recipe, _ = made(tmp_path / "new", kind, capsys)
    table = tomllib.loads(recipe.read_text())
    assert table["reference"] == REFERENCE[kind]
    assert {"large", "large-noisy", f"{REFERENCE[kind]}-again"} <= set(table["methods"])
    assert table["methods"]["large"]["b"] == table["methods"]["large-noisy"]["B"]
    assert len((tmp_path / "new" / "task.py").read_text().splitlines()) <= 60


def test_nothing_runs_without_trust(tmp_path, capsys):
    recipe, _ = made(tmp_path / "new", "regression", capsys)
    task, marker = tmp_path / "new" / "task.py", tmp_path / "marker"
    task.write_text(task.read_text() + f"\nopen({str(marker)!r}, 'w').close()\n")
    code, _, errors = here(capsys, "run", recipe, "--out", tmp_path / "out")
    assert code == 2
    assert errors.rstrip().endswith(f"would run the code in {task}: read it, then add --trust")
    assert not marker.exists()
    assert not (tmp_path / "out").exists()
    code, _, _ = here(capsys, "run", recipe, "--out", tmp_path / "out", "--methods", "none", "--trust")
    assert code == 2
    assert marker.exists()  # the marker tells what ran


def test_nothing_is_overwritten(tmp_path, capsys):
    kept = tmp_path / "kept"
    kept.mkdir()
    assert made(kept, "regression", capsys)[0].exists()  # an empty folder is filled
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    assert here(capsys, "init", kept) == (2, "", f"msgd: {kept} is not empty: name a new folder\n")
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    file, link = kept / "task.py", tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    for path in (file, link):
        assert here(capsys, "init", path) == (2, "", f"msgd: {path} is a file or a link: name a new folder\n")
    assert not (tmp_path / "nowhere").exists()


def test_an_unknown_kind(tmp_path, capsys):
    code, _, errors = here(capsys, "init", tmp_path / "new", "--kind", "images")
    assert (code, errors) == (
        2,
        "msgd: --kind: 'images' is not known; take one of classification, regression, language\n",
    )
    assert not (tmp_path / "new").exists()


def test_the_constants_of_the_regression(tmp_path, capsys):
    """The variance of y, and the error of the best prediction, by plain Monte Carlo."""
    made(tmp_path / "new", "regression", capsys)
    scope = {"__name__": "task"}
    exec((tmp_path / "new" / "task.py").read_text(), scope)
    y = torch.cat([torch.from_numpy(scope["data"](seed)[1][1])[:, 0] for seed in range(100)]) * scope["SCALE"]
    assert y.var().item() == pytest.approx(scope["VARIANCE"], rel=0.015)  # standard error of 10⁵ values: 0.004 relative
    perfect = scope["scores"](y[:, None] / 10, (y[:, None] + torch.randn(len(y), 1, dtype=y.dtype)) / 10)
    assert perfect["mae"].mean().item() == pytest.approx((2 / torch.pi) ** 0.5, abs=0.01)


def test_the_language_task_reads_a_text(tmp_path, capsys):
    made(tmp_path / "new", "language", capsys)
    (tmp_path / "text.txt").write_text("abc" * 500)
    scope = {"__name__": "task", "__file__": str(tmp_path / "new" / "task.py")}
    exec((tmp_path / "new" / "task.py").read_text(), scope)
    (inputs, targets), (test, _) = scope["data"](tmp_path, 0)
    assert inputs.shape == targets.shape
    assert len(inputs) + len(test) == (1500 - 1) // 32
    assert set(inputs.unique().tolist()) == set(b"abc")
    following = dict(zip(b"abc", b"bca", strict=True))
    assert all(
        following[before] == after
        for before, after in zip(inputs.flatten().tolist(), targets.flatten().tolist(), strict=True)
    )
    with pytest.raises(FileNotFoundError):
        scope["data"](tmp_path / "new", 0)


def test_the_language_network_looks_back_only(tmp_path, capsys):
    made(tmp_path / "new", "language", capsys)
    scope = {"__name__": "task"}
    exec((tmp_path / "new" / "task.py").read_text(), scope)
    network = scope["network"]()
    text = torch.randint(128, (1, 32))
    changed = text.clone()
    changed[0, 20] = (text[0, 20] + 1) % 128
    with torch.no_grad():
        is_changed = ((network(changed) - network(text)).abs().sum(2) > 0)[0]
    assert is_changed.nonzero().flatten().tolist() == list(range(20, 29))  # nine positions see a character
