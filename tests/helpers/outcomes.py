"""What a finished experiment leaves behind, of which nothing may depend on who computed it or on interruptions."""

import json

from msgd.lab.experiment_folder.checkpoint import read_checkpoint


def trained_runs(out):
    """Step, tensors and metrics of every run in a folder, to the bit."""
    table = {}
    for folder in sorted(out.glob("*/seed-*")):
        checkpoint = read_checkpoint(folder)
        tensors = {name: value.numpy().tobytes() for name, value in checkpoint.tensors.items()}
        table[folder.relative_to(out)] = checkpoint.step, tensors, (folder / "metrics.jsonl").read_bytes()
    return table


def loss_files(out):
    """The files of losses in the folder of a least-squares experiment, to the bit."""
    return {path.relative_to(out): path.read_bytes() for path in out.glob("*/losses-*.safetensors")}


def outcome(out):
    """The runs or losses in a folder to the bit, and the results that were made of them, but for the seconds taken."""
    results = json.loads((out / "results.json").read_text())
    for run in results.get("runs", []):
        del run["seconds"]
    numbers = {key: results.get(key) for key in ("runs", "verdicts", "methods", "critical")}
    return trained_runs(out) | loss_files(out), numbers
