"""Reads marts out of a built warehouse and compares them, row by row, with what they should hold."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
from independent_marts import Row, Rows

MARTS = [
    "customer_segments",
    "metric_customer_ltv",
    "metric_mom_spend_change",
    "metric_avg_transaction_value",
    "customer_360_profile",
    "customer_category_spend",
]
KEYS = {
    "metric_mom_spend_change": ("customer_id", "month"),
    "customer_category_spend": ("customer_id", "merchant_category"),
}
"""The columns of a mart's key; those of the others are ("customer_id",)."""
# decimal(18,4) columns come from double arithmetic; everything else, money included, must be equal.
TOLERANCE = Decimal("0.0001")


def query(file: Path, sql: str, parameters: list | dict | None = None) -> tuple[list[str], list[tuple]]:
    """Run one statement, unqualified names being marts; return column names and rows."""
    with duckdb.connect(str(file), read_only=True) as connection:
        connection.execute("use marts")
        result = connection.execute(sql, parameters)
        return [column[0] for column in result.description], result.fetchall()


def read_table(file: Path, table: str) -> pd.DataFrame:
    """A table with Python's own values (date, Decimal, None) in its cells."""
    columns, rows = query(file, f"from {table}")
    return pd.DataFrame(rows, columns=columns, dtype=object)


def read_rows(file: Path, mart: str, where: str = "true", schema: str = "marts") -> Rows:
    """The rows of a mart by its key."""
    columns, rows = query(file, f"from {schema}.{mart} where {where}")
    key = KEYS.get(mart, ("customer_id",))
    by_key: Rows = {}
    for values in rows:
        row = dict(zip(columns, values, strict=True))
        row_key = tuple(row[name] for name in key)
        assert row_key not in by_key, f"{schema}.{mart} has more than one row of {row_key}"
        by_key[row_key] = row
    return by_key


def assert_same_rows(mart: str, got: Rows, expected: Rows) -> None:
    """Fail with a line per difference: the customer, the column, what was expected and what is there."""
    found = _differences(got, expected)
    shown = "\n".join(found[:25])
    assert not found, f"{mart} differs in {len(found)} places:\n{shown}"


def _differences(got: Rows, expected: Rows) -> list[str]:
    found = [f"{_named(key)}: expected a row, got none" for key in expected if key not in got]
    found += [f"{_named(key)}: expected no row, got {got[key]}" for key in got if key not in expected]
    for key in sorted(expected.keys() & got.keys()):
        found += _cell_differences(_named(key), got[key], expected[key])
    return found


def _cell_differences(name: str, got: Row, expected: Row) -> list[str]:
    if got.keys() != expected.keys():
        return [f"{name}: columns missing {expected.keys() - got.keys()}, not expected {got.keys() - expected.keys()}"]
    return [
        f"{name}, {column}: expected {expected[column]!r}, got {got[column]!r}"
        for column in expected
        if not _equal(got[column], expected[column])
    ]


def _equal(got: Any, expected: Any) -> bool:  # noqa: ANN401 - any value of a cell
    if isinstance(got, Decimal) and isinstance(expected, Decimal) and got.as_tuple().exponent == -4:
        return abs(got - expected) <= TOLERANCE
    return got == expected


def _named(key: tuple) -> str:
    return " ".join(str(part) for part in key)
