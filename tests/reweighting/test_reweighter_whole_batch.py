"""The gradient is that of one draw over the whole logical batch, whatever computes it.

Accumulation, mixed precision, compilation, checkpointed activations and ghost batches, each against the same twin: the
sum Σ w_i ℓ_i / n written out, in float32, on the whole batch at once.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from msgd import Reweighter, weighted_mean
from msgd.lab.networks.ghost_norm import GhostBatchNorm2d
from msgd.noise import Bernoulli, Cov, Emulate, Fisher, Subsampled

N, SEED = 48, 3
LAWS = [Emulate(6), Fisher(6), Bernoulli(6), Subsampled(24, Cov(6))]
#: relative to the norm of the gradient: rounding to 24, 8 and 11 bits of the products that add up to it
ALLOWED = {"float32": 1e-5, "bfloat16": 0.02, "float16": 0.003}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 5))


def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(N, 8, generator=generator), torch.randint(5, (N,), generator=generator)


def each(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="none")


def gradient(model):
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def twin(law, model=None, step=0):
    """The plain step: one batch, float32, the weights written out."""
    model = model or network()
    x, y = batch()
    w = law.draw(N, seed=SEED, step=step).dense()
    model.zero_grad()
    ((w * each(model(x), y)).sum() / N).backward()
    return gradient(model)


def far(found, truth):
    return float(torch.linalg.vector_norm(found - truth) / torch.linalg.vector_norm(truth))


def accumulated(model, reweight, micro, *, forward=None, dtype=None, scaler=None):
    """A user's loop: micro-batches, autocast, scaler."""
    x, y = batch()
    model.zero_grad()
    for part in torch.arange(N).chunk(micro):
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            loss = reweight(each((forward or model)(x[part]), y[part]))
        (loss if scaler is None else scaler.scale(loss)).backward()
    return gradient(model)


@pytest.fixture(params=[1, 2, 4])
def micro(request):
    return request.param


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_float32(law, micro):
    reweight = Reweighter(law, seed=SEED, logical_batch=N)
    for step in range(2):
        assert far(accumulated(network(), reweight, micro), twin(law, step=step)) < ALLOWED["float32"]
    assert reweight.step == 2


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_bfloat16_autocast(law, micro):
    found = accumulated(network(), Reweighter(law, seed=SEED, logical_batch=N), micro, dtype=torch.bfloat16)
    assert 1e-4 < far(found, twin(law)) < ALLOWED["bfloat16"]  # above: that it was in half precision at all


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_float16_with_a_grad_scaler(law, micro):
    model, scaler = network(), torch.amp.GradScaler("cpu", init_scale=2.0**12)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    reweight = Reweighter(law, seed=SEED, logical_batch=N)
    scaled = accumulated(model, reweight, micro, dtype=torch.float16, scaler=scaler)
    assert far(scaled / 2.0**12, twin(law)) < ALLOWED["float16"]
    scaler.unscale_(optimizer)
    before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    scaler.step(optimizer)
    scaler.update()
    moved = before - nn.utils.parameters_to_vector(model.parameters()).detach()
    assert far(moved / 0.1, twin(law)) < ALLOWED["float16"]


def test_a_step_that_the_scaler_skips_takes_its_draw_with_it():
    """An overflow leaves the parameters alone, and the next step has the next draw: its weights are not drawn again."""
    model, scaler = network(), torch.amp.GradScaler("cpu", init_scale=2.0**40)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    reweight = Reweighter(Fisher(6), seed=SEED, logical_batch=N)
    before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    accumulated(model, reweight, 1, dtype=torch.float16, scaler=scaler)
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(nn.utils.parameters_to_vector(model.parameters()), before)
    assert scaler.get_scale() == 2.0**39
    assert reweight.step == 1


@pytest.mark.parametrize("law", LAWS, ids=repr)
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_activations(law, micro, reentrant):
    """The forward pass that is done twice draws once: the weights meet the losses outside of it."""
    model, reweight = network(), Reweighter(law, seed=SEED, logical_batch=N)

    def forward(x):
        hidden = checkpoint(model[:4], x.requires_grad_(reentrant), use_reentrant=reentrant)
        return model[4](hidden)

    assert far(accumulated(model, reweight, micro, forward=forward), twin(law)) < ALLOWED["float32"]
    assert reweight.step == 1


@pytest.mark.parametrize("law", LAWS[:2], ids=repr)
def test_a_compiled_model(law, micro):
    model = network()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)  # needs no compiler of C++
    found = accumulated(model, Reweighter(law, seed=SEED, logical_batch=N), micro, forward=compiled)
    assert far(found, twin(law)) < ALLOWED["float32"]


def test_a_compiled_step_with_the_weights_drawn_outside(micro):
    model, reweight = network(), Reweighter(Emulate(6), seed=SEED, logical_batch=N)
    x, y = batch()

    @torch.compile(backend="aot_eager", fullgraph=True)
    def loss(x, y, weights):
        return weighted_mean(each(model(x), y), weights)

    for part in torch.arange(N).chunk(micro):
        loss(x[part], y[part], reweight.weights(len(part))).backward()
    assert far(gradient(model), twin(Emulate(6))) < ALLOWED["float32"]


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_ghost_batches(law, micro):
    """Groups of 6 are part of the model: micro-batches of whole groups give the gradient of the whole batch."""

    def ghostly():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Unflatten(1, (2, 2, 2)), nn.Conv2d(2, 4, 1), GhostBatchNorm2d(4, 6), nn.Flatten(), nn.Linear(16, 5)
        )

    found = accumulated(ghostly(), Reweighter(law, seed=SEED, logical_batch=N), micro)
    assert far(found, twin(law, ghostly())) < ALLOWED["float32"]


def test_the_control_noise_drawn_for_each_micro_batch_is_far_off():
    reweight = Reweighter(Emulate(6), seed=SEED)  # without logical_batch each call is a draw of its own
    with pytest.warns(UserWarning, match="with gradient accumulation pass logical_batch="):
        found = accumulated(network(), reweight, 2)
    assert far(found / 2, twin(Emulate(6))) > 0.1
