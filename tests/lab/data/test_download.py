"""Where files of data sets come from: a folder, the system, or a download with its checksum."""

import dataclasses
import gzip
import hashlib
from pathlib import Path

import numpy as np
import pooch
import pytest

from helpers.small import write_cifar10, write_cifar100, write_fashion_mnist, write_shakespeare, write_svhn
from msgd.lab.data import cifar, download, fashion_mnist, shakespeare, svhn
from msgd.lab.data.download import LIMIT, Source, check_images, read_bytes
from msgd.lab.data.load import load_data
from msgd.lab.errors import UserError

#: data set: its module, the name of its source there, and who writes small files
FROM_FILES = {
    "fashion-mnist": (fashion_mnist, "SOURCE", write_fashion_mnist),
    "svhn": (svhn, "SOURCE", write_svhn),
    "cifar10": (cifar, "CIFAR10", write_cifar10),
    "cifar100": (cifar, "CIFAR100", write_cifar100),
    "shakespeare": (shakespeare, "SOURCE", write_shakespeare),
}


def published(source: Source, folder: Path) -> Source:
    """The same source, as if the files in this folder were the official ones."""

    def entry(path):
        content = path.read_bytes()
        algorithm = hashlib.sha256 if source.data_set == "shakespeare" else hashlib.md5
        return len(content), algorithm(content).hexdigest()

    return dataclasses.replace(source, system_folder=None, files={name: entry(folder / name) for name in source.files})


def serve(monkeypatch, tmp_path, folder):
    """The real pooch, its cache in the test's folder, with a folder in place of the network."""
    original, asked = pooch.retrieve, []

    class Copy:
        def __call__(self, url, output_file, pooch):  # noqa: ARG002 - pooch's signature
            asked.append(url)
            Path(output_file).write_bytes((folder / url.rpartition("/")[2]).read_bytes())

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(pooch, "retrieve", lambda url, **options: original(url, downloader=Copy(), **options))
    return asked


@pytest.mark.parametrize("name", FROM_FILES)
def test_a_download_is_used_and_kept(monkeypatch, tmp_path, name):
    module, attribute, write = FROM_FILES[name]
    folder = write(tmp_path / "served")
    source = published(getattr(module, attribute), folder)
    monkeypatch.setattr(module, attribute, source)
    asked = serve(monkeypatch, tmp_path, folder)
    digest = load_data(name).digest()
    assert digest == load_data(name, data_dir=folder).digest()
    assert sorted(asked) == sorted(source.url + file for file in source.files)
    assert {path.name for path in tmp_path.glob(f"cache/msgd/{name}/*")} == set(source.files)
    assert load_data(name).digest() == digest
    assert len(asked) == len(source.files)


@pytest.mark.parametrize("name", FROM_FILES)
def test_a_download_with_a_wrong_checksum_is_refused(monkeypatch, tmp_path, name):
    module, attribute, write = FROM_FILES[name]
    source = dataclasses.replace(getattr(module, attribute), system_folder=None)
    monkeypatch.setattr(module, attribute, source)
    asked = serve(monkeypatch, tmp_path, write(tmp_path / "served"))
    with pytest.raises(UserError, match=r"could not be downloaded \(ValueError\): .*give --data-dir a folder with"):
        load_data(name)
    assert len(asked) == 1
    assert not [path for path in tmp_path.rglob("cache/**/*") if path.is_file()]


def test_a_failed_download_names_the_remedies(monkeypatch, tmp_path):
    def refuse(url, **_):
        raise ConnectionError(url)

    monkeypatch.setattr(fashion_mnist, "SOURCE", dataclasses.replace(fashion_mnist.SOURCE, system_folder=tmp_path))
    monkeypatch.setattr(pooch, "retrieve", refuse)
    with pytest.raises(UserError, match=r"dataset-fashion-mnist, or give --data-dir"):
        load_data("fashion-mnist")


@pytest.mark.parametrize("name", FROM_FILES)
def test_a_file_of_the_official_size_must_be_the_official_one(monkeypatch, tmp_path, name):
    module, attribute, write = FROM_FILES[name]
    folder = write(tmp_path)
    source = published(getattr(module, attribute), folder)
    monkeypatch.setattr(module, attribute, source)
    load_data(name, data_dir=folder)
    path = folder / next(iter(source.files))
    content = bytearray(path.read_bytes())
    if name == "svhn":
        content[20] ^= 1  # in the header's text: it would still be read as before
    else:
        content[4] ^= 1  # the time in a gzip header: it would still be read as before; or a letter of the text
    path.write_bytes(content)
    with pytest.raises(UserError, match="official size but the wrong checksum; fetch it again") as caught:
        load_data(name, data_dir=folder)
    assert str(path) in str(caught.value)
    monkeypatch.undo()  # of another size than the official file: what it holds decides
    load_data(name, data_dir=folder)


@pytest.mark.parametrize("name", FROM_FILES)
def test_an_empty_folder_names_what_is_missing(tmp_path, name):
    module, attribute, _ = FROM_FILES[name]
    source = getattr(module, attribute)
    with pytest.raises(UserError, match=r"holds (no|neither) .*: put .* there") as caught:
        load_data(name, data_dir=tmp_path)
    assert next(iter(source.files)) in str(caught.value)
    assert source.contents in str(caught.value)


def test_the_official_files_fit_the_limit():
    for module, attribute, _ in FROM_FILES.values():
        assert all(size < LIMIT for size, _ in getattr(module, attribute).files.values())
    assert LIMIT > 73257 * 32 * 32 * 3 + 73257 * 8 + 2000  # SVHN's training set, inflated
    assert LIMIT > 60_000 * (32 * 32 * 3 + 100)  # either CIFAR


def test_a_file_that_inflates_beyond_the_limit(monkeypatch, tmp_path):
    monkeypatch.setattr(download, "LIMIT", 1000)
    for size in (1000, 1001):
        (tmp_path / f"{size}.gz").write_bytes(gzip.compress(bytes(size)))
    assert read_bytes(tmp_path / "1000.gz") == bytes(1000)
    with pytest.raises(UserError, match="more than 1000 bytes"):
        read_bytes(tmp_path / "1001.gz")


@pytest.mark.parametrize("label", [-1, 10, 2**40, 2.5, np.nan, np.inf])
def test_labels_that_there_are_not(label):
    images, labels = np.zeros((2, 3)), np.array([0, label])
    with pytest.raises(UserError, match=r"^file: label .*; labels are 0 … 9"):
        check_images(images, labels, shape=(3,), allowed=range(10), path="file")
    check_images(images, labels * 0 if np.isfinite(label) else np.zeros(2), shape=(3,), allowed=range(10), path="file")
