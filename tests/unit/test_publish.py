"""Publishing: all marts or none, never back in time; and what is cleared away afterwards."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import jinja2
import pytest
from airflow.providers.common.sql.hooks.sql import DbApiHook
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from include.customer_360.assets import PUBLISHED
from include.customer_360.catalog import DriftLimits, Mart, load_catalog
from include.customer_360.operators.publish import (
    DropRunSchemasOperator,
    GrantsLost,
    PublishMartsOperator,
    WriteHistoryOperator,
)
from include.customer_360.operators.published_copy import CopyNotRenewed
from include.customer_360.settings import SQL_TEMPLATES, TEMPLATE_FOLDERS
from tests.small_disk import no_larger_file

CATALOG = load_catalog()
TEMPLATES = jinja2.Environment(loader=jinja2.FileSystemLoader(SQL_TEMPLATES), undefined=jinja2.StrictUndefined)
MARTS = tuple(mart.name for mart in CATALOG.marts)
MEASURES = sorted({measure for mart in CATALOG.marts for measure in mart.measures})


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "warehouse.duckdb"
    monkeypatch.setenv("WAREHOUSE_FILE", str(file))
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "duckdb", "host": str(file)}))
    query(file, ops_tables(*MEASURES))
    query(file, LOADED)
    return file


# What dbt leaves that readers see a count of.
LOADED = (
    "create schema core; create table core.rejected_transactions (reject_reason varchar); "
    "create table ops.loaded_transaction_days (arrival_day date, row_count bigint)"
)


def ops_tables(*measures: str) -> str:
    """Return the SQL that makes the tables of schema ops, with a column for each measure."""
    return TEMPLATES.get_template("publish/ops_tables.sql").render(drift=measures)


def query(file: Path, sql: str) -> list[tuple]:
    with duckdb.connect(str(file)) as connection:
        return connection.execute(sql).fetchall()


def build(file: Path, run_schema: str, as_of_date: str, customers: int) -> None:
    """Make what a run builds: `customers` rows in each table, lifetime values and the like 10.00, 20.00, ..."""
    measures = ", ".join(f"cast(number * 10 as decimal(18, 2)) as {measure}" for measure in MEASURES)
    tables = [
        f"create table {run_schema}.{model.name} as select 'CUST' || number as customer_id, "
        f"{measures}, date '{as_of_date}' as as_of_date "
        f"from range(1, {customers + 1}) as numbers (number)"
        for model in CATALOG.published
    ]
    query(file, "; ".join([f"create schema {run_schema}", *tables]))


class Partitions:
    """Stands for the accessor of an asset's events, which only a task of a real run has."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.extra: dict[str, Any] = {}

    def add_partitions(self, key: str) -> None:
        self.keys.append(key)


def publish(
    run_schema: str, as_of_date: str, dag_run_id: str = "run-1", published: tuple[Mart, ...] = CATALOG.published
) -> list[str]:
    """Publish as a run would, and return the partition keys of its asset events."""
    partitions = Partitions()
    operator = PublishMartsOperator(
        task_id="publish",
        published=published,
        run_schema=run_schema,
        as_of_date=as_of_date,
        dag_run_id=dag_run_id,
    )
    context: dict[str, Any] = {
        "outlet_events": {PUBLISHED: partitions},
        "macros": SimpleNamespace(datetime=datetime.datetime),
    }
    operator.render_template_fields(context, TEMPLATES)
    operator.execute(context)
    return partitions.keys


# A disk that is full


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_publication_without_room_leaves_the_marts_as_they_were_and_the_next_try_publishes(
    warehouse: Path, share: float
) -> None:
    build(warehouse, "marts_run_1", "2026-03-30", customers=10)
    publish("marts_run_1", "2026-03-30")
    build(warehouse, "marts_run_2", "2026-03-31", customers=100_000)
    before = {mart: query(warehouse, f"from marts.{mart}") for mart in MARTS}
    size = warehouse.stat().st_size

    with no_larger_file(int(size * share)), pytest.raises(duckdb.Error, match="File too large"):
        publish("marts_run_2", "2026-03-31", dag_run_id="run-2")

    assert {mart: query(warehouse, f"from marts.{mart}") for mart in MARTS} == before
    assert query(warehouse, "select distinct dag_run_id from ops.publications") == [("run-1",)]
    assert publish("marts_run_2", "2026-03-31", dag_run_id="run-2") == ["2026-03-31"]
    assert {query(warehouse, f"select count(*) from marts.{mart}")[0][0] for mart in MARTS} == {100_000}


