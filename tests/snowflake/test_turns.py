"""Publications of several dates on Snowflake, where each clone commits: one at a time, the newest date stays."""

from __future__ import annotations

import datetime
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowSkipException

from include.customer_360.assets import PUBLISHED
from include.customer_360.catalog import Mart
from include.customer_360.operators import turn
from include.customer_360.operators.publish import PublishMartsOperator
from include.customer_360.settings import TEMPLATE_FOLDERS
from tests.snowflake.account import SnowflakeAccount

MARTS = ("metric_first", "metric_second", "customer_360_profile")
SECONDS = 60


class Killed(BaseException):
    """What no handler of errors catches, as if the process were gone."""


class Publication(PublishMartsOperator):
    """A publication that calls `before` with each of its statements before it sends it."""

    before: Callable[[str], None] = staticmethod(lambda sql: None)

    @contextmanager
    def warehouse_session(self) -> Iterator[tuple[Any, Any]]:
        with super().warehouse_session() as (hook, cursor):
            send = cursor.execute

            def execute(sql: str, *parameters: object) -> object:
                self.before(" ".join(sql.split()))
                return send(sql, *parameters)

            cursor.execute = execute
            yield hook, cursor


class Night:
    """Runs that publish into one database: each has the id of its date, and is under way until it ends."""

    def __init__(self, account: SnowflakeAccount) -> None:
        self.account = account
        self.under_way: set[str] = set()

    def build(self, as_of_date: str) -> None:
        self.account.query(f"create schema {self.schema(as_of_date)}", self.account.by_hand)
        for mart in MARTS:
            self.account.query(
                f"create transient table {self.schema(as_of_date)}.{mart} as "
                f"select cast('{as_of_date}' as date) as as_of_date, 'CUST1' as customer_id",
                self.account.by_hand,
            )

    @staticmethod
    def schema(as_of_date: str) -> str:
        return f"marts_run_{as_of_date.replace('-', '')}_turns"

    def publish(self, as_of_date: str, before: Callable[[str], None] = lambda sql: None) -> None:
        events = SimpleNamespace(add_partitions=lambda key: None)
        task_instance = SimpleNamespace(
            get_dr_count=lambda dag_id, run_ids, states: len(self.under_way.intersection(run_ids))
        )
        with DAG("publication", schedule=None, template_searchpath=TEMPLATE_FOLDERS):
            operator = Publication(
                task_id="publish",
                published=[
                    Mart(name=mart, table_schema="marts", validated=True, published=True, drift={}) for mart in MARTS
                ],
                run_schema=self.schema(as_of_date),
                as_of_date=as_of_date,
                dag_run_id=as_of_date,
            )
        operator.before = before
        context: dict[str, Any] = {
            "outlet_events": {PUBLISHED: events},
            "ti": task_instance,
            "macros": SimpleNamespace(datetime=datetime.datetime),
        }
        operator.resolve_template_files()
        operator.render_template_fields(context)
        self.under_way.add(as_of_date)
        try:
            operator.execute(context)
        finally:
            self.under_way.remove(as_of_date)

    def dates(self) -> list[str]:
        """Return the date of each published mart, in their order."""
        return [
            date
            for mart in MARTS
            for (date,) in self.account.query(
                f"select cast(as_of_date as varchar) from marts.{mart}", self.account.by_hand
            )
        ]

    def recorded(self) -> list[str]:
        """Return the runs of ops.publications in the order in which they published."""
        rows = self.account.query(
            "select dag_run_id, count(*) from ops.publications group by 1 order by max(published_at)",
            self.account.by_hand,
        )
        assert {count for _, count in rows} == {len(MARTS)}
        return [run for run, _ in rows]

    def holders(self) -> list[tuple]:
        return self.account.query("select dag_run_id from ops.publishing", self.account.by_hand)


def second_clone(sql: str) -> bool:
    return sql.startswith("create or replace transient table marts.metric_second clone")


