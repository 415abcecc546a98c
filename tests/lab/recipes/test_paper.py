"""The paper's larger experiments, on small files in the official formats; and recipes that state a number twice."""

import json
import math

import pytest

from helpers.commands import msgd
from helpers.small import write_cifar10, write_cifar100, write_svhn
from msgd import noise
from msgd.lab.recipes.load import parse_recipe
from msgd.lab.recipes.source import recipe_text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "write", "methods", "settings"),
    [
        # 60 images carry far more noise at these b than 25,000 do: a tenth of the recipe's rate
        ("fig1b", write_svhn, "gd,sgd,fisher,bernoulli", {"n": 40, "b": 8, "micro_batch": 20, "lr": 0.01}),
        (
            "fig2c",
            write_cifar10,
            "sgd,large-cov,large-cov-ghost",
            {
                **{"n": 40, "b": 4, "ghost": 5, "lr": 0.01},
                **{"methods.large-cov.B": 10, "methods.large-cov-ghost.B": 10},
                **{"methods.large-cov-ghost.inner.size": 5, "methods.large-cov-ghost.inner.inner.b": 2.0},
            },
        ),
        (
            "table1",
            write_cifar100,
            "sgd,large-fisher",
            {"n": 40, "b": 10, "ghost": 10, "lr": 0.001, "methods.large-fisher.B": 20},
        ),
    ],
    ids=["fig1b", "fig2c", "table1"],
)
def test_fifty_steps_bring_the_loss_down(tmp_path, recipe, write, methods, settings):
    options = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    command = ["run", recipe, "--methods", methods, "--steps", 50, "--seeds", 1, "--set", "eval_every=25"]
    out = tmp_path / "out"
    done = msgd(*command, *options, "--data-dir", write(tmp_path / "data", test=20), "--out", out, timeout=3000)
    assert done.returncode == 0, done.stderr
    for method in methods.split(","):
        lines = (out / method / "seed-0" / "metrics.jsonl").read_text().splitlines()
        losses = [json.loads(line)["train_loss"] for line in lines]
        assert losses[-1] < losses[0], (method, losses)


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_svag_is_what_its_name_says(parts):
    recipe = parse_recipe(recipe_text("mnist1d-svag"), source="svag")
    method = recipe.methods[f"svag-{parts}"]
    law = recipe.law(f"svag-{parts}")
    assert law == noise.svag(20, parts)
    assert method.lr == pytest.approx(recipe.lr / parts)
    assert method.steps == recipe.steps * parts


@pytest.mark.parametrize(
    ("name", "ratio"), [("mnist1d-large-batch", 12.5), ("fig2a", 10), ("fig2b", 10), ("fig2c", 10), ("table1", 4)]
)
def test_large_batches_scale_the_rate_by_the_ratio_and_its_root(name, ratio):
    recipe = parse_recipe(recipe_text(name), source=name)
    large = recipe.law("large")
    assert large.b / recipe.b == ratio
    assert recipe.methods["large-linear"].lr_times == ratio
    assert recipe.methods["large-sqrt"].lr_times == pytest.approx(math.sqrt(ratio), rel=1e-12)


@pytest.mark.parametrize(("name", "n"), [("fig2a", 25_000), ("fig2b", 50_000), ("fig2c", 50_000), ("table1", 50_000)])
def test_noise_centred_per_ghost_batch_is_as_strong_as_noise_centred_over_the_batch(name, n):
    recipe = parse_recipe(recipe_text(name), source=name)
    ghost, whole = (recipe.law(method).moments(n) for method in ("large-cov-ghost", "large-cov"))
    assert ghost.effective_batch_size(n) == pytest.approx(whole.effective_batch_size(n), rel=0.01)
