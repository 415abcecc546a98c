"""Without its framework an integration names the command that installs the framework."""

import importlib.util
import sys

import pytest


@pytest.mark.parametrize(
    ("name", "needs", "packages"),
    [
        ("lightning", "lightning", "lightning"),
        ("transformers", "transformers", "transformers accelerate"),
        ("accelerate", "accelerate", "accelerate"),
    ],
)
def test_a_missing_package_is_named(monkeypatch, name, needs, packages):
    spec = importlib.util.find_spec(f"msgd.integrations.{name}")
    for module in [key for key in sys.modules if key == needs or key.startswith(f"{needs}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, needs, None)
    with pytest.raises(ImportError, match=f"pip install {packages}$"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
