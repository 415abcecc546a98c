"""Tables as files: CSV and Parquet."""

from __future__ import annotations

import csv
import io
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from msgd.lab.errors import UserError
from msgd.lab.export.records import Rows


def csv_bytes(rows: Rows) -> bytes:
    """Write a table as CSV.

    Args:
        rows: the rows; the columns are all their keys, in the order in which they first occur.

    Returns:
        UTF-8 text with a line of column names. Numbers have all their digits, so that reading them gives the same
        floats; an empty cell is a missing value.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, _columns(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)  # str() of a float is its repr, which reads back as the same float
    return text.getvalue().encode()


def parquet_bytes(rows: Rows) -> bytes:
    """Write a table as Parquet, with pyarrow or polars.

    Args:
        rows: as for `csv_bytes`.

    Returns:
        The content of the file.

    Raises:
        UserError: neither package is installed. Without pyarrow, pandas cannot write Parquet either.
    """
    table = {key: [row.get(key) for row in rows] for key in _columns(rows)}
    file = io.BytesIO()
    if find_spec("pyarrow"):
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
        parquet.write_table(arrow.table({key: _array(arrow, values) for key, values in table.items()}), file)
    elif find_spec("polars"):
        import_module("polars").DataFrame(table, strict=False).write_parquet(file)
    else:
        raise UserError("Parquet needs pyarrow: pip install pyarrow")
    return file.getvalue()


def _array(arrow: Any, values: list[Any]) -> Any:
    """A column; one without any value holds numbers, as the same column of another experiment does."""
    return arrow.array(values, type=arrow.float64() if all(v is None for v in values) else None)


def _columns(rows: Rows) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))
