"""`msgd measure`: the values of the instruments, resumption, and input that is refused in a line."""

import json
import math
import shutil

import pytest
import torch

from helpers.commands import call
from helpers.measuring import RECIPE, entries, matrix_at, trained
from helpers.training import make
from msgd import diagnostics
from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.checkpoint import read_checkpoint
from msgd.lab.experiment_folder.results import gather_results
from msgd.lab.measure import pipeline
from msgd.lab.measure.measurements_file import FILE, current_measurements, read_measurements, write_measurements
from msgd.lab.measure.pipeline import measure_point
from msgd.lab.measure.quantities import LEVELS
from msgd.lab.measure.selection import Point, Request, find_points
from msgd.noise import (
    Bernoulli,
    MiniBatch,
)


@pytest.fixture(scope="module")
def measured(experiment, tmp_path_factory, fashion_mnist):
    """The same, measured."""
    out = tmp_path_factory.mktemp("measured") / "out"
    shutil.copytree(experiment, out)
    assert call("measure", out, "--data-dir", fashion_mnist, "--jobs", 1) == 0
    return out


@pytest.mark.parametrize("step", [0, 10, 20])
def test_values_are_those_of_the_instruments(measured, data, step):
    matrix, model = matrix_at(measured, data, "sgd", 0, step)
    law, level = MiniBatch(8), LEVELS["cheap"]
    found = {m["what"]: m["found"] for m in entries(measured) if (m["method"], m["step"]) == ("sgd", step)}
    assert list(found) == ["covariance", "noise-scale", "tails", "sharpness"]
    C = diagnostics.Covariance(matrix)
    covariance, scale = found["covariance"], found["noise-scale"]
    values, vectors = C.eigenpairs(10)
    assert covariance["eigenvalues"] == pytest.approx(values.tolist(), rel=1e-5)
    assert covariance["trace"] == scale["trace"] == pytest.approx(C.trace(), rel=1e-5)
    assert covariance["stable_rank"] == pytest.approx(C.stable_rank(), rel=1e-5)
    assert covariance["noise_trace"] == pytest.approx(diagnostics.Covariance.of_law(matrix, law).trace(), rel=1e-5)
    assert scale["noise_scale"] == pytest.approx(diagnostics.simple_noise_scale(matrix), rel=1e-5)
    assert scale["b_eff"] == law.moments(40).effective_batch_size(40)
    sharp = found["sharpness"]
    assert sharp["eigenvalues"] == pytest.approx(diagnostics.hessian_eigenvalues(matrix, 1).tolist(), rel=1e-4)
    trace = diagnostics.hessian_trace(matrix, draws=level.trace)
    assert sharp["trace"]["value"] == pytest.approx(trace.value, rel=1e-3)
    norm = torch.cat([p.detach().reshape(-1) for p in model.parameters()]).norm().item()
    assert sharp["size"] == pytest.approx(0.05 * norm / math.sqrt(matrix.shape[0]), rel=1e-6)
    change = diagnostics.loss_change(matrix, sharp["size"], draws=level.change)
    assert sharp["loss_change"]["value"] == pytest.approx(change.value, rel=1e-2, abs=1e-6)
    directions = torch.cat([vectors[:, :1], diagnostics.random_directions(matrix, 3)], dim=1)
    samples = diagnostics.noise_along(matrix, directions, law, draws=level.draws)
    p = diagnostics.gaussianity(samples).adjusted
    for number, direction in enumerate(found["tails"]["directions"]):
        kurtosis = diagnostics.excess_kurtosis(samples[:, number])
        assert direction["excess_kurtosis"]["value"] == pytest.approx(kurtosis.value, rel=1e-3, abs=1e-3)
        assert direction["hill"]["value"] == pytest.approx(diagnostics.hill(samples[:, number]).value, rel=1e-3)
        assert direction["p_normal"] == pytest.approx(p[number], rel=1e-2, abs=1e-6)
        assert direction["quantiles"][20] == pytest.approx(0.0, abs=1e-9)  # the median


