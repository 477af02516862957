"""The Dag campaign_exports as Airflow loads it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG, PartitionedAssetTimetable
from airflow.sdk.exceptions import AirflowFailException
from airflow.serialization.serialized_objects import DagSerialization

from include.customer_360.assets import PUBLISHED
from include.customer_360.catalog import Campaign, load_catalog
from include.customer_360.operators.export import ExportAudienceOperator
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


def test_one_task_per_campaign(dag: DAG) -> None:
    assert dag.task_ids == TASK_IDS
    assert all(task.upstream_task_ids == set() for task in dag.tasks)


def test_every_template_is_a_campaigns_own_or_that_of_all_others() -> None:
    templates = {f"exports/{path.name}" for path in (SQL_TEMPLATES / "exports").iterdir()}
    assert templates == {campaign.template for campaign in CAMPAIGNS} | {"exports/_audience.sql"}


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


@pytest.mark.parametrize("task_id", TASK_IDS)
def test_a_task_waits_for_the_warehouse_and_outlives_a_short_fault(dag: DAG, task_id: str) -> None:
    task = dag.get_task(task_id)
    assert task.pool == "warehouse"
    assert task.conn_id == "warehouse"
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


def test_the_interface_finds_and_explains_it(dag: DAG) -> None:
    assert dag.tags == {"customer-360", "exports"}
    assert "### When an export fails or is skipped" in dag.doc_md
    assert all(task.doc_md for task in dag.tasks)


def rendered(campaign: Campaign, partition_key: str | None, requested: str | None) -> ExportAudienceOperator:
    """Return the campaign's task as a run renders it that started on 1 April 2026 at 7 in UTC, 3 AM in New York."""
    dag = DagBag(CAMPAIGN_EXPORTS).dags["campaign_exports"]
    task = dag.get_task(f"export_{campaign.name}")
    moment = datetime(2026, 4, 1, 7, tzinfo=UTC)
    task.render_template_fields(
        {
            "dag_run": SimpleNamespace(partition_key=partition_key, run_after=moment, start_date=moment),
            "params": {"as_of_date": requested},
            "run_id": "run_1",
            "macros": SimpleNamespace(customer_360=customer_360_macros),
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
@pytest.mark.parametrize("campaign", CAMPAIGNS, ids=lambda campaign: campaign.name)
def test_the_templates_render(
    campaign: Campaign, partition_key: str | None, requested: str | None, as_of_date: str
) -> None:
    task = rendered(campaign, partition_key, requested)
    assert task.as_of_date == as_of_date
    assert task.export_root == load_settings().export_root
    assert task.sql.endswith(f"order by {campaign.order_by}\nlimit {campaign.limit}")


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
        rendered(CAMPAIGNS[0], partition_key, requested)
