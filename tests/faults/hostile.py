"""What a hostile file may hold: damaged bytes, and well-formed tables with values that nobody expects."""

import copy
import datetime

import safetensors.torch
import torch
from hypothesis import strategies as st

from msgd.lab.data.load import NAMES as DATA_SETS
from msgd.lab.networks.build import MODELS
from msgd.lab.safe_io.tensors import crc32
from msgd.langevin import LANGEVIN, PENALTIES
from msgd.noise import LAWS, SCALAR_LAWS

#: of JSON and TOML alike
WHOLE = [0, 1, -1, 2, 7, 10**5, 10**9, 10**12, 10**15, 2**63 - 1, 2**63, -(2**70), True, False]
REAL = [0.0, -0.0, 0.5, 1.0, 1.5, -3.25, 5e-324, 1e-9, 1e7, 1e16, 1e308, -1e308, *map(float, ("nan", "inf", "-inf"))]
NAMES = ["", "a", "nan", "1", "sgd", "gd", "cov", "full-batch", "mini-batch", "data", "../../x", "/etc/passwd"]
TEXTS = ["x" * 3000, "\x1b[2J", "a\nb", "<script>alert(1)</script>", "</script>", "\u202eabc", "é", "😀", "²"]
WORDS = [*LAWS, *SCALAR_LAWS, *LANGEVIN, *PENALTIES, *MODELS, *DATA_SETS, "sgd", "gd", "init", "noise", "data"]
WORDS += ["unit", "raw", "standard", "steps", "epochs", "examples", "group", "batch", "none", "variance", "iqr"]
FIRST = ("title", "data", "model")
LISTS = [[], [[]], [{}], [1, 2, 3], ["sgd"], [0.1, 1e300], [10**9] * 5, list(range(2000))]
MADE = [{}, {"a": {}}, {"law": "cov"}, {"law": ["cov"]}, {"kind": "gld-diag"}, {"law": "poisson", "b": 1e6}]
MADE += [{"law": "subsampled", "B": 2, "inner": {"law": "emulate"}}, {f"m{i}": {"law": "cov"} for i in range(1200)}]
MADE += [{"law": "injected", "scalar_law": {"law": "student-t", "df": 1.5, "scale": "iqr"}}]
VALUES = st.one_of(
    st.sampled_from([*WHOLE, *REAL, *NAMES, *TEXTS, *LISTS, *MADE]),
    st.integers(),
    st.integers(min_value=-3, max_value=300),
    st.floats(),
    st.text(max_size=20),
    st.recursive(st.none() | st.booleans(), lambda inner: st.lists(inner, max_size=3), max_leaves=5),
)
DATES = st.sampled_from([datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1, 1, 1), datetime.time(1, 1)])
PLACE = st.integers(min_value=0, max_value=2**31 - 1)
NUMBERS = st.sampled_from([0, 1, 2, 7, 8, 255, 256, 65535, 2**20, 2**28, 2**31 - 1, 2**31, 2**32 - 1])


def places(table, path=()):
    """The path of every value in a table, and of the table itself."""
    found = [path]
    for key in table if isinstance(table, dict) else range(len(table)) if isinstance(table, list) else ():
        found += places(table[key], (*path, key))
    return found


@st.composite
def changed(draw, table, values=VALUES, most=3):
    """The table with some values replaced, taken away, or added under another key."""
    table = copy.deepcopy(table)
    for _ in range(draw(st.integers(1, most))):
        # What a recipe is about is checked first of all, so that nothing else would be looked at.
        paths = [path for path in places(table) if path and (path[0] not in FIRST or not draw(st.integers(0, 9)))]
        if not paths:
            break
        *path, last = paths[draw(PLACE) % len(paths)]
        inner = table
        for key in path:
            inner = inner[key]
        what = draw(st.sampled_from(["replace"] * 7 + ["delete", "add", "copy"]))
        if what == "delete":
            del inner[last]
        elif what == "copy":
            other = paths[draw(PLACE) % len(paths)]
            value = table
            for key in other:
                value = value[key]
            inner[last] = copy.deepcopy(value)
        elif what == "add" and isinstance(inner, dict):
            known = st.sampled_from(
                sorted({str(p[-1]) for p in paths} | {"tune", "grid", "match", "vary", "norm", "noise"})
            )
            inner[draw(known | st.text(max_size=8))] = copy.deepcopy(draw(values))  # the samples themselves must stay
        elif draw(st.integers(0, 3)):
            inner[last] = copy.deepcopy(draw(alike(inner[last])))
        else:
            inner[last] = copy.deepcopy(draw(values))  # the samples themselves must stay
    return table


