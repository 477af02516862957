"""Each kind of loss, planted after a load, is named by the data test that dbt runs between the load and its ledger."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import pytest
from warehouse_builds import DbtBuilds

from local.sources import CUSTOMERS, TRANSACTIONS

NOTHING_LOST = "raw_equals_accepted_plus_superseded_plus_rejected"
AS_OF_DATE = date(2026, 1, 8)
FIRST_LOAD = "build --exclude-resource-type unit_test --exclude-resource-type test --select +core"
LOAD = "run --select stg_transaction_days fct_transactions rejected_transactions"

KEPT, TOUCHED, WITHOUT_TIME = "2026-01-02", "2026-01-03", "0001-01-01"
ALL, ACCEPTED, REJECTED = "delivered = accepted + superseded + rejected", "accepted", "rejected"
FACT, TURNED_AWAY = "core.fct_transactions", "core.rejected_transactions"

# transaction_id, amount, ingested_at. Of two rows that arrived together the greater amount wins.
FIRST_DELIVERY = [
    ("T1", "10.00", "2026-01-02 03:00:00"),
    ("T2", "20.00", "2026-01-02 03:00:00"),
    ("T3", "ten", "2026-01-02 03:00:00"),
    ("T4", "40.00", "2026-01-02 03:00:00"),
    ("T5", "1.00", "2099-01-01 03:00:00"),
]
SECOND_DELIVERY = [
    ("T4", "44.00", "2026-01-03 03:00:00"),  # supersedes a row of a day that is as it was
    ("T5", "2.00", "2026-01-03 03:00:00"),  # is superseded by one
    ("T6", "60.00", "2026-01-03 04:00:00"),
    ("T6", "61.00", "2026-01-03 03:00:00"),
    ("T7", "-7.00", "2026-01-03 03:00:00"),
    ("T7", "70.00", None),
    ("T8", "80.00", "2026-01-03 03:00:00"),
    ("T8", "80.00", "2026-01-03 03:00:00"),
    ("T9", "90.00", None),
    ("T8", "81.00", None),
    ("T10", None, None),
]


@dataclass(frozen=True)
class Loaded:
    """A warehouse after fact and rejected rows of the second delivery, before its days count as loaded."""

    file: Path
    tests: dict[str, str]
    """The data test's SQL as dbt compiles it here, by TEST_SCOPE."""

    def failures(self, scope: str, folder: Path, plants: list[str]) -> list[tuple]:
        """Return what the test finds in a copy of the warehouse with something planted, without its checksums."""
        # dbt names the database in SQL, and the database is named after its file.
        copy = folder / "warehouse.duckdb"
        shutil.copyfile(self.file, copy)
        with duckdb.connect(str(copy)) as connection:
            for sql in plants:
                connection.execute(sql)
            rows = connection.execute(self.tests[scope]).fetchall()
        return [tuple(re.sub(r", checksum \d+", "", str(value)) for value in row) for row in rows]


def insert(rows: list[tuple[str, str | None, str | None]]) -> str:
    values = [
        f"('{transaction_id}', 'C1', '2026-01-01', {literal(amount)}, 'Shop', 'Gas', 'Online', 'approved', "
        f"{literal(at)}, null)"
        for transaction_id, amount, at in rows
    ]
    return f"insert into raw.transactions values {', '.join(values)}"


def literal(value: str | None) -> str:
    return "null" if value is None else f"'{value}'"


