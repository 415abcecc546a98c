"""Jobs on a Dask cluster: the results of this machine's processes, lost workers, and one line for what is wrong."""

import json
import logging
import os
import shutil
import signal
import sys
import threading
import time

import joblib
import pytest
import torch
from dask.distributed import Client, KilledWorker, LocalCluster
from filelock import FileLock, Timeout

from helpers.commands import call, msgd, start, wait_until
from helpers.measuring import RECIPE, entries, trained
from helpers.outcomes import loss_files, outcome
from helpers.small import LEAST_SQUARES, SMALL
from msgd.lab.errors import UserError
from msgd.lab.execution.parallel import run_in_parallel
from msgd.lab.execution.workers import Workers
from msgd.lab.experiment_folder.checkpoint import read_checkpoint

LONG = SMALL.replace("steps = 60", "steps = 800").replace("eval_every = 10", "eval_every = 100")
LONG = LONG.replace("checkpoint_every = 20", "checkpoint_every = 100")


def local_cluster(**options):
    options = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": 0, **options}
    return LocalCluster(dashboard_address=":0", silence_logs=logging.CRITICAL, **options)


@pytest.fixture(scope="module")
def cluster():
    with local_cluster() as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=300)
        client.run(warm_up)
        yield client


def warm_up():
    """A worker's first job imports torch, which takes longer than a run."""
    import msgd.lab.training.loop  # noqa: F401


def on(cluster):
    return ["--backend", "dask", "--address", cluster.scheduler_address]


def test_a_cluster_gives_the_same(cluster, tmp_path, fashion_mnist, monkeypatch):
    here = trained(tmp_path / "here", SMALL, fashion_mnist)
    monkeypatch.chdir(tmp_path)  # the workers have another working directory
    (tmp_path / "small.toml").write_text(SMALL)
    lost = FileLock(tmp_path / "there" / "sgd" / "seed-0" / ".lock", thread_local=False)
    (tmp_path / "there" / "sgd" / "seed-0").mkdir(parents=True)
    lost.acquire()  # as a worker that is cut off from the cluster may: its job waits
    threading.Timer(3, lost.release).start()
    command = ["run", "small.toml", "--out", "there", "--data-dir", fashion_mnist, "--log", "tensorboard"]
    assert call(*command, *on(cluster)) == 0
    assert not lost.is_locked
    assert outcome(tmp_path / "there") == outcome(here)
    assert not (tmp_path / "there" / ".data").exists()
    about = json.loads((tmp_path / "there" / "gd" / "seed-0" / "environment.json").read_text())
    assert (
        about["command"] == json.loads((tmp_path / "there" / "experiment.json").read_text())["environment"]["command"]
    )
    assert len(list((tmp_path / "there").glob("*/seed-*/tensorboard/events*"))) == 6


@pytest.mark.slow
def test_least_squares_and_measuring_too(cluster, tmp_path, fashion_mnist):
    (tmp_path / "exact.toml").write_text(LEAST_SQUARES)
    assert call("run", tmp_path / "exact.toml", "--out", tmp_path / "a", *on(cluster)) == 0
    assert call("run", tmp_path / "exact.toml", "--out", tmp_path / "b", "--jobs", 1) == 0
    assert len(loss_files(tmp_path / "a")) == 4
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b")
    out = trained(tmp_path / "trained", RECIPE, fashion_mnist, "--seeds", 1, "--methods", "sgd")
    twin = shutil.copytree(out, tmp_path / "twin")
    what = ["--what", "noise-scale", "--data-dir", fashion_mnist]
    assert call("measure", out, *what, *on(cluster)) == 0
    assert call("measure", twin, *what, "--jobs", 1) == 0
    assert entries(out) == entries(twin)
    assert not (out / ".data").exists()


