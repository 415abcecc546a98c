"""The seam for laws that choose examples: what is loaded, how it is weighted, and where it goes on."""

from dataclasses import dataclass

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from msgd import WeightedBatchSampler, weighted_mean
from msgd.noise import (
    Anticorrelated,
    BayesianBootstrap,
    Bernoulli,
    Cov,
    Emulate,
    EmulateReshuffled,
    Fisher,
    FullBatch,
    Grouped,
    Injected,
    Laplace,
    Law,
    MiniBatch,
    Poisson,
    Reshuffled,
    Sample,
    SparseCov,
    Subsampled,
    TwoBatch,
    hold_ratio,
)
from msgd.reweighting.ranks import Ranks

N = 30
SPARSE = [MiniBatch(4), Bernoulli(4), Poisson(4), Subsampled(8, Emulate(4))]
LAWS = [*SPARSE, Reshuffled(5), EmulateReshuffled(6, 3), TwoBatch(4, 0.5)]


def loader_of(sampler, **options):
    x = torch.linspace(-1, 1, N, dtype=torch.float64)
    return DataLoader(TensorDataset(torch.arange(N), x), batch_sampler=sampler, **options)


def loss(parameter, x):
    return (parameter * x - 0.3) ** 2


def gradients(sampler, loader, passes=1):
    found = []
    for _ in range(passes):
        for weights, (_, x) in sampler.weighted(loader):
            parameter = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
            weighted_mean(loss(parameter, x), weights).backward()
            found.append(float(parameter.grad))
    return found


def twin(law, steps, seed=3):
    """The gradient over all examples, with the dense weights written out."""
    x, found = torch.linspace(-1, 1, N, dtype=torch.float64), []
    for step in steps:
        parameter = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
        w = law.draw(N, seed=seed, step=step).dense().double()
        ((w * loss(parameter, x)).sum() / N).backward()
        found.append(float(parameter.grad))
    return found


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_the_gradient_is_that_of_all_examples(law):
    sampler = WeightedBatchSampler(law, N, seed=3, steps=4)
    assert gradients(sampler, loader_of(sampler), passes=2) == pytest.approx(twin(law, range(8)), rel=1e-12)
    assert sampler.step == 8
    other = WeightedBatchSampler(law, N, seed=4, steps=4)
    assert gradients(other, loader_of(other)) != pytest.approx(twin(law, range(4)), rel=1e-3)


@pytest.mark.parametrize("law", SPARSE, ids=repr)
def test_only_the_examples_of_the_draw_are_loaded(law):
    sampler = WeightedBatchSampler(law, N, seed=3, steps=20)
    for step, (weights, (index, _)) in enumerate(sampler.weighted(loader_of(sampler))):
        assert index.tolist() == weights.index.tolist() == law.draw(N, seed=3, step=step).index.tolist()


def test_a_draw_that_chooses_no_example_is_a_step_without_gradient():
    law = Bernoulli(1)
    sampler = WeightedBatchSampler(law, N, seed=0, steps=40)
    empty = [step for step in range(40) if len(law.draw(N, seed=0, step=step).index) == 0]
    assert empty
    found = gradients(sampler, loader_of(sampler))
    assert found == pytest.approx(twin(law, range(40), seed=0), rel=1e-12)
    assert [step for step, gradient in enumerate(found) if gradient == 0] == empty


@pytest.mark.parametrize("workers", [0, 1])
def test_stop_in_the_middle_of_a_pass_and_resume(workers):
    """With a worker that fetches ahead too: the position is that of what was handed out."""
    law = Bernoulli(4)
    first = WeightedBatchSampler(law, N, seed=3, steps=5)
    begun = [weights.value.tolist() for weights, _ in zip_first(first, loader_of(first, num_workers=workers), 3)]
    second = WeightedBatchSampler(law, N, seed=3, steps=5)
    second.load_state_dict(first.state_dict())
    rest = [weights.value.tolist() for weights, _ in second.weighted(loader_of(second, num_workers=workers))]
    assert len(rest) == 2
    assert begun + rest == [law.draw(N, seed=3, step=step).value.tolist() for step in range(5)]
    assert len(gradients(second, loader_of(second))) == 5  # the next pass is whole


def zip_first(sampler, loader, count):
    for (weights, batch), _ in zip(sampler.weighted(loader), range(count), strict=False):
        yield weights, batch
        if sampler.step == count:
            return


