"""When the disk is too small the reason is said, the warehouse is as it was, and the next run is like any other."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import duckdb
import pytest
from edge_customers import AS_OF_DATE
from warehouse_builds import BUILD, Build, DbtBuilds

from include.customer_360.settings import DBT_PROJECT, PROJECT_ROOT
from tests.small_disk import run_on_a_small_disk

Content = dict[str, tuple[int, int]]
SAMPLE = """
import datetime, pathlib, sys
from local.sample import write_sample
write_sample(pathlib.Path(sys.argv[1]), customers=3000, months=6, seed=1, as_of_date=datetime.date(2026, 3, 31))
"""


def content(file: Path) -> Content:
    """Return, of every table, the number of its rows and the sum of their hashes."""
    with duckdb.connect(str(file)) as connection:
        tables = connection.execute(
            "select table_schema || '.' || table_name from information_schema.tables where table_type = 'BASE TABLE'"
        ).fetchall()
        found = {}
        for (table,) in tables:
            [found[table]] = connection.execute(
                f"select count(*), coalesce(sum(hash(rows)::hugeint), 0) from {table} as rows"
            ).fetchall()
        return found


def without(left_out: str, tables: Content) -> Content:
    return {name: rows for name, rows in tables.items() if name != left_out}


@pytest.fixture
def grown(built: Build, tmp_path: Path) -> Path:
    """The built warehouse, to which four times as many transactions have been delivered since."""
    file = tmp_path / "grown.duckdb"
    shutil.copyfile(built.file, file)
    with duckdb.connect(str(file)) as connection:
        connection.execute(
            "insert into raw.transactions "
            "select * exclude (copy) replace (transaction_id || '-' || copy as transaction_id) "
            "from raw.transactions, range(4) as copies (copy)"
        )
    return file


def test_a_build_without_room_says_so_and_loses_nothing(grown: Path, dbt_builds: DbtBuilds, tmp_path: Path) -> None:
    dbt_builds.run(grown, [BUILD], AS_OF_DATE)
    expected = content(dbt_builds.warehouse)
    shutil.copyfile(grown, dbt_builds.warehouse)
    before = content(dbt_builds.warehouse)

    paths = ["--profiles-dir", ".", "--target-path", str(dbt_builds.target), "--log-path", str(tmp_path)]
    failed = run_on_a_small_disk(
        [str(Path(sys.executable).with_name("dbt")), *BUILD.split(), *paths],
        largest_file=before_the_fact_is_written(grown),
        cwd=DBT_PROJECT,
        environment=os.environ
        | {"WAREHOUSE": "duckdb", "WAREHOUSE_FILE": str(dbt_builds.warehouse), "RUN_SCHEMA": ""}
        | {"AS_OF_DATE": AS_OF_DATE.isoformat()},
    )

    assert failed.returncode == 1
    assert "Runtime Error in model fct_transactions" in failed.stdout
    assert f'IO Error: Could not write file "{dbt_builds.warehouse}": File too large' in failed.stdout
    after = content(dbt_builds.warehouse)
    summary = "staging.stg_transaction_days"
    # The summary of raw is written before the load; all else is as it was.
    assert without(summary, after) == without(summary, before)

    stuck = tmp_path / "stuck.duckdb"
    shutil.copyfile(dbt_builds.warehouse, stuck)
    dbt_builds.run(stuck, [BUILD], AS_OF_DATE)
    assert content(dbt_builds.warehouse).keys() == expected.keys()
    assert core(dbt_builds.warehouse) == {name: rows for name, rows in expected.items() if name in core(stuck)}


def before_the_fact_is_written(file: Path) -> int:
    """Return a size that all that is written before the fact stays below, and the fact does not."""
    return file.stat().st_size // 2


def core(file: Path) -> Content:
    return {name: rows for name, rows in content(file).items() if name.startswith("core.fct") or "rejected" in name}


def test_a_sample_without_room_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "w.duckdb"
    failed = run_on_a_small_disk(
        [sys.executable, "-c", SAMPLE, str(file)], largest_file=2_000_000, cwd=PROJECT_ROOT, environment=os.environ
    )
    assert failed.returncode == 1
    assert f"Writing to the warehouse {file} failed, so it was left as it was: IO Error: Could not" in failed.stderr
    assert f"Free space in {tmp_path}: w.duckdb needs it, and w.duckdb.tmp" in failed.stderr
    with duckdb.connect(str(file)) as connection:
        assert connection.execute("select count(*) from information_schema.tables").fetchall() == [(0,)]
