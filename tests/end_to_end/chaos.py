"""Kills a part of a running night at a moment drawn by lot, recovers as a user would, and looks at what is left.

A night is a run of customer_360_refresh with the exports that it starts, by a real Airflow that is kept as a service
manager keeps it: a component that was killed is started again. Each begins with the warehouse and the audiences that a
green night of the day before left. What is left is held against an undisturbed night of the same date, table by table
and file by file.

    .venv/bin/python -m tests.end_to_end.chaos --nights 50 --seed 1

prints every night and, at the end, a table for benchmarks/README.md; it fails when one night was not held.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import hashlib
import json
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
import psutil

from include.customer_360.catalog import load_catalog
from include.customer_360.settings import PROJECT_ROOT, Settings
from local.airflow_components import kill_all_of
from local.sample import write_sample
from tests.deployment import DAG_ID, PRODUCER, Deployment, deployed

CATALOG = load_catalog()
EXPORTS = "campaign_exports"
DAY_BEFORE, DAY = "2026-03-30", "2026-03-31"
SECONDS_TO_END = 300.0
QUICK_TO_NOTICE = {
    # What is dead is taken for dead after seconds, where a deployment waits for minutes.
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",
}

TASKS: Mapping[str, tuple[str, Sequence[str]]] = {
    "the dbt build": (DAG_ID, (PRODUCER,)),
    "a validation": (
        DAG_ID,
        ("validate_sources", *(f"validate_marts.validate_{mart.name}" for mart in CATALOG.marts)),
    ),
    "keep_validation_results": (DAG_ID, ("keep_validation_results",)),
    "write_history": (DAG_ID, ("write_history",)),
    "publish": (DAG_ID, ("publish",)),
    "drop_run_schemas": (DAG_ID, ("drop_run_schemas",)),
    "log_night": (DAG_ID, ("log_night",)),
    "decide_audiences": (EXPORTS, ("decide_audiences",)),
    "validate_audiences": (EXPORTS, ("validate_audiences",)),
    "an export": (EXPORTS, tuple(f"export_{campaign.name}" for campaign in CATALOG.campaigns)),
    "log_exports": (EXPORTS, ("log_exports",)),
}
"""What is killed while it runs: a task's process, as the kernel kills one when memory runs out."""
COMPONENTS: Mapping[str, str] = {
    "the scheduler": "scheduler",
    "the scheduler with its tasks": "scheduler",
    "the API server": "api-server",
    "the Dag processor": "dag-processor",
    "the triggerer": "triggerer",
}
"""What is killed at a moment of the night, whatever runs: a component's process, or it and all below it."""
WORKER = "a worker with its task"
MACHINE = "everything at once"
VICTIMS = (*TASKS, *COMPONENTS, WORKER, MACHINE)

# What differs from night to night, and says nothing of whether it is right.
OF_ONE_RUN = {"dag_run_id", "run_schema", "published_at", "checked_at", "restated_at", "decided_at", "recorded_at"}
OF_ONE_RUN |= {"started_at", "finished_at", "begun_at"}
# Logs of what was tried: looked at by what they say of the last try.
LOGS = ("ops.publications", "ops.validation_results", "ops.export_runs", "ops.nights", "ops.night_steps")
Content = dict[str, tuple[int, int]]
"""Of a table or a part of one: the number of its rows, and the sum of their hashes."""


@dataclass(frozen=True)
class Kill:
    """Who is killed when: `after` is a share of what the task, or for a component the night, takes undisturbed."""

    victim: str
    after: float
    task_id: str = ""


