"""The Dag campaign_exports as Airflow loads it."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG, PartitionedAssetTimetable
from airflow.serialization.serialized_objects import DagSerialization

from include.customer_360.assets import PUBLISHED
from include.customer_360.campaigns import CAMPAIGNS, Campaign
from include.customer_360.settings import PROJECT_ROOT, SQL_TEMPLATES, load_settings

CAMPAIGN_EXPORTS = PROJECT_ROOT / "dags" / "campaign_exports.py"
TASK_IDS = ["export_retention", "export_onboarding", "export_premium"]


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


def test_every_template_is_a_campaign() -> None:
    templates = {path.stem for path in (SQL_TEMPLATES / "exports").iterdir()}
    assert templates == {campaign.name for campaign in CAMPAIGNS} == {"retention", "onboarding", "premium"}


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
    assert task.execution_timeout == timedelta(minutes=15)


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


@pytest.mark.parametrize(
    ("partition_key", "requested", "as_of_date"),
    [
        ("2026-03-31", None, "2026-03-31"),
        ("2026-03-31", "2026-01-01", "2026-03-31"),
        (None, "2026-01-01", "2026-01-01"),
        (None, None, ""),
    ],
    ids=["scheduled", "key before form", "form", "neither"],
)
@pytest.mark.parametrize("campaign", CAMPAIGNS, ids=lambda campaign: campaign.name)
def test_the_templates_render(
    campaign: Campaign, partition_key: str | None, requested: str | None, as_of_date: str
) -> None:
    dag = DagBag(CAMPAIGN_EXPORTS).dags["campaign_exports"]
    task = dag.get_task(f"export_{campaign.name}")
    task.render_template_fields(
        {
            "dag_run": SimpleNamespace(partition_key=partition_key),
            "params": {"as_of_date": requested},
            "run_id": "run_1",
        },
        dag.get_template_env(),
    )
    assert task.as_of_date == as_of_date
    assert task.export_root == load_settings().export_root
    assert task.sql.endswith(f"order by {campaign.order_by}\nlimit {campaign.limit}")
