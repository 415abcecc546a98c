"""A small experiment to be measured, and what measuring it leaves behind."""

import safetensors.torch
import torch

from helpers.commands import call
from helpers.small import SMALL
from msgd import GradientMatrix
from msgd.lab.measure.measurements_file import read_measurements
from msgd.lab.networks.build import build_network
from msgd.lab.tasks.losses import cross_entropy

RECIPE = SMALL.replace("steps = 60", "steps = 20\nsnapshots = [10]").replace('model = "mlp"', 'model = "conv-small"')


def trained(folder, recipe, data_dir, *options):
    folder.mkdir(exist_ok=True)
    (folder / "small.toml").write_text(recipe)
    assert (
        call("run", folder / "small.toml", "--out", folder / "out", "--data-dir", data_dir, "--jobs", 1, *options) == 0
    )
    return folder / "out"


def entries(out):
    """All that must not depend on how the measuring was interrupted or shared out."""
    found = read_measurements(out)
    assert found is not None
    return [m.model_dump(exclude={"seconds"}) for m in found.measurements]


def matrix_at(out, data, method, seed, step):
    """G and the network at a step, put together by hand."""
    model = build_network("conv-small", input_shape=(1, 28, 28), classes=10, seed=seed)
    name = {10: "snapshots/10.safetensors", 20: "checkpoint.safetensors"}.get(step)
    if name:
        tensors = safetensors.torch.load_file(out / method / f"seed-{seed}" / name)
        model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    x = torch.tensor(data.train_inputs).float() / 255
    x = x.contiguous(memory_format=torch.channels_last)
    return GradientMatrix(model, cross_entropy, x, torch.tensor(data.train_targets)), model
