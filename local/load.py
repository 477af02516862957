"""Load a user's own customers and transactions in place of the sources: `make load`.

Which columns a file must have stands in dbt's sources.yml; others may be absent and come out NULL, except that
transactions without a status count as approved, and without ingested_at as delivered now. Columns of other names are
ignored.

Everything is read into a scratch database and checked there; the warehouse is touched once all of it holds.
"""

from __future__ import annotations

import csv
import datetime
import difflib
import gzip
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import duckdb

from include.customer_360.as_of_date import last_complete_business_day
from include.customer_360.settings import Settings, SettingsError, load_settings
from local.sources import (
    CUSTOMERS,
    TRANSACTIONS,
    Column,
    SourceTable,
    WarehouseError,
    attach_warehouse,
    connect_beside,
    remember_source_load,
    says_no_room,
    warehouse_transaction,
)

_EXTENSIONS = (".csv", ".csv.gz", ".parquet")

# How a delivered text becomes a value of a type (NULL when it is none), and what to call that type in an error.
# Dates and times are taken as written: an offset from UTC is not converted.
_CASTS = {
    "varchar": ("{text}", "a text"),
    "integer": (
        r"case when regexp_full_match({text}, '[+-]?\d+(\.0*)?') then try_cast({text} as integer) end",
        "a whole number",
    ),
    "decimal(18,2)": ("try_cast({text} as decimal(18,2))", "a number"),
    "boolean": ("try_cast({text} as boolean)", "true or false"),
    "date": (
        r"case when regexp_matches({text}, '^\d{{4}}-\d{{2}}-\d{{2}}') then try_cast({text} as date) end",
        "a date (YYYY-MM-DD)",
    ),
    "timestamp": (
        r"case when regexp_matches({text}, '^\d{{4}}-\d{{2}}-\d{{2}}') then try_cast({text} as timestamp) end",
        "a timestamp (YYYY-MM-DD HH:MM:SS)",
    ),
}

_FILLED_IN = {"status": "approved", "ingested_at": "now"}

# Everything that is made from the sources: facts, card history and marts of other customers must not outlive them.
_DERIVED_SCHEMAS = """
select schema_name from information_schema.schemata
where
    catalog_name = 'warehouse'
    and (
        schema_name in ('staging', 'core', 'intermediate', 'marts', 'snapshots')
        or starts_with(schema_name, 'marts_run_')
    )
order by schema_name
"""
_DERIVED_OPS_TABLES = """
select 'ops.' || table_name from information_schema.tables
where table_catalog = 'warehouse' and table_schema = 'ops' and table_name not in ('source_loads', 'warehouse')
order by table_name
"""


class LoadError(ValueError):
    """A file cannot be loaded; the message names the file, the column and the first value that does not fit."""


@dataclass(frozen=True)
class LoadedFile:
    """What came out of one file: its rows, the columns it lacks and those nobody asked for."""

    source: str
    rows: int
    absent: tuple[str, ...]
    ignored: tuple[str, ...]


@dataclass(frozen=True)
class LoadSummary:
    """What a load did; the dates are None when no transaction has one."""

    customers: LoadedFile
    transactions: LoadedFile
    dropped: tuple[str, ...]
    first_date: datetime.date | None
    last_date: datetime.date | None


@dataclass(frozen=True)
class _Delivery:
    """A file read into the scratch database, as one table of texts with the source table's name and columns."""

    table: SourceTable
    source: str
    absent: tuple[str, ...]
    ignored: tuple[str, ...]


def load_sources(settings: Settings, customers_file: str, transactions_file: str) -> LoadSummary:
    """Replace the sources by two files, and drop what was made from the earlier ones, in one transaction.

    Each file is a path or an ObjectStoragePath URI of a CSV, CSV.gz or Parquet file. After an error the warehouse is
    as it was.

    :raises LoadError: when a file cannot be used, or the warehouse is Snowflake.
    :raises WarehouseError: when the warehouse file cannot be used.
    """
    if settings.warehouse == "snowflake":
        raise LoadError(
            "Files are loaded into the embedded warehouse only, and WAREHOUSE is snowflake. Fill RAW.CUSTOMERS and "
            "RAW.TRANSACTIONS there with your ingestion, or set WAREHOUSE=duckdb."
        )
    with tempfile.TemporaryDirectory(prefix="customer_360_load_") as folder:
        scratch = Path(folder)
        database = scratch / "delivered.duckdb"
        with connect_beside(settings.warehouse_file, settings.warehouse_memory, database) as connection:
            # Parquet's times with a zone become text in UTC, whatever zone this machine is in.
            connection.execute("set TimeZone = 'UTC'")
            customers = _read(connection, CUSTOMERS, customers_file, scratch)
            transactions = _read(connection, TRANSACTIONS, transactions_file, scratch)
            for delivery in (customers, transactions):
                _check_types(connection, delivery)
            _check_customer_ids(connection, customers)
            _check_amounts(connection, transactions)
            attach_warehouse(connection, settings.warehouse_file, settings.warehouse_lock_wait)
            return _replace_sources(connection, settings.warehouse_file, customers, transactions)


