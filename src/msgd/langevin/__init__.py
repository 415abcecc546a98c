"""Noise in parameter space, and none at all: the baselines that noise in the weights is compared with.

Noise added to the full gradient (`GLDConst`, `GLDDynamic`, `GLDDiag`, `GLDLeading`), each of the total variance
``tr C / b`` of SGD's noise at batch size b, or to the mini-batch gradient (`SGLD`); and penalties in the noise's place
(`MiniBatchPenalty`, `FullBatchPenalty`). ``C = (1/n)·Σ g_i g_iᵀ − ḡḡᵀ`` is the covariance of the per-example gradients.
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
}  #: by the names that recipes use

PENALTIES: dict[str, type[Penalty]] = {
    "mini-batch-penalty": MiniBatchPenalty,
    "full-batch-penalty": FullBatchPenalty,
}  #: likewise

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
