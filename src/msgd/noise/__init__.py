"""Laws (probability distributions) of the random weights w of the examples, with exact moments.

Every law has the methods ``moments(n)``, ``sample(n, rng)`` and ``draw(n, seed=…, step=…)``; see `Law`.
"""

from msgd.noise.bootstrap import BayesianBootstrap
from msgd.noise.compose import Grouped, Subsampled
from msgd.noise.correlated import Anticorrelated, Reshuffled
from msgd.noise.distributions import Gamma, Laplace, Normal, Rademacher, ScalarLaw, StudentT, Uniform
from msgd.noise.emulate import Emulate
from msgd.noise.emulate_reshuffled import EmulateReshuffled
from msgd.noise.injected import Cov, Fisher, Injected, SparseCov, SparseFisher
from msgd.noise.law import Law, Sample, Weights
from msgd.noise.moments import Moments
from msgd.noise.sampling import Bernoulli, FullBatch, MiniBatch, Poisson
from msgd.noise.schedule import Scheduled, hold_ratio, learning_rates
from msgd.noise.streams import INIT, NOISE, ORDER, generator
from msgd.noise.two_batch import TwoBatch, noise_enhancement, svag

LAWS: dict[str, type[Law]] = {
    "full-batch": FullBatch,
    "mini-batch": MiniBatch,
    "fisher": Fisher,
    "cov": Cov,
    "bernoulli": Bernoulli,
    "poisson": Poisson,
    "subsampled": Subsampled,
    "emulate": Emulate,
    "grouped": Grouped,
    "sparse-fisher": SparseFisher,
    "sparse-cov": SparseCov,
    "injected": Injected,
    "two-batch": TwoBatch,
    "bayesian-bootstrap": BayesianBootstrap,
    "reshuffled": Reshuffled,
    "emulate-reshuffled": EmulateReshuffled,
    "anticorrelated": Anticorrelated,
    "scheduled": Scheduled,
}  #: the laws, by the names that recipes use

SCALAR_LAWS: dict[str, type[ScalarLaw]] = {
    "normal": Normal,
    "rademacher": Rademacher,
    "uniform": Uniform,
    "laplace": Laplace,
    "student-t": StudentT,
    "gamma": Gamma,
}  #: the distributions that a recipe can name as the ``scalar_law`` of "injected"

__all__ = [
    "INIT",
    "LAWS",
    "NOISE",
    "ORDER",
    "SCALAR_LAWS",
    "Anticorrelated",
    "BayesianBootstrap",
    "Bernoulli",
    "Cov",
    "Emulate",
    "EmulateReshuffled",
    "Fisher",
    "FullBatch",
    "Gamma",
    "Grouped",
    "Injected",
    "Laplace",
    "Law",
    "MiniBatch",
    "Moments",
    "Normal",
    "Poisson",
    "Rademacher",
    "Reshuffled",
    "Sample",
    "ScalarLaw",
    "Scheduled",
    "SparseCov",
    "SparseFisher",
    "StudentT",
    "Subsampled",
    "TwoBatch",
    "Uniform",
    "Weights",
    "generator",
    "hold_ratio",
    "learning_rates",
    "noise_enhancement",
    "svag",
]
