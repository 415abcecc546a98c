"""Least squares by simulation: against a slow loop, judged rightly and wrongly, resumed, refused, reported."""

import json
import math
import os
import shutil
import signal
import tomllib
import zlib

import numpy as np
import pytest

from helpers.commands import here, msgd, start, wait_until
from helpers.outcomes import loss_files, outcome
from helpers.small import LEAST_SQUARES
from msgd.lab.errors import UserError
from msgd.lab.least_squares import verdict
from msgd.lab.least_squares.band import critical_value
from msgd.lab.least_squares.losses_file import read_losses
from msgd.lab.least_squares.results import gather_simulations, judge, results_from_json
from msgd.lab.least_squares.simulate import Simulation, make_data, planned_simulations, simulate_losses
from msgd.lab.recipes.load import recipe_from
from msgd.lab.recipes.source import read_table, recipe_text
from msgd.noise import Bernoulli, Cov, Emulate, Injected, MiniBatch, Rademacher, Reshuffled, SparseCov, Subsampled
from msgd.theory import LeastSquares
from reference import fourth_moment_radius, outcomes, simulated_losses

SMALL = (
    LEAST_SQUARES
    + """[methods.heavy]
law = "injected"
centred = true
scalar_law = { law = "student-t", df = 1.5, scale = "iqr" }
"""
)


def recipe(text=SMALL, **settings):
    settings = {key.replace("__", "."): value for key, value in settings.items()}
    return recipe_from(read_table(text, source="small", settings=settings), source="small")


def judged(it):
    """All methods simulated in this process, and judged as the command does."""
    found = {s.method: (s, simulate_losses(s, it.recorded, range(it.trajectories))) for s in planned_simulations(it)}
    width = critical_value(it.false_alarms, methods=len(it.methods), steps=len(it.recorded) - 1)
    return {j.method: j for j in judge(it, found, width)}


@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.parametrize(
    "law", [MiniBatch(3), SparseCov(4, support=5), Subsampled(6, Emulate(3)), Reshuffled(4)], ids=repr
)
def test_many_trajectories_at_once_are_the_slow_loop(law, momentum):
    it = recipe(momentum=momentum, seed=5, condition=3.0)
    simulation = Simulation(
        "m", law, **{k: v for k, v in planned_simulations(it)[0].identity().items() if k not in ("method", "law")}
    )
    fast = simulate_losses(simulation, [0, 4, 6], range(7, 10))
    X, y = make_data(it)
    stream = 2**32 + zlib.crc32(b"m")
    for row, j in zip(fast, range(7, 10), strict=True):
        options = {"lr": 0.2, "momentum": momentum, "steps": 6, "seed": 5 * 2**32 + j, "stream": stream}
        np.testing.assert_allclose(row, np.array(simulated_losses(law, X, y, **options))[[0, 4, 6]], rtol=1e-12)


def test_trajectories_differ_by_number_method_and_seed():
    simulation = planned_simulations(recipe(trajectories=3))[0]
    one = simulate_losses(simulation, [6], range(3)).ravel()
    others = [
        simulate_losses(s, [6], range(3)).ravel()
        for s in (planned_simulations(recipe(seed=1))[0], planned_simulations(recipe())[1])
    ]
    assert len(set(np.concatenate([one, *others]).tolist())) == 9


def test_the_data_are_as_described():
    X, y = make_data(recipe(n=20_000, d=4, condition=9.0, noise=0.3, intercept=-4.0, slopes=2.0))
    assert (X[:, 0] == 1).all()
    np.testing.assert_allclose(X[:, 1:].var(0), [1, 1 / 3, 1 / 9], rtol=0.05)  # 5 standard errors
    solution = LeastSquares(X, y).solution
    assert abs(solution[0] + 4) < 0.01
    assert abs(np.linalg.norm(solution[1:]) - 2) < 0.03
    assert abs((X @ solution - y).std() - 0.3) < 0.01
    assert not np.array_equal(make_data(recipe(data_seed=1))[1], make_data(recipe())[1])
    assert make_data(recipe(d=1))[0].shape == (12, 1)


