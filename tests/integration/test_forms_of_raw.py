"""raw.transactions as an ingestion may have it: without source_row, dates as text, amounts beyond all sums."""

from __future__ import annotations

import shutil
from datetime import date
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from warehouse_builds import DbtBuilds

from include.customer_360.settings import Settings
from local.load import load_sources
from local.sources import CUSTOMERS, TRANSACTIONS

AS_OF_DATE = date(2026, 1, 8)
BUILD = "build --exclude-resource-type unit_test --select +core --indirect-selection cautious"
NOTHING_LOST = "test.customer_analytics.raw_equals_accepted_plus_superseded_plus_rejected"

# transaction_id, transaction_date, transaction_amount, category, status; all of C1, and arrived together.
DELIVERED = [
    ("T1", "2026-01-02", "10", " gas ", " Approved"),
    ("T2", "2026-01-02T23:30:00-05:00", "20", "GROCERY", "Settled"),
    ("T3", "2026-02-29", "30", "Pets", ""),
    ("T4", "2026-01-02", "1000000.01", "Gas", "approved"),
    ("T5", "2026-01-03", "9", "Gas", "approved"),
    ("T5", "2026-01-03", "1", "Gas", "approved"),
]


@pytest.fixture(scope="module")
def sources(dbt_builds: DbtBuilds) -> Path:
    """Sources without source_row, whose dates are text."""
    file = dbt_builds.folder / "forms_of_raw.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute("create schema raw")
        for table in (CUSTOMERS, TRANSACTIONS):
            connection.execute(f"create table raw.{table.name} ({table.column_definitions})")
        connection.execute("alter table raw.transactions drop source_row")
        connection.execute("alter table raw.transactions alter transaction_date set data type varchar")
        connection.execute("insert into raw.customers (customer_id, account_open_date) values ('C1', '2020-01-01')")
        connection.executemany(
            "insert into raw.transactions values (?, 'C1', ?, ?, 'Shop', ?, 'Online', ?, '2026-01-04 03:00:00')",
            DELIVERED,
        )
    return file


@pytest.fixture(scope="module")
def loaded(sources: Path, dbt_builds: DbtBuilds) -> Path:
    """Core as loaded from them, with its data tests."""
    (statuses,) = dbt_builds.run(sources, [BUILD], AS_OF_DATE)
    assert statuses[NOTHING_LOST] == "pass"
    assert statuses["test.customer_analytics.customer_sums_fit"] == "pass"
    return dbt_builds.warehouse.rename(dbt_builds.folder / "forms_of_raw_loaded.duckdb")


def read(file: Path, sql: str) -> list[tuple]:
    with duckdb.connect(str(file), read_only=True) as connection:
        return connection.execute(sql).fetchall()


FACT = (
    "select transaction_id, transaction_date, transaction_amount, merchant_category, status "
    "from core.fct_transactions order by all"
)
REJECTED = (
    "select transaction_id, reject_reason, raw_transaction_date, raw_transaction_amount "
    "from core.rejected_transactions order by all"
)
LOADED = [
    ("T1", date(2026, 1, 2), 10, "Gas", "approved"),
    ("T2", date(2026, 1, 2), 20, "Grocery", "settled"),
    ("T5", date(2026, 1, 3), 9, "Gas", "approved"),
]


def test_without_source_row_and_with_dates_as_text_everything_is_loaded_or_rejected(loaded: Path) -> None:
    assert read(loaded, FACT) == LOADED
    assert read(loaded, REJECTED) == [
        ("T3", "date not a date", "2026-02-29", "30"),
        ("T4", "amount above limit", "2026-01-02", "1000000.01"),
    ]


@pytest.fixture(scope="module")
def numbered(loaded: Path, dbt_builds: DbtBuilds) -> Path:
    """The same after its rows got numbers."""
    file = dbt_builds.folder / "forms_of_raw_numbered.duckdb"
    shutil.copyfile(loaded, file)
    with duckdb.connect(str(file)) as connection:
        connection.execute("alter table raw.transactions add column source_row bigint")
        connection.execute("update raw.transactions set source_row = rowid + 1")
    dbt_builds.run(file, [BUILD], AS_OF_DATE)
    return dbt_builds.warehouse.rename(file)


def test_a_table_that_gets_numbers_of_rows_is_loaded_again_by_them(numbered: Path) -> None:
    assert read(numbered, FACT) == [*LOADED[:2], ("T5", date(2026, 1, 3), 1, "Gas", "approved")]


