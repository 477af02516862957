"""Which runs are started anew after a failure, how, and how often."""

from __future__ import annotations

import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowSkipException, DagRunTriggerException

from include.customer_360.failures import KILLED, WHY
from include.customer_360.operators.again import RunAgainOperator, attempt_of
from include.customer_360.settings import PROJECT_ROOT

PRODUCER = "dbt_build.dbt_producer_watcher"
WATCHER = "dbt_build.models.core.dim_date"
VALIDATION = "validate_marts.validate_customer_segments"
BLIP = {"reason": "int_customers: 250003: no answer", "transient": True}
DATA = {"reason": "customer_segments failed 1 of 14 checks", "transient": False}
FORM = {"as_of_date": None, "accept_drift": True, "full_refresh": True, "test_everything": False}


class TaskInstance:
    """Knows the states of a run's tasks, and why some of them failed."""

    def __init__(
        self,
        failed: dict[str, Any],
        paused: bool = False,
        at_first: dict[str, str] | None = None,
    ) -> None:
        self.failed = failed
        self.at_first = at_first or {}
        self.looks = 0
        self.paused = paused
        self.pushed: dict[str, Any] = {}

    def get_task_states(self, dag_id: str, run_ids: list[str]) -> dict[str, dict[str, str]]:
        assert dag_id == "customer_360_refresh"
        before = dict.fromkeys(
            ("check_export_root", "validate_sources", "keep_validation_results", PRODUCER), "success"
        )
        states = before | dict.fromkeys(("write_history", "publish"), "upstream_failed")
        states |= dict.fromkeys(self.failed, "failed")
        self.looks += 1
        return {run_ids[0]: states | (self.at_first if self.looks == 1 else {})}

    def xcom_pull(self, task_ids: str, key: str) -> Any:  # noqa: ANN401
        assert key == WHY
        return self.failed[task_ids]

    def xcom_push(self, key: str, value: object) -> None:
        self.pushed[key] = value

    def get_dag(self, dag_id: str) -> SimpleNamespace:
        return SimpleNamespace(is_paused=self.paused)


@pytest.fixture(scope="module")
def again() -> RunAgainOperator:
    return (
        DagBag(str(PROJECT_ROOT / "dags" / "customer_360_refresh.py"))
        .dags["customer_360_refresh"]
        .get_task("run_again")
    )


def execute(
    again: RunAgainOperator,
    ti: TaskInstance,
    run_id: str = "scheduled__2026-03-31",
    run_type: str = "scheduled",
    clear_number: int = 0,
) -> DagRunTriggerException:
    """Execute the task for a run of 2026-03-30, and return what it asks Airflow for."""
    task = again.prepare_for_execution()
    task.as_of_date, task.test_scope = "{{ '2026-03-30' }}", "everything"
    context = {
        "ti": ti,
        "dag_run": SimpleNamespace(run_id=run_id, run_type=run_type, clear_number=clear_number),
        "params": dict(FORM),
        "dag": again.dag,
    }
    with pytest.raises(DagRunTriggerException) as asked:
        task.execute(context)
    return asked.value


def skipped(again: RunAgainOperator, ti: TaskInstance, **run: Any) -> str:  # noqa: ANN401
    """Execute the task, which has to be skipped, and return why."""
    with pytest.raises(AirflowSkipException) as reason:
        execute(again, ti, **run)
    return str(reason.value)


@pytest.mark.parametrize("why", [BLIP, None], ids=["connection", "killed"])
def test_a_transient_failure_starts_a_run_of_the_same_date_with_the_same_form(
    again: RunAgainOperator, why: dict[str, Any] | None
) -> None:
    asked = execute(again, TaskInstance({PRODUCER: why, WATCHER: None}))
    assert asked.dag_run_id == "attempt_2__scheduled__2026-03-31"
    assert asked.conf == {
        "as_of_date": "2026-03-30",
        "accept_drift": True,
        "full_refresh": True,
        "test_everything": True,
    }
    said = why["reason"] if why else KILLED
    assert asked.note == (
        f"Attempt 2 of 3, in place of scheduled__2026-03-31, which failed: dbt_build.dbt_producer_watcher: {said}"
    )
    assert asked.logical_date is None


def test_the_new_run_waits_as_long_as_the_setting_says(
    again: RunAgainOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUN_AGAIN_AFTER_MINUTES", "7")
    waits = execute(again, TaskInstance({PRODUCER: BLIP})).run_after - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(minutes=6) < waits <= datetime.timedelta(minutes=7)


def test_the_second_attempt_is_followed_by_a_third_and_that_by_none(again: RunAgainOperator) -> None:
    second = execute(again, TaskInstance({PRODUCER: BLIP}), run_id="attempt_2__manual__1")
    assert second.dag_run_id == "attempt_3__manual__1"
    third = skipped(again, TaskInstance({PRODUCER: BLIP}), run_id="attempt_3__manual__1")
    assert third.startswith("Attempt 3 of 3: the date is not tried again.")


@pytest.mark.parametrize("failed", [{VALIDATION: DATA}, {PRODUCER: BLIP, VALIDATION: DATA}])
def test_a_data_error_is_never_tried_again_even_beside_a_transient_one(
    again: RunAgainOperator, failed: dict[str, Any]
) -> None:
    assert "validate_customer_segments would fail again" in skipped(again, TaskInstance(failed))


def test_it_waits_for_what_still_runs_and_may_fail_for_another_reason(
    again: RunAgainOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.customer_360.operators.again.SECONDS_BETWEEN_LOOKS", 0.0)
    ti = TaskInstance(
        {PRODUCER: BLIP, VALIDATION: DATA}, at_first={"keep_validation_results": "running", VALIDATION: "x"}
    )
    assert "validate_customer_segments would fail again" in skipped(again, ti)
    assert ti.looks == 2


def test_a_good_run_needs_no_process_for_it_and_a_failed_one_stays_failed(again: RunAgainOperator) -> None:
    assert again.trigger_rule == "one_failed"
    # What comes after it, whatever it does, is no end that a run's state hangs on alone.
    assert again.downstream_task_ids == {"log_night"}
    assert "drop_run_schemas" not in again.get_flat_relative_ids(upstream=True)
    ends = {task.task_id for task in again.dag.tasks if not task.downstream_task_ids}
    assert ends == {"log_night", "run_went_well"}


@pytest.mark.parametrize(
    ("ti", "run", "reason"),
    [
        (TaskInstance({WATCHER: None}), {}, "ended by somebody"),
        (TaskInstance({PRODUCER: BLIP}), {"clear_number": 1}, "Somebody cleared this run"),
        (TaskInstance({PRODUCER: BLIP}, paused=True), {}, "paused"),
        (TaskInstance({PRODUCER: BLIP}), {"run_type": "backfill"}, "--reprocess-behavior failed"),
    ],
    ids=["marked by hand", "cleared", "paused", "backfill"],
)
def test_no_run_is_started(again: RunAgainOperator, ti: TaskInstance, run: dict[str, Any], reason: str) -> None:
    assert reason in skipped(again, ti, **run)


def test_the_attempt_is_read_from_the_id_of_the_run() -> None:
    assert attempt_of("scheduled__2026-03-31") == (1, "scheduled__2026-03-31")
    assert attempt_of("attempt_3__scheduled__2026-03-31") == (3, "scheduled__2026-03-31")
