"""Functions that are compiled whole: each call draws anew and in order, and the gradient is that of the eager one."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from msgd import Reweighter
from msgd.noise import Cov, Fisher
from msgd.reweighting.compiled_draw import _DRAWERS, CompiledDraw, next_weights
from reweighting.brute_force import EXACT, SEED, Headed, batch, classified, classifier, far, gradient

LAW = Fisher(2)
pytestmark = [  # warnings of the compiler itself (torch 2.13)
    pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*Function'> should not be instantiated:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def anew():
    torch._dynamo.reset()


@pytest.fixture(params=["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def backend(request):
    return request.param


def compiled(function, backend, **more):
    counter = CompileCounterWithBackend(backend)
    return torch.compile(function, backend=counter, fullgraph=True, **more), counter


def test_successive_calls_use_successive_draws_and_compile_once(backend):
    model, (x, y) = classifier(), batch()
    reweight = Reweighter(LAW, seed=SEED)
    step, counter = compiled(lambda x, y: F.cross_entropy(reweight.outputs(model(x)), y), backend)
    for number in range(5):
        model.zero_grad()
        step(x, y).backward()
        assert far(gradient(model), classified(model, LAW, x, y, number)) < EXACT
    assert reweight.step == 5
    assert counter.frame_count == 1
    assert far(gradient(model), classified(model, LAW, x, y, 3)) > 0.1  # the control


def test_batches_of_many_sizes_compile_twice():
    """Once for the first size, and once for all others."""
    model = classifier()
    reweight = Reweighter(LAW, seed=SEED)
    step, counter = compiled(lambda x, y: F.cross_entropy(reweight.outputs((model(x), x))[0], y), "aot_eager")
    for number, n in enumerate([8, 8, 7, 6, 5, 4, 12, 9, 3]):
        x, y = batch(n)
        model.zero_grad()
        step(x, y).backward()
        assert far(gradient(model), classified(model, LAW, x, y, number)) < EXACT
    assert counter.frame_count == 2


def test_two_calls_in_one_graph_keep_their_order(backend):
    """Inductor orders what does not depend on each other as it likes: a micro-batch would get another's weights."""
    model, (x, y) = classifier(), batch()
    reweight = Reweighter(Cov(2), seed=SEED, logical_batch=8)

    def halves(x, y):
        first = F.cross_entropy(reweight.outputs(model(x[:4])), y[:4])
        return (first + F.cross_entropy(reweight.outputs(model(x[4:])), y[4:])) / 2

    step, _ = compiled(halves, backend)
    for number in range(3):
        model.zero_grad()
        step(x, y).backward()
        assert far(gradient(model), classified(model, Cov(2), x, y, number)) < EXACT


def test_each_draw_depends_on_the_one_before():
    """What keeps the order, in the graph that a compiler gets."""
    model, (x, y) = classifier(), batch()
    reweight, graphs = Reweighter(LAW, seed=SEED), []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    def twice(x, y):
        return sum(F.cross_entropy(reweight.outputs(model(x)), y) for _ in range(2))

    torch.compile(twice, backend=backend, fullgraph=True)(x, y)
    first, second = (node for node in graphs[0].graph.nodes if "next_weights" in str(node.target))
    assert second.args[1].args == (first, 1)


def test_two_calls_with_the_same_outputs_are_two_draws(backend):
    model, (x, y) = classifier(), batch()
    reweight = Reweighter(LAW, seed=SEED)

    def twice(x, y):
        return sum(F.cross_entropy(reweight.outputs(model(x)), y) for _ in range(2))

    compiled(twice, backend)[0](x, y).backward()
    truth = classified(model, LAW, x, y, 0) + classified(model, LAW, x, y, 1)
    assert far(gradient(model), truth) < EXACT
    assert reweight.step == 2


def test_a_given_step_and_changes_in_place(backend):
    model, (x, y) = classifier(), batch()
    reweight = Reweighter(LAW, seed=SEED)

    def scaled(x, y):
        outputs = reweight.outputs(model(x), step=7)
        outputs *= 1.0
        return F.cross_entropy(outputs, y)

    step, counter = compiled(scaled, backend)
    for _ in range(2):
        model.zero_grad()
        step(x, y).backward()
        assert far(gradient(model), classified(model, LAW, x, y, 7)) < EXACT
    assert reweight.step == 0
    assert counter.frame_count == 1


def test_packed_documents():
    model, (x, y) = classifier(), batch()
    reweight, eager = Reweighter(LAW, seed=SEED), Reweighter(LAW, seed=SEED)
    pair = torch.arange(4).repeat(2)
    step, found = torch.compile(reweight.outputs, backend="aot_eager"), []  # counting documents breaks the graph
    for outputs in (eager.outputs, lambda y, examples: step(y, examples=examples)):
        model.zero_grad()
        F.cross_entropy(outputs(model(x).clone(), examples=pair), y).backward()
        found.append(gradient(model))
    assert far(*found) < EXACT
    assert reweight.step == 1


