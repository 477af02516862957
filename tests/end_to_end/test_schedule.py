"""The nightly run as the scheduler starts it by itself, with the date that the timetable gives it."""

from __future__ import annotations

import datetime
import itertools
import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest

from include.customer_360.catalog import load_catalog
from include.customer_360.settings import PROJECT_ROOT, Settings
from local.sample import write_sample
from tests.alert_servers import AlertServers, alert_servers
from tests.deployment import DAG_ID, Deployment, deployed
from tests.end_to_end.backfills import audiences_of, create_by_command, dates_between, runs_of, unlike_pandas
from tests.end_to_end.uses import uses_of

CAMPAIGNS = load_catalog().campaigns
NEW_YORK = ZoneInfo("America/New_York")
SECONDS_TO_PARSE = 60


class Night(NamedTuple):
    """A night at which several runs were at it at once, and all have ended.

    The scheduler started the run of yesterday; a manual run of the same date and a backfill of two older ones were
    started at once. The day before yesterday had been published.
    """

    deployment: Deployment
    people: AlertServers
    due: datetime.datetime
    scheduled: dict[str, Any]
    manual: str
    backfill: list[str]
    export: dict[str, Any]
    published_before: str
    backfilled: list[str]
    yesterday: str


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    """The night, in a deployment of its own with sources up to yesterday in New York; every run went well.

    Its marts were to be published at midnight, before it begins.
    """
    folder = tmp_path_factory.mktemp("night")
    dags = Path(shutil.copytree(PROJECT_ROOT / "dags", folder / "dags"))
    # A deployment that is new within a tenth of a day of a run that was due starts it at once; this one is later.
    set_schedule(dags / "customer_360_refresh.py", datetime.datetime.now(NEW_YORK) - datetime.timedelta(hours=12))
    settings = Settings(warehouse_file=folder / "warehouse.duckdb", export_root=str(folder / "exports"), _env_file=None)
    today = datetime.datetime.now(NEW_YORK).date()
    *backfilled, published_before = dates_between(today - datetime.timedelta(days=4), 3)
    yesterday = today - datetime.timedelta(days=1)
    write_sample(settings.warehouse_file, customers=100, months=9, seed=42, as_of_date=yesterday)
    with alert_servers() as people:
        environment = {
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "PUBLISHED_BY": "00:00",
            "HEARTBEAT_URL": f"http://127.0.0.1:{people.http_port}/ping/secret",
            **people.connections("alerts_http"),
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
                {"type": "file", "log_file_path": str(folder / "lineage.jsonl"), "append": True}
            ),
        }
        with deployed(settings, environment, by_the_clock=True) as deployment:
            first, state = deployment.run(as_of_date=published_before)
            assert state == "success", deployment.failures(first)
            assert scheduled_runs(deployment) == []
            due = move_schedule(deployment, dags / "customer_360_refresh.py")
            deadline = time.monotonic() + 180
            while not (scheduled := scheduled_runs(deployment)):
                assert time.monotonic() < deadline, f"no run was started at {due}"
                time.sleep(0.2)
            create_by_command(deployment, backfilled, "--max-active-runs", "2")
            manual = deployment.start(as_of_date=yesterday.isoformat())
            backfill = [run["dag_run_id"] for run in runs_of(deployment, backfilled).values()]
            for run_id in (scheduled[0]["dag_run_id"], manual, *backfill):
                assert deployment.state(run_id) == "success", deployment.failures(run_id)
            assert deployment.wait_for_export_of(manual)["state"] == "success"
            export = deployment.wait_for_export_of(scheduled[0]["dag_run_id"])
            yield Night(
                *(deployment, people, due, scheduled_runs(deployment)[0], manual, backfill, export),
                *(published_before, backfilled, yesterday.isoformat()),
            )


def set_schedule(file: Path, at: datetime.datetime) -> None:
    """Have the Dag fall due once a day at this hour and minute of New York."""
    written, count = re.subn(r'"\d+ \d+ \* \* \*"', f'"{at.minute} {at.hour} * * *"', file.read_text())
    assert count == 1
    file.write_text(written)


def move_schedule(deployment: Deployment, file: Path) -> datetime.datetime:
    """Have the Dag fall due at a minute soon to come, once a day; return that minute, in New York."""
    while True:
        # Ten seconds at least for the Dag to be parsed; when that was not enough, another minute.
        due = datetime.datetime.now(NEW_YORK).replace(second=0, microsecond=0)
        while due < datetime.datetime.now(NEW_YORK) + datetime.timedelta(seconds=10):
            due += datetime.timedelta(minutes=1)
        set_schedule(file, due)
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