@pytest.mark.slow
def test_no_address_is_a_cluster_of_this_machine(tmp_path, fashion_mnist, recipe_file):
    trained(tmp_path / "here", SMALL, fashion_mnist, "--seeds", 1)
    arguments = ["run", recipe_file, "--out", tmp_path / "out", "--data-dir", fashion_mnist, "--seeds", 1]
    done = msgd(*arguments, "--backend", "dask", "--jobs", 1)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "Dask cluster on this machine: 1 worker with one thread each\n" in done.stdout
    assert outcome(tmp_path / "out") == outcome(tmp_path / "here" / "out")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, fashion_mnist):
    folder = tmp_path_factory.mktemp("long")
    out = trained(folder, LONG, fashion_mnist, "--methods", "sgd")
    return ["run", folder / "small.toml", "--methods", "sgd", "--data-dir", fashion_mnist], outcome(out)


def in_the_middle(out):
    """A run has a checkpoint, and none is near its end."""
    found = [read_checkpoint(folder, tensors=False) for folder in out.glob("*/seed-*")]
    return any(found) and all(not checkpoint or checkpoint.step < 600 for checkpoint in found)


def free(folder):
    try:
        with FileLock(folder / ".lock", timeout=0):
            return True
    except Timeout:
        return False


@pytest.mark.parametrize("target", ["worker", "Ctrl-C", pytest.param("command", marks=pytest.mark.slow)])
def test_stopped_in_the_middle(client, cluster, uninterrupted, tmp_path, target):
    arguments, whole = uninterrupted
    command = [*arguments, "--out", tmp_path / "out", *on(cluster)]
    workers = client.run(os.getpid)
    process = start(*command)
    try:
        wait_until(lambda: in_the_middle(tmp_path / "out"))
        if target == "worker":
            os.kill(next(workers[address] for address, keys in client.processing().items() if keys), signal.SIGKILL)
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0
            assert errors == ""
        else:
            process.send_signal(signal.SIGINT if target == "Ctrl-C" else signal.SIGKILL)
            _, errors = process.communicate(timeout=120)
            if target == "Ctrl-C":
                assert process.returncode == 130
                assert errors == "msgd: interrupted; the same command continues where the runs were saved\n"
            # The workers stop, and are there for the next command.
            wait_until(lambda: all(map(free, (tmp_path / "out").glob("*/seed-*"))))
            assert not all(c.step == 800 for c in map(read_checkpoint, (tmp_path / "out").glob("*/seed-*")))
            wait_until(lambda: not any(client.processing().values()))
            assert client.run(os.getpid) == workers
            assert call(*command) == 0
    finally:
        process.kill()
    assert outcome(tmp_path / "out") == whole
    client.wait_for_workers(2, timeout=300)


def parallel(client, folder, *calls, jobs=2, hold=True):
    """The results of `run_in_parallel`, in the order in which the calls end."""
    ended = []
    folder.mkdir(exist_ok=True)
    with FileLock(folder / ".lock"):
        run_in_parallel(
            list(calls), ended.append, out=folder if hold else folder / "other", workers=Workers(jobs, client)
        )
    return ended


def test_jobs_at_a_time(client, tmp_path):
    begun = time.monotonic()
    parallel(client, tmp_path, *[joblib.delayed(time.sleep)(0.4)] * 3, jobs=1)
    assert time.monotonic() - begun > 1.2


def test_a_job_whose_workers_always_die_ends_the_command(client, cluster, tmp_path, monkeypatch, capsys):
    """joblib's own backend waits for it forever."""
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 0)
    with pytest.raises(KilledWorker) as caught:
        parallel(client, tmp_path, joblib.delayed(os._exit)(1), joblib.delayed(time.sleep)(0))
    client.wait_for_workers(2, timeout=300)

    def killed(_):
        raise caught.value

    monkeypatch.setattr("msgd.lab.kinds.experiment_in", killed)
    assert call("compare", tmp_path) == 1
    errors = capsys.readouterr().err
    assert "the workers that ran one job died repeatedly" in errors
    assert len(errors.splitlines()) == 1


@pytest.fixture
def altered(client):
    """Alter a worker; it is set right again."""
    yield client.run

    def mend():
        import sys

        from msgd.lab.execution.environment import versions

        for name in [name for name, module in sys.modules.items() if module is None]:
            del sys.modules[name]
        versions.cache_clear()
        versions().update(versions())

    client.run(mend)