def test_evaluation_does_not_advance():
    model, (x, _) = classifier(), batch()
    reweight = Reweighter(LAW, seed=SEED)
    forward, _ = compiled(lambda x: reweight.outputs(model(x)), "aot_eager")
    for guard in (torch.no_grad(), torch.inference_mode()):
        with guard:
            assert torch.equal(forward(x), model(x))
    assert reweight.step == 0
    forward(x)
    assert reweight.step == 1


def test_a_compiled_model_and_the_gate_outside(backend):
    model, (x, y) = classifier(), batch()
    reweight = Reweighter(LAW, seed=SEED)
    forward, _ = compiled(model, backend)
    for number in range(2):
        model.zero_grad()
        F.cross_entropy(reweight.outputs(forward(x)), y).backward()
        assert far(gradient(model), classified(model, LAW, x, y, number)) < EXACT


def test_a_model_that_is_attached_to_compiles_once(backend):
    model, twin, (x, y) = classifier(), classifier(), batch()
    reweight = Reweighter(LAW, seed=SEED)
    reweight.attach(model)
    forward, counter = compiled(model, backend)
    for number in range(10):  # more than the eight times that one function is compiled at most
        model.zero_grad()
        F.cross_entropy(forward(x), y).backward()
        assert far(gradient(model), classified(twin, LAW, x, y, number)) < EXACT
    assert counter.frame_count == 1
    assert reweight.step == 10


@pytest.mark.parametrize("before", [True, False])
def test_a_linear_head_that_is_attached_to(before):
    model, twin = Headed(), classifier()
    reweight = Reweighter(LAW, seed=SEED)
    if before:
        reweight.attach(model)
    forward, counter = compiled(model, "aot_eager")
    if not before:
        assert str(reweight.attach(forward)) == "Attachment(net.2: Linear)"
    frames = []
    for number, n in enumerate([8] * 6 + [5, 8]):
        x, y = batch(n)
        model.zero_grad()
        F.cross_entropy(forward(x), y).backward()
        assert far(gradient(model), classified(twin, LAW, x, y, number)) < EXACT
        frames.append(counter.frame_count)
    assert frames[0] == frames[5]
    assert reweight.step == 8


def test_a_draw_that_a_checkpoint_would_repeat_is_refused():
    """The compiler lets the second pass of a checkpoint take the place of the first, with the next draw."""
    model, (x, y) = classifier(), batch()
    reweight = Reweighter(LAW, seed=SEED)

    def loss(x):
        return F.cross_entropy(reweight.outputs(model(x)).sin(), y)

    region, _ = compiled(loss, "aot_eager")
    found = checkpoint(region, x, use_reentrant=False)
    with pytest.raises(ValueError, match="weight them outside of the checkpoint"):
        found.backward()
    whole, _ = compiled(lambda x: checkpoint(loss, x, use_reentrant=False), "aot_eager")
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"torch.utils.checkpoint"):
        whole(x)


def test_the_gate_behind_a_checkpoint_that_is_compiled_with_it(backend):
    model, (x, y) = classifier(), batch()
    reweight = Reweighter(LAW, seed=SEED)

    def loss(x):
        return F.cross_entropy(reweight.outputs(checkpoint(model, x, use_reentrant=False)), y)

    step, _ = compiled(loss, backend)
    for number in range(2):
        model.zero_grad()
        step(x).backward()
        assert far(gradient(model), classified(model, LAW, x, y, number)) < EXACT
    assert reweight.step == 2


def test_bfloat16_autocast():
    model, (x, y) = classifier(torch.float32), batch(dtype=torch.float32)
    reweight = Reweighter(LAW, seed=SEED)

    def loss(x, y):
        with torch.autocast("cpu", torch.bfloat16):
            return F.cross_entropy(reweight.outputs(model(x)), y)

    compiled(loss, "aot_eager")[0](x, y).backward()
    assert 1e-5 < far(gradient(model), classified(model, LAW, x, y)) < 0.02


def test_errors_come_through():
    model, (x, _) = classifier(), batch()
    reweight = Reweighter(LAW, seed=SEED, logical_batch=10)
    forward, _ = compiled(lambda x: reweight.outputs(model(x)), "aot_eager")
    forward(x)
    with pytest.raises(ValueError, match="run past the logical batch of 10"):
        forward(x)


def test_a_draw_ends_with_its_owner():
    class Owner:
        def draw(self, n, step, offset):
            return torch.tensor([n, step is None, offset is None]).float()

    owner, before = Owner(), len(_DRAWERS)
    draw = CompiledDraw(owner.draw)
    assert draw(torch.ones(2), 3, None, None).tolist() == [3, 1, 1]
    assert draw(torch.ones(2), 3, 0, 0).tolist() == [3, 0, 0]
    assert len(_DRAWERS) == before + 1
    del owner
    assert len(_DRAWERS) == before


def test_the_operator_keeps_the_rules_of_operators():
    reweight = Reweighter(Cov(2), seed=SEED)
    arguments = torch.ones(4, 2), torch.zeros(()), reweight._compiled._number, 4, 3, -1
    torch.library.opcheck(next_weights, arguments)
