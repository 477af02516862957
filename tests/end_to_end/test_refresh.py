"""The nightly job as its users meet it: real scheduler, real dbt, real DuckDB.

Each test starts from what one green run left (fixture `green`), and puts nothing back: the next one is given it anew.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
import sqlite3
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from include.customer_360.catalog import load_catalog
from include.customer_360.settings import PROJECT_ROOT
from tests.end_to_end.backfills import create_by_command, runs_of

if TYPE_CHECKING:
    from tests.alert_servers import AlertServers
    from tests.deployment import Deployment
    from tests.end_to_end.conftest import SecondRun

CATALOG = load_catalog()
MARTS = tuple(mart.name for mart in CATALOG.marts)
CAMPAIGNS = CATALOG.campaigns
EXPORTS = "campaign_exports"


def test_a_green_run_publishes_every_mart_of_its_date(deployment: Deployment, green: str) -> None:
    for mart in MARTS:
        dates = deployment.query(f"select distinct cast(as_of_date as varchar) from marts.{mart}")
        # No wave is old enough for a result.
        assert dates == ([] if mart == "campaign_results" else [("2026-03-30",)])
    in_profile = deployment.query("select count(*), count(distinct customer_id) from marts.customer_360_profile")
    assert in_profile == [(300, 300)]


def test_a_green_run_validates_every_mart_and_keeps_the_results(deployment: Deployment, green: str) -> None:
    kept = deployment.query(
        "select mart, bool_and(passed or severity = 'warn') from ops.validation_results "
        f"where dag_run_id = '{green}' group by 1"
    )
    assert dict(kept) == dict.fromkeys((*MARTS, "sources"), True)


def test_a_green_run_writes_history(deployment: Deployment, green: str) -> None:
    assert deployment.query(
        "select cast(as_of_date as varchar), count(*) from marts.customer_360_history group by 1"
    ) == [("2026-03-30", 300)]


def test_a_green_run_leaves_readers_a_copy_of_its_marts_and_of_its_night(deployment: Deployment, green: str) -> None:
    assert deployment.in_copy("select distinct cast(as_of_date as varchar) from marts.customer_360_profile") == [
        ("2026-03-30",)
    ]
    assert deployment.in_copy("select distinct email from marts.customer_360_profile where email is not null") == [
        ("*****",)
    ]
    assert deployment.in_copy(
        f"select state, published, failed_task, started_at < ended_at from marts.nights where dag_run_id = '{green}'"
    ) == [("success", True, None, True)]
    steps = deployment.in_copy(
        f"select task_id, state, started_at is not null, seconds from marts.night_steps where dag_run_id = '{green}'"
    )
    states, began, seconds = ({step[0]: step[place] for step in steps} for place in (1, 2, 3))
    # Itself, and those that run nothing.
    left_out = {"log_night", "run_went_well", "dbt_build.dbt_producer_watcher_done"}
    assert states == {task: state for task, state in deployment.tasks(green).items() if task not in left_out}
    assert {task_id for task_id, known in began.items() if not known} == {"run_again"}
    assert 0 < seconds["dbt_build.models.core.dim_date"] < seconds["dbt_build.dbt_producer_watcher"]
    assert deployment.in_copy("select count(*) > 0 from marts.audience_memberships") == [(True,)]


def test_a_green_run_leaves_no_run_schema(deployment: Deployment, green: str) -> None:
    assert run_schemas(deployment) == []


def test_a_green_run_warns_of_nothing_in_its_logs(deployment: Deployment, green: str) -> None:
    # A small sample may have nobody for a campaign, and somebody can act on that.
    assert [warning for warning in deployment.warnings(green) if " is empty: " not in warning] == []


def test_the_note_of_a_green_run_says_what_is_published(deployment: Deployment, green: str) -> None:
    published, checks = deployment.note(green).splitlines()
    assert published.startswith("As of 2026-03-30: published ")
    assert "customer_360_profile 300" in published
    assert checks.startswith("Checks: ")
    assert deployment.tasks(green)["run_again"] == "skipped"
    assert deployment.tasks(green)["check_export_root"] == "success"


def test_a_green_run_hands_marketing_its_audiences(deployment: Deployment, green: str) -> None:
    run = deployment.wait_for_export_of(green)
    assert (run["partition_key"], run["state"]) == ("2026-03-30", "success")
    for campaign in CAMPAIGNS:
        folder = Path(deployment.settings.export_root) / campaign.name / "as_of_date=2026-03-30"
        manifest = json.loads((folder / "manifest.json").read_text())
        audience = (folder / "audience.csv").read_bytes()
        assert manifest["sha256"] == hashlib.sha256(audience).hexdigest()
        assert manifest["row_count"] == len(audience.splitlines()) - 1


def test_a_rerun_of_the_date_changes_nothing(deployment: Deployment, second_run: SecondRun, green: str) -> None:
    assert second_run.published == deployment.published()
    assert second_run.audiences == deployment.audiences()


def test_a_failed_validation_publishes_nothing_and_when_it_is_cleared_the_run_publishes(
    deployment: Deployment, green: str, people: AlertServers
) -> None:
    marts, audiences = deployment.published(), deployment.audiences()
    # Ten times the rows were published the day before: this run's look lost.
    deployment.query(
        "insert into ops.publications (dag_run_id, as_of_date, mart, row_count, lifetime_value, published_at) "
        "select 'planted', date '2026-03-30', 'customer_360_profile', 3000, "
        "sum(lifetime_value), timestamp '2099-01-01' from marts.customer_360_profile"
    )
    run_id, state = deployment.run(as_of_date="2026-03-31")
    assert state == "failed"
    states = deployment.tasks(run_id)
    assert states["validate_marts.validate_customer_360_profile"] == "failed"
    assert states["publish"] == "upstream_failed"
    log = deployment.log(run_id, "validate_marts.validate_customer_360_profile")
    assert "failed 1 of" in log
    assert "profile_row_count_near_published" in log
    assert deployment.published() == marts
    assert deployment.audiences() == audiences
    assert deployment.asset_events(run_id) == []
    assert len(run_schemas(deployment)) == 1
    note = deployment.note(run_id)
    assert note.startswith("As of 2026-03-31: nothing published. validate_marts.validate_customer_360_profile failed: ")
    assert "profile_row_count_near_published" in note
    assert states["run_again"] == "skipped"
    assert deployment.attempts(run_id) == []
    assert log.rstrip().rpartition("What to do: ")[2].startswith("docs/runbook.md#validate_mart")
    checks = f"select mart, count(*) from ops.validation_results where dag_run_id = '{run_id}' group by 1 order by 1"
    failed = (
        "select mart, check_name from ops.validation_results "
        f"where dag_run_id = '{run_id}' and not passed and severity = 'error'"
    )
    kept = deployment.query(checks)
    assert [mart for mart, _ in kept] == sorted((*MARTS, "sources"))
    assert deployment.query(failed) == [("customer_360_profile", "profile_row_count_near_published")]
    assert people.told_of(run_id, count=1) == [("failure", run_id)]
    [(state, published, failed_task, reason)] = deployment.in_copy(
        f"select state, published, failed_task, reason from marts.nights where dag_run_id = '{run_id}'"
    )
    assert (state, published, failed_task) == ("failed", False, "validate_marts.validate_customer_360_profile")
    assert "profile_row_count_near_published" in reason

    deployment.query("delete from ops.publications where dag_run_id = 'planted'")
    deployment.client.post(
        "dags/customer_360_refresh/clearTaskInstances",
        json={
            "dag_run_id": run_id,
            "task_ids": ["validate_marts.validate_customer_360_profile"],
            "include_downstream": True,
            "only_failed": False,
            "reset_dag_runs": True,
            "dry_run": False,
        },
    ).raise_for_status()
    assert deployment.state(run_id) == "success", deployment.failures(run_id)
    assert deployment.query(checks) == kept
    assert deployment.query(failed) == []
    assert people.told_of(run_id, count=2) == [("failure", run_id), ("recovery", run_id)]
    [told] = [
        posted.body
        for posted in people.posts
        if (posted.body.get("event"), posted.body.get("run_id")) == ("failure", run_id)
    ]
    [failure] = told["failures"]
    [check] = failure["checks"]
    assert (check["mart"], check["check"]) == ("customer_360_profile", "profile_row_count_near_published")
    assert "row_count 300" in check["observed"]
    assert failure["log"].endswith(f"/runs/{quote(run_id)}/tasks/validate_marts.validate_customer_360_profile")
    mails = [mail.subject for mail in people.mails if f"/runs/{quote(run_id)}" in mail.text]
    assert mails == [told["subject"], "customer_360_refresh recovered: 2026-03-31 went well"]
    assert deployment.wait_for_export_of(run_id)["partition_key"] == "2026-03-31"
    assert deployment.query("select distinct cast(as_of_date as varchar) from marts.customer_360_profile") == [
        ("2026-03-31",)
    ]
    assert run_schemas(deployment) == []


def test_a_failed_data_test_ends_the_run_and_clearing_it_does_not_pass(
    deployment: Deployment, green: str, people: AlertServers
) -> None:
    marts = deployment.published()
    deployment.query(
        "insert into core.fct_transactions select * replace ('TXN-PLANTED' as transaction_id, 'NOBODY' as customer_id) "
        "from core.fct_transactions limit 1"
    )
    run_id, state = deployment.run(as_of_date="2026-03-31")
    assert state == "failed"
    assert deployment.tasks(run_id)["dbt_build.dbt_producer_watcher"] == "failed"
    assert "FAIL" in deployment.log(run_id, "dbt_build.dbt_producer_watcher")
    assert deployment.published() == marts
    unknown = "relationships_fct_transactions_customer_id__customer_id__ref_dim_customer_"
    kept = f"select mart, row_key from ops.failing_rows where dag_run_id = '{run_id}' and check_name = '{unknown}'"
    assert deployment.query(kept) == [("fct_transactions", "NOBODY")]
    assert people.told_of(run_id, count=1) == [("failure", run_id)]
    [told] = [posted.body for posted in people.posts if posted.body.get("run_id") == run_id]
    # A mart that does not come behind the test was built, and its validation finds the row too.
    [failure] = [each for each in told["failures"] if each["task"] == "dbt_build.dbt_producer_watcher"]
    assert [check["examples"] for check in failure["checks"] if check["check"] == unknown] == [["NOBODY"]]
    assert failure["runbook"] == "docs/runbook.md#dbt_build"

    deployment.client.post(
        "dags/customer_360_refresh/clearTaskInstances",
        json={"dag_run_id": run_id, "dry_run": False, "only_failed": False, "reset_dag_runs": True},
    ).raise_for_status()
    assert deployment.state(run_id) == "failed"
    assert "does not run twice" in deployment.log(run_id, "dbt_build.dbt_producer_watcher", attempt=2)
    assert deployment.published() == marts


def test_a_backfill_of_dates_that_were_run_restates_them_and_keeps_what_that_changed(
    deployment: Deployment, green: str
) -> None:
    ((customer_id, before),) = deployment.query(
        "select customer_id, cast(lifetime_value as varchar) from marts.customer_360_history order by 1 limit 1"
    )
    deployment.query(
        "update raw.transactions "
        "set transaction_amount = cast(cast(transaction_amount as decimal(18, 2)) + 1 as varchar) "
        "where transaction_id = (select min(transaction_id) from core.fct_transactions "
        f"where customer_id = '{customer_id}' and status = 'approved' and transaction_date < '2025-10-01')"
    )
    create_by_command(deployment, ["2026-03-30"], "--reprocess-behavior", "completed")
    run_id = runs_of(deployment, ["2026-03-30"])["2026-03-30"]["dag_run_id"]
    assert deployment.state(run_id) == "success", deployment.tasks(run_id)
    restated = deployment.query(
        "select cast(as_of_date as varchar), customer_id, before, after, dag_run_id from ops.restatements "
        "where changed_column = 'lifetime_value'"
    )
    assert restated == [("2026-03-30", customer_id, before, f"{Decimal(before) + 1}", run_id)]
    assert deployment.query("select distinct customer_id from ops.restatements") == [(customer_id,)]


def test_a_date_in_the_future_fails_at_once_and_says_which_day_is_the_last(deployment: Deployment) -> None:
    run_id, state = deployment.run(as_of_date="2099-01-01")
    assert state == "failed"
    assert "2099-01-01 is not over yet" in deployment.log(run_id, "validate_sources")


def run_schemas(deployment: Deployment) -> list[str]:
    rows = deployment.query("select schema_name from information_schema.schemata where schema_name like 'marts_run_%'")
    return [name for (name,) in rows]


def test_the_form_exports_one_campaign_alone(deployment: Deployment, green: str) -> None:
    shutil.rmtree(deployment.settings.export_root)
    run_id = deployment.start(EXPORTS, as_of_date="2026-03-30", campaign="retention")
    assert deployment.state(run_id, EXPORTS) == "success"
    exported = {path.name for path in Path(deployment.settings.export_root).iterdir()}
    assert exported == {"retention"}
    recorded = f"select campaign, state from ops.export_runs where dag_run_id = '{run_id}'"
    assert deployment.query(recorded) == [("retention", "exported")]


def test_a_dry_run_counts_and_writes_nothing(deployment: Deployment, green: str) -> None:
    shutil.rmtree(deployment.settings.export_root)
    decided = deployment.query("from ops.audience_memberships order by all")
    run_id = deployment.start(EXPORTS, as_of_date="2026-03-30", dry_run=True)
    assert deployment.state(run_id, EXPORTS) == "success"
    assert not Path(deployment.settings.export_root).exists()
    assert deployment.query("from ops.audience_memberships order by all") == decided
    assert deployment.query(f"from ops.export_runs where dag_run_id = '{run_id}'") == []
    eligible = deployment.query(
        "select count(*) from marts.customer_360_profile "
        "where eligible_for_retention_campaign and lifetime_value >= 50000"
    )[0][0]
    note = deployment.note(run_id, EXPORTS)
    assert note.startswith("As of 2026-03-30: nothing exported: A dry run, nothing is written or exported. ")
    assert f"retention: {eligible} eligible = " in note


def test_a_person_decides_on_audiences_that_are_unlike_those_before(deployment: Deployment, green: str) -> None:
    """Three audiences of one customer each came before those of this date."""
    for number, campaign in ((1, "onboarding"), (2, "premium")):
        deployment.query(
            "insert into ops.audience_memberships (campaign, as_of_date, customer_id, status, entered) "
            f"select '{campaign}', date '2026-03-30' - cast(days as integer), 'CUST0000000{number}', 'exported', false "
            "from range(1, 4) as dates (days)"
        )
    shutil.rmtree(deployment.settings.export_root)
    run_id = deployment.start(EXPORTS, as_of_date="2026-03-30")
    answers = {"approve_onboarding": "Approve", "approve_premium": "Reject"}
    deadline = time.monotonic() + 120
    while set(answers) - (waiting := waiting_for_a_person(deployment, run_id)) and time.monotonic() < deadline:
        time.sleep(0.3)
    assert waiting == set(answers)
    # Nobody answers before the scheduler has seen the task pause; it would take it for lost, and have it ask again.
    time.sleep(2)
    for task_id, answer in answers.items():
        path = f"dags/{EXPORTS}/dagRuns/{run_id}/taskInstances/{task_id}/-1/hitlDetails"
        question = deployment.client.get(path).raise_for_status().json()
        assert "; median of the 3 audiences before: 1; limit: 50 %" in question["body"]
        assert "@" not in question["body"]
        deployment.client.patch(path, json={"chosen_options": [answer]}).raise_for_status()
    assert deployment.state(run_id, EXPORTS) == "success"
    states = deployment.tasks(run_id, EXPORTS)
    assert (states["export_onboarding"], states["export_premium"]) == ("success", "skipped")
    exported = {path.name for path in Path(deployment.settings.export_root).iterdir()}
    assert exported == {"onboarding", "retention"}
    ends = dict(
        deployment.query(
            "select campaign, sum(case when status in ('exported', 'held_out') then 1 else 0 end) "
            "from ops.audience_memberships where as_of_date = date '2026-03-30' group by all"
        )
    )
    assert ends["onboarding"] > 0
    assert ends["premium"] == 0
    recorded = deployment.query(
        f"select campaign, state, reason from ops.export_runs where dag_run_id = '{run_id}' order by campaign"
    )
    assert recorded[1] == ("premium", "not approved", "rejected by admin")
    assert [row[:2] for row in recorded] == [
        ("onboarding", "exported"),
        ("premium", "not approved"),
        ("retention", "exported"),
    ]
    assert "; premium was not approved." in deployment.note(run_id, EXPORTS)


def waiting_for_a_person(deployment: Deployment, run_id: str) -> set[str]:
    """Return the tasks of a run that wait for an answer."""
    return {task for task, state in deployment.tasks(run_id, EXPORTS).items() if state == "awaiting_input"}


def leaked(folder: Path, people: set[str]) -> set[str]:
    """Return whose address or full name stands in any file of a folder, whatever kind of file it is."""
    # Also where one begins within another text.
    anybody = re.compile(rb"(?=((?<![\w.+-])[\w.+-]+@[\w.-]+\w|\b[A-Z][a-z]+ [A-Z][a-z]+\b))")
    found = set()
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            found |= {name.decode(errors="replace") for name in anybody.findall(file.read_bytes())} & people
    return found


def test_whoever_is_named_in_a_file_is_found(tmp_path: Path) -> None:
    people = {"ada.byron@example.com", "Ada Byron", "Bo Li"}
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "attempt=1.log").write_text('{"event": "wrote to:ada.byron@example.com\\n"}')
    with sqlite3.connect(tmp_path / "airflow.db") as database:
        database.execute("create table xcom as select 'Dear Ada Byron, hello' as value")
    assert leaked(tmp_path, people) == {"ada.byron@example.com", "Ada Byron"}


def test_nothing_that_a_run_leaves_names_anybody_in_an_audience(deployment: Deployment, green: str) -> None:
    """Logs, XComs, rendered templates and notes (in the metadata database), dbt's own files."""
    audiences = Path(deployment.settings.export_root).rglob("audience.csv")
    people = {row[name] for file in audiences for row in csv.DictReader(file.open()) for name in ("full_name", "email")}
    assert len(people) > 50
    home = Path(deployment.airflow.home)
    assert any(home.rglob("*.db"))
    assert any(home.rglob("attempt=1.log"))
    assert leaked(home, people) == set()
    assert leaked(PROJECT_ROOT / "include" / "dbt" / "logs", people) == set()
    assert leaked(PROJECT_ROOT / "include" / "dbt" / "target", people) == set()
