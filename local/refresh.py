"""One whole refresh on this machine: sample, Airflow, customer_360_refresh, campaign_exports, summary.

Run by `make refresh`. Everything that it starts is stopped when it ends.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from rich.console import Console
from rich.status import Status

from include.customer_360.as_of_date import decide_as_of_date
from include.customer_360.duckdb_file import what_damage_asks_for
from include.customer_360.failures import one_line
from include.customer_360.settings import Settings, SettingsError, load_settings
from local.airflow_components import last_lines
from local.local_airflow import LocalAirflow, LocalAirflowError, home_of, refuse_second
from local.sample import make_sample, needs_sample
from local.sources import WarehouseError, what_no_room_asks_for
from local.summary import print_summary

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_WITHOUT_PROGRESS = 600
SECONDS_TO_START_EXPORTS = 120
UNAVAILABLE_LOOKS = 10
# dbt's events about one node, in its structured log, and what a node's status is for people: the others are no news.
DBT_START = "LogStartLine"
DBT_RESULTS = ("LogModelResult", "LogSeedResult", "LogSnapshotResult", "LogTestResult")
DBT_STATES = {"success": "success", "error": "failed", "runtime error": "failed", "fail": "failed"}
DBT_BUILD = "DbtProducerWatcherOperator"
# It starts a later run, which no Airflow that ends with this one would come to.
RUN_AGAIN = "RunAgainOperator"
FINISHED = ("success", "failed", "skipped", "upstream_failed", "removed")


class RefreshFailed(RuntimeError):
    """The refresh ended without its result; the message says which task, why, and where its log is."""


@dataclass
class DagRunView:
    """What the REST API tells of one Dag run, and what was shown of it already."""

    client: httpx.Client
    dag_id: str
    run_id: str
    logs: Path
    dbt_log: Path
    state: str = "queued"
    tasks: list[dict] = field(default_factory=list)
    dbt_seconds: dict[str, float] = field(default_factory=dict)
    building: str = ""
    shown: set[str] = field(default_factory=set)

    @property
    def path(self) -> str:
        """Return the run's path under /api/v2/."""
        return f"dags/{self.dag_id}/dagRuns/{self.run_id}"

    def get(self, path: str, **parameters: int) -> dict:
        """Return the answer for a path under the run's."""
        return self.client.get(f"{self.path}{path}", params=parameters).raise_for_status().json()

    def look(self) -> None:
        """Read the state of the run, then of its tasks, so that a finished run has no task unseen."""
        self.state = self.get("")["state"]
        self.tasks = self.get("/taskInstances", limit=1000)["task_instances"]

    def news(self) -> Iterator[tuple[str, str, float | None]]:
        """Yield name, state and seconds of each step that finished since the last look, in order of finishing.

        The nodes of a dbt build are steps of their own, as dbt's structured log has them. The tasks that merely watch
        them are left out, unless they fail.
        """
        for task in sorted(self.tasks, key=lambda task: task["end_date"] or "~"):
            step, state, operator = step_name(task), task["state"], task["operator_name"] or ""
            if operator == DBT_BUILD and state is not None and step not in self.shown:
                yield from self.dbt_news(task)
            follows = operator == RUN_AGAIN or (operator.endswith("WatcherOperator") and operator != DBT_BUILD)
            quiet = (follows and state != "failed") or (operator == "EmptyOperator" and state == "success")
            if state == "up_for_retry" and (attempt := f"{step} {task['try_number']}") not in self.shown:
                self.shown.add(attempt)
                reason = one_line(why_it_failed(self.log_of(task)))
                yield step, f"failed, will be tried again: {reason}", task["duration"]
            elif state == "awaiting_input" and (question := f"{step} asks") not in self.shown:
                self.shown.add(question)
                yield step, "waits for an answer in the Airflow UI", None
            elif state in ("success", "failed", "skipped") and step not in self.shown and not quiet:
                self.shown.add(step)
                yield step, state, task["duration"]

    def dbt_news(self, build: dict) -> Iterator[tuple[str, str, float | None]]:
        """Yield the nodes that this `dbt build` finished since the last look, but for the tests that passed."""
        group = build["task_id"].rpartition(".")[0]
        for event in read_log(self.dbt_log):
            kind, node = event["info"]["name"], event["data"].get("node_info", {})
            if kind == DBT_START:
                self.building = node["node_name"]
            elif kind in DBT_RESULTS and (state := DBT_STATES.get(node["node_status"])):
                name, seconds = node["node_name"], event["data"]["execution_time"]
                step = f"{group}.{name}"
                if step not in self.shown:
                    self.shown.add(step)
                    self.dbt_seconds[name] = seconds
                    yield step, state, seconds

    def log_of(self, task: dict) -> Path:
        """Return the file that the task's last attempt logs to, one JSON object per line."""
        folder = self.logs / f"dag_id={self.dag_id}" / f"run_id={self.run_id}" / f"task_id={task['task_id']}"
        if task["map_index"] >= 0:
            folder = folder / f"map_index={task['map_index']}"
        return folder / f"attempt={task['try_number']}.log"

    def under_way(self) -> str:
        """Return the tasks that run; when none does, those that wait, each with its state."""
        running = [task for task in self.tasks if task["state"] == "running"]
        names = [
            f"{step_name(task)}: {self.building}" if task["operator_name"] == DBT_BUILD else step_name(task)
            for task in running
        ] or [f"{step_name(task)} ({task['state']})" for task in self.tasks if task["state"] not in FINISHED]
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

    def returned(self, task_id: str, map_index: int = -1) -> dict:
        """Return what a task that succeeded handed back."""
        value = self.get(f"/taskInstances/{task_id}/xcomEntries/return_value", map_index=map_index)["value"]
        return json.loads(value) if isinstance(value, str) else value


