"""Apply the random weights of a law in any training loop.

`Reweighter` draws once per logical batch and splits the draw over micro-batches and ranks. `weighted_mean` is the loss
whose gradient is G·w/n. `WeightedBatchSampler` loads only the examples that a draw selects. `per_sequence` turns token
losses into one loss per sequence.
"""

from msgd.reweighting.batch_sampler import WeightedBatchSampler
from msgd.reweighting.ranks import Ranks, ranks
from msgd.reweighting.reweighter import Reweighter
from msgd.reweighting.token_losses import per_sequence
from msgd.reweighting.weighted_mean import weighted_mean

__all__ = ["Ranks", "Reweighter", "WeightedBatchSampler", "per_sequence", "ranks", "weighted_mean"]
