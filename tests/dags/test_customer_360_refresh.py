"""The Dag customer_360_refresh as Airflow loads it."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from datetime import timedelta
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, CronPartitionTimetable
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import TimeRestriction

from include.customer_360.assets import PUBLISHED
from include.customer_360.catalog import MANIFEST, load_catalog
from include.customer_360.operators.started import keep_start
from include.customer_360.operators.watch import DbtNodeWatcherOperator
from include.customer_360.settings import PROJECT_ROOT, SQL_TEMPLATES, load_settings
from plugins import customer_360_macros

MARTS = tuple(mart.name for mart in load_catalog().marts)
NEW_YORK = ZoneInfo("America/New_York")
DAGS = PROJECT_ROOT / "dags"
WRITERS = (
    "validate_sources",
    "dbt_build.dbt_producer_watcher",
    "keep_validation_results",
    "write_history",
    "publish",
    "drop_run_schemas",
    "log_night",
)


@pytest.fixture(scope="module")
def bag() -> DagBag:
    return DagBag(DAGS)


@pytest.fixture(scope="module")
def dag(bag: DagBag) -> DAG:
    return bag.dags["customer_360_refresh"]


def test_the_project_has_two_dags_and_all_import(bag: DagBag) -> None:
    assert bag.import_errors == {}
    assert set(bag.dags) == {"customer_360_refresh", "campaign_exports"}


def test_no_two_groups_depend_on_each_other(bag: DagBag) -> None:
    """The graph in the UI sorts the groups of each level; it stays empty when they form a cycle."""
    for dag in bag.dags.values():
        for group in dag.task_group_dict.values():
            assert len(group.topological_sort()) == len(group.children), group.group_id


def test_every_task_has_an_owner_a_timeout_and_its_dag_tags_and_notes(bag: DagBag) -> None:
    for dag in bag.dags.values():
        assert "customer-360" in dag.tags
        assert "fail" in dag.doc_md
        for task in dag.tasks:
            assert task.owner != "airflow", task.task_id
            assert task.execution_timeout, task.task_id


def partitions(dag: DAG, first: str, last: str) -> dict[str, datetime.datetime]:
    """Return when each partition's cron tick is, by partition key."""
    timetable = DagSerialization.from_dict(DagSerialization.to_dict(dag)).timetable
    infos = timetable.iter_partition_dagrun_infos(
        earliest=datetime.datetime.fromisoformat(f"{first}T00:00:00+00:00"),
        latest=datetime.datetime.fromisoformat(f"{last}T23:59:59+00:00"),
    )
    return {info.partition_key: info.run_after for info in infos}


def test_it_runs_at_three_in_new_york_for_the_day_before(dag: DAG) -> None:
    assert isinstance(dag.timetable, CronPartitionTimetable)
    timetable = DagSerialization.from_dict(DagSerialization.to_dict(dag)).timetable
    midnight = datetime.datetime(2026, 11, 22, tzinfo=NEW_YORK)
    due = timetable.next_dagrun_info_v2(
        last_dagrun_info=None, restriction=TimeRestriction(earliest=midnight, latest=None, catchup=True)
    )
    assert due.run_after == datetime.datetime(2026, 11, 22, 3, tzinfo=NEW_YORK)
    assert due.partition_key == "2026-11-21"


@pytest.mark.parametrize(
    ("first", "last", "utc_hours"),
    [
        ("2026-03-06", "2026-03-09", [8, 8, 7, 7]),  # clocks go forward on 8 March
        ("2026-10-30", "2026-11-02", [7, 7, 8, 8]),  # and back on 1 November
    ],
)
def test_daylight_saving_moves_no_run_and_loses_no_day(dag: DAG, first: str, last: str, utc_hours: list[int]) -> None:
    ticks = partitions(dag, first, last)
    start = datetime.date.fromisoformat(first)
    assert list(ticks) == [(start + timedelta(days=day)).isoformat() for day in range(4)]
    assert [tick.astimezone(NEW_YORK).hour for tick in ticks.values()] == [3, 3, 3, 3]
    assert [tick.astimezone(datetime.UTC).hour for tick in ticks.values()] == utc_hours