@pytest.fixture(scope="module")
def loaded(dbt_builds: DbtBuilds) -> Loaded:
    warehouse = dbt_builds.folder / "nothing_lost.duckdb"
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("create schema raw")
        for table in (CUSTOMERS, TRANSACTIONS):
            connection.execute(f"create table raw.{table.name} ({table.column_definitions})")
        connection.execute(
            "insert into raw.customers (customer_id, first_name, last_name, age, state, city, employment_status, "
            "card_type, credit_limit, account_open_date, marketing_opt_in) "
            "values ('C1', 'Ada', 'Byron', 40, 'NY', 'Albany', 'Employed', 'Standard', 9000, '2020-01-01', true)"
        )
        connection.execute(insert(FIRST_DELIVERY))
    dbt_builds.run(warehouse, [FIRST_LOAD], AS_OF_DATE)
    with duckdb.connect(str(dbt_builds.warehouse)) as connection:
        connection.execute(insert(SECOND_DELIVERY))
    shutil.move(dbt_builds.warehouse, warehouse)
    dbt_builds.run(warehouse, [LOAD], AS_OF_DATE)
    shutil.move(dbt_builds.warehouse, warehouse)
    tests = {}
    for scope in ("touched", "everything"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TEST_SCOPE", scope)
            dbt_builds.run(warehouse, [f"compile --select {NOTHING_LOST}"], AS_OF_DATE)
        compiled = dbt_builds.target / "compiled" / "customer_analytics" / "tests" / f"{NOTHING_LOST}.sql"
        tests[scope] = compiled.read_text()
    return Loaded(warehouse, tests)


def of(table: str, transaction_id: str, /, **values: str) -> str:
    """Return an insert of the transaction's row of that table once more, with other values."""
    replaced = ", ".join(f"{value} as {column}" for column, value in values.items())
    replace = f"replace ({replaced}) " if replaced else ""
    return f"insert into {table} select * {replace}from {table} where transaction_id = '{transaction_id}'"


def in_fact(transaction_id: str, assignment: str) -> str:
    return f"update {FACT} set {assignment} where transaction_id = '{transaction_id}'"


ROW_MISSING = [
    (TOUCHED, ACCEPTED, "3 rows, 184.00 dollars", "2 rows, 124.00 dollars"),
    (TOUCHED, ALL, "7 rows, 320.00 dollars", "6 rows, 260.00 dollars"),
]
ON_TOUCHED_DAYS = [
    pytest.param([f"delete from {FACT} where transaction_id = 'T6'"], ROW_MISSING, id="missing-from-the-fact"),
    pytest.param(
        [in_fact("T6", "transaction_amount = 61, ingested_at = '2026-01-03 03:00:00'")],
        [
            (TOUCHED, ACCEPTED, "3 rows, 184.00 dollars", "3 rows, 185.00 dollars"),
            (TOUCHED, ALL, "7 rows, 320.00 dollars", "7 rows, 321.00 dollars"),
        ],
        id="superseded-row-in-place-of-the-latest",
    ),
    pytest.param(
        [in_fact("T6", "transaction_amount = 59.99")],
        [
            (TOUCHED, ACCEPTED, "3 rows, 184.00 dollars", "3 rows, 183.99 dollars"),
            (TOUCHED, ALL, "7 rows, 320.00 dollars", "7 rows, 319.99 dollars"),
        ],
        id="changed-amount",
    ),
    *(
        pytest.param(
            [in_fact("T6", assignment)],
            [(TOUCHED, ACCEPTED, "3 rows, 184.00 dollars", "3 rows, 184.00 dollars")],
            id=f"changed-{assignment.split()[0]}",
        )
        for assignment in (
            "customer_id = 'C2'",
            "transaction_date = '2026-01-02'",
            "merchant_name = null",
            "merchant_category = 'Travel'",
            "channel = 'Mobile'",
            "status = 'declined'",
            "ingested_at = '2026-01-03 04:00:01'",
        )
    ),
    pytest.param(
        [in_fact("T4", "transaction_amount = 43"), in_fact("T6", "transaction_amount = 61")],
        [(TOUCHED, ACCEPTED, "3 rows, 184.00 dollars", "3 rows, 184.00 dollars")],
        id="amount-shifted-between-two-rows-of-a-day",
    ),
    pytest.param(
        [in_fact("T6", "transaction_amount = 59"), in_fact("T9", "transaction_amount = 91")],
        [
            (WITHOUT_TIME, ACCEPTED, "2 rows, 160.00 dollars", "2 rows, 161.00 dollars"),
            (WITHOUT_TIME, ALL, "4 rows, 241.00 dollars", "4 rows, 242.00 dollars"),
            (TOUCHED, ACCEPTED, "3 rows, 184.00 dollars", "3 rows, 183.00 dollars"),
            (TOUCHED, ALL, "7 rows, 320.00 dollars", "7 rows, 319.00 dollars"),
        ],
        id="amount-shifted-between-two-days",
    ),
    pytest.param(
        [in_fact("T8", "ingested_at = null")],
        [
            (WITHOUT_TIME, ACCEPTED, "2 rows, 160.00 dollars", "3 rows, 240.00 dollars"),
            (WITHOUT_TIME, ALL, "4 rows, 241.00 dollars", "5 rows, 321.00 dollars"),
            (TOUCHED, ACCEPTED, "3 rows, 184.00 dollars", "2 rows, 104.00 dollars"),
            (TOUCHED, ALL, "7 rows, 320.00 dollars", "6 rows, 240.00 dollars"),
        ],
        id="row-on-another-day",
    ),
    pytest.param(
        [of(FACT, "T6")],
        [
            (TOUCHED, ACCEPTED, "3 rows, 184.00 dollars", "4 rows, 244.00 dollars"),
            (TOUCHED, ALL, "7 rows, 320.00 dollars", "8 rows, 380.00 dollars"),
        ],
        id="twice-in-the-fact",
    ),
    pytest.param(
        [of(FACT, "T9", transaction_amount="81", transaction_id="'T8'")],
        [
            (WITHOUT_TIME, ACCEPTED, "2 rows, 160.00 dollars", "3 rows, 241.00 dollars"),
            (WITHOUT_TIME, ALL, "4 rows, 241.00 dollars", "5 rows, 322.00 dollars"),
        ],
        id="superseded-row-beside-the-latest",
    ),
    pytest.param(
        ["delete from raw.transactions where transaction_id = 'T9'"],
        [
            (WITHOUT_TIME, ACCEPTED, "1 rows, 70.00 dollars", "2 rows, 160.00 dollars"),
            (WITHOUT_TIME, ALL, "3 rows, 151.00 dollars", "4 rows, 241.00 dollars"),
        ],
        id="raw-has-lost-what-the-fact-holds",
    ),
    pytest.param(
        ["delete from raw.transactions where transaction_id = 'T6' and transaction_amount = '61.00'"],
        [],
        id="raw-has-lost-what-was-superseded",
    ),
    pytest.param(
        [insert([("T65", "1.00", "2026-01-03 05:00:00")])],
        [
            (TOUCHED, ACCEPTED, "4 rows, 185.00 dollars", "3 rows, 184.00 dollars"),
            (TOUCHED, ALL, "8 rows, 321.00 dollars", "7 rows, 320.00 dollars"),
        ],
        id="arrived-while-the-build-ran",
    ),
    pytest.param(
        [f"delete from {TURNED_AWAY} where transaction_id = 'T7'"],
        [
            (TOUCHED, ALL, "7 rows, 320.00 dollars", "6 rows, 327.00 dollars"),
            (TOUCHED, REJECTED, "1 rows, -7.00 dollars", "no rows"),
        ],
        id="rejected-row-missing",
    ),
    pytest.param(
        [of(TURNED_AWAY, "T10")],
        [
            (WITHOUT_TIME, ALL, "4 rows, 241.00 dollars", "5 rows, 241.00 dollars"),
            (WITHOUT_TIME, REJECTED, "1 rows, 0.00 dollars", "2 rows, 0.00 dollars"),
        ],
        id="rejected-row-twice",
    ),
    pytest.param(
        [f"update {TURNED_AWAY} set reject_reason = 'date missing' where transaction_id = 'T10'"],
        [(WITHOUT_TIME, REJECTED, "1 rows, 0.00 dollars", "1 rows, 0.00 dollars")],
        id="rejected-for-another-reason",
    ),
    pytest.param(
        [of(FACT, "T6", transaction_amount="-7", transaction_id="'T7'", ingested_at="timestamp '2026-01-03 03:00:00'")],
        [
            (TOUCHED, ACCEPTED, "3 rows, 184.00 dollars", "4 rows, 177.00 dollars"),
            (TOUCHED, ALL, "7 rows, 320.00 dollars", "8 rows, 313.00 dollars"),
        ],
        id="rejected-and-in-the-fact",
    ),
    pytest.param(
        [
            "alter view staging.stg_transaction_rows rename to all_rows",
            "create view staging.stg_transaction_rows as from staging.all_rows where transaction_id <> 'T6'",
            f"delete from {FACT} where transaction_id = 'T6'",
        ],
        [(TOUCHED, ALL, "7 rows, 320.00 dollars", "5 rows, 199.00 dollars")],
        id="staging-loses-a-transaction",
    ),
]
ON_OTHER_DAYS = [
    pytest.param(
        [f"delete from {FACT} where transaction_id = 'T1'"],
        [
            (KEPT, ACCEPTED, "2 rows, 30.00 dollars", "1 rows, 20.00 dollars"),
            (KEPT, ALL, "4 rows, 70.00 dollars", "3 rows, 60.00 dollars"),
        ],
        id="missing-from-the-fact",
    ),
    pytest.param(
        [f"delete from {TURNED_AWAY} where transaction_id = 'T3'"],
        [
            (KEPT, ALL, "4 rows, 70.00 dollars", "3 rows, 70.00 dollars"),
            (KEPT, REJECTED, "1 rows, 0.00 dollars", "no rows"),
        ],
        id="rejected-row-missing",
    ),
    pytest.param(
        [of(FACT, "T4", transaction_amount="40", ingested_at="timestamp '2026-01-02 03:00:00'")],
        [
            (KEPT, ACCEPTED, "2 rows, 30.00 dollars", "3 rows, 70.00 dollars"),
            (KEPT, ALL, "4 rows, 70.00 dollars", "5 rows, 110.00 dollars"),
        ],
        id="superseded-row-beside-the-latest",
    ),
]


@pytest.mark.parametrize("scope", ["touched", "everything"])
def test_nothing_is_found_where_nothing_is_lost(loaded: Loaded, tmp_path: Path, scope: str) -> None:
    assert loaded.failures(scope, tmp_path, []) == []


@pytest.mark.parametrize("scope", ["touched", "everything"])
@pytest.mark.parametrize(("plants", "found"), ON_TOUCHED_DAYS)
def test_a_loss_on_a_touched_day_is_named(
    loaded: Loaded, tmp_path: Path, plants: list[str], found: list[tuple], scope: str
) -> None:
    assert loaded.failures(scope, tmp_path, plants) == found


@pytest.mark.parametrize(("plants", "found"), ON_OTHER_DAYS)
def test_a_loss_on_any_other_day_is_named_by_a_test_of_everything(
    loaded: Loaded, tmp_path: Path, plants: list[str], found: list[tuple]
) -> None:
    assert loaded.failures("everything", tmp_path, plants) == found
    assert loaded.failures("touched", tmp_path, plants) == []


def test_a_latest_row_missing_behind_a_touched_day_is_named_on_both(loaded: Loaded, tmp_path: Path) -> None:
    """The fact has kept the row that the touched day corrects; what it holds too many is of a day that is as it was."""
    plants = [in_fact("T4", "transaction_amount = 40, ingested_at = '2026-01-02 03:00:00'")]
    of_touched_day = [
        (TOUCHED, ACCEPTED, "3 rows, 184.00 dollars", "2 rows, 140.00 dollars"),
        (TOUCHED, ALL, "7 rows, 320.00 dollars", "6 rows, 276.00 dollars"),
    ]
    assert loaded.failures("touched", tmp_path, plants) == of_touched_day
    assert loaded.failures("everything", tmp_path, plants) == [
        (KEPT, ACCEPTED, "2 rows, 30.00 dollars", "3 rows, 70.00 dollars"),
        (KEPT, ALL, "4 rows, 70.00 dollars", "5 rows, 110.00 dollars"),
        *of_touched_day,
    ]


def test_at_night_rows_that_arrived_on_other_days_are_not_read(loaded: Loaded) -> None:
    """Raw, fact and rejected rows are searched within literal times, and what competes within literal ids."""
    arrived = "(ingested_at >= cast('2026-01-03' as timestamp) and ingested_at < cast('2026-01-04' as timestamp))"
    assert loaded.tests["touched"].count(arrived) == 6
    assert "raw_transaction_id between 'T" in loaded.tests["touched"]
    assert arrived not in loaded.tests["everything"]


def test_a_loss_stops_the_run_before_the_days_count_as_loaded(
    loaded: Loaded, dbt_builds: DbtBuilds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = tmp_path / "planted.duckdb"
    shutil.copyfile(loaded.file, planted)
    with duckdb.connect(str(planted)) as connection:
        connection.execute(f"delete from {FACT} where transaction_id = 'T6'")
    monkeypatch.setenv("TEST_SCOPE", "touched")
    with pytest.raises(RuntimeError, match=f"{NOTHING_LOST}.*\n(.*\n)*.*Got 2 results"):
        dbt_builds.run(planted, [f"build --select {NOTHING_LOST} loaded_transaction_days"], AS_OF_DATE)
    with duckdb.connect(str(dbt_builds.warehouse), read_only=True) as connection:
        loaded_days = "select cast(arrival_day as varchar) from ops.loaded_transaction_days where checksum is not null"
        days = connection.execute(f"{loaded_days} order by 1")
        assert days.fetchall() == [(KEPT,), ("2099-01-01",)]


def test_a_first_load_and_a_full_refresh_are_tested_whole_whatever_the_scope(
    loaded: Loaded, dbt_builds: DbtBuilds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then no day counts as loaded, so that none differs from one that does."""
    emptied = tmp_path / "emptied.duckdb"
    shutil.copyfile(loaded.file, emptied)
    with duckdb.connect(str(emptied)) as connection:
        connection.execute("delete from ops.loaded_transaction_days")
        connection.execute(f"delete from {FACT} where transaction_id = 'T1'")
    monkeypatch.setenv("TEST_SCOPE", "touched")
    with pytest.raises(RuntimeError, match="Got 2 results"):
        dbt_builds.run(emptied, [f"test --select {NOTHING_LOST}"], AS_OF_DATE)


def test_a_scope_that_is_none_is_refused(
    loaded: Loaded, dbt_builds: DbtBuilds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_SCOPE", "all")
    with pytest.raises(RuntimeError, match="TEST_SCOPE is 'all': give touched or everything"):
        dbt_builds.run(loaded.file, [f"compile --select {NOTHING_LOST}"], AS_OF_DATE)
