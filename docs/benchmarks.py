"""Writes benchmarks.md and its pictures from what `make bench` measured (benchmarks/results.json): `make docs`."""

from __future__ import annotations

import json
import math
from html import escape
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MEASURED = HERE.parent / "benchmarks"
Row = dict[str, Any]

TITLES = {
    "reweighter": "The one line in a training loop",
    "peers": "Against per-example gradients",
    "full-batch": "The laboratory's full-batch step",
    "sparse": "Sparse steps",
    "main-job": "The whole main job",
    "draws": "Draws",
    "lockstep": "Seeds in lockstep",
    "gpu": "On a GPU",
}
#: what is to be said of a group's numbers: the reason where a row is not met
NOTES: dict[str, str] = {
    "reweighter": "What the noise itself takes is measured as well: the draw and the weighing of losses that are "
    "there, with their backward pass, over those of the mean. It is 0.1 to 0.3 ms: 0.2% of a step of conv-small, "
    "0.01% of one of VGG-11, 0.05% of one of the transformer. Where a time is not met it is for the width of the "
    "interval: on this machine, which it shares with others, the same step's time wanders by 7% from one to the next.",
    "peers": "Every route takes the same step, to rounding, which is checked before it is timed. Ours takes nothing "
    "on top of the plain step that could be measured; it is counted as 1 MiB. Opacus runs in PyTorch's usual layout "
    "of images: in channels-last, in which the others run, its gradients of convolutions came out wrong (version "
    "1.6.0).",
    "sparse": "An ideal step on 20 of 1000 examples would be 50 times cheaper. A loop written by hand for 20 random "
    "images, whose time stands behind the numbers, is 23.3 times cheaper than the full step; the lab takes 9% longer "
    "than it, for the draw, the choice of images, and the weighted loss with its backward pass. So 25 is out of reach "
    "of these kernels: on 20 images the convolutions and their backward pass come to half the rate that they have on "
    "1000 (the table above, and that of the full step), and each of some sixty calls takes its few microseconds. "
    "In other spells of this machine MiniBatch came to 21.6, 23.6 and 24.1, and the loop written by hand to 22.8 to "
    "25.8.",
    "main-job": "What is not in the raw steps: starting Python and torch three times, data, evaluation every 100 "
    "steps of 5000 examples, checkpoints, the statistics and the report.",
    "draws": "The weights are drawn from a counter-based generator made anew for every step. n is named by the law "
    "alone: time and memory of the sparse draws do not grow with it. Their bound is in microseconds, and this machine "
    "has spells, minutes long, in which all that Python does takes 1.6 times as long: the draws of the other n behind "
    "the numbers fell into one. In a whole run that began in such a spell the four rows came to 72 to 80 µs, and were "
    "not met.",
    "lockstep": "Nothing in msgd trains in lockstep; this is the measurement that would have to speak for it.",
}

HEAD = """# Benchmarks

What msgd costs, measured side by side with what one would do instead, by `make bench`. This page is made by `make docs`
from `benchmarks/results.json`.

{machine}

A ratio is the median over repetitions taken in turn, so that drift of the machine cancels; behind it stand its 95%
interval, which assumes no distribution, and the quartiles of the single ratios. **A row is met where the worse end of
the interval reaches what is to be reached.** Memory is the peak of the resident set of a process of its own. In the
pictures the tick is what is to be reached, the bar the interval. Fewer than six repetitions have no such interval: it
is their range then, and marked so. Medians of times behind a ratio are over all repetitions, while the ratio is of
neighbours: where the machine had slow spells the two differ. A "+" behind a commit: with changes not yet committed.
"""


def number(value: float) -> str:
    """Three digits, or more where a ratio is near 1."""
    return f"{value:.3f}" if 0.9 < value < 1.2 else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def picture(rows: list[Row]) -> str:
    """The rows' intervals on a logarithmic axis, as an SVG."""
    left, width, line = 12, 560, 30
    values = [v for row in rows for v in (row["low"], row["high"], row["reach"])]
    low, high = math.log(min(values)), math.log(max(values))
    pad = max(0.02, 0.08 * (high - low))

    def x(value: float) -> float:
        return left + width * (math.log(value) - low + pad) / (high - low + 2 * pad)

    height = line * len(rows) + 8
    body = ""
    for place, row in enumerate(rows):
        y = line * place + 24
        colour = "#009E73" if row["met"] else "#D55E00"
        said = f"{escape(row['what'])}: {number(row['ratio'])}"
        body += (
            f'<text x="{left}" y="{y - 9}" font-size="11" fill="#333">{said}</text>'
            f'<path d="M{left} {y}H{left + width}" stroke="#e4e4e4"/>'
            f'<path d="M{x(row["reach"]):.1f} {y - 6}V{y + 6}" stroke="#222" stroke-width="2"/>'
            f'<path d="M{x(row["low"]):.1f} {y}H{x(row["high"]):.1f}" stroke="{colour}" stroke-width="5"/>'
            f'<circle cx="{x(row["ratio"]):.1f}" cy="{y}" r="4" fill="{colour}"/>'
        )
    size = f'viewBox="0 0 {width + 2 * left} {height}" width="{width + 2 * left}"'
    background = f'<rect width="{width + 2 * left}" height="{height}" fill="#fff"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">{background}{body}</svg>\n'