def test_a_new_deployment_waits_for_the_next_three_in_the_morning(dag: DAG) -> None:
    assert dag.catchup is False
    assert dag.start_date is None
    assert dag.max_active_runs == 1


def test_the_form_asks_for_a_date_and_takes_none(dag: DAG) -> None:
    assert dag.params["as_of_date"] is None
    assert dag.params.get_param("as_of_date").schema["format"] == "date"
    assert dag.params.get_param("as_of_date").schema["type"] == ["null", "string"]
    assert dag.params["accept_drift"] is False
    assert dag.params["full_refresh"] is False


@pytest.mark.parametrize(
    ("setting", "hour", "timeout"),
    [
        ("", datetime.time(5), timedelta(hours=7)),
        ("08:30", datetime.time(8, 30), timedelta(hours=10, minutes=30)),
        ("02:30", datetime.time(2, 30), timedelta(hours=5)),
        ("never", None, timedelta(hours=5)),
    ],
)
def test_waiting_for_the_sources_does_not_take_from_the_time_of_the_run(
    monkeypatch: pytest.MonkeyPatch, setting: str, hour: datetime.time | None, timeout: timedelta
) -> None:
    monkeypatch.setenv("SOURCES_WAIT_UNTIL", setting)
    monkeypatch.setenv("SOURCES_LOOK_EVERY", "15")
    dag = DagBag(DAGS / "customer_360_refresh.py").dags["customer_360_refresh"]
    sources = dag.get_task("validate_sources")
    assert (sources.wait_until, sources.look_every, dag.dagrun_timeout) == (hour, timedelta(minutes=15), timeout)


def test_sources_that_are_late_are_accepted_when_the_form_says_so(dag: DAG) -> None:
    assert dag.params["accept_sources"] is False
    assert dag.get_task("validate_sources").freshness_severity == "{{ 'warn' if params.accept_sources else 'late' }}"


def test_nothing_waits_or_is_built_for_audiences_that_cannot_be_written(dag: DAG) -> None:
    check = dag.get_task("check_export_root")
    everything_else = {task.task_id for task in dag.tasks if not isinstance(task, DbtNodeWatcherOperator)}
    assert {"validate_sources", "run_again"} <= check.downstream_task_ids
    assert everything_else - {"check_export_root"} <= set(check.get_flat_relative_ids(upstream=False))
    assert (check.pool, check.export_root) == ("default_pool", load_settings().export_root)


def groups_of(dag: DAG) -> set[str]:
    return {group_id.rsplit(".", 1)[-1] for group_id in dag.task_group_dict}


def test_the_graph_shows_the_layers_as_groups(dag: DAG) -> None:
    assert groups_of(dag) >= {"staging", "core", "intermediate", "marketing", "customer_analytics", "validate_marts"}


@pytest.mark.parametrize("mart", MARTS)
def test_each_mart_is_built_then_validated_then_published(dag: DAG, mart: str) -> None:
    validation = dag.get_task(f"validate_marts.validate_{mart}")
    built = {task_id.rsplit(".", 1)[-1] for task_id in validation.upstream_task_ids}
    assert mart in built
    assert "publish" in validation.get_flat_relative_ids(upstream=False)


def test_nothing_is_published_before_history_and_every_validation(dag: DAG) -> None:
    before = dag.get_task("publish").get_flat_relative_ids(upstream=True)
    assert {f"validate_marts.validate_{mart}" for mart in MARTS} | {"write_history", "validate_sources"} <= before
    assert dag.get_task("publish").trigger_rule == "all_success"


def test_only_publish_emits_the_asset(dag: DAG) -> None:
    assert {task.task_id for task in dag.tasks if task.outlets} == {"publish"}
    assert dag.get_task("publish").outlets == [PUBLISHED]


def test_the_dbt_build_is_tried_once_with_its_data_tests(dag: DAG) -> None:
    producer = dag.get_task("dbt_build.dbt_producer_watcher")
    assert producer.retries == 0
    assert producer.dbt_cmd_flags[:2] == ["--resource-type", "test"]
    assert "unit_test" not in producer.dbt_cmd_flags


