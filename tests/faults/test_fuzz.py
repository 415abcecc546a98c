"""Files made by somebody else: whatever they hold, they are read, or refused in one line, within memory and time.

The cases are seeded. `MSGD_FAULTS=full` runs all of them and writes build/faults-fuzz.json; without it a few of each.
"""

import gzip
import io
import json
import shutil
import time
import tomllib
import zlib
from unittest import mock

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from faults.checked import FULL, HangsError, clean, write_ledger
from faults.folders import RECIPE, finished, measured, network
from faults.hostile import DATES, VALUES, changed, damaged, tensor_files
from faults.readers import planned, toml_of
from helpers.small import SMALL, cifar10_members, svhn_split, write_cifar10, write_fashion_mnist, write_svhn
from msgd.cli.terminal import print_verdicts
from msgd.lab.data.load import load_data
from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.checkpoint import snapshot_steps
from msgd.lab.experiment_folder.identity import run_folder
from msgd.lab.experiment_folder.results import gather_results
from msgd.lab.experiment_folder.resume import check_state, read_run_state
from msgd.lab.experiment_folder.tuning import Tuning, write_tuning
from msgd.lab.kinds import experiment_in
from msgd.lab.least_squares.pipeline import simulate_experiment
from msgd.lab.measure.restore import _fill
from msgd.lab.measure.selection import Point
from msgd.lab.networks.build import build_network
from msgd.lab.recipes.load import recipe_from
from msgd.lab.recipes.source import read_table, recipe_names, recipe_text
from msgd.lab.report.html import write_page
from msgd.lab.training.sgd import Trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*adds no noise to a batch:UserWarning")  # which is said to the user
SHARE = 1 if FULL else 40  #: of the cases that run


