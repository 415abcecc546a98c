"""A finished experiment that is judged by made-up scores, with files as a user's task would leave them."""

import json

from faults.folders import RECIPE, finished

SCORES = [
    {"name": "r2 loss", "lower_is_better": True},
    {"name": "mae", "lower_is_better": True},
    {"name": "top accuracy", "lower_is_better": False},
]

#: method → score → one value for each of 4 seeds
VALUES = {
    "sgd": {
        "r2 loss": [0.50, 0.52, 0.49, 0.51],
        "mae": [12.0, 12.4, 11.9, 12.1],
        "top accuracy": [0.9, 0.91, 0.9, 0.89],
    },
    "cov": {
        "r2 loss": [0.40, 0.43, 0.38, 0.41],
        "mae": [12.1, 12.3, 12.0, 12.1],
        "top accuracy": [0.9, 0.9, 0.89, 0.9],
    },
}

TEXT = RECIPE.replace("seeds = 2", "seeds = 4").replace("margin = 0.05", "margin = 0.02")


def scored(out, *, text=TEXT, values=VALUES, scores=SCORES, late=()):
    """Write the experiment; each run holds its values at every evaluation.

    ``late``: names of scores that the first evaluation after the start lacks.
    """
    planned = finished(out, text)
    about = json.loads((out / "experiment.json").read_text())
    (out / "experiment.json").write_text(json.dumps(about | {"scores": scores}))
    for run in planned:
        lines = []
        for step in run.evaluations:
            record = {"step": step, "test_loss": 1.5, "train_loss": 1.25}
            for name, by_seed in values[run.method.partition("+")[0]].items():
                if step > 10 or name not in late:
                    record |= {f"test_{name}": by_seed[run.seed], f"train_{name}": by_seed[run.seed]}
            lines.append(json.dumps(record))
        (out / run.method / f"seed-{run.seed}" / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return planned