def table(heads: list[str], body: list[list[str]]) -> str:
    """A table in Markdown, the first column to the left."""
    lines = [heads, [":--", *["--:"] * (len(heads) - 1)], *body]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def details(row: Row) -> str:
    """Times and memory behind a ratio."""
    units = {"ms": "ms", "mib": "MiB", "s": "s", "us": "µs"}
    said = []
    for key, value in row.items():
        name, _, unit = key.rpartition("_")
        if unit in units and name and isinstance(value, float):
            said.append(f"{name.rstrip(',')} {number(value)} {units[unit]}")
    if "waits_for" in row:
        said.append(f"the host waits for {row['waits_for']}")
    if "peak_kib" in row:
        said.append(f"peak {row['peak_kib']:.0f} KiB")
        said += [f"{other['us']:.0f} µs, {other['peak_kib']:.0f} KiB of {other['n']:.0e}" for other in row["other_n"]]
    return "; ".join(said)


def behind(row: Row) -> str:
    """What a ratio is of."""
    spread = f"; quartiles {number(row['quartile_1'])} … {number(row['quartile_3'])}" if "quartile_1" in row else ""
    said = details(row)
    return f"{row['what']}, against {row['against']}: {said}{spread}" + (f", {row['pairs']} pairs" if spread else "")


def section(name: str, rows: list[Row], about: Row) -> str:
    """One group of rows, and what they were measured with."""
    text = f"\n## {TITLES[name]}\n\n"
    missing = [row for row in rows if "not_measured" in row]
    done = [row for row in rows if "not_measured" not in row]
    for row in missing:
        text += f"Not measured: {row['not_measured']}\n\n"
    if done:
        (HERE / "benchmarks").mkdir(exist_ok=True)
        (HERE / "benchmarks" / f"{name}.svg").write_text(picture(done))
        text += f"![Ratios and what is to be reached](benchmarks/{name}.svg)\n\n"
        body = [
            [
                row["what"],
                ("≥ " if row["at_least"] else "≤ ") + f"{row['reach']:g}" + _unit(row),
                f"**{number(row['ratio'])}**",
                f"{number(row['low'])} … {number(row['high'])}" + _range(row),
                "yes" if row["met"] else "**no**",
            ]
            for row in done
        ]
        text += table(["what", "to reach", "measured", "95% interval", "met"], body)
        text += '\n??? note "Behind it"\n' + "".join(f"    - {behind(row)}\n" for row in done)
        text += f"    - measured by `{about['command']}` at commit {about['commit']}\n"
    text += "".join(_where(row) for row in done if "where" in row and (name == "full-batch" or not row["met"]))
    return text + (f"\n{NOTES[name]}\n" if name in NOTES else "")


def _unit(row: Row) -> str:
    return " µs" if row["against"] == "microseconds" else ""


def _range(row: Row) -> str:
    few = row.get("pairs", 6) < 6
    return f" (range of {row['pairs']})" if few else ""


def _where(row: Row) -> str:
    peak = row["peak_gflops"]
    body = [
        [
            f"`{part['operator']}`",
            f"{part['ms']:.2f}",
            f"{100 * part['share']:.1f}%",
            "" if part["gflop"] is None else f"{part['gflop']:.3f}",
            "" if part["gflops"] is None else f"{part['gflops']:.1f}",
            "" if part["gflops"] is None else f"{100 * part['gflops'] / peak:.0f}%",
        ]
        for part in row["where"]
    ]
    return (
        f"\nWhere its {number(row['step_ms'])} ms go (under the profiler, which adds some). The machine's peak on one "
        f"thread, in a product of 1536 × 1536 matrices of float32, is {peak:.0f} GFLOP/s:\n\n"
        + table(["operator", "ms", "share", "GFLOP", "GFLOP/s", "of the peak"], body)
    )


def page() -> str:
    """The whole page."""
    measured = json.loads((MEASURED / "results.json").read_text())
    environment = json.loads((MEASURED / "environment.json").read_text())
    about = environment[next(name for name in TITLES if name in measured)]
    versions = f"Python {about['python']}, torch {about['torch']}, NumPy {about['numpy']}"
    machine = f"{about['cpu']}, {about['cores']} cores; {versions}. Steps run on one thread."
    return HEAD.format(machine=machine) + "".join(
        section(name, measured[name], environment[name]) for name in TITLES if name in measured
    )


def main() -> None:
    """Write the page."""
    (HERE / "benchmarks.md").write_text(page())


if __name__ == "__main__":
    main()