@dataclass
class Night:
    """What came of one night."""

    kill: Kill
    moment: str = ""
    seconds_into: float = 0.0
    recovered_by: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Undisturbed:
    """What a night leaves that nobody disturbs, and how long it and its tasks take, in seconds."""

    before: Content
    tables: Content
    files: dict[str, str]
    seconds: float
    tasks: dict[str, float]

    def or_quicker(self, again: Undisturbed) -> Undisturbed:
        """Return this night with the shorter times of both: a moment that is drawn from longer ones comes too late."""
        tasks = {task_id: min(taken, again.tasks[task_id]) for task_id, taken in self.tasks.items()}
        return replace(self, seconds=min(self.seconds, again.seconds), tasks=tasks)


def quick_to_retry(folder: Path) -> dict[str, str]:
    """Copy the Dags, with two seconds in place of two minutes between tries; return the variables that name them."""
    dags = Path(shutil.copytree(PROJECT_ROOT / "dags", folder / "dags"))
    for file in (dags / "customer_360_refresh.py", dags / "campaign_exports.py"):
        text = file.read_text()
        pause = '"retry_delay": timedelta(minutes=2)'
        assert text.count(pause) == 1
        file.write_text(text.replace(pause, '"retry_delay": timedelta(seconds=2)'))
    return {"AIRFLOW__CORE__DAGS_FOLDER": str(dags)}


def draw(number: int, seed: int) -> Kill:
    """Draw the kill of a night: each victim comes as often as any other, the moment is anywhere."""
    lot = random.Random(f"{seed} {number}")
    order = random.Random(f"{seed} round {number // len(VICTIMS)}").sample(VICTIMS, len(VICTIMS))
    victim = order[number % len(VICTIMS)]
    of_tasks = [task_id for _, tasks in TASKS.values() for task_id in tasks] if victim == WORKER else []
    _, tasks = TASKS.get(victim, ("", of_tasks))
    return Kill(victim, lot.random(), lot.choice(tasks) if tasks else "")


# What is left


def tables_of(connection: duckdb.DuckDBPyConnection) -> Content:
    """Return the content of every table but the logs, history by date; what differs from night to night left out."""
    columns: dict[str, list[str]] = defaultdict(list)
    for table, column in connection.execute(
        "select table_schema || '.' || table_name, column_name from information_schema.columns "
        "inner join information_schema.tables using (table_catalog, table_schema, table_name) "
        "where table_type = 'BASE TABLE' order by all"
    ).fetchall():
        if column not in OF_ONE_RUN:
            columns[table].append(column)
    found: Content = {}
    for table, names in columns.items():
        if table in LOGS:
            continue
        hashed = f"count(*), coalesce(sum(hash({', '.join(names)})::hugeint), 0)"
        if table == "marts.customer_360_history":
            dates = connection.execute(f"select as_of_date, {hashed} from {table} group by all order by all").fetchall()
            found |= {f"{table} of {as_of_date}": (rows, total) for as_of_date, rows, total in dates}
        else:
            [found[table]] = connection.execute(f"select {hashed} from {table}").fetchall()
    return found


def files_of(root: Path) -> dict[str, str]:
    """Return the sha256 of every file below the export root; of a manifest, of what it says but for its run."""
    found = {}
    for file in sorted(root.rglob("*")):
        if file.is_dir():
            continue
        content = file.read_bytes()
        if file.name == "manifest.json":
            content = json.dumps({**json.loads(content), "dag_run_id": ""}, sort_keys=True).encode()
        found[str(file.relative_to(root))] = hashlib.sha256(content).hexdigest()
    return found


