"""Files of somebody else: read within bounds, and never written where a link leads."""

import os

import pytest

from msgd.lab.safe_io.bounded import parse_json, parse_toml, read_bytes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = " + "[" * 10**5, "a line of more than 2000"),
        ("a = " + "[\n" * 10**4, "nested too deeply"),
        (".".join("a" * 17) + " = 1", "nested more than 16 deep"),
        ("[" + ".".join("a" * 17) + "]", "nested more than 16 deep"),
        (".".join("a" * 10**5) + " = 1", "a line of more than 2000"),  # tomllib would take minutes
        ("a = 0x1" + "0" * 16, "more than 64 bits"),
        ("a = " + "9" * 1990, "more than 64 bits"),
        ("#" * 999 + "\n" + "#\n" * 2**18, "more than 524288 characters"),
    ],
    ids=lambda text: text[:24],
)
def test_toml_is_bounded(text, message):
    with pytest.raises(ValueError, match=message):
        parse_toml(text)


def test_toml_within_the_bounds():
    nested = ".".join("a" * 15) + " = 1"
    assert parse_toml(nested + f"\nb = {2**63 - 1}")["b"] == 2**63 - 1


@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", "1e999", "[" * 10**5, "1" * 5000, "", "{", "\xff"], ids=lambda text: text[:9]
)
def test_json_is_bounded(text):
    with pytest.raises(ValueError, match=r"not a JSON number|not finite|too deeply|Exceeds|Expecting|decode"):
        parse_json(text.encode("latin1"))


def test_only_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "zero", "folder"):
        with pytest.raises(OSError, match="not a regular file"):
            read_bytes(tmp_path / name, 10)
    (tmp_path / "file").write_bytes(bytes(10))
    assert read_bytes(tmp_path / "file", 10) == bytes(10)
    with pytest.raises(ValueError, match="more than 9 bytes"):
        read_bytes(tmp_path / "file", 9)
