"""Apply the random weights of a law in any training loop.

`Reweighter` draws once per logical batch, splits the draw over micro-batches and ranks, and applies it: to the gradient
that flows back into a network's outputs, or to losses. `weighted_outputs` and `weighted_mean` are the function twins
for weights of your own. `WeightedBatchSampler` loads only the examples that a draw selects. `per_sequence` turns token
losses into one loss per sequence.
"""

from msgd.reweighting.attachment import Attachment
from msgd.reweighting.batch_sampler import WeightedBatchSampler
from msgd.reweighting.gate import weighted_outputs
from msgd.reweighting.gradient_check import GradientCheck
from msgd.reweighting.ranks import Ranks, ranks
from msgd.reweighting.reweighter import Reweighter
from msgd.reweighting.step_watch import StepWatch
from msgd.reweighting.token_losses import per_sequence
from msgd.reweighting.weighted_mean import weighted_mean

__all__ = [
    "Attachment",
    "GradientCheck",
    "Ranks",
    "Reweighter",
    "StepWatch",
    "WeightedBatchSampler",
    "per_sequence",
    "ranks",
    "weighted_mean",
    "weighted_outputs",
]
