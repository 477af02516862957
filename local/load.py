"""Load a user's own customers and transactions in place of the sources: `make load`.

Transactions without a status count as approved, and those without ingested_at as delivered now; without source_row they
are numbered. Everything is read into a scratch database and checked there; the warehouse is touched once all of it
holds. What a build rejects row by row is loaded, and foretold in the report.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from include.customer_360.as_of_date import last_complete_business_day
from include.customer_360.dbt_vars import dbt_vars
from include.customer_360.settings import Settings, SettingsError, load_settings
from local.dbt_sql import expression
from local.delivered_file import EXTENSIONS, Delivery, LoadError, read_file, shortened
from local.load_report import DayRows, TransactionsReport, UnknownNames, report_transactions, sort_days
from local.sources import (
    CUSTOMERS,
    TRANSACTIONS,
    Column,
    SourceTable,
    WarehouseError,
    attach_warehouse,
    connect_beside,
    remember_source_load,
    warehouse_transaction,
    what_no_room_asks_for,
)


def _whole_number(data_type: str) -> Callable[[str], str]:
    return lambda text: (
        rf"case when regexp_full_match({text}, '[+-]?\d+(\.0*)?') then try_cast({text} as {data_type}) end"
    )


def _timestamp(text: str) -> str:
    """A time with a zone becomes one in UTC, which the session's zone is; one without stays as it is written.

    In parentheses DuckDB would read years before Christ.
    """
    return (
        rf"case when regexp_full_match({text}, '\d{{4}}-\d{{2}}-\d{{2}}[^(]*') "
        f"then cast(try_cast({text} as timestamptz) as timestamp) end"
    )


# How a delivered text becomes a value of a type (NULL when it is none), and what to call that type in an error.
_CASTS: dict[str, tuple[Callable[[str], str], str]] = {
    "varchar": (lambda text: text, "a text"),
    "integer": (_whole_number("integer"), "a whole number"),
    "bigint": (_whole_number("bigint"), "a whole number"),
    "decimal(18,2)": (lambda text: expression("amount_of", text), "a number"),
    "boolean": (lambda text: f"try_cast({text} as boolean)", "true or false"),
    "date": (lambda text: expression("date_of_text", text), "a date (YYYY-MM-DD)"),
    "timestamp": (_timestamp, "a timestamp (YYYY-MM-DD HH:MM:SS)"),
}

# Values of these columns that do not fit are rejected row by row in the build, unless most do not: is it one, and what
# to call and how to write it.
_REJECTED_BY_ROW = {
    "transaction_date": ("transaction_day is null", "a date", "dates like 2026-03-31 (YYYY-MM-DD)"),
    "transaction_amount": (
        f"{expression('amount_of', 'transaction_amount')} is null "
        f"and not {expression('matches', 'transaction_amount', expression('number_pattern'))}",
        "a number",
        "amounts like 1234.50",
    ),
}

_FILLED_IN = {"status": "approved", "ingested_at": "now", "source_row": "the row's number"}

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
where
    table_catalog = 'warehouse'
    and table_schema = 'ops'
    and table_name not in ('source_loads', 'suppressions', 'warehouse', 'screens_log')
order by table_name
"""


@dataclass(frozen=True)
class LoadedFile:
    """What came out of one file: its rows, the columns it lacks and those nobody asked for."""

    source: str
    rows: int
    absent: tuple[str, ...]
    ignored: tuple[str, ...]