def test_another_limit_of_amounts_loads_everything_again(numbered: Path, dbt_builds: DbtBuilds) -> None:
    dbt_builds.run(numbered, [BUILD + ' --vars {"largest_transaction_amount":15}'], AS_OF_DATE)

    assert [row[0] for row in read(dbt_builds.warehouse, FACT)] == ["T1", "T5"]
    assert [row[:2] for row in read(dbt_builds.warehouse, REJECTED)] == [
        ("T2", "amount above limit"),
        ("T3", "amount above limit"),
        ("T4", "amount above limit"),
    ]


# Of one file: its columns, and its rows with what becomes of each.
COLUMNS = "transaction_id,customer_id,transaction_date,transaction_amount,merchant_category,status"
ROWS = {
    "T1,C1,2026-01-01T03:30:00Z,12.345,GROCERY,Approved": "accepted, rounded, of 31 December",
    "T2,C1,2026-01-02,7,Pets,Settled": "a duplicate of the next: its number is lower",
    "T2,C1,2026-01-02,5,Pets,Settled": "accepted",
    "T2,C1,2026-01-02,-5,Gas,approved": "amount not positive",
    "T3,C1,2026-01-03,1_000,Gas,approved": "amount not a number",
    "T4,C1,2026-01-03,,Gas,approved": "amount missing",
    "T5,C1,2026-01-03,1e18,Gas,approved": "amount above limit",
    "T6,C1,02/01/2026,6,Gas,approved": "date not a date",
    "T7,C1,,6,Gas,approved": "date missing",
    "T8,C1,9999-12-31,6,Gas,approved": "date out of range",
    "T9,C1,2099-01-01,6,Gas,approved": "accepted",
    "T10,C2,2026-01-03,6,Gas,approved": "unknown customer",
    ",C1,2026-01-03,6,Gas,approved": "no transaction_id",
}


def test_what_the_load_of_files_foretells_is_what_a_build_makes(dbt_builds: DbtBuilds, tmp_path: Path) -> None:
    customers, transactions = tmp_path / "customers.csv", tmp_path / "transactions.csv"
    customers.write_text("customer_id\nC1\n")
    transactions.write_text("\n".join((COLUMNS, *ROWS)))
    settings = Settings(_env_file=None, warehouse_file=tmp_path / "from_files.duckdb")
    foretold = load_sources(settings, str(customers), str(transactions)).report

    (statuses,) = dbt_builds.run(settings.warehouse_file, [BUILD], AS_OF_DATE)

    assert statuses[NOTHING_LOST] == "pass"
    assert read(dbt_builds.warehouse, FACT) == [
        ("T1", date(2025, 12, 31), Decimal("12.35"), "Grocery", "approved"),
        ("T2", date(2026, 1, 2), 5, "Uncategorized", "settled"),
        ("T9", date(2099, 1, 1), 6, "Gas", "approved"),
    ]
    reasons = dict(
        read(dbt_builds.warehouse, "select reject_reason, count(*) from core.rejected_transactions group by all")
    )
    assert reasons == {becomes: 1 for becomes in ROWS.values() if not becomes.startswith(("accepted", "a duplicate"))}
    assert (foretold.accepted, foretold.duplicates, dict(foretold.rejected)) == (3, 1, reasons)
    assert (foretold.rounded, foretold.unknown_statuses.rows, foretold.unknown_categories.rows) == (1, 2, 2)


def test_a_customer_whose_sums_do_not_fit_is_named_with_the_transactions(
    loaded: Path, dbt_builds: DbtBuilds, tmp_path: Path
) -> None:
    file = tmp_path / "too_much.duckdb"
    shutil.copyfile(loaded, file)
    with duckdb.connect(str(file)) as connection:
        connection.execute(
            "insert into raw.transactions (transaction_id, customer_id, transaction_date, transaction_amount, status) "
            "select 'BIG' || lpad(cast(number as varchar), 3, '0'), 'C1', '2026-01-05', '9999999999999999.98', "
            "'approved' from range(1, 201) as numbers (number)"
        )

    with pytest.raises(RuntimeError) as failed:
        dbt_builds.run(file, [BUILD + ' --vars {"largest_transaction_amount":9999999999999999.99}'], AS_OF_DATE)

    printed = " ".join(str(failed.value).split())
    assert (
        "The sums of a customer do not fit the columns of the marts, which hold less than 10000000000 dollars. "
        "customer C1: 203 approved transactions of 2000000000001000015.01 dollars, the largest BIG001 "
        "(9999999999999999.98), BIG002 (9999999999999999.98), BIG003 (9999999999999999.98), BIG004 "
        "(9999999999999999.98), BIG005 (9999999999999999.98) and more. Have these transactions corrected at the "
        "source, or lower largest_transaction_amount in include/dbt/dbt_project.yml"
    ) in printed
    # Nothing has tried to add them up.
    assert "SKIP relation core.fct_customer_months" in printed
