"""What a measurement costs, in gradients."""

import pytest
import torch

from msgd.lab.measure.cost import CostCountingMatrix
from msgd.lab.networks.build import build_network
from msgd.lab.tasks.losses import cross_entropy


def test_the_cost_is_counted(data):
    model = build_network("conv-small", input_shape=(1, 28, 28), classes=10, seed=0)
    x, y = torch.rand(40, 1, 28, 28), torch.tensor(data.train_targets)
    matrix = CostCountingMatrix(model, cross_entropy, x, y, chunk=10)
    d = matrix.shape[0]
    for product, cost in (
        (lambda: matrix @ torch.ones(40), 1),
        (lambda: matrix @ torch.ones(40, 3), 3),
        (lambda: matrix.T @ torch.ones(d, 2), 2),
        (lambda: matrix.mean(), 1),
        (lambda: matrix.mean_loss(), 1 / 3),
        (lambda: matrix.hessian_product(torch.ones(d)), 3),
        (lambda: matrix.column_norms(), 1),
        (lambda: matrix.column_norms(centred=True), 2),
        (lambda: matrix.gram(centred=True), 3.5),
    ):
        matrix.gradients = 0.0
        product()
        assert matrix.gradients == pytest.approx(cost)
