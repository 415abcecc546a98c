"""Recipes: what is read, resolved and refused."""

import pytest

from helpers.small import SMALL
from msgd import noise
from msgd.lab.errors import UserError
from msgd.lab.least_squares.simulate import planned_simulations
from msgd.lab.plan.grid import planned_runs as resolve
from msgd.lab.recipes.load import parse_recipe, recipe_from
from msgd.lab.recipes.source import kind_of, read_table, recipe_names, recipe_text


def parse(text=SMALL, **settings):
    return parse_recipe(text, source="small", settings={k.replace("__", "."): v for k, v in settings.items()})


@pytest.mark.parametrize("name", recipe_names())
def test_the_recipes_of_the_package(name):
    table = read_table(recipe_text(name), source=name)
    if kind_of(table, source=name) == "least-squares":
        assert planned_simulations(recipe_from(table, source=name))
    else:
        recipe = parse_recipe(recipe_text(name), source=name)
        assert resolve(recipe.select(None), n=recipe.n or 10_000, digests=[""])


def test_the_main_job_is_as_described():
    recipe = parse_recipe(recipe_text("mnist1d"), source="mnist1d")
    assert list(recipe.methods) == ["gd", "sgd", "sgd-again", "fisher", "cov", "bernoulli", "poisson"]
    chosen = recipe.select(None)
    assert list(chosen.methods) == ["gd", "sgd", "sgd-again", "fisher", "cov", "bernoulli"]
    runs = resolve(chosen, n=1000, digests=[""])
    assert len(runs) == 48
    assert {(r.lr, r.momentum, r.steps, r.n, r.model) for r in runs} == {(0.1, 0.0, 3000, 1000, "mlp")}
    laws = {r.method: r.law for r in runs}
    assert laws["sgd"] == laws["sgd-again"] == noise.MiniBatch(20)
    assert laws["fisher"] == noise.Fisher(20)
    assert (recipe.margin, recipe.seeds, recipe.reference) == (0.015, 8, "sgd")


def test_methods_override_and_nest():
    text = SMALL + '[methods.big]\nlaw = "subsampled"\nB = 30\nlr = 0.2\nsteps = 7\ninner = {law = "emulate"}\n'
    runs = resolve(parse(text), n=40, digests=[""])
    big = next(run for run in runs if run.method == "big")
    assert big.law == noise.Subsampled(30, noise.Emulate(8))
    assert (big.lr, big.steps, big.momentum) == (0.2, 7, 0.9)
    assert big.evaluations == list(range(8))  # evaluated as often as the others
    scalar = SMALL + '[methods.t]\nlaw = "injected"\ncentred = true\nscalar_law = {law = "student-t", df = 5}\n'
    assert resolve(parse(scalar), n=40, digests=[""])[-1].law == noise.Injected(noise.StudentT(5), 8, centred=True)
    fields = SMALL + '[methods.rep]\nlaw = "mini-batch"\nb = 4\nreplacement = true\n'
    assert resolve(parse(fields), n=40, digests=[""])[-1].law == noise.MiniBatch(4, replacement=True)


def test_a_recipe_may_extend_another():
    child = parse('extends = "mnist1d"\ntitle = "Mine"\nlr = 0.3\n[methods.gd]\nlaw = "full-batch"\nlr = 0.6\n')
    assert (child.title, child.lr, child.n, child.methods["gd"].lr) == ("Mine", 0.3, 1000, 0.6)
    assert list(child.methods) == list(parse_recipe(recipe_text("mnist1d"), source="").methods)
    changed = parse('extends = "mnist1d"\n[methods.cov]\noptional = true\n[methods.sgd]\nlaw = "fisher"\n')
    assert (changed.methods["cov"].law, changed.methods["cov"].optional) == ("cov", True)  # changed
    assert changed.methods["sgd"].law_table() == {"law": "fisher"}  # replaced
    with pytest.raises(
        UserError, match=r"methods: write a table \[methods.NAME\] for each method; --methods selects some"
    ):
        parse('extends = "mnist1d"\nmethods = ["sgd"]\n')
    with pytest.raises(UserError, match="vary: write a list, in brackets, not 'data'"):
        parse(vary="data")
    with pytest.raises(UserError, match="vary: write each entry only once"):
        parse(vary=["init", "init"])
    with pytest.raises(UserError, match="extends: 'nothing' is not another recipe"):
        parse('extends = "nothing"\n')


def test_the_norm_of_the_model_is_part_of_a_run_where_it_is_given():
    plain = resolve(parse(), n=40, digests=[""])[0]
    assert (plain.norm, plain.ghost) == (None, None)
    assert not {"norm", "ghost"} & set(plain.identity())  # folders of runs from before there was one stay valid
    run = resolve(parse(model="resnet18", norm="batch", ghost=4), n=40, digests=[""])[0]
    assert (run.norm, run.ghost) == (run.identity()["norm"], run.identity()["ghost"]) == ("batch", 4)


