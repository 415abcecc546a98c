"""Hashes of functions: what they do counts, and how they are written does not."""

import functools
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from msgd.lab.tasks.fingerprint import fingerprint


def made(text, name="f", **globals_):
    namespace = dict(globals_) | {"__name__": "__main__"}
    exec(compile(text, "/somewhere/own.py", "exec"), namespace)
    return namespace[name]


def test_spaces_and_comments_do_not_count():
    one, other = made("def f(x):\n    return x + 1"), made("def f( x ):  # one more\n\n  return x+1")
    assert fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize(
    "text",
    [
        "def f(x):\n    return x + 2",
        "def f(x):\n    return x - 1",
        "def f(x, y=1):\n    return x + 1",
        "def f(x):\n    return x.a + 1",
        "def f(x):\n    return (lambda z: z + 3)(x)",
    ],
)
def test_what_a_function_does_counts(text):
    assert fingerprint(made("def f(x):\n    return x + 1")) != fingerprint(made(text))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("C = 1\ndef f(x):\n    return C * x", "C = 2\ndef f(x):\n    return C * x"),
        ("def g(x):\n    return x\ndef f(x):\n    return g(x)", "def g(x):\n    return -x\ndef f(x):\n    return g(x)"),
        ("class f:\n    def go(self):\n        return 1", "class f:\n    def go(self):\n        return 2"),
        ("class f:\n    size = 1\n    def go(self): pass", "class f:\n    size = 2\n    def go(self): pass"),
        ("def make(a):\n    return lambda: a\nf = make(1)", "def make(a):\n    return lambda: a\nf = make(2)"),
        ("def f(x):\n    return x in {'a', 'b'}", "def f(x):\n    return x in {'a', 'c'}"),
    ],
)
def test_what_it_refers_to_counts(one, other):
    assert fingerprint(made(one)) != fingerprint(made(other))


def test_globals_that_it_does_not_use_do_not_count():
    assert fingerprint(made("C = 1\ndef f(x):\n    return x")) == fingerprint(made("C = 2\ndef f(x):\n    return x"))


def test_partials_arrays_and_objects():
    function = made("def f(x, a):\n    return x")
    assert fingerprint(functools.partial(function, a=1)) != fingerprint(functools.partial(function, a=2))
    assert fingerprint(np.arange(3)) != fingerprint(np.arange(4))
    assert fingerprint(torch.zeros(3)) != fingerprint(torch.zeros(3, dtype=torch.float64))
    thing = made("class f:\n    def __init__(self, a): self.a = a\n    def __call__(self): return self.a")
    assert fingerprint(thing(1)) != fingerprint(thing(2))
    assert fingerprint(thing(1)) == fingerprint(thing(1))


def test_the_hash_is_the_same_in_every_process():
    program = (
        "import torch\nfrom torch import nn\nfrom msgd.lab.tasks.fingerprint import fingerprint\n"
        "class Net(nn.Module):\n    def forward(self, x):\n        return x if x in {'a', 'b', 'c'} else nn.ReLU()(x)\n"
        "print(fingerprint([Net, lambda: torch.zeros(3)]))"
    )
    seen = set()
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", program]
        seen.add(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)
    assert len(seen) == 1
