"""Counter-based random streams: ``(seed, step, stream)`` determines a generator, so there is no state to save."""

from __future__ import annotations

import operator
import zlib
from typing import Any

import numpy as np
from numpy.random import Generator, Philox
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import NDArray

# All stream numbers of the package stand here, so that no two uses of one seed share random numbers by accident.
NOISE = 0  #: the weights of the examples
ORDER = 1  #: the order in which a data set is visited
INIT = 2  #: the initial parameters
DIRECTIONS = 3  #: random directions in parameter space; on stream NOISE they would equal the normals of the weights
DATA = 3  #: data of simulated least squares; existing result folders fix this number, and they draw no directions
_METHODS = 2**32  # first of the streams that belong to the methods of an experiment
CROPS = 2**32  #: offset from a method's stream to the stream of its crops and flips
DROPOUT = 2**33  #: offset from a method's stream to the stream of what networks draw themselves
PARAMETER_NOISE = 2**63  #: this bit of a law's stream is flipped for noise in parameter space, which is independent

# Step numbers that denote no training step. They take the step's place in the counter of the generator.
BEFORE_FIRST = 2**64 - 1  #: the step −1
FIRST_EPOCH = 2**62  #: number of epoch 0; epoch e has the number FIRST_EPOCH + e

_WORD = 2**64


def method_stream(method: str) -> int:
    """Return the noise stream of a method of an experiment, independent of the other methods' streams at the same seed.

    Args:
        method: name of the method.

    Returns:
        The stream's number, ≥ 2³².
    """
    return _METHODS + zlib.crc32(method.encode())


def generator(seed: int, step: int, stream: int = NOISE) -> Generator:
    """Return the generator of one step of one stream.

    ``Generator(Philox(key=[seed, stream], counter=[0, 0, 0, step]))``: the step is the counter's high word, so that
    each step owns 2¹⁹² blocks. If it were the low word, neighbouring steps would share all numbers but one block.

    Args:
        seed: seed of the experiment, 0 ≤ seed < 2⁶⁴.
        step: the training step, 0 ≤ step < 2⁶⁴.
        stream: purpose of the numbers (``NOISE``, ``ORDER``, ``INIT``, or a number of your own), 0 ≤ stream < 2⁶⁴.

    Returns:
        A NumPy generator, the same in every process and on every machine with the same NumPy.

    Raises:
        TypeError: an argument is not an integer.
        ValueError: an argument is outside [0, 2⁶⁴).

    Examples:
        >>> generator(seed=0, step=5).integers(100, size=3).tolist()
        [72, 93, 44]

    References:
        Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    # The words are uint64 throughout: NumPy converts a list with words of 2⁶³ and more to floats.
    key = np.array([_word("seed", seed), _word("stream", stream)], dtype=np.uint64)
    counter = np.array([0, 0, 0, _word("step", step)], dtype=np.uint64)
    return Generator(Philox(_Key(key), counter=counter))  # type: ignore[arg-type]  # any ISeedSequence will do


class _Key(ISeedSequence):
    """Seed sequence that returns a fixed key: with ``key=`` NumPy would still request system entropy, for 20 µs."""

    def __init__(self, key: NDArray[np.uint64]) -> None:
        self.key = key

    def generate_state(self, n_words: int, dtype: Any = np.uint64) -> NDArray[np.uint64]:  # noqa: ARG002 - the signature
        return self.key


def _word(name: str, value: int) -> int:
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    try:
        word = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {value!r}") from None
    if not 0 <= word < _WORD:
        raise ValueError(f"{name} must lie in [0, 2**64), not {word}")
    return word
