"""The commands that read recipes."""

import tomllib

from helpers.commands import here


def test_recipes_and_show(tmp_path, capsys):
    code, listed, _ = here(capsys, "recipes")
    assert code == 0
    assert "mnist1d " in listed
    code, shown, _ = here(capsys, "show", "mnist1d")
    assert code == 0
    tomllib.loads(shown)
    mine = tmp_path / "mine.toml"
    mine.write_text(shown)
    assert here(capsys, "show", mine) == (0, shown, "")
