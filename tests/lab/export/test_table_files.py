"""Tables read back as they were written."""

import csv
import io
import sys

import pytest

from msgd.lab.errors import UserError
from msgd.lab.export.table_files import csv_bytes, parquet_bytes

ROWS = [
    {"method": "a,b", "x": 0.1 + 0.2, "n": 3, "only first": None},
    {"method": 'quo"te', "x": float("inf"), "n": None, "ß%_&\n": 1e-300},
]


def read_csv(content):
    return list(csv.DictReader(io.StringIO(content.decode("utf-8"), newline="")))


def test_csv_has_all_columns_and_all_digits():
    first, second = read_csv(csv_bytes(ROWS))
    assert list(first) == ["method", "x", "n", "only first", "ß%_&\n"]
    assert (first["method"], second["method"]) == ("a,b", 'quo"te')
    assert (float(first["x"]), float(second["x"])) == (0.1 + 0.2, float("inf"))  # bitwise
    assert float(second["ß%_&\n"]) == 1e-300
    assert (first["n"], second["n"], first["ß%_&\n"]) == ("3", "", "")


def test_parquet_has_all_columns_and_types():
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(io.BytesIO(parquet_bytes(ROWS)))
    assert table.to_pylist() == [{key: row.get(key) for key in [*ROWS[0], "ß%_&\n"]} for row in ROWS]
    assert [str(field.type) for field in table.schema] == ["string", "double", "int64", "double", "double"]


def test_parquet_is_the_same_each_time():
    pytest.importorskip("pyarrow")
    assert parquet_bytes(ROWS) == parquet_bytes(ROWS)


def test_parquet_without_a_package_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr("msgd.lab.export.table_files.find_spec", lambda _: None)
    with pytest.raises(UserError, match="pip install pyarrow"):
        parquet_bytes(ROWS)
