"""What the weights on the outputs cost in a training loop with the usual mean loss."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from alone import EXACT, ask
from settings import Setting, make, mean_loop
from timing import Result, interleaved, judged, ratio

from msgd import Reweighter
from msgd.noise import Fisher

#: name of the setting, title, ways to weight, pairs
SETTINGS = (
    ("conv-small", "conv-small, n = 1000", ("outputs",), 400),
    ("vgg11", "VGG-11, B = 128", ("outputs",), 150),
    ("transformer", "transformer, B = 32", ("outputs",), 200),
    ("language", "language model with 50,257 tokens, B = 8", ("attach", "outputs"), 100),
)


def gated(setting: Setting, which: str) -> Callable[[], None]:
    """A step with weights on the outputs.

    Args:
        setting: the network and its batch.
        which: "outputs": of the network; "attach": of its head, by a hook; "mean": without weights.

    Returns:
        The step.
    """
    if which == "mean":
        return mean_loop(setting, lambda y: y)
    reweight = Reweighter(Fisher(20), seed=0)
    if which == "outputs":
        return mean_loop(setting, reweight.outputs)
    reweight.attach(setting.model.get_submodule("head"))
    return mean_loop(setting, lambda y: y)


def gate(quick: bool) -> list[Result]:
    """`reweight.outputs` and `reweight.attach` against the loop without noise: time, and peak memory."""
    rows = []
    for name, title, ways, pairs in SETTINGS:
        steps = {which: gated(make(name), which) for which in (*ways, "mean")}
        times = interleaved(steps, 3 if quick else pairs)
        peaks: dict[str, list[float]] = {which: [] for which in steps}
        for _ in range(1 if quick else 5):
            for which, each in peaks.items():
                each.append(ask("memory.py", name, which, malloc=EXACT)["peak_mib"])
        for which in ways:
            label = f"{which} step, {title}"
            found = ratio(times[which], times["mean"])
            found |= {f"{key}_ms": 1e3 * statistics.median(times[key]) for key in (which, "mean")}
            rows.append(judged(f"{label}: time", "the loop without noise", 1.01, found))
            found = ratio(peaks[which], peaks["mean"])
            found |= {f"{key}_mib": statistics.median(peaks[key]) for key in (which, "mean")}
            rows.append(judged(f"{label}: peak memory", "the loop without noise", 1.01, found))
        del steps
    return rows