@pytest.mark.parametrize(
    ("law", "moments"),
    [
        (Bernoulli(2), {"variance": 1.0, "skew": 0.0, "fourth": 1.0, "centred": False}),
        (Bernoulli(1), {"variance": 3.0, "skew": 6.0, "fourth": 21.0, "centred": False}),
        (Injected(Rademacher(), 1, centred=True), {"variance": 4.0, "skew": 0.0, "fourth": 16.0, "centred": True}),
    ],
    ids=repr,
)
def test_the_radius_of_fourth_moments_is_that_of_every_outcome(law, moments):
    X = np.random.default_rng(0).normal(size=(4, 2))
    for lr in (0.1, 0.5):
        exact = 0.0
        for p, w in outcomes(law, 4):
            step = np.eye(2) - lr * X.T @ (w[:, None] * X) / 4
            exact = exact + p * np.kron(np.kron(step, step), np.kron(step, step))
        radius = np.abs(np.linalg.eigvals(exact)).max()
        assert math.isclose(fourth_moment_radius(X, lr, **moments), radius, rel_tol=1e-6)


def test_the_step_of_the_recipe_is_within_half_the_limit_of_fourth_moments():
    """For weights that are independent, with the law's own moments; fixing their sum only takes noise away."""
    it = recipe_from(read_table(recipe_text("least-squares"), source=""), source="")
    X, _ = make_data(it)
    for simulation in planned_simulations(it):
        law = simulation.law
        if simulation.method in ("gd", "df1-5"):
            continue
        xi = np.concatenate([law.at_step(it.n, seed=s, step=0).dense(it.n) - 1 for s in range(300)])
        skew, fourth = (xi**3).mean(), (xi**4).mean()
        if simulation.method == "df5":  # sampled fourth moments of it are too noisy
            fourth = 9 * law.moments(it.n).variance ** 2
        moments = {"variance": law.moments(it.n).variance, "skew": skew, "fourth": fourth, "centred": False}
        assert fourth_moment_radius(X, 2 * it.lr, **moments) < 1
    assert fourth_moment_radius(X, 1.3, **moments) > 1  # negative control, with the last one's


POWER = """
experiment = "least-squares"
title = "Five percent more"
n = 40
d = 20
intercept = 0.0
slopes = 0.0
noise = 1.0
lr = 0.1
b = 10
steps = 8
eval_every = 4
trajectories = 3000
reference = "cov"
methods = { cov = { law = "cov" }, more = { law = "cov", b = 9.523809523809524 } }
"""


def test_five_percent_more_alpha_is_off_the_curve():
    """3000 trajectories from near the optimum, where the excess loss is in proportion to α.

    A coefficient of variation of about 0.35 makes 5% some 8 standard errors, in a band of 3. The same trajectories are
    on their own curve (false alarms: 1% for the four means).
    """
    found = judged(recipe(POWER))
    assert math.isclose(found["more"].alpha, 1.05 * found["cov"].alpha)
    assert found["cov"].own.on_curve
    assert found["more"].own.on_curve
    assert not found["more"].reference.on_curve
    assert found["more"].reference.largest > 5


def test_another_beta_and_no_variance_are_off_the_reference():
    settings = {"intercept": 5.0, "slopes": 0.2, "noise": 0.2, "n": 20, "d": 2, "trajectories": 1500, "lr": 0.3}
    found = judged(recipe(SMALL + '[methods.fisher]\nlaw = "fisher"\n', **settings))
    assert found["fisher"].own.on_curve
    assert not found["fisher"].reference.on_curve
    assert found["cov"].own.on_curve
    assert found["cov"].reference is None
    heavy = found["heavy"]
    assert (heavy.alpha, heavy.exact, heavy.own) == (None, None, None)
    assert not heavy.reference.on_curve


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished experiment; tests copy it before they harm it."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.toml").write_text(SMALL)
    done = msgd("run", folder / "small.toml", "--out", folder / "out", "--jobs", 1)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "small.toml", folder / "out", done.stdout


@pytest.fixture
def done(finished, tmp_path):
    shutil.copytree(finished[1], tmp_path / "out")
    return finished[0], tmp_path / "out", finished[2]


def test_what_is_written_and_said(done, capsys):
    _, out, said = done
    table = json.loads((out / "results.json").read_text())
    assert table["recipe"] == "small"
    assert table["config"]["experiment"] == "least-squares"
    assert {"torch", "numpy", "python", "cpu", "command", "commit"} <= set(table["environment"])
    assert table["steps"] == [0, 4, 6]
    assert [method["method"] for method in table["methods"]] == ["sgd", "cov", "heavy"]
    cov = table["methods"][1]
    stored = read_losses(out / "cov" / "losses-0-250.safetensors", (250, 3))
    rest = read_losses(out / "cov" / "losses-250-300.safetensors", (50, 3))
    assert cov["mean"] == np.concatenate([stored, rest]).mean(0).tolist()
    assert cov["verdict"] == "on the curve"
    exact = LeastSquares(*make_data(recipe())).expected_loss(Cov(4), lr=0.2, steps=6, start=np.zeros(3))
    assert cov["exact"] == exact[[0, 4, 6]].tolist()
    heavy = table["methods"][2]
    assert heavy["alpha"] is heavy["exact"] is heavy["own"] is None
    assert "3 methods × 300 trajectories, 6 steps each" in said
    assert "heavy has no variance, and so no exact curve" in said
    code, again, _ = here(capsys, "compare", out)
    assert code == 0
    assert again.strip() in said
    results = gather_simulations(out)
    assert verdict.rows(results_from_json(results.as_json())) == verdict.rows(results)


