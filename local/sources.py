"""The source tables of schema raw, as dbt's sources.yml has them, and the embedded warehouse they are written to."""

from __future__ import annotations

import datetime
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb
import yaml

from include.customer_360.duckdb_file import DuckDBFileError, open_when_free, path_literal, what_damage_asks_for
from include.customer_360.settings import DBT_PROJECT

SOURCES_YML = DBT_PROJECT / "models" / "staging" / "sources.yml"


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


def _source_tables() -> dict[str, SourceTable]:
    """Read the tables of source raw from dbt's yml, by name.

    :raises KeyError: when a column has no data_type.
    """
    described = yaml.safe_load(SOURCES_YML.read_text(encoding="utf-8"))
    (raw,) = (source for source in described["sources"] if source["name"] == "raw")
    return {table["name"]: SourceTable(table["name"], _columns(table)) for table in raw["tables"]}


def _columns(table: dict[str, Any]) -> tuple[Column, ...]:
    return tuple(
        Column(
            column["name"],
            # As DuckDB spells decimal(18, 2).
            column["data_type"].replace(" ", ""),
            required=column.get("config", {}).get("meta", {}).get("required", False),
        )
        for column in table["columns"]
    )


_TABLES = _source_tables()
CUSTOMERS = _TABLES["customers"]
TRANSACTIONS = _TABLES["transactions"]

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


def connect_beside(
    warehouse_file: Path, memory: str, database: Path | Literal[":memory:"] = ":memory:"
) -> duckdb.DuckDBPyConnection:
    """Return a connection to `database` that keeps to `memory` and spills beside the warehouse file, as dbt does.

    :param memory: a size or a share of the machine, as WAREHOUSE_MEMORY has it.
    """
    # DuckDB's own folder for this would be ./.tmp, or beside the scratch file on a disk that may be a memory disk.
    return duckdb.connect(database, config={"memory_limit": memory, "temp_directory": f"{warehouse_file}.tmp"})


def attach_warehouse(
    connection: duckdb.DuckDBPyConnection,
    warehouse_file: Path,
    lock_wait: float = 0,
    read_only: bool = False,
) -> None:
    """Attach the warehouse file as `warehouse`, and unless it is only read make it, and its folder, when there is none.

    Attached under a fixed name, because DuckDB cannot tell a file `raw.duckdb` from the schema `raw`.

    :param lock_wait: how long to wait while another program has the file open, in seconds; who has it is printed.
    :param read_only: nothing is written, so that others may read beside it.
    :raises WarehouseError: when the folder cannot be made, or the file is missing, in use, damaged or no DuckDB file.
    """
    if not read_only:
        try:
            warehouse_file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WarehouseError(
                f"The folder of the warehouse, {warehouse_file.parent}, cannot be made: {error.strerror}. "
                "Set WAREHOUSE_FILE to a file in a folder that you may write to."
            ) from error
    statement = f"attach {path_literal(warehouse_file)} as warehouse{' (read_only)' if read_only else ''}"
    try:
        open_when_free(
            lambda: connection.execute(statement), warehouse_file, lock_wait, print_at_once, make=not read_only
        )
    except DuckDBFileError as error:
        raise WarehouseError(str(error)) from error


def print_at_once(text: str) -> None:
    """Print a line on standard error, while what it is about goes on."""
    print(text, file=sys.stderr, flush=True)


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
            f"{what_no_room_asks_for(str(error), warehouse_file)}{what_damage_asks_for(str(error), warehouse_file)}"
        ) from error


def says_no_room(message: str) -> bool:
    """Tell whether a message of DuckDB says that disk or memory ran out."""
    no_room = "No space left|File too large|Disk quota exceeded|failed to (offload|allocate|pin)"
    return re.search(no_room, message) is not None


def what_no_room_asks_for(message: str, warehouse_file: Path) -> str:
    """Return what to do when a message of DuckDB says that disk or memory ran out, as a line below it; else nothing."""
    if not says_no_room(message):
        return ""
    return (
        f"\nFree space in {warehouse_file.parent}: {warehouse_file.name} needs it, and {warehouse_file.name}.tmp, "
        "where DuckDB puts what does not fit into memory. Or name a file on another disk (WAREHOUSE_FILE), or "
        "give it more memory (WAREHOUSE_MEMORY). Then start again: nothing that was there is lost."
    )


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
