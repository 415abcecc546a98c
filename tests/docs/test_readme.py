"""What the README and the examples show runs as shown."""

import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from helpers.commands import script
from helpers.torchrun import ends_of, start_ranks
from msgd import noise

ROOT = Path(__file__).parents[2]
SHOWS = {
    "accelerate_loop.py": "accuracy",
    "data_parallel.py": "1 processes, ",
    "language_model.py": "bits a character",
    "fine_tune.py": "loss per token",
    "large_batch.py": "accuracy",
    "least_squares.py": "expected loss",
    "lightning_module.py": "accuracy",
    "probe.py": "noise scale",
    "sft.py": "loss per token",
}  # what each example prints
TOLERATED = [
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning 2.6 with torch 2.13
    "The 'train_dataloader' does not have many workers",  # Lightning's advice, where there are cores to spare
    "`gradient_checkpointing` is deprecated",  # TRL 1.16 with Transformers 5.24
]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_the_lines_for_a_loop_of_ones_own():
    torch.manual_seed(0)
    model = torch.nn.Linear(5, 3)
    before = model.weight.detach().clone()
    loader = [(torch.randn(96, 5), torch.randint(3, (96,))) for _ in range(3)]
    scope = {"F": F, "model": model, "loader": loader, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1)}
    exec(BLOCKS[0], scope)
    assert scope["reweight"].step == 3
    assert not torch.equal(model.weight, before)
    assert len(BLOCKS[0].strip().splitlines()) <= 9


def test_the_readme_is_short_and_shows_the_two_commands():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 100
    for paragraph in re.sub(r"```.*?```", "", text, flags=re.DOTALL).split("\n\n"):
        for item in re.split(r"^- ", paragraph, flags=re.MULTILINE):
            assert len(item.split()) <= 60 or item.startswith("    "), item
    assert re.search(r"^    make run\b", text, re.MULTILINE)
    assert re.search(r"^    make test\b", text, re.MULTILINE)


def test_the_effective_batch_size_on_the_first_page():
    expected = re.search(
        r"effective_batch_size\(1000\) .* ([\d.]+)$", (ROOT / "docs" / "index.md").read_text(), re.MULTILINE
    )
    assert noise.MiniBatch(20).moments(1000).effective_batch_size(1000) == pytest.approx(float(expected[1]), abs=0.005)


def test_the_example_of_several_processes():
    (code, said, errors), other = ends_of(start_ranks(ROOT / "examples" / "data_parallel.py", 2, size=2))
    assert (code, errors, other) == (0, "", (0, "", ""))
    assert said.startswith("2 processes, 34 steps: accuracy ")


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_examples(path):
    assert len(path.read_text().splitlines()) < 60
    done = script(path, 2, ignore=TOLERATED)
    assert done.returncode == 0, done.stderr
    assert SHOWS[path.name] in done.stdout


def test_the_lines_for_a_task_of_ones_own(tmp_path, monkeypatch, capsys):
    """With a task that is small enough: 10 steps in place of 2000, two seeds."""
    monkeypatch.chdir(tmp_path)

    def data(seed):
        x = torch.randn(60, 3, generator=torch.Generator().manual_seed(seed))
        return (x[:40], x[:40].sum(1)), (x[40:], x[40:].sum(1))

    class Net(torch.nn.Linear):
        def __init__(self):
            super().__init__(3, 1)

        def forward(self, inputs):
            return super().forward(inputs)[:, 0]

    scope = {"data": data, "Net": Net, "loss": lambda outputs, targets: (outputs - targets) ** 2}
    text = BLOCKS[-1].replace("lr=0.1, steps=2000", "lr=0.01, steps=10, seeds=2, jobs=1")
    assert text != BLOCKS[-1]
    exec(text, scope)
    assert "MiniBatch(b=20)" in capsys.readouterr().out
    assert (tmp_path / "runs" / "mine" / "report.html").exists()
