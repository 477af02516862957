"""What the tasks that watch the dbt build show when it does not go well; none of them builds anything itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import psutil
import pytest

from include.customer_360.settings import PROJECT_ROOT
from tests.deployment import Deployment
from tests.end_to_end.conftest import LAST_DAY, SecondRun

PRODUCER = "dbt_build.dbt_producer_watcher"
GROUP = "dbt_build."


def watchers(deployment: Deployment, run_id: str) -> dict[str, str]:
    """Return the state of each watcher of a run, by its node's name."""
    tasks = deployment.tasks(run_id).items()
    return {
        task_id.rpartition(".")[2]: state
        for task_id, state in tasks
        if task_id.startswith(GROUP) and not task_id.startswith(PRODUCER)
    }


def wait_for_first_model(deployment: Deployment, run_id: str) -> None:
    """Wait until stg_customers, the first model of the run's dbt build, is built."""
    deadline = time.monotonic() + 120
    while watchers(deployment, run_id).get("stg_customers") != "success":
        assert time.monotonic() < deadline, deployment.tasks(run_id)
        time.sleep(0.1)


def producer_of(deployment: Deployment, run_id: str) -> dict:
    path = f"dags/customer_360_refresh/dagRuns/{run_id}/taskInstances/{PRODUCER}"
    return deployment.client.get(path).raise_for_status().json()


def assert_nothing_is_published(deployment: Deployment, run_id: str, marts: dict[str, list[tuple]]) -> None:
    assert deployment.tasks(run_id)["publish"] == "upstream_failed"
    assert deployment.published() == marts
    assert deployment.asset_events(run_id) == []


def test_a_green_build_turns_every_watcher_green_and_shows_the_sql(deployment: Deployment, green: str) -> None:
    assert set(watchers(deployment, green).values()) == {"success"}
    path = f"dags/customer_360_refresh/dagRuns/{green}/taskInstances"
    [profile] = [task for task in deployment.tasks(green) if task.endswith(".customer_360_profile")][:1]
    sql = deployment.client.get(f"{path}/{profile}/xcomEntries/compiled_sql").raise_for_status().json()["value"]
    assert "eligible_for_retention_campaign" in sql


def test_when_the_build_is_killed_its_unbuilt_nodes_fail_and_a_new_run_of_the_date_publishes_it(
    deployment: Deployment, green: str
) -> None:
    run_id = deployment.start(as_of_date="2026-03-31", accept_drift=True)
    wait_for_first_model(deployment, run_id)
    os.kill(producer_of(deployment, run_id)["pid"], signal.SIGKILL)
    assert deployment.state(run_id) == "failed"
    assert deployment.tasks(run_id)[PRODUCER] == "failed"
    states = watchers(deployment, run_id)
    assert states["stg_customers"] == "success"
    assert states["customer_360_history"] == "failed"
    assert set(states.values()) == {"success", "failed"}
    assert deployment.tasks(run_id)["publish"] == "upstream_failed"
    assert deployment.asset_events(run_id) == []

    [second] = deployment.attempts(run_id)
    assert second == f"attempt_2__{run_id}"
    outcome, *_, replaced = deployment.note(run_id).splitlines()
    assert outcome.startswith(f"As of 2026-03-31: nothing published. {PRODUCER} failed: it was killed, or its worker")
    assert "if memory ran out, lower WAREHOUSE_MEMORY or give the worker more" in outcome
    assert replaced == f"Replaced by {second}."
    assert deployment.state(second) == "success", deployment.failures(second)
    assert f"Attempt 2 of 3, in place of {run_id}" in deployment.note(second)
    form = deployment.client.get(f"dags/customer_360_refresh/dagRuns/{second}").raise_for_status().json()["conf"]
    assert (form["as_of_date"], form["accept_drift"]) == ("2026-03-31", True)
    assert deployment.wait_for_export_of(second)["partition_key"] == "2026-03-31"
    assert deployment.attempts(run_id) == [second]


