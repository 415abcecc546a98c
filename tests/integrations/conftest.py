"""What Accelerate keeps in a process is left as it was found, for the tests that follow there."""

import pytest
from accelerate.state import AcceleratorState, GradientState


def reset():
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture(autouse=True)
def _one_accelerator_at_a_time():
    reset()
    yield
    reset()
