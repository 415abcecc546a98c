"""The seam: positions, closures, evaluation, state, compilation, and clear errors."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from msgd import Reweighter, Weights, weighted_mean
from msgd.noise import Bernoulli, Cov, Emulate, Fisher, FullBatch, MiniBatch, Poisson


def losses(n=12, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, generator=generator, dtype=dtype).requires_grad_()


def expected(law, values, *, seed, step):
    return (law.draw(len(values), seed=seed, step=step).dense() * values).sum() / len(values)


def test_each_call_is_a_logical_batch_of_any_size():
    reweight = Reweighter(Fisher(3), seed=5)
    for step, n in enumerate([12, 12, 7, 1]):
        values = losses(n)
        torch.testing.assert_close(reweight(values), expected(Fisher(3), values, seed=5, step=step))
    assert reweight.step == 4


def test_a_given_step_does_not_advance():
    reweight = Reweighter(Cov(3), seed=5)
    values = losses()
    later = reweight(values, step=2)
    assert reweight.step == 0
    torch.testing.assert_close(later, expected(Cov(3), values, seed=5, step=2))
    reweight(values)
    reweight(values)
    assert torch.equal(reweight(values), later)
    micro = Reweighter(Cov(3), seed=5, logical_batch=12)
    parts = micro(values[:5], step=2, offset=0) + micro(values[5:], step=2, offset=5)
    torch.testing.assert_close(parts, later)
    assert micro.state_dict()["offset"] == 0


def test_lbfgs_sees_one_function_in_its_closure():
    model = nn.Linear(3, 1).double()
    x, y = torch.randn(20, 3).double(), torch.randn(20).double()
    reweight = Reweighter(Bernoulli(10), seed=0)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=40, tolerance_grad=1e-12, tolerance_change=1e-14)

    def closure():
        optimizer.zero_grad()
        loss = reweight((model(x).squeeze(1) - y) ** 2, step=3)
        loss.backward()
        return loss

    optimizer.step(closure)
    closure()
    assert float(model.weight.grad.norm()) < 1e-6  # the minimum of one draw; of changing draws there is none


def test_evaluation_is_the_plain_mean_and_does_not_advance():
    for reweight in (Reweighter(Fisher(3), seed=5), Reweighter(Fisher(3), seed=5, logical_batch=24, divided_by=2)):
        values = losses()
        for guard in (torch.no_grad(), torch.inference_mode()):
            with guard:
                torch.testing.assert_close(reweight(values), values.mean())
                assert torch.equal(reweight.weights(5).value, torch.ones(5))
        assert reweight.step == 0
        assert reweight.state_dict()["offset"] == 0


def test_stop_and_resume():
    straight = Reweighter(Emulate(3), seed=5, logical_batch=12)
    outputs = [straight(part) for part in losses().split(4) * 4]
    first = Reweighter(Emulate(3), seed=5, logical_batch=12)
    for part in (losses().split(4) * 4)[:5]:
        first(part)
    second = Reweighter(Emulate(3), seed=5, logical_batch=12)
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == {
        "seed": 5,
        "step": 1,
        "offset": 8,
        "law": "Emulate(b=3, kind='cov', population=None)",
        "logical_batch": 12,
    }
    resumed = [second(part) for part in (losses().split(4) * 4)[5:]]
    assert all(torch.equal(a, b) for a, b in zip(outputs[5:], resumed, strict=True))


def test_the_state_survives_torch_save(tmp_path):
    reweight = Reweighter(Emulate(3), seed=5)
    reweight(losses())
    torch.save(reweight.state_dict(), tmp_path / "state.pt")
    other = Reweighter(Emulate(3), seed=5)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert other.step == 1


@pytest.mark.parametrize(
    ("other", "key"),
    [
        (Reweighter(Cov(3), seed=6), "seed"),
        (Reweighter(Cov(4), seed=5), "law"),
        (Reweighter(Fisher(3), seed=5), "law"),
        (Reweighter(Cov(3), seed=5, logical_batch=12), "logical_batch"),
    ],
)
def test_a_state_of_another_noise_is_refused(other, key):
    with pytest.raises(ValueError, match=f"of {key} "):
        other.load_state_dict(Reweighter(Cov(3), seed=5).state_dict())


def test_a_damaged_state_is_refused():
    reweight = Reweighter(Cov(3), seed=5, logical_batch=12)
    state = reweight.state_dict()
    for damage in ({"offset": 12}, {"offset": -1}, {"step": -1}):
        with pytest.raises(ValueError, match=r"offset|step"):
            reweight.load_state_dict({**state, **damage})
    with pytest.raises(ValueError, match="needs the keys"):
        reweight.load_state_dict({"step": 3})


def test_flush():
    reweight = Reweighter(Fisher(3), seed=5, logical_batch=12)
    assert reweight.flush() == 1.0
    reweight(losses(4))
    assert reweight.flush() == 3.0
    assert reweight.state_dict()["step"] == 1
    torch.testing.assert_close(reweight(losses(12)), expected(Fisher(3), losses(12), seed=5, step=1))
    assert Reweighter(Cov(3), seed=5).flush() == 1.0
    for law in (Cov(3), MiniBatch(3), Emulate(3)):
        coupled = Reweighter(law, seed=5, logical_batch=12)
        coupled(losses(4))
        with pytest.raises(ValueError, match=r"run past .* call discard\(\)"):
            coupled(losses(12))
        with pytest.raises(ValueError, match=r"call discard\(\)"):
            coupled.flush()
        coupled.discard()
        torch.testing.assert_close(coupled(losses(12)), expected(law, losses(12), seed=5, step=1))
        coupled.discard()  # nothing is pending
        assert coupled.step == 2
    for law in (FullBatch(), Bernoulli(3), Poisson(3), Emulate(3, "fisher")):
        free = Reweighter(law, seed=5, logical_batch=12)
        free(losses(6))
        assert free.flush() == 2.0


def test_begin_says_the_size_and_the_step_of_a_logical_batch():
    reweight = Reweighter(Cov(3), seed=5)
    reweight(losses(6))
    reweight.begin(12)
    parts = reweight(losses()[:5]) + reweight(losses()[5:])
    torch.testing.assert_close(parts, expected(Cov(3), losses(), seed=5, step=1))
    reweight.begin(4, step=9)
    reweight(losses(3))
    reweight.begin(7, step=9)  # what was pending is given up
    torch.testing.assert_close(reweight(losses(7)), expected(Cov(3), losses(7), seed=5, step=9))
    reweight.begin(None)
    torch.testing.assert_close(reweight(losses(8)), expected(Cov(3), losses(8), seed=5, step=10))
    for bad, message in (((0,), "at least 1"), ((4, -1), "step"), ((2.5,), "whole number")):
        with pytest.raises((ValueError, TypeError), match=message):
            reweight.begin(bad[0], step=bad[1] if len(bad) > 1 else None)
    assert reweight.state_dict()["step"] == 11


def test_one_example():
    values = losses(1)
    assert torch.equal(Reweighter(Cov(3), seed=5)(values), values.sum())
    weights = Fisher(3).draw(1, seed=5, step=0)
    torch.testing.assert_close(Reweighter(Fisher(3), seed=5)(values), (weights.value * values).sum())


@pytest.mark.parametrize("law", [Cov(3), Fisher(3), Bernoulli(3)])
def test_own_weights_of_the_examples(law):
    """Σ w_i c_i ℓ_i / Σ c_i over the logical batch, however it is split; constant c_i change nothing."""
    values, c = losses(12, torch.float64), torch.arange(12.0, dtype=torch.float64)
    w = law.draw(12, seed=5, step=0).dense().double()
    truth = (w * c * values).sum() / c.sum()
    torch.testing.assert_close(Reweighter(law, seed=5)(values, sample_weight=c), truth)
    torch.testing.assert_close(Reweighter(law, seed=5)(values, sample_weight=c, total=2 * c.sum()), truth / 2)
    split = Reweighter(law, seed=5, logical_batch=12)
    parts = [split(values[part], sample_weight=c[part], total=66.0) for part in (slice(5), slice(5, 12))]
    torch.testing.assert_close(parts[0] + parts[1], truth)
    plain = Reweighter(law, seed=5)(values)
    torch.testing.assert_close(Reweighter(law, seed=5)(values, sample_weight=torch.full_like(values, 3.0)), plain)
    with torch.no_grad():
        torch.testing.assert_close(Reweighter(law, seed=5)(values, sample_weight=c), (c * values).sum() / c.sum())


def weighted(c, **more):
    return Reweighter(Fisher(3), seed=0)(torch.ones(4), sample_weight=c, **more)


def test_a_micro_batch_may_have_no_sample_weight():
    """Only the sum over the logical batch divides."""
    values, c = torch.arange(1.0, 9.0), torch.tensor([0.0, 0, 0, 0, 1, 2, 3, 4])
    split = Reweighter(Fisher(3), seed=0, logical_batch=8)
    parts = [split(values[part], sample_weight=c[part], total=10.0) for part in (slice(4), slice(4, 8))]
    torch.testing.assert_close(sum(parts), Reweighter(Fisher(3), seed=0)(values, sample_weight=c))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Reweighter(Fisher(3), seed=0)(torch.ones(4), sample_weight=torch.ones(3)), "one weight for each loss"),
        (lambda: Reweighter(Fisher(3), seed=0)(torch.ones(4), sample_weight=[1.0] * 4), "floating-point tensor"),
        (lambda: weighted(torch.zeros(4)), "the sum of sample_weight is 0.*: leave out this batch"),
        (lambda: weighted(torch.tensor([1.0, -1.0, 2.0, 1.0])), "sample_weight must be at least 0"),
        (lambda: weighted(torch.tensor([1.0, math.nan, 2.0, 1.0])), "sample_weight must be at least 0"),
        (lambda: weighted(torch.ones(4), total=0.0), "the sum of sample_weight is 0"),
        (lambda: torch.no_grad()(weighted)(torch.zeros(4)), "the sum of sample_weight is 0"),
        (lambda: Reweighter(Fisher(3), seed=0)(torch.ones(4), total=4.0), "total goes with sample_weight"),
        (lambda: Reweighter(Fisher(3), seed=0, logical_batch=8)(torch.ones(4), sample_weight=torch.ones(4)), "total="),
        (lambda: Reweighter(Fisher(3), seed=0)(torch.tensor(1.0)), 'reduction="none"'),
        (lambda: Reweighter(Fisher(3), seed=0)(torch.ones(4, 1)), r"losses.squeeze\(1\)"),
        (lambda: Reweighter(Fisher(3), seed=0)(torch.ones(4, 3)), r"flatten\(1\).mean\(1\)"),
        (lambda: Reweighter(Fisher(3), seed=0)(torch.ones(0)), "must be at least 1"),
        (lambda: Reweighter(Fisher(3), seed=0)(torch.ones(4, dtype=torch.int64)), "floating-point"),
        (lambda: Reweighter(Fisher(3), seed=0)([1.0, 2.0]), "floating-point tensor"),
        (lambda: Reweighter(Fisher(3), seed=-1), "seed must lie"),
        (lambda: Reweighter(20, seed=0), "must be a law"),
        (lambda: Reweighter(Fisher(3), seed=0, logical_batch=0), "logical_batch must be at least 1"),
        (lambda: Reweighter(Fisher(3), seed=0, divided_by=2), "needs logical_batch"),
        (lambda: Reweighter(Fisher(3), seed=0, logical_batch=4, divided_by=0), "divided_by must be at least 1"),
        (lambda: Reweighter(MiniBatch(5), seed=0, logical_batch=4), "b ≤ n"),
        (lambda: Reweighter(MiniBatch(5), seed=0)(torch.ones(4)), "drop_last"),
        (lambda: Reweighter(Bernoulli(5), seed=0)(torch.ones(4)), "b ≤ n"),
        (lambda: Reweighter(Fisher(3), seed=0, logical_batch=4)(torch.ones(5)), "run past the logical batch of 4"),
        (lambda: Reweighter(Fisher(3), seed=0)(torch.ones(4), offset=1), "offset goes with step"),
        (lambda: Reweighter(Fisher(3), seed=0)(torch.ones(4), step=1, offset=1), "run past"),
        (lambda: Reweighter(Fisher(3), seed=0, logical_batch=8)(torch.ones(4), step=1), "pass offset="),
        (lambda: Reweighter(Fisher(3), seed=0).load_state_dict(None), "needs the keys"),
        (lambda: weighted_mean(torch.ones(4), Weights(torch.tensor([0]), torch.ones(1), 4)), "4 losses for 1 weights"),
        (lambda: weighted_mean(torch.ones(4, 1), Weights(None, torch.ones(4), 4)), "squeeze"),
        (lambda: weighted_mean(torch.ones(()), Weights(None, torch.ones(1), 1)), 'reduction="none"'),
    ],
)
def test_bad_input_names_the_remedy(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_a_micro_batch_across_the_border_is_an_error_and_loses_nothing():
    reweight = Reweighter(Fisher(3), seed=0, logical_batch=10)
    reweight(losses(6))
    with pytest.raises(ValueError, match="run past"):
        reweight(losses(6))
    assert reweight.state_dict()["offset"] == 6
    reweight(losses(4))
    assert reweight.step == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes(dtype):
    """A half-precision loss is summed in float32: 4096 losses of 40 would overflow a float16 sum."""
    values = torch.full((4096,), 40.0, dtype=dtype, requires_grad=True)
    loss = Reweighter(FullBatch(), seed=0)(values)
    assert loss.item() == pytest.approx(40)
    assert loss.dtype == torch.promote_types(dtype, torch.float32)
    loss.backward()
    assert values.grad.dtype == dtype


def test_autocast():
    model = nn.Linear(6, 3)
    x, y = torch.randn(16, 6), torch.randint(3, (16,))
    gradients = []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = Reweighter(Cov(4), seed=0)(F.cross_entropy(model(x), y, reduction="none"))
        loss.backward()
        gradients.append(model.weight.grad.clone())
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0.05, atol=0.02)


def test_compiles_whole():
    model = nn.Linear(6, 3)
    x, y = torch.randn(16, 6), torch.randint(3, (16,))

    def loss(x, y, weights):
        return weighted_mean(F.cross_entropy(model(x), y, reduction="none"), weights)

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    drawn, again = Reweighter(Cov(4), seed=0), Reweighter(Cov(4), seed=0)
    for _ in range(3):
        weights = drawn.weights(16)
        torch.testing.assert_close(compiled(x, y, weights), loss(x, y, again.weights(16)))
    sparse = MiniBatch(4).draw(16, seed=0, step=0)
    part = x[sparse.index], y[sparse.index]
    torch.testing.assert_close(compiled(*part, sparse), loss(*part, sparse))


def test_repr_shows_where_it_stands():
    reweight = Reweighter(Fisher(3), seed=5, logical_batch=12)
    reweight(losses(4))
    assert repr(reweight) == "Reweighter(Fisher(b=3), seed=5, logical_batch=12, divided_by=1, step=0, offset=4)"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_without_a_synchronisation():
    values = losses().detach().cuda().requires_grad_()
    reweight = Reweighter(Cov(3), seed=5)
    reweight(values, step=1)  # the first call looks at the losses
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = reweight(values)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(loss.cpu(), expected(Cov(3), losses(), seed=5, step=0))
