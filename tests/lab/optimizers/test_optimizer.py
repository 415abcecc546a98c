"""Tables of optimizers, and what they build."""

import pytest
import torch
from torch import nn

from msgd.lab.errors import UserError
from msgd.lab.optimizers.optimizer import Optimizer, optimizer_kinds, optimizer_of

needs_muon = pytest.mark.skipif("Muon" not in optimizer_kinds(), reason="this torch has no Muon")


class Plain(torch.optim.Optimizer):
    def __init__(self, params, lr, scale=1.0, **_):
        super().__init__(params, {"lr": lr, "scale": scale})

    @torch.no_grad()
    def step(self, closure=None):  # noqa: ARG002
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.sub_(parameter.grad, alpha=group["lr"] * group["scale"])


class WithoutRate(torch.optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, {})


class CountsInAttribute(Plain):
    calls = 0

    def step(self, closure=None):
        self.calls += 1
        super().step(closure)


class KeepsAList(Plain):
    def step(self, closure=None):
        self.state[self.param_groups[0]["params"][0]]["history"] = [1.0]
        super().step(closure)


class KeepsACommonState(Plain):
    def step(self, closure=None):
        self.state["common"] = {"step": 1}
        super().step(closure)


class NeedsAClosure(Plain):
    def step(self, closure):
        return closure()


def test_a_table_becomes_an_optimizer_with_a_complete_repr():
    optimizer = optimizer_of({"kind": "adamw", "weight_decay": 0.1, "betas": [0.9, 0.95]}, where="x")
    assert repr(optimizer) == "Optimizer(kind='AdamW', fields=(('betas', (0.9, 0.95)), ('weight_decay', 0.1)))"
    assert optimizer == Optimizer("AdamW", (("betas", (0.9, 0.95)), ("weight_decay", 0.1)))
    assert hash(optimizer) == hash(
        optimizer_of({"betas": [0.9, 0.95], "weight_decay": 0.1, "kind": "AdamW"}, where="y")
    )


def test_every_kind_takes_its_defaults():
    kinds = optimizer_kinds()
    assert {"SGD", "Adam", "AdamW", "RMSprop", "Adafactor", "NAdam", "RAdam"} <= set(kinds)
    assert not {"Optimizer", "LBFGS", "SparseAdam"} & set(kinds)
    for kind in kinds:
        assert optimizer_of({"kind": kind.upper()}, where="x") == Optimizer(kind)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, r"x: kind: write the name of an optimizer"),
        ({"kind": 3}, r"x: kind: write the name"),
        ({"kind": "Adamm"}, r"x: there is no optimizer 'Adamm'; torch .* has ASGD, .*SGD"),
        ({"kind": "lbfgs"}, r"x: LBFGS cannot train here: .*closure"),
        ({"kind": "SparseAdam"}, r"x: SparseAdam cannot train here: .*sparse gradients"),
        ({"kind": "SGD", "lr": 0.1}, r"x: lr: write lr beside"),
        ({"kind": "SGD", "maximize": True}, r"x: SGD has no field 'maximize' here; it has momentum, dampening"),
        ({"kind": "Adam", "differentiable": True}, r"no field 'differentiable'"),
        ({"kind": "Adam", "params": 1}, r"no field 'params'"),
        ({"kind": "Adam", "momentum": 0.9}, r"x: Adam has no field 'momentum' here; it has betas, eps"),
        ({"kind": "SGD", "momentum": "0.9"}, r"x: momentum: write a number, not '0\.9'"),
        ({"kind": "SGD", "momentum": True}, r"x: momentum: write a number"),
        ({"kind": "SGD", "momentum": float("nan")}, r"x: momentum: nan is not finite"),
        ({"kind": "SGD", "momentum": -1}, r"x: SGD: Invalid momentum"),
        ({"kind": "SGD", "nesterov": "no"}, r"x: nesterov: write true or false"),
        ({"kind": "SGD", "nesterov": True}, r"x: SGD: Nesterov momentum requires"),
        ({"kind": "SGD", "foreach": "no"}, r"x: foreach: write true or false"),
        ({"kind": "Adam", "betas": [0.9]}, r"x: betas: write a list of 2 numbers"),
        ({"kind": "Adam", "betas": 0.9}, r"x: betas: write a list of 2 numbers"),
        ({"kind": "Adam", "betas": [0.9, 1.5]}, r"x: Adam: Invalid beta"),
        ({"kind": "Adam", "eps": {"a": 1}}, r"x: eps: \{'a': 1\} is not a number"),
        ({"kind": "Adam", "foreach": True, "fused": True}, r"x: Adam: .*fused"),
    ],
)
def test_a_wrong_table_is_refused_in_one_line(table, message):
    with pytest.raises(UserError, match=message) as error:
        optimizer_of(table, where="x")
    assert "\n" not in str(error.value)


def test_an_own_class_takes_its_fields():
    optimizer = optimizer_of({"kind": "task.py:Plain", "scale": 2.0}, where="x", source=Plain)
    assert repr(optimizer) == "Optimizer(kind='task.py:Plain', fields=(('scale', 2.0),))"
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    built = optimizer.build([("weight", weight)], 0.5)
    built.step(0.25, (torch.tensor([1.0, -2.0]),))  # θ − lr·scale·g, with the rate of the step
    assert weight.tolist() == [0.5, 3.0]
    assert weight.grad is None


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (int, r"x: task.py:A is not a subclass of torch.optim.Optimizer"),
        (len, r"x: task.py:A is not a subclass"),
        (WithoutRate, r"x: task.py:A takes no lr"),
        (CountsInAttribute, r"x: task.py:A: a step changes its attribute calls"),
        (KeepsAList, r"x: KeepsAList: history in its state is a list"),
        (KeepsACommonState, r"x: KeepsACommonState: state\['common'\] would be lost"),
        (NeedsAClosure, r"x: task.py:A: .*closure"),
    ],
)
def test_an_own_class_that_cannot_train_or_be_saved_is_refused(source, message):
    with pytest.raises(UserError, match=message):
        optimizer_of({"kind": "task.py:A"}, where="x", source=source)


@needs_muon
def test_muon_updates_the_matrices_and_adamw_the_rest():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 3))
    twin = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 3))
    twin.load_state_dict(model.state_dict())
    built = optimizer_of({"kind": "Muon", "weight_decay": 0.2}, where="x").build(list(model.named_parameters()), 0.1)
    matrix, others = twin[2].weight, [twin[0].weight, twin[0].bias, twin[2].bias]
    muon = torch.optim.Muon([matrix], lr=0.03, weight_decay=0.2, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(others, lr=0.03, weight_decay=0.2)
    for _ in range(3):
        for parameter in twin.parameters():
            parameter.grad = torch.randn(parameter.shape)
        built.step(0.03, tuple(parameter.grad.clone() for parameter in twin.parameters()))
        muon.step()
        adamw.step()
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@needs_muon
def test_muon_without_a_matrix_is_refused_and_without_others_is_alone():
    optimizer = optimizer_of({"kind": "Muon"}, where="x")
    with pytest.raises(UserError, match="this network has none"):
        optimizer.build([("bias", nn.Parameter(torch.zeros(3)))], 0.1)
    assert len(optimizer.build([("weight", nn.Parameter(torch.zeros(3, 2)))], 0.1).optimizers) == 1
