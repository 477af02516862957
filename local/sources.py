"""The source tables of schema raw: their columns, and the embedded warehouse they are written to."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import duckdb


class WarehouseError(RuntimeError):
    """The warehouse file cannot be used; the message names it and says what to do."""


@dataclass(frozen=True)
class Column:
    """A column of a source table: its name, its DuckDB type, and whether a user's file must have it."""

    name: str
    type: str
    required: bool = False


@dataclass(frozen=True)
class SourceTable:
    """A table of schema raw."""

    name: str
    columns: tuple[Column, ...]

    @property
    def column_definitions(self) -> str:
        """The columns as they stand between the brackets of `create table`."""
        return ", ".join(f"{column.name} {column.type}" for column in self.columns)


CUSTOMERS = SourceTable(
    "customers",
    (
        Column("customer_id", "varchar", required=True),
        Column("first_name", "varchar"),
        Column("last_name", "varchar"),
        Column("email", "varchar"),
        Column("age", "integer"),
        Column("state", "varchar"),
        Column("city", "varchar"),
        Column("employment_status", "varchar"),
        Column("card_type", "varchar"),
        Column("credit_limit", "decimal(18,2)"),
        Column("account_open_date", "date"),
        Column("marketing_opt_in", "boolean"),
        Column("updated_at", "timestamp"),
    ),
)

TRANSACTIONS = SourceTable(
    "transactions",
    (
        Column("transaction_id", "varchar", required=True),
        Column("customer_id", "varchar", required=True),
        Column("transaction_date", "date", required=True),
        # As delivered: what is no number is kept, and turned away with a reason later.
        Column("transaction_amount", "varchar", required=True),
        Column("merchant_name", "varchar"),
        Column("merchant_category", "varchar"),
        Column("channel", "varchar"),
        Column("status", "varchar"),
        Column("ingested_at", "timestamp"),
    ),
)

_SOURCE_LOADS = """
create table if not exists warehouse.ops.source_loads (
    loaded_at timestamp,
    kind varchar,
    customers_source varchar,
    transactions_source varchar,
    customers bigint,
    transactions bigint,
)
"""


def attach_warehouse(connection: duckdb.DuckDBPyConnection, warehouse_file: Path) -> None:
    """Attach the warehouse file as `warehouse`, and make the file, and its folder, when there is none.

    Attached under a fixed name, because DuckDB cannot tell a file `raw.duckdb` from the schema `raw`.

    :raises WarehouseError: when the folder cannot be made, or the file is in use or is no DuckDB file.
    """
    try:
        warehouse_file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WarehouseError(
            f"The folder of the warehouse, {warehouse_file.parent}, cannot be made: {error.strerror}. "
            "Set WAREHOUSE_FILE to a file in a folder that you may write to."
        ) from error
    quoted_file = str(warehouse_file).replace("'", "''")
    try:
        connection.execute(f"attach '{quoted_file}' as warehouse")
    except duckdb.Error as error:
        raise WarehouseError(_why_not_opened(warehouse_file, str(error))) from error


def _why_not_opened(warehouse_file: Path, message: str) -> str:
    if "lock" in message or "already attached" in message:
        return (
            f"The warehouse {warehouse_file} is in use by another program. Stop Airflow (make down, or Ctrl-C in "
            f"`make up`) or close the other program, then try again. DuckDB says: {message}"
        )
    if "not a valid DuckDB database" in message:
        return (
            f"{warehouse_file} is not a DuckDB file: set WAREHOUSE_FILE to another name, or move that file away. "
            "It was not touched."
        )
    return f"The warehouse {warehouse_file} cannot be opened: {message}"


@contextmanager
def warehouse_transaction(connection: duckdb.DuckDBPyConnection, warehouse_file: Path) -> Iterator[None]:
    """Run the body as one transaction on the attached warehouse.

    All of it is kept, or nothing: after an error the transaction ends, undone, when the caller closes the connection.

    :raises WarehouseError: when DuckDB cannot carry it out.
    """
    try:
        connection.execute("begin")
        yield
        connection.execute("commit")
    except duckdb.Error as error:
        raise WarehouseError(
            f"Writing to the warehouse {warehouse_file} failed, so it was left as it was: {error}"
        ) from error


def remember_source_load(
    connection: duckdb.DuckDBPyConnection,
    kind: Literal["sample", "files"],
    *,
    customers_source: str,
    transactions_source: str,
    loaded_at: datetime.datetime,
) -> tuple[int, int]:
    """Write a row of ops.source_loads for what raw holds now; return the rows of customers and of transactions."""
    connection.execute("create schema if not exists warehouse.ops")
    connection.execute(_SOURCE_LOADS)
    [(customers, transactions)] = connection.execute(
        """
        insert into warehouse.ops.source_loads
        select
            ?, ?, ?, ?,
            (select count(*) from warehouse.raw.customers),
            (select count(*) from warehouse.raw.transactions)
        returning customers, transactions
        """,
        [loaded_at, kind, customers_source, transactions_source],
    ).fetchall()
    return customers, transactions
