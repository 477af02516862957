"""What a rerun changes in the history of its date is kept on Snowflake too, in the transaction that replaces it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from airflow.sdk import DAG

from include.customer_360.operators.publish import WriteHistoryOperator
from include.customer_360.settings import TEMPLATE_FOLDERS
from tests.snowflake.account import SnowflakeAccount

RUN_SCHEMA = "marts_run_20260331_restated"
# Whoever starts a run may give it any name.
AGAIN = "manual__o'brien; %s -- $$ \\ again"
COLUMNS = (
    "as_of_date date, customer_id varchar, customer_segment varchar, lifetime_value decimal(18, 2), "
    "median_transaction_value decimal(18, 4), eligible_for_premium_campaign boolean"
)


@pytest.fixture
def restated(
    account: SnowflakeAccount, ops_tables: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SnowflakeAccount]:
    """Database by_hand, whose history has 31 March, and a run schema with that date as built again."""
    connection = account.connection
    monkeypatch.setenv("WAREHOUSE", "snowflake")
    for name, value in account.environment.items():
        monkeypatch.setenv(name, value)
    extra = {**connection["extra"], "database": account.by_hand}  # type: ignore[dict-item]
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({**connection, "extra": extra}))
    for sql in (
        "create schema if not exists marts",
        f"create schema {RUN_SCHEMA}",
        f"create table marts.customer_360_history ({COLUMNS})",
        f"create table {RUN_SCHEMA}.customer_360_history ({COLUMNS})",
        "insert into marts.customer_360_history values "
        "('2026-03-30', 'CORRECTED', 'Declining', 1, 1, false), "
        "('2026-03-31', 'CORRECTED', 'Declining', 100.00, 12.5, false), "
        "('2026-03-31', 'AS IT WAS', null, 20, null, true), "
        "('2026-03-31', 'VANISHED', 'Declining', 30, 3, true)",
        f"insert into {RUN_SCHEMA}.customer_360_history values "
        "('2026-03-31', 'CORRECTED', null, 99.99, 12.5, true), "
        "('2026-03-31', 'AS IT WAS', null, 20, null, true), "
        "('2026-03-31', 'APPEARED', null, 40, 4, false)",
    ):
        account.query(sql, account.by_hand)
    yield account
    for sql in (
        f"drop schema {RUN_SCHEMA} cascade",
        "drop table marts.customer_360_history",
    ):
        account.query(sql, account.by_hand)


def test_what_a_rerun_changes_in_a_date_is_kept_once(restated: SnowflakeAccount) -> None:
    for dag_run_id in (AGAIN, "run-later"):
        with DAG("history", schedule=None, template_searchpath=TEMPLATE_FOLDERS):
            operator = WriteHistoryOperator(
                task_id="write_history", run_schema=RUN_SCHEMA, as_of_date="2026-03-31", dag_run_id=dag_run_id
            )
        assert operator.execute({}) == 3
    kept = (
        "select cast(as_of_date as varchar), customer_id, changed_column, before, after, dag_run_id "
        "from ops.restatements order by customer_id, changed_column"
    )
    assert restated.query(kept, restated.by_hand) == [
        ("2026-03-31", "APPEARED", "customer_id", None, "APPEARED", AGAIN),
        ("2026-03-31", "CORRECTED", "customer_segment", "Declining", None, AGAIN),
        ("2026-03-31", "CORRECTED", "eligible_for_premium_campaign", "false", "true", AGAIN),
        ("2026-03-31", "CORRECTED", "lifetime_value", "100.00", "99.99", AGAIN),
        ("2026-03-31", "VANISHED", "customer_id", "VANISHED", None, AGAIN),
    ]
