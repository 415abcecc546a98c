"""`msgd measure`: folders, checkpoints and options that are refused in one line."""

import shutil

import pytest
import safetensors.torch
import torch

from helpers.commands import call
from helpers.measuring import RECIPE, entries, trained
from helpers.small import write_fashion_mnist
from msgd.lab.measure.measurements_file import FILE
from msgd.lab.safe_io.tensors import crc32


def bad_inputs(out, tmp_path, other):
    """Name → (arguments after `measure`, what harm is done first, what the line must say)."""
    folder = out / "sgd" / "seed-0"
    checkpoint, snapshot = folder / "checkpoint.safetensors", folder / "snapshots" / "10.safetensors"

    def harmed(path, change):
        def harm():
            content = bytearray(path.read_bytes())
            path.write_bytes(change(content))

        return harm

    def flip(content):
        content[-7] ^= 1
        return content

    def refill(**changes):
        """Another network's tensors under the metadata of a checkpoint that is whole."""

        def harm():
            tensors = safetensors.torch.load_file(checkpoint)
            tensors = {k: changes.get(k.removeprefix("model.").replace(".", "_"), v) for k, v in tensors.items()}
            tensors = {k: v for k, v in tensors.items() if v is not None}
            metadata = {"step": "20", "seconds": "1.0", "crc32": crc32(tensors)}
            checkpoint.write_bytes(safetensors.torch.save(tensors, metadata))

        return harm

    return {
        "unknown what": ([out, "--what", "colour"], None, "--what: 'colour' is unknown; use some of covariance"),
        "unknown cost": ([out, "--cost", "free"], None, "cheap, medium, full"),
        "unknown method": ([out, "--methods", "adam"], None, "use some of gd, sgd, bernoulli"),
        "a step that is not there": ([out, "--at", 15], None, "choose from 0, 10, 20"),
        "no step": ([out, "--at", "last"], None, "--at 0,300"),
        "another step than the checkpoint's": ([snapshot, "--at", 20], None, "leave --at out"),
        "no experiment": ([tmp_path], None, "holds no experiment"),
        "no folder": ([tmp_path / "no"], None, "holds no experiment"),
        "no checkpoint": ([folder / "metrics.jsonl"], None, "is no checkpoint"),
        "flipped": ([out], harmed(checkpoint, flip), "wrong checksum"),
        "truncated": ([out], harmed(checkpoint, lambda content: content[:-9]), "is damaged"),
        "empty": ([out], harmed(checkpoint, lambda _: b""), "is damaged"),
        "a pickle": ([out], harmed(checkpoint, lambda _: b"\x80\x02cos\nsystem\n(S'true'\ntR."), "is damaged"),
        "flipped snapshot": ([out], harmed(snapshot, flip), "wrong checksum"),
        "another run's snapshot": (
            [out],
            lambda: shutil.copy(other / "sgd/seed-0/snapshots/10.safetensors", snapshot),
            "another run or step",
        ),
        "another recipe's checkpoint": (
            [out],
            lambda: shutil.copy(other / "sgd/seed-0/checkpoint.safetensors", checkpoint),
            "they are of another run",
        ),
        "a missing tensor": ([out], refill(**{"0_weight": None}), "found no such tensor"),
        "a wrong shape": (
            [out],
            refill(**{"0_bias": torch.zeros(11)}),
            "tensor 0.bias: expected (10,) in torch.float32, found (11,)",
        ),
        "a wrong type": ([out], refill(**{"0_bias": torch.zeros(10).double()}), "expected (10,) in torch.float32"),
        "another recipe's run": (
            [out],
            lambda: shutil.copytree(other / "sgd/seed-0", folder, dirs_exist_ok=True),
            "holds a run with lr",
        ),
        "damaged measurements": ([out], lambda: (out / FILE).write_text("{}"), "is damaged"),
        "unwritable": ([out], (out / FILE).mkdir, "measurements.json cannot be read"),
        "other data": (
            [out, "--data-dir", write_fashion_mnist(tmp_path / "more", train=70)],
            None,
            "another checksum",
        ),
    }


@pytest.fixture(scope="module")
def other(tmp_path_factory, fashion_mnist):
    """The same network trained by another recipe."""
    options = ("--set", "lr=0.2", "--methods", "sgd", "--seeds", 1)
    return trained(tmp_path_factory.mktemp("other"), RECIPE, fashion_mnist, *options)


NAMES = (
    "unknown what",
    "unknown cost",
    "unknown method",
    "a step that is not there",
    "no step",
    "another step than the checkpoint's",
    "no experiment",
    "no folder",
    "no checkpoint",
    "flipped",
    "truncated",
    "empty",
    "a pickle",
    "flipped snapshot",
    "another run's snapshot",
    "another recipe's checkpoint",
    "a missing tensor",
    "a wrong shape",
    "a wrong type",
    "another recipe's run",
    "damaged measurements",
    "unwritable",
    "other data",
)


@pytest.mark.parametrize("name", NAMES)
def test_bad_input_is_one_line(copy, other, fashion_mnist, tmp_path, capsys, name):
    cases = bad_inputs(copy, tmp_path, other)
    assert set(cases) == set(NAMES)
    arguments, harm, message = cases[name]
    if harm:
        harm()
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    capsys.readouterr()
    options = [] if "--data-dir" in arguments else ["--data-dir", fashion_mnist]
    assert call("measure", *arguments, *options, "--jobs", 1, *(["--methods", "sgd"] if harm else [])) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert len(errors.splitlines()) == 1
    assert errors.startswith("msgd: ")
    after = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    changed = {path for path in after if after[path] != before.get(path)} - {copy / ".lock"}
    if name == "another recipe's checkpoint":  # only its loss gives it away, when it is its turn
        assert changed == {copy / FILE}
        assert {m["step"] for m in entries(copy)} == {0, 10}
    else:
        assert changed == set()
