"""A long history loaded in ranges of months is the same as one that was loaded at once, also when it was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import duckdb
import pytest
from warehouse_builds import DbtBuilds

from deploy.load_history import LoadHistoryError, ends_of_ranges, month, months_at_once
from include.customer_360.settings import PROJECT_ROOT
from local.sample import write_sample
from tests.forked_dbt import run_module

AS_OF_DATE = date(2026, 3, 31)
TABLES = ("core.fct_transactions", "core.rejected_transactions", "core.fct_customer_months")
# A correction that arrives months later, in another range; a row that arrived at no time; and one after the last range.
CORRECTION = """
    insert into raw.transactions
    select * replace ('1.00' as transaction_amount, timestamp '2026-02-03 04:00:00' as ingested_at)
    from raw.transactions where ingested_at < timestamp '2025-12-15' order by ingested_at, transaction_id limit 20
"""
UNDATED = """
    insert into raw.transactions
    select * replace (transaction_id || 'U' as transaction_id, cast(null as timestamp) as ingested_at)
    from raw.transactions order by transaction_id, ingested_at limit 3
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("history") / "warehouse.duckdb"
    write_sample(file, customers=60, months=6, seed=42, as_of_date=AS_OF_DATE)
    with duckdb.connect(str(file)) as connection:
        connection.execute(CORRECTION)
        connection.execute(UNDATED)
    return file


def variables(file: Path) -> dict[str, str]:
    return {
        "WAREHOUSE": "duckdb",
        "WAREHOUSE_FILE": str(file),
        "AS_OF_DATE": str(AS_OF_DATE),
        "DBT_TARGET_PATH": str(file.parent / "target"),
        "DBT_LOG_PATH": str(file.parent / "logs"),
        "FROM": "2025-10",
        "UNTIL": "2026-03",
        "MONTHS_AT_ONCE": "2",
    }


def load(file: Path, **others: str) -> subprocess.CompletedProcess[str]:
    return run_module("deploy.load_history", folder=PROJECT_ROOT, environment={**variables(file), **others})


def kill_after_a_range(file: Path) -> str:
    """Start a load and kill it when it says that a range is loaded; return what it said."""
    with subprocess.Popen(
        [sys.executable, "-m", "deploy.load_history"],
        cwd=PROJECT_ROOT,
        env=os.environ | variables(file),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout
        said = next(line for line in process.stdout if "arrived before" in line)
        process.kill()
    return said


@pytest.fixture(scope="module")
def killed_and_finished(sources: Path) -> list[str]:
    """What the second of two loads printed; the first was killed while it loaded its second range."""
    assert kill_after_a_range(sources).startswith("Loaded what arrived before 2025-12-01 (1 of 3), ")
    second = load(sources)
    assert second.returncode == 0, second.stdout + second.stderr
    return second.stdout.splitlines()


def rows(file: Path, table: str) -> list[tuple]:
    with duckdb.connect(str(file)) as connection:
        return connection.execute(f"from {table} order by all").fetchall()


def test_each_range_is_said(killed_and_finished: list[str]) -> None:
    said = [line.split(",")[0] for line in killed_and_finished if line.startswith("Loaded")]
    assert said == [
        "Loaded what arrived before 2025-12-01 (1 of 3)",
        "Loaded what arrived before 2026-02-01 (2 of 3)",
        "Loaded what arrived before 2026-03-01 (3 of 3)",
    ]
    assert killed_and_finished[-1].startswith("The history is loaded. Unpause customer_360_refresh")


def test_what_arrived_later_is_left_to_the_next_run(sources: Path, killed_and_finished: list[str]) -> None:
    with duckdb.connect(str(sources)) as connection:
        last = connection.execute("select max(arrival_day) from ops.loaded_transaction_days").fetchone()
        days = connection.execute("select count(*) from ops.loaded_transaction_days where checksum is null").fetchone()
    assert last == (date(2026, 2, 28),)
    assert days == (0,)


def test_a_load_in_ranges_and_a_night_after_it_are_as_one_load(
    sources: Path, killed_and_finished: list[str], dbt_builds: DbtBuilds, tmp_path: Path
) -> None:
    night = dbt_builds.build(sources, "after_ranges", AS_OF_DATE)
    fresh = tmp_path / "fresh.duckdb"
    with duckdb.connect() as connection:
        connection.execute(f"attach '{sources}' as loaded (read_only)")
        connection.execute(f"attach '{fresh}' as fresh")
        connection.execute("create schema fresh.raw")
        for table in ("customers", "transactions"):
            connection.execute(f"create table fresh.raw.{table} as from loaded.raw.{table}")
    at_once = dbt_builds.build(fresh, "at_once", AS_OF_DATE)
    for table in TABLES:
        assert rows(night.file, table) == rows(at_once.file, table)
    with duckdb.connect(str(night.file)) as connection:
        corrected = connection.execute("select count(*) from core.fct_transactions where transaction_amount = 1")
        assert corrected.fetchone() == (20,)


def test_a_range_that_dbt_cannot_load_is_named_with_the_next_step(sources: Path, tmp_path: Path) -> None:
    file = tmp_path / "without_raw.duckdb"
    duckdb.connect(str(file)).close()
    failed = load(file, FROM="2026-01", UNTIL="2026-02")
    assert failed.returncode == 1
    assert "What arrived before 2026-02-01 could not be loaded (range 1 of 1)" in failed.stderr
    assert "start the same command again" in failed.stderr


@pytest.mark.parametrize(
    ("first", "until", "at_once", "ends"),
    [
        ((2025, 11), (2026, 2), 1, ["2025-12-01", "2026-01-01", "2026-02-01"]),
        ((2025, 11), (2026, 2), 2, ["2026-01-01", "2026-02-01"]),
        ((2025, 11), (2026, 2), 12, ["2026-02-01"]),
    ],
)
def test_ranges_end_where_the_next_begins_and_the_last_with_until(
    first: tuple[int, int], until: tuple[int, int], at_once: int, ends: list[str]
) -> None:
    assert list(ends_of_ranges(first, until, at_once)) == ends


def test_a_last_month_that_is_not_after_the_first_is_refused() -> None:
    with pytest.raises(LoadHistoryError, match="UNTIL=2026-02 is not after FROM=2026-02"):
        list(ends_of_ranges((2026, 2), (2026, 2), 1))


@pytest.mark.parametrize("value", ["", "2026", "2026-13", "2026-01-01", "01-2026"])
def test_what_is_no_month_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM", value)
    with pytest.raises(LoadHistoryError, match=f"FROM='{value}' is no month: make load-history FROM=2023-01"):
        month("FROM")


def test_a_number_of_months_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONTHS_AT_ONCE", "0")
    with pytest.raises(LoadHistoryError, match="MONTHS_AT_ONCE='0' is no whole number above 0"):
        months_at_once()
