"""Faults against the real command: whatever happens, the same command goes on, to the bitwise same end."""

import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest

from helpers.commands import fresh_msgd, fresh_start, msgd, start, wait_until, workers_of
from helpers.outcomes import outcome
from msgd.lab.experiment_folder.checkpoint import read_checkpoint

AGAIN = "the same command continues"

in_full = pytest.mark.skipif(os.environ.get("MSGD_FAULTS") != "full", reason="make test-faults")


def checkpoints(out):
    return sorted(out.glob("*/seed-*/checkpoint.safetensors"))


def one_line(process_or_done, code, *said):
    """The command ended with an exit code and one line that says why."""
    errors = process_or_done.stderr if isinstance(process_or_done.stderr, str) else process_or_done.communicate()[1]
    assert process_or_done.returncode == code, errors
    assert len(errors.splitlines()) == 1, errors
    assert errors.startswith("msgd: ")
    for part in said:
        assert part in errors


def intact(out):
    """Every evaluation up to a run's checkpoint is there and whole, and there are no runs but the planned ones."""
    for path in checkpoints(out):
        checkpoint = read_checkpoint(path.parent)  # checks the tensors' checksum
        every = tomllib.loads((out / "config.toml").read_text())["eval_every"]
        lines = (path.parent / "metrics.jsonl").read_text().splitlines()
        due = list(range(0, checkpoint.step + 1, every))
        assert [json.loads(line)["step"] for line in lines[: len(due)]] == due
    assert {path.parent.name for path in out.glob("*/seed-*")} <= {"sgd", "bernoulli"}


def test_kill_9_at_random_moments(command, continues, inject, full, tmp_path):
    """The same folder is killed more than once, until a command gets to its end."""
    targets, rng = ("the command", "a worker", "all its processes"), random.Random(0)
    for number, each in enumerate([(target,) * 2 for target in targets * 4] if full else [targets]):
        out = tmp_path / str(number)
        for target in each:
            with inject(f"kill -9 of {target}"):
                killed(command, out, target, rng)
        with inject(f"going on after kill -9 of {each[-1]}"):
            continues(out)


def killed(command, out, target, rng):
    begun = (out / ".lock").exists()
    process = start(*command, "--jobs", 2, "--out", out)
    wait_until(lambda: process.poll() is not None or (workers_of(process.pid) if begun else (out / ".lock").exists()))
    time.sleep(rng.uniform(0, 4))
    workers = workers_of(process.pid)
    if target == "a worker" and workers:
        os.kill(rng.choice(workers), signal.SIGKILL)
    elif target == "all its processes":
        with suppress(ProcessLookupError):  # it has come to its end already
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    _, errors = process.communicate(timeout=120)
    assert "Traceback" not in errors
    if process.returncode != -signal.SIGKILL:  # after one, loky says that it cleans up
        assert len(errors.splitlines()) <= 1, errors
    intact(out)


def test_ctrl_c(command, continues, inject, tmp_path):
    out = tmp_path / "out"
    with inject("Ctrl-C"):
        process = start(*command, "--out", out)
        wait_until(lambda: len(checkpoints(out)) >= 2)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the command and its workers alike
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert errors == f"msgd: interrupted; {AGAIN} where the runs were saved\n"
        wait_until(lambda: not processes_of(process.pid))
        continues(out)


def processes_of(group):
    """Those that live: one that has ended may wait for its parent to notice."""
    return subprocess.run(["pgrep", "-g", str(group), "-r", "R,S,D"], capture_output=True, check=False).stdout


def limited(limit, size):
    return lambda: resource.setrlimit(limit, (size, size))


@in_full
def test_a_file_that_cannot_grow(command, continues, inject, tmp_path):
    """A limit of the file size below that of a checkpoint: the first one cannot be written."""
    out = tmp_path / "out"
    with inject("write refused: file size limit"):
        done = fresh_msgd(*command, "--out", out, preexec_fn=limited(resource.RLIMIT_FSIZE, 200_000))
        one_line(done, 2, "File too large", "ulimit", AGAIN)
        continues(out)


