"""What people are told when a run fails, recovers or is late, and by what."""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from include.customer_360 import alerts
from include.customer_360.alerts import (
    Failure,
    failure_message,
    late_message,
    recovery_message,
    tell,
    tell_failure,
    tell_late,
    tell_success,
    without_values,
)
from include.customer_360.deadline import PublishedBy
from include.customer_360.heartbeat import call_heartbeat
from include.customer_360.settings import PROJECT_ROOT
from local.local_airflow import free_port
from tests.alert_servers import AlertServers, alert_servers

if TYPE_CHECKING:
    from airflow.sdk import Context

REFRESH, EXPORTS = "customer_360_refresh", "campaign_exports"
RUN_ID = "scheduled__2026-03-31"
CHECK = {
    "mart": "metric_customer_ltv",
    "check": "ltv_lifetime_value_reconciles",
    "observed": "2 customers differ, for example CUST00000001",
    "expected": "lifetime_value is, to the cent, the sum in core.fct_transactions, approved",
    "examples": ["CUST00000001", "CUST00000002"],
}
FAILURE = Failure(
    task="validate_marts.validate_metric_customer_ltv",
    reason="metric_customer_ltv failed 1 of 11 checks",
    log="https://airflow.example.com/log",
    runbook="docs/runbook.md#validate_mart",
    checks=[CHECK],
)


@pytest.fixture(autouse=True)
def base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com")
    monkeypatch.setattr(alerts, "SECONDS_BETWEEN_TRIES", 0.0)


@pytest.fixture(scope="module")
def running_servers() -> Iterator[AlertServers]:
    with alert_servers() as running:
        yield running


@pytest.fixture
def servers(running_servers: AlertServers) -> AlertServers:
    running_servers.clear()
    running_servers.answer = 200
    return running_servers


def test_a_failure_names_dag_date_mart_check_examples_log_and_what_to_do() -> None:
    message = failure_message(REFRESH, "2026-03-31", RUN_ID, [FAILURE])
    assert message.subject == "customer_360_refresh failed for 2026-03-31: validate_metric_customer_ltv"
    assert message.text.splitlines() == [
        "customer_360_refresh failed for 2026-03-31. Readers keep what was published before.",
        "",
        "Task validate_marts.validate_metric_customer_ltv",
        "  mart metric_customer_ltv, check ltv_lifetime_value_reconciles",
        "    observed: 2 customers differ, for example CUST00000001",
        "    expected: lifetime_value is, to the cent, the sum in core.fct_transactions, approved",
        "    for example: CUST00000001, CUST00000002",
        "  log: https://airflow.example.com/log",
        "  what to do: docs/runbook.md#validate_mart",
        "",
        "Run: https://airflow.example.com/dags/customer_360_refresh/runs/scheduled__2026-03-31",
    ]


def test_a_run_that_airflow_ended_says_so() -> None:
    message = failure_message(REFRESH, "2026-03-31", RUN_ID, [], ended="timed_out")
    assert message.subject == "customer_360_refresh failed for 2026-03-31: timed_out"
    assert "The run was ended by Airflow: timed_out." in message.text
    assert "docs/runbook.md#not_published_in_time" in message.text


def test_a_recovery_names_the_failures_that_are_over_and_the_dates_that_are_still_missing() -> None:
    over = {"2026-03-30": {"run_id": "scheduled__2026-03-30"}, "2026-03-31": {"run_id": "manual__1"}}
    message = recovery_message(REFRESH, "2026-03-31", RUN_ID, over)
    assert message.subject == "customer_360_refresh recovered: 2026-03-31 went well"
    assert "It had failed for 2026-03-30 (scheduled__2026-03-30)." in message.text
    assert "2026-03-30 itself: marts.customer_360_history has no row of it" in message.text
    assert "It had failed for 2026-03-31 (manual__1)." in message.text
    assert "2026-03-31 itself" not in message.text


