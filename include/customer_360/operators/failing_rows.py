"""Keeps which rows failed a check or a data test, by their keys alone: ops.failing_rows."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from include.customer_360.catalog import MANIFEST
from include.customer_360.dbt_vars import dbt_vars
from include.customer_360.settings import load_settings

COLUMNS = ("dag_run_id", "as_of_date", "mart", "check_name", "severity", "row_key", "reason", "found_at")
"""The columns of ops.failing_rows, in this order."""
OF_THE_TESTED_COLUMN = ("unique_field", "from_field", "value_field")
"""What dbt's generic tests call the column they test, in the rows they return."""


@dataclass(frozen=True)
class FailingRows:
    """Keys of rows that one check of a mart, or one data test of a model, found at fault.

    reason is what should hold or, of a data test, what dbt says.
    """

    mart: str
    check: str
    severity: str
    reason: str
    keys: Sequence[str]


@dataclass(frozen=True)
class DataTest:
    """A data test of the dbt project: what it tests, and its column where it is a generic one of a column."""

    name: str
    model: str
    column: str | None


@cache
def data_test(unique_id: str) -> DataTest:
    """Return a data test as dbt's manifest has it."""
    nodes = json.loads(MANIFEST.read_text(encoding="utf-8"))["nodes"]
    node = nodes[unique_id]
    tested = node.get("attached_node") or next(iter(node["depends_on"]["nodes"]), unique_id)
    column = (node.get("test_metadata") or {}).get("kwargs", {}).get("column_name")
    return DataTest(name=node["name"], model=tested.rpartition(".")[2], column=column)


def keys_of_data_test(cursor: Any, unique_id: str, sql: str) -> list[str]:  # noqa: ANN401 - DB-API
    """Run a data test's SQL once more and return the keys of its rows; none when it returns no column that is a key.

    :param sql: the test as dbt compiled it.
    """
    cursor.execute(f"select * from (\n{sql}\n) as failing limit {dbt_vars()['failing_rows_kept']}")
    known = {name.lower() for name in dbt_vars()["row_keys"]}
    if (data_test(unique_id).column or "").lower() in known:
        known |= set(OF_THE_TESTED_COLUMN)
    columns = [column[0].lower() for column in cursor.description]
    places = [place for place, name in enumerate(columns) if name in known]
    rows = cursor.fetchall()
    found = {" ".join(str(row[place]) for place in places) for row in rows} if places else set()
    return sorted(found)


def keep_failing_rows(
    cursor: Any,  # noqa: ANN401 - DB-API
    placeholder: str,
    dag_run_id: str,
    as_of_date: datetime.date,
    found: Sequence[FailingRows],
) -> None:
    """Put the keys into ops.failing_rows, in place of those that the run has there of the same marts and models.

    Those that are older than KEEP_FAILING_ROWS_DAYS are removed.
    """
    found_at = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    oldest = found_at - datetime.timedelta(days=load_settings().keep_failing_rows_days)
    cursor.execute("begin")
    cursor.execute(f"delete from ops.failing_rows where found_at < {placeholder}", (oldest,))
    for mart in sorted({each.mart for each in found}):
        cursor.execute(
            f"delete from ops.failing_rows where dag_run_id = {placeholder} and mart = {placeholder}",
            (dag_run_id, mart),
        )
    rows = [
        (dag_run_id, as_of_date, each.mart, each.check, each.severity, key, each.reason, found_at)
        for each in found
        for key in each.keys
    ]
    if rows:
        cursor.executemany(
            f"insert into ops.failing_rows ({', '.join(COLUMNS)}) values ({', '.join([placeholder] * len(COLUMNS))})",
            rows,
        )
    cursor.execute("commit")


def as_xcom(found: Sequence[FailingRows]) -> list[Mapping[str, Any]]:
    """Return them as a task hands them on."""
    return [
        {
            "mart": each.mart,
            "check": each.check,
            "severity": each.severity,
            "reason": each.reason,
            "keys": list(each.keys),
        }
        for each in found
    ]
