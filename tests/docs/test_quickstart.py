"""PyTorch's quickstart, over files in the format of Fashion-MNIST, with the README's one line."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from msgd import Reweighter, noise

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def write_files(folder):
    """512 images of ten classes that can be told apart."""
    rng = np.random.default_rng(0)
    labels = rng.integers(10, size=512, dtype=np.uint8)
    images = np.clip(rng.normal(60, 40, (512, 28, 28)) + 120 * (np.arange(28) // 3 == labels[:, None])[:, None], 0, 255)
    head = bytes([0, 0, 8, 3, 0, 0, 2, 0, 0, 0, 0, 28, 0, 0, 0, 28])
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + images.astype(np.uint8).tobytes()))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(bytes([0, 0, 8, 1, 0, 0, 2, 0]) + labels.tobytes())
    )
    return folder


def read(folder, limit):
    with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(16 + limit * 784)[16:], np.uint8).reshape(-1, 1, 28, 28)
    with gzip.open(folder / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(8 + limit)[8:], np.uint8)
    return TensorDataset(torch.tensor(pixels / 255, dtype=torch.float64), torch.tensor(labels.astype(np.int64)))


class NeuralNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.flatten = nn.Flatten()
        self.linear_relu_stack = nn.Sequential(
            nn.Linear(28 * 28, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
        )

    def forward(self, x):
        return self.linear_relu_stack(self.flatten(x))


def train(dataloader, model, loss_fn, optimizer):
    """As the quickstart has it."""
    model.train()
    for X, y in dataloader:
        pred = model(X)
        loss = loss_fn(pred, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def train_with_noise(dataloader, model, loss_fn, optimizer, reweight):
    """The same with the README's line."""
    model.train()
    for X, y in dataloader:
        pred = reweight.outputs(model(X))
        loss = loss_fn(pred, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def trained(data, law):
    torch.manual_seed(0)
    model = NeuralNetwork().double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    loader = DataLoader(data, batch_size=64, shuffle=True, generator=torch.Generator().manual_seed(0))
    reweight = None if law is None else Reweighter(law, seed=0)
    for _ in range(6):
        if reweight is None:
            train(loader, model, nn.CrossEntropyLoss(), optimizer)
        else:
            train_with_noise(loader, model, nn.CrossEntropyLoss(), optimizer, reweight)
    with torch.no_grad():
        x, y = data.tensors
        accuracy = (model(x).argmax(1) == y).float().mean().item()
    return nn.utils.parameters_to_vector(model.parameters()).detach(), accuracy


@pytest.mark.parametrize(
    "folder",
    ["made", pytest.param(DEBIAN, marks=pytest.mark.skipif(not DEBIAN.exists(), reason="needs dataset-fashion-mnist"))],
    ids=["made", "official"],
)
def test_the_quickstart_trains_with_noise(folder, tmp_path):
    data = read(write_files(tmp_path) if folder == "made" else folder, 512 if folder == "made" else 2048)
    plain, accuracy = trained(data, None)
    silent, _ = trained(data, noise.FullBatch())
    assert torch.equal(silent, plain)  # nothing but the noise is changed
    noisy, noisy_accuracy = trained(data, noise.Emulate(b=16))
    assert (noisy - plain).norm() > 0.01 * plain.norm()
    assert min(accuracy, noisy_accuracy) > 0.4  # chance is 0.1
