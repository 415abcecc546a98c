"""Write benchmarks.md and its pictures from what `make bench` measured (benchmarks/results.json): `make docs`."""

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
    "gate": "Weights on the outputs",
    "reweighter": "Weights on the losses",
    "peers": "Against per-example gradients",
    "full-batch": "The laboratory's full-batch step",
    "sparse": "Sparse steps",
    "main-job": "The whole main job",
    "draws": "Draws",
    "lockstep": "Seeds in lockstep",
    "gpu": "On a GPU",
}
#: what the numbers of a group mean, and why a row is not met
NOTES: dict[str, str] = {
    "gate": "`reweight.outputs` costs one pass over the gradient of the outputs: nothing for the ten classes of a "
    "classifier, and a few percent of a step where each token has 50,257 outputs. There `reweight.attach` on the head, "
    "a linear layer without a bias, weights the inputs of the layer instead, which are 128 numbers a token. "
    "That pass is also why the transformer, with 1000 outputs a token, misses its target. VGG-11 misses it by 0.1 "
    "points; the weights themselves take 0.2 ms of its second, and why its steps are slower was not found.",
    "reweighter": "The cost of the noise alone was measured as well: drawing the weights and weighting given losses, "
    "with the backward pass, compared with the mean of the losses. It is 0.1 to 0.3 ms, which is 0.2% of "
    "a step of conv-small, 0.01% of one of VGG-11 and 0.05% of one of the transformer. A time is not met "
    "here because its interval is wide: this machine is shared with others, and the time of the same step "
    "varies by 7% from one repetition to the next.",
    "peers": "Every route takes the same step, except for rounding; this is checked before it is timed. msgd needs "
    "no measurable memory on top of the plain step; this counts as 1 MiB. Opacus runs in PyTorch's usual "
    "layout of images. The others run in channels-last, in which the gradients of convolutions came out "
    "wrong in Opacus (version 1.6.0).",
    "sparse": "An ideal step on 20 of 1000 examples would be 50 times cheaper. A hand-written loop over 20 random "
    "images (its time is in the details) is 23.3 times cheaper than the full step. The lab takes 9% "
    "longer than that loop, for the draw, the choice of images, and the weighted loss with its backward "
    "pass. So these kernels cannot reach 25: on 20 images the convolutions and their backward pass run at "
    "half the rate that they reach on 1000 (see the table above and that of the full step), and each of "
    "about sixty calls costs a few microseconds. At other times on this machine MiniBatch reached 21.6, "
    "23.6 and 24.1, and the hand-written loop 22.8 to 25.8.",
    "main-job": "The raw steps leave out the start of Python and torch (three times), the data, the evaluation of "
    "5000 examples every 100 steps, the checkpoints, the statistics and the report.",
    "draws": "Every step makes a new counter-based generator for its weights. No data set of n examples exists "
    "here, n is only an argument of the law; the time and memory of the sparse draws do not grow with it. "
    "Their limit is in microseconds. For minutes at a time this machine runs everything in Python 1.6 "
    "times as slowly; the draws with the other n in the details fell into such a period. In a whole run "
    "that began in one, the four rows took 72 to 80 µs and were not met.",
    "lockstep": "Nothing in msgd trains in lockstep; this measurement would have to justify it.",
}

HEAD = """# Benchmarks

This page shows what msgd costs, measured side by side with the alternatives by `make bench`. `make docs` writes it
from `benchmarks/results.json`.

{machine}

- **Ratios.** A ratio is the median over repetitions that alternate between both sides, so that drift of the machine
  cancels.
- **Intervals.** Its 95% interval assumes no distribution. With fewer than six repetitions there is no such
  interval; the table then shows their range and says so.
- **Met.** A row is met if even the worse end of the interval reaches the target. In the pictures the tick is the
  target, the bar the interval.
- **Memory** is the peak of the resident set of a separate process.
- **Details.** They show the median times of all repetitions and the quartiles of the single ratios. A ratio
  compares neighbouring repetitions, so the two differ where the machine was slow for a while. A "+" after a commit
  means uncommitted changes.
"""


def number(value: float) -> str:
    """Three digits, or more where a ratio is near 1."""
    return f"{value:.3f}" if 0.9 < value < 1.2 else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def picture(rows: list[Row]) -> str:
    """The rows' intervals on a logarithmic axis, as an SVG."""
    left, width, line = 4, 580, 34
    values = [v for row in rows for v in (row["low"], row["high"], row["reach"])]
    low, high = math.log(min(values)), math.log(max(values))
    pad = max(0.02, 0.08 * (high - low))

    def x(value: float) -> float:
        return left + width * (math.log(value) - low + pad) / (high - low + 2 * pad)

    height = line * len(rows) + 8
    body = ""
    for place, row in enumerate(rows):
        y = line * place + 26
        colour = "#009E73" if row["met"] else "#D55E00"
        body += (
            f'<text x="{left}" y="{y - 9}" fill="#222">{escape(row["what"])}</text>'
            f'<text x="{left + width + 10}" y="{y + 4}" fill="#222">{number(row["ratio"])}</text>'
            f'<path d="M{left} {y}H{left + width}" stroke="#e4e4e4"/>'
            f'<path d="M{x(row["reach"]):.1f} {y - 6}V{y + 6}" stroke="#222" stroke-width="2"/>'
            f'<path d="M{x(row["low"]):.1f} {y}H{x(row["high"]):.1f}" stroke="{colour}" stroke-width="5"/>'
            f'<circle cx="{x(row["ratio"]):.1f}" cy="{y}" r="4" fill="{colour}"/>'
        )
    size = f'viewBox="0 0 {left + width + 56} {height}" width="{left + width + 56}"'
    background = f'<rect width="{left + width + 56}" height="{height}" fill="#fff"/>'
    font = 'font-family="sans-serif" font-size="12"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>{background}{body}</svg>\n'


def table(heads: list[str], body: list[list[str]]) -> str:
    """A table in Markdown, with its first column aligned to the left."""
    lines = [heads, [":--", *["--:"] * (len(heads) - 1)], *body]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def details(row: Row) -> str:
    """Times and memory that a ratio comes from."""
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
    """The two sides of a ratio."""
    spread = f"; quartiles {number(row['quartile_1'])} … {number(row['quartile_3'])}" if "quartile_1" in row else ""
    said = details(row)
    return f"{row['what']}, against {row['against']}: {said}{spread}" + (f", {row['pairs']} pairs" if spread else "")


def section(name: str, rows: list[Row], about: Row) -> str:
    """One group of rows, and the command that measured them."""
    text = f"\n## {TITLES[name]}\n\n"
    missing = [row for row in rows if "not_measured" in row]
    done = [row for row in rows if "not_measured" not in row]
    for row in missing:
        text += f"Not measured: {row['not_measured']}\n\n"
    if done:
        (HERE / "benchmarks").mkdir(exist_ok=True)
        (HERE / "benchmarks" / f"{name}.svg").write_text(picture(done))
        text += f"![Ratios and targets](benchmarks/{name}.svg)\n\n"
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
        text += table(["what", "target", "measured", "95% interval", "met"], body)
        text += '\n??? note "Details"\n' + "".join(f"    - {behind(row)}\n" for row in done)
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
        f"\nThis is where the {number(row['step_ms'])} ms of a step go, under the profiler, which adds some time. The "
        f"peak of one thread, in a product of 1536 × 1536 matrices in float32, is {peak:.0f} GFLOP/s:\n\n"
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
