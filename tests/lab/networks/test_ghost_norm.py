"""Ghost batch normalisation against a BatchNorm for each group, and BatchNorm itself."""

import pytest
import torch
from torch import nn

from msgd.lab.networks import ghost_norm
from msgd.lab.networks.ghost_norm import GhostBatchNorm2d, group_sizes
from reference import ghost_batch_norm

CASES = [(8, 4, [4, 4]), (10, 4, [4, 4, 2]), (9, 4, [4, 5]), (6, 2, [2, 2, 2]), (5, 4, [5]), (3, 4, [3])]


def images(n, dtype=torch.float64):
    generator = torch.Generator().manual_seed(n)
    x = 3 + 2 * torch.randn(n, 5, 3, 2, generator=generator, dtype=dtype)
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


def layer(ghost, dtype=torch.float64):
    norm = GhostBatchNorm2d(5, ghost).to(dtype)
    generator = torch.Generator().manual_seed(1)
    for p in norm.parameters():
        p.data = torch.randn(5, generator=generator, dtype=dtype)
    return norm


@pytest.fixture(params=["normalise_each", "normalise_together"])
def way(request, monkeypatch):
    """A CPU uses `normalise_each`, a GPU `normalise_together`; both must be right here."""
    monkeypatch.setattr(ghost_norm, "normalise_each", getattr(ghost_norm, request.param))


@pytest.mark.parametrize(("n", "ghost", "sizes"), [*CASES, (0, 4, [0]), (1, 2, [1]), (7, None, [7]), (7, 2, [2, 2, 3])])
def test_groups(n, ghost, sizes):
    assert group_sizes(n, ghost) == sizes


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("n", "ghost", "sizes"), CASES)
def test_each_group_has_its_own_statistics(n, ghost, sizes):
    norm, x = layer(ghost), images(n)
    output = norm(x)
    theirs, mean, variance = ghost_batch_norm(x, sizes, norm.weight, norm.bias)
    upstream = torch.randn(output.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    gradients, expected = (torch.autograd.grad(o, (x, norm.weight, norm.bias), upstream) for o in (output, theirs))
    pairs = [(output, theirs), (norm.running_mean, mean), (norm.running_var, variance)]
    for a, b in [*pairs, *zip(gradients, expected, strict=True)]:
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert norm.num_batches_tracked == 1
    assert output.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.usefixtures("way")
def test_running_statistics_move_once_for_each_forward_and_serve_in_eval():
    norm, x = layer(4), images(8)
    norm.weight.data.fill_(1)
    norm.bias.data.fill_(0)
    for _ in range(2):
        norm(x)
    groups = x.detach().permute(1, 0, 2, 3).reshape(5, 2, -1)
    mean, variance = groups.mean((1, 2)), groups.var(2).mean(1)
    torch.testing.assert_close(norm.running_mean, 0.19 * mean, rtol=1e-12, atol=0)  # 1 − 0.9²
    torch.testing.assert_close(norm.running_var, 0.81 + 0.19 * variance, rtol=1e-12, atol=0)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    norm.eval()
    column = (slice(None), None, None)
    expected = (x - 0.19 * mean[column]) / (0.81 + 0.19 * variance + norm.eps).sqrt()[column]
    torch.testing.assert_close(norm(x), expected, rtol=1e-10, atol=1e-10)
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


@pytest.mark.parametrize("ghost", [None, 8, 20])
def test_one_group_is_batch_norm_exactly(ghost):
    norm, x = layer(ghost, torch.float32), images(8, torch.float32)
    twin = nn.BatchNorm2d(5)
    twin.load_state_dict(norm.state_dict())
    for training in (True, True, False):
        norm.train(training)
        twin.train(training)
        mine, theirs = (torch.autograd.grad(m(x).square().sum(), [x, *m.parameters()]) for m in (norm, twin))
        assert torch.equal(norm(x), twin(x))
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
        assert all(torch.equal(value, twin.state_dict()[name]) for name, value in norm.state_dict().items())


@pytest.mark.parametrize("ghost", [None, 4])
def test_an_empty_draw_is_a_zero_gradient_and_leaves_the_statistics(ghost):
    norm = layer(ghost)
    gradients = torch.autograd.grad(norm(images(0)).sum(), list(norm.parameters()))
    assert all(torch.equal(g, torch.zeros_like(g)) for g in gradients)
    assert torch.equal(norm.running_mean, torch.zeros_like(norm.running_mean))
    assert torch.equal(norm.running_var, torch.ones_like(norm.running_var))
