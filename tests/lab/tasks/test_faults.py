"""Exceptions in the user's own code, as one line."""

import pytest

from msgd.lab.errors import UserError
from msgd.lab.tasks.faults import user_code


def test_the_last_line_of_the_users_own_code_is_named(tmp_path):
    path = tmp_path / "own_code.py"
    path.write_text("import torch\n\ndef f():\n    return torch.ones(2) @ torch.ones(3)\n")
    namespace = {}
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    message = r"^own_code\.py, line 4, in f: RuntimeError: .*; MSGD_DEBUG=1 shows"
    with pytest.raises(UserError, match=message), user_code("it"):
        namespace["f"]()


def test_without_a_line_of_ones_own_the_code_is_named():
    error = ValueError("first line\nsecond line")
    message = r"test_faults.py, line \d+, in \S+: ValueError: first line; MSGD"
    with pytest.raises(UserError, match=message), user_code("it"):
        raise error


@pytest.mark.parametrize("error", [UserError("mine"), OSError("disk"), MemoryError(), KeyboardInterrupt()])
def test_what_the_command_line_explains_itself_passes(error):
    with pytest.raises(type(error)) as caught, user_code("it"):
        raise error
    assert caught.value is error


def test_a_traceback_for_debugging(monkeypatch):
    monkeypatch.setenv("MSGD_DEBUG", "1")
    with pytest.raises(ZeroDivisionError), user_code("it"):
        1 / 0  # noqa: B018
