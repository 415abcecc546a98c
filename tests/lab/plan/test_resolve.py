"""The plan of an experiment: rates, lengths, seeds, and what a grid spells out."""

import pytest

from helpers.small import SMALL
from msgd.lab.errors import UserError
from msgd.lab.plan.cost import computed_per_step, examples_per_step
from msgd.lab.plan.resolve import resolve
from msgd.lab.recipes.load import parse_recipe

MNIST1D = SMALL.replace("fashion-mnist", "mnist1d")


def plan(text=SMALL, n=40, **settings):
    recipe = parse_recipe(text, source="small", settings={k.replace("__", "."): v for k, v in settings.items()})
    return {run.method: run for run in resolve(recipe, n=n, digests=["d"]) if run.seed == 1}


def test_the_rate_drops_after_the_steps_that_are_named():
    run = plan(lr_drops=[40, 50], lr=0.5)["sgd"]
    assert [run.lr_at(step) for step in (0, 39, 40, 49, 50, 59)] == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.005, 0.005])
    assert plan()["sgd"].lr_at(10**6) == 0.05


def test_a_longer_method_is_evaluated_as_often_and_drops_at_the_same_fractions():
    run = plan(lr_drops=[30], methods__gd__steps=600)["gd"]
    assert (run.eval_every, run.lr_drops, len(run.evaluations)) == (100, (300,), 7)


@pytest.mark.parametrize("match", ["epochs", "examples"])
def test_matched_methods_compute_the_same_number_of_examples(match):
    runs = plan(match=match)
    assert {name: run.steps for name, run in runs.items() if name != "bernoulli"} == {"gd": 12, "sgd": 60}
    assert runs["bernoulli"].steps == pytest.approx(60, abs=3)  # 8 examples in the mean
    assert plan(match="steps")["gd"].steps == 60
    longer = plan(match=match, methods__gd__steps=100)
    assert longer["gd"].steps == 100  # what a method says itself holds
    without = parse_recipe(SMALL, source="small", settings={"match": match, "reference": "elsewhere"})
    with pytest.raises(UserError, match="reference 'elsewhere'"):
        resolve(without, n=40, digests=["d"])


@pytest.mark.parametrize(
    ("method", "visited", "computed"),
    [
        ('law = "full-batch"', 40, 40),
        ('law = "cov"', 40, 40),
        ('law = "mini-batch"', 8, 8),
        ('law = "subsampled"\nB = 20\ninner = { law = "emulate" }', 20, 20),
        ('law = "full-batch"\nnoise = { kind = "gld-diag", refresh = 4 }', 40, 40 + 10),
        ('law = "full-batch"\nnoise = { kind = "gld-const" }', 40, 40 + 40 / 60),  # measured once in 60 steps
        ('law = "mini-batch"\nnoise = { kind = "sgld", temperature = 1.0 }', 8, 8),
        ('law = "full-batch"\npenalty = { kind = "full-batch-penalty", strength = 1.0 }', 40, 80),
    ],
)
def test_what_a_step_costs(method, visited, computed):
    run = plan(SMALL + f"[methods.other]\n{method}\n")["other"]
    assert examples_per_step(run.law, run.n) == visited
    assert computed_per_step(run) == pytest.approx(computed)


def test_a_random_number_of_examples_counts_in_the_mean():
    assert examples_per_step(plan()["bernoulli"].law, plan()["bernoulli"].n) == pytest.approx(
        8, abs=4 * (6.4 / 200) ** 0.5
    )


def test_matched_by_examples_a_measurement_costs_steps():
    text = SMALL + '[methods.other]\nlaw = "full-batch"\nnoise = { kind = "gld-diag", refresh = 1 }\n'
    assert plan(text, match="epochs")["other"].steps == 12
    assert plan(text, match="examples")["other"].steps == 6


def test_a_rate_may_follow_another_methods():
    runs = plan(methods__gd__lr_of="sgd", methods__gd__lr_times=4.0, methods__sgd__lr=0.2)
    assert runs["gd"].lr == pytest.approx(0.8)
    for settings, message in (
        ({"methods__gd__lr_of": "nobody"}, "methods.gd.lr_of: there is no method 'nobody'; take gd, sgd, bernoulli"),
        ({"methods__gd__lr_of": "sgd", "methods__sgd__lr_of": "gd"}, "gd.lr_of: sgd has no learning rate of its own"),
        ({"methods__gd__lr_of": "gd"}, "gd.lr_of: gd has no learning rate of its own"),
        ({"methods__gd__lr_of": "sgd", "methods__gd__lr": 0.1}, "methods.gd: give lr or lr_of, not both"),
        ({"methods__gd__lr_times": 2.0}, "methods.gd: lr_times needs lr_of"),
    ):
        with pytest.raises(UserError, match=message):
            plan(**settings)
    recipe = parse_recipe(SMALL, source="small", settings={"methods.gd.lr_of": "sgd"})
    with pytest.raises(UserError, match="--methods: add 'sgd', whose learning rate"):
        resolve(recipe.select(["gd"]), n=40, digests=["d"])


@pytest.mark.parametrize(
    ("vary", "seeds"),
    [(["init", "noise"], (1, 1, 0)), (["noise"], (0, 1, 0)), (["init"], (1, 0, 0)), (["data"], (0, 0, 1))],
)
def test_seeds_vary_what_they_are_told_to(vary, seeds):
    recipe = parse_recipe(MNIST1D, source="small", settings={"vary": vary})
    run = resolve(recipe, n=40, digests=["zero", "one"])[1]
    assert (run.init_seed, run.noise_seed, run.data_seed) == seeds
    assert run.data_digest == "one"


def test_only_generated_data_can_vary():
    with pytest.raises(UserError, match="vary: fashion-mnist is a fixed data set; leave out data, or use mnist1d"):
        plan(vary=["data"])


def test_the_identity_is_silent_about_later_keys_at_their_defaults():
    assert set(plan()["gd"].identity()) == {
        *("method", "seed", "law", "data", "data_digest", "n", "model", "lr", "momentum", "weight_decay", "steps"),
        "eval_every",
    }
    assert plan(lr_drops=[3])["gd"].identity()["lr_drops"] == [3]
