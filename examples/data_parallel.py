"""Large batches with the noise of small ones over several processes, with the same lines as in one process.

torchrun --nproc-per-node 2 examples/data_parallel.py [EPOCHS]
"""

import os
import sys

import torch
import torch.distributed as dist
from mnist1d.data import make_dataset
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from msgd import Reweighter, noise


def main(epochs: int) -> None:
    """Train for some epochs and print the test accuracy."""
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    made = make_dataset()
    train = TensorDataset(torch.tensor(made["x"]).float(), torch.tensor(made["y"]))
    x_test, y_test = torch.tensor(made["x_test"]).float(), torch.tensor(made["y_test"])
    sampler = DistributedSampler(train, num_replicas=size, rank=rank, seed=0)
    loader = DataLoader(train, batch_size=240 // size, sampler=sampler)  # 240 examples over all processes

    torch.manual_seed(0)
    model: nn.Module = nn.Sequential(nn.Linear(40, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10))
    if "RANK" in os.environ:  # started by torchrun
        dist.init_process_group("gloo")
        model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    reweight = Reweighter(noise.Emulate(b=20), seed=0)  # the same seed on every rank: the ranks share one draw

    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for inputs, targets in loader:
            loss = F.cross_entropy(reweight.outputs(model(inputs)), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        accuracy = (model(x_test).argmax(1) == y_test).float().mean().item()
    if rank == 0:
        print(f"{size} processes, {epochs * len(loader)} steps: accuracy {accuracy:.4f}")
    if "RANK" in os.environ:
        dist.barrier()  # nobody leaves before all are done
        sys.stdout.flush()
        os._exit(0)  # with torch 2.13, destroying a gloo group aborts one process in about sixteen after all the work


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
