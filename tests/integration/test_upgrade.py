"""A warehouse that an earlier release left, whose tables have fewer columns, is built on and published

Folder earlier_warehouse holds what that release had as of 2026-11-24: the statements that made its tables and views,
and the rows of each but dim_date, which every build makes anew.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from airflow.sdk import DAG
from independent_marts import Delivery, compute_marts
from mart_rows import MARTS, assert_same_rows, read_rows, read_table
from warehouse_builds import DbtBuilds

from include.customer_360.assets import PUBLISHED
from include.customer_360.catalog import load_catalog
from include.customer_360.operators.publish import PublishMartsOperator, WriteHistoryOperator
from include.customer_360.operators.validate import ValidateSourcesOperator
from include.customer_360.settings import TEMPLATE_FOLDERS

EARLIER = Path(__file__).with_name("earlier_warehouse")
BEFORE, AS_OF_DATE = "2026-11-24", "2026-11-25"
RUN_SCHEMA = "marts_run_20261125_upgrade"
CATALOG = load_catalog()


def read(file: Path, sql: str) -> list[tuple]:
    with duckdb.connect(str(file), read_only=True) as connection:
        return connection.execute(sql).fetchall()


@pytest.fixture(scope="module")
def earlier(dbt_builds: DbtBuilds) -> Path:
    """The earlier release's warehouse."""
    file = dbt_builds.folder / "earlier.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute((EARLIER / "schema.sql").read_text(encoding="utf-8"))
        for rows in sorted(EARLIER.glob("*.parquet")):
            connection.execute(f"insert into {rows.stem} from read_parquet('{rows}')")
    return file


@pytest.fixture(scope="module")
def upgraded(earlier: Path, dbt_builds: DbtBuilds) -> Path:
    """The same after the next night of this release."""
    file = dbt_builds.build(earlier, "upgraded", datetime.date.fromisoformat(AS_OF_DATE), RUN_SCHEMA).file
    context: dict[str, Any] = {
        "outlet_events": {PUBLISHED: SimpleNamespace(add_partitions=lambda key: None)},
        "macros": SimpleNamespace(datetime=datetime.datetime),
    }
    run: dict[str, Any] = {"run_schema": RUN_SCHEMA, "as_of_date": AS_OF_DATE, "dag_run_id": "upgrade"}
    drift = {measure: limits for mart in CATALOG.marts for measure, limits in mart.drift.items()}
    with pytest.MonkeyPatch.context() as environment:
        connection = {"conn_type": "duckdb", "host": str(file)}
        environment.setenv("WAREHOUSE_FILE", str(file))
        environment.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(connection))
        with DAG("upgrade", schedule=None, template_searchpath=TEMPLATE_FOLDERS):
            sources = ValidateSourcesOperator(task_id="validate_sources", drift=drift, **run)
            history = WriteHistoryOperator(task_id="write_history", **run)
            publish = PublishMartsOperator(task_id="publish", published=CATALOG.published, **run)
        for operator in (sources, history, publish):
            operator.resolve_template_files()
            operator.render_template_fields(context)
        with sources.warehouse_session() as (hook, cursor):
            sources.prepare(cursor, hook)
        history.execute(context)
        publish.execute(context)
    return file


def test_earlier_dates_of_history_stay_as_they_were(earlier: Path, upgraded: Path) -> None:
    (columns,) = zip(*read(earlier, "select column_name from (describe marts.customer_360_history)"), strict=True)
    sql = f"select {', '.join(columns)} from marts.customer_360_history where as_of_date = '{BEFORE}' order by 2"
    before = read(earlier, sql)
    assert len(before) == 10
    assert read(upgraded, sql) == before


def test_history_has_the_new_date_beside_them(upgraded: Path) -> None:
    sql = "select as_of_date::varchar, count(*) from marts.customer_360_history group by 1 order by 1"
    assert read(upgraded, sql) == [(BEFORE, 10), (AS_OF_DATE, 10)]


def test_the_tables_of_ops_have_the_new_columns_null_for_what_was_there(upgraded: Path) -> None:
    sql = "select dag_run_id = 'upgrade', warehouse_id is null, count(*) from ops.publications group by 1, 2 order by 1"
    assert read(upgraded, sql) == [(False, True, 5), (True, False, 7)]
    [(recorded, warehouse_id)] = read(
        upgraded, "select (select max(warehouse_id) from ops.publications), warehouse_id from ops.warehouse"
    )
    assert recorded == warehouse_id


@pytest.mark.parametrize("mart", MARTS)
def test_the_marts_that_readers_see_are_of_the_new_date_and_right(upgraded: Path, mart: str) -> None:
    as_of_date = datetime.date.fromisoformat(AS_OF_DATE)
    customers, transactions = (read_table(upgraded, f"raw.{table}") for table in ("customers", "transactions"))
    # Columns of sources of today that this warehouse has not got.
    customers = customers.assign(**dict.fromkeys(("ads_opt_in", "account_closed_date", "deceased_date")))
    expected = compute_marts([Delivery(as_of_date, customers)], transactions, as_of_date)
    assert_same_rows(mart, read_rows(upgraded, mart), expected[mart])
