"""Snapshots: the parameters of a step on the way, the same however a run was interrupted, and no part of its result."""

import pytest
import torch

from helpers.small import SMALL
from helpers.training import contents, go, make, no_checkpoint, same
from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.checkpoint import read_checkpoint, read_snapshot, snapshot_steps
from msgd.lab.plan.resolve import resolve
from msgd.lab.recipes.load import parse_recipe
from msgd.lab.recipes.source import recipe_text

KEPT = {"snapshots": (5, 10, 21)}  # between, at and after checkpoints


def files(run, folder):
    """Every file there, as bits of tensors; the order of names in a file's head is not fixed."""
    assert {f"{step}.safetensors" for step in run.snapshots} == {path.name for path in (folder / "snapshots").iterdir()}
    kept = {step: read_snapshot(run, folder, step) for step in run.snapshots}
    return {(step, name): value.numpy().tobytes() for step, tensors in kept.items() for name, value in tensors.items()}


def test_a_snapshot_is_the_parameters_of_a_run_that_ends_there(data, tmp_path):
    run = make(**KEPT)
    go(run, data, tmp_path / "whole")
    assert snapshot_steps(tmp_path / "whole") == [5, 10, 21]
    for step in KEPT["snapshots"]:
        go(make(steps=step), data, tmp_path / str(step))
        shorter = read_checkpoint(tmp_path / str(step)).tensors
        kept = read_snapshot(run, tmp_path / "whole", step)
        assert set(kept) == {name for name in shorter if name.startswith("model.")}  # no momenta
        assert all(torch.equal(kept[name], shorter[name]) for name in kept)


def test_snapshots_change_no_result_and_survive_any_interruption(data, tmp_path):
    go(make(), data, tmp_path / "without")
    run = make(**KEPT)
    go(run, data, tmp_path / "whole")
    assert same(contents(tmp_path / "whole"), contents(tmp_path / "without"))
    for stop in range(1, 8):
        folder = tmp_path / f"stopped{stop}"
        answers = iter([True] * stop + [False])
        go(run, data, folder, go_on=lambda answers=answers: next(answers))
        go(run, data, folder)
        assert same(contents(folder), contents(tmp_path / "whole"))
        assert files(run, folder) == files(run, tmp_path / "whole")


def test_a_run_begun_without_snapshots_is_continued_with_them(data, tmp_path):
    go(make(), data, tmp_path, go_on=no_checkpoint(tmp_path))  # stops at its checkpoint at step 10
    assert read_checkpoint(tmp_path).step == 10
    go(make(**KEPT), data, tmp_path)
    assert snapshot_steps(tmp_path) == [21]


def test_snapshots_that_cannot_be_used_are_refused_in_a_line(data, tmp_path):
    run = make(**KEPT)
    go(run, data, tmp_path)
    path = tmp_path / "snapshots" / "5.safetensors"
    whole = path.read_bytes()
    with pytest.raises(UserError, match="another run or step"):
        read_snapshot(make(lr=0.06, **KEPT), tmp_path, 5)
    (path.parent / "6.safetensors").write_bytes(whole)
    with pytest.raises(UserError, match="another run or step"):
        read_snapshot(run, tmp_path, 6)
    for harmed, message in (
        (whole[:-9], "damaged"),
        (whole[:-1] + bytes([whole[-1] ^ 1]), "checksum"),
        (b"", "damaged"),
    ):
        path.write_bytes(harmed)
        with pytest.raises(UserError, match=message):
            read_snapshot(run, tmp_path, 5)
    path.unlink()
    with pytest.raises(UserError, match="damaged"):
        read_snapshot(run, tmp_path, 5)


def test_the_key_of_a_recipe():
    def planned(**settings):
        recipe = parse_recipe(SMALL, source="small", settings=settings)
        return {run.method: run for run in resolve(recipe, n=40, digests=["0"])}

    kept, plain = planned(snapshots=[20, 10, 20], **{"methods.gd.steps": 120}), planned(**{"methods.gd.steps": 120})
    assert kept["sgd"].snapshots == (10, 20)
    assert kept["gd"].snapshots == (20, 40)  # the same fractions of a longer run
    assert plain["sgd"].snapshots == ()
    assert kept["sgd"].identity() == plain["sgd"].identity()  # so that older folders are continued
    for bad in ([0], [-1], 5, ["a"], [1.5]):
        with pytest.raises(UserError, match="snapshots"):
            planned(snapshots=bad)
    assert parse_recipe(recipe_text("mnist1d"), source="mnist1d").snapshots == [100, 300, 1000]