def test_a_worker_without_msgd(client, altered, tmp_path):
    def hide():
        import sys

        sys.modules["msgd.lab.execution.dask"] = None

    altered(hide)
    with pytest.raises(
        UserError, match=r"a worker of the Dask cluster lacks msgd\.lab\.execution\.dask: install the same"
    ):
        parallel(client, tmp_path, joblib.delayed(os.getpid)())


@pytest.mark.parametrize(("name", "theirs"), [("msgd", "0.0.1"), ("torch", "2.0")])
def test_a_worker_with_another_version(client, altered, tmp_path, name, theirs):
    def age(name, theirs):
        from msgd.lab.execution.environment import versions

        versions()[name] = theirs

    altered(age, name, theirs)
    with pytest.raises(
        UserError, match=rf"the Dask worker on .* has {name} {theirs}, and this command has .*: install"
    ):
        parallel(client, tmp_path, joblib.delayed(os.getpid)())


@pytest.mark.parametrize("there", [True, False])
def test_a_worker_that_does_not_share_the_folder(client, tmp_path, there):
    """It has a folder of that name, of which the command's lock is not seen; or none."""
    if there:
        (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match=r"does not see the lock of this command on .*/other: give --out a folder"):
        parallel(client, tmp_path, joblib.delayed(os.getpid)(), hold=False)


def test_a_worker_of_two_threads(tmp_path):
    with (
        local_cluster(n_workers=1, threads_per_worker=2, processes=False) as cluster,
        Client(cluster, set_as_default=False) as client,
        pytest.raises(UserError, match=r"has 2 threads, .* --nworkers 2 --nthreads 1"),
    ):
        parallel(client, tmp_path, joblib.delayed(os.getpid)())


def test_a_device_that_the_worker_lacks(cluster, tmp_path, fashion_mnist, recipe_file, capsys):
    command = ["run", recipe_file, "--out", tmp_path / "out", "--data-dir", fashion_mnist, "--device", "cuda"]
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert call(*command, *on(cluster)) == 2
    errors = capsys.readouterr().err
    assert "--device cuda: torch sees no CUDA device on" in errors
    assert len(errors.splitlines()) == 1


def test_the_scheduler_goes_away(tmp_path):
    with local_cluster(n_workers=1) as cluster, Client(cluster, set_as_default=False) as client:

        def close():
            wait_until(lambda: any(task.state == "processing" for task in list(cluster.scheduler.tasks.values())))
            cluster.close()

        threading.Thread(target=close).start()
        with pytest.raises(UserError, match="the connection to the Dask cluster is lost: the same command continues"):
            parallel(client, tmp_path, joblib.delayed(time.sleep)(20))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backend", "slurm"], "--backend: 'slurm' is not known; write loky or dask"),
        (["--address", "tcp://127.0.0.1:1"], "--address is the address of a Dask cluster: add --backend dask"),
        (
            ["--backend", "dask", "--address", "scheduler"],
            "--address scheduler: give the address that dask scheduler printed, such as tcp://HOST:8786",
        ),
        (["--backend", "dask"], "--backend dask: dask.distributed is not installed: pip install 'dask[distributed]'"),
    ],
)
def test_refusals(options, message, tmp_path, recipe_file, fashion_mnist, monkeypatch, capsys):
    if "--address" not in options:
        monkeypatch.setitem(sys.modules, "dask.distributed", None)
    for command in (
        ["run", recipe_file, "--out", tmp_path / "out", "--data-dir", fashion_mnist],
        ["run", "least-squares", "--out", tmp_path / "out"],
    ):
        assert call(*command, *options) == 2
        errors = capsys.readouterr().err
        assert message in errors
        assert len(errors.splitlines()) == 1
        assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_address_where_nothing_answers(tmp_path, recipe_file, fashion_mnist):
    begun = time.monotonic()
    arguments = ["run", recipe_file, "--out", tmp_path / "out", "--data-dir", fashion_mnist]
    done = msgd(*arguments, "--backend", "dask", "--address", "tcp://127.0.0.1:1", timeout=300)
    assert time.monotonic() - begun < 300
    assert done.returncode == 2
    assert done.stderr.startswith("msgd: no Dask scheduler answers at tcp://127.0.0.1:1 (")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
