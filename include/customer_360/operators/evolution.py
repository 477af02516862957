"""Tables that outlive the code that made them: which columns they have, and how they get what was added since."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from airflow.sdk.exceptions import AirflowFailException

from include.customer_360.ops_tables import ops_columns

Columns = Mapping[str, str]
"""A table's columns in order: type by name, in lower case."""


class ColumnsChanged(AirflowFailException):
    """A table has a column that its new rows lack, or has it as another type. Trying again changes nothing."""


def columns_in(cursor: Any, schema: str) -> dict[str, dict[str, str]]:  # noqa: ANN401 - DB-API
    """Return the columns of every table of a schema, by table."""
    cursor.execute(
        "select lower(table_name), lower(column_name), lower(data_type), numeric_precision, numeric_scale "
        f"from information_schema.columns where lower(table_schema) = '{schema.lower()}' "
        "order by table_name, ordinal_position"
    )
    tables: dict[str, dict[str, str]] = {}
    for table, column, data_type, precision, scale in cursor.fetchall():
        with_digits = data_type in ("number", "decimal", "numeric") and precision is not None
        tables.setdefault(table, {})[column] = f"decimal({precision}, {scale})" if with_digits else data_type
    return tables


def same_type(one: str, other: str) -> bool:
    """Tell whether two names of a type mean the same, on DuckDB or on Snowflake."""
    return _family(one) == _family(other)


def _family(data_type: str) -> str:
    name = re.sub(r"\s", "", data_type.lower())
    if name.startswith(("varchar", "text", "string", "charactervarying")):
        return "text"
    if name.startswith(("timestamp", "datetime")):
        return "timestamp"
    if name in ("bigint", "integer", "int", "hugeint", "decimal(38,0)", "number(38,0)"):
        return "integer"
    if name in ("double", "float", "doubleprecision", "real"):
        return "double"
    return name.replace("number(", "decimal(").replace("numeric(", "decimal(")


def refuse_changed(table: str, there: Columns, wanted: Columns, drops: str) -> None:
    """Do nothing where every column of a table is wanted, with its type.

    :param drops: what to do about a column that is not wanted any more.
    :raises ColumnsChanged: naming each column that is not.
    """
    gone = [
        f"column {column} ({data_type}) is not built any more"
        for column, data_type in there.items()
        if column not in wanted
    ]
    retyped = [
        f"column {column} is {there[column]} there and {data_type} now"
        for column, data_type in wanted.items()
        if column in there and not same_type(there[column], data_type)
    ]
    if gone or retyped:
        raise ColumnsChanged(
            f"{table} keeps what earlier runs wrote, and nothing was written: {'; '.join([*gone, *retyped])}. {drops}"
        )


def add_missing(cursor: Any, table: str, there: Columns, wanted: Columns) -> list[str]:  # noqa: ANN401 - DB-API
    """Add the columns that a table lacks, NULL in the rows it has; return their names."""
    added = [column for column in wanted if column not in there]
    for column in added:
        cursor.execute(f"alter table {table} add column if not exists {column} {wanted[column]}")
    return added


def make_ops_tables(cursor: Any, statements: Iterable[str]) -> None:  # noqa: ANN401 - DB-API
    """Make the tables of schema ops, and give those of an older warehouse what was added since.

    :param statements: of publish/ops_tables.sql.
    :raises ColumnsChanged: when one of them has a column as another type.
    """
    for statement in statements:
        cursor.execute(statement)
    there = columns_in(cursor, "ops")
    for table, columns in ops_columns().items():
        # A measure that no mart watches any more keeps its column.
        shared = {column: data_type for column, data_type in there[table].items() if column in columns}
        refuse_changed(f"ops.{table}", shared, columns, "Rename that table, and this task makes a new one.")
        add_missing(cursor, f"ops.{table}", shared, columns)
