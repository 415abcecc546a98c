"""A plain loop over large batches with the noise of small ones.

python examples/large_batch.py [EPOCHS]
"""

import sys

import torch
from mnist1d.data import make_dataset
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from msgd import Reweighter, noise


def main(epochs: int) -> float:
    """Train for some epochs and return the test accuracy."""
    made = make_dataset()
    train = TensorDataset(torch.tensor(made["x"]).float(), torch.tensor(made["y"]))
    x_test, y_test = torch.tensor(made["x_test"]).float(), torch.tensor(made["y_test"])
    loader = DataLoader(train, batch_size=250, shuffle=True, generator=torch.Generator().manual_seed(0))

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    reweight = Reweighter(noise.Emulate(b=20), seed=0)  # batches of 250, as noisy as batches of 20

    accuracy = 0.0
    for epoch in range(epochs):
        for inputs, targets in loader:
            loss = F.cross_entropy(reweight.outputs(model(inputs)), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            logits = model(x_test)
            accuracy = (logits.argmax(1) == y_test).float().mean().item()
            test_loss = F.cross_entropy(logits, y_test).item()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}, test loss {test_loss:.3f}, accuracy {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
