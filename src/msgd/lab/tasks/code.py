"""The user's own Python files, which a recipe names: load them only if they are trusted, and record their hashes.

A recipe names code as ``task = "task.py"`` or as ``"task.py:NAME"``, ``"package.module:NAME"``. Loading runs it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import msgd
from msgd.lab.errors import UserError
from msgd.lab.safe_io.bounded import read_bytes
from msgd.lab.tasks.faults import user_code

CODE_BYTES = 2**20  #: largest size of a Python file
_MODULE = r"(?:[\w.-]+/)*[\w.-]+\.py|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
REFERENCE = re.compile(rf"({_MODULE}):([A-Za-z_]\w*)")
KEYS = ("data", "model", "law", "kind", "optimizer", "schedule")  #: keys of a recipe that may hold a reference


def named_hash(line: str) -> tuple[str, str]:
    """The name and the hash in a line of `Code.identity`."""
    name, _, digest = line.partition(" sha256:")
    return name, digest


def is_reference(value: object) -> bool:
    """Whether a value of a recipe names code, such as ``"task.py:MyLaw"``."""
    return isinstance(value, str) and REFERENCE.fullmatch(value) is not None


def modules_in(table: Any) -> list[str]:
    """List the modules that a recipe names, without loading them.

    Args:
        table: a recipe's table, or a part of it.

    Returns:
        Paths of files, and names of modules, each once; the value of the key ``task`` first.
    """
    return list(dict.fromkeys(_modules(table)))


def _modules(table: Any) -> Iterator[str]:
    if isinstance(table, list):
        for each in table:
            yield from _modules(each)
    if not isinstance(table, dict):
        return
    if isinstance(table.get("task"), str):
        yield table["task"]
    for key, value in table.items():
        if key in KEYS and isinstance(value, str) and (match := REFERENCE.fullmatch(value)):
            yield match[1]
        yield from _modules(value)


@dataclass(frozen=True)
class Code:
    """The Python files of a recipe.

    Args:
        folder: the folder of the recipe; paths of files are relative to it, and modules are found there first.
        modules: paths of files, and names of modules.
        hashes: SHA-256 of each file, by its path relative to the folder, or its module's name.
    """

    folder: Path
    modules: tuple[str, ...]
    hashes: tuple[tuple[str, str], ...] = field(default=())

    @property
    def identity(self) -> tuple[str, ...]:
        """The files and their hashes, as part of a run's identity."""
        return tuple(f"{name} sha256:{digest}" for name, digest in self.hashes)

    def find(self, reference: str) -> Any:
        """Find what a reference names.

        Args:
            reference: such as ``"task.py:MyLaw"``.

        Returns:
            The object.

        Raises:
            UserError: the file has no such name.
        """
        match = REFERENCE.fullmatch(reference)
        assert match is not None
        module = load_module(self.folder, match[1])
        try:
            return getattr(module, match[2])
        except AttributeError:
            raise UserError(f"{reference}: {match[1]} defines no {match[2]}") from None

    def module(self, name: str) -> ModuleType:
        """A module of the recipe, loaded."""
        return load_module(self.folder, name)

    def load(self) -> None:
        """Load all modules, and check that they are still those whose hashes were recorded.

        Raises:
            UserError: a file is missing, cannot be loaded, or has changed.
        """
        now = load_code(self.folder, self.modules)
        for name, digest in self.hashes:
            if dict(now.hashes).get(name) != digest:
                raise UserError(f"{name} has changed since this command read it: start the command again")


def load_code(folder: Path, modules: tuple[str, ...]) -> Code:
    """Load a recipe's modules, which runs them.

    Args:
        folder: the folder of the recipe.
        modules: from `modules_in`.

    Returns:
        The code, with the hashes of these files and of the modules beside them that they import.

    Raises:
        UserError: a file is missing or cannot be loaded.
    """
    hashes: dict[str, str] = {}
    for name in modules:
        module = load_module(folder, name)
        for path in _files_of(module):
            shown = str(path.relative_to(folder)) if path.is_relative_to(folder) else f"{module.__name__}/{path.name}"
            hashes[shown] = hashlib.sha256(path.read_bytes()).hexdigest()
    return Code(folder, modules, tuple(sorted(hashes.items())))


def load_module(folder: Path, name: str) -> ModuleType:
    """Load a Python file, or import a module; the same content is loaded only once in a process.

    Args:
        folder: the folder of the recipe, which is searched first for what the code imports.
        name: path of a file, relative to the folder, or the name of a module.

    Returns:
        The module.

    Raises:
        UserError: the file is missing, or an exception ended its loading.
    """
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    with user_code(name):
        if not name.endswith(".py"):
            return _import(name)
        path = folder / name
        try:
            content = read_bytes(path, CODE_BYTES)
        except FileNotFoundError:
            raise UserError(f"there is no {name} beside the recipe, in {folder}: write its path from there") from None
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read: {error}") from error
        own_name = f"msgd_code_{hashlib.sha256(str(path).encode() + content).hexdigest()[:16]}"
        if own_name in sys.modules:
            return sys.modules[own_name]
        spec = importlib.util.spec_from_file_location(own_name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[own_name] = module  # pickle and dataclasses look a class's module up there
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[own_name]
            raise
        return module


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise UserError(f"there is no module {name}: put it beside the recipe, or install its package") from error
        raise


def _files_of(module: ModuleType) -> list[Path]:
    """The file of a module, and those of the modules beside it, or in its package, that are loaded."""
    assert module.__file__ is not None
    own = Path(module.__file__).resolve()
    package = sys.modules.get(module.__name__.partition(".")[0])
    inside = package is not None and package is not module and getattr(package, "__file__", None)
    root = Path(str(inside)).resolve().parent if inside else own.parent
    loaded = {Path(path).resolve() for other in list(sys.modules.values()) if (path := _source(other))}
    return sorted({own, *(path for path in loaded if path.is_relative_to(root) and not _is_installed(path, root))})


def _source(module: ModuleType) -> str | None:
    path = getattr(module, "__file__", None)
    return path if isinstance(path, str) and path.endswith(".py") and Path(path).is_absolute() else None


def _is_installed(path: Path, root: Path) -> bool:
    """Whether a file belongs to an environment below the user's folder, or to msgd."""
    return "site-packages" in path.relative_to(root).parts or path.is_relative_to(Path(msgd.__file__).parent)
