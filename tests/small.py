"""Small data in the official formats, and the command line in a process of its own."""

import gzip
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np

#: a recipe that trains in a second: 40 images, three methods
SMALL = """
title = "Small"
data = "fashion-mnist"
n = 40
model = "mlp"
lr = 0.05
momentum = 0.9
b = 8
steps = 60
eval_every = 10
checkpoint_every = 20
seeds = 2
margin = 0.1
reference = "sgd"
[methods.gd]
law = "full-batch"
[methods.sgd]
law = "mini-batch"
[methods.bernoulli]
law = "bernoulli"
"""


def write_idx(path: Path, array: np.ndarray) -> None:
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = head + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def write_fashion_mnist(folder: Path, *, train: int = 60, test: int = 50) -> Path:
    """Four small files in the official format: `train` images to train on (the official test files)."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for part, number in (("t10k", train), ("train", test)):
        labels = rng.integers(10, size=number)
        images = rng.integers(0, 60, size=(number, 28, 28))
        images[np.arange(number), labels * 2, :] += 150  # a stripe that tells the class
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", labels)
    return folder


def msgd(*arguments, **options):
    """Run the real command; returns the finished process."""
    command = [sys.executable, "-m", "msgd", *map(str, arguments)]
    environment = os.environ | {"NO_COLOR": "1", "PYTHONWARNINGS": "error"}
    options = {"capture_output": True, "text": True, "timeout": 300, "env": environment, "check": False, **options}
    return subprocess.run(command, **options)