class Granting:
    """Stands for a hook, its connection and its cursor on Snowflake: roles may select from what was cloned, or not.

    :param by_clone: for `copy grants` and for a clone without it, the roles that may select afterwards.
    """

    placeholder = "%s"

    def __init__(self, by_clone: Sequence[set[str]], of_views: set[str] = frozenset()) -> None:
        self.by_clone = by_clone
        self.of_views = of_views
        self.held: dict[str, set[str]] = {}
        self.ran: list[str] = []

    split_sql_string = staticmethod(DbApiHook.split_sql_string)
    description = (("created_on",), ("privilege",), ("grantee_name",))

    def get_conn(self) -> Granting:
        return self

    def cursor(self) -> Granting:
        return self

    def execute(self, sql: str, parameters: object = None) -> None:
        self.ran.append(" ".join(sql.split()).removesuffix(";"))
        if self.ran[-1].startswith("merge into ops.publishing"):
            task, dag_run_id, as_of_date, run_schema, begun_at = parameters
            begun = datetime.datetime.fromisoformat(begun_at)
            self.turn = (task, dag_run_id, datetime.date.fromisoformat(as_of_date), run_schema, begun)
        if clone := re.match(r"create or replace transient table (marts\.\w+) clone \S+( copy grants)?", self.ran[-1]):
            self.held[clone[1]] = self.by_clone[0 if clone[2] else 1]

    def fetchone(self) -> tuple[int]:
        return (0,)

    def fetchall(self) -> list[tuple]:
        if self.ran[-1].startswith("select task_id, dag_run_id"):
            return [self.turn]
        shown = re.fullmatch(r"show grants on (table|view) (\S+)", self.ran[-1])
        if not shown:
            return []
        held = self.of_views if shown[1] == "view" else self.held[shown[2]]
        return [("2026-04-01", "SELECT", role.upper()) for role in sorted(held)]

    def close(self) -> None:
        pass


READER, EXPORTER = "customer_360_reader", "customer_360_exporter"


@pytest.fixture
def on_snowflake(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"account": "a", "database": "customer_360", "warehouse": "w", "role": "r", "private_key_file": "k"}
    connection = {"conn_type": "snowflake", "login": "customer_360_airflow", "extra": extra}
    monkeypatch.setenv("WAREHOUSE", "snowflake")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(connection))
    monkeypatch.delenv("AIRFLOW_CONN_WAREHOUSE_EXPORT", raising=False)