def test_settings_reach_every_key():
    recipe = parse(lr=0.3, methods__gd__lr=0.6, methods__bernoulli__b=3)
    runs = {run.method: run for run in resolve(recipe, n=40, digests=[""])}
    assert (runs["sgd"].lr, runs["gd"].lr) == (0.3, 0.6)
    assert runs["bernoulli"].law == noise.Bernoulli(3)


def test_methods_of_one_seed_have_streams_of_their_own():
    """Their noise is independent, and does not depend on which other methods are run."""
    streams = {run.method: run.stream for run in resolve(parse(), n=40, digests=[""])}
    assert len(set(streams.values())) == 3
    assert min(streams.values()) > noise.INIT
    alone = resolve(parse().select(["bernoulli"]), n=40, digests=[""])
    assert {run.stream for run in alone} == {streams["bernoulli"]}


def test_evaluations_include_start_and_end():
    runs = resolve(parse(steps=25), n=40, digests=[""])
    assert runs[0].evaluations == [0, 10, 20, 25]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lrr": 1}, "unknown key 'lrr'; allowed are title, task, data"),
        ({"lr": "fast"}, "lr: .*valid number, not 'fast'"),
        ({"lr": -0.1}, "lr: .*greater than 0"),
        ({"lr": float("inf")}, "lr: .*finite"),
        ({"lr": 1e39}, r"lr: 1e[+]39 is too large for float32, .*; write at most 1e38"),
        ({"methods.sgd.lr": 1e39}, r"methods.sgd.lr: .*write at most 1e38"),
        ({"weight_decay": 1e39}, r"weight_decay: .*write at most 1e38"),
        ({"methods.sgd.weight_decay": 1e39}, r"methods.sgd.weight_decay: .*write at most 1e38"),
        ({"tune.lr": [0.1, 1e39]}, r"tune.lr.1: .*write at most 1e38"),
        ({"grid": {"lr": [1e39], "b": [8.0]}}, r"grid.lr.0: .*write at most 1e38"),
        ({"data": "mnist1d", "augment": 4}, "augment: mnist1d has no images to crop and flip; leave augment out"),
        ({"momentum": 1.0}, "momentum: .*less than 1"),
        ({"steps": 10.5}, "steps: .*valid integer"),
        ({"seeds": 0}, "seeds: .*greater than or equal to 1"),
        ({"seeds": True}, "seeds: .*valid integer"),
        ({"margin": 0.0}, "margin: .*greater than 0"),
        ({"margin": float("inf")}, "margin: .*finite"),
        ({"margin": 1e39}, "margin: .*; write at most 1e38"),
        ({"margins": {"loss": -1.0}}, "margins.loss: .*greater than 0"),
        ({"margins": {"a\tb": 1.0}}, "it has control characters"),
        ({"data": "mnist2d"}, "data: 'mnist2d' is not known; take one of mnist1d, fashion-mnist"),
        ({"model": "lstm"}, "model: 'lstm' is not known; take one of mlp, conv-small"),
        ({"norm": "batch"}, "norm: mlp has no normalisation"),
        ({"model": "resnet18", "norm": "group", "ghost": 4}, 'ghost: the norm "group" has no groups of examples'),
        ({"model": "resnet18", "ghost": 0}, "ghost: .*greater than or equal to 1"),
        ({"methods": {}}, "methods: write at least one"),
        ({"methods.gd.b": 3}, r"methods.gd: unknown key 'b'; the law full-batch allows lr, lr_of"),
        ({"methods.sgd.b": 0}, "methods.sgd: b must be at least 1"),
        ({"methods.sgd.b": "many"}, "methods.sgd: b must be a whole number"),
        ({"methods.sgd.law": "sgd"}, "methods.sgd.law: 'sgd' is not a law; there are full-batch, mini-batch"),
        (
            {"methods.t": {"law": "injected", "scalar_law": {"law": "cauchy"}}},
            "t.scalar_law.law: 'cauchy' .* student-t",
        ),
        ({"methods.t": {"law": "injected", "scalar_law": {"law": "gamma", "k": 1}}}, "unknown key 'k'; .* shape$"),
        ({"methods.t": {"law": "injected", "scalar_law": "normal"}}, "scalar_law must be a ScalarLaw"),
        ({"methods.t": {"law": "scheduled"}}, "the law scheduled needs law_of_step"),
        ({"methods.t": {"law": "subsampled"}}, "the law subsampled needs B, inner"),
        ({"methods.t": {"law": "subsampled", "B": 9, "inner": {"law": "cov", "lr": 1}}}, "'lr'; .* allows b$"),
        ({"methods.sgd.lr": "x"}, "methods.sgd.lr: .*valid number"),
        ({"methods.new.b": 3}, "no method 'new'; take gd, sgd.*, or give it a law: --set methods.new.law"),
        ({"methods.new": {"b": 3}}, "methods.new.law is missing"),
        ({"methods.A B.law": "cov"}, "write a method's name with only lower-case letters"),
        ({"methods.../x.law": "cov"}, "there is no method ''"),
        ({"title.x": 3}, "title is not a table"),
        ({"title": "a\x1b[2Jb"}, "title: it has control characters"),
        ({"title": "two\nlines"}, "title: it has control characters"),
        ({"steps": 10**15}, "steps: .*less than or equal to 100000000"),
        ({"seeds": 10**9}, "methods, seeds and .grid. make 3000000000 runs"),
        ({"n": 10**12}, "n: .*less than or equal to 1000000"),
        ({"b": 1e12}, "b: .*less than or equal to 1000000"),
        ({"snapshots": [1] * 1001}, "snapshots: .*at most 1000 items"),
        ({"grid": {"lr": [0.1] * 1000, "b": [8.0] * 1000}}, "make 6000000 runs"),
        ({"tune": {"lr": [0.1], "seeds": 10**8}}, "tune: methods, lr and seeds make 300000000 runs"),
        ({"methods.t": {"law": "poisson", "b": 10**12}}, r"methods.t.b: 1000000000000 is not a number of at most 10"),
        ({"methods.t": {"law": "two-batch", "gamma": 1e300}}, r"methods.t.gamma: 1e\+300 is not a number of at most"),
        ({"methods.t": {"law": "cov", "b": float("nan")}}, "methods.t.b: nan is not a number of at most"),
        ({"lr": 10**400}, "64 bits"),
        ({"data": "mnist1d", "vary": ["data"], "seeds": 1001}, "vary: the data of all seeds are in memory together"),
        ({".".join("a" * 17): 1}, "nested more than 16 deep"),
        ({"extends": {}}, "unknown key 'extends'"),
        ({"title": 3}, "title: .*valid string"),
    ],
)
def test_impossible_values_are_refused_with_their_key(settings, message):
    with pytest.raises(UserError, match=message) as caught:
        parse_recipe(SMALL, source="small", settings=settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"steps": 10**8, "eval_every": 1},
            "methods.gd: 100000000 steps with eval_every = 1 pause more than 100000 times",
        ),
        ({"steps": 10**8, "eval_every": 10**4, "checkpoint_every": 1}, "with checkpoint_every = 1 pause more"),
        (
            {"steps": 10**6, "eval_every": 100, "methods.sgd.eval_every": 1},
            "methods.sgd: 1000000 steps with eval_every = 1",
        ),
        (
            {"steps": 10**7, "eval_every": 10**6, "checkpoint_every": 10**4, "match": "examples", "reference": "gd"},
            "matching the reference takes",
        ),
        ({"lr": 1e30, "methods.gd.lr_of": "sgd", "methods.gd.lr_times": 1e300}, "times the rate of sgd is inf"),
        ({"lr": 1e30, "methods.gd.lr_of": "sgd", "methods.gd.lr_times": 1e9}, r"times the rate of sgd is 1e[+]39"),
    ],
)
def test_what_would_take_all_memory_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        resolve(parse_recipe(SMALL, source="small", settings=settings), n=10**6, digests=[""])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 10**9}, "steps: .*less than or equal to 1000000"),
        ({"trajectories": 10**6, "eval_every": 1}, "methods, trajectories and recorded steps make 672000000 losses"),
        ({"n": 10**5, "d": 1000}, "X would have 100000000 entries"),
        ({"n": 10**5, "d": 100, "steps": 10**4, "eval_every": 1000}, r"the exact curves would take 2e\+14 products"),
        ({"condition": 1e300}, "condition: .*less than or equal"),
        ({"slopes": 1e300}, "slopes: .*less than or equal"),
    ],
)
def test_least_squares_of_terabytes_are_refused(settings, message):
    table = read_table(recipe_text("least-squares"), source="it", settings=settings)
    with pytest.raises(UserError, match=message):
        recipe_from(table, source="it")


def test_a_law_without_b_anywhere():
    with pytest.raises(UserError, match=r"methods\.sgd: the law mini-batch needs b"):
        parse(SMALL.replace("b = 8\n", ""))


def test_all_that_is_missing_is_named_at_once():
    with pytest.raises(UserError, match=r"lr, steps, eval_every, seeds, reference are missing"):
        parse('title = "x"\n[methods.gd]\nlaw = "full-batch"\n')


def test_a_batch_larger_than_n():
    with pytest.raises(UserError, match=r"methods\.sgd: a mini-batch of b = 41 .*b ≤ n"):
        resolve(parse(b=41), n=40, digests=[""])


def test_selecting_methods():
    assert list(parse().select(["sgd", "gd"]).methods) == ["gd", "sgd"]
    with pytest.raises(UserError, match="no method 'adam'; take some of gd, sgd, bernoulli"):
        parse().select(["adam"])
    with pytest.raises(UserError, match="no method is left"):
        parse().select([])
    with pytest.raises(UserError, match="reference: 'adam' is not a method"):
        parse(reference="adam").select(None)
