"""The house stays walkable: short files, short functions, and each test stands where what it tests stands."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "msgd").rglob("*.py"))
#: folders of tests that test no single module
ACROSS = {"benchmarks", "distributed", "docs", "faults", "helpers"}
#: files of tests that test all modules of their folder
WHOLE_FOLDER = {
    "integrations/test_data_parallel.py",
    "integrations/test_missing.py",
    "lab/experiment_folder/test_version.py",
    "lab/recipes/test_paper.py",
}


def functions(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path):
    assert len(path.read_text().splitlines()) <= 350
    assert {name: length for name, length in functions(path) if length > 60} == {}


def test_every_folder_says_what_it_holds():
    for path in SOURCES:
        assert (path.parent / "__init__.py").exists()
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_tests_stand_where_what_they_test_stands():
    """tests/noise/test_law.py or test_law_more.py tests src/msgd/noise/law.py."""
    strays = []
    for path in sorted((ROOT / "tests").glob("*/**/test_*.py")):
        relative = path.relative_to(ROOT / "tests")
        if relative.parts[0] not in ACROSS and str(relative) not in WHOLE_FOLDER:
            modules = {module.stem for module in (ROOT / "src" / "msgd" / relative.parent).glob("*.py")}
            name = path.stem.removeprefix("test_")
            if not any(name == module or name.startswith(f"{module}_") for module in modules):
                strays.append(str(relative))
    assert strays == []
