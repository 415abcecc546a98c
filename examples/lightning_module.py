"""Lightning: accumulated batches with the noise of small ones, by a callback.

python examples/lightning_module.py [EPOCHS]
"""

import sys

import lightning.pytorch as pl
import torch
from mnist1d.data import make_dataset
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from msgd import noise
from msgd.integrations.lightning import ReweightCallback


class Net(pl.LightningModule):
    """A perceptron for MNIST-1D."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(40, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10))

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Return the mean loss."""
        inputs, targets = batch
        return F.cross_entropy(self.layers(inputs), targets)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Use plain SGD."""
        return torch.optim.SGD(self.parameters(), lr=0.1)


def main(epochs: int) -> None:
    """Train for some epochs and print the test accuracy."""
    pl.seed_everything(0, verbose=False)
    made = make_dataset()
    x, y, x_test, y_test = (torch.tensor(made[key]) for key in ("x", "y", "x_test", "y_test"))
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        accumulate_grad_batches=4,  # 256 examples per step, and 160 at the end of an epoch
        callbacks=[ReweightCallback(noise.Emulate(b=20), seed=0)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = Net()
    trainer.fit(model, DataLoader(TensorDataset(x.float(), y), batch_size=64, shuffle=True))
    with torch.no_grad():
        accuracy = (model.layers(x_test.float()).argmax(1) == y_test).float().mean().item()
    print(f"{trainer.global_step} steps: accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
