"""reweight.attach: hooks that weight the outputs in every forward pass, or refuse what they cannot weight."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from msgd import Reweighter
from msgd.noise import Cov, Fisher, FullBatch
from reweighting.brute_force import (
    EXACT,
    SEED,
    Headed,
    batch,
    classified,
    classifier,
    far,
    gradient,
    weighted_sum,
    weights,
)

LAW, N, T, VOCABULARY = Fisher(2), 4, 6, 11


def reweighter(law=LAW, **more):
    return Reweighter(law, seed=SEED, **more)


def test_a_module():
    model, twin, (x, y) = classifier(), classifier(), batch()
    reweight = reweighter()
    handle = reweight.attach(model)
    assert repr(handle) == "Attachment(Sequential)"
    for step in range(3):
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        assert far(gradient(model), classified(twin, LAW, x, y, step)) < EXACT
    assert reweight.step == 3


@pytest.mark.parametrize("k", [1, 2, 4])
def test_accumulation_with_a_short_last_step(k):
    model, twin, (x, y) = classifier(), classifier(), batch(14)
    reweight = reweighter(Cov(2), logical_batch=8)
    reweight.attach(model)
    for step, rows in enumerate([torch.arange(8), torch.arange(8, 14)]):
        model.zero_grad()
        if len(rows) < 8:
            reweight.begin(len(rows))
        for part in rows.tensor_split(k):
            (F.cross_entropy(model(x[part]), y[part]) * len(part) / len(rows)).backward()
        assert far(gradient(model), classified(twin, Cov(2), x[rows], y[rows], step)) < EXACT


def test_remove_restores_everything():
    for make in (classifier, lambda: Language().double()):
        model, reweight = make(), reweighter()
        before = {name: dict(vars(module)) for name, module in model.named_modules()}
        kept = {name: {key: copy.copy(value) for key, value in held.items()} for name, held in before.items()}
        handle = reweight.attach(model)
        changed = {name: dict(vars(module)) for name, module in model.named_modules()}
        assert any(changed[name].keys() != kept[name].keys() for name in kept)  # there is something to restore
        handle.remove()
        handle.remove()  # again does no harm
        for name, module in model.named_modules():
            assert vars(module).keys() == kept[name].keys()
            assert len(module._forward_hooks) == len(module._forward_pre_hooks) == 0
            assert len(module._forward_hooks_with_kwargs) == len(module._forward_hooks_always_called) == 0
            assert len(module._forward_pre_hooks_with_kwargs) == 0
        again = reweight.attach(model)
        again.remove()


def test_nothing_of_the_model_is_kept_alive():
    model, reweight = classifier(), reweighter()
    handle = reweight.attach(model)
    F.cross_entropy(model(batch()[0]), batch()[1]).backward()
    handle.remove()
    there = weakref.ref(model)
    del model
    gc.collect()
    assert there() is None


def test_a_removed_handle_leaves_the_plain_gradient():
    model, twin, (x, y) = classifier(), classifier(), batch()
    reweight = reweighter()
    reweight.attach(model).remove()
    F.cross_entropy(model(x), y).backward()
    assert far(gradient(model), classified(twin, FullBatch(), x, y)) < EXACT
    assert reweight.step == 0


class Language(nn.Module):
    """A language model as Transformers has them: a head that is found, and a loss of its own if labels are given."""

    def __init__(self, *, tied=False, bias=False, fused=False):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(VOCABULARY, 4)
        self.body = nn.Linear(4, 4)
        self.lm_head = nn.Linear(4, VOCABULARY, bias=bias)
        if tied:
            self.lm_head.weight = self.embedding.weight
        self.fused = fused

    def get_output_embeddings(self):
        return self.lm_head

    def forward(self, input_ids, labels=None, position_ids=None, attention_mask=None):
        del attention_mask
        h = self.embedding(input_ids)
        first = torch.zeros_like(input_ids) if position_ids is None else position_ids == 0
        h = torch.stack([mixed(row, starts) for row, starts in zip(h, first, strict=True)])
        h = self.body(h).tanh()
        logits = F.linear(h, self.lm_head.weight) if self.fused else self.lm_head(h)
        if labels is None:
            return {"logits": logits}
        targets = F.pad(labels[:, 1:], (0, 1), value=-100)
        return {"loss": F.cross_entropy(logits.flatten(0, 1), targets.flatten()), "logits": logits}


def mixed(h, first):
    """Each token sees those before it in its document."""
    out, total = [], torch.zeros_like(h[0])
    for each, new in zip(h, first, strict=True):
        total = each if bool(new) else total + each
        out.append(total)
    return torch.stack(out)


def text(rows=N):
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(VOCABULARY, (rows, T), generator=generator)
    labels = torch.where(torch.rand(rows, T, generator=generator) < 0.3, -100, ids)
    return ids, labels


def by_rows(model, ids, labels, w):
    """Σ_i w_i Σ_t ∇ℓ_it / tokens."""
    tokens = int((labels[:, 1:] >= 0).sum())

    def each(m, i):
        logits = m(ids[i : i + 1])["logits"][0, :-1]
        return F.cross_entropy(logits, labels[i, 1:], reduction="sum")

    return weighted_sum(model, each, w / tokens)


@pytest.mark.parametrize("options", [{}, {"tied": True}, {"bias": True}], ids=str)
def test_the_head_of_a_model_that_computes_its_loss(options):
    model, (ids, labels) = Language(**options).double(), text()
    reweight = reweighter()
    handle = reweight.attach(model)
    assert repr(handle) == "Attachment(lm_head: Linear)"
    loss = model(input_ids=ids, labels=labels)["loss"]
    loss.backward()
    assert reweight.step == 1
    found = gradient(model)
    handle.remove()
    assert torch.equal(loss, model(input_ids=ids, labels=labels)["loss"])
    assert far(found, by_rows(model, ids, labels, weights(LAW, N))) < EXACT
    assert far(found, by_rows(model, ids, labels, torch.ones(N))) > 0.1


def test_packed_documents_of_a_model():
    """Positions that start again in a row begin a document; one of a single token predicts nothing."""
    model, (ids, _) = Language().double(), text()
    positions = torch.tensor([[0, 1, 2, 0, 1, 2], [0, 1, 2, 3, 4, 5], [0, 1, 0, 1, 0, 1], [0, 1, 2, 3, 0, 0]])
    spans = [(0, 0, 3), (0, 3, 6), (1, 0, 6), (2, 0, 2), (2, 2, 4), (2, 4, 6), (3, 0, 4)]
    labels = torch.where(positions == 0, -100, ids)
    reweight = reweighter()
    handle = reweight.attach(model)
    model(input_ids=ids, labels=labels, position_ids=positions)["loss"].backward()
    handle.remove()

    def each(m, i):
        row, start, end = spans[i]
        own = ids[row : row + 1, start:end]
        logits = m(own, position_ids=torch.arange(end - start)[None])["logits"][0, :-1]
        return F.cross_entropy(logits, own[0, 1:], reduction="sum")

    truth = weighted_sum(model, each, weights(LAW, len(spans)) / float((labels >= 0).sum()))
    assert far(gradient(model), truth) < EXACT
    assert reweight.step == 1
    model.zero_grad()
    reweighter().attach(model)  # with a mask the rows are what they seem
    model(input_ids=ids, labels=labels, position_ids=positions, attention_mask=torch.ones_like(ids))["loss"].backward()
    assert far(gradient(model), truth) > 0.1


def test_a_head_that_is_called_twice_in_one_forward_has_one_draw():
    class Twice(Language):
        def forward(self, input_ids):
            h = self.body(self.embedding(input_ids))
            return self.lm_head(input=h), self.lm_head(h.tanh())

    model, (ids, _) = Twice().double(), text()
    reweight = reweighter()
    handle = reweight.attach(model)

    def loss(m, rows):
        first, second = m(rows)
        return first.square().mean() + second.sin().mean()

    loss(model, ids).backward()
    assert reweight.step == 1
    handle.remove()
    truth = weighted_sum(model, lambda m, i: loss(m, ids[i : i + 1]), weights(LAW, N) / N)
    assert far(gradient(model), truth) < EXACT


def test_a_loss_that_bypasses_the_head_is_refused_in_its_backward_pass():
    model, (ids, labels) = Language(fused=True).double(), text()
    reweighter().attach(model)
    out = model(input_ids=ids, labels=labels)
    with pytest.raises(ValueError, match=r"lm_head: Linear was not called: a fused loss .*use_liger_kernel=False"):
        out["loss"].backward()
    model.zero_grad()
    F.cross_entropy(out["logits"].flatten(0, 1), ids.flatten()).backward()  # but its outputs are weighted

    def each(m, i):
        return F.cross_entropy(m(ids[i : i + 1])["logits"][0], ids[i])

    w = weights(LAW, N)
    assert far(gradient(model), weighted_sum(Language(fused=True).double(), each, w / N)) < EXACT


class Nano(nn.Module):
    """As nanoGPT: returns (logits, loss), and has no method that names its head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.wte = nn.Embedding(VOCABULARY, 4)
        self.lm_head = nn.Linear(4, VOCABULARY, bias=False)

    def forward(self, ids, targets=None):
        logits = self.lm_head(self.wte(ids).tanh())
        loss = None if targets is None else F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return logits, loss