def unlike(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Return a line for each key whose value is another one, or that only one of them has."""
    return [
        f"{key}: {found.get(key, 'missing')} instead of {expected.get(key, 'nothing')}"
        for key in sorted(found.keys() | expected.keys())
        if found.get(key) != expected.get(key)
    ]


PUBLISHED = tuple(f"{mart.table_schema}.{mart.name}" for mart in CATALOG.published)


def torn_for_readers(tables: Content, undisturbed: Undisturbed) -> list[str]:
    """Return how published marts are not those of one run, or history has a part of a date; nothing when they are."""
    states = (undisturbed.before, undisturbed.tables)
    if not any(all(tables.get(mart) == state.get(mart) for mart in PUBLISHED) for state in states):
        of = {
            mart: " and ".join(
                name
                for name, state in zip(("before", "after"), states, strict=True)
                if tables.get(mart) == state.get(mart)
            )
            for mart in PUBLISHED
        }
        return [f"published marts are of no one run: {of}"]
    dates = {name: content for name, content in tables.items() if "history of" in name}
    return [
        f"history has a part of a date: {name} {content}"
        for name, content in dates.items()
        if content not in [state.get(name) for state in states]
    ]


def broken_accounts(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return whether raw rows are accepted, superseded or rejected, to the row."""
    [(raw, accepted, superseded, rejected)] = connection.execute(
        "select (select count(*) from raw.transactions), (select count(*) from core.fct_transactions), "
        "(select count(*) - count(distinct transaction_id) from staging.stg_transaction_rows "
        "where reject_reason is null), (select count(*) from core.rejected_transactions)"
    ).fetchall()
    if raw == accepted + superseded + rejected:
        return []
    return [f"rows are lost: {raw} raw, {accepted} accepted, {superseded} superseded, {rejected} rejected"]


def published_unvalidated(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return which marts are not those of the one run that published last, with as many rows and no failed check."""
    rows = connection.execute(
        "select mart, arg_max(dag_run_id, published_at), arg_max(row_count, published_at), max(as_of_date) "
        "from ops.publications group by mart order by mart"
    ).fetchall()
    runs = {run for _, run, _, _ in rows}
    if len(runs) != 1:
        return [f"the marts are published by {len(runs)} runs: {sorted(runs)}"]
    [run] = runs
    broken = []
    for mart, _, row_count, as_of_date in rows:
        [(there,)] = connection.execute(f"select count(*) from marts.{mart}").fetchall()
        [(checks, failed)] = connection.execute(
            "select count(*), count(*) filter (where not passed and severity = 'error') from ops.validation_results "
            "where dag_run_id = ? and mart = ?",
            [run, mart],
        ).fetchall()
        if there != row_count or not checks or failed or str(as_of_date) != DAY:
            broken.append(f"{mart}: {there} rows, published {row_count} of {as_of_date}, {failed} of {checks} failed")
    return broken


def broken_audiences(connection: duckdb.DuckDBPyConnection, root: Path) -> list[str]:
    """Return which audience is not whole, has no true manifest, or is logged as another; and who is in two."""
    broken = []
    exported: list[str] = []
    for campaign in CATALOG.campaigns:
        for destination in campaign.destinations:
            folder = root / campaign.name / f"as_of_date={DAY}"
            folder = folder if destination.name == "csv" else folder / destination.name
            manifest = json.loads((folder / "manifest.json").read_text())
            for name, described in manifest["files"].items():
                content = (folder / name).read_bytes()
                with (folder / name).open(newline="") as lines:
                    rows = list(csv.DictReader(lines))
                found = {"row_count": len(rows), "sha256": hashlib.sha256(content).hexdigest()}
                if found != described:
                    broken.append(f"{folder / name} is {found}, its manifest says {described}")
                if name == "audience.csv" and destination.name == "csv":
                    exported += [row["customer_id"] for row in rows]
            logged = connection.execute(
                "select state, exported, sha256, dag_run_id from ops.export_runs "
                "where campaign = ? and destination = ? and as_of_date = cast(? as date) order by finished_at",
                [campaign.name, destination.name, DAY],
            ).fetchall()
            expected = ("exported", manifest["row_count"], manifest["sha256"], manifest["dag_run_id"])
            if not logged or logged[-1] != expected:
                broken.append(f"{campaign.name} {destination.name}: logged {logged}, the manifest says {expected}")
            if len({row[2] for row in logged if row[0] == "exported"}) != 1:
                broken.append(f"{campaign.name} {destination.name} was exported with other rows before: {logged}")
    if twice := [customer for customer, count in Counter(exported).items() if count > 1]:
        broken.append(f"in two audiences of {DAY}: {twice[:5]}")
    members = connection.execute(
        "select customer_id from ops.audience_memberships where as_of_date = cast(? as date) and status = 'exported'",
        [DAY],
    ).fetchall()
    if sorted(exported) != sorted(customer for (customer,) in members):
        broken.append(f"{len(exported)} exported, {len(members)} decided")
    return broken


def copy_unlike_the_marts(connection: duckdb.DuckDBPyConnection, settings: Settings) -> list[str]:
    """Return of what readers' copy has other rows than the warehouse, and whether its files do not belong together."""
    seen = [*(mart.name for mart in CATALOG.marts), "customer_360_history", "audience_memberships", "export_runs"]
    with duckdb.connect() as reader:
        for name, file in (("copy", settings.published_file), ("personal", settings.published_personal_file)):
            reader.execute(f"attach '{file}' as {name} (read_only)")
        ids = [
            reader.execute(f"select publication_id from {name}.marts.publication_state").fetchall()
            for name in ("copy", "personal")
        ]
        broken = [] if ids[0] == ids[1] else [f"the copy's files are of two publications: {ids}"]
        for table in seen:
            counted = f"select count(*), max(as_of_date) from {{}}marts.{table}"
            copied, there = (
                asked.execute(counted.format(place)).fetchall()
                for asked, place in ((reader, "copy."), (connection, ""))
            )
            if copied != there:
                broken.append(f"the copy has {copied} of {table}, the warehouse {there}")
    return broken


def left_over(connection: duckdb.DuckDBPyConnection, settings: Settings) -> list[str]:
    """Return which schemas of runs, turns and temporary files are left."""
    found = [
        f"schema {name}"
        for (name,) in connection.execute(
            "select distinct schema_name from information_schema.schemata where schema_name like 'marts_run_%'"
        ).fetchall()
    ]
    found += [f"turn {row}" for row in connection.execute("select * from ops.publishing").fetchall()]
    # What was not written back yet lies in the .wal, as docs/backup.md says.
    file = settings.warehouse_file
    found += [
        str(path) for path in file.parent.glob(f"{file.name}*") if path.name not in (file.name, f"{file.name}.wal")
    ]
    copies = (settings.published_file, settings.published_personal_file)
    found += [str(path) for copy in copies for path in copy.parent.glob(f"{copy.name}.*")]
    found += [str(path) for path in Path(settings.export_root).rglob("*") if path.name.startswith(".")]
    return [f"left over: {each}" for each in found]


# A night


def watch(deployment: Deployment, since: datetime.datetime) -> Iterator[dict[str, int]]:
    """Yield, time and again, the process ids of the tasks that run, by task_id.

    Read where the scheduler writes it: what runs for a tenth of a second would have ended before the API said so.
    """
    with closing(
        sqlite3.connect(f"file:{deployment.airflow.home}/airflow.db?mode=ro", uri=True, timeout=60)
    ) as database:
        database.isolation_level = None
        while True:
            yield {
                task_id: pid
                for task_id, pid in database.execute(
                    "select task_id, pid from task_instance where state = 'running' and start_date >= ?",
                    [since.strftime("%Y-%m-%d %H:%M:%S.%f")],
                )
                if pid
            }
            time.sleep(0.01)


def component(deployment: Deployment, name: str) -> psutil.Process:
    """Return the process of a component."""
    assert deployment.airflow.process
    components = psutil.Process(deployment.airflow.process.pid).children()
    [found] = [each for each in components if Path(f"/proc/{each.pid}/fd/1").readlink().name == f"{name}.log"]
    return found


class Missed(Exception):
    """Whom the lot named had ended before the moment came."""


def strike(
    deployment: Deployment, kill: Kill, undisturbed: Undisturbed, since: datetime.datetime, night: Night
) -> None:
    """Wait for the moment and kill.

    :raises Missed: when the task had ended by then.
    """
    looks = watch(deployment, since)
    if kill.task_id:
        after = kill.after * undisturbed.tasks[kill.task_id]
        deadline = time.monotonic() + SECONDS_TO_END
        while kill.task_id not in (running := next(looks)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{kill.task_id} did not start within {SECONDS_TO_END} s")
        time.sleep(after)
        try:
            process = psutil.Process(running[kill.task_id])
            worker = process.parent()
            if kill.task_id not in next(looks):
                raise Missed
            if kill.victim == WORKER:
                assert worker
                worker.kill()
            process.kill()
        except psutil.NoSuchProcess:
            raise Missed from None
        night.moment = f"{kill.task_id} running"
        night.seconds_into = after
        return
    after = kill.after * undisturbed.seconds
    time.sleep(max(0.0, after - (datetime.datetime.now(datetime.UTC) - since).total_seconds()))
    running = next(looks)
    if kill.victim == MACHINE:
        kill_all_of(deployment.airflow.home)
    else:
        process = component(deployment, COMPONENTS[kill.victim])
        below = process.children(recursive=True)
        process.kill()
        if kill.victim.endswith("with its tasks"):
            # As systemd ends a control group, and Kubernetes a pod.
            for each in below:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
    night.moment = f"{', '.join(sorted(running)) or 'no task'} running"
    night.seconds_into = after


def active(deployment: Deployment) -> list[dict[str, Any]]:
    """Return the runs that are queued or running."""
    params: dict[str, Any] = {"state": ["queued", "running"], "limit": 100}
    return deployment.client.get("dags/~/dagRuns", params=params).raise_for_status().json()["dag_runs"]


def clear_failed(deployment: Deployment, dag_id: str, run_id: str) -> list[str]:
    """Clear the failed tasks of a run with what comes after, as somebody does in the UI; return which had failed."""
    failed = sorted(task_id for task_id, state in deployment.tasks(run_id, dag_id).items() if state == "failed")
    deployment.client.post(
        f"dags/{dag_id}/clearTaskInstances",
        json={
            "dag_run_id": run_id,
            "task_ids": failed,
            "include_downstream": True,
            "only_failed": False,
            "reset_dag_runs": True,
            "dry_run": False,
        },
    ).raise_for_status()
    return failed


def recover(deployment: Deployment, run_id: str, night: Night) -> str:
    """Do what the runbook says until the date is green; return the run that made it so.

    :raises TimeoutError: when a run does not end, or too many are needed.
    """
    first = run_id
    for _ in range(6):
        if deployment.state(run_id, seconds=SECONDS_TO_END) == "success":
            return run_id
        later = [run for run in deployment.attempts(first) if run > run_id or run_id == first]
        if later:
            night.recovered_by.append("a new run by itself")
            run_id = min(later)
        elif deployment.tasks(run_id)[PRODUCER] == "failed":
            night.recovered_by.append("a new run by hand")
            first = run_id = deployment.start(as_of_date=DAY)
        else:
            night.recovered_by.append(f"clearing {', '.join(clear_failed(deployment, DAG_ID, run_id))}")
    raise TimeoutError(f"not green after {night.recovered_by}: {deployment.failures(run_id)}")


def recover_exports(deployment: Deployment, run_id: str, night: Night) -> None:
    """Wait for the exports that a run started, and clear what failed of them.

    :raises TimeoutError: when none came, or they did not end well.
    """
    for _ in range(4):
        export = deployment.wait_for_export_of(run_id, seconds=SECONDS_TO_END)
        if export["state"] == "success":
            break
        failed = clear_failed(deployment, EXPORTS, export["dag_run_id"])
        night.recovered_by.append(f"clearing {', '.join(failed)}")
        deployment.state(export["dag_run_id"], EXPORTS, seconds=SECONDS_TO_END)
    else:
        raise TimeoutError(f"the exports were not green after {night.recovered_by}")
    deadline = time.monotonic() + SECONDS_TO_END
    while runs := active(deployment):
        if time.monotonic() > deadline:
            raise TimeoutError(f"did not end: {[(run['dag_id'], run['dag_run_id'], run['state']) for run in runs]}")
        time.sleep(0.3)


def tries(deployment: Deployment, run_id: str, dag_id: str) -> list[str]:
    """Return the tasks of a run that were tried more than once."""
    path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances"
    tasks = deployment.client.get(path, params={"limit": 200}).raise_for_status().json()["task_instances"]
    return [f"try {task['try_number']} of {task['task_id']}" for task in tasks if task["try_number"] > 1]


def undisturbed_night(deployment: Deployment, left: Path) -> Undisturbed:
    """Run a night that nobody disturbs on what `left` holds."""
    deployment.put_back(left)
    with deployment.reading() as connection:
        before = tables_of(connection)
    began = time.monotonic()
    run_id, state = deployment.run(as_of_date=DAY)
    assert state == "success", deployment.failures(run_id)
    export = deployment.wait_for_export_of(run_id)
    assert export["state"] == "success", deployment.tasks(export["dag_run_id"], EXPORTS)
    seconds = time.monotonic() - began
    tasks: dict[str, float] = {}
    for dag_id, run in ((DAG_ID, run_id), (EXPORTS, export["dag_run_id"])):
        path = f"dags/{dag_id}/dagRuns/{run}/taskInstances"
        for task in deployment.client.get(path, params={"limit": 200}).json()["task_instances"]:
            if task["duration"]:
                tasks[task["task_id"]] = task["duration"]
    with deployment.reading() as connection:
        tables = tables_of(connection)
    left_by_it = Undisturbed(before, tables, files_of(Path(deployment.settings.export_root)), seconds, tasks)
    assert broken_after(deployment, left_by_it) == []
    return left_by_it


def broken_after(deployment: Deployment, undisturbed: Undisturbed) -> list[str]:
    """Return what is not as an undisturbed night leaves it, or breaks a rule that holds for any night."""
    root = Path(deployment.settings.export_root)
    with deployment.reading() as connection:
        tables = tables_of(connection)
        broken = torn_for_readers(tables, undisturbed)
        broken += [f"unlike an undisturbed night: {each}" for each in unlike(tables, undisturbed.tables)]
        broken += published_unvalidated(connection)
        broken += broken_accounts(connection)
        broken += broken_audiences(connection, root)
        broken += copy_unlike_the_marts(connection, deployment.settings)
        broken += left_over(connection, deployment.settings)
    return broken + [f"unlike an undisturbed night: {each}" for each in unlike(files_of(root), undisturbed.files)]


def disturbed_night(deployment: Deployment, left: Path, undisturbed: Undisturbed, kill: Kill) -> Night:
    """Run a night, kill, recover, and hold what is left against the undisturbed one.

    Where the task had ended before the moment came, the night is run again with half the time.
    """
    while True:
        try:
            return _disturbed_night(deployment, left, undisturbed, kill)
        except Missed:
            print(f"{kill.task_id} had ended before the moment: again, half as late", flush=True)
            kill = replace(kill, after=kill.after / 2)


def _disturbed_night(deployment: Deployment, left: Path, undisturbed: Undisturbed, kill: Kill) -> Night:
    deployment.put_back(left)
    night = Night(kill)
    began = time.monotonic()
    since = datetime.datetime.now(datetime.UTC)
    run_id = deployment.start(as_of_date=DAY)
    try:
        strike(deployment, kill, undisturbed, since, night)
    except Missed:
        recover_exports(deployment, recover(deployment, run_id, night), night)
        raise
    with deployment.reading() as connection:
        night.broken += [f"before recovery: {each}" for each in torn_for_readers(tables_of(connection), undisturbed)]
    if kill.victim == MACHINE:
        deployment.start_again()
    elif kill.victim in COMPONENTS:
        deployment.wait_until_back()
    try:
        run_id = recover(deployment, run_id, night)
        recover_exports(deployment, run_id, night)
    except TimeoutError as never:
        night.broken.append(f"not recovered: {never}")
    if not night.recovered_by:
        export = deployment.wait_for_export_of(run_id, seconds=10)["dag_run_id"] if not night.broken else ""
        night.recovered_by += tries(deployment, run_id, DAG_ID)
        night.recovered_by += tries(deployment, export, EXPORTS) if export else []
    night.broken += broken_after(deployment, undisturbed)
    night.seconds = time.monotonic() - began
    return night


def first_night(deployment: Deployment, left: Path) -> None:
    """Run the night of the day before and keep in `left` what it leaves."""
    run_id, state = deployment.run(as_of_date=DAY_BEFORE)
    assert state == "success", deployment.failures(run_id)
    deployment.wait_for_export_of(run_id)
    deployment.keep(left)


def table_of(nights: Sequence[Night]) -> str:
    """Return the nights as a table in Markdown, a row per victim."""
    lines = ["| killed | nights | held | seconds into it | what made up for it |", "|---|---|---|---|---|"]
    for victim in VICTIMS:
        of = [night for night in nights if night.kill.victim == victim]
        if of:
            moments = ", ".join(
                f"{night.seconds_into:.2f}" for night in sorted(of, key=lambda night: night.seconds_into)
            )
            by = Counter(" then ".join(night.recovered_by) or "nothing needed" for night in of)
            held = sum(not night.broken for night in of)
            how = "; ".join(f"{what} ({count})" for what, count in by.most_common())
            lines.append(f"| {victim} | {len(of)} | {held} | {moments} | {how} |")
    held = sum(not night.broken for night in nights)
    lines.append(f"| **all** | **{len(nights)}** | **{held}** | | |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--first", type=int, default=0, help="the number of the first night: goes on where one broke off"
    )
    parser.add_argument("--only", choices=VICTIMS, help="kill nobody else")
    parser.add_argument("--customers", type=int, default=300)
    parser.add_argument("--months", type=int, default=9)
    options = parser.parse_args()
    nights: list[Night] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = Settings(
            warehouse_file=folder / "warehouse.duckdb", export_root=str(folder / "exports"), _env_file=None
        )
        last_day = datetime.date.fromisoformat(DAY)
        write_sample(
            settings.warehouse_file, customers=options.customers, months=options.months, seed=42, as_of_date=last_day
        )
        environment = {**QUICK_TO_NOTICE, **quick_to_retry(folder)}
        with deployed(settings, environment, as_a_service=True) as deployment:
            left = folder / "left"
            first_night(deployment, left)
            undisturbed = undisturbed_night(deployment, left)
            again = undisturbed_night(deployment, left)
            assert unlike(again.tables, undisturbed.tables) + unlike(again.files, undisturbed.files) == []
            undisturbed = undisturbed.or_quicker(again)
            print(f"an undisturbed night takes {undisturbed.seconds:.0f} s", flush=True)
            number = options.first
            while len(nights) < options.nights:
                kill = draw(number, options.seed)
                number += 1
                if options.only not in (None, kill.victim):
                    continue
                night = disturbed_night(deployment, left, undisturbed, kill)
                nights.append(night)
                print(
                    f"{number - 1}: {kill.victim}, {night.seconds_into:.2f} s into it ({night.moment}): "
                    f"{'; '.join(night.broken) or 'held'}; {', then '.join(night.recovered_by) or 'nothing needed'}; "
                    f"{night.seconds:.0f} s",
                    flush=True,
                )
    print(f"\nseed {options.seed}, nights {options.first} to {number - 1}\n")
    print(table_of(nights))
    return int(any(night.broken for night in nights))


if __name__ == "__main__":
    sys.exit(main())
