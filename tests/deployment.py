"""A running Airflow and what its users see of it, for the tests that go from end to end."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import httpx
import psutil

from include.customer_360.settings import PROJECT_ROOT, Settings
from local.local_airflow import LocalAirflow, running_state

SECONDS_PER_RUN = 600
DAG_ID = "customer_360_refresh"
PRODUCER = "dbt_build.dbt_producer_watcher"


@dataclass
class Deployment:
    """A running Airflow, its warehouse and its audiences, as their users see them."""

    airflow: LocalAirflow
    client: httpx.Client
    settings: Settings

    def query(self, sql: str) -> list[tuple]:
        """Run SQL on the warehouse file, as soon as no task has it open; beside tasks that read where it reads only."""
        with self._opened(sql.split()[0].lower() in ("select", "from", "with", "describe")) as connection:
            return connection.execute(sql).fetchall()

    def reading(self) -> duckdb.DuckDBPyConnection:
        """Return a connection that reads the warehouse file, opened as soon as no task writes; it sees one state."""
        return self._opened(read_only=True)

    def in_copy(self, sql: str) -> list[tuple]:
        """Ask the copy that readers open; it is attached, since what is connected to stays open for the process."""
        with duckdb.connect() as connection:
            connection.execute(f"attach '{self.settings.published_file}' as copy (read_only); use copy")
            return connection.execute(sql).fetchall()

    def _opened(self, read_only: bool) -> duckdb.DuckDBPyConnection:
        deadline = time.monotonic() + 60
        while True:
            try:
                return duckdb.connect(str(self.settings.warehouse_file), read_only=read_only)
            except duckdb.IOException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def wait_until_back(self) -> None:
        """Wait until the API answers, after it was killed."""
        self.airflow.wait_for("metadatabase")

    def components(self, name: str) -> list[psutil.Process]:
        """Return the processes that are this component of Airflow, on Linux: one, or none between two."""
        assert self.airflow.process
        found = []
        for process in psutil.Process(self.airflow.process.pid).children():
            # One that is ending has no open files any more.
            with suppress(OSError):
                if Path(f"/proc/{process.pid}/fd/1").readlink().name == f"{name}.log":
                    found.append(process)
        return found

    def start_again(self) -> None:
        """Start Airflow where all of it was killed, at the same address."""
        assert self.airflow.process
        self.airflow.process.wait()
        while running_state(self.airflow.home):
            time.sleep(0.1)
        self.airflow.port = int(self.airflow.url.rsplit(":", 1)[1])
        self.airflow.start()
        self.airflow.wait_until_healthy()

    def keep(self, folder: Path) -> None:
        """Copy the warehouse file, its copy and the audiences to a folder, as they are when no task has the file."""
        self.query("checkpoint")
        folder.mkdir(exist_ok=True)
        shutil.copy(self.settings.warehouse_file, folder / "warehouse.duckdb")
        for copy in (self.settings.published_file, self.settings.published_personal_file):
            shutil.copy(copy, folder / copy.name)
        shutil.copytree(self.settings.export_root, folder / "exports")

    def put_back(self, folder: Path) -> None:
        """Put warehouse, copy and audiences back as `keep` left them, whatever was done since; no run goes on."""
        self.airflow.fail_cut_off_runs(self.client)
        # Once this has the file, no task has it.
        self.query("checkpoint")
        warehouse_file = self.settings.warehouse_file
        assert not warehouse_file.with_name(f"{warehouse_file.name}.wal").exists()
        shutil.copy(folder / "warehouse.duckdb", warehouse_file)
        for copy in (self.settings.published_file, self.settings.published_personal_file):
            shutil.copy(folder / copy.name, copy)
        shutil.rmtree(self.settings.export_root, ignore_errors=True)
        shutil.copytree(folder / "exports", self.settings.export_root)

    def start(self, dag_id: str = DAG_ID, **conf: object) -> str:
        """Trigger a Dag with this form, and return the run's id."""
        answer = self.client.post(f"dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": conf})
        return answer.raise_for_status().json()["dag_run_id"]

    def state(self, run_id: str, dag_id: str = DAG_ID, seconds: float = SECONDS_PER_RUN) -> str:
        """Wait until the run has ended, and return its state."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.airflow.check()
            state = self.client.get(f"dags/{dag_id}/dagRuns/{run_id}").raise_for_status().json()["state"]
            if state in ("success", "failed"):
                return state
            time.sleep(0.5)
        raise TimeoutError(f"{dag_id} {run_id} did not end within {seconds:.0f} s: {self.tasks(run_id, dag_id)}")

    def run(self, **conf: object) -> tuple[str, str]:
        """Trigger a run, wait for it, and return its id and state."""
        run_id = self.start(**conf)
        return run_id, self.state(run_id)

    def note(self, run_id: str, dag_id: str = DAG_ID) -> str:
        """Return the note of a run."""
        return self.client.get(f"dags/{dag_id}/dagRuns/{run_id}").raise_for_status().json()["note"]

    def attempts(self, run_id: str) -> list[str]:
        """Return the ids of the runs that were started in place of this one."""
        answer = self.client.get(f"dags/{DAG_ID}/dagRuns", params={"order_by": "-run_after", "limit": 100})
        runs = [run["dag_run_id"] for run in answer.raise_for_status().json()["dag_runs"]]
        return [run for run in runs if run.startswith("attempt_") and run.endswith(f"__{run_id}")]

    def warnings(self, run_id: str) -> list[str]:
        """Return what is worse than information in the logs of a run's tasks, those of its exports too."""
        logs = Path(self.airflow.home / "logs")
        exports = self.wait_for_export_of(run_id)["dag_run_id"]
        files = [file for run in (run_id, exports) for file in logs.glob(f"*/run_id={run}/**/*.log")]
        entries = [(file, json.loads(line)) for file in files for line in file.read_text().splitlines()]
        return [
            f"{file.parent.name}: {entry['event']}"
            for file, entry in entries
            if entry.get("level") not in ("info", "debug")
        ]

    def tasks(self, run_id: str, dag_id: str = DAG_ID) -> dict[str, str]:
        """Return the state of each task of a run, by task_id."""
        answer = self.client.get(f"dags/{dag_id}/dagRuns/{run_id}/taskInstances", params={"limit": 200})
        return {task["task_id"]: task["state"] for task in answer.raise_for_status().json()["task_instances"]}

    def failures(self, run_id: str) -> str:
        """Return what the failed tasks of a run logged last; of a failed build's nodes nothing, it says it all."""
        failed = [task_id for task_id, state in self.tasks(run_id).items() if state in ("failed", "up_for_retry")]
        if PRODUCER in failed:
            failed = [task_id for task_id in failed if task_id == PRODUCER or not task_id.startswith("dbt_build.")]
        return "\n".join(f"{task_id}:\n{self.log(run_id, task_id)[-3000:]}" for task_id in failed)

    def log(self, run_id: str, task_id: str, attempt: int = 1, dag_id: str = DAG_ID, map_index: int = -1) -> str:
        """Return what a task logged, as text."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}"
        params = {"full_content": True, "map_index": map_index}
        answer = self.client.get(path, params=params, headers={"Accept": "application/x-ndjson"})
        return answer.raise_for_status().text

    def exports(self) -> list[dict[str, Any]]:
        """Wait until no campaign_exports run is under way, and return them, the earliest first."""
        deadline = time.monotonic() + SECONDS_PER_RUN
        while time.monotonic() < deadline:
            answer = self.client.get("dags/campaign_exports/dagRuns", params={"order_by": "run_after"})
            runs = answer.raise_for_status().json()["dag_runs"]
            if all(run["state"] in ("success", "failed") for run in runs):
                return runs
            time.sleep(0.5)
        raise TimeoutError(f"campaign_exports did not end within {SECONDS_PER_RUN} s")

    def wait_for_export(self, count: int) -> list[dict[str, Any]]:
        """Wait until `count` runs of campaign_exports have ended, and return them."""
        deadline = time.monotonic() + SECONDS_PER_RUN
        while len(runs := self.exports()) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"campaign_exports has {len(runs)} runs, not {count}")
            time.sleep(0.5)
        return runs

    def asset_events(self, run_id: str) -> list[dict[str, Any]]:
        """Return the asset events of a run: what makes other Dags start."""
        answer = self.client.get("assets/events", params={"source_run_id": run_id})
        return answer.raise_for_status().json()["asset_events"]

    def wait_for_export_of(self, run_id: str, seconds: float = SECONDS_PER_RUN) -> dict[str, Any]:
        """Wait until the run of campaign_exports that this run started has ended, and return it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            newest = {"order_by": "-run_after", "limit": 100, "state": ["success", "failed"]}
            answer = self.client.get("dags/campaign_exports/dagRuns", params=newest)
            for run in answer.raise_for_status().json()["dag_runs"]:
                path = f"dags/campaign_exports/dagRuns/{run['dag_run_id']}/upstreamAssetEvents"
                events = self.client.get(path).raise_for_status().json()["asset_events"]
                if any(event["source_run_id"] == run_id for event in events):
                    return run
            self.airflow.check()
            time.sleep(0.5)
        raise TimeoutError(f"no campaign_exports run that {run_id} started has ended within {seconds:.0f} s")

    def wait_for_backfills(self, seconds: float = 120) -> None:
        """Airflow takes one backfill of a Dag at a time, and counts one as ended up to half a minute after its runs."""
        deadline = time.monotonic() + seconds
        while True:
            backfills = self.client.get("backfills", params={"dag_id": DAG_ID}).raise_for_status().json()["backfills"]
            if all(backfill["completed_at"] for backfill in backfills):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"not completed within {seconds:.0f} s: {backfills}")
            time.sleep(1)

    def published(self) -> dict[str, list[tuple]]:
        """Return every row of every published mart, in order."""
        # The views beside them are of the audiences, with the ids of runs.
        marts = self.query(
            "select table_name from information_schema.tables "
            "where table_schema = 'marts' and table_type = 'BASE TABLE' order by 1"
        )
        return {mart: self.query(f"select * from marts.{mart} order by all") for (mart,) in marts}

    def audiences(self) -> dict[str, bytes]:
        """Return the bytes of every audience, by its path below the export root."""
        root = Path(self.settings.export_root)
        return {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("audience.csv"))}

    def command(self, *arguments: str) -> str:
        """Run the `airflow` command line against this deployment, and return what it printed."""
        environment = self.airflow.environment(int(self.airflow.url.rsplit(":", 1)[1]))
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            cwd=PROJECT_ROOT,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        )
        return done.stdout


@contextmanager
def deployed(
    settings: Settings,
    environment: Mapping[str, str] | None = None,
    kind: type[Deployment] = Deployment,
    by_the_clock: bool = False,
    as_a_service: bool = False,
) -> Iterator[Deployment]:
    """Start Airflow on this warehouse, with the Dags parsed; its state is removed at the end.

    :param environment: more variables for its processes.
    :param by_the_clock: scheduled runs start when they are due.
    :param as_a_service: components that end are started again.
    """
    # Small runs wait for the scheduler more than for their work, and no blip here takes minutes.
    eager = {"AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.25", "RUN_AGAIN_AFTER_MINUTES": "0"}
    airflow = LocalAirflow(
        settings,
        by_the_clock=by_the_clock,
        as_a_service=as_a_service,
        environment={**eager, **(environment or {})},
    )
    try:
        with airflow:
            airflow.wait_until_healthy()
            with airflow.client() as client:
                yield kind(airflow, client, settings)
    finally:
        shutil.rmtree(airflow.home, ignore_errors=True)