@dataclass(frozen=True)
class LoadSummary:
    """What a load did, and what a build will make of the transactions."""

    customers: LoadedFile
    transactions: LoadedFile
    dropped: tuple[str, ...]
    report: TransactionsReport


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
    loaded_at = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    with tempfile.TemporaryDirectory(prefix="customer_360_load_") as folder:
        scratch = Path(folder)
        database = scratch / "delivered.duckdb"
        with connect_beside(settings.warehouse_file, settings.warehouse_memory, database) as connection:
            # Parquet's times with a zone become text in UTC, whatever zone this machine is in.
            connection.execute("set TimeZone = 'UTC'")
            customers = read_file(connection, CUSTOMERS, customers_file, scratch)
            transactions = read_file(connection, TRANSACTIONS, transactions_file, scratch)
            try:
                for delivery in (customers, transactions):
                    _check_texts(connection, delivery)
                tables = [_check_types(connection, delivery) for delivery in (customers, transactions)]
                _check_customer_ids(connection, customers)
                for delivery, table in zip((customers, transactions), tables, strict=True):
                    _create_typed_view(connection, delivery, table, loaded_at)
                report = report_transactions(connection, _typed(TRANSACTIONS), _typed(CUSTOMERS), tables[1])
            except duckdb.Error as error:
                raise WarehouseError(
                    f"Checking the files failed, and the warehouse was left as it was: {error}"
                    f"{what_no_room_asks_for(str(error), settings.warehouse_file)}"
                ) from error
            attach_warehouse(connection, settings.warehouse_file, settings.warehouse_lock_wait)
            dropped = _replace_sources(
                connection, settings.warehouse_file, tables, (customers, transactions), loaded_at
            )
            # The warehouse first: a load that fails leaves readers what they had.
            for copy in (settings.published_file, settings.published_personal_file):
                if copy.exists():
                    copy.unlink()
                    dropped = (*dropped, str(copy))
            return LoadSummary(_loaded(connection, customers), _loaded(connection, transactions), dropped, report)


def _check_texts(connection: duckdb.DuckDBPyConnection, delivery: Delivery) -> None:
    """Refuse NUL bytes, which make two ids that look the same differ, and end a text for many a program.

    Columns of other types need no check: a value with one is no number and no date.

    :raises LoadError: when a text has one.
    """
    texts = [
        column.name
        for column in delivery.table.columns
        if column.type == "varchar" and column.name not in (*_REJECTED_BY_ROW, *delivery.absent)
    ]
    firsts = ", ".join(f"min(rowid) filter (contains({name}, chr(0)))" for name in texts)
    [rows] = connection.execute(f"select {firsts} from {delivery.table.name}").fetchall()
    for name, row in zip(texts, rows, strict=True):
        if row is not None:
            raise LoadError(
                f"{delivery.source}: column {name}, row {row + 1} (the header not counted): "
                f"{_value(connection, delivery.table, name, row)} holds a NUL byte. Write the file without."
            )


def _check_types(connection: duckdb.DuckDBPyConnection, delivery: Delivery) -> SourceTable:
    """Return the table as raw is going to have it: transaction_date is a text where not each given one is a date.

    :raises LoadError: when a value does not fit, or most of those of a column that is rejected row by row do not.
    """
    checked = [
        column
        for column in delivery.table.columns
        if column.name not in delivery.absent and (column.type != "varchar" or column.name in _REJECTED_BY_ROW)
    ]
    aggregates = []
    for column in checked:
        is_none = _REJECTED_BY_ROW[column.name][0] if column.name in _REJECTED_BY_ROW else f"{_cast(column)} is null"
        misfit = f"{column.name} is not null and {is_none}"
        aggregates.append(f"(min(rowid) filter ({misfit}), count(*) filter ({misfit}), count({column.name}))")
    if not checked:
        return delivery.table
    [counts] = connection.execute(f"select {', '.join(aggregates)} from {delivery.table.name}").fetchall()
    columns = list(delivery.table.columns)
    for column, (row, misfits, given) in zip(checked, counts, strict=True):
        if row is None:
            continue
        where = f"{delivery.source}: column {column.name}"
        value = _value(connection, delivery.table, column.name, row)
        if column.name not in _REJECTED_BY_ROW:
            raise LoadError(
                f"{where}, row {row + 1} (the header not counted): {value} is not {_CASTS[column.type][1]}."
            )
        _, wanted, spelling = _REJECTED_BY_ROW[column.name]
        if misfits * 2 > given:
            raise LoadError(
                f"{where}: {misfits} of {given} values are not {wanted}, the first in row {row + 1} (the header not "
                f"counted): {value}. Write {spelling}."
            )
        columns[columns.index(column)] = dataclasses.replace(column, type="varchar")
    return SourceTable(delivery.table.name, tuple(columns))


