"""The Dag campaign_exports as Airflow loads it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG, PartitionedAssetTimetable
from airflow.sdk.definitions.mappedoperator import MappedOperator
from airflow.sdk.exceptions import AirflowFailException
from airflow.serialization.serialized_objects import DagSerialization

from include.customer_360.assets import PUBLISHED
from include.customer_360.catalog import Campaign, load_catalog
from include.customer_360.settings import PROJECT_ROOT, SQL_TEMPLATES, load_settings
from plugins import customer_360_macros

CAMPAIGN_EXPORTS = PROJECT_ROOT / "dags" / "campaign_exports.py"
CAMPAIGNS = load_catalog().campaigns
TASK_IDS = [f"export_{campaign.name}" for campaign in CAMPAIGNS]


@pytest.fixture(scope="module")
def dag() -> DAG:
    bag = DagBag(CAMPAIGN_EXPORTS)
    assert bag.import_errors == {}
    assert bag.captured_warnings == {}
    assert list(bag.dags) == ["campaign_exports"]
    return bag.dags["campaign_exports"]


def test_all_campaigns_are_decided_and_validated_before_any_is_exported(dag: DAG) -> None:
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == {
        "decide_audiences": {"validate_audiences", "log_exports"},
        "validate_audiences": {f"approve_{campaign.name}" for campaign in CAMPAIGNS} | {"log_exports"},
        **{f"approve_{campaign.name}": {f"export_{campaign.name}"} for campaign in CAMPAIGNS},
        **{task_id: {"log_exports"} for task_id in TASK_IDS},
        "log_exports": set(),
    }


def test_what_was_done_is_recorded_whatever_happened(dag: DAG) -> None:
    assert dag.get_task("log_exports").trigger_rule == "all_done"
    # Whatever else comes only after what it needs.
    assert {task.trigger_rule for task in dag.tasks if task.task_id != "log_exports"} == {"all_success"}


@pytest.mark.parametrize("campaign", CAMPAIGNS, ids=lambda campaign: campaign.name)
def test_a_task_per_destination_exports_a_campaign(dag: DAG, campaign: Campaign) -> None:
    task = dag.get_task(f"export_{campaign.name}")
    assert isinstance(task, MappedOperator)
    assert task.expand_input.value == {"destination": [destination.name for destination in campaign.destinations]}


def test_every_template_is_a_campaigns_own_or_that_of_all_others() -> None:
    templates = {f"exports/{path.name}" for path in (SQL_TEMPLATES / "exports").iterdir()}
    assert templates == {campaign.template for campaign in CAMPAIGNS} | {"exports/_eligible.sql"}


def test_a_publication_starts_it_with_the_same_partition_key(dag: DAG) -> None:
    assert type(dag.timetable) is PartitionedAssetTimetable
    assert dag.timetable.asset_condition == PUBLISHED
    assert PUBLISHED.name == "customer_360/published"
    loaded = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    mapper = loaded.timetable.get_partition_mapper(name=PUBLISHED.name, uri=PUBLISHED.uri)
    assert mapper.to_downstream("2026-03-31") == "2026-03-31"


def test_runs_come_one_at_a_time_and_never_for_the_past(dag: DAG) -> None:
    assert dag.max_active_runs == 1
    assert dag.catchup is False


@pytest.mark.parametrize("task_id", ["decide_audiences", "validate_audiences", *TASK_IDS, "log_exports"])
def test_a_task_waits_for_the_warehouse_and_outlives_a_short_fault(dag: DAG, task_id: str) -> None:
    task = dag.get_task(task_id)
    assert task.pool == "warehouse"
    assert task.retries == 2
    assert task.retry_delay == timedelta(minutes=2)
    assert task.execution_timeout == timedelta(minutes=25)


@pytest.mark.parametrize(
    ("task_id", "owner"),
    [
        ("export_retention", "lifecycle-marketing"),
        ("export_onboarding", "growth-marketing"),
        ("export_premium", "premium-marketing"),
    ],
)
def test_a_task_belongs_to_the_campaigns_owner(dag: DAG, task_id: str, owner: str) -> None:
    assert dag.get_task(task_id).owner == owner


@pytest.mark.parametrize("campaign", CAMPAIGNS, ids=lambda campaign: campaign.name)
def test_a_question_belongs_to_the_campaigns_owner_and_has_a_deadline(dag: DAG, campaign: Campaign) -> None:
    task = dag.get_task(f"approve_{campaign.name}")
    assert task.owner == campaign.owner
    assert task.response_timeout == timedelta(hours=12)
    assert task.defaults == ["Reject"]


def test_the_form_offers_each_campaign_alone_and_a_dry_run(dag: DAG) -> None:
    assert dag.params.get_param("campaign").schema["enum"] == [None, *(campaign.name for campaign in CAMPAIGNS)]
    assert dag.params.get_param("campaign").value is None
    assert dag.params.get_param("dry_run").value is False


def test_the_interface_finds_and_explains_it(dag: DAG) -> None:
    assert dag.tags == {"customer-360", "exports"}
    assert "### When an export fails or is skipped" in dag.doc_md
    assert all(dag.get_task(task_id).doc_md for task_id in TASK_IDS)


def rendered(
    task_id: str, partition_key: str | None, requested: str | None, campaign: str | None = None, dry_run: bool = False
) -> Any:  # noqa: ANN401 - an operator of any kind
    """Return a task as a run renders it that started on 1 April 2026 at 7 in UTC, 3 AM in New York."""
    dag = DagBag(CAMPAIGN_EXPORTS).dags["campaign_exports"]
    task = dag.get_task(task_id)
    if isinstance(task, MappedOperator):
        task = task.unmap({"destination": "csv"})
    moment = datetime(2026, 4, 1, 7, tzinfo=UTC)
    decided = {"as_of_date": "2026-03-31"}
    task.render_template_fields(
        {
            "dag_run": SimpleNamespace(partition_key=partition_key, run_after=moment, start_date=moment),
            "params": {"as_of_date": requested, "campaign": campaign, "dry_run": dry_run},
            "run_id": "run_1",
            "macros": SimpleNamespace(customer_360=customer_360_macros),
            "ti": SimpleNamespace(xcom_pull=lambda task_ids: decided if task_ids == "decide_audiences" else None),
        },
        dag.get_template_env(),
    )
    return task


@pytest.mark.parametrize(
    ("partition_key", "requested", "as_of_date"),
    [
        ("2026-03-31", None, "2026-03-31"),
        ("2026-03-31", "2026-03-31", "2026-03-31"),
        (None, "2026-01-01", "2026-01-01"),
        (None, None, ""),
        (None, "", ""),
    ],
    ids=["scheduled", "key and form agree", "form", "neither", "empty form"],
)
@pytest.mark.parametrize("task_id", ["decide_audiences", "log_exports"])
def test_the_date_that_the_run_asks_for_is_decided(
    task_id: str, partition_key: str | None, requested: str | None, as_of_date: str
) -> None:
    assert rendered(task_id, partition_key, requested).as_of_date == as_of_date


def test_the_form_reaches_the_decision() -> None:
    decide = rendered("decide_audiences", None, None, "premium", dry_run=True)
    assert (decide.only, decide.counts_only) == ("premium", "True")
    decide = rendered("decide_audiences", None, None)
    assert (decide.only, decide.counts_only) == ("", "False")


@pytest.mark.parametrize("task_id", TASK_IDS)
def test_what_was_decided_is_exported(task_id: str) -> None:
    task = rendered(task_id, None, None, "premium")
    assert task.as_of_date == "2026-03-31"
    assert task.only == "premium"
    assert task.destination == "csv"
    assert task.conn_id == "warehouse"
    assert task.export_root == load_settings().export_root


@pytest.mark.parametrize(
    ("partition_key", "requested", "message"),
    [
        ("2026-03-31", "2026-01-01", "partition key 2026-03-31 and asks for as_of_date 2026-01-01"),
        (None, "2026-3-1", "'2026-3-1' is no date: give it as YYYY-MM-DD"),
        ("2026-04-01", None, "2026-04-01 is not over yet"),
    ],
    ids=["key and form differ", "no date", "today"],
)
def test_a_date_that_the_refresh_refuses_is_refused_here(
    partition_key: str | None, requested: str | None, message: str
) -> None:
    with pytest.raises(AirflowFailException, match=message):
        rendered("decide_audiences", partition_key, requested)