def test_what_medium_and_full_cost_add(experiment, data):
    gathered = gather_results(experiment)
    (point,) = find_points(gathered, experiment, None, Request((10,), (), "full", ("bernoulli",), 1))
    matrix, _ = matrix_at(experiment, data, "bernoulli", 0, 10)
    C, of_law = diagnostics.Covariance(matrix), diagnostics.Covariance.of_law(matrix, Bernoulli(8))
    full = {
        m.what: m.found for m in measure_point(point, point.run, data, ["covariance", "noise-scale"], "full", "cpu")
    }
    assert full["covariance"].alignment.value == pytest.approx(C.hessian_alignment().value, rel=1e-4)
    assert full["covariance"].noise_alignment.value == pytest.approx(of_law.hessian_alignment().value, rel=1e-4)
    mean = matrix.mean()
    curvature = float(mean @ matrix.hessian_product(mean))
    if min(curvature, C.hessian_alignment().value) > 0:
        assert full["noise-scale"].curved == pytest.approx(diagnostics.curved_noise_scale(matrix), rel=1e-4)
    else:
        assert full["noise-scale"].curved is None
    (medium,) = measure_point(point, point.run, data, ["covariance"], "medium", "cpu")
    found, expected = medium.found.alignment, C.hessian_alignment(draws=64)
    assert (found.value, found.low, found.high) == pytest.approx(
        (expected.value, expected.low, expected.high), rel=1e-3
    )
    assert len(medium.found.eigenvalues) == 20
    assert medium.gradients > 64  # a product with H and one with G for each draw


def test_resumed_is_uninterrupted(measured, copy, fashion_mnist, monkeypatch, capsys):
    whole, write = entries(measured), write_measurements
    for stop in (1, 4):
        count = 0

        def interrupted(*arguments, stop=stop):
            nonlocal count
            count += 1
            if count > stop:
                raise KeyboardInterrupt
            write(*arguments)

        monkeypatch.setattr(pipeline, "write_measurements", interrupted)
        assert call("measure", copy, "--data-dir", fashion_mnist, "--jobs", 1) == 130
        assert "the same command continues" in capsys.readouterr().err
        assert len(entries(copy)) < len(whole)
    monkeypatch.setattr(pipeline, "write_measurements", write)
    assert call("measure", copy, "--data-dir", fashion_mnist, "--jobs", 2) == 0
    assert "3 are measured already" in capsys.readouterr().out
    assert entries(copy) == whole
    before = (copy / FILE).read_bytes()
    assert call("measure", copy, "--data-dir", fashion_mnist, "--jobs", 1) == 0
    assert (copy / FILE).read_bytes() == before


def test_one_thing_at_a_time_finds_the_same(measured, copy, fashion_mnist):
    for what in ("tails", "sharpness,covariance"):
        options = ["--what", what, "--methods", "sgd", "--at", "10,20"]
        assert call("measure", copy, "--data-dir", fashion_mnist, "--jobs", 1, *options) == 0
    apart = {(m["step"], m["what"]): m["found"] for m in entries(copy)}
    whole = {(m["step"], m["what"]): m["found"] for m in entries(measured) if m["method"] == "sgd"}
    assert sorted(apart) == [(step, what) for step in (10, 20) for what in ("covariance", "sharpness", "tails")]
    assert all(whole[place] == found for place, found in apart.items())


def test_a_run_or_a_checkpoint_alone(copy, fashion_mnist):
    options = ["--data-dir", fashion_mnist, "--jobs", 1, "--what", "noise-scale"]
    assert call("measure", copy / "sgd" / "seed-1" / "snapshots" / "10.safetensors", *options) == 0
    assert [(m["method"], m["seed"], m["step"]) for m in entries(copy)] == [("sgd", 1, 10)]
    assert call("measure", copy / "gd" / "seed-0", *options) == 0
    assert call("measure", copy / "sgd" / "seed-0" / "checkpoint.safetensors", *options) == 0
    places = [(m["method"], m["seed"], m["step"]) for m in entries(copy)]
    assert places == [("gd", 0, 0), ("gd", 0, 10), ("gd", 0, 20), ("sgd", 0, 20), ("sgd", 1, 10)]


def test_what_was_measured_at_a_higher_cost_is_kept(copy, fashion_mnist):
    options = ["--data-dir", fashion_mnist, "--jobs", 1, "--what", "noise-scale", "--at", 20, "--methods", "sgd"]
    assert call("measure", copy, *options, "--cost", "medium") == 0
    before = entries(copy)
    assert call("measure", copy, *options) == 0
    assert entries(copy) == before
    assert call("measure", copy, *options, "--cost", "full") == 0
    assert [m["cost"] for m in entries(copy)] == ["full"]


def test_a_method_whose_first_seed_is_missing(copy, fashion_mnist):
    shutil.rmtree(copy / "gd" / "seed-0")
    options = ["--data-dir", fashion_mnist, "--jobs", 1, "--what", "noise-scale", "--at", 20, "--methods", "gd"]
    assert call("measure", copy, *options) == 0
    assert [(m["method"], m["seed"]) for m in entries(copy)] == [("gd", 1)]