def _check_customer_ids(connection: duckdb.DuckDBPyConnection, customers: Delivery) -> None:
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


def _value(connection: duckdb.DuckDBPyConnection, table: SourceTable, column: str, row: int) -> str:
    """Return a delivered value in quotes, as an error has it."""
    [(value,)] = connection.execute(f"select {column} from {table.name} where rowid = ?", [row]).fetchall()
    return repr(shortened(value))


def _cast(column: Column) -> str:
    return _CASTS[column.type][0](column.name)


def _typed(table: SourceTable) -> str:
    return f"typed_{table.name}"


def _create_typed_view(
    connection: duckdb.DuckDBPyConnection, delivery: Delivery, table: SourceTable, loaded_at: datetime.datetime
) -> None:
    """Create the view whose rows raw is going to have; `table` has their types."""
    values = {column.name: _cast(column) for column in table.columns}
    if delivery.table is TRANSACTIONS:
        is_text = {column.name: column.type for column in table.columns}["transaction_date"] == "varchar"
        values["transaction_date"] = (
            "coalesce(cast(transaction_day as varchar), transaction_date)" if is_text else "transaction_day"
        )
        values["ingested_at"] = f"coalesce({values['ingested_at']}, timestamp '{loaded_at}')"
        if "status" in delivery.absent:
            values["status"] = f"'{_FILLED_IN['status']}'"
        if "source_row" in delivery.absent:
            values["source_row"] = "rowid + 1"
    listed = ", ".join(f"{value} as {name}" for name, value in values.items())
    connection.execute(f"create view {_typed(table)} as select {listed} from {table.name}")


def _replace_sources(
    connection: duckdb.DuckDBPyConnection,
    warehouse_file: Path,
    tables: Sequence[SourceTable],
    deliveries: tuple[Delivery, Delivery],
    loaded_at: datetime.datetime,
) -> tuple[str, ...]:
    """Write the typed rows to raw and drop what was made from the earlier ones; return what was dropped."""
    with warehouse_transaction(connection, warehouse_file):
        schemas = [name for (name,) in connection.execute(_DERIVED_SCHEMAS).fetchall()]
        ops_tables = [name for (name,) in connection.execute(_DERIVED_OPS_TABLES).fetchall()]
        for schema in schemas:
            connection.execute(f'drop schema warehouse."{schema}" cascade')
        for ops_table in ops_tables:
            connection.execute(f"drop table warehouse.{ops_table}")
        connection.execute("create schema if not exists warehouse.raw")
        for table in tables:
            connection.execute(f"create or replace table warehouse.raw.{table.name} ({table.column_definitions})")
            connection.execute(f"insert into warehouse.raw.{table.name} select * from {_typed(table)}")
        remember_source_load(
            connection,
            "files",
            customers_source=deliveries[0].source,
            transactions_source=deliveries[1].source,
            loaded_at=loaded_at,
        )
    return (*schemas, *ops_tables)


def _loaded(connection: duckdb.DuckDBPyConnection, delivery: Delivery) -> LoadedFile:
    [(rows,)] = connection.execute(f"select count(*) from {delivery.table.name}").fetchall()
    return LoadedFile(delivery.source, rows, delivery.absent, delivery.ignored)