def _read(connection: duckdb.DuckDBPyConnection, table: SourceTable, source: str, scratch: Path) -> _Delivery:
    extension = next((known for known in _EXTENSIONS[::-1] if source.lower().endswith(known)), None)
    if extension is None:
        raise LoadError(f"{source}: unsupported kind of file. Give one that ends in {', '.join(_EXTENSIONS)}.")
    # A plain name in the scratch folder: DuckDB would take * and [ in a path for a pattern.
    file = scratch / f"{table.name}{extension}"
    _fetch(source, file)
    try:
        if extension == ".parquet":
            described = connection.execute(f"describe select * from read_parquet('{file}')").fetchall()
            found = [name for name, *_ in described]
            expressions = ['"{}"'.format(name.replace('"', '""')) for name in found]
            scan = f"read_parquet('{file}')"
        else:
            found = _csv_header(file, source)
            expressions = [f"column_{position}" for position in range(len(found))]
            columns = ", ".join(f"'{name}': 'varchar'" for name in expressions)
            # Nothing is guessed from the content.
            scan = (
                f"read_csv('{file}', header=true, delim=',', quote='\"', escape='\"', auto_detect=false, "
                f"columns={{{columns}}})"
            )
        delivery, positions = _match_columns(table, source, found)
        texts = ", ".join(
            f"nullif(trim(cast({expressions[positions[column.name]]} as varchar)), '') as {column.name}"
            if column.name in positions
            else f"cast(null as varchar) as {column.name}"
            for column in table.columns
        )
        connection.execute(f"create table {table.name} as select {texts} from {scan}")
    except duckdb.Error as error:
        if says_no_room(str(error)):
            raise WarehouseError(
                f"{source}: there is no room for its rows: {error}\nThey are read into {scratch.parent} first: "
                "free space there, or have TMPDIR name another folder. The warehouse was left as it was."
            ) from error
        raise LoadError(f"{source}: cannot be read as {extension[1:]}. {_first_words(error)}") from error
    if connection.execute(f"select count(*) from {table.name}").fetchall() == [(0,)]:
        raise LoadError(f"{source}: the file is empty: it has a header and no rows.")
    return delivery


def _fetch(source: str, file: Path) -> None:
    if "://" not in source:
        local = Path(source).expanduser().resolve()
        if not local.is_file():
            raise LoadError(
                f"{source}: no such file{' (it is a folder)' if local.is_dir() else ''}. Looked at {local}."
            )
        file.symlink_to(local)
    else:
        _download(source, file)
    if not file.stat().st_size:
        raise LoadError(f"{source}: the file is empty (0 bytes).")


def _download(uri: str, file: Path) -> None:
    # Imported here: starting Airflow takes seconds, and a local path needs none of it.
    from airflow.sdk import ObjectStoragePath

    try:
        with ObjectStoragePath(uri).open("rb") as remote, file.open("wb") as local:
            shutil.copyfileobj(remote, local)
    except FileNotFoundError as error:
        raise LoadError(f"{uri}: no such file.") from error
    except Exception as error:  # every storage client has exceptions of its own
        raise LoadError(
            f"{uri}: cannot be fetched: {error}. Check the address, that the storage's provider is installed, and its "
            "Airflow connection."
        ) from error


def _csv_header(file: Path, source: str) -> list[str]:
    opened = gzip.open if file.suffix == ".gz" else open
    try:
        with opened(file, "rt", encoding="utf-8-sig", newline="") as text:
            header = next(csv.reader(text), [])
    except UnicodeDecodeError as error:
        raise LoadError(f"{source}: is not UTF-8 text ({error.reason}). Save it as UTF-8.") from error
    except (OSError, EOFError, csv.Error) as error:
        raise LoadError(f"{source}: cannot be read: {error}.") from error
    if not any(name.strip() for name in header):
        raise LoadError(f"{source}: the file is empty: its first line holds no column names.")
    return header


