"""The nightly run as the scheduler starts it by itself, with the date that the timetable gives it."""

from __future__ import annotations

import datetime
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from include.customer_360.catalog import load_catalog
from include.customer_360.settings import PROJECT_ROOT, Settings
from local.sample import write_sample
from tests.alert_servers import AlertServers, alert_servers
from tests.deployment import DAG_ID, Deployment, deployed
from tests.end_to_end.backfills import create_by_form, dates_between, runs_of, unlike_pandas

CAMPAIGNS = load_catalog().campaigns
NEW_YORK = ZoneInfo("America/New_York")
NIGHTLY = '"0 3 * * *"'
SECONDS_TO_PARSE = 60


@pytest.fixture
def dags(tmp_path: Path) -> Path:
    """A copy of the Dags, whose schedule a test may move."""
    return Path(shutil.copytree(PROJECT_ROOT / "dags", tmp_path / "dags"))


@pytest.fixture
def people() -> Iterator[AlertServers]:
    """Where the deployment tells people that it is late, and a watch outside that it has published."""
    with alert_servers() as servers:
        yield servers


@pytest.fixture
def by_the_clock(tmp_path: Path, dags: Path, people: AlertServers) -> Iterator[Deployment]:
    """A deployment of its own that keeps to the schedule, with sources up to yesterday in New York.

    Its marts were to be published at midnight, before it begins.
    """
    settings = Settings(
        warehouse_file=tmp_path / "warehouse.duckdb", export_root=str(tmp_path / "exports"), _env_file=None
    )
    yesterday = datetime.datetime.now(NEW_YORK).date() - datetime.timedelta(days=1)
    write_sample(settings.warehouse_file, customers=100, months=9, seed=42, as_of_date=yesterday)
    environment = {
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "PUBLISHED_BY": "00:00",
        "HEARTBEAT_URL": f"http://127.0.0.1:{people.http_port}/ping/secret",
        **people.connections("alerts_http"),
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
            {"type": "file", "log_file_path": str(tmp_path / "lineage.jsonl"), "append": True}
        ),
    }
    with deployed(settings, environment, by_the_clock=True) as deployment:
        yield deployment


def move_schedule(deployment: Deployment, file: Path) -> datetime.datetime:
    """Have the Dag fall due at a minute soon to come, once a day; return that minute, in New York."""
    nightly = file.read_text()
    assert nightly.count(NIGHTLY) == 1
    while True:
        # Ten seconds at least for the Dag to be parsed; when that was not enough, another minute.
        due = datetime.datetime.now(NEW_YORK).replace(second=0, microsecond=0)
        while due < datetime.datetime.now(NEW_YORK) + datetime.timedelta(seconds=10):
            due += datetime.timedelta(minutes=1)
        file.write_text(nightly.replace(NIGHTLY, f'"{due.minute} {due.hour} * * *"'))
        dag = deployment.client.get(f"dags/{DAG_ID}").raise_for_status().json()
        deployment.client.put(f"parseDagFile/{dag['file_token']}").raise_for_status()
        parsed = dag["last_parsed_time"]
        deadline = time.monotonic() + SECONDS_TO_PARSE
        while parsed == dag["last_parsed_time"]:
            assert time.monotonic() < deadline, f"{file} was not parsed again within {SECONDS_TO_PARSE} s"
            time.sleep(0.5)
            dag = deployment.client.get(f"dags/{DAG_ID}").raise_for_status().json()
        if datetime.datetime.fromisoformat(dag["next_dagrun_run_after"]) == due:
            return due


def scheduled_runs(deployment: Deployment) -> list[dict[str, Any]]:
    answer = deployment.client.get(f"dags/{DAG_ID}/dagRuns", params={"run_type": "scheduled"}).raise_for_status()
    return answer.json()["dag_runs"]


