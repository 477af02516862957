"""Whatever is delivered, and in whatever order: after each load the fact equals a full refresh of the same raw rows."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
from edge_customers import AS_OF_DATE
from warehouse_builds import Build, DbtBuilds

from include.customer_360.settings import PROJECT_ROOT
from tests.forked_dbt import run_module

LOAD = "build --exclude-resource-type unit_test --select +core"


def test_random_loads_end_equal_to_a_full_refresh() -> None:
    done = run_module("tests.integration.random_loads", "--sequences", "3", folder=PROJECT_ROOT, environment={})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 sequences of 6 loads, 0 unlike a full refresh" in done.stdout


def test_a_warehouse_without_loaded_days_is_loaded_anew(dbt_builds: DbtBuilds, built: Build, tmp_path: Path) -> None:
    """As one is that was built before days were compared: its fact may lack rows and hold others too many."""
    older = tmp_path / "older.duckdb"
    shutil.copyfile(built.file, older)
    with duckdb.connect(str(older)) as connection:
        expected = connection.execute("from core.fct_transactions order by all").fetchall()
        connection.execute("drop table ops.loaded_transaction_days")
        connection.execute("drop table staging.stg_transaction_days")
        connection.execute(
            "update core.fct_transactions set transaction_date = '1999-01-01' where hash(transaction_id) % 7 = 0"
        )
        connection.execute("delete from core.fct_transactions where hash(transaction_id) % 5 = 0")
        connection.execute("insert into core.fct_transactions (transaction_id) values ('TXN_GONE')")
        connection.execute(
            "update core.fct_transactions set transaction_date = '1905-01-01' where transaction_id = 'TXN_GONE'"
        )
    dbt_builds.run(older, [LOAD], AS_OF_DATE)
    with duckdb.connect(str(dbt_builds.warehouse), read_only=True) as connection:
        assert connection.execute("from core.fct_transactions order by all").fetchall() == expected


def test_a_load_without_news_leaves_the_fact_untouched(dbt_builds: DbtBuilds, built: Build, tmp_path: Path) -> None:
    """A row planted in the fact, of a day that is as it was loaded, is still there: nothing was deleted or inserted."""
    planted = tmp_path / "planted.duckdb"
    shutil.copyfile(built.file, planted)
    with duckdb.connect(str(planted)) as connection:
        connection.execute(
            "insert into core.fct_transactions by name select * replace ('TXN_PLANTED' as transaction_id) "
            "from core.fct_transactions order by transaction_id limit 1"
        )
        expected = connection.execute("from core.fct_transactions order by all").fetchall()
    dbt_builds.run(planted, ["run --select stg_transaction_days fct_transactions"], AS_OF_DATE)
    with duckdb.connect(str(dbt_builds.warehouse), read_only=True) as connection:
        assert connection.execute("from core.fct_transactions order by all").fetchall() == expected