def _match_columns(table: SourceTable, source: str, found: list[str]) -> tuple[_Delivery, dict[str, int]]:
    """Return the delivery, and the position in the file of each column of the table that the file has."""
    known = {column.name for column in table.columns}
    positions: dict[str, int] = {}
    for position, name in enumerate(found):
        key = name.strip().lower()
        if key in positions and key in known:
            raise LoadError(
                f"{source}: column {key} stands there twice, in positions {positions[key] + 1} and {position + 1}."
            )
        positions[key] = position
    ignored = [key for key in positions if key and key not in known]
    absent = [column for column in table.columns if column.name not in positions]
    for column in absent:
        # An optional column may be absent, so only a name that is all but the same counts as a misspelling.
        close = difflib.get_close_matches(column.name, ignored, n=1, cutoff=0.4 if column.required else 0.88)
        hint = f" Is it {close[0]}? Rename that column to {column.name}." if close else ""
        if column.required:
            raise LoadError(f"{source}: column {column.name} is missing.{hint} Columns found: {', '.join(found)}.")
        if close:
            raise LoadError(f"{source}: column {close[0]} looks like a misspelt {column.name}: rename or remove it.")
    return _Delivery(table, source, tuple(column.name for column in absent), tuple(ignored)), positions


def _first_words(error: duckdb.Error) -> str:
    """Return what DuckDB says is wrong, without its advice on its own options."""
    lines = str(error).split("\nPossible")[0].splitlines()
    return " ".join(line.strip() for line in lines if line.strip())


def _check_types(connection: duckdb.DuckDBPyConnection, delivery: _Delivery) -> None:
    typed = [column for column in delivery.table.columns if column.type != "varchar"]
    first_misfits = ", ".join(
        f"min(rowid) filter ({column.name} is not null and {_cast(column)} is null)" for column in typed
    )
    [rows] = connection.execute(f"select {first_misfits} from {delivery.table.name}").fetchall()
    for column, row in zip(typed, rows, strict=True):
        if row is not None:
            value = _value(connection, delivery.table, column.name, row)
            raise LoadError(
                f"{delivery.source}: column {column.name}, row {row + 1} (the header not counted): {value!r} is not "
                f"{_CASTS[column.type][1]}."
            )


def _check_customer_ids(connection: duckdb.DuckDBPyConnection, customers: _Delivery) -> None:
    [(row,)] = connection.execute("select min(rowid) from customers where customer_id is null").fetchall()
    if row is not None:
        raise LoadError(
            f"{customers.source}: column customer_id, row {row + 1} (the header not counted): it is blank, and every "
            "customer needs one."
        )
    repeated = connection.execute(
        """
        select customer_id, min(rowid) + 1 as first_row, min(rowid, 2)[2] + 1 as second_row
        from customers group by customer_id having count(*) > 1 order by second_row limit 1
        """
    ).fetchone()
    if repeated:
        raise LoadError(
            f"{customers.source}: column customer_id: {repeated[0]!r} stands in rows {repeated[1]} and {repeated[2]} "
            "(the header not counted). Give each customer one row."
        )


def _check_amounts(connection: duckdb.DuckDBPyConnection, transactions: _Delivery) -> None:
    """A few amounts that are no numbers are rejected one by one later; most of them make it a wrong column."""
    [(given, misfits, row)] = connection.execute(
        """
        select count(transaction_amount), count(*) filter (is_misfit), min(row) filter (is_misfit)
        from (
            select
                rowid as row,
                transaction_amount,
                transaction_amount is not null and try_cast(transaction_amount as decimal(18,2)) is null as is_misfit,
            from transactions
        )
        """
    ).fetchall()
    if misfits * 2 > given:
        value = _value(connection, TRANSACTIONS, "transaction_amount", row)
        raise LoadError(
            f"{transactions.source}: column transaction_amount: {misfits} of {given} values are not a number, the "
            f"first in row {row + 1} (the header not counted): {value!r}. Write amounts like 1234.50."
        )


def _value(connection: duckdb.DuckDBPyConnection, table: SourceTable, column: str, row: int) -> str:
    [(value,)] = connection.execute(f"select {column} from {table.name} where rowid = ?", [row]).fetchall()
    return value