def test_running_again_simulates_nothing_and_report_makes_it_anew(done, capsys):
    small, out, _ = done
    before = outcome(out)
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*/losses-*")}
    code, said, _ = here(capsys, "run", small, "--out", out, "--jobs", 1)
    assert code == 0
    assert "3 methods finished already" in said
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    (out / "results.json").unlink()
    (out / "report.html").unlink()
    assert here(capsys, "report", out)[0] == 0
    assert outcome(out) == before
    assert (out / "report.html").exists()


def test_no_line_that_is_not_for_a_terminal_is_folded(done, tmp_path, capsys):
    _, out, _ = done
    far = tmp_path / "a-folder-with-a-long-name" / ("x" * 120)
    shutil.copytree(out, far)
    (tmp_path / "small.toml").write_text(SMALL)
    code, said, _ = here(capsys, "run", tmp_path / "small.toml", "--out", far, "--jobs", 1)
    assert code == 0
    assert f"in {far}; 3 methods finished already\n" in said
    assert f"Report: {far}/report.html\n" in said


def test_more_trajectories_and_fewer_methods(done, tmp_path, capsys):
    small, out, _ = done
    stamp = (out / "cov" / "losses-0-250.safetensors").stat().st_mtime_ns
    options = ["--set", "trajectories=500", "--methods", "cov", "--jobs", 1]
    assert here(capsys, "run", small, "--out", out, *options)[0] == 0
    assert (out / "cov" / "losses-0-250.safetensors").stat().st_mtime_ns == stamp
    assert here(capsys, "run", small, "--out", tmp_path / "fresh", *options)[0] == 0
    assert outcome(out)[1]["methods"] == outcome(tmp_path / "fresh")[1]["methods"]
    code, said, _ = here(capsys, "run", small, "--out", tmp_path / "one", "--methods", "sgd", "--jobs", 1)
    assert code == 0
    assert "Nothing is compared with the reference: cov has not been run" in said


def test_a_part_that_was_lost_is_simulated_again(done, capsys):
    small, out, _ = done
    before = outcome(out)
    part = out / "sgd" / "losses-250-300.safetensors"
    part.rename(part.with_name(part.name + ".part"))  # as a kill in the middle of writing leaves it
    code, said, _ = here(capsys, "compare", out)
    assert code == 0
    assert "These numbers do not include methods that are not finished: sgd." in said
    code, said, _ = here(capsys, "run", small, "--out", out, "--jobs", 1)
    assert code == 0
    assert "2 methods finished already" in said
    assert outcome(out) == before


