"""The evaluations of a run, and its endpoint."""

import numpy as np

from msgd.lab.experiment_folder.metrics import METRICS, endpoint_of


def test_the_endpoint_leaves_out_the_start():
    records = [{"step": s, **dict.fromkeys(METRICS, float(s))} for s in range(0, 130, 10)]
    assert endpoint_of(records)["test_accuracy"] == np.mean(range(30, 130, 10))
    assert endpoint_of(records[:3])["test_loss"] == 15
