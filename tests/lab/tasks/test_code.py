"""Code that a recipe names: what is found, what is loaded, and what is hashed."""

import hashlib
import sys

import pytest

from msgd.lab.errors import UserError
from msgd.lab.tasks.code import Code, is_reference, load_code, modules_in


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("value", ["task.py:Net", "folder/task.py:net", "package.module:Net", "package:Net"])
def test_references(value):
    assert is_reference(value)


@pytest.mark.parametrize("value", ["mnist1d", "task.py", "task.py:", ":Net", "task.py:a b", "a b:c", "C:\\x", 3, None])
def test_what_is_no_reference(value):
    assert not is_reference(value)


def test_the_modules_of_a_recipe_each_once():
    table = {
        "task": "task.py",
        "data": "task.py:load",
        "title": "other.py:NotCode",
        "optimizer": {"kind": "optimizers.py:Mine"},
        "schedule": "shapes:wave",
        "methods": {"a": {"law": "injected", "scalar_law": {"law": "laws.py:Two"}}, "b": {"law": "cov", "noise": {}}},
    }
    assert modules_in(table) == ["task.py", "optimizers.py", "shapes", "laws.py"]
    assert modules_in({"data": "mnist1d", "methods": {"a": {"law": "cov"}}}) == []


def test_files_and_what_they_import_beside_them_are_hashed(tmp_path):
    task = write(tmp_path, "mine.py", "import beside_mine\nfrom inner_mine import deep\nX = beside_mine.Y")
    write(tmp_path, "beside_mine.py", "Y = 7")
    write(tmp_path, "inner_mine/__init__.py", "")
    write(tmp_path, "inner_mine/deep.py", "Z = 1")
    write(tmp_path, "not_imported.py", "raise RuntimeError")
    code = load_code(tmp_path, ("mine.py",))
    inner = ["inner_mine/__init__.py", "inner_mine/deep.py"]
    assert [name for name, _ in code.hashes] == ["beside_mine.py", *inner, "mine.py"]
    assert dict(code.hashes)["mine.py"] == hashlib.sha256(task.read_bytes()).hexdigest()
    assert code.find("mine.py:X") == 7
    assert code.identity[0].startswith("beside_mine.py sha256:")


def test_a_changed_file_is_another_module_and_is_refused_by_the_hashes(tmp_path):
    task = write(tmp_path, "changing.py", "X = 1")
    before = load_code(tmp_path, ("changing.py",))
    before.load()
    task.write_text("X = 2")
    with pytest.raises(UserError, match=r"changing\.py has changed since this command read it"):
        before.load()
    assert load_code(tmp_path, ("changing.py",)).find("changing.py:X") == 2


def test_a_file_runs_once_in_a_process(tmp_path):
    write(tmp_path, "counted.py", "import sys\nsys.counted = getattr(sys, 'counted', 0) + 1")
    for _ in range(3):
        load_code(tmp_path, ("counted.py",))
    assert sys.counted == 1
    del sys.counted


def test_a_module_of_a_package(tmp_path):
    write(tmp_path, "own_package/__init__.py", "")
    write(tmp_path, "own_package/tasks.py", "from own_package import other\nX = other.X")
    write(tmp_path, "own_package/other.py", "X = 3")
    code = load_code(tmp_path, ("own_package.tasks",))
    assert code.find("own_package.tasks:X") == 3
    assert [name for name, _ in code.hashes] == [
        "own_package/__init__.py",
        "own_package/other.py",
        "own_package/tasks.py",
    ]


def test_faults_are_one_line(tmp_path):
    write(tmp_path, "empty.py", "")
    write(tmp_path, "broken.py", "x = (\n")
    write(tmp_path, "raises.py", "\n\n1 / 0\n")
    write(tmp_path, "leaves.py", "import sys\nsys.exit(3)")
    write(tmp_path, "lacks.py", "import no_such_package_at_all")
    write(tmp_path, "large.py", "#" * 2**21)
    for name, message in (
        ("missing.py", r"there is no missing\.py beside the recipe, in \S+: write its path from there"),
        ("no_such_module_at_all", r"there is no module no_such_module_at_all: put it beside the recipe"),
        ("broken.py", r"broken\.py, line 1: SyntaxError"),
        ("raises.py", r"raises\.py, line 3, in <module>: ZeroDivisionError: division by zero"),
        ("leaves.py", r"leaves\.py, line 2, in <module>: SystemExit: 3"),
        ("lacks.py", r"lacks\.py, line 1, in <module>: ModuleNotFoundError: No module named 'no_such_package_at_all'"),
        ("large.py", r"large\.py cannot be read: more than 1048576 bytes"),
    ):
        with pytest.raises(UserError, match=message):
            load_code(tmp_path, (name,))
    with pytest.raises(UserError, match=r"empty\.py:Net: empty\.py defines no Net"):
        Code(tmp_path, ("empty.py",)).find("empty.py:Net")
