"""CIFAR-10 and CIFAR-100: what is read from their archives, and what is refused."""

import gzip
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from helpers.small import cifar10_members, cifar_batch, python2_pickle, write_cifar10, write_cifar100, write_tar
from msgd.lab.data.cifar import CIFAR10, CIFAR100, MEMBERS
from msgd.lab.data.load import load_data
from msgd.lab.errors import UserError

ARCHIVE = "cifar-10-python.tar.gz"
ONE = "cifar-10-batches-py/data_batch_1"


def official(name: str) -> list[dict]:
    """What Python's own unpickler and NumPy make of our files."""
    with tarfile.open(name) as archive:
        return [pickle.loads(archive.extractfile(member).read(), encoding="bytes") for member in archive]


def same(inputs, targets, batches, key):
    data = np.concatenate([batch[b"data"] for batch in batches])
    for i, row in enumerate(data):
        for channel in range(3):  # "the first 1024 entries contain the red channel", row by row
            np.testing.assert_array_equal(inputs[i, channel].ravel(), row[1024 * channel : 1024 * (channel + 1)])
    assert targets.tolist() == [label for batch in batches for label in batch[key]]


def test_cifar10_is_read_exactly(tmp_path):
    data = load_data("cifar10", data_dir=write_cifar10(tmp_path, train=60, test=50))
    *train, test = official(tmp_path / ARCHIVE)
    assert data.train_inputs.shape == (60, 3, 32, 32)
    assert data.test_inputs.shape == (50, 3, 32, 32)
    same(data.train_inputs, data.train_targets, train, b"labels")
    same(data.test_inputs, data.test_targets, [test], b"labels")


def test_cifar100_is_read_exactly_with_its_fine_classes(tmp_path):
    data = load_data("cifar100", data_dir=write_cifar100(tmp_path, train=200, test=100))
    train, test = official(tmp_path / "cifar-100-python.tar.gz")
    assert data.classes == 100
    same(data.train_inputs, data.train_targets, [train], b"fine_labels")
    same(data.test_inputs, data.test_targets, [test], b"fine_labels")
    assert set(data.train_targets.tolist()) == set(range(100))


@pytest.mark.parametrize(("name", "write"), [("cifar10", write_cifar10), ("cifar100", write_cifar100)])
def test_the_archive_may_be_unpacked(tmp_path, name, write):
    packed = load_data(name, data_dir=write(tmp_path))
    archive = next(tmp_path.glob("*.tar.gz"))
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    archive.unlink()
    assert load_data(name, data_dir=tmp_path).digest() == packed.digest()
    missing = sorted(tmp_path.glob("*/*"))[0]
    missing.unlink()
    with pytest.raises(UserError, match="cannot be read") as caught:
        load_data(name, data_dir=tmp_path)
    assert str(missing) in str(caught.value)


def test_nothing_is_written(tmp_path):
    write_cifar10(tmp_path)
    load_data("cifar10", data_dir=tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == [ARCHIVE]


def changed(kind: str) -> dict[str, bytes]:
    batch = cifar_batch(12, classes=10, key=b"labels", seed=0)
    data, labels = batch[b"data"], batch[b"labels"]
    batches = {
        "label 10": batch | {b"labels": [*labels[:-1], 10]},
        "label -1": batch | {b"labels": [*labels[:-1], -1]},
        "label of text": batch | {b"labels": [*labels[:-1], b"cat"]},
        "fewer labels": batch | {b"labels": labels[:-1]},
        "no labels": {b"data": data},
        "no data": {b"labels": labels},
        "data of text": batch | {b"data": data.tobytes()},
        "none": batch | {b"data": data[:0], b"labels": []},
        "wrong size": batch | {b"data": data[:, :3000].copy()},
        "images": batch | {b"data": data.reshape(-1, 3, 32, 32)},
        "floats": batch | {b"data": data.astype(np.float32)},
        "list": [batch],
        "number": 7,
    }
    pickles = {
        "truncated pickle": python2_pickle(batch)[:-100],
        "no pickle": b"<html>404</html>",
        "empty": b"",
    }
    return cifar10_members() | {ONE: pickles[kind] if kind in pickles else python2_pickle(batches[kind])}


@pytest.mark.parametrize("unpacked", [False, True])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("label 10", "label 10; labels are 0 … 9"),
        *(
            (kind, "is not a batch of CIFAR")
            for kind in ("label -1", "label of text", "no labels", "no data", "images")
        ),
        *((kind, "is not a batch of CIFAR") for kind in ("data of text", "list", "number")),
        ("fewer labels", "12 images and 11 labels"),
        ("none", "0 images"),
        ("wrong size", "images of 3000, not 3072"),
        ("floats", "an array of b'f4', not of bytes"),
        ("truncated pickle", "cannot be read"),
        ("no pickle", "cannot be read"),
        ("empty", "cannot be read"),
    ],
)
def test_damaged_and_strange_batches_are_refused(tmp_path, kind, message, unpacked):
    members = changed(kind)
    if unpacked:
        for name, content in members.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(content)
    else:
        write_tar(tmp_path / ARCHIVE, members)
    with pytest.raises(UserError, match=message) as caught:
        load_data("cifar10", data_dir=tmp_path)
    assert ONE in str(caught.value)
    assert str(tmp_path if unpacked else tmp_path / ARCHIVE) in str(caught.value)
    assert "fetch" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_label_of_the_other_data_set(tmp_path):
    members = cifar10_members()
    members[ONE] = python2_pickle(cifar_batch(12, classes=10, key=b"fine_labels", seed=0))
    write_tar(tmp_path / ARCHIVE, members)
    with pytest.raises(UserError, match="and labels, a list of n classes"):
        load_data("cifar10", data_dir=tmp_path)