def test_a_model_that_returns_its_loss_is_refused_and_its_head_is_right():
    model, (ids, _) = Nano().double(), text()
    reweight = reweighter()
    handle = reweight.attach(model)
    with pytest.raises(ValueError, match=r"inside of Nano.*reweight.attach\(model, head='lm_head'\)"):
        model(ids, ids)[1].backward()
    handle.remove()
    reweight = reweighter()
    handle = reweight.attach(model.lm_head)
    model.zero_grad()
    model(ids, ids)[1].backward()
    handle.remove()
    truth = weighted_sum(model, lambda m, i: m(ids[i : i + 1], ids[i : i + 1])[1], weights(LAW, N) / N)
    assert far(gradient(model), truth) < EXACT


@pytest.mark.parametrize(
    "pack",
    [
        lambda _, loss: loss,
        lambda y, loss: (loss, y.detach()),
        lambda y, loss: {"loss": loss, "logits": y},
        lambda _, loss: {"loss": loss},
        lambda y, loss: [y, {"deep": loss}],
    ],
)
def test_a_loss_is_refused_wherever_it_is_returned(pack):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = classifier()

        def forward(self, x, y):
            outputs = self.net(x)
            return pack(outputs, F.cross_entropy(outputs, y))

    model = Own()
    reweighter().attach(model)
    leaves = torch.utils._pytree.tree_leaves(model(*batch()))
    loss = next(leaf for leaf in leaves if leaf.ndim == 0)
    with pytest.raises(ValueError, match="inside of Own, without the weights"):
        loss.backward()


