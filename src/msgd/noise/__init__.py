"""Laws of the random weights w of the examples, with exact moments.

Every law has ``moments(n)``, ``sample(n, rng)`` and ``draw(n, seed=…, step=…)``; see `Law`.
"""

from msgd.noise.compose import Emulate, Subsampled
from msgd.noise.injected import Cov, Fisher
from msgd.noise.law import Law, Sample, Weights
from msgd.noise.moments import Moments
from msgd.noise.sampling import Bernoulli, FullBatch, MiniBatch, Poisson
from msgd.noise.streams import INIT, NOISE, ORDER, generator

LAWS: dict[str, type[Law]] = {
    "full-batch": FullBatch,
    "mini-batch": MiniBatch,
    "fisher": Fisher,
    "cov": Cov,
    "bernoulli": Bernoulli,
    "poisson": Poisson,
    "subsampled": Subsampled,
    "emulate": Emulate,
}  #: by the names that recipes use

__all__ = [
    "INIT",
    "LAWS",
    "NOISE",
    "ORDER",
    "Bernoulli",
    "Cov",
    "Emulate",
    "Fisher",
    "FullBatch",
    "Law",
    "MiniBatch",
    "Moments",
    "Poisson",
    "Sample",
    "Subsampled",
    "Weights",
    "generator",
]