def publish_there(granting: Granting, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(PublishMartsOperator, "get_db_hook", lambda self: granting)
    return publish("marts_run_20260331_a", "2026-03-31")


def clones(granting: Granting, mart: str) -> list[str]:
    return [sql for sql in granting.ran if sql.startswith(f"create or replace transient table marts.{mart} clone")]


def test_a_publication_whose_grants_came_with_it_clones_each_mart_once(
    on_snowflake: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    granting = Granting([{READER, EXPORTER}, set()])
    assert publish_there(granting, monkeypatch) == ["2026-03-31"]
    assert {mart: len(clones(granting, mart)) for mart in MARTS} == dict.fromkeys(MARTS, 1)
    assert [sql for sql in granting.ran if sql.startswith("show grants")] == [
        f"show grants on table marts.{mart.name}" for mart in CATALOG.published if mart.table_schema == "marts"
    ]


def test_lost_grants_are_repaired_by_a_clone_that_future_grants_reach(
    on_snowflake: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    granting = Granting([{READER}, {READER, EXPORTER}])
    assert publish_there(granting, monkeypatch) == ["2026-03-31"]
    assert clones(granting, "customer_segments") == [
        "create or replace transient table marts.customer_segments clone marts_run_20260331_a.customer_segments "
        "copy grants",
        "create or replace transient table marts.customer_segments clone marts_run_20260331_a.customer_segments",
    ]


def test_a_publication_that_some_cannot_read_fails_names_role_and_mart_and_tells_nobody(
    on_snowflake: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(GrantsLost) as failure:
        publish_there(Granting([{EXPORTER}, {EXPORTER}]), monkeypatch)
    assert "2026-03-31 is published, but " in str(failure.value)
    assert "customer_360_reader cannot select from customer_360_profile. " in str(failure.value)
    assert "run `make snowflake-setup`" in str(failure.value)
    assert EXPORTER not in str(failure.value)


def test_the_roles_are_those_of_the_settings(on_snowflake: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("READER_ROLE", "analysts")
    extra = {"account": "a", "database": "customer_360", "warehouse": "w", "role": "Marketing", "private_key_file": "k"}
    connection = {"conn_type": "snowflake", "login": "customer_360_export", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_EXPORT", json.dumps(connection))
    assert publish_there(Granting([{"analysts", "marketing"}, set()]), monkeypatch) == ["2026-03-31"]


def test_on_standard_edition_readers_select_from_views_without_personal_data(
    on_snowflake: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNOWFLAKE_EDITION", "standard")
    granting = Granting([{EXPORTER}, set()], of_views={READER})
    assert publish_there(granting, monkeypatch) == ["2026-03-31"]
    views = [sql for sql in granting.ran if sql.startswith("create or replace secure view marts_read.")]
    assert [view.split()[5] for view in views] == [
        *(f"marts_read.{name}" for name in (*MARTS_IN_ORDER, "customer_360_history", *OPS_VIEWS))
    ]
    (profile,) = (view for view in views if "customer_360_profile copy" in view)
    selected = profile.split(" as select ")[1].removesuffix(" from marts.customer_360_profile").split(", ")
    assert selected[:3] == ["customer_id", "customer_key", "age"]
    assert selected[-1] == "as_of_date"
    assert {"full_name", "first_name", "last_name", "email"} & set(selected) == set()


def test_on_standard_edition_a_view_that_readers_cannot_select_from_fails_by_name(
    on_snowflake: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNOWFLAKE_EDITION", "standard")
    with pytest.raises(GrantsLost, match="customer_360_reader cannot select from customer_360_profile"):
        publish_there(Granting([{EXPORTER}, set()], of_views=set()), monkeypatch)


MARTS_IN_ORDER = [mart.name for mart in CATALOG.published if mart.table_schema == "marts"]
OPS_VIEWS = (
    *("audience_memberships", "export_runs", "publications", "validation_results"),
    *("nights", "night_steps", "rejected_rows", "source_days"),
)


def published_dates(file: Path) -> set[datetime.date]:
    return {date for mart in MARTS for (date,) in query(file, f"select distinct as_of_date from marts.{mart}")}


def test_publishing_shows_every_mart_of_the_run(warehouse: Path) -> None:
    build(warehouse, "marts_run_20260331_a", "2026-03-31", customers=3)
    publish("marts_run_20260331_a", "2026-03-31")
    for mart in MARTS:
        assert query(warehouse, f"select customer_id from marts.{mart} order by 1") == [
            ("CUST1",),
            ("CUST2",),
            ("CUST3",),
        ]


def test_publishing_emits_the_asset_for_its_date(warehouse: Path) -> None:
    build(warehouse, "marts_run_20260331_a", "2026-03-31", customers=1)
    assert publish("marts_run_20260331_a", "2026-03-31") == ["2026-03-31"]


def test_a_publication_is_recorded_with_rows_and_total(warehouse: Path) -> None:
    build(warehouse, "marts_run_20260331_a", "2026-03-31", customers=3)
    publish("marts_run_20260331_a", "2026-03-31", dag_run_id="manual__1")
    recorded = query(
        warehouse,
        "select dag_run_id, cast(as_of_date as varchar), mart, row_count, lifetime_value from ops.publications",
    )
    assert {row[2] for row in recorded} == set(MARTS)
    assert ("manual__1", "2026-03-31", "customer_360_profile", 3, 60) in recorded
    assert ("manual__1", "2026-03-31", "metric_mom_spend_change", 3, None) in recorded


def test_the_measures_that_a_mart_watches_are_recorded_beside_those_of_earlier_publications(warehouse: Path) -> None:
    """A warehouse of the time before has rows without the column; they compare with nothing."""
    limits = DriftLimits(lowest_pct=-5, highest_pct=5)
    mart = Mart(
        name="metric_points",
        table_schema="marts",
        validated=True,
        published=True,
        drift={"row_count": limits, "points": limits},
    )
    build(warehouse, "marts_run_20260331_a", "2026-03-31", customers=1)
    publish("marts_run_20260331_a", "2026-03-31", dag_run_id="before")
    query(warehouse, ops_tables("row_count", "points"))
    build(warehouse, "marts_run_20260401_b", "2026-04-01", customers=1)
    query(
        warehouse,
        "create table marts_run_20260401_b.metric_points as "
        "select 'CUST' || n as customer_id, n as points from range(1, 4) as numbers (n)",
    )
    publish("marts_run_20260401_b", "2026-04-01", dag_run_id="after", published=(mart,))
    assert query(
        warehouse, "select row_count, points, lifetime_value from ops.publications where dag_run_id = 'after'"
    ) == [(3, 6, None)]
    assert query(warehouse, "select distinct points from ops.publications where dag_run_id = 'before'") == [(None,)]


def test_a_later_date_replaces_an_earlier_one(warehouse: Path) -> None:
    build(warehouse, "marts_run_20260331_a", "2026-03-31", customers=3)
    build(warehouse, "marts_run_20260401_b", "2026-04-01", customers=2)
    publish("marts_run_20260331_a", "2026-03-31")
    publish("marts_run_20260401_b", "2026-04-01")
    assert published_dates(warehouse) == {datetime.date(2026, 4, 1)}


def test_an_earlier_date_is_skipped_and_changes_nothing(warehouse: Path) -> None:
    build(warehouse, "marts_run_20260331_a", "2026-03-31", customers=3)
    build(warehouse, "marts_run_20260401_b", "2026-04-01", customers=2)
    publish("marts_run_20260401_b", "2026-04-01")
    with pytest.raises(
        AirflowSkipException, match=r"published marts are of 2026-04-01, newer than this run's 2026-03-31"
    ):
        publish("marts_run_20260331_a", "2026-03-31")
    assert published_dates(warehouse) == {datetime.date(2026, 4, 1)}


def test_marts_that_dbt_alone_built_later_are_not_taken_back(warehouse: Path) -> None:
    build(warehouse, "marts", "2026-04-01", customers=1)
    build(warehouse, "marts_run_20260331_a", "2026-03-31", customers=1)
    with pytest.raises(AirflowSkipException, match="2026-04-01"):
        publish("marts_run_20260331_a", "2026-03-31")


def test_a_publication_that_fails_midway_shows_nothing_of_it(warehouse: Path) -> None:
    build(warehouse, "marts_run_20260331_a", "2026-03-31", customers=3)
    build(warehouse, "marts_run_20260401_b", "2026-04-01", customers=2)
    publish("marts_run_20260331_a", "2026-03-31")
    query(warehouse, f"drop table marts_run_20260401_b.{MARTS[-1]}")
    with pytest.raises(duckdb.CatalogException):
        publish("marts_run_20260401_b", "2026-04-01")
    assert published_dates(warehouse) == {datetime.date(2026, 3, 31)}
    assert query(warehouse, "select count(*) from ops.publications where as_of_date = '2026-04-01'") == [(0,)]


def old_mart(file: Path) -> None:
    """A mart that an earlier publication made and no model builds any more, beside a table that none published."""
    query(file, "create schema if not exists marts; create table marts.metric_of_old as select 1 as one")
    query(file, "create table marts.by_hand as select 1 as one")
    query(
        file, "insert into ops.publications (dag_run_id, as_of_date, mart) values ('r', '2026-03-01', 'metric_of_old')"
    )


def tables_of_marts(file: Path) -> set[str]:
    return {
        name for (name,) in query(file, "select table_name from information_schema.tables where table_schema = 'marts'")
    }


def test_a_mart_that_is_built_no_more_is_told_each_night(warehouse: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old_mart(warehouse)
    build(warehouse, "marts_run_20260331_a", "2026-03-31", customers=1)
    publish("marts_run_20260331_a", "2026-03-31")
    said = "marts.metric_of_old is of 2026-03-01, and no model of that name is published any more"
    assert said in capsys.readouterr().out
    assert {"metric_of_old", "by_hand"} <= tables_of_marts(warehouse)


def test_analysts_see_memberships_and_exports_beside_the_marts(warehouse: Path) -> None:
    build(warehouse, "marts_run_20260331_a", "2026-03-31", customers=1)
    publish("marts_run_20260331_a", "2026-03-31")
    query(
        warehouse,
        "insert into ops.audience_memberships (campaign, customer_id, status) values ('premium', 'C1', 'exported')",
    )
    query(warehouse, "insert into ops.export_runs (campaign, state, exported) values ('premium', 'exported', 1)")
    assert query(warehouse, "select campaign, customer_id, status from marts.audience_memberships") == [
        ("premium", "C1", "exported")
    ]
    assert query(warehouse, "select campaign, state, exported from marts.export_runs") == [("premium", "exported", 1)]


def test_a_mart_that_is_built_no_more_is_dropped_where_the_setting_says_so(
    warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REMOVED_MARTS", "drop")
    old_mart(warehouse)
    write_history(warehouse, "marts_run_20260330_h", "2026-03-30", customers=1)
    build(warehouse, "marts_run_20260331_a", "2026-03-31", customers=1)
    publish("marts_run_20260331_a", "2026-03-31")
    assert tables_of_marts(warehouse) == {*MARTS, "by_hand", "customer_360_history", *OPS_VIEWS}


def write_history(file: Path, run_schema: str, as_of_date: str, customers: int) -> None:
    """Write a run's rows, one per customer, to the history."""
    query(file, f"create schema if not exists {run_schema}")
    query(
        file,
        f"create or replace table {run_schema}.customer_360_history as select date '{as_of_date}' as as_of_date, "
        f"'CUST' || number as customer_id from range(1, {customers + 1}) as numbers (number)",
    )
    execute_write_history(run_schema, as_of_date)


def execute_write_history(run_schema: str, as_of_date: str, dag_run_id: str = "run-1") -> None:
    with DAG("history", schedule=None, template_searchpath=TEMPLATE_FOLDERS):
        operator = WriteHistoryOperator(
            task_id="write_history", run_schema=run_schema, as_of_date=as_of_date, dag_run_id=dag_run_id
        )
    operator.execute({})


def history(file: Path) -> list[tuple]:
    return query(
        file,
        "select cast(as_of_date as varchar), count(*) from marts.customer_360_history group by all order by all",
    )


def test_history_gathers_the_dates(warehouse: Path) -> None:
    write_history(warehouse, "marts_run_20260331_a", "2026-03-31", customers=3)
    write_history(warehouse, "marts_run_20260330_b", "2026-03-30", customers=2)
    assert history(warehouse) == [("2026-03-30", 2), ("2026-03-31", 3)]


def test_history_of_a_date_is_replaced_by_a_rerun(warehouse: Path) -> None:
    write_history(warehouse, "marts_run_20260330_a", "2026-03-30", customers=2)
    write_history(warehouse, "marts_run_20260331_b", "2026-03-31", customers=3)
    write_history(warehouse, "marts_run_20260331_c", "2026-03-31", customers=1)
    assert history(warehouse) == [("2026-03-30", 2), ("2026-03-31", 1)]


def test_history_is_kept_for_ever_or_as_many_days_as_are_asked_for_with_what_was_restated(
    warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dates = ("2025-12-30", "2025-12-31", "2026-03-30")
    for date in dates:
        write_history(warehouse, f"marts_run_{date.replace('-', '')}_a", date, customers=1)
        query(warehouse, f"insert into ops.restatements (as_of_date) values ('{date}')")
    write_history(warehouse, "marts_run_20260331_a", "2026-03-31", customers=1)
    assert [date for date, _ in history(warehouse)] == [*dates, "2026-03-31"]

    monkeypatch.setenv("KEEP_HISTORY_DAYS", "90")
    write_history(warehouse, "marts_run_20260331_a", "2026-03-31", customers=1)
    assert [date for date, _ in history(warehouse)] == ["2025-12-31", "2026-03-30", "2026-03-31"]
    assert query(warehouse, "select cast(as_of_date as varchar) from ops.restatements order by 1") == [
        ("2025-12-31",),
        ("2026-03-30",),
    ]
    # A backfilled date keeps its own rows, and takes none that lie before them.
    write_history(warehouse, "marts_run_20250601_a", "2025-06-01", customers=1)
    assert history(warehouse)[0] == ("2025-06-01", 1)


def test_history_keeps_its_columns_apart_whatever_their_order(warehouse: Path) -> None:
    query(
        warehouse, "create schema marts; create table marts.customer_360_history (customer_id varchar, as_of_date date)"
    )
    write_history(warehouse, "marts_run_20260331_a", "2026-03-31", customers=1)
    assert query(warehouse, "select customer_id, cast(as_of_date as varchar) from marts.customer_360_history") == [
        ("CUST1", "2026-03-31")
    ]


def test_history_that_cannot_be_written_keeps_what_it_had(warehouse: Path) -> None:
    write_history(warehouse, "marts_run_20260331_a", "2026-03-31", customers=3)
    query(warehouse, "alter table marts.customer_360_history alter customer_id set not null")
    query(warehouse, "create schema marts_run_20260331_b")
    query(
        warehouse,
        "create table marts_run_20260331_b.customer_360_history as "
        "select date '2026-03-31' as as_of_date, cast(null as varchar) as customer_id",
    )
    with pytest.raises(duckdb.ConstraintException, match="customer_id"):
        execute_write_history("marts_run_20260331_b", "2026-03-31")
    assert history(warehouse) == [("2026-03-31", 3)]


def test_a_column_that_the_model_gained_is_added_to_history_and_is_null_for_earlier_dates(warehouse: Path) -> None:
    write_history(warehouse, "marts_run_20260330_a", "2026-03-30", customers=1)
    query(warehouse, "create schema marts_run_20260331_b")
    query(
        warehouse,
        "create table marts_run_20260331_b.customer_360_history as select date '2026-03-31' as as_of_date, "
        "'CUST1' as customer_id, cast(12.5 as decimal(18, 4)) as risk, true as is_new",
    )
    execute_write_history("marts_run_20260331_b", "2026-03-31")
    rows = query(warehouse, "select as_of_date::varchar, risk, is_new from marts.customer_360_history order by 1")
    assert rows == [("2026-03-30", None, None), ("2026-03-31", Decimal("12.5000"), True)]
    types = "select column_name, data_type from information_schema.columns where table_schema = 'marts' order by 1"
    assert dict(query(warehouse, types))["risk"] == "DECIMAL(18,4)"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "alter table {built} drop column lifetime_value",
            r"column lifetime_value \(decimal\(18,2\)\) is not built any more",
        ),
        (
            "alter table {built} alter lifetime_value type double",
            r"column lifetime_value is decimal\(18,2\) there and double now",
        ),
        (
            "alter table {built} rename column customer_segment to segment",
            r"column customer_segment \(varchar\) is not",
        ),
    ],
)
def test_a_dropped_or_retyped_column_is_one_error_before_anything_is_written(
    restated: Path, change: str, said: str
) -> None:
    query(restated, change.format(built="marts_run_again.customer_360_history"))
    before = query(restated, "from marts.customer_360_history order by all")
    with pytest.raises(AirflowFailException, match=f"marts.customer_360_history.*nothing was written: {said}"):
        execute_write_history("marts_run_again", "2026-03-31", "run-again")
    assert query(restated, "from marts.customer_360_history order by all") == before
    assert restatements(restated) == []


@pytest.fixture
def restated(warehouse: Path) -> Path:
    """A warehouse whose history has 30 and 31 March, and run schema marts_run_again with 31 March as built again."""
    columns = (
        "as_of_date date, customer_id varchar, customer_segment varchar, lifetime_value decimal(18, 2), "
        "median_transaction_value decimal(18, 4), total_transactions bigint, eligible_for_premium_campaign boolean"
    )
    query(
        warehouse,
        f"""
        create schema marts;
        create table marts.customer_360_history ({columns});
        insert into marts.customer_360_history values
            ('2026-03-30', 'CORRECTED', 'Declining', 1, 1, 1, false),
            ('2026-03-31', 'CORRECTED', 'Declining', 100.00, 12.5, 8, false),
            ('2026-03-31', 'VALUES COME AND GO', null, 10, 5, 2, true),
            ('2026-03-31', 'AS IT WAS', null, 20, null, 4, true),
            ('2026-03-31', 'VANISHED', 'Declining', 30, 3, 10, true);
        create schema marts_run_again;
        create table marts_run_again.customer_360_history ({columns});
        insert into marts_run_again.customer_360_history values
            ('2026-03-31', 'CORRECTED', 'Declining', 99.99, 12.4999, 8, true),
            ('2026-03-31', 'VALUES COME AND GO', 'Declining', 10, null, 2, true),
            ('2026-03-31', 'AS IT WAS', null, 20, null, 4, true),
            ('2026-03-31', 'APPEARED', null, 40, 4, 10, false);
        """,
    )
    return warehouse


RESTATED = [
    ("2026-03-31", "APPEARED", "customer_id", None, "APPEARED", "run-again"),
    ("2026-03-31", "CORRECTED", "eligible_for_premium_campaign", "false", "true", "run-again"),
    ("2026-03-31", "CORRECTED", "lifetime_value", "100.00", "99.99", "run-again"),
    ("2026-03-31", "CORRECTED", "median_transaction_value", "12.5000", "12.4999", "run-again"),
    ("2026-03-31", "VALUES COME AND GO", "customer_segment", None, "Declining", "run-again"),
    ("2026-03-31", "VALUES COME AND GO", "median_transaction_value", "5.0000", None, "run-again"),
    ("2026-03-31", "VANISHED", "customer_id", "VANISHED", None, "run-again"),
]


def restatements(file: Path) -> list[tuple]:
    return query(
        file,
        "select cast(as_of_date as varchar), customer_id, changed_column, before, after, dag_run_id "
        "from ops.restatements order by all",
    )


def test_what_a_rerun_changes_in_a_date_is_kept(restated: Path) -> None:
    began = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    execute_write_history("marts_run_again", "2026-03-31", "run-again")
    assert restatements(restated) == RESTATED
    ((restated_at,),) = query(restated, "select distinct restated_at from ops.restatements")
    assert began <= restated_at <= datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


def test_a_rerun_without_changes_restates_nothing(restated: Path) -> None:
    """As a second try does, when the first was cut off after it had written."""
    execute_write_history("marts_run_again", "2026-03-31", "run-again")
    execute_write_history("marts_run_again", "2026-03-31", "run-again")
    execute_write_history("marts_run_again", "2026-03-31", "run-later")
    assert restatements(restated) == RESTATED


def test_a_date_that_history_had_not_restates_nothing(restated: Path) -> None:
    query(restated, "update marts_run_again.customer_360_history set as_of_date = '2026-04-01'")
    execute_write_history("marts_run_again", "2026-04-01", "run-again")
    assert restatements(restated) == []
    assert history(restated) == [("2026-03-30", 1), ("2026-03-31", 4), ("2026-04-01", 4)]


def test_a_date_that_cannot_be_written_restates_nothing(restated: Path) -> None:
    """Restatements and history change together: a try that fails between the two leaves both, and the next has both."""
    before = history(restated)
    built = "update marts_run_again.customer_360_history set total_transactions = {} where customer_id = 'CORRECTED'"
    query(restated, "alter table marts.customer_360_history alter total_transactions type integer")
    query(restated, built.format(3_000_000_000))
    with pytest.raises(duckdb.ConversionException, match="3000000000"):
        execute_write_history("marts_run_again", "2026-03-31", "run-again")
    assert restatements(restated) == []
    assert history(restated) == before
    query(restated, built.format(8))
    execute_write_history("marts_run_again", "2026-03-31", "run-again")
    assert restatements(restated) == RESTATED


def test_a_column_that_history_gains_is_not_restated(restated: Path) -> None:
    query(restated, "alter table marts.customer_360_history drop column lifetime_value")
    execute_write_history("marts_run_again", "2026-03-31", "run-again")
    assert restatements(restated) == [row for row in RESTATED if row[2] != "lifetime_value"]


WILD_RUN = "manual__o'brien; drop table ops.publications -- %s $$ \\"


def test_a_runs_id_is_a_value_whatever_it_holds(restated: Path) -> None:
    execute_write_history("marts_run_again", "2026-03-31", WILD_RUN)
    assert {row[5] for row in restatements(restated)} == {WILD_RUN}
    build(restated, "marts_run_20260331_a", "2026-03-31", customers=1)
    publish("marts_run_20260331_a", "2026-03-31", WILD_RUN)
    assert query(restated, "select distinct dag_run_id from ops.publications") == [(WILD_RUN,)]


def record_validation(file: Path, run_schema: str, as_of_date: str, dag_run_id: str, days_ago: int = 0) -> None:
    """Record that a run validated something in its schema."""
    query(
        file,
        "insert into ops.validation_results (dag_run_id, as_of_date, run_schema, checked_at) values "
        f"('{dag_run_id}', '{as_of_date}', '{run_schema}', current_timestamp::timestamp - interval {days_ago} day)",
    )


def drop_run_schemas(run_schema: str, as_of_date: str, under_way: tuple[str, ...] = ()) -> list[str]:
    def get_dr_count(dag_id: str, run_ids: list[str], states: list[str]) -> int:
        return len(set(run_ids) & set(under_way))

    operator = DropRunSchemasOperator(task_id="drop_run_schemas", run_schema=run_schema, as_of_date=as_of_date)
    return operator.execute({"ti": SimpleNamespace(get_dr_count=get_dr_count)})


def run_schemas(file: Path) -> list[str]:
    rows = query(
        file, "select schema_name from information_schema.schemata where schema_name like 'marts_run_%' order by 1"
    )
    return [name for (name,) in rows]


@pytest.fixture
def three_runs(warehouse: Path) -> Path:
    """A finished run `own`, an earlier one of the same date, and one of another date, 3 days old."""
    for run_schema, as_of_date, dag_run_id, days_ago in [
        ("marts_run_20260331_own", "2026-03-31", "own", 0),
        ("marts_run_20260331_earlier", "2026-03-31", "earlier", 1),
        ("marts_run_20260330_other", "2026-03-30", "other", 3),
    ]:
        build(warehouse, run_schema, as_of_date, customers=1)
        record_validation(warehouse, run_schema, as_of_date, dag_run_id, days_ago)
    return warehouse


def test_what_is_no_schema_of_a_run_is_never_dropped(three_runs: Path) -> None:
    record_validation(three_runs, "marts", "2026-03-31", "by_hand", days_ago=30)
    query(three_runs, "create schema if not exists marts")
    assert "marts" not in drop_run_schemas("marts_run_20260331_own", "2026-03-31", under_way=("own",))
    assert query(three_runs, "select count(*) from information_schema.schemata where schema_name = 'marts'") == [(1,)]


def test_a_refused_drop_skips_the_task_names_schema_and_reason_and_drops_the_others(three_runs: Path) -> None:
    refused = DropRunSchemasOperator._drop

    def refuse_earlier(self: DropRunSchemasOperator, cursor: object, run_schema: str) -> None:
        if run_schema.endswith("earlier"):
            cursor.execute("drop table nowhere")
        refused(self, cursor, run_schema)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DropRunSchemasOperator, "_drop", refuse_earlier)
        with pytest.raises(AirflowSkipException, match=r"- marts_run_20260331_earlier: .*nowhere.*(?s:.*)by hand"):
            drop_run_schemas("marts_run_20260331_own", "2026-03-31", under_way=("own",))
    assert run_schemas(three_runs) == ["marts_run_20260330_other", "marts_run_20260331_earlier"]


def test_a_run_drops_its_own_schema_and_those_of_earlier_runs_of_its_date(three_runs: Path) -> None:
    drop_run_schemas("marts_run_20260331_own", "2026-03-31", under_way=("own",))
    assert run_schemas(three_runs) == ["marts_run_20260330_other"]


def test_the_schema_of_a_run_under_way_stays(three_runs: Path) -> None:
    drop_run_schemas("marts_run_20260331_own", "2026-03-31", under_way=("own", "earlier"))
    assert run_schemas(three_runs) == ["marts_run_20260330_other", "marts_run_20260331_earlier"]


def test_a_failed_runs_schema_stays_as_many_days_as_are_asked_for(
    three_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(three_runs, "marts_run_20260301_old", "2026-03-01", customers=1)
    record_validation(three_runs, "marts_run_20260301_old", "2026-03-01", "old", days_ago=8)
    monkeypatch.setenv("KEEP_RUN_SCHEMAS_DAYS", "9")
    assert "marts_run_20260301_old" not in drop_run_schemas("marts_run_20260331_own", "2026-03-31", under_way=("own",))


def test_a_failed_runs_schema_goes_after_a_week(three_runs: Path) -> None:
    build(three_runs, "marts_run_20260301_old", "2026-03-01", customers=1)
    record_validation(three_runs, "marts_run_20260301_old", "2026-03-01", "old", days_ago=8)
    assert "marts_run_20260301_old" in drop_run_schemas("marts_run_20260331_own", "2026-03-31", under_way=("own",))
    assert run_schemas(three_runs) == ["marts_run_20260330_other"]


# The copy that readers open


def in_copy(file: Path, sql: str) -> list[tuple]:
    """Ask the copy beside a warehouse; attached, since what is connected to stays open for the process."""
    with duckdb.connect() as connection:
        connection.execute(f"attach '{file.with_name('published.duckdb')}' as published (read_only); use published")
        return connection.execute(sql).fetchall()


def test_a_publication_leaves_its_copy_and_the_next_replaces_it(warehouse: Path) -> None:
    for day, customers in (("2026-03-30", 3), ("2026-03-31", 2)):
        build(warehouse, f"marts_run_{day[-2:]}", day, customers=customers)
        publish(f"marts_run_{day[-2:]}", day, dag_run_id=day)
        assert in_copy(warehouse, "select count(*), max(as_of_date)::varchar from marts.customer_360_profile") == [
            (customers, day)
        ]
        assert in_copy(warehouse, "select max(dag_run_id) from marts.publications") == [(day,)]


def test_where_the_copy_cannot_be_written_the_marts_are_published_and_a_retry_writes_it(
    warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(warehouse, "marts_run_1", "2026-03-31", customers=3)
    (warehouse.parent / "readers").touch()
    monkeypatch.setenv("PUBLISHED_FILE", str(warehouse.parent / "readers" / "published.duckdb"))
    with pytest.raises(CopyNotRenewed, match="The marts of 2026-03-31 are published in the warehouse, but "):
        publish("marts_run_1", "2026-03-31")
    assert published_dates(warehouse) == {datetime.date(2026, 3, 31)}
    monkeypatch.delenv("PUBLISHED_FILE")
    assert publish("marts_run_1", "2026-03-31") == ["2026-03-31"]
    assert in_copy(warehouse, "select count(*) from marts.customer_360_profile") == [(3,)]


def test_a_date_of_a_backfill_reaches_the_copy_as_history_beside_the_newer_marts(warehouse: Path) -> None:
    build(warehouse, "marts_run_2", "2026-03-31", customers=2)
    publish("marts_run_2", "2026-03-31")
    query(
        warehouse,
        "create table marts.customer_360_history as select date '2026-03-30' as as_of_date, 'CUST1' as customer_id",
    )
    build(warehouse, "marts_run_1", "2026-03-30", customers=1)
    with pytest.raises(AirflowSkipException):
        publish("marts_run_1", "2026-03-30")
    assert in_copy(warehouse, "select as_of_date::varchar from marts.customer_360_history") == [("2026-03-30",)]
    assert in_copy(warehouse, "select count(*) from marts.customer_360_profile") == [(2,)]
