"""Small data in the official formats, and a recipe that trains on it in a second."""

import gzip
import io
import struct
import tarfile
from pathlib import Path

import numpy as np

#: a recipe that trains in a second: 40 images, three methods
SMALL = """
title = "Small"
data = "fashion-mnist"
n = 40
model = "mlp"
lr = 0.05
momentum = 0.9
b = 8
steps = 60
eval_every = 10
checkpoint_every = 20
seeds = 2
margin = 0.1
reference = "sgd"
[methods.gd]
law = "full-batch"
[methods.sgd]
law = "mini-batch"
[methods.bernoulli]
law = "bernoulli"
"""

#: simulated least squares in a second: 12 examples, two methods
LEAST_SQUARES = """
experiment = "least-squares"
title = "Small"
n = 12
d = 3
intercept = 2.0
slopes = 1.0
noise = 0.5
lr = 0.2
b = 4
steps = 6
eval_every = 4
trajectories = 300
reference = "cov"
[methods.sgd]
law = "mini-batch"
[methods.cov]
law = "cov"
"""


def write_idx(path: Path, array: np.ndarray) -> None:
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = head + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def write_fashion_mnist(folder: Path, *, train: int = 60, test: int = 50) -> Path:
    """Four small files in the official format: `train` images to train on (the official test files)."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for part, number in (("t10k", train), ("train", test)):
        labels = rng.integers(10, size=number)
        images = rng.integers(0, 60, size=(number, 28, 28))
        images[np.arange(number), labels * 2, :] += 150  # a stripe that tells the class
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", labels)
    return folder


def colour_images(labels: np.ndarray, *, seed: int) -> np.ndarray:
    """uint8 images (n, 3, 32, 32) with noise around a pattern of 4×4 blocks that tells the class."""
    pattern = np.random.default_rng(7).integers(40, 216, size=(100, 3, 8, 8)).repeat(4, axis=2).repeat(4, axis=3)
    noise = np.random.default_rng(seed).integers(-40, 40, size=(len(labels), 3, 32, 32))
    return (pattern[labels] + noise).astype(np.uint8)


def write_mat(path: Path, variables: dict) -> None:
    """A MATLAB 5 file, compressed as SVHN's are, without the time of its writing."""
    from scipy.io import savemat

    file = io.BytesIO()
    savemat(file, variables, do_compression=True)
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(116) + file.getvalue()[116:])


def svhn_split(number: int, *, seed: int) -> dict:
    """X and y as SVHN has them: 32×32×3×n, and n×1 with 10 for the digit 0."""
    digits = np.random.default_rng(seed).permutation(np.arange(number) % 10)
    images = colour_images(digits, seed=seed)
    return {"X": images.transpose(2, 3, 1, 0), "y": np.where(digits == 0, 10, digits).astype(np.uint8)[:, None]}


def write_svhn(folder: Path, *, train: int = 60, test: int = 50) -> Path:
    """Two small files in the official format: `train` images to train on (the official test file)."""
    folder.mkdir(parents=True, exist_ok=True)
    write_mat(folder / "test_32x32.mat", svhn_split(train, seed=0))
    write_mat(folder / "train_32x32.mat", svhn_split(test, seed=1))
    return folder


def write_shakespeare(folder: Path, *, characters: int = 4000) -> Path:
    """A small text of words in a random order, under the official name."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["to ", "be, ", "or ", "not ", "that ", "is ", "the ", "question:\n"]
    text = "".join(np.random.default_rng(0).choice(words, size=characters))  # a word has more than one character
    (folder / "input.txt").write_bytes(text[:characters].encode())
    return folder


def python2_pickle(value) -> bytes:
    """Pickled as Python 2 did at protocol 2, text as bytes, with the opcodes of the official archives of CIFAR."""
    return b"\x80\x02" + _opcodes(value) + b"."


def _opcodes(value) -> bytes:
    match value:
        case bytes() if len(value) < 256:
            return b"U" + bytes([len(value)]) + value
        case bytes():
            return b"T" + struct.pack("<i", len(value)) + value
        case int():
            return b"J" + struct.pack("<i", value)
        case list():
            return b"](" + b"".join(map(_opcodes, value)) + b"e"
        case dict():
            return b"}(" + b"".join(_opcodes(key) + _opcodes(each) for key, each in value.items()) + b"u"
        case np.ndarray():
            shape = b"(" + b"".join(map(_opcodes, value.shape)) + b"t"
            empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
            kind = value.dtype.str[1:].encode()
            dtype = (
                b"cnumpy\ndtype\n("
                + _opcodes(kind)
                + b"K\x00K\x01tR(K\x03U\x01|NNN"
                + b"J\xff\xff\xff\xff" * 2
                + b"K\x00tb"
            )
            return empty + b"(K\x01" + shape + dtype + b"K\x00" + _opcodes(value.tobytes()) + b"tb"
    raise TypeError(type(value))


def cifar_batch(number: int, *, classes: int, key: bytes, seed: int) -> dict:
    """One file of CIFAR."""
    labels = np.random.default_rng(seed).permutation(np.arange(number) % classes)
    images = colour_images(labels, seed=seed).reshape(number, 3 * 32 * 32)
    names = [b"image_%d.png" % i for i in range(number)]
    return {b"data": images, b"batch_label": b"small", key: labels.tolist(), b"filenames": names}


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    """A gzipped tar of regular files, the same every time."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    path.write_bytes(gzip.compress(file.getvalue(), mtime=0))


def cifar10_members(*, train: int = 60, test: int = 50) -> dict[str, bytes]:
    """The files of a small CIFAR-10: `train` images in five of them, a multiple of 5."""
    sizes = {f"data_batch_{i}": train // 5 for i in range(1, 6)} | {"test_batch": test}
    return {
        f"cifar-10-batches-py/{name}": python2_pickle(cifar_batch(number, classes=10, key=b"labels", seed=seed))
        for seed, (name, number) in enumerate(sizes.items())
    }


def write_cifar10(folder: Path, *, train: int = 60, test: int = 50) -> Path:
    """A small archive in the official format: `train` images to train on, a multiple of 5."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tar(folder / "cifar-10-python.tar.gz", cifar10_members(train=train, test=test))
    return folder


def write_cifar100(folder: Path, *, train: int = 200, test: int = 100) -> Path:
    """A small archive in the official format: `train` images to train on."""
    folder.mkdir(parents=True, exist_ok=True)
    members = {}
    for seed, (name, number) in enumerate({"train": train, "test": test}.items()):
        batch = cifar_batch(number, classes=100, key=b"fine_labels", seed=seed)
        batch[b"coarse_labels"] = [label // 5 for label in batch[b"fine_labels"]]
        members[f"cifar-100-python/{name}"] = python2_pickle(batch)
    write_tar(folder / "cifar-100-python.tar.gz", members)
    return folder
