"""The documentation that is written by code is up to date, and shows every law."""

import importlib.util
from pathlib import Path

from msgd.noise import LAWS, SCALAR_LAWS

DOCS = Path(__file__).parents[1] / "docs"


def laws():
    spec = importlib.util.spec_from_file_location("laws", DOCS / "laws.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_the_laws():
    module = laws()
    text = (DOCS / "laws.md").read_text()
    assert text == module.page(), "run `make docs`"
    for cls in (*LAWS.values(), *SCALAR_LAWS.values()):
        assert f"{cls.__name__}(" in text or cls.__name__ == "Normal"  # which goes by Fisher and Cov
    for name in module.LAWS:
        assert (DOCS / "laws" / f"{name}.svg").exists()