@pytest.fixture
def night(account: SnowflakeAccount, ops_tables: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Night]:
    """Database by_hand with 30 March published, 31 March and 1 April built and validated."""
    monkeypatch.setenv("WAREHOUSE", "snowflake")
    for name, value in account.environment.items():
        monkeypatch.setenv(name, value)
    extra = {**account.connection["extra"], "database": account.by_hand}  # type: ignore[dict-item]
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({**account.connection, "extra": extra}))
    monkeypatch.delenv("AIRFLOW_CONN_WAREHOUSE_EXPORT", raising=False)
    monkeypatch.setattr(turn, "SECONDS_BETWEEN_LOOKS", 0.05)
    nights = Night(account)
    account.query("create schema if not exists core", account.by_hand)
    for loaded in (
        "core.rejected_transactions (reject_reason varchar)",
        "ops.loaded_transaction_days (arrival_day date, row_count bigint)",
    ):
        account.query(f"create table if not exists {loaded}", account.by_hand)
    days = ("2026-03-30", "2026-03-31", "2026-04-01")
    for day in days:
        nights.build(day)
    nights.publish(days[0])
    account.query("delete from ops.publications", account.by_hand)
    yield nights
    for sql in (
        *(f"drop schema {nights.schema(day)} cascade" for day in days),
        *(f"drop table marts.{mart}" for mart in MARTS),
    ):
        account.query(sql, account.by_hand)


@pytest.mark.parametrize(("first", "second"), [("2026-03-31", "2026-04-01"), ("2026-04-01", "2026-03-31")])
def test_a_publication_that_begins_in_the_middle_of_another_waits_and_the_newer_stays(
    night: Night, first: str, second: str
) -> None:
    half_way, waiting, go_on = threading.Event(), threading.Event(), threading.Event()

    def stop_half_way(sql: str) -> None:
        if second_clone(sql):
            half_way.set()
            assert go_on.wait(SECONDS)

    asked: list[str] = []

    def is_asking(sql: str) -> None:
        asked.extend(["asked"] * sql.startswith("merge into ops.publishing"))
        if len(asked) == 2:
            waiting.set()

    with ThreadPoolExecutor(2) as runs:
        one: Future[None] = runs.submit(night.publish, first, stop_half_way)
        assert half_way.wait(SECONDS)
        other: Future[None] = runs.submit(night.publish, second, is_asking)
        assert waiting.wait(SECONDS)
        assert night.dates() == [first, "2026-03-30", "2026-03-30"]
        go_on.set()
        one.result(SECONDS)
        if second < first:
            with pytest.raises(AirflowSkipException, match="newer than this run's 2026-03-31"):
                other.result(SECONDS)
        else:
            other.result(SECONDS)
    assert night.dates() == ["2026-04-01"] * 3
    assert night.recorded() == (["2026-04-01"] if second < first else [first, second])
    assert night.holders() == []


def kill_half_way(sql: str) -> None:
    if second_clone(sql):
        raise Killed


def test_an_older_date_completes_a_newer_one_that_died_half_way_and_leaves_it_to_readers(night: Night) -> None:
    with pytest.raises(Killed):
        night.publish("2026-04-01", kill_half_way)
    assert night.dates() == ["2026-04-01", "2026-03-30", "2026-03-30"]
    with pytest.raises(AirflowSkipException, match="published marts are of 2026-04-01"):
        night.publish("2026-03-31")
    assert night.dates() == ["2026-04-01"] * 3
    assert night.recorded() == ["2026-04-01"]
    assert night.holders() == []


def test_a_newer_date_completes_an_older_one_that_died_half_way_and_follows_it(night: Night) -> None:
    with pytest.raises(Killed):
        night.publish("2026-03-31", kill_half_way)
    night.publish("2026-04-01")
    assert night.dates() == ["2026-04-01"] * 3
    assert night.recorded() == ["2026-03-31", "2026-04-01"]


def test_a_second_try_of_what_died_half_way_publishes_it(night: Night) -> None:
    with pytest.raises(Killed):
        night.publish("2026-03-31", kill_half_way)
    night.publish("2026-03-31")
    assert night.dates() == ["2026-03-31"] * 3
    assert night.recorded() == ["2026-03-31"]
    assert night.holders() == []
