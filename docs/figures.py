"""The figures of the results page, drawn as SVG from the results.json files: `docs/results.py` writes them.

Dark ink on white paper, in a size that is still readable on a telephone. The dark scheme of the site inverts the
brightness (site.css). The same file always gives the same figure.
"""

from __future__ import annotations

import math
import statistics
from html import escape
from typing import Any

Table = dict[str, Any]
WIDTH, LEFT, ROW, TOP = 600, 150, 30, 12
INK, GREY, LINE = "#222", "#666", "#e2e2e2"
BLUE, GREEN, ORANGE, PINK, SKY = "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
OF_VERDICT = {"different": ORANGE, "equivalent": GREEN, "negligible": BLUE, "inconclusive": GREY}
FAR = 8.0  #: a difference of more points is not drawn to scale: an arrow and its number stand at the edge


def svg(body: str, height: float) -> str:
    """Wrap the parts of a figure."""
    size = f'viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}"'
    paper = f'<rect width="{WIDTH}" height="{height:.0f}" fill="#fff"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="14">{paper}{body}</svg>\n'
    )


def text(x: float, y: float, words: str, *, anchor: str = "start", fill: str = INK, size: int = 14) -> str:
    """A line of text."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" font-size="{size}">{escape(words)}</text>'
    )


def path(d: str, colour: str, width: float, extra: str = "") -> str:
    """A line or several, without a filling."""
    return f'<path d="{d}" stroke="{colour}" stroke-width="{width:g}" fill="none"{extra}/>'


def ticks(low: float, high: float) -> list[float]:
    """Round values within a range, four to eight of them."""
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (1.0, 2.0, 5.0, 10.0) if (high - low) / (step * factor) <= 8)
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def signed(value: float) -> str:
    """A number with its sign; zero without."""
    return f"{value:+g}".replace("-", "−") if abs(value) > 1e-9 else "0"


def differences(table: Table) -> str:
    """Differences in accuracy from the reference: a dot for each seed, the mean, its 90% and 95% intervals."""
    reference = table["config"]["reference"]
    scores = _scores(table)
    shown = [v for v in table["verdicts"] if v["ci_low"] is not None]
    paired = {v["method"]: _paired(scores[v["method"]], scores[reference]) for v in shown}
    near = [v for v in shown if abs(100 * v["difference"]) <= FAR]
    margin = 100 * table["config"]["margin"]
    ends = [100 * v[end] for v in near for end in ("ci_low", "ci_high")]
    ends += [value for v in near for value in paired[v["method"]]]
    low: float = 1.08 * min(*ends, -1.4 * margin)
    high: float = 1.08 * max(*ends, 1.4 * margin)

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - 14) * (value - low) / (high - low)

    bottom = TOP + ROW * len(shown)
    band = f'<rect x="{x(-margin):.1f}" y="{TOP}" width="{x(margin) - x(-margin):.1f}" height="{ROW * len(shown)}" '
    body = band + f'fill="{GREEN}" fill-opacity="0.13"/>'
    for value in ticks(low, high):
        body += path(f"M{x(value):.1f} {TOP}V{bottom}", GREY if abs(value) < 1e-9 else LINE, 1)
        body += text(x(value), bottom + 18, signed(value), anchor="middle", fill=GREY, size=13)
    for place, verdict in enumerate(shown):
        y, colour = TOP + ROW * (place + 0.5), OF_VERDICT[_named(verdict["verdict"])]
        body += text(LEFT - 10, y + 5, verdict["method"], anchor="end")
        if verdict not in near:
            body += _arrow(100 * verdict["difference"], x(low), x(high), y, colour)
            continue
        dots = "".join(f"M{x(value):.1f} {y:.1f}h0" for value in paired[verdict["method"]])
        body += path(dots, INK, 4, ' stroke-linecap="round" stroke-opacity="0.28"')
        for ends_of, width in (("ci", 2), ("ci90", 6)):
            left, right = (x(100 * verdict[f"{ends_of}_{end}"]) for end in ("low", "high"))
            body += path(f"M{left:.1f} {y:.1f}H{right:.1f}", colour, width)
        body += f'<circle cx="{x(100 * verdict["difference"]):.1f}" cy="{y:.1f}" r="6" fill="{colour}"/>'
    mean = statistics.fmean(scores[reference].values())
    name = _score(table)
    shown_mean, unit = (f"{100 * mean:.1f}%", "points") if name == "accuracy" else (f"{mean:.3f}", "hundredths")
    label = f"test {name} minus that of {reference} ({shown_mean}), in {unit}"
    return svg(body + text(LEFT + (WIDTH - LEFT) / 2, bottom + 40, label, anchor="middle"), bottom + 50)


def _arrow(value: float, left: float, right: float, y: float, colour: str) -> str:
    at, way = (left + 4, 1) if value < 0 else (right - 4, -1)
    head = path(f"M{at + 8 * way:.1f} {y - 6:.1f}L{at:.1f} {y:.1f}L{at + 8 * way:.1f} {y + 6:.1f}", colour, 2.5)
    shaft = path(f"M{at:.1f} {y:.1f}h{30 * way}", colour, 2.5)
    words = f"{value:+.1f}".replace("-", "−")
    return head + shaft + text(at + 38 * way, y + 5, words, anchor="start" if way > 0 else "end", fill=colour)


def _named(verdict: str) -> str:
    return "negligible" if verdict == "trivial" else verdict  # its name in older results


def _score(table: Table) -> str:
    """The score that decides; older results name none and have the accuracy."""
    return str(table.get("scores", [{"name": "accuracy"}])[0]["name"])


def _scores(table: Table) -> dict[str, dict[int, float]]:
    scores: dict[str, dict[int, float]] = {}
    for run in table["runs"]:
        value = run["final"][f"test_{_score(table)}"] if run["final"] and not run.get("diverged") else None
        if value is not None:
            scores.setdefault(run["method"], {})[run["seed"]] = value
    return scores


def _paired(mine: dict[int, float], theirs: dict[int, float]) -> list[float]:
    return [100 * (mine[seed] - theirs[seed]) for seed in sorted(mine.keys() & theirs.keys())]


def tuning(table: Table) -> str:
    """Accuracy on held-out examples by learning rate: a line for each method, a ring at the rate that was picked."""
    chosen = table["tuning"]["chosen"]
    accuracy = table["tuning"].get("scores") or table["tuning"]["accuracy"]  # the name in older results
    rates = [float(rate) for rate in next(iter(accuracy.values()))]
    colours = dict(zip(accuracy, (INK, BLUE, ORANGE, GREEN, PINK, SKY), strict=False))
    left, right, top, bottom = 56, WIDTH - 110, 14, 300
    low, high = 0.0, 5 * math.ceil(20 * max(value or 0 for by in accuracy.values() for value in by.values()))

    def place(rate: float, value: float) -> tuple[float, float]:
        across = math.log(rate / rates[0]) / math.log(rates[-1] / rates[0])
        return left + (right - left) * across, bottom - (bottom - top) * (100 * value - low) / (high - low)

    body = _axes(left, right, top, bottom, [(v, f"{v:g}") for v in ticks(low, high)], low, high)
    for rate in rates:
        body += text(place(rate, 0)[0], bottom + 20, f"{rate:g}", anchor="middle", fill=GREY, size=13)
    for line, (method, by_rate) in enumerate(accuracy.items()):
        points = [place(float(rate), value or 0) for rate, value in by_rate.items()]  # none where a run diverged
        body += path("M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in points), colours[method], 2)
        px, py = place(chosen[method], by_rate[f"{chosen[method]:g}"] or 0)
        body += f'<circle cx="{px:.1f}" cy="{py:.1f}" r="5" fill="#fff" stroke="{colours[method]}" stroke-width="2.5"/>'
        body += path(f"M{right + 16} {top + 14 + 24 * line}h18", colours[method], 3)
        body += text(right + 40, top + 19 + 24 * line, method, size=13)
    body += text((left + right) / 2, bottom + 42, "learning rate", anchor="middle")
    return svg(
        body + text(left, bottom + 64, "accuracy on held-out examples in %; the ring marks the rate picked", fill=GREY),
        374,
    )


def _axes(
    left: float, right: float, top: float, bottom: float, at: list[tuple[float, str]], low: float, high: float
) -> str:
    body = ""
    for value, words in at:
        y = bottom - (bottom - top) * (value - low) / (high - low)
        body += path(f"M{left} {y:.1f}H{right}", LINE, 1) + text(
            left - 8, y + 5, words, anchor="end", fill=GREY, size=13
        )
    return body


def phase(table: Table) -> str:
    """Gains over gradient descent, by learning rate and batch size: one plane for each kind of noise."""
    rates, sizes = table["config"]["grid"]["lr"], table["config"]["grid"]["b"]
    gains = {v["method"]: v for v in table["verdicts"]}
    kinds = list(dict.fromkeys(name.split("+")[0] for name in gains))
    cell, high, body, y = (WIDTH - LEFT - 14) / len(rates), 28, "", TOP
    for kind in kinds:
        body += text(LEFT, y + 16, kind, size=15)
        y += 24
        for line, b in enumerate(sizes):
            body += text(LEFT - 10, y + high * (line + 0.7), f"b = {b:g}", anchor="end")
            for column, lr in enumerate(rates):
                verdict = gains.get(f"{kind}+lr{lr:g}+b{b:g}".replace(".", "p"))
                body += _cell(LEFT + cell * column, y + high * line, cell, high, verdict)
        y += high * len(sizes) + 14
    for column, lr in enumerate(rates):
        body += text(LEFT + cell * (column + 0.5), y + 6, f"{lr:g}", anchor="middle", fill=GREY, size=13)
    body += text(LEFT + cell * len(rates) / 2, y + 28, "learning rate", anchor="middle")
    return svg(body, y + 40)


def _cell(x: float, y: float, width: float, height: float, verdict: Table | None) -> str:
    if verdict is None:
        return ""
    gain = 100 * verdict["difference"]
    colour, strength = (BLUE if gain > 0 else ORANGE), min(abs(gain) / 6, 1) * 0.75
    star = "*" if verdict["p_difference"] is not None and verdict["p_difference"] <= 0.05 else ""
    words = f"{gain:+.1f}".replace("-", "−") + star
    box = f'<rect x="{x + 1:.1f}" y="{y + 1:.1f}" width="{width - 2:.1f}" height="{height - 2}" '
    return (
        box + f'fill="{colour}" fill-opacity="{strength:.2f}"/>' + text(x + width / 2, y + 19, words, anchor="middle")
    )


def curves(table: Table) -> str:
    """Mean losses of least squares over the exact curve of the reference, by step: one line for each law."""
    by_name = {method["method"]: method for method in table["methods"]}
    reference, steps = by_name[table["config"]["reference"]], table["steps"]
    exact = reference["exact"]
    groups = {(10.0, -0.1): (BLUE, "α = 10, β = −0.1"), (10.0, 0.0): (ORANGE, "α = 10, β = 0"),
              (9.0, 0.0): (PINK, "α = 9, β = 0"), (9.091, -0.091): (GREEN, "α = 9.09, β = −0.09")}  # fmt: skip
    left, right, top, bottom, low, high = 60, WIDTH - 14, 14, 290, -0.04, 0.08
    body = _axes(left, right, top, bottom, [(v, signed(100 * v) + "%") for v in ticks(low, high)], low, high)
    used: dict[str, str] = {}
    for method in by_name.values():
        key = (round(method["alpha"] or 0, 3), round(method["beta"] or 0, 3))
        if key not in groups:
            continue
        colour, used_name = groups[key]
        used[used_name] = colour
        points = [
            f"{left + (right - left) * step / steps[-1]:.1f} "
            f"{bottom - (bottom - top) * (mean / curve - 1 - low) / (high - low):.1f}"
            for step, mean, curve in zip(steps, method["mean"], exact, strict=True)
        ]
        body += path("M" + "L".join(points), colour, 1.8, ' stroke-opacity="0.85"')
    body += path(f"M{left} {bottom - (bottom - top) * -low / (high - low):.1f}H{right}", INK, 1)
    for step in steps[::5]:
        body += text(
            left + (right - left) * step / steps[-1], bottom + 20, f"{step}", anchor="middle", fill=GREY, size=13
        )
    for line, (name, colour) in enumerate(used.items()):
        x, y = left + 10 + 265 * (line % 2), bottom + 66 + 22 * (line // 2)
        body += path(f"M{x} {y - 5}h20", colour, 3) + text(x + 28, y, name, size=13)
    body += text((left + right) / 2, bottom + 42, "step", anchor="middle")
    return svg(body, bottom + 100)


def figure(table: Table) -> str:
    """The figure of an experiment, whichever kind it is.

    Args:
        table: the content of its results.json.

    Returns:
        An SVG file's text.
    """
    if table["config"].get("experiment") == "least-squares":
        return curves(table)
    return phase(table) if table["config"].get("grid") else differences(table)