@pytest.mark.slow  # two dozen seconds; that of training, whose processes these are, is not
def test_kill_9_and_continue_with_another_number_of_jobs(tmp_path, capsys):
    path = tmp_path / "long.toml"
    path.write_text(SMALL)
    settings = ["--set", "trajectories=1500", "--methods", "sgd,cov"]
    assert here(capsys, "run", path, *settings, "--out", tmp_path / "whole", "--jobs", 1)[0] == 0
    out = tmp_path / "out"
    process = start("run", path, *settings, "--out", out, "--jobs", 2)
    wait_until(lambda: len(loss_files(out)) >= 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert len(loss_files(out)) < 12
    assert here(capsys, "compare", out)[0] == 2  # nothing is finished yet
    code, _, errors = here(capsys, "run", path, *settings, "--out", out, "--jobs", 1)
    assert (code, errors) == (0, "")
    assert outcome(out) == outcome(tmp_path / "whole")


def harms(out):
    part = out / "cov" / "losses-0-250.safetensors"

    def flip():
        content = bytearray(part.read_bytes())
        content[-7] ^= 1
        part.write_bytes(content)

    def scribble():
        (out / "experiment.json").write_text("{")

    return {
        "flip": flip,
        "cut": lambda: part.write_bytes(part.read_bytes()[:-9]),
        "swap": lambda: part.write_bytes((out / "cov" / "losses-250-300.safetensors").read_bytes()),
        "scribble": scribble,
        "identity": lambda: (out / "cov" / "config.toml").write_text("= 3"),
    }


@pytest.mark.parametrize(
    ("arguments", "harm", "message"),
    [
        (["--set", "learning_rate=1"], None, "unknown key 'learning_rate'; allowed are experiment, title, n"),
        (["--seeds", "3"], None, "unknown key 'seeds'"),
        (["--tune", "lr=1"], None, "unknown key 'tune'"),
        (["--data-dir", "x"], None, "simulated on the CPU: leave out --data-dir"),
        (["--set", "lr=fast"], None, "lr: "),
        (["--set", "trajectories=1"], None, "trajectories: "),
        (["--set", "experiment=most-squares"], None, "experiment: 'most-squares' is not known"),
        (["--set", "methods.cov.law=covariance"], None, "'covariance' is not a law"),
        (["--set", "methods.cov.lr=1.0"], None, "unknown key 'lr'; the law cov allows b, optional"),
        (["--set", "b=13"], None, "use b ≤ n"),
        (["--set", "reference=nobody"], None, "'nobody' is not a method of the recipe"),
        (["--methods", "adam"], None, "no method 'adam'"),
        (["--set", "lr=1e200"], None, "lr: at 1e+200 the expected loss of sgd overflows"),
        (
            ["--set", "slopes=0", "--set", "intercept=0", "--set", "noise=0"],
            None,
            "is 0 at step 0, so that no deviation",
        ),
        (["--set", "lr=0.1"], None, "give --out another folder"),
        (["--set", "seed=1"], None, "give --out another folder"),
        ([], "flip", "wrong checksum"),
        ([], "cut", "is damaged"),
        ([], "swap", "is damaged (shape (50, 3)"),
        ([], "identity", "config.toml is damaged"),
        (None, "flip", "wrong checksum"),
        (None, "scribble", "experiment.json is damaged"),
    ],
)
def test_bad_input_is_one_line_and_loses_nothing(done, capsys, arguments, harm, message):
    small, out, _ = done
    if harm:
        harms(out)[harm]()
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    command = ["report", out] if arguments is None else ["run", small, "--out", out, "--jobs", 1, *arguments]
    code, _, errors = here(capsys, *command)
    assert code == 2, errors
    assert message in errors
    assert len(errors.splitlines()) == 1
    assert errors.startswith("msgd: ")
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_a_folder_of_another_experiment(done, recipe_file, fashion_mnist, capsys):
    small, out, _ = done
    code, _, errors = here(capsys, "run", recipe_file, "--data-dir", fashion_mnist, "--out", out)
    assert code == 2
    assert "holds another experiment (least-squares, and this is training): give --out another folder" in errors
    other = out.parent / "other"
    other.mkdir()
    (other / "config.toml").write_text('title = "trained"')
    code, _, errors = here(capsys, "run", small, "--out", other)
    assert code == 2
    assert "holds another experiment (training, and this is least-squares)" in errors


def test_a_simulation_has_nothing_to_measure(done, capsys):
    code, _, said = here(capsys, "measure", done[1])
    assert code == 2
    assert "keep no checkpoints" in said
    assert len(said.splitlines()) == 1


def test_a_reference_needs_a_curve():
    with pytest.raises(UserError, match="reference: heavy has no exact curve"):
        recipe(reference="heavy")


def test_the_report(done, capsys):
    _, out, _ = done
    text = (out / "report.html").read_text()
    assert "src=" not in text.split("<body>")[0]
    for expected in ("Expected training loss", "Deviation from cov", "Residuals", "on the curve", "torch", "heavy"):
        assert expected in text
    config = out / "config.toml"
    config.write_text(config.read_text().replace('title = "Small"', 'title = "<script>alert(1)</script>"'))
    assert here(capsys, "report", out)[0] == 0
    text = (out / "report.html").read_text()
    assert "<script>alert(1)" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_a_recipe_that_extends_it(capsys):
    text = 'extends = "least-squares"\nsteps = 2\n[methods.mine]\nlaw = "gamma-ray"\n'
    with pytest.raises(UserError, match="'gamma-ray' is not a law"):
        recipe(text)
    mine = recipe(text.replace("gamma-ray", "reshuffled"))
    assert list(mine.methods)[-1] == "mine"
    assert mine.recorded == [0, 2]
    shown = here(capsys, "show", "least-squares")[1]
    assert tomllib.loads(shown)["experiment"] == "least-squares"
    assert "least-squares " in here(capsys, "recipes")[1]


def test_steps_that_are_tied_have_no_curve():
    it = recipe(SMALL.replace("mini-batch", "reshuffled"), trajectories=20)
    found = judged(it)
    assert found["sgd"].exact is None
    assert found["sgd"].alpha is not None
    assert found["sgd"].reference is not None
