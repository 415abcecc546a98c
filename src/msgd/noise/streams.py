"""Counter-based random streams: ``(seed, step, stream)`` to a generator, with no state to save."""

from __future__ import annotations

import operator
import zlib
from typing import Any

import numpy as np
from numpy.random import Generator, Philox
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import NDArray

# All stream numbers of the package, so that no two uses of one seed share their random numbers by accident.
NOISE = 0  #: the weights of the examples
ORDER = 1  #: the order in which a data set is visited
INIT = 2  #: the initial parameters
DIRECTIONS = 3  #: random directions in parameter space: on the stream of the weights both would have the same normals
DATA = 3  #: the data of simulated least squares; finished folders fix the number, and they draw no directions
_METHODS = 2**32  # from here on, a stream for each method of an experiment
CROPS = 2**32  #: added to a method's stream: its crops and flips
PARAMETER_NOISE = 2**63  #: flipped in a law's stream: noise in parameter space, independent of the law's draw

# Steps that are no steps of training. They stand in the counter, where a generator has the step.
BEFORE_FIRST = 2**64 - 1  #: the step −1
FIRST_EPOCH = 2**62  #: from here on, numbers of epochs

_WORD = 2**64


def method_stream(method: str) -> int:
    """The noise stream of a method of an experiment: independent of the other methods' at the same seed.

    Args:
        method: its name.

    Returns:
        The stream's number, from 2³² on.
    """
    return _METHODS + zlib.crc32(method.encode())


def generator(seed: int, step: int, stream: int = NOISE) -> Generator:
    """Return the generator of one step of one stream.

    ``Generator(Philox(key=[seed, stream], counter=[0, 0, 0, step]))``: the step stands in the counter's high word,
    so that each step owns 2¹⁹² blocks; in the low word, neighbouring steps would share all their numbers but one block.

    Args:
        seed: names the experiment's randomness, 0 ≤ seed < 2⁶⁴.
        step: the step of training, 0 ≤ step < 2⁶⁴.
        stream: what the numbers are for (``NOISE``, ``ORDER``, ``INIT``, or one of your own), 0 ≤ stream < 2⁶⁴.

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
    # As uint64 throughout: NumPy makes floats of a list with words of 2⁶³ and more.
    key = np.array([_word("seed", seed), _word("stream", stream)], dtype=np.uint64)
    counter = np.array([0, 0, 0, _word("step", step)], dtype=np.uint64)
    return Generator(Philox(_Key(key), counter=counter))  # type: ignore[arg-type]  # any ISeedSequence will do


class _Key(ISeedSequence):
    """Philox's key as it is: where ``key=`` is given NumPy asks the system for entropy all the same, for 20 µs."""

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