def task_name(task: dict) -> str:
    """Return a task's id, and with it what one of several was mapped to: an export's destination."""
    mapped_to = f" {task['rendered_map_index'] or task['map_index']}" if task["map_index"] >= 0 else ""
    return f"{task['task_id']}{mapped_to}"


def step_name(task: dict) -> str:
    """Return a task's name for people: a dbt build goes by the name of its task group."""
    return task_name(task).removesuffix(".dbt_producer_watcher")


class Progress:
    """Prints one line per finished step; on a terminal, also what is under way."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.began = time.monotonic()
        self.status: Status | None = console.status("Starting", refresh_per_second=4) if console.is_terminal else None

    def __enter__(self) -> Progress:
        if self.status:
            self.status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.status:
            self.status.stop()

    def under_way(self, what: str) -> None:
        """Show what is under way, where that can be taken back."""
        if self.status:
            self.status.update(f"{clock(time.monotonic() - self.began)}  {what}")

    def step(self, name: str, state: str = "success", seconds: float | None = None) -> None:
        """Print a finished step."""
        took = "" if seconds is None else f"{seconds:.1f} s"
        remark = {"success": "", "failed": "  FAILED"}.get(state, f"  {state}")
        self.say(f"{clock(time.monotonic() - self.began):>6}  {name:<56}{took:>9}{remark}")

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def clock(seconds: float) -> str:
    """Return 75.2 as 1:15."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def follow(airflow: LocalAirflow, run: DagRunView, progress: Progress) -> None:
    """Show the run's steps as they finish, until the run has ended.

    :raises RefreshFailed: when it failed.
    :raises httpx.HTTPError: when the API server does not answer, time and again.
    :raises LocalAirflowError: when a component of Airflow ended.
    """
    last_change, unavailable = time.monotonic(), 0
    while run.state not in ("success", "failed"):
        time.sleep(SECONDS_BETWEEN_LOOKS)
        airflow.check()
        try:
            run.look()
            news = list(run.news())
        except httpx.HTTPError:
            unavailable += 1
            if unavailable > UNAVAILABLE_LOOKS:
                raise
            continue
        unavailable = 0
        for name, state, seconds in news:
            progress.step(name, state, seconds)
            last_change = time.monotonic()
        under_way = run.under_way() or f"{run.dag_id}, which is {run.state}"
        progress.under_way(under_way)
        if time.monotonic() - last_change > SECONDS_WITHOUT_PROGRESS:
            airflow.check_imports(run.client)
            progress.say(f"Nothing has finished for {clock(time.monotonic() - last_change)}. Waiting for {under_way}")
            last_change = time.monotonic()
    if run.state == "failed":
        why = what_failed(run)
        file = airflow.settings.warehouse_file
        raise RefreshFailed(why + what_no_room_asks_for(why, file) + what_damage_asks_for(why, file))


def what_failed(run: DagRunView) -> str:
    """Return which tasks failed, first things first, each with why and with its log's path."""
    failed = sorted((task for task in run.tasks if task["state"] == "failed"), key=lambda task: task["end_date"] or "~")
    if not failed:
        return f"{run.dag_id} failed, though no task of it did: the run was ended from outside, or timed out."
    # A failed dbt build fails the tasks that watch its nodes too: one of them says it all.
    builds = [task for task in failed if task["operator_name"] == DBT_BUILD]
    return "\n\n".join(
        f"{run.dag_id}: task {task_name(task)} failed.\n{why_it_failed(run.log_of(task))}\nFull log: {run.log_of(task)}"
        for task in (builds or failed)[:3]
    )


def why_it_failed(log: Path) -> str:
    """Return the error that ended a task, from its log; without one, the log's last lines."""
    reason = ""
    for entry in read_log(log):
        if raised := entry.get("error_detail"):
            reason = raised[0]["exc_value"] or raised[0]["exc_type"]
        elif entry.get("level") in ("error", "critical") and not reason:
            reason = str(entry["event"])
    return reason or last_lines(log) or "It wrote no log: it was not started, or was killed."


