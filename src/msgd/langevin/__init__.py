"""Baselines for random weights: noise in parameter space, and penalties on gradient norms.

`GLDConst`, `GLDDynamic`, `GLDDiag` and `GLDLeading` add noise to the full gradient, with the total variance
``tr C / b`` of SGD's noise at batch size b. `SGLD` adds noise to the mini-batch gradient. `MiniBatchPenalty` and
`FullBatchPenalty` replace the noise by a penalty. ``C = (1/n)·Σ g_i g_iᵀ − ḡḡᵀ`` is the covariance of the per-example
gradients.
"""

from msgd.gradients.per_example import CHUNK, LossFunction
from msgd.langevin.gld import GLDConst, GLDDiag, GLDDynamic, GLDLeading
from msgd.langevin.parameter_noise import ParameterNoise, State
from msgd.langevin.penalties import FullBatchPenalty, MiniBatchPenalty, Penalty
from msgd.langevin.sgld import SGLD

LANGEVIN: dict[str, type[ParameterNoise]] = {
    "gld-const": GLDConst,
    "gld-dynamic": GLDDynamic,
    "gld-diag": GLDDiag,
    "gld-leading": GLDLeading,
    "sgld": SGLD,
}  #: the kinds of noise, by the names that recipes use

PENALTIES: dict[str, type[Penalty]] = {
    "mini-batch-penalty": MiniBatchPenalty,
    "full-batch-penalty": FullBatchPenalty,
}  #: the penalties, by the names that recipes use

__all__ = [
    "CHUNK",
    "LANGEVIN",
    "PENALTIES",
    "SGLD",
    "FullBatchPenalty",
    "GLDConst",
    "GLDDiag",
    "GLDDynamic",
    "GLDLeading",
    "LossFunction",
    "MiniBatchPenalty",
    "ParameterNoise",
    "Penalty",
    "State",
]