def test_the_scheduler_starts_the_run_of_yesterday_beside_a_backfill_and_a_manual_run_all_are_right_and_told(
    by_the_clock: Deployment, dags: Path, people: AlertServers
) -> None:
    deployment = by_the_clock
    today = datetime.datetime.now(NEW_YORK).date()
    three_days_ago, the_day_before = dates_between(today - datetime.timedelta(days=3), 2)
    published_first, state = deployment.run(as_of_date=the_day_before)
    assert state == "success", deployment.failures(published_first)
    assert scheduled_runs(deployment) == []
    due = move_schedule(deployment, dags / "customer_360_refresh.py")
    yesterday = (due.date() - datetime.timedelta(days=1)).isoformat()

    deadline = time.monotonic() + 180
    while not (runs := scheduled_runs(deployment)):
        assert time.monotonic() < deadline, f"no run was started at {due}"
        time.sleep(0.2)
    create_by_form(deployment, [three_days_ago], max_active_runs=2)
    manual = deployment.start(as_of_date=yesterday)
    run_id = runs[0]["dag_run_id"]
    state = deployment.state(run_id)

    assert [(run["run_type"], run["partition_key"], run["logical_date"]) for run in runs] == [
        ("scheduled", yesterday, None)
    ]
    assert datetime.datetime.fromisoformat(runs[0]["run_after"]) == due
    assert state == "success", deployment.failures(run_id)
    published = deployment.query("select distinct cast(as_of_date as varchar) from marts.customer_360_profile")
    assert published == [(yesterday,)]
    export = deployment.wait_for_export_of(run_id)
    assert (export["partition_key"], export["state"]) == (yesterday, "success")
    backfilled = [run["state"] for run in runs_of(deployment, [three_days_ago]).values()]
    assert [*backfilled, deployment.state(manual)] == ["success"] * 2
    assert deployment.wait_for_export_of(manual)["state"] == "success"
    assert unlike_pandas(deployment, [three_days_ago, the_day_before, yesterday]) == []
    assert deployment.query("select count(*) from ops.restatements") == [(0,)]
    root = Path(deployment.settings.export_root)
    assert sorted(deployment.audiences()) == sorted(
        f"{campaign.name}/as_of_date={date}/audience.csv"
        for campaign in CAMPAIGNS
        for date in (the_day_before, yesterday)
    )
    for campaign in CAMPAIGNS:
        manifest = json.loads((root / campaign.name / f"as_of_date={yesterday}" / "manifest.json").read_text())
        assert manifest["as_of_date"] == yesterday
    assert people.told_of(run_id, count=1) == [("late", run_id)]
    [late] = [posted.body["text"] for posted in people.posts if posted.body]
    assert late.startswith(f"The marts of {yesterday} are not published at 00:00 in New York.")
    assert [posted.path for posted in people.posts if not posted.body] == ["/ping/secret"] * 3
    assert "secret" not in deployment.log(run_id, "publish")

    [told] = [
        event
        for event in map(json.loads, (by_the_clock.settings.warehouse_file.parent / "lineage.jsonl").open())
        if event["job"]["name"] == "customer_360_refresh.publish"
        and event["eventType"] == "COMPLETE"
        and event["run"]["facets"]["airflow"]["dagRun"]["run_id"] == run_id
    ]
    file = f"duckdb://{deployment.settings.warehouse_file}"
    assert {(dataset["namespace"], dataset["name"]) for dataset in told["outputs"]} == {
        (file, f"{mart.table_schema}.{mart.name}") for mart in load_catalog().published
    }
    checks = {
        dataset["name"]: {
            each["assertion"]: each["success"]
            for each in dataset.get("inputFacets", {}).get("dataQualityAssertions", {}).get("assertions", [])
        }
        for dataset in told["inputs"]
    }
    assert checks["marts.metric_customer_ltv"]["ltv_lifetime_value_reconciles"] is True
    kept = deployment.query(f"select check_name, passed from ops.validation_results where dag_run_id = '{run_id}'")
    assert {name: passed for of_dataset in checks.values() for name, passed in of_dataset.items()} == dict(kept)
