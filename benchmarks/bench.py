"""What msgd costs, side by side with what one would do instead: writes results.json and environment.json.

    make bench                              # all rows, about 70 minutes on two quiet cores
    python benchmarks/bench.py --only draws --quick --out DIR

Ratios are medians over interleaved repetitions, with a 95% interval that assumes no distribution; a row is met where
the worse end of its interval reaches what is to be reached. Memory is the peak of a process of its own. Rows that are
measured already are kept in the file; a row is written as soon as it is measured, with the environment of its group.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from alone import EXACT, FAST, ROOT, ask
from draws import DENSE, SPARSE, dense, microseconds, sparse
from gate import gate
from gpu import lockstep, on_gpu
from settings import loop, make
from timing import Result, interleaved, judged, ratio

from msgd import Reweighter
from msgd.lab.execution.environment import describe_environment
from msgd.noise import Fisher

SETTINGS = {"conv-small": "conv-small, n = 1000", "vgg11": "VGG-11, B = 128", "transformer": "transformer, B = 32"}
PEERS = ROOT / "build" / "peers"
NEEDED = ["torch>=2.6,<2.14", "numpy", "scipy", "opacus>=1.5", "backpack-for-pytorch>=1.6"]


def reweighter(quick: bool) -> list[Result]:
    """`Reweighter` in a loop against the loop without noise: time, and peak memory."""
    rows = []
    for name, title in SETTINGS.items():
        pairs = {"conv-small": 600, "vgg11": 400, "transformer": 200}[name]
        steps = {
            which: loop(make(name), Reweighter(Fisher(20), seed=0) if which == "reweighter" else torch.mean)
            for which in ("reweighter", "plain")
        }
        times = interleaved(steps, 3 if quick else pairs)
        found = ratio(times["reweighter"], times["plain"])
        found |= {f"{which}_ms": 1e3 * statistics.median(seconds) for which, seconds in times.items()}
        found["the weighing alone, over the mean,_us"] = 1e6 * call_alone(len(make(name).y), 200)
        rows.append(judged(f"Reweighter step, {title}: time", "the loop without noise", 1.01, found))
        del steps
        peaks: dict[str, list[dict[str, float]]] = {"reweighter": [], "plain": []}
        for _ in range(1 if quick else 5):
            for which, each in peaks.items():
                each.append(ask("memory.py", name, which, malloc=EXACT))
        found = ratio(*([each["peak_mib"] for each in peaks[which]] for which in ("reweighter", "plain")))
        for which, each in peaks.items():
            found |= {f"{which}_mib": statistics.median(e["peak_mib"] for e in each)}
            found |= {f"{which} on top of network and batch_mib": statistics.median(e["on_top_mib"] for e in each)}
        rows.append(judged(f"Reweighter step, {title}: peak memory", "the loop without noise", 1.01, found))
    return rows


def call_alone(n: int, repetitions: int) -> float:
    """Seconds that `Reweighter` and its backward pass take on n losses that are there, over those of their mean."""
    losses, reweight = torch.rand(n, requires_grad=True), Reweighter(Fisher(20), seed=0)
    steps = {"ours": lambda: reweight(losses).backward(), "mean": lambda: losses.mean().backward()}  # type: ignore[no-untyped-call]
    times = interleaved(steps, repetitions)
    return statistics.median(times["ours"]) - statistics.median(times["mean"])


def peers(quick: bool) -> list[Result]:
    """A Fisher step on VGG-11 against per-example gradients times w."""
    python = _environment_of_peers()
    found = ask("peers.py", "time", 1 if quick else 8, python=python)
    best = min(found["ratios"], key=lambda name: found["ratios"][name]["ratio"])
    rows = [
        judged(
            f"Fisher step, VGG-11, B = 128: how many times less time than {name}",
            "per-example gradients times w" + (", the fastest" if name == best else ""),
            2.0,
            result
            | {"ours_s": found["seconds"]["ours"], "theirs_s": found["seconds"][name], "versions": found["versions"]},
            at_least=True,
        )
        for name, result in found["ratios"].items()
    ]
    peaks: dict[str, list[float]] = {name: [] for name in ("plain", "ours", *found["ratios"])}
    for _ in range(1 if quick else 3):
        for name, values in peaks.items():
            values.append(ask("peers.py", "memory", name, python=python, malloc=EXACT)["peak_mib"])
    # Ours may need nothing on top of the plain step, or less than the peaks scatter: that scatter is then its need.
    scatter = max(1.0, max(peaks["plain"]) - min(peaks["plain"]))
    extra = {
        name: [max(value - plain, scatter) for value, plain in zip(values, peaks["plain"], strict=True)]
        for name, values in peaks.items()
    }
    rows += [
        judged(
            f"Fisher step, VGG-11, B = 128: how many times less memory than {name} on top of the plain step",
            "per-example gradients times w",
            10.0,
            ratio(extra[name], extra["ours"])
            | {"ours_mib": statistics.median(extra["ours"]), "theirs_mib": statistics.median(extra[name])},
            at_least=True,
        )
        for name in found["ratios"]
    ]
    return rows


def _environment_of_peers() -> str:
    """The interpreter of an environment with Opacus and BackPACK, whose torchvision must not enter the project's."""
    python = PEERS / "bin" / "python"
    ready = PEERS / ".ready"
    if not ready.exists():
        print("  setting up build/peers with Opacus and BackPACK", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(PEERS)], check=True)
        done = subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", *NEEDED], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"pip could not install {' '.join(NEEDED)}: {done.stderr.strip()[-200:]}")
        ready.touch()
    return str(python)


def lab(group: str) -> Callable[[bool], list[Result]]:
    """A group of the laboratory's steps, in a process with the memory settings of its workers."""
    return lambda quick: list(ask("lab.py", group, int(quick), malloc=FAST))


def main_job(quick: bool) -> list[Result]:
    """`make run` against the raw steps of its runs."""
    options = ["--seeds", "1", "--steps", "200"] if quick else []
    cores = len(os.sched_getaffinity(0))
    ratios, detail = [], {}
    for _ in range(1 if quick else 2):
        with tempfile.TemporaryDirectory() as out:
            command = [sys.executable, "-m", "msgd", "run", "mnist1d", *options, "--out", out]
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            wall = time.perf_counter() - start
            runs = json.loads((Path(out) / "results.json").read_text())["runs"]
        raw = sum(run["seconds"] for run in runs) / cores
        ratios.append((wall, raw))
        detail = {"wall_s": wall, "raw_s": raw, "runs": len(runs), "cores": cores}
    found = ratio([wall for wall, _ in ratios], [raw for _, raw in ratios]) | detail
    return [judged("make run, from its start to its end", "the raw steps of its runs / cores", 1.25, found)]


def draws(quick: bool) -> list[Result]:
    """Dense draws against the raw generator; sparse ones in microseconds."""
    rows = []
    # The sparse ones come in rounds between the dense: each takes a second, and a machine has slow spells of many.
    few: dict[str, dict[str, list[float]]] = {name: {} for name in SPARSE}
    for n, repetitions in ((50_000, 200), (10_000_000, 15)):
        for name in DENSE:
            found = dense(name, n, 3 if quick else repetitions)
            rows.append(judged(f"a draw of {name}, n = {n:,}", "NumPy's raw numbers", 1.5, found))
            for sparse_name, times in few.items():
                for part, each in microseconds(sparse_name, 10**9, 3 if quick else 25).items():
                    times[part] = [*times.get(part, []), *each]
        if quick:
            break
    for name, times in few.items():
        found = sparse(name, 10**9, times)
        found["other_n"] = [sparse(name, n, microseconds(name, n, 3 if quick else 50)) for n in (10**6, 10**12)]
        row = {"what": f"a draw of {name} of 10⁹", "against": "microseconds", "reach": 60.0, "at_least": False}
        rows.append({**row, "ratio": found["us"], **found, "met": found["high"] <= 60.0})
    return rows


ROWS: dict[str, Callable[[bool], list[Result]]] = {
    "draws": draws,
    "gate": gate,
    "reweighter": reweighter,
    "peers": peers,
    "full-batch": lab("full-batch"),
    "sparse": lab("sparse"),
    "main-job": main_job,
    "gpu": on_gpu,
    "lockstep": lambda quick: lockstep("cuda" if torch.cuda.is_available() else "cpu", 5 if quick else 100),
}


def main() -> None:
    """Measure, and write what was measured after each group of rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], epilog="All rows take 70 minutes.")
    parser.add_argument("--only", default=",".join(ROWS), help="some of " + ", ".join(ROWS))
    parser.add_argument("--quick", action="store_true", help="a few repetitions: to see that it works")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent,
        help="where the two files go (default: beside this script, over those published)",
    )
    given = parser.parse_args()
    chosen = given.only.split(",")
    if unknown := set(chosen) - set(ROWS):
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    torch.set_num_threads(1)
    try:
        given.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out: {error}: give another folder")
    path, where = given.out / "results.json", given.out / "environment.json"
    measured = json.loads(path.read_text()) if path.exists() else {}
    for name in chosen:
        start = time.perf_counter()
        print(f"{name} …", flush=True)
        try:
            measured[name] = ROWS[name](given.quick)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            measured[name] = [{"what": name, "not_measured": " ".join(str(error).split())}]
        except KeyboardInterrupt:
            print("interrupted; the rows so far are written", file=sys.stderr)
            raise SystemExit(130) from None
        measured = {key: measured[key] for key in ROWS if key in measured}
        path.write_text(json.dumps(measured, indent=2) + "\n")
        about = describe_environment("cpu") | {"command": shlex.join(["python", "benchmarks/bench.py", *sys.argv[1:]])}
        environment = json.loads(where.read_text()) if where.exists() else {}
        environment = {key: value for key, value in environment.items() if key in measured} | {name: about}
        where.write_text(json.dumps(environment, indent=2) + "\n")
        for row in measured[name]:
            print(f"  {said(row)}", flush=True)
        print(f"  ({time.perf_counter() - start:.0f} s)", flush=True)


def said(row: Result) -> str:
    """A row in a line."""
    if "not_measured" in row:
        return f"{row['what']}: not measured: {row['not_measured']}"
    sign = "≥" if row["at_least"] else "≤"
    return (
        f"{row['what']}: {row['ratio']:.4g} ({row['low']:.4g} … {row['high']:.4g}), to reach {sign} {row['reach']:g}: "
        + ("met" if row["met"] else "not met")
    )


if __name__ == "__main__":
    main()
