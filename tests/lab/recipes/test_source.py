"""Recipes' files: found, and refused where they are no text."""

import pytest

from msgd.lab.errors import UserError
from msgd.lab.recipes.load import parse_recipe
from msgd.lab.recipes.source import recipe_text


def test_a_recipe_with_control_characters_is_not_shown(tmp_path):
    (tmp_path / "a.toml").write_text('title = "a\x1b[2J"')
    with pytest.raises(UserError, match="it has control characters"):
        recipe_text(str(tmp_path / "a.toml"))
    (tmp_path / "b.toml").write_bytes(bytes(2**19 + 1))
    with pytest.raises(UserError, match="more than 524288 bytes"):
        recipe_text(str(tmp_path / "b.toml"))


def test_files(tmp_path):
    with pytest.raises(UserError, match=r"no recipe 'nope': take one of .*mnist1d"):
        recipe_text("nope")
    with pytest.raises(UserError, match="cannot be read"):
        recipe_text(str(tmp_path / "nope.toml"))
    with pytest.raises(UserError, match="is not TOML"):
        parse_recipe("title = ", source="x")