def _cast(column: Column) -> str:
    return _CASTS[column.type][0].format(text=column.name)


def _replace_sources(
    connection: duckdb.DuckDBPyConnection, warehouse_file: Path, customers: _Delivery, transactions: _Delivery
) -> LoadSummary:
    loaded_at = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    defaults = {"ingested_at": f"timestamp '{loaded_at}'"}
    if "status" in transactions.absent:
        defaults["status"] = f"'{_FILLED_IN['status']}'"
    with warehouse_transaction(connection, warehouse_file):
        schemas = [name for (name,) in connection.execute(_DERIVED_SCHEMAS).fetchall()]
        ops_tables = [name for (name,) in connection.execute(_DERIVED_OPS_TABLES).fetchall()]
        for schema in schemas:
            connection.execute(f'drop schema warehouse."{schema}" cascade')
        for ops_table in ops_tables:
            connection.execute(f"drop table warehouse.{ops_table}")
        connection.execute("create schema if not exists warehouse.raw")
        for table in (CUSTOMERS, TRANSACTIONS):
            values = ", ".join(
                f"coalesce({_cast(column)}, {defaults[column.name]})" if column.name in defaults else _cast(column)
                for column in table.columns
            )
            connection.execute(f"create or replace table warehouse.raw.{table.name} ({table.column_definitions})")
            connection.execute(f"insert into warehouse.raw.{table.name} select {values} from {table.name}")
        counts = remember_source_load(
            connection,
            "files",
            customers_source=customers.source,
            transactions_source=transactions.source,
            loaded_at=loaded_at,
        )
        [(first_date, last_date)] = connection.execute(
            "select min(transaction_date), max(transaction_date) from warehouse.raw.transactions"
        ).fetchall()
    loaded_customers, loaded_transactions = (
        LoadedFile(delivery.source, rows, delivery.absent, delivery.ignored)
        for delivery, rows in zip((customers, transactions), counts, strict=True)
    )
    return LoadSummary(loaded_customers, loaded_transactions, (*schemas, *ops_tables), first_date, last_date)


def describe(summary: LoadSummary, warehouse_file: Path, moment: datetime.datetime) -> str:
    """Return what a load did, and the command to run next, as lines to print; `moment` (with a time zone) is now."""
    lines = [f"Loaded into {warehouse_file}:"]
    for name, loaded in (("customers", summary.customers), ("transactions", summary.transactions)):
        lines.append(f"  {name}: {loaded.rows:,} rows from {loaded.source}")
        nulls = [column for column in loaded.absent if column not in _FILLED_IN]
        filled = [f"{column} ({_FILLED_IN[column]})" for column in loaded.absent if column in _FILLED_IN]
        if nulls:
            lines.append(f"    not in the file, so NULL: {', '.join(nulls)}")
        if filled:
            lines.append(f"    not in the file, so filled in: {', '.join(filled)}")
        if loaded.ignored:
            lines.append(f"    ignored columns: {', '.join(loaded.ignored)}")
    lines.append(f"Dropped, made from the earlier sources: {', '.join(summary.dropped) or 'nothing'}")
    if summary.last_date is None:
        lines.append("No transaction has a date, so every one will be rejected.")
        return "\n".join(lines)
    as_of_date = min(summary.last_date, last_complete_business_day(moment))
    lines.append(f"Transaction dates: {summary.first_date} to {summary.last_date}")
    lines.append(f"Next: AS_OF_DATE={as_of_date} make refresh")
    return "\n".join(lines)


def main() -> int:
    """Load the files that CUSTOMERS_FILE and TRANSACTIONS_FILE name; return the exit code."""
    try:
        settings = load_settings()
        files = [os.environ.get(name, "") for name in ("CUSTOMERS_FILE", "TRANSACTIONS_FILE")]
        if not all(files):
            raise LoadError(  # noqa: TRY301
                "Say which files: make load CUSTOMERS_FILE=customers.csv TRANSACTIONS_FILE=transactions.csv "
                f"(paths or URIs, {', '.join(_EXTENSIONS)})."
            )
        summary = load_sources(settings, *files)
    except (LoadError, WarehouseError, SettingsError) as error:
        print(error, file=sys.stderr)
        return 1
    print(describe(summary, settings.warehouse_file, datetime.datetime.now(datetime.UTC)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