def alike(value):
    """Other values of the type, most of which may be allowed: what is refused at once tests nothing beyond."""
    match value:
        case bool():
            return st.booleans()
        case int():
            return st.integers(0, 100) | st.sampled_from([1000, 10**4, 10**5, 10**6, 10**8])
        case float():
            return st.floats(0, 2) | st.floats(1, 100) | st.sampled_from([1e-12, 1e-3, 1e3, 1e6, 1e9])
        case str():
            return st.sampled_from(WORDS)
        case list() if value:
            return st.lists(st.sampled_from(range(len(value))).flatmap(lambda i: alike(value[i])), max_size=8)
    return st.just(value)


@st.composite
def damaged(draw, content, most=4):
    """The content with some bytes changed, cut out, put in, or moved; numbers of four bytes in either order."""
    bytes_ = bytearray(content)
    for _ in range(draw(st.integers(1, most))):
        at = draw(PLACE) % (len(bytes_) + 1)
        match draw(st.sampled_from(["flip", "flip", "number", "number", "cut", "end", "insert", "copy"])):
            case "flip":
                bytes_[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case "number":
                order = draw(st.sampled_from(["little", "big"]))
                bytes_[at : at + 4] = draw(NUMBERS).to_bytes(4, order)
            case "cut":
                del bytes_[at : at + draw(st.integers(1, 64))]
            case "end":
                del bytes_[at:]
            case "insert":
                bytes_[at:at] = draw(st.binary(max_size=16)) * draw(st.sampled_from([1, 1, 1, 300]))
            case "copy":
                size, other = draw(st.integers(1, 600)), draw(PLACE) % (len(bytes_) + 1)
                bytes_[at:at] = bytes_[other : other + size]
    return bytes(bytes_)


FORMS = st.sampled_from(
    [
        torch.float32,
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.float8_e4m3fn,
        torch.complex64,
        torch.int64,
        torch.bool,
    ]
)


@st.composite
def tensor_files(draw, tensors, metadata):
    """A file of tensors that is whole, and of another network, or of none."""
    tensors = dict(tensors)
    for _ in range(draw(st.integers(1, 2))):
        name = draw(
            st.sampled_from(sorted(tensors)) | st.sampled_from(["momentum.layers.0.weight", "noise.trace", "a", ""])
        )
        if draw(st.booleans()):
            tensors.pop(name, None)
        shape = draw(st.lists(st.sampled_from([0, 1, 2, 10, 40, 100]), max_size=3))
        tensors[draw(st.sampled_from([name, "model.x", "momentum.x", "noise.x", "\x1b[2J"]))] = torch.zeros(shape).to(
            draw(FORMS)
        )
    metadata = dict(metadata)
    if all(value.dtype not in (torch.bfloat16, torch.float8_e4m3fn) for value in tensors.values()):
        metadata["crc32"] = crc32(tensors)
    if draw(st.booleans()):
        texts = st.sampled_from(
            ["-5", "30", "1" * 4500, "1e9", "nan", "inf", "-inf", "0x10", "", "９", "0", "29"]
        ) | st.text(max_size=5)
        metadata[draw(st.sampled_from(["step", "seconds", "crc32", "run"]))] = draw(texts.filter(_encodable))
    return safetensors.torch.save(tensors, metadata)


def _encodable(text):
    return not any("\ud800" <= c <= "\udfff" for c in text)