def test_a_late_night_says_what_is_under_way() -> None:
    states = {"validate_sources": "deferred", "publish": None, "check_export_root": "success"}
    message = late_message(REFRESH, "2026-03-31", RUN_ID, "05:00", states)
    assert message.subject == "The marts of 2026-03-31 are not published"
    assert "are not published at 05:00 in New York" in message.text
    assert "  deferred: validate_sources" in message.text
    assert "docs/runbook.md#not_published_in_time" in message.text


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("3 of 5 checks failed", "3 of 5 checks failed"),
        ("Connection 'warehouse' is refused", "Connection 'warehouse' is refused"),
        ("a row of ada@example.com is wrong", "a row of (an address) is wrong"),
        (
            "stg_customers: Conversion Error: Could not convert string 'Ada Lovelace' to INT32 LINE 3: 'Ada'",
            "stg_customers: Conversion Error: Could not convert string '...' to INT32",
        ),
        (
            'Constraint Error: Duplicate key "email: Ada" violates',
            "Constraint Error: Duplicate key '...' violates",
        ),
        (
            "100038 (22018): 01a2: Numeric value 'Ada' is not recognized",
            "100038 (22018): 01a2: Numeric value '...' is not recognized",
        ),
        ("Invalid Input Error: 'Ada", "Invalid Input Error: '...'"),
    ],
)
def test_what_stood_in_a_row_is_in_no_message(said: str, told: str) -> None:
    assert without_values(said) == told