def broken(path: Path, kind: str) -> None:
    content = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "without its end":
        path.write_bytes(content[:-4])
    elif kind == "not gzip":
        path.write_bytes(b"<html>404</html>")
    elif kind == "not tar":
        path.write_bytes(gzip.compress(b"<html>404</html>" * 100))
    elif kind == "tar truncated":
        path.write_bytes(gzip.compress(gzip.decompress(content)[:20_000]))
    elif kind == "bytes changed":
        path.write_bytes(content[:5000] + bytes(20) + content[5020:])


@pytest.mark.parametrize(
    "kind", ["truncated", "without its end", "not gzip", "not tar", "tar truncated", "bytes changed"]
)
def test_damaged_archives_are_refused(tmp_path, kind):
    path = write_cifar10(tmp_path) / ARCHIVE
    broken(path, kind)
    with pytest.raises(UserError, match="cannot be read") as caught:
        load_data("cifar10", data_dir=tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_in_the_archive(tmp_path):
    members = cifar10_members()
    members[f"../{ONE}"] = members[f"/{ONE}"] = members.pop(ONE)  # other paths are other files
    write_tar(tmp_path / ARCHIVE, members)
    with pytest.raises(UserError, match=f"holds no {ONE}: fetch"):
        load_data("cifar10", data_dir=tmp_path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_what_is_no_regular_file_in_the_archive(tmp_path, kind):
    secret = tmp_path / "secret"
    secret.write_bytes(cifar10_members()[ONE])
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in cifar10_members().items():
            member = tarfile.TarInfo(name)
            if name == ONE:
                member.type, member.linkname = kind, str(secret)
            else:
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    (tmp_path / ARCHIVE).write_bytes(gzip.compress(file.getvalue()))
    with pytest.raises(UserError, match="is not a regular file"):
        load_data("cifar10", data_dir=tmp_path)


def test_a_file_in_the_archive_that_claims_to_be_huge(tmp_path):
    """A sparse file's size is a claim, of zeros that the archive does not hold; nobody listens to it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in cifar10_members():
            member = tarfile.TarInfo(name)
            member.size = 512
            claims = {"major": "1", "minor": "0", "name": name, "realsize": str(2**40)}
            member.pax_headers = {f"GNU.sparse.{key}": value for key, value in claims.items()}
            tar.addfile(member, io.BytesIO(b"1\n0\n0\n".ljust(512, b"\0")))
    (tmp_path / ARCHIVE).write_bytes(gzip.compress(file.getvalue()))
    with pytest.raises(UserError, match="cannot be read"):
        load_data("cifar10", data_dir=tmp_path)


def test_an_archive_of_a_million_members(tmp_path):
    """Empty ones, half a kilobyte each: 4 MB that would take half a gigabyte as objects."""
    empty = tarfile.TarInfo("a").tobuf(tarfile.USTAR_FORMAT)
    (tmp_path / ARCHIVE).write_bytes(gzip.compress(empty * (MEMBERS + 1), compresslevel=1))
    with pytest.raises(UserError, match="more than 1000 members"):
        load_data("cifar10", data_dir=tmp_path)


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_archives_of_any_tar_are_read_and_their_attributes_passed_over(tmp_path, kind):
    packed = load_data("cifar10", data_dir=write_cifar10(tmp_path))
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as tar:
        for name, content in cifar10_members().items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), 1.5  # a fraction needs an extended header
            member.pax_headers = {"comment": "a" * 2000}
            tar.addfile(member, io.BytesIO(content))
        if kind != tarfile.USTAR_FORMAT:
            tar.addfile(tarfile.TarInfo("cifar-10-batches-py/" + "long/" * 50))
    (tmp_path / ARCHIVE).write_bytes(gzip.compress(file.getvalue()))
    assert load_data("cifar10", data_dir=tmp_path).digest() == packed.digest()


@pytest.mark.parametrize("number", range(6))
def test_a_hostile_batch_does_not_run(tmp_path, number):
    class Hostile:
        def __reduce__(self):
            return Path.write_text, (tmp_path / "ran", "it ran")

    members = cifar10_members()
    name = list(members)[number]
    members[name] = pickle.dumps({b"data": Hostile(), b"labels": [1]}, protocol=2)
    write_tar(tmp_path / ARCHIVE, members)
    with pytest.raises(UserError, match="was not run; fetch the official file") as caught:
        load_data("cifar10", data_dir=tmp_path)
    assert f"{name} in {tmp_path / ARCHIVE} asks to run" in str(caught.value)
    assert not (tmp_path / "ran").exists()
    pickle.loads(members[name])  # the control: whoever obeys it is attacked
    assert (tmp_path / "ran").exists()


def test_the_published_sources():
    assert list(CIFAR10.files) == [ARCHIVE]
    assert CIFAR10.url == CIFAR100.url == "https://www.cs.toronto.edu/~kriz/"
