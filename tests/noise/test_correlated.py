"""Laws that tie steps together: what the steps have in common, and where such laws do not belong."""

import math

import numpy as np
import pytest
import torch

from cases import halving
from msgd.noise import Anticorrelated, Cov, Fisher, MiniBatch, Reshuffled, Scheduled, Subsampled, generator


def test_an_epoch_visits_each_example_once():
    law = Reshuffled(3)
    for epoch in range(3):
        seen = torch.cat([law.draw(12, seed=1, step=4 * epoch + t).index for t in range(4)])
        assert sorted(seen.tolist()) == list(range(12))
    firsts = {tuple(law.draw(12, seed=1, step=4 * epoch).index.tolist()) for epoch in range(5)}
    assert len(firsts) > 1  # a new permutation each epoch


def test_the_last_short_batch_is_dropped():
    law = Reshuffled(5)
    seen = torch.cat([law.draw(12, seed=1, step=t).index for t in range(2)])
    assert len(set(seen.tolist())) == 10
    assert law.draw(12, seed=1, step=2).index.shape == (5,)


def test_reshuffled_steps_in_any_order():
    law = Reshuffled(3)
    forward = [law.draw(12, seed=1, step=t).index.tolist() for t in range(40)]
    assert [law.draw(12, seed=1, step=t).index.tolist() for t in reversed(range(40))] == forward[::-1]
    assert law.draw(12, seed=2, step=0).index.tolist() != forward[0]
    assert law.draw(12, seed=1, step=0, stream=4).index.tolist() != forward[0]


def test_anticorrelated_steps_against_the_formula():
    law, inner = Anticorrelated(Fisher(3)), Fisher(3)

    def xi(step):
        return inner.draw(12, seed=1, step=step % 2**64).dense().double() - 1

    for step in range(4):
        expected = 1 + (xi(step) - xi(step - 1)) / math.sqrt(2)
        torch.testing.assert_close(law.draw(12, seed=1, step=step).dense().double(), expected, rtol=0, atol=1e-5)


def test_anticorrelation():
    """Cov(w_t, w_{t+1}) = −½ Cov(inner): −n/(2b) for each example; 4000 pairs of 12, false-alarm rate 10⁻⁴."""
    law = Anticorrelated(Fisher(3))
    w = np.array([law.draw(12, seed=1, step=t).dense().numpy() for t in range(4000)], dtype=float) - 1
    products = (w[:-1] * w[1:]).mean(1)
    blocks = products[: len(products) // 3 * 3].reshape(-1, 3).mean(1)  # neighbours are dependent, blocks nearly not
    error = blocks.std(ddof=1) / math.sqrt(len(blocks)) * 1.5
    assert abs(blocks.mean() + 12 / 3 / 2) < 3.891 * error
    apart = (w[:-2] * w[2:]).mean(1)
    assert abs(apart.mean()) < 3.891 * apart.std(ddof=1) / math.sqrt(len(apart)) * 1.5


def test_scheduled_steps_are_those_of_their_laws():
    law = Scheduled(halving)
    assert torch.equal(law.draw(12, seed=1, step=9).dense(), MiniBatch(4).draw(12, seed=1, step=9).dense())
    assert torch.equal(law.draw(12, seed=1, step=10).dense(), Cov(2).draw(12, seed=1, step=10).dense())
    assert repr(law) == "Scheduled(cases.halving)"


@pytest.mark.parametrize("law", [Reshuffled(3), Anticorrelated(Fisher(3)), Scheduled(halving)], ids=repr)
def test_they_are_refused_where_steps_must_be_independent(law):
    assert law.correlated
    for make in (lambda: Subsampled(5, law), lambda: Anticorrelated(law)):
        with pytest.raises(TypeError, match="independent steps"):
            make()
    assert law.sample(12, generator(0, 0)).dense(12).shape == (12,)


def test_bad_schedules():
    with pytest.raises(TypeError, match="function from the step"):
        Scheduled(Fisher(3))
    with pytest.raises(TypeError, match="must be a law"):
        Scheduled(lambda step: 20 + step)
    with pytest.raises(ValueError, match="b ≤ n"):
        Reshuffled(13).draw(12, seed=0, step=0)