@pytest.mark.parametrize("law", LAWS, ids=repr)
@pytest.mark.parametrize("layout", ["strided", "blocked"])
@pytest.mark.parametrize("size", [2, 3, 5])
def test_ranks_share_a_draw(law, layout, size):
    """The mean over the ranks, which is what DDP forms, is the gradient of one process, but for a float32 product."""
    parts = []
    for rank in range(size):
        sampler = WeightedBatchSampler(law, N, seed=3, steps=6, layout=layout)
        sampler._ranks = Ranks(rank, size, layout)
        parts.append(gradients(sampler, loader_of(sampler)))
    mean = [sum(step) / size for step in zip(*parts, strict=True)]
    assert mean == pytest.approx(twin(law, range(6)), rel=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: WeightedBatchSampler(4, N, seed=0, steps=5), "must be a law"),
        (
            lambda: WeightedBatchSampler(MiniBatch(4), torch.ones(N, 3), seed=0, steps=5),
            r"n must be the number of examples, such as len\(dataset\), not a Tensor$",
        ),
        (lambda: WeightedBatchSampler(MiniBatch(4), 30.0, seed=0, steps=5), "n must be the number of examples"),
        (lambda: WeightedBatchSampler(MiniBatch(4), N, seed=0, steps=torch.ones(9)), "steps must .* not a Tensor$"),
        (lambda: WeightedBatchSampler(MiniBatch(4), 0, seed=0, steps=5), "n must be at least 1"),
        (lambda: WeightedBatchSampler(MiniBatch(40), N, seed=0, steps=5), "b ≤ n"),
        (lambda: WeightedBatchSampler(MiniBatch(4), N, seed=-1, steps=5), "seed must lie"),
        (lambda: WeightedBatchSampler(MiniBatch(4), N, seed=0, steps=0), "steps must be at least 1"),
        (lambda: WeightedBatchSampler(MiniBatch(4), N, seed=0, steps=5, layout="x"), '"strided" or "blocked"'),
        (
            lambda: next(WeightedBatchSampler(Poisson(4), N, seed=0, steps=5).weighted(DataLoader(TensorDataset()))),
            "another batch sampler",
        ),
        (lambda: WeightedBatchSampler(Poisson(4), N, seed=0, steps=5).load_state_dict({"step": 1}), "needs the keys"),
        (
            lambda: WeightedBatchSampler(Poisson(4), N, seed=0, steps=5).load_state_dict(
                WeightedBatchSampler(Poisson(5), N, seed=0, steps=5).state_dict()
            ),
            "of law",
        ),
    ],
)
def test_bad_input_names_the_remedy(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@dataclass(frozen=True)
class Own(Law):
    """A law of one's own: two examples, or two that are written with all the zeros."""

    dense: bool

    def moments(self, n):
        return MiniBatch(2).moments(n)

    def sample(self, n, rng):
        drawn = MiniBatch(2).sample(n, rng)
        return Sample(None, drawn.dense(n)) if self.dense else drawn


@pytest.mark.parametrize(
    "law",
    [
        *[FullBatch(), Fisher(4), Cov(4), SparseCov(4, support=6), Injected(Laplace(), 4), Emulate(4), Emulate(40)],
        *[Grouped(5, Cov(2)), Anticorrelated(MiniBatch(4)), BayesianBootstrap(4), Own(dense=True)],
        hold_ratio(Emulate(4), [0.1] * 5, lr=0.1),
    ],
    ids=repr,
)
def test_a_law_that_chooses_no_examples_is_refused(law):
    """Each step would load all n, though the law was meant for the batches of a loader."""
    with pytest.raises(ValueError, match=r"load all 30 examples: use noise.Subsampled\(B, law\).* reweight.outputs"):
        WeightedBatchSampler(law, N, seed=0, steps=5)


@pytest.mark.parametrize(
    "law",
    [
        *[MiniBatch(N), Bernoulli(N), Subsampled(N, Emulate(4)), Reshuffled(N), EmulateReshuffled(N, 5)],
        *[Grouped(5, MiniBatch(2)), BayesianBootstrap(1), Emulate(4, "bernoulli"), Own(dense=False)],
        hold_ratio(Subsampled(8, Emulate(4)), [0.1] * 5, lr=0.1),
    ],
    ids=repr,
)
def test_a_law_that_chooses_examples_is_taken_even_if_it_chooses_all(law):
    sampler = WeightedBatchSampler(law, N, seed=0, steps=5)
    assert len(list(sampler)) == 5