def read_log(log: Path) -> Iterator[dict]:
    """Yield the entries of a log, one JSON object per line; none without a log. A line half written is left out."""
    if not log.is_file():
        return
    with log.open(errors="replace") as lines:
        for line in lines:
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(line)


def trigger(client: httpx.Client, airflow: LocalAirflow, as_of_date: datetime.date) -> DagRunView:
    """Start customer_360_refresh for this date."""
    run_id = f"refresh__{as_of_date}__{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S}"
    body = {"dag_run_id": run_id, "logical_date": None, "conf": {"as_of_date": as_of_date.isoformat()}}
    answer = client.post("dags/customer_360_refresh/dagRuns", json=body)
    if answer.is_error:
        raise RefreshFailed(f"customer_360_refresh cannot be started: {answer.text}")
    return DagRunView(client, "customer_360_refresh", run_id, airflow.home / "logs", airflow.dbt_log)


def started_exports(airflow: LocalAirflow, refresh: DagRunView, as_of_date: datetime.date) -> DagRunView | None:
    """Return the run of campaign_exports that this refresh's asset event starts; None when it published nothing.

    :raises RefreshFailed: when it published but no run follows.
    """
    # Not by the asset's events: the API cannot show one while the run it created waits to be started.
    if refresh.get("/taskInstances/publish")["state"] == "skipped":
        return None
    started = refresh.get("")["start_date"]
    deadline = time.monotonic() + SECONDS_TO_START_EXPORTS
    while time.monotonic() < deadline:
        airflow.check()
        newest = {"order_by": "-run_after", "run_after_gte": started, "limit": 20}
        runs = refresh.client.get("dags/campaign_exports/dagRuns", params=newest).raise_for_status().json()["dag_runs"]
        for run in runs:
            if run["partition_key"] == as_of_date.isoformat():
                return DagRunView(refresh.client, run["dag_id"], run["dag_run_id"], refresh.logs, refresh.dbt_log)
        time.sleep(SECONDS_BETWEEN_LOOKS)
    raise RefreshFailed(
        f"The marts of {as_of_date} are published, but no run of campaign_exports followed within "
        f"{SECONDS_TO_START_EXPORTS} s. The scheduler's log: {airflow.home}/logs/components/scheduler.log"
    )


def refresh(settings: Settings, console: Console, environment: Mapping[str, str] | None = None) -> None:
    """Run the whole refresh and print its summary.

    :param environment: more variables for Airflow's processes.
    :raises ValueError: when the as_of_date is not over yet.
    :raises LocalAirflowError, WarehouseError, RefreshFailed: when a part of it cannot start or fails.
    """
    requested = settings.as_of_date.isoformat() if settings.as_of_date else None
    as_of_date = decide_as_of_date(None, requested, datetime.datetime.now(datetime.UTC))
    home = home_of(settings)
    refuse_second(home)
    without_sources = needs_sample(settings, home)
    with (
        Progress(console) as progress,
        LocalAirflow(settings, environment=environment, say=progress.say) as airflow,
    ):
        progress.say(f"Customer 360 as of {as_of_date}, on {settings.warehouse_file}")
        if without_sources:
            progress.under_way("sample data (Airflow starts meanwhile)")
            sample = make_sample(settings)
            rows = f"sample: {sample.customers:,} customers, {sample.transactions:,} transactions"
            progress.step(rows, seconds=time.monotonic() - progress.began)
        progress.under_way("Airflow starts")
        airflow.wait_until_healthy()
        with airflow.client() as client:
            progress.step("Airflow is up", seconds=time.monotonic() - progress.began)
            run = trigger(client, airflow, as_of_date)
            follow(airflow, run, progress)
            exports = started_exports(airflow, run, as_of_date)
            decided: dict = {}
            audiences = []
            if exports:
                follow(airflow, exports, progress)
                decided = exports.returned("decide_audiences")["campaigns"]
                audiences = [
                    exports.returned(task["task_id"], task["map_index"])
                    for task in exports.tasks
                    if task["task_id"].startswith("export_") and task["state"] == "success"
                ]
            else:
                progress.say("Newer marts are published already: history is written, nothing is published or exported.")
        progress.under_way("stopping Airflow")
    print_summary(console, settings, as_of_date, run.run_id, run.dbt_seconds, decided, audiences)


def main() -> int:
    console = Console(highlight=False)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        refresh(load_settings(), console)
    except (SettingsError, LocalAirflowError, WarehouseError, RefreshFailed, ValueError) as problem:
        print(f"\n{problem}", file=sys.stderr)
        return 1
    except httpx.HTTPError as problem:
        print(f"\nAirflow's API server did not do what was asked: {problem!r}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupted:
        print("\nInterrupted: everything that was started is stopped.", file=sys.stderr)
        return 128 + (interrupted.args or (signal.SIGINT,))[0]
    return 0


def interrupt(number: int, _: object) -> None:
    """Treat another ending signal as Ctrl-C, so that whoever ends this process ends Airflow too."""
    raise KeyboardInterrupt(number)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
