"""Folders of runs that somebody else has made: each thing that once was a traceback, memory or a foreign file."""

import dataclasses
import errno
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from faults.folders import RECIPE, finished, measured, network
from helpers.commands import call
from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from msgd.lab.experiment_folder.results import gather_results
from msgd.lab.experiment_folder.resume import check_state
from msgd.lab.experiment_folder.tuning import Tuning, read_tuning, write_tuning
from msgd.lab.kinds import experiment_in
from msgd.lab.measure.measurements_file import read_measurements
from msgd.lab.networks.build import build_network
from msgd.lab.report.html import write_page
from msgd.lab.safe_io.tensors import crc32
from msgd.lab.training.loop import train
from msgd.langevin import GLDConst, GLDDiag, GLDLeading

TUNED = RECIPE.replace("[methods.sgd]", "[tune]\nlr = [0.1, 0.2]\n[methods.sgd]")


def write_report(out):
    experiment = experiment_in(out)
    return write_page(experiment.page(experiment.gather()), out)


@pytest.fixture
def out(tmp_path):
    finished(tmp_path / "out")
    return tmp_path / "out"


def rewrite(path, change):
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table))


@pytest.mark.parametrize(
    "data",
    [
        {"n": 1000, "digests": []},
        {"n": 10**12, "digests": ["0"]},
        {"n": 0, "digests": ["0"]},
        {"n": 1.5, "digests": ["0"]},
        {"n": 1000, "digests": [1]},
        {"n": 1000},
    ],
    ids=["no digest", "huge n", "no n", "a fraction", "a number", "none"],
)
def test_what_a_description_says_of_the_data(out, data):
    rewrite(out / "experiment.json", lambda table: table.update(data=data))
    with pytest.raises(UserError, match=r"experiment.json is damaged .*: let msgd run write it again"):
        gather_results(out)


def test_rubbish_in_one_file_is_not_blamed_on_another(out):
    (out / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"config.toml is damaged .*: let msgd run write it again"):
        gather_results(out)


@pytest.mark.parametrize("name", ["config.toml", "experiment.json", "metrics.jsonl", "checkpoint.safetensors"])
def test_a_file_that_may_not_be_read_is_not_called_damaged(out, name, monkeypatch):
    """Whoever takes that at its word deletes a good run."""
    whole = Path.open

    def refused(path, *arguments, **named):
        if path.name == name:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return whole(path, *arguments, **named)

    gather_results(out)
    monkeypatch.setattr(Path, "open", refused)  # root may read what nobody may
    with pytest.raises(PermissionError):
        gather_results(out)


@pytest.mark.parametrize(
    "content",
    ["[" * 10**5, '{"environment": {"a": NaN}}', "[]", '{"a": ' + "9" * 5000 + "}"],
    ids=["deep", "NaN", "a list", "digits"],
)
def test_descriptions_that_are_no_json(out, content):
    (out / "experiment.json").write_text(content)
    with pytest.raises(UserError, match=r"experiment.json is damaged"):
        gather_results(out)


@pytest.mark.parametrize(
    "value",
    ["NaN", "1e999", "Infinity", "-0.1", "1.1", "1", "null", "[[[]]]", "[" * 5000],
    ids=lambda value: value[:8],
)
def test_accuracies_that_are_none(out, value):
    path = out / "sgd" / "seed-0" / "metrics.jsonl"
    lines = path.read_text().splitlines()
    record = json.loads(lines[1])
    lines[1] = lines[1].replace(f'"test_accuracy": {record["test_accuracy"]}', f'"test_accuracy": {value}')
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"metrics.jsonl is damaged: delete .* to train this run again"):
        gather_results(out)


def test_losses_whose_mean_would_overflow(out):
    path = out / "sgd" / "seed-0" / "metrics.jsonl"
    path.write_text(path.read_text().replace('"train_loss": ', '"train_loss": 1e300, "was": '))
    with pytest.raises(UserError, match=r"metrics.jsonl is damaged"):
        gather_results(out)


def test_what_follows_the_metrics_is_not_read(out):
    with (out / "sgd" / "seed-0" / "metrics.jsonl").open("r+b") as file:
        file.seek(2**40)  # a terabyte that takes no room
        file.write(b"\n")
    assert len(gather_results(out).finished_runs) == 4


@pytest.mark.parametrize(
    ("key", "value"),
    [("step", "-1"), ("step", "1" * 5000), ("seconds", "nan"), ("seconds", "inf"), ("seconds", "-1"), ("step", "x")],
    ids=["before the start", "digits", "nan", "inf", "negative", "text"],
)
def test_metadata_of_a_checkpoint(out, key, value):
    run = gather_results(out).finished_runs[0].run
    tensors = network(run, None)
    metadata = {"step": "30", "seconds": "1.0", "crc32": crc32(tensors)} | {key: value}
    path = out / "sgd" / "seed-0" / "checkpoint.safetensors"
    path.write_bytes(safetensors.torch.save(tensors, metadata))
    with pytest.raises(UserError, match=r"checkpoint.safetensors is damaged"):
        gather_results(out)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float8_e4m3fn], ids=str)
def test_types_that_numpy_lacks(out, kind):
    path = out / "sgd" / "seed-0" / "checkpoint.safetensors"
    metadata = {"step": "30", "seconds": "1.0", "crc32": "00000000"}
    path.write_bytes(safetensors.torch.save({"model.a": torch.zeros(3).to(kind)}, metadata))
    with pytest.raises(UserError, match="is damaged"):
        read_checkpoint(path.parent)


