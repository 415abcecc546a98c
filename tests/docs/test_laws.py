"""The documentation that is written by code is up to date, and shows every law."""

import importlib.util
from pathlib import Path

from msgd.noise import LAWS, SCALAR_LAWS

DOCS = Path(__file__).parents[2] / "docs"


def script(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_the_laws():
    module = script("laws")
    text = (DOCS / "laws.md").read_text()
    assert text == module.page(), "run `make docs`"
    for cls in (*LAWS.values(), *SCALAR_LAWS.values()):
        assert f"{cls.__name__}(" in text or cls.__name__ == "Normal"  # which goes by Fisher and Cov
    for name in module.LAWS:
        assert (DOCS / "laws" / f"{name}.svg").exists()


def test_the_page_of_the_results():
    module = script("results")
    page = (DOCS / "results" / "README.md").read_text()
    shown = {name for _, name, _ in module.PLACE.findall(page)}
    assert shown == {path.stem for path in (DOCS / "results").glob("*.json")}
    for name in shown:
        assert module.section(DOCS / "results" / f"{name}.json") in page, "run `make docs`"
    for path in (DOCS / "results").glob("*.json"):
        assert "--out" not in path.read_text()
