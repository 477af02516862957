"""What the producer of the dbt build writes to XCom, and when it refuses to start."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowFailException

from include.customer_360.failures import WHY, LostSight, keep_reason
from include.customer_360.operators.build import FAILED_TESTS, NODES, before_dbt_build, report_finished_nodes
from include.customer_360.settings import PROJECT_ROOT

NODE = "model.customer_analytics.int_customers"
BROKEN = "model.customer_analytics.customer_segments"
TEST = "test.customer_analytics.customer_360_history_has_one_row_per_customer"
AFTER_BROKEN = "model.customer_analytics.customer_360_profile"


class TaskInstance:
    """Keeps what is pushed, as (key, value)."""

    task_id = "dbt_build.dbt_producer_watcher"

    def __init__(self, try_number: int = 1) -> None:
        self.try_number = try_number
        self.pushed: list[tuple[str, Any]] = []

    def xcom_push(self, key: str, value: object) -> None:
        self.pushed.append((key, copy.deepcopy(value)))

    def xcom_pull(self, **_: object) -> None:
        return None


@pytest.fixture(scope="module")
def producer() -> Any:  # noqa: ANN401 - Cosmos' operator
    dags = DagBag(str(PROJECT_ROOT / "dags" / "customer_360_refresh.py")).dags
    return dags["customer_360_refresh"].get_task("dbt_build.dbt_producer_watcher")


def event(level: str, name: str, unique_id: str, node_status: str, **data: object) -> str:
    """Return an event as dbt hands it to its callbacks."""
    node_info = {
        "unique_id": unique_id,
        "node_name": unique_id.split(".")[-1],
        "node_status": node_status,
        "resource_type": unique_id.split(".")[0],
        "node_path": f"intermediate/{unique_id.split('.')[-1]}.sql",
    }
    return json.dumps({"info": {"name": name, "level": level, "msg": name}, "data": {"node_info": node_info, **data}})


def finished(unique_id: str, status: str, message: str) -> str:
    result = {"status": status, "message": message}
    return event("debug", "NodeFinished", unique_id, status, run_result=result)


def reported(producer: Any, folder: Path, *events: str) -> list[tuple[str, Any]]:  # noqa: ANN401
    """Return what a build in `folder` that has these events pushes."""
    report_finished_nodes(producer)
    parse = producer._make_parse_callable()
    task_instance = TaskInstance()
    for each in events:
        parse(each, {"context": {"ti": task_instance}, "project_dir": str(folder)})
    return task_instance.pushed


def test_each_finished_node_is_reported_once_beside_those_before_it(producer: Any, tmp_path: Path) -> None:  # noqa: ANN401
    pushed = reported(
        producer,
        tmp_path,
        event("info", "LogStartLine", NODE, "started"),
        finished(NODE, "success", "OK"),
        event("info", "LogModelResult", NODE, "success"),
        event("error", "LogModelResult", BROKEN, "error"),
        event("info", "SkippingDetails", AFTER_BROKEN, "skipped"),
    )
    success = {NODE: {"status": "success", "message": "LogModelResult"}}
    error = success | {BROKEN: {"status": "error", "message": "LogModelResult"}}
    skipped = error | {AFTER_BROKEN: {"status": "skipped", "message": "SkippingDetails"}}
    assert pushed == [(NODES, success), (NODES, error), (NODES, skipped)]


def test_a_data_test_is_no_node_to_watch(producer: Any, tmp_path: Path) -> None:  # noqa: ANN401
    of_test = event("error", "LogTestResult", "test.customer_analytics.unique_int_customers", "fail")
    assert reported(producer, tmp_path, of_test) == []


def test_what_failed_is_kept_with_what_dbt_says_of_it(producer: Any, tmp_path: Path) -> None:  # noqa: ANN401
    reported(
        producer,
        tmp_path,
        finished(NODE, "success", "OK"),
        finished(BROKEN, "error", "Database Error in model customer_segments\n  250003: no answer"),
        finished(TEST, "fail", "Got 1 result"),
        finished(AFTER_BROKEN, "skipped", "Skipping"),
    )
    assert producer.node_failures == {
        "customer_segments": "Database Error in model customer_segments\n  250003: no answer",
        TEST.rpartition(".")[2]: "Got 1 result",
    }
    # Not all that failed is a data test: the nodes say more.
    assert producer.failed_checks == []


def test_a_data_test_that_fails_is_a_failed_check_and_hands_on_its_sql(producer: Any, tmp_path: Path) -> None:  # noqa: ANN401
    compiled = tmp_path / "target/compiled/customer_analytics/tests" / f"{TEST.rpartition('.')[2]}.sql"
    compiled.parent.mkdir(parents=True)
    compiled.write_text("select 1\n")
    pushed = reported(producer, tmp_path, finished(TEST, "fail", "Got 1 result"))
    name = TEST.rpartition(".")[2]
    assert pushed == [
        (FAILED_TESTS, {TEST: {"name": name, "severity": "error", "message": "Got 1 result", "sql": "select 1"}})
    ]
    assert producer.failed_checks == [
        {
            "mart": "customer_360_history",
            "check": name,
            "observed": "Got 1 result",
            "expected": "no row",
            "examples": [],
        }
    ]


def test_the_sql_of_a_finished_model_is_kept_for_people(producer: Any, tmp_path: Path) -> None:  # noqa: ANN401
    compiled = tmp_path / "target/compiled/customer_analytics/models/intermediate/int_customers.sql"
    compiled.parent.mkdir(parents=True)
    compiled.write_text("select 1\n")
    pushed = reported(producer, tmp_path, event("info", "LogModelResult", NODE, "success"))
    assert pushed[1:] == [("model__customer_analytics__int_customers_compiled_sql", "select 1")]


def second_try(producer: Any, clear_number: int) -> dict[str, Any]:  # noqa: ANN401
    """Return the context of a second try in a run that was cleared so many times."""
    run = SimpleNamespace(clear_number=clear_number)
    return {"ti": TaskInstance(try_number=2), "dag_run": run, "dag": producer.dag, "task": producer}


def test_a_cleared_build_is_refused_with_the_way_to_run_the_date_again(producer: Any) -> None:  # noqa: ANN401
    with pytest.raises(AirflowFailException, match="Start a new run of customer_360_refresh for the same as_of_date"):
        before_dbt_build(second_try(producer, clear_number=1))


def test_a_second_try_that_nobody_asked_for_fails_so_that_a_new_run_follows(producer: Any) -> None:  # noqa: ANN401
    context = second_try(producer, clear_number=0)
    with pytest.raises(LostSight, match="the scheduler was stopped, or silent for too long") as lost:
        before_dbt_build(context)
    keep_reason({**context, "exception": lost.value})
    [(key, why)] = context["ti"].pushed
    assert (key, why["transient"]) == (WHY, True)