def describe(summary: LoadSummary, warehouse_file: Path, moment: datetime.datetime) -> str:
    """Return what a load did, and the command to run next, as lines to print; `moment` (with a time zone) is now."""
    last_day = last_complete_business_day(moment)
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
        if name == "transactions":
            lines += [f"    {line}" for line in _foretold(loaded, summary.report, last_day)]
    lines.append(f"Dropped, made from the earlier sources: {', '.join(summary.dropped) or 'nothing'}")
    days = sort_days(summary.report.days, last_day)
    if not summary.report.days:
        lines.append("No transaction can be used, so every one will be rejected.")
    elif not days.usual:
        lines.append(f"No usable transaction is dated {last_day} or earlier, which is the last day that is over.")
        lines.append(f"Next: AS_OF_DATE={last_day} make refresh")
    else:
        lines.append(f"Transaction dates: {days.usual[0][0]} to {days.usual[-1][0]}")
        lines.append(f"Next: AS_OF_DATE={days.usual[-1][0]} make refresh")
    return "\n".join(lines)


def _foretold(loaded: LoadedFile, report: TransactionsReport, last_day: datetime.date) -> list[str]:
    """Return what a build will make of the transactions, the counts of the rows first."""
    rejected = sum(rows for _, rows in report.rejected)
    reasons = ", ".join(f"{rows:,} {reason}" for reason, rows in report.rejected)
    lines = [
        f"of which a refresh makes {report.accepted:,} accepted + {report.duplicates:,} duplicates + "
        f"{rejected:,} rejected{f' ({reasons})' if reasons else ''}"
    ]
    if report.rounded:
        lines.append(f"amounts with more than two decimals, which are rounded to cents: {report.rounded:,}")
    lines += _named_unknown(
        report.unknown_statuses, "statuses, which do not count", loaded.rows, "unknown_status_error_pct"
    )
    lines += _named_unknown(
        report.unknown_categories, "categories, which count as Uncategorized", loaded.rows, "unknown_category_error_pct"
    )
    days = sort_days(report.days, last_day)
    lines += _dated(days.later, f"dates after {last_day}, which count from their day on")
    lines += _dated(days.far, "dates far from the rest, which count")
    return lines


def _named_unknown(unknown: UnknownNames, what: str, rows: int, limit: str) -> list[str]:
    """Return a line on unknown names, and one more where they are more than dbt's var `limit`, in percent, allows."""
    if not unknown.rows:
        return []
    named = ", ".join(f"{shortened(name)} ({count:,})" for name, count in unknown.examples)
    more = f", and {unknown.names - len(unknown.examples):,} more" if unknown.names > len(unknown.examples) else ""
    lines = [f"unknown {what}: {unknown.rows:,} of {rows:,} rows: {named}{more}"]
    largest = dbt_vars()[limit]
    if unknown.rows * 100 > rows * largest:
        lines.append(
            f"  A refresh stops at more than {largest} % of the rows ({limit} in include/dbt/dbt_project.yml)."
        )
    return lines


def _dated(days: tuple[DayRows, ...], what: str) -> list[str]:
    if not days:
        return []
    first, last = days[0][0], days[-1][0]
    rows = sum(count for _, count in days)
    return [f"{what}: {rows:,} rows, {first}" + (f" to {last}" if last > first else "")]


def main() -> int:
    """Load the files that CUSTOMERS_FILE and TRANSACTIONS_FILE name; return the exit code."""
    try:
        settings = load_settings()
        files = [os.environ.get(name, "") for name in ("CUSTOMERS_FILE", "TRANSACTIONS_FILE")]
        if not all(files):
            raise LoadError(  # noqa: TRY301
                "Say which files: make load CUSTOMERS_FILE=customers.csv TRANSACTIONS_FILE=transactions.csv "
                f"(paths or URIs, {', '.join(EXTENSIONS)})."
            )
        summary = load_sources(settings, *files)
    except (LoadError, WarehouseError, SettingsError) as error:
        print(error, file=sys.stderr)
        return 1
    print(describe(summary, settings.warehouse_file, datetime.datetime.now(datetime.UTC)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