def test_a_build_that_somebody_marks_as_skipped_publishes_nothing(deployment: Deployment, green: str) -> None:
    marts = deployment.published()
    pool = {"name": "warehouse", "slots": 0, "include_deferred": False}
    deployment.client.patch("pools/warehouse", json=pool, params={"update_mask": "slots"}).raise_for_status()
    try:
        run_id = deployment.start(as_of_date="2026-03-31")
        while "deferred" not in watchers(deployment, run_id).values():
            time.sleep(0.2)
        path = f"dags/customer_360_refresh/dagRuns/{run_id}/taskInstances/{PRODUCER}"
        deployment.client.patch(path, json={"new_state": "skipped"}).raise_for_status()
    finally:
        pool["slots"] = 8
        deployment.client.patch("pools/warehouse", json=pool, params={"update_mask": "slots"}).raise_for_status()
    assert deployment.state(run_id) == "failed"
    assert set(watchers(deployment, run_id).values()) == {"failed"}
    assert_nothing_is_published(deployment, run_id, marts)


def test_a_failed_model_ends_the_run_and_fails_its_watcher_and_those_of_what_is_made_of_it(
    deployment: Deployment, green: str
) -> None:
    marts = deployment.published()
    deployment.query("alter table raw.customers rename column card_type to card")
    run_id, state = deployment.run(as_of_date="2026-03-31")
    assert state == "failed"
    assert "card_type" in deployment.log(run_id, PRODUCER)
    assert "card_type" in deployment.note(run_id)
    assert "would fail again" in deployment.log(run_id, "run_again")
    assert deployment.attempts(run_id) == []
    states = watchers(deployment, run_id)
    assert (states["stg_customers"], states["dim_customer"], states["dim_date"]) == ("failed", "failed", "success")
    assert_nothing_is_published(deployment, run_id, marts)


def test_a_green_run_that_is_cleared_fails_and_leaves_the_marts(
    deployment: Deployment, second_run: SecondRun, green: str
) -> None:
    run_id, marts = second_run.run_id, deployment.published()
    cleared = {"dag_run_id": run_id, "dry_run": False, "only_failed": False, "reset_dag_runs": True}
    deployment.client.post("dags/customer_360_refresh/clearTaskInstances", json=cleared).raise_for_status()
    assert deployment.state(run_id) == "failed"
    assert set(watchers(deployment, run_id).values()) == {"failed"}
    assert deployment.tasks(run_id)["publish"] == "upstream_failed"
    assert deployment.published() == marts


@pytest.mark.skipif(sys.platform != "linux", reason="tells the components from each other by /proc")
def test_watchers_outlive_their_triggerer(deployment: Deployment, green: str) -> None:
    """A second triggerer takes the watchers while the first is held, and is killed in the middle of the build."""
    [triggerer] = deployment.components("triggerer")
    first = [triggerer, *triggerer.children(recursive=True)]
    with ExitStack() as at_the_end:
        for process in first:
            at_the_end.callback(process.resume)
            process.suspend()
        second = subprocess.Popen(
            [sys.executable, "-m", "airflow", "triggerer", "--skip-serve-logs"],
            cwd=PROJECT_ROOT,
            env=deployment.airflow.environment(int(deployment.airflow.url.rsplit(":", 1)[1])),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        at_the_end.callback(second.wait)
        at_the_end.callback(second.kill)
        run_id = deployment.start(as_of_date=LAST_DAY.isoformat())
        wait_for_first_model(deployment, run_id)
        for process in [psutil.Process(second.pid), *psutil.Process(second.pid).children(recursive=True)]:
            process.kill()
    # Whichever they are: nodes that were built while the second one came up end at its first look.
    assert "deferred" in watchers(deployment, run_id).values()

    assert deployment.state(run_id) == "success", deployment.failures(run_id)
    assert set(watchers(deployment, run_id).values()) == {"success"}