def test_a_folder_without_snapshots_is_measured_at_its_ends(copy, fashion_mnist):
    for folder in copy.glob("*/seed-*/snapshots"):
        shutil.rmtree(folder)
    options = ["--what", "noise-scale", "--seeds", 2, "--methods", "sgd,bernoulli"]
    assert call("measure", copy, "--data-dir", fashion_mnist, "--jobs", 1, *options) == 0
    assert [(m["method"], m["seed"], m["step"]) for m in entries(copy)] == [
        (method, seed, step) for method in ("sgd", "bernoulli") for seed in (0, 1) for step in (0, 20)
    ]


def test_what_was_measured_of_other_methods_stays_and_of_other_runs_goes(copy, fashion_mnist, tmp_path):
    options = ["--data-dir", fashion_mnist, "--jobs", 1, "--what", "noise-scale", "--at", 20]
    assert call("measure", copy, *options) == 0
    shutil.rmtree(copy / "sgd")
    (tmp_path / "again").mkdir()
    (tmp_path / "small.toml").write_text(RECIPE)
    run = ["run", tmp_path / "small.toml", "--out", copy, "--data-dir", fashion_mnist, "--jobs", 1]
    assert call(*run, "--methods", "sgd", "--set", "lr=0.06") == 0
    kept = read_measurements(copy)
    assert current_measurements(kept, [done.run for done in gather_results(copy).finished_runs]) == []
    assert call("measure", copy, *options) == 0
    assert [m["method"] for m in entries(copy)] == ["sgd", "gd", "bernoulli"]
    assert entries(copy)[0]["run"] != kept.measurements[1].run


def test_a_run_that_diverged(tmp_path, fashion_mnist, capsys):
    out = trained(tmp_path, RECIPE, fashion_mnist, "--set", "lr=1e9", "--methods", "sgd", "--seeds", 1)
    assert call("measure", out, "--data-dir", fashion_mnist, "--jobs", 1) == 0
    shown = capsys.readouterr().out
    diverged = read_checkpoint(out / "sgd" / "seed-0").diverged
    assert f"Covariance of sgd: the run diverged after {diverged} step" in " ".join(shown.split())
    assert [m["found"] is None for m in entries(out)] == [m["step"] > 0 for m in entries(out)]
    trace = next(m["found"]["trace"] for m in entries(out) if m["what"] == "covariance" and m["step"] == 0)
    assert f"{trace:.3g}" not in shown  # which it had before it diverged, and not after


def test_a_grid(tmp_path, fashion_mnist):
    recipe = RECIPE + "[grid]\nlr = [0.01, 0.05]\nb = [8]\n"
    out = trained(tmp_path, recipe, fashion_mnist, "--methods", "sgd", "--seeds", 1)
    assert call("measure", out, "--data-dir", fashion_mnist, "--jobs", 1, "--at", 20, "--what", "noise-scale") == 0
    assert [m["method"] for m in entries(out)] == ["sgd+lr0p01+b8", "sgd+lr0p05+b8"]
    assert "Measured noise" in (out / "report.html").read_text()


def test_the_report_has_the_section_and_escapes(measured, tmp_path):
    out = shutil.copytree(measured, tmp_path / "out")
    page = (out / "report.html").read_text()
    for name in ("Measured noise", "Spectrum of C", "Noise scale over steps", "Is the noise normal?", "tr C/‖ḡ‖²"):
        assert name in page
    assert "Tails of gd: the weights have no noise." in page
    table = json.loads((out / FILE).read_text())
    table["measurements"][0]["notes"] = ["<script>alert(1)</script>"]
    (out / FILE).write_text(json.dumps(table))
    assert call("report", out) == 0
    page = (out / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    (out / FILE).unlink()
    assert call("report", out) == 0
    assert "Measured noise" not in (out / "report.html").read_text()


def test_batch_norm_is_refused_with_the_reason(data):
    run = make(model="resnet18", norm="batch", snapshots=(), n=40)
    images = data.train_inputs.repeat(3, axis=1)[:, :, :, :]
    small = type(data)(
        images.repeat(2, axis=2)[:, :, :32].repeat(2, axis=3)[:, :, :, :32],
        data.train_targets,
        images[:2],
        data.test_targets[:2],
        classes=10,
    )
    point = Point(run, None, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "check_loss", lambda *_: None)  # there is no folder
        with pytest.raises(UserError, match=r"resnet18: .* normalises over the batch"):
            measure_point(point, run, small, ["noise-scale"], "cheap", "cpu")