def test_the_nightly_build_leaves_out_the_tests_of_what_only_a_first_load_reads(dag: DAG) -> None:
    flags = dag.get_task("dbt_build.dbt_producer_watcher").dbt_cmd_flags
    assert flags[flags.index("--exclude") + 1] == "tag:first_load_only"
    nodes = json.loads(MANIFEST.read_text())["nodes"].values()
    tests = [
        (node["attached_node"], node["test_metadata"]["name"], node["tags"])
        for node in nodes
        if node.get("test_metadata")
    ]
    left_out = {(model, kind) for model, kind, tags in tests if "first_load_only" in tags}
    assert left_out == {("model.customer_analytics.stg_transactions", kind) for kind in ("unique", "not_null")}
    # What the first load made of it is looked at in the fact.
    of_fact = {kind for model, kind, _ in tests if model == "model.customer_analytics.fct_transactions"}
    assert {"unique", "not_null"} <= of_fact


def test_no_watcher_builds_its_node_again_without_tests(dag: DAG) -> None:
    nodes = json.loads(MANIFEST.read_text())["nodes"].values()
    built = {node["name"] for node in nodes if node["resource_type"] in ("model", "seed", "snapshot")}
    tasks = {task.task_id.rsplit(".", 1)[-1]: task for task in dag.tasks if task.task_id.startswith("dbt_build.")}
    watchers = {name: task for name, task in tasks.items() if not name.startswith("dbt_producer_watcher")}
    assert watchers.keys() == built
    assert {watcher.retries for watcher in watchers.values()} == {0}
    assert {type(watcher) for watcher in watchers.values()} == {DbtNodeWatcherOperator}


def test_history_is_written_only_after_the_whole_build(dag: DAG) -> None:
    before = dag.get_task("write_history").get_flat_relative_ids(upstream=True)
    assert {task.task_id for task in dag.tasks if task.task_id.startswith("dbt_build.")} <= before


def test_what_opens_the_warehouse_takes_a_slot(dag: DAG) -> None:
    readers = {f"validate_marts.validate_{mart}" for mart in MARTS}
    slots = {task.task_id: task.pool_slots for task in dag.tasks if task.pool == "warehouse"}
    assert slots == dict.fromkeys(WRITERS, 8) | dict.fromkeys(readers, 1)


