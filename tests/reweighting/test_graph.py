"""Questions to the graph: is this the second pass of a checkpoint, and does a path go around the gates?"""

import torch
from torch import nn

from msgd.reweighting.gate import gate, gated_linear
from msgd.reweighting.graph import recomputed, ungated_leaf


def test_nothing_is_recomputed_in_an_ordinary_pass():
    assert not recomputed()
    seen = []
    y = torch.ones(4, requires_grad=True)
    y.register_hook(lambda _: seen.append(recomputed()))
    y.sum().backward()
    assert seen == [False]  # in a backward pass, but without a checkpoint


def test_a_path_around_the_gates_is_found():
    torch.manual_seed(0)
    body, head, w = nn.Linear(3, 4), nn.Linear(4, 2), torch.ones(5)
    h = body(torch.ones(5, 3)).tanh()
    assert ungated_leaf(gate(head(h), w).exp().mean()) is None
    assert ungated_leaf(gated_linear(h, head.weight, head.bias, w).mean()) is None
    assert ungated_leaf(head(gate(h, w)).mean()) in (head.weight, head.bias)
    both = gate(head(h), w).mean() + h.square().mean()
    assert ungated_leaf(both) in (body.weight, body.bias)
    assert ungated_leaf(torch.ones(2)) is None