def test_the_scheduler_starts_the_run_of_yesterday_when_it_is_due(night: Night) -> None:
    run = night.scheduled
    assert (run["run_type"], run["partition_key"], run["logical_date"]) == ("scheduled", night.yesterday, None)
    assert datetime.datetime.fromisoformat(run["run_after"]) == night.due
    assert len(scheduled_runs(night.deployment)) == 1


def test_beside_a_manual_run_and_a_backfill_it_publishes_and_exports_yesterday(night: Night) -> None:
    published = night.deployment.query("select distinct cast(as_of_date as varchar) from marts.customer_360_profile")
    assert published == [(night.yesterday,)]
    assert (night.export["partition_key"], night.export["state"]) == (night.yesterday, "success")
    assert sorted(night.deployment.audiences()) == sorted(
        f"{campaign.name}/as_of_date={date}/audience.csv"
        for campaign in CAMPAIGNS
        for date in (night.published_before, night.yesterday)
    )


def test_a_backfilled_date_writes_history_and_publishes_nothing(night: Night) -> None:
    for run_id in night.backfill:
        assert night.deployment.tasks(run_id)["publish"] == "skipped"
        assert "The published marts are of " in night.deployment.note(run_id)
        assert night.deployment.asset_events(run_id) == []
    assert audiences_of(night.deployment) == {night.published_before, night.yesterday}


def test_every_date_in_history_is_as_pandas_computes_it_and_nothing_is_restated(night: Night) -> None:
    assert unlike_pandas(night.deployment, [*night.backfilled, night.published_before, night.yesterday]) == []
    assert night.deployment.query("select count(*) from ops.restatements") == [(0,)]


def test_a_task_that_writes_meets_no_other_and_the_runs_go_on_side_by_side(night: Night) -> None:
    runs = (night.scheduled["dag_run_id"], night.manual, *night.backfill)
    by_run = [uses_of(night.deployment, DAG_ID, run_id) for run_id in runs]
    by_run.append(uses_of(night.deployment, "campaign_exports", night.export["dag_run_id"]))
    pairs = list(itertools.combinations([use for uses in by_run for use in uses], 2))
    met = [(one, other) for one, other in pairs if one.meets(other)]
    assert [(one.task, other.task) for one, other in met if one.writes or other.writes] == []
    # They were at it at the same time: validations beside each other, and each run among the tasks of another. The
    # manual run waits for the scheduled one, since a Dag has one of those at a time.
    assert [pair for pair in met if all("validate_marts" in use.task for use in pair)]
    spans = [(min(use.begin for use in uses), max(use.end for use in uses)) for uses in (by_run[0], *by_run[2:-1])]
    assert max(begin for begin, _ in spans) < min(end for _, end in spans)


def test_that_it_is_late_is_told_once(night: Night) -> None:
    run_id = night.scheduled["dag_run_id"]
    assert night.people.told_of(run_id, count=1) == [("late", run_id)]
    [late] = [posted.body["text"] for posted in night.people.posts if posted.body]
    assert late.startswith(f"The marts of {night.yesterday} are not published at 00:00 in New York.")


def test_each_publication_is_followed_by_a_heartbeat_whose_address_is_not_logged(night: Night) -> None:
    assert [posted.path for posted in night.people.posts if not posted.body] == ["/ping/secret"] * 3
    assert "secret" not in night.deployment.log(night.scheduled["dag_run_id"], "publish")


def test_its_publication_tells_inputs_outputs_and_checks_to_openlineage(night: Night) -> None:
    run_id, warehouse_file = night.scheduled["dag_run_id"], night.deployment.settings.warehouse_file
    [told] = [
        event
        for event in map(json.loads, (warehouse_file.parent / "lineage.jsonl").open())
        if event["job"]["name"] == "customer_360_refresh.publish"
        and event["eventType"] == "COMPLETE"
        and event["run"]["facets"]["airflow"]["dagRun"]["run_id"] == run_id
    ]
    assert {(dataset["namespace"], dataset["name"]) for dataset in told["outputs"]} == {
        (f"duckdb://{warehouse_file}", f"{mart.table_schema}.{mart.name}") for mart in load_catalog().published
    }
    checks = {
        dataset["name"]: {
            each["assertion"]: each["success"]
            for each in dataset.get("inputFacets", {}).get("dataQualityAssertions", {}).get("assertions", [])
        }
        for dataset in told["inputs"]
    }
    assert checks["marts.metric_customer_ltv"]["ltv_lifetime_value_reconciles"] is True
    kept = night.deployment.query(
        f"select check_name, passed from ops.validation_results where dag_run_id = '{run_id}'"
    )
    assert {name: passed for of_dataset in checks.values() for name, passed in of_dataset.items()} == dict(kept)