def test_inputs_by_name_nested_and_of_unknown_kinds():
    class Named(nn.Module):
        def __init__(self, take):
            super().__init__()
            self.net, self.take = classifier(), take

        def forward(self, *args, **kwargs):
            return self.net(self.take(*args, **kwargs))

    x, y = batch()
    truth = classified(classifier(), LAW, x, y)
    for take, call in (
        (lambda *, x: x, lambda m: m(x=x)),
        (lambda batch: batch["x"], lambda m: m({"x": x})),
        (lambda scale, x: scale * x, lambda m: m(torch.tensor(1.0), x)),
        (lambda pair: pair.x, lambda m: m(type("Pair", (), {"x": x}))),
    ):
        model = Named(take)
        reweighter().attach(model)
        F.cross_entropy(call(model), y).backward()
        assert far(gradient(model), truth) < EXACT


def test_rows_that_are_no_examples_are_refused():
    class Patches(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            return self.head(x.flatten(0, 1))

    class Found(Patches):
        def get_output_embeddings(self):
            return self.head

    for model, name in ((Patches(), "Patches"), (Found(), "head: Linear")):
        reweight = reweighter()
        reweight.attach(model)
        with pytest.raises(ValueError, match=rf"{name} has 10 rows for 2 examples .*examples=…\) instead of attach"):
            model(torch.ones(2, 5, 4))
        assert reweight.step == 0


def test_attach_again_needs_remove_first():
    model, reweight = classifier(), reweighter()
    handle = reweight.attach(model)
    for other in (reweight, reweighter()):
        with pytest.raises(ValueError, match=r"attached to this Sequential already: remove\(\) the first handle"):
            other.attach(model)
    handle.remove()
    language = Language()
    reweight.attach(language)
    with pytest.raises(ValueError, match="attached to this Linear already"):
        reweight.attach(language.lm_head)
    with pytest.raises(TypeError, match="attach needs a module, not Tensor"):
        reweight.attach(torch.ones(3))


@pytest.mark.parametrize("make", [classifier, lambda: Headed().double()])
@pytest.mark.parametrize("within", [False, True])
def test_a_copy_of_an_attached_model_has_weights_and_parameters_of_its_own(make, within):
    model, (x, y) = make(), batch()
    reweight = reweighter()
    reweight.attach(model)
    other = copy.deepcopy([model])[0] if within else copy.deepcopy(model)
    with torch.no_grad():
        for p in other.parameters():
            p *= 2
    plain = make()
    plain.load_state_dict(other.state_dict())
    F.cross_entropy(other(x), y).backward()
    assert far(gradient(other), classified(plain, LAW, x, y)) < EXACT
    assert all(p.grad is None for p in model.parameters())
    with torch.no_grad():
        assert torch.equal(other(x), plain(x))


@pytest.mark.parametrize("make", [classifier, lambda: Headed().double()])
def test_a_model_that_was_saved_whole_is_plain_where_it_is_loaded(make):
    """There is no Reweighter there, and hooks that go on drawing would be noise that nobody asked for."""
    model, (x, y) = make(), batch()
    reweighter().attach(model)
    other = pickle.loads(pickle.dumps(model))
    F.cross_entropy(other(x), y).backward()
    plain = make()
    plain.load_state_dict(model.state_dict())
    F.cross_entropy(plain(x), y).backward()
    assert torch.equal(gradient(other), gradient(plain))


class Score(nn.Module):
    """A head that is no linear layer."""

    def __init__(self):
        super().__init__()
        self.dense, self.out = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.dense(x).tanh())