STRANGE = {
    "another network": ({"model.a": torch.zeros(3)}, None, "expected"),
    "a model too many": ({"model.a": torch.zeros(3), "ours": True}, None, r"expected no such tensor, found \(3,\)"),
    "one momentum": ({"momentum.a": torch.zeros(3), "ours": True}, None, "found no such tensor"),
    "noise of none": ({"noise.trace": torch.zeros(()), "ours": True}, None, "expected no such tensor"),
    "trace of two": ({"noise.trace": torch.zeros(2).double(), "ours": True}, GLDConst(20), r"expected \(\) in"),
    "short diagonal": ({"noise.diagonal": torch.zeros(2).double(), "ours": True}, GLDDiag(20), "expected"),
    "no eigenvectors": ({"noise.trace": torch.zeros(()).double(), "ours": True}, GLDLeading(20, k=2), "no such tensor"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_whole_checkpoint_of_other_tensors(out, name):
    tensors, noise, message = STRANGE[name]
    run = dataclasses.replace(gather_results(out).finished_runs[0].run, noise=noise)
    if "ours" in tensors:
        tensors = network(run, None) | {key: value for key, value in tensors.items() if key != "ours"}
    model = build_network(run.model, input_shape=(40,), classes=10, seed=0)
    with pytest.raises(UserError, match=message):
        check_state(out / "checkpoint.safetensors", run, tensors, model)
    check_state(out / "checkpoint.safetensors", run, network(run, None), model)


def test_a_run_is_not_continued_from_another_networks_checkpoint(out, data):
    gathered = gather_results(out).finished_runs[0].run
    folder = out / "sgd" / "seed-0"
    tensors = {"model.a": torch.zeros(3)}
    write_checkpoint(folder, Checkpoint(20, 1.0, tensors))
    with pytest.raises(UserError, match="is not of this run's network mlp"):
        train(gathered, data, folder, device="cpu", environment={})


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.update(scores={}),
        lambda t: t["scores"]["sgd"].update({"abc": 0.5}),
        lambda t: t["scores"]["sgd"].pop("0.1"),
        lambda t: t["chosen"].pop("sgd"),
        lambda t: t["chosen"].update({"sgd": 0.3}),
        lambda t: t["chosen"].update({"\x1b[2J": 0.1}),
        lambda t: t["scores"]["sgd"].update({"0.1": 1e300}),
    ],
    ids=["empty", "text", "a rate less", "a choice less", "not tried", "a name", "a huge mean"],
)
def test_tunings(tmp_path, change):
    found = Tuning(200, 3, {m: {"0.1": 0.4, "0.2": 0.3} for m in ("sgd", "cov")}, {"sgd": 0.1, "cov": 0.2})
    write_tuning(found, tmp_path)
    assert read_tuning(tmp_path) == found
    rewrite(tmp_path / "tuning.json", change)
    with pytest.raises(UserError, match=r"tuning.json is missing or damaged .*: let msgd run write it again"):
        read_tuning(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m[0]["found"].update(eigenvalues=[]),
        lambda m: m[2]["found"].update(directions=[]),
        lambda m: m[0]["found"].update(trace=1e300),
        lambda m: m[0].update(step=10**400),
        lambda m: m[0].update(notes=["a\x1b[2Jb"]),
        lambda m: m[0].update(notes=["[" * 10**6]) or m.append("["),
    ],
    ids=["no eigenvalue", "no direction", "huge", "a huge step", "a note", "no measurement"],
)
def test_measurements(out, change):
    table = measured([done.run for done in gather_results(out).finished_runs])
    (out / "measurements.json").write_text(json.dumps(table))
    assert read_measurements(out) is not None
    change(table["measurements"])
    (out / "measurements.json").write_text(json.dumps(table))
    with pytest.raises(UserError, match=r"measurements.json is damaged .*: delete it and run msgd measure again"):
        read_measurements(out)


def test_eigenvalues_below_zero_have_no_logarithm(out):
    table = measured([done.run for done in gather_results(out).finished_runs])
    for measurement in table["measurements"]:
        if "eigenvalues" in measurement["found"]:
            measurement["found"]["eigenvalues"][-1] = -1e-9
    (out / "measurements.json").write_text(json.dumps(table))
    assert "Spectrum of C" in write_report(out).read_text()


def test_the_report_of_a_command_that_is_no_text(out):
    """A name of a folder may be any bytes, and comes as text that UTF-8 cannot have."""
    command = "msgd run --out '\udcff' <script>alert(1)</script>"
    rewrite(out / "experiment.json", lambda table: table["environment"].update(command=command))
    path = write_report(out)
    text = path.read_text(encoding="utf-8")
    assert "\\udcff" in text
    assert "<script>alert" not in text


@pytest.mark.parametrize("name", ["sgd", "sgd/seed-0"])
def test_no_run_is_trained_behind_a_link(tmp_path, name, capsys):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "small.toml").write_text(RECIPE)
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).symlink_to(tmp_path / "elsewhere")
    assert call("run", tmp_path / "small.toml", "--out", out, "--jobs", 1) == 2
    assert "is a link, and msgd does not write outside" in capsys.readouterr().err
    assert not any((tmp_path / "elsewhere").iterdir())