def test_every_connection_that_there_is_is_told_once(servers: AlertServers, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in servers.connections().items():
        monkeypatch.setenv(name, value)
    assert tell(failure_message(REFRESH, "2026-03-31", RUN_ID, [FAILURE]))

    [posted, slack] = servers.posts
    assert posted.path == "/alerts"
    assert posted.body["event"] == "failure"
    assert posted.body["dag_id"] == REFRESH
    assert posted.body["as_of_date"] == "2026-03-31"
    [failure] = posted.body["failures"]
    assert failure["checks"] == [CHECK]
    assert (failure["log"], failure["runbook"]) == (FAILURE.log, FAILURE.runbook)
    assert slack.path == "/T0/B0/key"
    assert "ltv_lifetime_value_reconciles" in slack.body["text"]
    [mail] = servers.mails
    assert mail.to == ["data-engineering@example.com"]
    assert mail.subject == "customer_360_refresh failed for 2026-03-31: validate_metric_customer_ltv"
    assert "for example: CUST00000001, CUST00000002" in mail.text


def test_one_that_refuses_does_not_keep_the_others_from_being_told(
    servers: AlertServers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in servers.connections("alerts_http", "alerts_smtp").items():
        monkeypatch.setenv(name, value)
    servers.answer = 500
    with caplog.at_level(logging.ERROR):
        assert tell(failure_message(REFRESH, "2026-03-31", RUN_ID, [FAILURE]))
    assert len(servers.mails) == 1
    assert "was not told by connection alerts_http, in 2 tries" in caplog.text
    assert len(servers.posts) == 2


def test_a_mail_connection_without_recipients_says_what_it_lacks(
    servers: AlertServers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ALERTS_SMTP", '{"conn_type": "smtp", "host": "127.0.0.1"}')
    with caplog.at_level(logging.ERROR):
        assert not tell(failure_message(REFRESH, "2026-03-31", RUN_ID, [FAILURE]))
    assert "names no recipients: give it `to`" in caplog.text


def test_without_a_connection_nobody_is_told(servers: AlertServers) -> None:
    assert not tell(failure_message(REFRESH, "2026-03-31", RUN_ID, [FAILURE]))


# What a run tells, by the callbacks of its Dag


class Metadata:
    """What the metadata database has: states and XComs of one run, and the Variables; and what was told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.states: dict[str, str] = {}
        self.xcoms: dict[tuple[str, str], Any] = {}
        self.variables: dict[str, str] = {}
        self.told: list[alerts.Message] = []
        self.heard = True
        monkeypatch.setattr(alerts._Run, "states", lambda _: self.states)
        monkeypatch.setattr(alerts._Run, "xcom", lambda _, task_id, key, map_index=-1: self.xcoms.get((task_id, key)))
        monkeypatch.setattr(alerts, "Variable", self)
        monkeypatch.setattr(alerts, "tell", self.tell)

    def tell(self, message: alerts.Message) -> bool:
        self.told.append(message)
        return self.heard

    def get(self, key: str, default: str = "", deserialize_json: bool = False) -> object:
        value = self.variables.get(key, default)
        return json.loads(value) if deserialize_json else value

    def set(self, key: str, value: str) -> None:
        self.variables[key] = value

    def delete(self, key: str) -> None:
        del self.variables[key]

    def keys(self, prefix: str) -> list[str]:
        return [key for key in self.variables if key.startswith(prefix)]


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Metadata:
    return Metadata(monkeypatch)


@pytest.fixture(scope="module")
def dags() -> dict[str, Any]:
    return DagBag(PROJECT_ROOT / "dags").dags


def context(dag: object, date: str = "2026-03-31", run_type: str = "scheduled") -> Context:
    moment = datetime.datetime(2026, 4, 1, 7, tzinfo=datetime.UTC)
    run = SimpleNamespace(
        run_id=f"{run_type}__{date}",
        run_type=run_type,
        partition_key=date,
        conf={},
        run_after=moment,
        start_date=moment,
    )
    return cast("Context", {"dag": dag, "dag_run": run, "reason": "task_failure"})


PRODUCER = "dbt_build.dbt_producer_watcher"
FAILED_BUILD = {
    PRODUCER: "failed",
    "dbt_build.models.marts.marketing.metric_customer_ltv": "failed",
    "validate_marts.validate_metric_customer_ltv": "upstream_failed",
    "publish": "upstream_failed",
}


def test_a_failed_build_is_one_failure_whatever_its_nodes_say(metadata: Metadata, dags: dict[str, Any]) -> None:
    metadata.states = FAILED_BUILD
    metadata.xcoms[PRODUCER, "why"] = {"reason": "metric_customer_ltv: Binder Error: column 'x'", "transient": False}
    tell_failure(context(dags[REFRESH]))
    [message] = metadata.told
    [failure] = message.failures
    assert (failure.task, failure.reason) == (PRODUCER, "metric_customer_ltv: Binder Error: column '...'")
    assert failure.runbook == "docs/runbook.md#dbt_build"
    assert failure.log == (
        "https://airflow.example.com/dags/customer_360_refresh/runs/scheduled__2026-03-31/tasks/"
        "dbt_build.dbt_producer_watcher"
    )


def test_a_task_that_left_no_reason_was_killed(metadata: Metadata, dags: dict[str, Any]) -> None:
    metadata.states = FAILED_BUILD
    tell_failure(context(dags[REFRESH]))
    assert "it was killed, or its worker was lost; if memory ran out" in metadata.told[0].text


def test_what_fails_because_another_task_did_is_not_told(metadata: Metadata, dags: dict[str, Any]) -> None:
    metadata.states = {"export_premium_0": "failed", "export_retention_0": "success", "log_exports": "failed"}
    metadata.xcoms["export_premium", "why"] = {"reason": "cannot be written under the export root", "transient": False}
    metadata.xcoms["decide_audiences", "return_value"] = {"as_of_date": "2026-03-31"}
    tell_failure(context(dags[EXPORTS]))
    [message] = metadata.told
    assert [failure.task for failure in message.failures] == ["export_premium_0"]
    assert message.failures[0].log.endswith("/tasks/export_premium/mapped/0")
    assert message.failures[0].runbook == "docs/runbook.md#export"
    assert "The audiences of its date are not all there." in message.text


def test_a_run_that_another_takes_the_place_of_is_not_told(metadata: Metadata, dags: dict[str, Any]) -> None:
    metadata.states = FAILED_BUILD
    metadata.xcoms["run_again", "trigger_run_id"] = "attempt_2__scheduled__2026-03-31"
    tell_failure(context(dags[REFRESH]))
    assert metadata.told == []
    assert metadata.variables == {}


def test_a_run_that_goes_well_after_a_failure_that_was_told_tells_it_once(
    metadata: Metadata, dags: dict[str, Any]
) -> None:
    metadata.states = FAILED_BUILD
    tell_failure(context(dags[REFRESH]))
    metadata.states = {"publish": "success"}
    tell_success(context(dags[REFRESH], run_type="manual"))
    tell_success(context(dags[REFRESH], run_type="manual"))
    assert [message.event for message in metadata.told] == ["failure", "recovery"]
    assert metadata.variables == {"customer_360_published": "2026-03-31"}


def test_a_run_that_goes_well_after_no_failure_tells_nothing(metadata: Metadata, dags: dict[str, Any]) -> None:
    metadata.states = {"publish": "success"}
    tell_success(context(dags[REFRESH]))
    assert metadata.told == []


def test_a_failure_that_nobody_heard_of_has_no_recovery(metadata: Metadata, dags: dict[str, Any]) -> None:
    metadata.states, metadata.heard = FAILED_BUILD, False
    tell_failure(context(dags[REFRESH]))
    metadata.states = {"publish": "success"}
    tell_success(context(dags[REFRESH]))
    assert [message.event for message in metadata.told] == ["failure"]


def test_the_next_night_ends_the_failure_of_the_last_and_an_older_date_does_not(
    metadata: Metadata, dags: dict[str, Any]
) -> None:
    metadata.states = FAILED_BUILD
    tell_failure(context(dags[REFRESH], date="2026-03-30"))
    metadata.states = {"publish": "skipped"}
    tell_success(context(dags[REFRESH], date="2026-03-29", run_type="manual"))
    assert [message.event for message in metadata.told] == ["failure"]
    metadata.states = {"publish": "success"}
    tell_success(context(dags[REFRESH], date="2026-03-31"))
    assert [message.event for message in metadata.told] == ["failure", "recovery"]


def test_a_backfill_that_fails_the_same_way_date_after_date_tells_the_first(
    metadata: Metadata, dags: dict[str, Any]
) -> None:
    metadata.states = FAILED_BUILD
    for date in ("2026-03-01", "2026-03-02", "2026-03-03"):
        tell_failure(context(dags[REFRESH], date=date, run_type="backfill"))
    assert [message.as_of_date for message in metadata.told] == ["2026-03-01"]
    metadata.states = {"validate_sources": "failed"}
    tell_failure(context(dags[REFRESH], date="2026-03-04", run_type="backfill"))
    assert [message.as_of_date for message in metadata.told] == ["2026-03-01", "2026-03-04"]


def test_a_backfilled_date_ends_its_own_failure_only(metadata: Metadata, dags: dict[str, Any]) -> None:
    metadata.states = FAILED_BUILD
    tell_failure(context(dags[REFRESH], date="2026-03-01", run_type="backfill"))
    metadata.states = {"publish": "skipped"}
    tell_success(context(dags[REFRESH], date="2026-03-02", run_type="backfill"))
    tell_success(context(dags[REFRESH], date="2026-03-31"))
    assert [message.event for message in metadata.told] == ["failure"]
    tell_success(context(dags[REFRESH], date="2026-03-01", run_type="backfill"))
    assert [message.event for message in metadata.told] == ["failure", "recovery"]


# Marts that are late, and a watch outside


@pytest.fixture
def metadata_database(tmp_path: Path) -> Iterator[Session]:
    """A metadata database with nothing but runs."""
    engine = create_engine(f"sqlite:///{tmp_path}/airflow.db")
    with engine.begin() as connection:
        connection.execute(text("create table dag_run (dag_id text, run_id text, run_type text, partition_key text)"))
        connection.execute(
            text("insert into dag_run values (:dag_id, :run_id, :run_type, :key)"),
            [
                {"dag_id": REFRESH, "run_id": run_type + "__" + str(key), "run_type": run_type, "key": key}
                for run_type, key in (
                    ("scheduled", "2026-03-07"),
                    ("scheduled", "2026-03-06"),
                    ("scheduled", "2026-10-31"),
                    ("backfill", "2026-03-07"),
                    ("manual", None),
                )
            ],
        )
    with Session(engine) as session:
        yield session


@pytest.mark.parametrize(
    ("run_id", "moment"),
    [
        ("scheduled__2026-03-06", datetime.datetime(2026, 3, 7, 10, tzinfo=datetime.UTC)),
        # Clocks go forward on 8 March, and back on 1 November.
        ("scheduled__2026-03-07", datetime.datetime(2026, 3, 8, 9, tzinfo=datetime.UTC)),
        ("scheduled__2026-10-31", datetime.datetime(2026, 11, 1, 10, tzinfo=datetime.UTC)),
        ("backfill__2026-03-07", None),
        ("manual__None", None),
    ],
)
def test_a_scheduled_run_has_until_five_in_new_york_and_no_other_has_a_deadline(
    metadata_database: Session, run_id: str, moment: datetime.datetime | None
) -> None:
    assert PublishedBy()._evaluate_with(session=metadata_database, dag_id=REFRESH, run_id=run_id) == moment


def test_with_never_there_is_no_deadline(metadata_database: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBLISHED_BY", "never")
    reference = PublishedBy()
    assert reference._evaluate_with(session=metadata_database, dag_id=REFRESH, run_id="scheduled__2026-03-06") is None


def test_who_was_published_by_another_run_is_not_late(metadata: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda **_: {RUN_ID: {"publish": "running"}})
    run = {"dag_run": {"dag_id": REFRESH, "dag_run_id": RUN_ID, "partition_key": "2026-03-31"}}
    metadata.variables["customer_360_published"] = "2026-03-30"
    asyncio.run(tell_late(run))
    assert [message.event for message in metadata.told] == ["late"]
    assert "  running: publish" in metadata.told[0].text
    metadata.variables["customer_360_published"] = "2026-03-31"
    asyncio.run(tell_late(run))
    assert len(metadata.told) == 1


@pytest.mark.parametrize(
    ("answer", "said", "calls"),
    [(200, "The heartbeat at 127.0.0.1 is told.", 1), (500, "was not told, in 2 tries: HTTP 500", 2)],
)
def test_the_heartbeat_is_called_and_a_bad_answer_only_warns(
    servers: AlertServers, monkeypatch: pytest.MonkeyPatch, answer: int, said: str, calls: int
) -> None:
    monkeypatch.setenv("HEARTBEAT_URL", f"http://127.0.0.1:{servers.http_port}/ping/secret")
    servers.answer = answer
    lines: list[str] = []
    call_heartbeat(*[lambda text, *values: lines.append(text % values)] * 2)
    assert said in lines[-1]
    assert [posted.path for posted in servers.posts] == ["/ping/secret"] * calls
    assert "secret" not in "".join(lines)


def test_a_heartbeat_that_nobody_answers_only_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTBEAT_URL", f"http://127.0.0.1:{free_port()}/ping/secret")
    lines: list[str] = []
    call_heartbeat(*[lambda text, *values: lines.append(text % values)] * 2)
    assert "was not told, in 2 tries: ConnectError" in lines[-1]
    assert "secret" not in "".join(lines)


def test_without_a_heartbeat_nothing_is_called() -> None:
    call_heartbeat(*[pytest.fail] * 2)
