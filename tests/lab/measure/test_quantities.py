"""The quantities that msgd measure knows."""

import pytest
import torch

from helpers.training import make
from msgd import GradientMatrix, diagnostics
from msgd.lab.measure.cost import CostCountingMatrix
from msgd.lab.measure.quantities import SCORES, Level, Subject, measure_tails, noise_trace, standard_quantiles
from msgd.lab.networks.build import build_network
from msgd.lab.tasks.losses import cross_entropy
from msgd.langevin import SGLD, FullBatchPenalty, GLDConst, GLDDiag, GLDLeading
from msgd.noise import (
    Anticorrelated,
    BayesianBootstrap,
    Bernoulli,
    Cov,
    Fisher,
    FullBatch,
    Injected,
    MiniBatch,
    StudentT,
)


def test_quantiles_of_a_normal_are_its_scores():
    draws = torch.randn(200_001, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inner = slice(7, 34)  # from −2 to 2, where 2·10⁵ draws have quantiles to 0.02 (five standard errors)
    quantiles = standard_quantiles(3 + 5 * draws)
    assert quantiles[inner] == pytest.approx(SCORES[inner].tolist(), abs=0.03)
    heavy = standard_quantiles(draws.sign() * draws.abs() ** 2)
    assert heavy[-1] > 5


@pytest.mark.parametrize(
    "law", [MiniBatch(8), Fisher(8), Cov(8), Bernoulli(8), BayesianBootstrap(8), FullBatch()], ids=repr
)
def test_the_variance_of_the_noise_of_a_law(law):
    model = torch.nn.Linear(3, 4).double()
    x, y = torch.randn(40, 3, dtype=torch.float64), torch.randint(4, (40,))
    matrix = GradientMatrix(model, cross_entropy, x, y)
    C = diagnostics.Covariance(matrix)
    found, notes = noise_trace(make(law), 5, C.trace(), diagnostics.mean_square(matrix), 16)
    assert found == pytest.approx(diagnostics.Covariance.of_law(matrix, law).trace(), rel=1e-10, abs=1e-15)
    assert notes == []


def test_the_variance_of_other_noise():
    def of(step=5, **changes):
        return noise_trace(make(**changes), step, 8.0, 2.0, 10)

    assert of(law=Injected(StudentT(1.5, scale="iqr"), 8)) == (None, ["the law has no variance"])
    assert of(law=FullBatch(), penalty=FullBatchPenalty(0.1))[0] == 0.0
    assert of(law=FullBatch(), noise=GLDDiag(4))[0] == 2.0  # tr C/b
    assert of(law=FullBatch(), noise=GLDLeading(4))[0] == 2.0
    assert of(law=FullBatch(), noise=GLDConst(4), step=0)[0] == 2.0
    value, notes = of(law=FullBatch(), noise=GLDConst(4))
    assert value is None
    assert "step 0" in notes[-1]
    law = MiniBatch(8, replacement=True)
    value, notes = of(law=law, noise=SGLD(temperature=0.005, lr=0.05))
    assert value == pytest.approx(8.0 / 8 + 10 * 2 * 0.005 / 0.05)
    assert "parameter space" in notes[0]
    value, notes = of(law=Anticorrelated(law))
    assert value > 0
    assert "ties steps together" in notes[0]


def test_tails_of_laws_without_a_variance_or_without_noise(data):
    model = build_network("conv-small", input_shape=(1, 28, 28), classes=10, seed=0)
    x = torch.rand(40, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    y = torch.tensor(data.train_targets)
    level = Level(k=1, alignment=0, hessian=1, trace=4, change=2, directions=1, draws=4000)

    def tails(**changes):
        return measure_tails(Subject(CostCountingMatrix(model, cross_entropy, x, y), make(**changes), 0, level))

    heavy, _ = tails(law=Injected(StudentT(1.2, scale="iqr"), 8))
    normal, _ = tails(law=Fisher(8))
    assert heavy.directions[0].p_normal < 1e-6 < normal.directions[0].p_normal
    assert heavy.directions[0].hill.high < 2 < normal.directions[0].hill.low
    assert tails(law=FullBatch()) == (None, ["the weights have no noise"])
    assert "Gaussian" in tails(law=FullBatch(), noise=GLDDiag(4))[1][0]
    assert tails(law=FullBatch(), penalty=FullBatchPenalty(0.1))[0] is None
