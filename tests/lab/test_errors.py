"""Errors become one line that cannot steer a terminal."""

from msgd.lab.errors import LONGEST, UserError, one_line


def test_what_a_file_says_cannot_steer_the_terminal():
    assert one_line("a\x1b[2J\nb\u202ec\ud800") == "a\\x1b[2J b\\u202ec\\ud800"
    long = str(UserError("start " + "x" * 10**6 + " end: delete it"))
    assert len(long) == LONGEST
    assert long.startswith("start x")
    assert long.endswith("end: delete it")
