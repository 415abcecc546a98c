"""The gradient matrix of batches from a loader, and what is checked of them."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from cases import networks
from msgd import GradientMatrix
from reference import gradient_matrix

N = 30
NETWORKS = {network.name: network for network in networks(N)}


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def close(a, b):
    return a.shape == b.shape and float((a - b).norm()) <= 1e-10 * float(b.norm())


@pytest.mark.parametrize("chunk", [None, 5, 100])
@pytest.mark.parametrize("name", ["mlp", "conv"])
def test_a_loader_gives_what_the_tensors_give(name, chunk):
    net = NETWORKS[name]
    dense = gradient_matrix(net.model, net.loss, net.x, net.y)
    loader = DataLoader(TensorDataset(net.x, net.y), batch_size=8)
    for batches in (loader, [(net.x[:4], net.y[:4]), (net.x[4:], net.y[4:])], [(net.x, net.y)]):
        G = GradientMatrix(net.model, net.loss, batches, chunk=chunk)
        assert close(G @ normal(N, 2), dense @ normal(N, 2))
        assert close(G.T @ normal(G.shape[0]), dense.T @ normal(G.shape[0]))
        assert close(G.gram(), dense.T @ dense)
        assert close(G.column_norms(), dense.norm(dim=0))
        assert close(G.to_dense(), dense)


class Changing(TensorDataset):
    """A data set whose example `index` changes with every look at it, once `after` looks have passed."""

    def __init__(self, x, y, index, after):
        super().__init__(x, y)
        self.index, self.left = index, after

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        if index != self.index:
            return x, y
        self.left -= 1
        return (x, y) if self.left >= 0 else (x + 1e-9 * self.left, y)


@pytest.mark.parametrize(("index", "after", "found"), [(0, 0, 0), (7, 1, 0), (8, 1, 1), (29, 1, 3), (29, 2, 3)])
def test_data_that_change_are_refused(index, after, found):
    """In the first batch at the start, in the others at the first pass that meets them; and not forgiven later."""
    net = NETWORKS["mlp"]
    data = DataLoader(Changing(net.x, net.y, index, after), batch_size=8)
    message = rf"not those of the first pass \(batch {found} differs\).*shuffle=False"
    if index < 8:
        with pytest.raises(ValueError, match=message):
            GradientMatrix(net.model, net.loss, data)
        return
    G = GradientMatrix(net.model, net.loss, data)
    for _ in range(after - 1):
        G.mean()
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            G.mean()


def test_a_shuffled_loader_is_refused():
    net = NETWORKS["mlp"]
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(TensorDataset(net.x, net.y), batch_size=8, shuffle=True, generator=generator)
    with pytest.raises(ValueError, match="shuffle=False"):
        GradientMatrix(net.model, net.loss, loader)


@pytest.mark.parametrize(
    ("edit", "what"), [(lambda b: b.pop(), "batch 2 is missing"), (lambda b: b.append(b[0]), "more")]
)
def test_more_or_fewer_batches_are_refused(edit, what):
    net = NETWORKS["mlp"]
    batches = [(net.x[part], net.y[part]) for part in (slice(0, 10), slice(10, 20), slice(20, 30))]
    G = GradientMatrix(net.model, net.loss, batches)
    edit(batches)
    with pytest.raises(ValueError, match=what):
        G @ normal(N)


@pytest.mark.parametrize(
    ("batches", "error", "message"),
    [
        (iter([(torch.ones(2, 2), torch.ones(2))]), TypeError, "an iterator ends after one pass"),
        ([], ValueError, "there are no batches"),
        ([torch.ones(2, 2)], TypeError, r"a pair \(inputs, targets\) of tensors"),
        ([(torch.ones(4, 2), torch.ones(3))], ValueError, "4 inputs for 3 targets"),
        ([(torch.ones(0, 2), torch.ones(0))], ValueError, "at least one"),
    ],
)
def test_what_is_no_loader(batches, error, message):
    with pytest.raises(error, match=message):
        GradientMatrix(torch.nn.Linear(2, 1), lambda out, y: out[:, 0] - y, batches)