def in_namespace(script):
    """Run a shell script that may mount file systems, without privileges."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no namespaces to mount in")
    done = subprocess.run(["unshare", "-rm", "sh", "-euc", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def shell(command):
    return " ".join([sys.executable, "-m", "msgd", *map(str, command)])


def test_the_disk_is_full(command, continues, inject, full, tmp_path):
    """A file system of so many kilobytes: full at the description, at a checkpoint, at the report."""
    for size in [4, 400, 1000, 2000, 3000, 4500, 6000] if full else [1000]:
        out, kept = tmp_path / "disk", tmp_path / f"kept-{size}"
        out.mkdir(exist_ok=True)
        with inject("disk full"):
            done = in_namespace(
                f"mount -t tmpfs -o size={size}k none {out}\n"
                f"if {shell(command)} --out {out}/out; then echo fits; else echo code $?; fi\n"
                f"mount -o remount,size=100m {out}; cp -a {out}/out {kept} || mkdir {kept}"
            )
            if "fits" not in done.stdout:
                assert "code 2" in done.stdout
                assert "the disk is full: free some space" in done.stderr
                assert AGAIN in done.stderr
                assert len(done.stderr.splitlines()) == 1, done.stderr
            intact(kept)
            continues(kept)


def test_the_folder_becomes_read_only(command, continues, inject, tmp_path):
    out = tmp_path / "out"
    with inject("folder read-only midway"):
        done = in_namespace(
            f"{shell(command)} --out {out} &\n"
            f"while ! [ -e {out}/sgd/seed-0/checkpoint.safetensors ]; do sleep 0.05; done\n"
            f"mount --bind {out} {out}; mount -o remount,bind,ro {out}\n"
            "wait $! || echo code $?"
        )
        assert "code 2" in done.stdout
        assert "Read-only file system" in done.stderr
        assert "make it writable" in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
        continues(out)


def test_two_commands_at_once(command, whole, inject, full, tmp_path):
    for number in range(5 if full else 1):
        out = tmp_path / str(number)
        with inject("two commands on one folder"):
            both = [start(*command, "--out", out) for _ in range(2)]
            ends = [process.communicate(timeout=300) for process in both]
            assert sorted(process.returncode for process in both) in ([0, 2], [0, 0])  # refused, or just after
            for process, (_, errors) in zip(both, ends, strict=True):
                assert process.returncode == 0 or "another msgd process is using" in errors
            assert outcome(out) == whole


CLOCK = """
import time
import tomllib
true, began = time.time, time.monotonic()
def jumping():
    return true() - 86400 * int((time.monotonic() - began) // 0.7)  # back a day, time and again
time.time, time.time_ns = jumping, lambda: int(jumping() * 1e9)
"""


def test_the_clock_jumps_back(command, continues, inject, tmp_path, monkeypatch):
    out = tmp_path / "out"
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    with inject("clock jumping back"):
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
        process = fresh_start(*command, "--out", out)
        wait_until(lambda: checkpoints(out))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        for path in out.rglob("*"):
            os.utime(path, (2e9, 2e9))  # all of it is of the future
        continues(out)


def test_a_worker_out_of_memory(command, continues, inject, full, tmp_path, monkeypatch):
    # A worker keeps what it has freed, and may come to its end without asking for more: here it gives all back.
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "4096")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "0")
    for number in range(5 if full else 1):
        out = tmp_path / str(number)
        with inject("worker out of memory"):
            process = start(*command, "--jobs", 2, "--out", out)
            wait_until(lambda out=out: checkpoints(out))
            for worker in workers_of(process.pid)[:1]:
                resource.prlimit(worker, resource.RLIMIT_DATA, (2**20, 2**20))
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 1, errors
            assert len(errors.splitlines()) == 1, errors
            assert "memory" in errors
            assert "--jobs 1" in errors
            continues(out)


@pytest.mark.parametrize(
    "target", ["the command", *(pytest.param(other, marks=in_full) for other in ("a worker", "all its processes"))]
)
def test_sigterm_saves_where_it_is(command, whole, inject, tmp_path, target):
    """With no checkpoint due, what was trained is saved all the same."""
    out = tmp_path / "out"
    rarely = Path(tmp_path / "small.toml")
    rarely.write_text(re.sub(r"checkpoint_every = \d+", "checkpoint_every = 100000", command[1].read_text()))
    arguments = ["run", rarely, *command[2:], "--out", out]
    with inject(f"SIGTERM to {target}"):
        process = start(*arguments, "--jobs", 2)
        wait_until(lambda: len(list(out.glob("*/seed-*/metrics.jsonl"))) >= 2)
        time.sleep(0.3)
        if target == "a worker":
            os.kill(workers_of(process.pid)[0], signal.SIGTERM)
        elif target == "the command":
            process.terminate()
        else:
            os.killpg(process.pid, signal.SIGTERM)
        begun = time.monotonic()
        _, errors = process.communicate(timeout=60)
        assert time.monotonic() - begun < 20
        assert process.returncode == 143, errors
        assert errors == f"msgd: terminated; {AGAIN} where the runs were saved\n"
        saved = [read_checkpoint(path.parent).step for path in checkpoints(out)]
        assert len(saved) >= 2
        assert min(saved) > 0
        done = msgd(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert outcome(out) == whole


@in_full
def test_sigterm_with_one_job(command, continues, inject, tmp_path):
    """Training in the command itself."""
    out = tmp_path / "out"
    with inject("SIGTERM to the command"):
        process = start(*command, "--jobs", 1, "--out", out)
        wait_until(lambda: list(out.glob("*/seed-*/metrics.jsonl")))
        process.terminate()
        one_line(process, 143, "terminated", AGAIN)
        assert len(checkpoints(out)) == 1
        continues(out)


def test_the_numbers_do_not_depend_on_how_they_came(command, whole, inject, full, tmp_path):
    for jobs in (1, 2) if full else (1,):
        out = tmp_path / str(jobs)
        with inject("the same command again"):
            assert msgd(*command, "--jobs", jobs, "--out", out).returncode == 0
            assert outcome(out) == whole
    metrics = out / "sgd" / "seed-0" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("0.", "0.1", 1))
    assert outcome(out) != whole  # a control: the comparison sees what differs
    shutil.rmtree(metrics.parent)
    assert outcome(out) != whole


def test_one_run_diverges_and_the_others_go_on(command, whole, inject, tmp_path):
    out = tmp_path / "out"
    with inject("a run that diverges"):
        done = msgd(*command, "--set", "methods.bernoulli.lr=1e9", "--out", out)
        assert (done.returncode, done.stderr) == (0, "")
        assert re.search(r"\b([12]) of \1 diverged", done.stdout)
        assert "bernoulli diverged: its loss was no longer finite with seed 0 after" in done.stdout
        results = json.loads((out / "results.json").read_text())
        assert results["verdicts"] == []
        for run in results["runs"]:
            assert (run["final"] is None) == (run["diverged"] is not None) == (run["method"] == "bernoulli")
        sgd = {folder: run for folder, run in whole[0].items() if "sgd" in str(folder)}
        assert {folder: run for folder, run in outcome(out)[0].items() if "sgd" in str(folder)} == sgd
