"""Every code block of the pages runs, and every command on them can be given."""

import math
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from typer.main import get_command

from docs.test_laws import script
from msgd.cli.app import app
from msgd.lab.recipes.load import recipe_from
from msgd.lab.recipes.source import read_table, recipe_names

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(
    r"^(?:    |> )?(?:[A-Z_0-9]+=\S+ )?(?:torchrun .*?(?:-m |--no-python )|torchrun .*? )?(msgd .*?)(?: *#.*)?$",
    re.MULTILINE,
)


def blocks(page, language):
    return [text for found, text in FENCED.findall(page.read_text()) if found == language]


def without_digits(text):
    """Text without the relative errors of a check, which are those of rounding."""
    return re.sub(r"relative error [\d.e+-]+", "relative error", text)


def tiny():
    """What the pages suppose the reader to have."""
    torch.manual_seed(0)
    inputs, targets = torch.randn(96, 40), torch.randint(10, (96,))
    model = nn.Sequential(nn.Linear(40, 16), nn.ReLU(), nn.Linear(16, 10))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, targets), batch_size=48)
    return {
        "torch": torch,
        "nn": nn,
        "F": F,
        "model": model,
        "inputs": inputs,
        "targets": targets,
        "large_inputs": inputs,
        "large_targets": targets,
        "loader": loader,
        "dataset": loader.dataset,
        "batches": [[(inputs[:32], targets[:32]), (inputs[32:64], targets[32:64])]] * 3,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "loss_fn": lambda outputs, targets: F.cross_entropy(outputs, targets, reduction="none"),
        "__name__": "page",
    }


@pytest.mark.filterwarnings("ignore:.*adds no noise to a batch:UserWarning")  # the tiny batches are small
@pytest.mark.filterwarnings("ignore:.*Function'> should not be instantiated:DeprecationWarning")  # torch.compile
@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator is found")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_the_python_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    scope = tiny()
    if page.name == "README.md":
        transformers = pytest.importorskip("transformers")
        scope["Trainer"] = transformers.Trainer
        scope["arguments"] = transformers.TrainingArguments(str(tmp_path), use_cpu=True, report_to=[])
        scope["data"] = scope["dataset"]
    for text in blocks(page, "python"):
        if "--8<--" in text:  # an example, which test_readme.py runs
            assert (ROOT / re.search(r'"(.*?)"', text).group(1)).exists()
        elif page.name == "README.md" and "lab.compare" in text:
            continue  # test_readme.py runs it, with a task
        elif text.lstrip().startswith(">>>"):
            text = "\n".join(line[4:] for line in text.splitlines() if line.startswith((">>>", "...")))
            exec(compile(text, page.name, "exec"), scope)
        else:
            exec(compile(text, page.name, "exec"), scope)
    printed = without_digits(capsys.readouterr().out).splitlines()
    for text in blocks(page, "text"):  # what the code above it prints
        assert set(without_digits(text).splitlines()) <= set(printed)


def test_every_example_is_on_the_page_of_examples():
    shown = set(re.findall(r'--8<-- "examples/(.*?)"', (ROOT / "docs" / "examples.md").read_text()))
    assert shown == {path.name for path in (ROOT / "examples").glob("*.py")}


RECIPES = [page for page in PAGES if blocks(page, "toml") and page.name != "your-own-task.md"]  # see test_own_task.py


@pytest.mark.parametrize("page", RECIPES, ids=lambda page: page.name)
def test_recipes_on_a_page_are_read(page):
    for text in blocks(page, "toml"):
        assert recipe_from(read_table(text, source=page.name), source=page.name).methods


def commands():
    found = {(page.name, command.strip()) for page in PAGES for command in COMMAND.findall(page.read_text())}
    return sorted(found)


