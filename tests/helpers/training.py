"""Training runs of a second, and what they leave behind."""

from msgd.lab.experiment_folder.checkpoint import read_checkpoint
from msgd.lab.plan.run import Run
from msgd.lab.training.loop import train
from msgd.noise import MiniBatch


def make(law=MiniBatch(8), **changes):  # noqa: B008 - laws are frozen
    settings = {
        "method": "m",
        "seed": 3,
        "law": law,
        "data": "fashion-mnist",
        "data_digest": "0",
        "n": 40,
        "model": "conv-small",
        "lr": 0.05,
        "momentum": 0.9,
        "weight_decay": 0.01,
        "steps": 30,
        "eval_every": 7,
        "checkpoint_every": 10,
    }
    return Run(**settings | changes)


def go(run, data, folder, **options):
    train(run, data, folder, device="cpu", environment={}, **options)


def no_checkpoint(folder):
    """To go on until there is a checkpoint."""
    return lambda: not (folder / "checkpoint.safetensors").exists()


def contents(folder):
    checkpoint = read_checkpoint(folder)
    return checkpoint.step, checkpoint.tensors, (folder / "metrics.jsonl").read_bytes()


def same(a, b):
    """Step, tensors and metrics alike to the bit, NaN included."""
    one, other = ({name: tensor.numpy().tobytes() for name, tensor in each[1].items()} for each in (a, b))
    return (a[0], a[2], one) == (b[0], b[2], other)
