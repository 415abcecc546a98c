"""The state of an optimizer continues a run bitwise."""

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from msgd.lab.errors import UserError
from msgd.lab.optimizers.optimizer import Optimizer, optimizer_kinds, optimizer_of


class CountsPerParameter(torch.optim.Optimizer):
    """Adds to θ in steps that shrink with a Python int, from a buffer of float64, for float32 parameters."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):  # noqa: ARG002
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state.update(count=0, first=True, rate=1.0, sum=torch.zeros_like(parameter, dtype=torch.float64))
                assert [type(state[key]) for key in ("count", "first", "rate")] == [int, bool, float]
                state["count"] += 1
                state["first"] = False
                state["rate"] *= 0.9
                state["sum"].mul_(state["rate"]).add_(parameter.grad.double() / 3)
                parameter.sub_((state["sum"] * group["lr"] / state["count"]).float())


class CountsInGroup(torch.optim.Optimizer):
    def __init__(self, params, lr, betas=(0.9, 0.99)):
        super().__init__(params, {"lr": lr, "betas": betas, "k": 0, "weight": 0.0})

    @torch.no_grad()
    def step(self, closure=None):  # noqa: ARG002
        for group in self.param_groups:
            group["k"] += 1
            group["weight"] += group["lr"] / group["k"]
            for parameter in group["params"]:
                parameter.sub_(parameter.grad, alpha=group["lr"] * group["weight"])


class ReplacesATuple(CountsInGroup):
    def step(self, closure=None):
        super().step(closure)
        self.param_groups[0]["betas"] = (0.5, 0.5)


class NamesWithDots(CountsInGroup):
    def step(self, closure=None):
        super().step(closure)
        self.state[self.param_groups[0]["params"][0]]["a.b"] = 1


OWN = {cls.__name__: cls for cls in (CountsPerParameter, CountsInGroup)}
TABLES = [
    {"kind": "SGD"},
    {"kind": "SGD", "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    {"kind": "SGD", "momentum": 0.9, "foreach": True},
    {"kind": "Adam"},
    {"kind": "Adam", "amsgrad": True, "fused": True},
    {"kind": "AdamW", "betas": [0.9, 0.95], "foreach": True},
    {"kind": "NAdam"},
    {"kind": "RAdam"},
    {"kind": "Adamax"},
    {"kind": "Adadelta"},
    {"kind": "Adagrad", "lr_decay": 0.1, "initial_accumulator_value": 0.1},
    {"kind": "Adafactor"},
    {"kind": "RMSprop", "centered": True, "momentum": 0.9},
    {"kind": "Rprop"},
    {"kind": "ASGD", "t0": 2.0},
    {"kind": "Muon"},
    {"kind": "task.py:CountsPerParameter"},
    {"kind": "task.py:CountsInGroup"},
]
every_table = pytest.mark.parametrize(
    "table", [t for t in TABLES if ":" in t["kind"] or t["kind"] in optimizer_kinds()], ids=str
)


def optimizer(table) -> Optimizer:
    return optimizer_of(table, where="x", source=OWN.get(table["kind"].partition(":")[2]))


def network() -> nn.Module:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.PReLU(), nn.Flatten(), nn.Linear(48, 5), nn.Linear(5, 4))
    model[0].weight.data = model[0].weight.data.contiguous(memory_format=torch.channels_last)
    model.register_parameter("temperature", nn.Parameter(torch.tensor(1.5)))  # of shape ()
    return model


def walk(model, built, start, stop):
    """Steps on gradients that depend on the step and on the parameters, with a rate that changes."""
    parameters = list(model.parameters())
    for step in range(start, stop):
        torch.manual_seed(100 + step)
        inputs, targets = torch.randn(6, 2, 6, 6), torch.randint(0, 4, (6,))
        loss = nn.functional.cross_entropy(model(inputs) * model.temperature, targets)
        built.step(0.02 / (1 + step), torch.autograd.grad(loss, parameters))


def tensors_of(model, built):
    return {f"model.{name}": value for name, value in model.state_dict().items()} | built.state()


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert second[name].dtype == value.dtype, name
        assert second[name].shape == value.shape, name
        bits = [t.contiguous().reshape(-1).view(torch.uint8) for t in (value, second[name])]
        assert torch.equal(*bits), name


@every_table
@pytest.mark.parametrize("stop", [0, 1, 4])
def test_a_run_that_was_stopped_ends_bitwise_like_one_that_was_not(table, stop):
    whole = network()
    built = optimizer(table).build(list(whole.named_parameters()), 0.02)
    walk(whole, built, 0, 9)

    first = network()
    stopped = optimizer(table).build(list(first.named_parameters()), 0.02)
    walk(first, stopped, 0, stop)
    file = safetensors.torch.save({k: v.contiguous() for k, v in tensors_of(first, stopped).items()})

    tensors = safetensors.torch.load(file)
    second = network()
    second.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    continued = optimizer(table).build(list(second.named_parameters()), 0.7)  # the rate of a step is what counts
    continued.load(tensors)
    assert_equal(stopped.state(), continued.state())
    walk(second, continued, stop, 9)
    assert_equal(tensors_of(whole, built), tensors_of(second, continued))


@every_table
def test_shapes_are_those_of_the_state_after_a_step(table):
    model = network()
    built = optimizer(table).build(list(model.named_parameters()), 0.02)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    shapes = built.shapes()
    assert_equal(before, dict(model.state_dict()))  # the search changes nothing
    walk(model, built, 0, 3)
    assert shapes == {name: (tuple(value.shape), value.dtype) for name, value in built.state().items()}


def test_loading_forgets_the_steps_that_were_taken_since():
    model = network()
    built = optimizer({"kind": "Adam"}).build(list(model.named_parameters()), 0.02)
    walk(model, built, 0, 1)
    state = {name: value.clone() for name, value in built.state().items()}
    walk(model, built, 1, 3)
    assert not torch.equal(built.state()["optimizer.3.bias.exp_avg"], state["optimizer.3.bias.exp_avg"])
    built.load(state)
    assert_equal(state, built.state())
    built.load({"ema.3.bias": torch.zeros(5)})  # a checkpoint before the first step
    assert built.state() == {}


def test_the_names_and_types_of_the_state():
    model = nn.Linear(2, 1, bias=False)
    for kind, expected in (
        ("Adam", {"weight.step": torch.float32, "weight.exp_avg": torch.float32, "weight.exp_avg_sq": torch.float32}),
        (
            "task.py:CountsPerParameter",
            {
                "weight.count:int": torch.int64,
                "weight.first:bool": torch.bool,
                "weight.rate:float": torch.float64,
                "weight.sum": torch.float64,
            },
        ),
        ("task.py:CountsInGroup", {"group0.k:int": torch.int64, "group0.weight:float": torch.float64}),
    ):
        built = optimizer({"kind": kind}).build(list(model.named_parameters()), 0.1)
        built.step(0.1, (torch.ones(1, 2),))
        assert {name: value.dtype for name, value in built.state().items()} == {
            f"optimizer.{name}": dtype for name, dtype in expected.items()
        }


def test_momentum_is_that_of_the_formula():
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    built = optimizer({"kind": "SGD", "momentum": 0.5}).build([("weight", weight)], 0.1)
    built.step(0.1, (torch.tensor([1.0, 0.0]),))
    built.step(0.2, (torch.tensor([0.0, 4.0]),))
    velocity = np.array([0.5, 4.0])  # 0.5·(1, 0) + (0, 4)
    np.testing.assert_allclose(built.state()["optimizer.weight.momentum_buffer"].numpy(), velocity)
    np.testing.assert_allclose(weight.detach().numpy(), [1 - 0.1 - 0.2 * 0.5, 2 - 0.2 * 4], rtol=1e-6)


def test_gradients_of_any_layout_give_state_of_the_layout_of_the_parameter():
    weight = nn.Parameter(torch.zeros(3, 2))
    built = optimizer({"kind": "SGD", "momentum": 0.9}).build([("weight", weight)], 0.1)
    built.step(1.0, (torch.arange(6.0).reshape(2, 3).t(),))
    buffer = built.optimizers[0].state[weight]["momentum_buffer"]
    assert buffer.stride() == (2, 1)
    assert torch.equal(weight, -torch.tensor([[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]))


def test_a_step_under_no_grad_and_after_an_error_leaves_no_gradients():
    weight = nn.Parameter(torch.zeros(2))
    built = optimizer({"kind": "Adam"}).build([("weight", weight)], 0.1)
    with torch.no_grad():
        built.step(0.1, (torch.ones(2),))
    assert weight.grad is None
    assert weight.requires_grad
    with pytest.raises(ValueError, match="zip"):
        built.step(0.1, (torch.ones(2), torch.ones(2)))
    assert weight.grad is None


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (ReplacesATuple, "ReplacesATuple: betas in its state is a tuple, which a checkpoint cannot hold"),
        (NamesWithDots, "NamesWithDots: the key 'a.b' of its state is not a name"),
    ],
)
def test_state_that_a_file_cannot_hold_is_refused(cls, message):
    weight = nn.Parameter(torch.zeros(2))
    built = Optimizer("task.py:X", (), cls).build([("weight", weight)], 0.1)
    built.step(0.1, (torch.ones(2),))
    with pytest.raises(UserError, match=message):
        built.state()
