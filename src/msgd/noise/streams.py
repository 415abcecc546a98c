"""Counter-based random streams: ``(seed, step, stream)`` to a generator, with no state to save."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.random import Generator, Philox
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import NDArray

NOISE = 0  #: the weights of the examples


ORDER = 1  #: the order in which a data set is visited


INIT = 2  #: the initial parameters


_WORD = 2**64


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