def test_a_head_that_is_no_linear_layer_and_one_found_by_its_name():
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.body, self.classifier = nn.Linear(4, 4), Score()

        def get_output_embeddings(self):
            raise NotImplementedError

        def forward(self, x):
            return self.classifier(self.body(x))

    model, twin, (x, y) = Classifier().double(), Classifier().double(), batch()
    reweight = reweighter()
    assert repr(reweight.attach(model)) == "Attachment(classifier: Score)"
    F.cross_entropy(model(x), y).backward()
    assert far(gradient(model), classified(twin, LAW, x, y)) < EXACT
    assert reweight.step == 1


def test_a_head_that_is_called_by_itself():
    model, (x, y) = Headed(), batch()
    reweight = reweighter()
    reweight.attach(model)
    for step in range(2):
        model.zero_grad()
        model(x[:5])  # a forward pass before it, of other examples, has a draw of its own
        hidden = model.net[1](model.net[0](x))
        F.cross_entropy(model.net[2](hidden), y).backward()
        assert far(gradient(model), classified(classifier(), LAW, x, y, 2 * step + 1)) < EXACT


def test_a_frozen_body_or_head():
    x, y = batch()
    for frozen in (0, 2):
        model, twin = Headed(), classifier()
        for p in (*model.net[frozen].parameters(), *twin[frozen].parameters()):
            p.requires_grad = False
        reweighter().attach(model)
        F.cross_entropy(model(x), y).backward()
        assert far(gradient(model), classified(twin, LAW, x, y)) < EXACT


def test_only_the_bias_of_a_head():
    """A loss of the model's own is right too: the head was called, and its outputs were weighted."""
    model, (ids, labels) = Language(bias=True).double(), text()
    for name, p in model.named_parameters():
        p.requires_grad = name == "lm_head.bias"
    reweight = reweighter()
    handle = reweight.attach(model)
    model(input_ids=ids, labels=labels)["loss"].backward()
    handle.remove()
    assert far(gradient(model), by_rows(model, ids, labels, weights(LAW, N))) < EXACT


