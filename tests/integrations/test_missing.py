"""Without its framework an integration names the command that installs it."""

import importlib.util
import sys

import pytest


@pytest.mark.parametrize(
    ("name", "needs"), [("lightning", "lightning"), ("transformers", "transformers.loss"), ("accelerate", "accelerate")]
)
def test_a_missing_package_names_the_extra(monkeypatch, name, needs):
    spec = importlib.util.find_spec(f"msgd.integrations.{name}")
    for module in [key for key in sys.modules if key == needs or key.startswith(f"{needs}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, needs, None)
    with pytest.raises(ImportError, match=rf"pip install 'msgd\[{name}\]'"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