def test_on_snowflake_every_task_takes_one_slot_and_the_build_the_only_one_of_its_pool(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WAREHOUSE", "snowflake")
    dag = DagBag(DAGS / "customer_360_refresh.py").dags["customer_360_refresh"]
    assert {task.pool_slots for task in dag.tasks} == {1}
    assert {task.task_id for task in dag.tasks if task.pool == "core_load"} == {"dbt_build.dbt_producer_watcher"}


def test_results_are_kept_whatever_they_are_and_before_anything_is_written_for_readers(dag: DAG) -> None:
    keep = dag.get_task("keep_validation_results")
    validations = {f"validate_marts.validate_{mart}" for mart in MARTS}
    assert keep.trigger_rule == "all_done"
    assert keep.upstream_task_ids == validations == set(keep.validations)
    # Kept is not passed: what comes after needs both.
    assert validations | {"keep_validation_results"} <= dag.get_task("write_history").upstream_task_ids
    assert dag.get_task("write_history").trigger_rule == "all_success"


def test_a_night_is_logged_last_whatever_came_of_it_and_turns_no_failed_run_green(dag: DAG) -> None:
    """A run ends as the tasks do that nothing comes after."""
    log_night = dag.get_task("log_night")
    before = log_night.get_flat_relative_ids(upstream=True)
    assert before == {task.task_id for task in dag.tasks} - {"log_night", "run_went_well"}
    assert log_night.trigger_rule == "all_done"
    assert {task.task_id for task in dag.tasks if not task.downstream_task_ids} == {"log_night", "run_went_well"}
    run_went_well = dag.get_task("run_went_well")
    assert run_went_well.upstream_task_ids == {"drop_run_schemas"}
    assert run_went_well.trigger_rule == dag.get_task("drop_run_schemas").trigger_rule == "none_failed"
    # As a teardown it would keep a run that is marked as failed by hand from failing: its other tasks are skipped then.
    assert not log_night.is_teardown


def test_what_ends_a_run_takes_no_worker(dag: DAG) -> None:
    run_went_well = dag.get_task("run_went_well")
    assert run_went_well.inherits_from_empty_operator
    assert not run_went_well.on_execute_callback
    assert not run_went_well.on_success_callback
    assert not run_went_well.outlets


def test_every_task_that_a_worker_runs_leaves_when_it_began(dag: DAG) -> None:
    run = [task for task in dag.tasks if not isinstance(task, DbtNodeWatcherOperator | EmptyOperator)]
    assert {callback for task in run for callback in task.on_execute_callback} == {keep_start}
    assert all(task.on_execute_callback for task in run)


def test_every_validation_template_exists(dag: DAG) -> None:
    templates = {path.stem for path in (SQL_TEMPLATES / "validations").glob("*.sql")}
    assert templates == {*MARTS, "sources", "audience_memberships"}


def test_a_dag_file_imports_within_seconds() -> None:
    """The bound is Airflow's own, dagbag_import_timeout; benchmarks/README.md has the measured times."""
    for file in sorted(DAGS.glob("*.py")):
        subprocess.run(
            [sys.executable, str(file)], check=True, timeout=30, capture_output=True, env=import_environment()
        )


def import_environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{PROJECT_ROOT}:{PROJECT_ROOT / 'plugins'}"}


PARSE_WITHOUT_A_DEPLOYMENT = """
import os
from unittest import mock

def unset_is_mocked(name, default=None):
    return os.environ.get(name) or default or f"MOCKED_{{name.upper()}}_VALUE"

with mock.patch("os.getenv", unset_is_mocked):
    from airflow.dag_processing.dagbag import DagBag
    bag = DagBag({folder!r})
assert bag.import_errors == {{}}, bag.import_errors
assert len(bag.dags) == 2, bag.dags
"""


def test_the_dags_parse_where_unset_variables_are_mocked() -> None:
    """As `astro dev parse` does: os.getenv of an unset name returns MOCKED_<NAME>_VALUE."""
    subprocess.run(
        [sys.executable, "-c", PARSE_WITHOUT_A_DEPLOYMENT.format(folder=str(DAGS))],
        check=True,
        timeout=120,
        env=import_environment(),
    )


@pytest.mark.parametrize(
    ("run_type", "as_of_date", "setting", "asked_for", "scope"),
    [
        # 22 November 2026 is a Sunday; the run for it starts on Monday at three.
        ("scheduled", "2026-11-22", "", False, "everything"),
        ("scheduled", "2026-11-23", "", False, "touched"),
        ("scheduled", "2026-11-21", "saturday", False, "everything"),
        ("scheduled", "2026-11-22", "saturday", False, "touched"),
        ("scheduled", "2026-11-23", "every day", False, "everything"),
        ("scheduled", "2026-11-22", "never", False, "touched"),
        # A backfill of a month would test everything four times over.
        ("backfill", "2026-11-22", "", False, "touched"),
        ("manual", "2026-11-22", "", False, "touched"),
        ("manual", "2026-11-23", "never", True, "everything"),
    ],
)
def test_the_scheduled_run_of_a_sunday_tests_everything(
    monkeypatch: pytest.MonkeyPatch, run_type: str, as_of_date: str, setting: str, asked_for: bool, scope: str
) -> None:
    monkeypatch.setenv("TEST_EVERYTHING_ON", setting)
    day_after = datetime.datetime.fromisoformat(as_of_date).replace(tzinfo=NEW_YORK) + timedelta(days=1, hours=3)
    dag_run = SimpleNamespace(
        run_type=run_type, partition_key=as_of_date, run_after=day_after, start_date=day_after, run_id="run_1"
    )
    params = {"as_of_date": None, "test_everything": asked_for}
    assert customer_360_macros.test_scope(dag_run, params) == scope


def test_the_build_is_told_what_its_data_tests_look_at(dag: DAG) -> None:
    producer = dag.get_task("dbt_build.dbt_producer_watcher")
    assert producer.env["TEST_SCOPE"] == "{{ macros.customer_360.test_scope(dag_run, params) }}"