def cases(number):
    return settings(
        max_examples=max(12, number // SHARE),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module", autouse=True)
def ledger():
    torch.set_num_threads(1)
    yield
    if FULL:
        write_ledger()


def quiet():
    return Console(file=io.StringIO(), width=140)


# --- recipes ---------------------------------------------------------------------------------------------------------


TABLES = {name: read_table(recipe_text(name), source=name) for name in recipe_names()} | {"small": tomllib.loads(SMALL)}
LEAST_SQUARES = TABLES.pop("least-squares")


@cases(3000)
@given(st.sampled_from(sorted(TABLES)).flatmap(lambda name: changed(TABLES[name], VALUES | DATES)))
def test_recipes_with_other_values(table):
    clean("recipe", planned, toml_of(table))


@cases(1500)
@given(changed(LEAST_SQUARES, VALUES | DATES))
def test_recipes_of_least_squares_with_other_values(table):
    clean("least-squares recipe", planned, toml_of(table))


@cases(1500)
@given(st.sampled_from([SMALL, *map(recipe_text, recipe_names())]).flatmap(lambda text: damaged(text.encode())))
def test_damaged_recipes(content):
    clean("damaged recipe", planned, content.decode("utf-8", errors="replace"))


@cases(500)
@given(
    st.dictionaries(
        st.lists(
            st.sampled_from([*tomllib.loads(SMALL), "gd", "sgd", "law", "b", "noise", "inner", ""]),
            min_size=1,
            max_size=40,
        ).map(".".join),
        VALUES,
        min_size=1,
        max_size=3,
    )
)
def test_settings(changes):
    clean("setting", planned, SMALL, changes)


# --- data ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data_folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("data")
    for name, content in cifar10_members(train=5, test=2).items():
        (base / "unpacked" / name).parent.mkdir(parents=True, exist_ok=True)
        (base / "unpacked" / name).write_bytes(content)
    return {
        "unpacked": base / "unpacked",
        "fashion-mnist": write_fashion_mnist(base / "fashion-mnist", train=6, test=5),
        "svhn": write_svhn(base / "svhn", train=6, test=5),
        "cifar10": write_cifar10(base / "cifar10", train=5, test=2),
    }


def loaded(name, folder, path, content):
    path.write_bytes(content)
    found = load_data(name, data_dir=folder)
    assert found.train_inputs.dtype == np.uint8
    assert len(found.train_inputs) == len(found.train_targets) == found.n > 0
    assert 0 <= found.train_targets.min() <= found.train_targets.max() < found.classes
    found.digest()


def of(folder, name):
    """A file's path and content before anything was done to it."""
    path = folder / name
    kept = path.with_name(name + ".kept")
    if not kept.exists():
        shutil.copy(path, kept)
    return path, kept.read_bytes()


@cases(1500)
@given(st.data(), st.sampled_from(["images-idx3", "labels-idx1"]), st.booleans())
def test_idx(data_folders, data, what, packed):
    folder = data_folders["fashion-mnist"]
    path, content = of(folder, f"t10k-{what}-ubyte.gz")
    if packed:
        content = data.draw(damaged(content))
    else:
        content = gzip.compress(data.draw(damaged(gzip.decompress(content))), compresslevel=1)
    clean("IDX", loaded, "fashion-mnist", folder, path, content)


@cases(1500)
@given(st.data(), st.booleans())
def test_mat(data_folders, data, packed):
    folder = data_folders["svhn"]
    path, content = of(folder, "test_32x32.mat")
    if not packed:
        file = io.BytesIO()
        from scipy.io import savemat

        savemat(file, svhn_split(6, seed=0), do_compression=False)
        content = file.getvalue()
        head, tail = content[:400], content[400:]
        content = data.draw(damaged(head)) + tail
    clean(".mat", loaded, "svhn", folder, path, data.draw(damaged(content, most=2)) if packed else content)


@cases(1000)
@given(st.data(), st.booleans())
def test_archives(data_folders, data, packed):
    folder = data_folders["cifar10"]
    path, content = of(folder, "cifar-10-python.tar.gz")
    if packed:
        content = data.draw(damaged(content))
    else:
        tar = gzip.decompress(content)
        at = 512 * data.draw(st.integers(0, len(tar) // 512 - 1))
        content = gzip.compress(tar[:at] + data.draw(damaged(tar[at : at + 512])) + tar[at + 512 :], compresslevel=1)
    clean("archive", loaded, "cifar10", folder, path, content)


@cases(1000)
@given(st.data())
def test_pickles(data_folders, data):
    folder = data_folders["unpacked"]
    path, content = of(folder / "cifar-10-batches-py", "data_batch_1")
    content = data.draw(damaged(content[:300])) + content[300:-60] + data.draw(damaged(content[-60:], most=1))
    clean("pickle", loaded, "cifar10", folder, path, content)


# --- folders ---------------------------------------------------------------------------------------------------------

TUNED = RECIPE.replace("[methods.sgd]", "[tune]\nlr = [0.1, 0.2]\n[methods.sgd]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished experiment with a tuning and measurements; every test puts back what it changes."""
    out = tmp_path_factory.mktemp("folder") / "out"
    made = finished(out, TUNED)
    with mock.patch("os.fsync"):
        means = {"sgd": {"0.1": 0.4, "0.2": 0.3}, "cov": {"0.1": 0.2, "0.2": 0.3}}
        write_tuning(Tuning(200, 3, means, {"sgd": 0.1, "cov": 0.2}), out)
        (out / "measurements.json").write_text(json.dumps(measured(made)))
        scores = [{"name": name, "lower_is_better": name == "loss"} for name in ("accuracy", "loss")]
        about = json.loads((out / "experiment.json").read_text())
        (out / "experiment.json").write_text(json.dumps(about | {"scores": scores}))
    return out


def compared(out):
    """What `msgd compare` and `msgd report` do but for the pictures."""
    experiment = experiment_in(out)
    gathered = experiment.gather()
    print_verdicts(experiment, gathered, quiet())
    json.dumps(gathered.as_json(), allow_nan=False)


def reported(out):
    experiment = experiment_in(out)
    write_page(experiment.page(experiment.gather()), out)


def with_file(path, content, read, target, out):
    """Read a folder in which one file is another one."""
    kept = path.read_bytes()
    path.write_bytes(content)
    try:
        with mock.patch("os.fsync"):
            return clean(target, read, out)
    finally:
        path.write_bytes(kept)


def _json(data, path):
    content = path.read_bytes()
    if data.draw(st.booleans()):
        return data.draw(damaged(content))
    return json.dumps(data.draw(changed(json.loads(content)))).encode()


@cases(600)
@given(st.data(), st.sampled_from(["experiment.json", "tuning.json"]))
def test_descriptions(folder, data, name):
    with_file(folder / name, _json(data, folder / name), compared, name, folder)


@cases(600)
@given(st.data(), st.sampled_from(["config.toml", "sgd/seed-0/config.toml"]))
def test_configurations(folder, data, name):
    path = folder / name
    if data.draw(st.booleans()):
        content = data.draw(damaged(path.read_bytes()))
    else:
        content = toml_of(data.draw(changed(tomllib.loads(path.read_text()), VALUES | DATES))).encode()
    with_file(path, content, compared, "config.toml", folder)


@cases(1500)
@given(st.data())
def test_metrics(folder, data):
    path = folder / "sgd" / "seed-0" / "metrics.jsonl"
    if data.draw(st.booleans()):
        content = data.draw(damaged(path.read_bytes()))
    else:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        content = "\n".join(json.dumps(line) for line in data.draw(changed(lines))).encode()
    with_file(path, content, compared, "metrics.jsonl", folder)


@cases(150)
@given(st.data(), st.sampled_from(["measurements.json", "experiment.json", "tuning.json"]))
def test_reports(folder, data, name):
    with_file(folder / name, _json(data, folder / name), reported, "report", folder)
    if (folder / "report.html").exists():
        assert "<script>alert" not in (folder / "report.html").read_text(encoding="utf-8")


def resumed(out):
    """What `msgd run` and `msgd measure` do with a run's folder before they compute anything."""
    run = gather_results(out).finished_runs[0].run
    folder = run_folder(run, out)
    checkpoint, _ = read_run_state(run, folder)
    model = build_network(run.model, input_shape=(40,), classes=10, seed=run.seed)
    check_state(folder / "checkpoint.safetensors", run, checkpoint.tensors, model)
    Trainer(model, run.lr).load(checkpoint.tensors)
    for step in snapshot_steps(folder):
        _fill(model, Point(run, folder, step))


@cases(1200)
@given(st.data(), st.sampled_from(["checkpoint.safetensors", "snapshots/10.safetensors"]))
def test_tensors(folder, data, name):
    path = folder / "sgd" / "seed-0" / name
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    content = path.read_bytes()
    if data.draw(st.booleans()):
        head = 8 + int.from_bytes(content[:8], "little")
        content = data.draw(damaged(content[:head])) + content[head:]
    else:
        run = gather_results(folder).finished_runs[0].run
        content = data.draw(tensor_files(network(run, None), metadata))
    with_file(path, content, resumed, "tensors", folder)


# --- least squares ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trajectories(tmp_path_factory):
    """A finished experiment of two methods."""
    from msgd.lab.execution.workers import Workers

    out = tmp_path_factory.mktemp("least-squares") / "out"
    table = LEAST_SQUARES | {"n": 10, "d": 2, "b": 4, "steps": 4, "trajectories": 20}
    table["methods"] = {name: LEAST_SQUARES["methods"][name] for name in ("cov", "sgd")}
    recipe = recipe_from(table, source="made")
    simulate_experiment("made", recipe, out, workers=Workers(1), console=quiet())
    return out


def simulated_report(out):
    compared(out)
    reported(out)


@cases(450)
@given(st.data(), st.sampled_from(["config.toml", "experiment.json", "cov/config.toml", "cov/losses-0-20.safetensors"]))
def test_folders_of_least_squares(trajectories, data, name):
    path = trajectories / name
    if name.endswith("toml") and data.draw(st.booleans()):
        content = toml_of(data.draw(changed(tomllib.loads(path.read_text()), VALUES | DATES))).encode()
    elif name.endswith("json"):
        content = _json(data, path)
    elif name.endswith("safetensors") and data.draw(st.booleans()):
        values = np.array(data.draw(st.lists(st.floats(), min_size=60, max_size=60))).reshape(20, 3)
        checksum = f"{zlib.crc32(values.tobytes()):08x}"
        content = safetensors.numpy.save({"losses": values}, {"crc32": checksum})
    else:
        content = data.draw(damaged(path.read_bytes()))
    read = compared if data.draw(st.integers(0, 9)) else simulated_report
    with_file(path, content, read, "least-squares folder", trajectories)


# --- the test itself -------------------------------------------------------------------------------------------------


def test_a_broken_reader_is_found():
    """The control: readers with each of the faults that the others are held to have not."""

    def speechless():
        raise UserError("")

    def hungry():
        return bytearray(3 * 2**30)

    for broken, fault in (
        (lambda: {}["key"], KeyError),
        (lambda: json.loads("[" * 10**5), RecursionError),
        (speechless, AssertionError),
        (hungry, MemoryError),
        (lambda: time.sleep(30), HangsError),
    ):
        with pytest.raises(fault):
            clean("control", broken, seconds=0.2 if fault is HangsError else 60)


def test_a_recipe_reader_without_bounds_is_found(monkeypatch):
    """The control of the cases: without its bounds a reader fails on them."""
    monkeypatch.setattr("msgd.lab.safe_io.bounded.check_values", lambda _: None)
    monkeypatch.setattr("msgd.lab.recipes.source.check_values", lambda _: None)
    monkeypatch.setattr("msgd.lab.recipes.build.LARGEST", float("inf"))

    @cases(1200)
    @given(changed(tomllib.loads(SMALL) | {"b": 8.0}, VALUES | DATES))
    def fuzz(table):
        clean("control", planned, toml_of(table), {"methods.gd": {"law": "poisson", "b": 10**12}})

    with pytest.raises(Exception, match=r"(?i)memory|alloc|lam|large"):
        fuzz()
