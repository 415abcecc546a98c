"""Accelerate: accumulated batches with the noise of small ones, in a loop of one's own.

python examples/accelerate_loop.py [EPOCHS]
"""

import sys

import torch
from accelerate import Accelerator
from mnist1d.data import make_dataset
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from msgd import noise
from msgd.integrations.accelerate import AcceleratedReweighter


def main(epochs: int) -> None:
    """Train for some epochs and print the test accuracy."""
    torch.manual_seed(0)
    made = make_dataset()
    x, y, x_test, y_test = (torch.tensor(made[key]) for key in ("x", "y", "x_test", "y_test"))
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)  # 256 examples per step
    model = nn.Sequential(nn.Linear(40, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = DataLoader(TensorDataset(x.float(), y), batch_size=64, shuffle=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    AcceleratedReweighter(accelerator, noise.Emulate(b=20), seed=0).attach(model)  # batches of 256, as noisy as 20

    for _ in range(epochs):
        for inputs, targets in loader:
            with accelerator.accumulate(model):
                loss = F.cross_entropy(model(inputs), targets)
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()

    with torch.no_grad():
        accuracy = (model(x_test.float()).argmax(1) == y_test).float().mean().item()
    accelerator.print(f"accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