@pytest.mark.parametrize(("page", "command"), commands())
def test_a_command_on_a_page_can_be_given(page, command):
    words = shlex.split(command.split(" > ")[0])[1:]
    click = get_command(app)
    if words[0].isupper():
        return  # msgd COMMAND …
    words = [word for word in words if word != "…"]
    context = click.make_context("msgd", [words[0]], resilient_parsing=True)
    subcommand = click.get_command(context, words[0])
    assert subcommand is not None, f"{page}: {command}"
    subcommand.make_context(words[0], words[1:], parent=context)
    if words[0] in ("run", "show") and not words[1].isupper() and not words[1].endswith(".toml"):
        assert words[1] in recipe_names()


def test_the_commands_are_found():
    found = [command for _, command in commands()]
    assert len(found) > 25
    assert "msgd run mnist1d-large-batch" in found


def numbers(rows):
    return [[float(re.sub(r"^2\^|%$", "", cell)) if cell not in ("none", "–") else 0.0 for cell in row] for row in rows]


def test_the_numbers_of_the_page_on_scaling(monkeypatch):
    """Fewer draws than the page's, within a tenth or the last digit shown."""
    module = script("after_noise")
    text = (ROOT / "docs" / "scaling.md").read_text()
    found = {}
    for _, name, _ in module.PLACE.findall(text):
        table = text.split(f"<!-- table: {name} -->\n")[1].split("<!-- end -->")[0].splitlines()
        assert table[0] == module.markdown(module.HEADS[name], []).splitlines()[0]
        found[name] = numbers([cell.strip() for cell in line.strip("|").split("|")] for line in table[2:])
    assert set(found) == set(module.HEADS)
    model, x, y = module.trained()
    G = module.GradientMatrix(model, module.losses, x, y).to_dense().detach()
    for shown, again in zip(found["clipping"], numbers(module.clipping(G, draws=100)), strict=True):
        assert again == pytest.approx(shown, rel=0.1, abs=0.6 if shown[4] < 10 else 2)
    for shown, again in zip(found["adam"], numbers(module.adam(G)), strict=True):
        assert again == pytest.approx(shown, rel=0.15, abs=0.02)
    if hasattr(torch.optim, "Muon"):  # from PyTorch 2.9 on
        layers = [parameter.detach() for parameter in model.parameters()]
        again = numbers(module.normalised(G, layers, draws=100, sizes=(None, 20)))
        assert again[1] == pytest.approx(found["normalised"][3], rel=0.1, abs=0.04)
        monkeypatch.setattr(module.noise, "Cov", module.noise.MiniBatch)  # batches themselves, as the page says
        for row, size in ((1, 200), (4, 5)):
            batches = numbers(module.normalised(G, layers, draws=100, sizes=(None, size)))
            assert batches[1][2:] == pytest.approx(found["normalised"][row][2:], abs=0.06)
        monkeypatch.undo()
    (_, length, *_), *noisy = found["normalised"]
    for b, noisy_length, _, *left in noisy:  # the page's rule, by the noise scale that the lengths give
        scale = b * ((noisy_length / length) ** 2 - 1)
        assert left == pytest.approx([1 / math.sqrt(1 + scale / (m * b)) for m in (1, 19, 39)], abs=0.12)
    scales = [row[4] for row in found["float16"]]
    assert all(quieter > louder for quieter, louder in pairwise(scales))


def test_the_numbers_of_the_page_on_large_batches():
    """Fewer trajectories than the page's, within a tenth, which is at least 3.8 standard errors of the difference."""
    module = script("shuffled")
    table = module.PLACE.search((ROOT / "docs" / "large-batch.md").read_text())[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[3:-1]]
    assert [row[:2] for row in rows] == [[name, f"`{text}`"] for name, (text, _) in module.laws(100, 10).items()]
    shown = {row[1]: float(row[2].split(" ")[0]) for row in rows}
    for name, (text, law) in module.laws(100, 10).items():
        mean, _ = module.excess(name, law, module.RATES[0], trajectories=20, epochs=30)
        assert mean == pytest.approx(shown[f"`{text}`"], rel=0.1, abs=0.01)
    assert shown["`Reshuffled(10)`"] < shown["`MiniBatch(10)`"] / 3