@pytest.mark.parametrize("shape", [(8, 4), (8, 5, 4), (8, 2, 3, 4)])
def test_a_linear_layer_of_its_own(shape):
    torch.manual_seed(0)
    model, x = nn.Linear(4, 9).double(), torch.randn(shape).double()
    reweight = reweighter()
    handle = reweight.attach(model)
    model(input=x).sin().mean().backward()
    handle.remove()
    truth = weighted_sum(model, lambda m, i: m(x[i : i + 1]).sin().mean(), weights(LAW, 8) / 8)
    assert far(gradient(model), truth) < EXACT
    assert reweight.step == 1


def test_evaluation_changes_nothing_and_does_not_advance():
    for make in (classifier, Headed):
        model, (x, _) = make(), batch()
        plain = make()(x)
        reweight = reweighter()
        reweight.attach(model)
        for guard in (torch.no_grad(), torch.inference_mode()):
            with guard:
                assert torch.equal(model(x), plain)
        assert reweight.step == 0


def test_an_error_in_the_forward_pass_leaves_no_trace():
    model, (x, y) = Headed(), batch()
    reweight = reweighter()
    reweight.attach(model)
    with pytest.raises(RuntimeError, match="shape"):
        model(x[:, :3])
    F.cross_entropy(model(x), y).backward()
    assert far(gradient(model), classified(classifier(), LAW, x, y)) < EXACT


@pytest.mark.parametrize("make", [lambda: nn.Linear(4, 3).double(), Headed], ids=["module", "head"])
def test_examples_in_dimension_1(make):
    torch.manual_seed(0)
    model, x, y = make(), torch.randn(5, 8, 4).double(), torch.randint(3, (5, 8))
    reweight = reweighter()
    handle = reweight.attach(model, batch_dim=1)
    F.cross_entropy(model(x).flatten(0, 1), y.flatten()).backward()
    handle.remove()
    truth = weighted_sum(model, lambda m, i: F.cross_entropy(m(x[:, i]), y[:, i]), weights(LAW, 8) / 8)
    assert far(gradient(model), truth) < EXACT
    assert reweight.step == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_of_a_linear_head(dtype):
    model, (x, y) = Headed().float(), batch(dtype=torch.float32)
    reweighter().attach(model)
    with torch.autocast("cpu", dtype):
        outputs = model(x)
        loss = F.cross_entropy(outputs, y)
    assert outputs.dtype == dtype
    loss.backward()
    assert 1e-5 < far(gradient(model), classified(classifier(torch.float32), LAW, x, y.clone())) < 0.02


def test_checkpointed_blocks_in_front_of_a_head():
    class Checkpointed(Headed):
        def forward(self, x):
            return self.net[2](torch.utils.checkpoint.checkpoint(self.net[:2], x, use_reentrant=False))

    model, (x, y) = Checkpointed(), batch()
    reweight = reweighter()
    reweight.attach(model)
    F.cross_entropy(model(x), y).backward()
    assert far(gradient(model), classified(classifier(), LAW, x, y)) < EXACT
    assert reweight.step == 1


@pytest.mark.parametrize("make", [classifier, Headed])
def test_an_attached_model_within_a_checkpoint_draws_once(make):
    model, (x, y) = make(), batch()
    reweight = reweighter()
    reweight.attach(model)
    for step in range(2):
        model.zero_grad()
        torch.utils.checkpoint.checkpoint(
            lambda x: F.cross_entropy(model(x).sin(), y), x, use_reentrant=False
        ).backward()
        truth = weighted_sum(
            classifier(), lambda m, i: F.cross_entropy(m(x[i : i + 1]).sin(), y[i : i + 1]), weights(LAW, 8, step) / 8
        )
        assert far(gradient(model), truth) < EXACT
        assert reweight.step == step + 1


@pytest.mark.parametrize("make", [classifier, Headed])
def test_an_attached_model_within_a_reentrant_checkpoint_is_refused(make):
    model, (x, _) = make(), batch()
    reweighter().attach(model)
    outputs = torch.utils.checkpoint.checkpoint(model, x.requires_grad_(), use_reentrant=True)
    with pytest.raises(ValueError, match="use use_reentrant=False, or weight the outputs outside of it"):
        outputs.sum().backward()


