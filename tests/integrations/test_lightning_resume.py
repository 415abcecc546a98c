"""Lightning: a run that is stopped and continued has the noise of one that was not."""

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from helpers.one_draw import SPLITS, N, data, logical_batches, plain_loop, same
from integrations.test_lightning import Net, fit, loader, pytestmark  # noqa: F401


@pytest.mark.parametrize(("accumulated", "micro"), SPLITS)
def test_stop_and_resume(tmp_path, accumulated, micro):
    straight, first, second = Net(), Net(), Net()
    fit(straight, accumulated, loader(micro), epochs=2)
    trainer = fit(first, accumulated, loader(micro), epochs=1)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    fit(second, accumulated, loader(micro), epochs=2, path=tmp_path / "a.ckpt")
    assert torch.equal(second.steps(), straight.steps()[4:])
    with pytest.raises(ValueError, match="of seed 7, and this ReweightCallback has 8"):
        fit(Net(), accumulated, loader(micro), epochs=2, path=tmp_path / "a.ckpt", seed=8)


def saved(path):
    return ModelCheckpoint(path, every_n_train_steps=2, save_top_k=-1, filename="{step}")


def test_resume_within_an_epoch(tmp_path):
    """Lightning begins the loader anew; where all examples are alike the noise alone tells the runs apart."""
    x, y = data()
    x, y = x[:1].expand(N, 4), y[:1].expand(N)
    alike = loader(2, TensorDataset(x, y, torch.arange(N)))
    first, second = Net(), Net()
    fit(first, 4, alike, callbacks=[saved(tmp_path)], enable_checkpointing=True)
    path = tmp_path / "step=2.ckpt"
    fit(second, 4, alike, callbacks=[saved(tmp_path)], epochs=2, path=path, enable_checkpointing=True)
    # The pass that begins anew does not come to its short batch: two whole micro-batches end the resumed epoch.
    batches = [*logical_batches()[:3], torch.arange(4), *logical_batches()]
    same(second.steps(), plain_loop(batches, examples=(x, y), split=(4, 2))[2:])


class Resumable(DataLoader):
    """A loader that continues where it was."""

    given = skipped = 0

    def __iter__(self):
        skipped, self.skipped = self.skipped, 0
        for number, batch in enumerate(super().__iter__()):
            if number >= skipped:
                self.given = number + 1
                yield batch

    def state_dict(self):
        return {"given": self.given}

    def load_state_dict(self, state):
        self.skipped = state["given"]


def test_resume_within_an_epoch_with_a_loader_that_has_a_state(tmp_path):
    first, second, straight = Net(), Net(), Net()
    fit(straight, 4, loader(2), epochs=2)
    examples, saving = TensorDataset(*data(), torch.arange(N)), {"enable_checkpointing": True}
    fit(first, 4, Resumable(examples, batch_size=2), callbacks=[saved(tmp_path)], max_steps=3, **saving)
    path = tmp_path / "step=2.ckpt"
    fit(second, 4, Resumable(examples, batch_size=2), callbacks=[saved(tmp_path)], epochs=2, path=path, **saving)
    assert torch.equal(second.steps(), straight.steps()[2:])
