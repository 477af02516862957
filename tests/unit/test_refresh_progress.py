"""What `make refresh` shows of a run while it goes on, and when it fails."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from local.refresh import DagRunView, clock, what_failed, why_it_failed

RUN = "refresh__2026-03-31"


@pytest.fixture
def run(tmp_path: Path) -> DagRunView:
    return DagRunView(httpx.Client(), "customer_360_refresh", RUN, tmp_path, tmp_path / "dbt.log")


def task(task_id: str, state: str | None, operator: str = "ValidateMartOperator", **more: object) -> dict:
    known = {"end_date": None, "duration": None, "try_number": 1, "map_index": -1}
    return {"task_id": task_id, "state": state, "operator_name": operator, **known, **more}


def log(run: DagRunView, failed: dict, *entries: dict | str) -> Path:
    file = run.log_of(failed)
    file.parent.mkdir(parents=True)
    file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in entries))
    return file


def test_finished_tasks_are_news_once_in_order_of_finishing(run: DagRunView) -> None:
    run.tasks = [
        task("publish", "success", end_date="2026-04-01T07:02:00Z", duration=2.5),
        task("validate_sources", "success", end_date="2026-04-01T07:01:00Z", duration=1.0),
        task("drop_run_schemas", "running"),
    ]

    assert list(run.news()) == [("validate_sources", "success", 1.0), ("publish", "success", 2.5)]
    assert list(run.news()) == []


def test_skipped_and_failed_tasks_are_news_and_those_behind_a_failed_one_are_not(run: DagRunView) -> None:
    run.tasks = [
        task("publish", "skipped", end_date="2026-04-01T07:01:00Z", duration=0.5),
        task("write_history", "failed", end_date="2026-04-01T07:02:00Z", duration=0.5),
        task("drop_run_schemas", "upstream_failed", end_date="2026-04-01T07:03:00Z"),
    ]

    assert list(run.news()) == [("publish", "skipped", 0.5), ("write_history", "failed", 0.5)]


def test_the_nodes_of_a_build_that_never_started_are_no_news(run: DagRunView) -> None:
    run.tasks = [
        task("validate_sources", "failed", end_date="2026-04-01T07:01:00Z", duration=0.5),
        task("dbt_build.models.core.dim_date", "skipped", "DbtNodeWatcherOperator", end_date="2026-04-01T07:02:00Z"),
    ]

    assert list(run.news()) == [("validate_sources", "failed", 0.5)]


def test_whether_a_later_run_will_follow_is_no_news(run: DagRunView) -> None:
    run.tasks = [task("run_again", "skipped", "RunAgainOperator"), task("run_again", "success", "RunAgainOperator")]

    assert list(run.news()) == []


def test_the_exports_of_a_campaign_go_by_their_destinations(run: DagRunView) -> None:
    run.tasks = [
        task("export_retention", "success", duration=1.0, map_index=0, rendered_map_index="csv"),
        task("export_retention", "failed", duration=2.0, map_index=1, rendered_map_index="google"),
    ]
    failure = {"error_detail": [{"exc_type": "AirflowException", "exc_value": "No room."}]}
    file = log(run, run.tasks[1], failure)

    assert list(run.news()) == [("export_retention csv", "success", 1.0), ("export_retention google", "failed", 2.0)]
    assert file.parent.name == "map_index=1"
    assert what_failed(run) == (
        f"customer_360_refresh: task export_retention google failed.\nNo room.\nFull log: {file}"
    )


def test_a_question_to_a_person_is_news_once(run: DagRunView) -> None:
    run.tasks = [task("approve_retention", "awaiting_input")]

    assert list(run.news()) == [("approve_retention", "waits for an answer in the Airflow UI", None)]
    assert list(run.news()) == []
    run.tasks = [task("approve_retention", "success", duration=61.0)]
    assert list(run.news()) == [("approve_retention", "success", 61.0)]


def test_each_attempt_that_will_be_followed_by_another_is_news_with_its_reason(run: DagRunView) -> None:
    run.tasks = [task("export_retention", "up_for_retry", duration=1.0)]
    raised = {"exc_type": "AirflowException", "exc_value": "The audience 'retention' cannot be written\nunder 'x'."}
    log(run, run.tasks[0], {"level": "error", "event": "Task failed with exception", "error_detail": [raised]})
    first, again = list(run.news()), list(run.news())
    run.tasks = [task("export_retention", "up_for_retry", duration=2.0, try_number=2)]

    reason = "The audience 'retention' cannot be written under 'x'."
    assert first == [("export_retention", f"failed, will be tried again: {reason}", 1.0)]
    assert again == []
    silent = "failed, will be tried again: It wrote no log: it was not started, or was killed."
    assert list(run.news()) == [("export_retention", silent, 2.0)]


def started(node: str) -> dict:
    return {"info": {"name": "LogStartLine"}, "data": {"node_info": {"node_name": node, "node_status": "started"}}}


def ended(kind: str, node: str, status: str, seconds: float) -> dict:
    data = {"node_info": {"node_name": node, "node_status": status}, "execution_time": seconds}
    return {"info": {"name": kind}, "data": data}


def dbt_events(run: DagRunView, *events: dict | str) -> None:
    run.dbt_log.write_text("".join(f"{event if isinstance(event, str) else json.dumps(event)}\n" for event in events))


BUILD = task("dbt_build.dbt_producer_watcher", "running", "DbtProducerWatcherOperator")


def test_nodes_of_a_dbt_build_are_news_once_with_the_seconds_that_dbt_took(run: DagRunView) -> None:
    watcher = task("dbt_build.models.core.dim_customer", "success", "DbtNodeWatcherOperator", duration=9.0)
    events = [
        {"info": {"name": "MainReportVersion"}, "data": {"version": "=1.11.16"}},
        started("dim_customer"),
        ended("LogModelResult", "dim_customer", "success", 3.64),
        ended("LogSeedResult", "merchant_categories", "success", 0.05),
        ended("LogSnapshotResult", "customers_snapshot", "success", 0.25),
        ended("LogModelResult", "stg_customers", "error", 0.1),
        started("fct_transactions"),
    ]
    dbt_events(run, *events, '{"info": {"name": "LogModelRe')
    run.tasks = [BUILD, watcher]

    assert list(run.news()) == [
        ("dbt_build.dim_customer", "success", 3.64),
        ("dbt_build.merchant_categories", "success", 0.05),
        ("dbt_build.customers_snapshot", "success", 0.25),
        ("dbt_build.stg_customers", "failed", 0.1),
    ]
    assert run.dbt_seconds == {
        "dim_customer": 3.64,
        "merchant_categories": 0.05,
        "customers_snapshot": 0.25,
        "stg_customers": 0.1,
    }
    assert run.under_way() == "dbt_build: fct_transactions"
    assert list(run.news()) == []

    dbt_events(run, *events, ended("LogModelResult", "fct_transactions", "success", 18.2))
    assert list(run.news()) == [("dbt_build.fct_transactions", "success", 18.2)]


def test_of_dbts_tests_only_those_that_failed_are_news(run: DagRunView) -> None:
    run.tasks = [BUILD]
    dbt_events(
        run,
        ended("LogTestResult", "unique_dim_customer_customer_key", "pass", 0.88),
        ended("LogTestResult", "not_null_dim_customer_customer_id", "warn", 0.1),
        ended("LogTestResult", "unique_fct_transactions_transaction_id", "fail", 0.2),
        ended("LogTestResult", "raw_equals_accepted_plus_superseded_plus_rejected", "error", 0.3),
        ended("LogNodeNoOpResult", "retention_campaign", "no-op", 0.0),
    )

    assert list(run.news()) == [
        ("dbt_build.unique_fct_transactions_transaction_id", "failed", 0.2),
        ("dbt_build.raw_equals_accepted_plus_superseded_plus_rejected", "failed", 0.3),
    ]


def test_before_dbt_has_written_a_line_nothing_is_news(run: DagRunView) -> None:
    run.tasks = [BUILD]

    assert list(run.news()) == []


def test_without_a_running_task_the_waiting_ones_are_named_with_their_states(run: DagRunView) -> None:
    run.tasks = [task(f"validate_{number}", "queued") for number in range(4)]

    assert run.under_way() == "validate_0 (queued), validate_1 (queued), validate_2 (queued) and 1 more"


def test_a_failed_task_is_reported_with_its_error_and_the_path_of_its_log(run: DagRunView) -> None:
    failed = task("validate_sources", "failed", end_date="2026-04-01T07:02:00Z", try_number=2)
    run.tasks = [failed, task("publish", "upstream_failed", end_date="2026-04-01T07:02:00Z")]
    file = log(
        run,
        failed,
        {"event": "Pre Execute", "level": "info"},
        {
            "event": "Task failed with exception",
            "level": "error",
            "error_detail": [
                {"exc_type": "ValidationFailed", "exc_value": "sources failed 1 of 3 checks", "frames": []}
            ],
        },
    )

    assert what_failed(run) == (
        "customer_360_refresh: task validate_sources failed.\nsources failed 1 of 3 checks\nFull log: " + str(file)
    )
    assert file.name == "attempt=2.log"


def test_a_failed_dbt_build_is_reported_without_the_tasks_that_watch_it(run: DagRunView) -> None:
    run.tasks = [
        task("dbt_build.models.core.dim_date", "failed", "DbtRunWatcherOperator", end_date="2026-04-01T07:01:00Z"),
        task("dbt_build.dbt_producer_watcher", "failed", "DbtProducerWatcherOperator", end_date="2026-04-01T07:02:00Z"),
    ]

    assert "dbt_build.dbt_producer_watcher failed" in what_failed(run)
    assert "dim_date" not in what_failed(run)


def test_without_an_exception_the_first_error_is_the_reason(run: DagRunView) -> None:
    failed = task("publish", "failed")
    entries = [{"event": "the first", "level": "error"}, {"event": "the second", "level": "error"}]

    assert why_it_failed(log(run, failed, *entries)) == "the first"


def test_a_log_without_any_error_is_quoted(run: DagRunView) -> None:
    failed = task("publish", "failed")

    assert why_it_failed(log(run, failed, "not JSON at all")) == "    not JSON at all\n"


def test_a_task_without_a_log_is_said_to_have_none(run: DagRunView) -> None:
    run.tasks = [task("publish", "failed")]

    assert "wrote no log" in what_failed(run)


@pytest.mark.parametrize(("seconds", "shown"), [(0.4, "0:00"), (75.2, "1:15"), (3600, "60:00")])
def test_clock_counts_minutes_and_seconds(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown
