"""Public names: importable, documented, and no more than promised."""

import dataclasses
import inspect

import pytest

import msgd
from msgd import diagnostics, langevin, noise, theory


@pytest.mark.parametrize("module", [msgd, noise, langevin, diagnostics, theory], ids=lambda module: module.__name__)
def test_public_names(module):
    assert len(module.__all__) == len(set(module.__all__))
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), name
    assert set(msgd.__all__) <= set(dir(msgd))


def test_unknown_names_are_an_error():
    with pytest.raises(AttributeError, match="no attribute 'Reweigher'"):
        _ = msgd.Reweigher


@pytest.mark.parametrize("cls", [*noise.LAWS.values(), *noise.SCALAR_LAWS.values()], ids=lambda cls: cls.__name__)
def test_laws_are_frozen_and_exported(cls):
    assert cls.__name__ in noise.__all__
    assert cls.__dataclass_params__.frozen
    assert dataclasses.is_dataclass(cls)


@pytest.mark.parametrize(
    "cls", [*langevin.LANGEVIN.values(), *langevin.PENALTIES.values()], ids=lambda cls: cls.__name__
)
def test_baselines_are_frozen_and_exported(cls):
    assert cls.__name__ in langevin.__all__
    assert cls.__dataclass_params__.frozen
