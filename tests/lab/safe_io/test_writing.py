"""Nothing is written where a link leads."""

import pytest

from msgd.lab.errors import UserError
from msgd.lab.safe_io.lock import lock_folder
from msgd.lab.safe_io.writing import check_inside, write_atomically


def test_nothing_is_written_through_a_link(tmp_path):
    mine, out = tmp_path / "mine", tmp_path / "out"
    mine.write_text("mine")
    out.mkdir()
    (out / "results.json").symlink_to(mine)
    (out / "results.json.part").symlink_to(mine)
    write_atomically(out / "results.json", b"{}")
    assert mine.read_text() == "mine"
    assert not (out / "results.json").is_symlink()
    assert (out / "results.json").read_text() == "{}"
    (out / ".lock").symlink_to(mine)
    with pytest.raises(UserError, match="is a link"), lock_folder(out):
        pass
    assert mine.read_text() == "mine"


def test_the_way_to_a_run_has_no_link(tmp_path):
    (tmp_path / "real" / "seed-0").mkdir(parents=True)
    out = tmp_path / "out"
    out.symlink_to(tmp_path / "real")  # the folder itself is where its owner wants it
    check_inside(out / "sgd" / "seed-0", out)
    (out / "sgd").symlink_to(tmp_path)
    with pytest.raises(UserError, match=r"sgd is a link, and msgd does not write outside .*: delete the link"):
        check_inside(out / "sgd" / "seed-0", out)
