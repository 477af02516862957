"""How a local Airflow starts where an earlier one left something: an old database, a run that was under way."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from include.customer_360.settings import Settings
from local import local_airflow
from local.airflow_components import kill_all_of, migrate, prepare_database, sqlite_uri
from local.local_airflow import LocalAirflow, running_state


@pytest.fixture
def airflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAirflow]:
    """An Airflow on a warehouse without sources, not started; whatever runs of it is stopped at the end."""
    monkeypatch.setattr(local_airflow, "STATE_FOLDER", tmp_path / "state")
    settings = Settings(warehouse_file=tmp_path / "w.duckdb", export_root=str(tmp_path / "exports"), _env_file=None)
    airflow = LocalAirflow(settings)
    try:
        yield airflow
    finally:
        airflow.stop()


def runs_in(database: Path) -> list[tuple[str, str]]:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return connection.execute("select run_id, state from dag_run").fetchall()


def states_of_tasks(client: httpx.Client, run: str) -> dict[str, str | None]:
    tasks = client.get(f"{run}/taskInstances").raise_for_status().json()["task_instances"]
    return {task["task_id"]: task["state"] for task in tasks}


def test_an_upgraded_home_keeps_its_runs_and_the_empty_template_has_none(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    migrate(sqlite_uri(old / "airflow.db"))
    with contextlib.closing(sqlite3.connect(old / "airflow.db")) as connection:
        connection.execute(
            "insert into dag_run (dag_id, run_id, state, run_type, run_after, log_template_id, clear_number, "
            "span_status, context_carrier, triggered_by, updated_at) values "
            "('customer_360_refresh', 'of_old', 'success', 'manual', '2026-04-01', 1, 0, 'ended', '{}', 'REST_API', "
            "'2026-04-01')"
        )
        connection.commit()
    template = tmp_path / "empty-9.9.9.db"

    prepare_database(old, template)
    prepare_database(new, template)

    assert runs_in(old / "airflow.db") == [("of_old", "success")]
    assert runs_in(template) == []
    assert runs_in(new / "airflow.db") == []
    assert sorted(file.name for file in tmp_path.iterdir()) == ["empty-9.9.9.db", "new", "old"]


def test_a_run_that_a_kill_cut_off_ends_as_failed_at_the_next_start(airflow: LocalAirflow) -> None:
    airflow.start()
    airflow.wait_until_healthy()
    with airflow.client() as client:
        # Of the run, what uses the warehouse is not to start before it is cut off.
        closed = {"name": "warehouse", "slots": 0, "include_deferred": False}
        client.patch("pools/warehouse", json=closed, params={"update_mask": "slots"}).raise_for_status()
        run = client.post("dags/customer_360_refresh/dagRuns", json={"logical_date": None}).raise_for_status().json()
        path = f"dags/customer_360_refresh/dagRuns/{run['dag_run_id']}"
        # But for the watchers of the dbt build, which take no slot, and the first task, which is in another pool.
        while (states := states_of_tasks(client, path))["check_export_root"] != "success" or (
            "deferred" not in states.values()
        ):
            time.sleep(0.2)
    kill_all_of(airflow.home)
    assert airflow.process
    airflow.process.wait()
    while running_state(airflow.home):
        time.sleep(0.1)
    with contextlib.closing(sqlite3.connect(airflow.home / "airflow.db")) as connection:
        killed = connection.execute("select count(*) from job where state = 'running'").fetchone()
    assert killed == (3,)

    airflow.start()
    airflow.wait_until_healthy()

    with airflow.client() as client:
        assert client.get(path).raise_for_status().json()["state"] == "failed"
        tasks = client.get(f"{path}/taskInstances").raise_for_status().json()["task_instances"]
        assert [task["task_id"] for task in tasks if task["state"] == "success"] == ["check_export_root"]
        cut_off = [task for task in tasks if task["task_id"] != "check_export_root"]
        assert {(task["state"], task["pid"]) for task in cut_off} == {("skipped", None), ("failed", None)}
        assert {task["operator_name"] for task in tasks if task["state"] == "failed"} == {"DbtNodeWatcherOperator"}
        assert client.get("pools/warehouse").raise_for_status().json()["slots"] == 8
        assert client.get("pools/core_load").raise_for_status().json()["slots"] == 1