def test_a_model_of_transformers():
    from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **small)).double()
    ids, labels = text()
    reweight = reweighter()
    handle = reweight.attach(model)
    assert repr(handle) == "Attachment(lm_head: Linear)"
    model(input_ids=ids, labels=labels).loss.backward()
    found = gradient(model)
    handle.remove()
    assert far(found, by_rows(model, ids, labels, weights(LAW, N))) < 1e-6  # its rotations are in float32
    assert far(found, by_rows(model, ids, labels, torch.ones(N))) > 0.1
    model = BertForSequenceClassification(BertConfig(vocab_size=VOCABULARY, **small)).double().eval()
    reweight = reweighter()
    handle = reweight.attach(model)
    assert repr(handle) == "Attachment(classifier: Linear)"
    classes = torch.tensor([0, 1, 1, 0])
    model(input_ids=ids, labels=classes).loss.backward()
    found = gradient(model)
    handle.remove()

    def each(m, i):
        return m(input_ids=ids[i : i + 1], labels=classes[i : i + 1]).loss

    assert far(found, weighted_sum(model, each, weights(LAW, N) / N)) < 1e-6


@pytest.mark.filterwarnings("ignore:.*Function'> should not be instantiated:DeprecationWarning")  # of the compiler
def test_a_model_that_ran_compiled_before_notices_hooks_that_come_and_go():
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 4)), torch.randn(6, 5)
    compiled = torch.compile(network, backend="aot_eager")
    compiled(x).sum().backward()
    for module in (network, network[2]):
        reweight = Reweighter(Cov(3), seed=1)
        handle = reweight.attach(module)
        network.zero_grad()
        compiled(x).sum().backward()
        assert reweight.step == 1
        handle.remove()
        network.zero_grad()
        compiled(x).sum().backward()
        assert reweight.step == 1


class Routed(nn.Module):
    """Its total loss is its own, beside the loss of a router and the outputs."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x, y):
        outputs = self.layer(x)
        total = F.cross_entropy(outputs, y)
        return {"total_loss": total, "aux_loss": outputs.square().mean(), "outputs": outputs}


def test_a_loss_of_another_name_is_refused_and_that_of_a_router_is_not():
    torch.manual_seed(0)
    model, x, y = Routed(), torch.randn(5, 4), torch.randint(3, (5,))
    handle = Reweighter(Cov(2), seed=SEED).attach(model)
    found = model(x, y)
    with pytest.raises(ValueError, match="computed inside of Routed"):
        found["total_loss"].backward()
    model(x, y)["aux_loss"].backward()
    handle.remove()


class OwnLoss(nn.Module):
    """Two layers behind each other, and a loss of its own."""

    def __init__(self):
        super().__init__()
        self.body, self.lm_head = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x, y):
        outputs = self.lm_head(self.body(x).tanh())
        return {"loss": F.cross_entropy(outputs, y), "outputs": outputs}


def test_a_head_by_name_and_a_loss_that_goes_around_it():
    torch.manual_seed(0)
    model, x, y = OwnLoss().double(), torch.randn(5, 4).double(), torch.randint(3, (5,))
    handle = Reweighter(LAW, seed=SEED).attach(model, head="lm_head")
    model(x, y)["loss"].backward()
    handle.remove()
    truth = weighted_sum(model, lambda m, i: m(x[i], y[i])["loss"], weights(LAW, 5) / 5)
    assert far(gradient(model), truth) < EXACT
    with pytest.raises(ValueError, match="no module 'head'; there are body, lm_head"):
        Reweighter(LAW, seed=SEED).attach(model, head="head")
    wrong = Reweighter(LAW, seed=SEED).attach(model, head="body")
    with pytest.warns(UserWarning, match=r"reaches the parameter lm_head\.(weight|bias) without weights"):
        model(x, y)
    model(x, y)  # once
    wrong.remove()


def test_batch_norm_is_named_at_once():
    with pytest.warns(UserWarning, match=r"^1 normalises over the batch \(BatchNorm\), which couples the examples"):
        Reweighter(LAW, seed=SEED).attach(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)))
