"""Builds the customer marts of one business day, holds them against their sources, and publishes them.

dbt does the building (Cosmos renders its nodes), SQL in include/sql/validations the checking; this file is the wiring.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, CronPartitionTimetable, Param, TaskGroup, chain
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert
from cosmos import DbtTaskGroup, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig
from cosmos.constants import DbtResourceType, ExecutionMode, LoadMode, TestBehavior

from include.customer_360.alerts import tell_failure, tell_late, tell_success
from include.customer_360.as_of_date import BUSINESS_TIME_ZONE
from include.customer_360.catalog import MANIFEST, load_catalog
from include.customer_360.connection import writer_slots
from include.customer_360.deadline import PublishedBy
from include.customer_360.failures import keep_reason
from include.customer_360.known_warnings import silence_known_warnings
from include.customer_360.operators.again import RunAgainOperator
from include.customer_360.operators.build import before_dbt_build
from include.customer_360.operators.export import CheckExportRootOperator
from include.customer_360.operators.nights import LogNightOperator
from include.customer_360.operators.publish import DropRunSchemasOperator, PublishMartsOperator, WriteHistoryOperator
from include.customer_360.operators.started import keep_start
from include.customer_360.operators.validate import (
    KeepValidationResultsOperator,
    ValidateMartOperator,
    ValidateSourcesOperator,
)
from include.customer_360.operators.watch import watch_node
from include.customer_360.settings import DBT_PROJECT, POOL, TEMPLATE_FOLDERS, load_settings

DOC = """
### customer_360_refresh

Builds the three hero metrics, the segments and the Customer 360 profile as of one business day in New York, holds each
against its sources, keeps the day in `marts.customer_360_history`, and publishes the marts. Publishing emits
the asset `customer_360/published`, which starts `campaign_exports`.

- **When**: 3 AM New York, for the day before. The partition key is the `as_of_date`. A manual run takes it from the
  form; empty means yesterday in New York. Backfill:
  `airflow backfill create --dag-id customer_360_refresh --from-date 2026-03-01 --to-date 2026-04-01` builds 1 to 31
  March: the range ends at midnight, before the 3 AM of its last day. Against `make up`: `make airflow ARGS="backfill
  create ..."`.
- **Where**: the marts are built and checked in `marts_run_<date>_<run>`; readers see `marts` only. A failed run leaves
  `marts` as it was and its own schema for inspection. A run for an older date than the published one writes history
  and publishes nothing (`publish` is skipped).
- **Afterwards**: `ops.nights` has a row per run that ended, failed ones too, `ops.night_steps` its tasks: **log_night**
  writes them. On DuckDB readers open a copy, `PUBLISHED_FILE`, which publish, log_night and the exports renew.
- **Again**: a rerun of a date gives the same rows. After a failure start a new run for the same `as_of_date` instead of
  clearing tasks of `dbt_build`. When nothing but connections failed, **run_again** does so, with the same form, twice
  at most; the runs' notes say which takes the place of which. To stop a night, mark its run as failed, not a task.

### When it fails

The note of the run names the task and the reason; the task's log ends with it.

- **check_export_root**: *cannot be written under the export root* says why: the folder is missing, full or forbidden,
  or the bucket's provider or connection is not there. Nothing was built. Correct `EXPORT_ROOT` or the rights on it,
  then start a new run. A backfill does not look.
- **validate_sources** is *deferred*: the transactions of the date are not there yet, or a tenth of them. It looks again
  every 10 minutes (`SOURCES_LOOK_EVERY`), one line a look in its log, without a worker, until 5 AM New York
  (`SOURCES_WAIT_UNTIL`). When they come, the run goes on by itself.
- **validate_sources** failed: *The sources of ... are not ready* says what is missing, how much that weekday usually
  has, and the latest day and arrival that are there. Ask for the missing delivery, then clear the task, or start a
  new run. Where nothing is missing, for a day on which nobody paid, start one with *Accept sources*; a day like that
  which returns every year belongs into `bank_holidays` (dbt_project.yml), as do the limits.
  *sources_as_of_date_possible*: nobody was a customer yet; it says the first possible date. A warning
  *sources_days_before_complete*: a day of the week before is short; when it comes late, the night after loads it.
  *... Airflow connection 'warehouse' ...*: it is missing, lacks something, or is not of the type that `WAREHOUSE`
  asks for; the log names all of it.
- **dbt_build.dbt_producer_watcher**: a model or a data test failed. The log names it and, for a test,
  the number of failing rows and the compiled SQL. `raw_equals_accepted_plus_superseded_plus_rejected`: rows
  arrived while the build ran, then a new run cures it, or the fact was changed by hand: run again with *Load all
  transactions again*.
  `No space left on device`, `failed to offload data block`, `failed to allocate`: the disk of the DuckDB file, which
  also takes what does not fit into memory (`<file>.tmp`), or its memory is too small. Nothing is lost: free space or
  raise `WAREHOUSE_MEMORY`, then start a new run.
- *The warehouse ... is in use by ...* (any task, on DuckDB): the program named has the file open. The task waits as
  long as `WAREHOUSE_LOCK_WAIT` says, ten minutes by default, and fails when that was not enough: close that program,
  then start a new run.
- *The warehouse ... is not there*, *is damaged*, *is not a DuckDB file*, *was written by another version of DuckDB*:
  put the file back or restore a backup, as docs/backup.md says, then start a new run. Nothing is made in its place.
- A node of **dbt_build** is red: it failed, or the build ended before it was built; see the producer's log. A green one
  has its SQL under *XCom*. Clearing one builds nothing.
- **validate_<mart>**: a mart is not true. The log lists every check with what was observed and expected; all are in
  `ops.validation_results` when **keep_validation_results** has run, which it does after the last validation, passed or
  not. A row count or total that moved too far and is right: run again with *Accept drift*.
- **keep_validation_results**, **write_history**, **publish**, **drop_run_schemas**: the warehouse was not reachable;
  they are retried. Clear them to try again. *are published in the warehouse, but ...* (publish): the copy that readers
  open could not be written; see that there is room and that its place may be written, then clear publish. *Connection
  ... is refused*: no retry helps; the log says what to correct.
- **log_night**: the warehouse was not reachable, or could not be written; the run did what it did. What it warns of,
  the log of the screens or the readers' copy, waits for the next night. **run_went_well** runs nothing: it is red when
  something before it is, so that the run is.
- **as_of_date ... is not over yet**: the form or the partition key names today or a later date.
- A task stays in *scheduled*: its pool is missing, full or too small, `warehouse` or, for the build on Snowflake,
  `core_load`. `warehouse` has 8 slots; on DuckDB a task that writes takes all of them and waits for those that read.
- The nodes of **dbt_build** stay in *deferred* after the build: no triggerer runs, or it has no room for more.
"""

silence_known_warnings()

AS_OF_DATE = "{{ macros.customer_360.as_of_date(dag_run, params) }}"
RUN_SCHEMA = "{{ macros.customer_360.run_schema(dag_run, params) }}"
QUERY_TAG = "{{ macros.customer_360.query_tag(ti, dag_run, params) }}"
TEST_SCOPE = "{{ macros.customer_360.test_scope(dag_run, params) }}"
RUN_SCOPE: dict[str, Any] = {"as_of_date": AS_OF_DATE, "run_schema": RUN_SCHEMA}

settings = load_settings()
catalog = load_catalog()

# What a run may take, when it need not wait for its sources after three.
BUILD_HOURS = timedelta(hours=5)
WAIT_UNTIL = settings.sources_wait_until
WAIT = max(timedelta(hours=WAIT_UNTIL.hour - 3, minutes=WAIT_UNTIL.minute), timedelta()) if WAIT_UNTIL else timedelta()

# One build, and so one load of core, at a time. On DuckDB the build takes all of pool warehouse, to the same effect.
BUILD_POOL = POOL if settings.warehouse == "duckdb" else "core_load"
# What a task may take does not count the time it waits for a DuckDB file that another program has open.
LOCK_WAIT = timedelta(seconds=settings.warehouse_lock_wait if settings.warehouse == "duckdb" else 0)


with DAG(
    dag_id="customer_360_refresh",
    description="The customer marts of one business day: build, validate, publish",
    doc_md=f"{DOC}\n[The screens]({settings.screens_url}) show what is published.\n",
    schedule=CronPartitionTimetable("0 3 * * *", timezone=BUSINESS_TIME_ZONE, run_offset=-1, key_format="%Y-%m-%d"),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=BUILD_HOURS + WAIT,
    deadline=DeadlineAlert(PublishedBy(), interval=timedelta(), callback=AsyncCallback(tell_late)),
    on_failure_callback=tell_failure,
    on_success_callback=tell_success,
    tags=["customer-360", "marts"],
    template_searchpath=TEMPLATE_FOLDERS,
    default_args={
        "owner": "data-engineering",
        "retries": 2,
        "retry_delay": timedelta(minutes=2),
        "execution_timeout": timedelta(minutes=30) + LOCK_WAIT,
        "on_execute_callback": keep_start,
        "on_failure_callback": keep_reason,
        "on_skipped_callback": keep_reason,
    },
    params={
        "as_of_date": Param(
            None,
            type=["null", "string"],
            format="date",
            title="As of date",
            description="The business date to build, not later than yesterday in New York; empty: yesterday.",
        ),
        "accept_drift": Param(
            False,
            type="boolean",
            title="Accept drift",
            description="Row counts and totals that moved too far against what is published only warn.",
        ),
        "accept_sources": Param(
            False,
            type="boolean",
            title="Accept sources",
            description="A day with fewer transactions than its weekday has, or with none, only warns.",
        ),
        "full_refresh": Param(
            False,
            type="boolean",
            title="Load all transactions again",
            description="Rebuild core.fct_transactions from all raw rows instead of the days that differ.",
        ),
        "test_everything": Param(
            False,
            type="boolean",
            title="Test everything",
            description="Tests that look at what the load touched look at the whole fact instead.",
        ),
    },
):
    # Before hours of waiting and building, and without a slot of the warehouse's pool.
    check_export_root = CheckExportRootOperator(
        task_id="check_export_root", export_root=settings.export_root, execution_timeout=timedelta(minutes=5)
    )
    validate_sources = ValidateSourcesOperator(
        task_id="validate_sources",
        drift={measure: limits for mart in catalog.marts for measure, limits in mart.drift.items()},
        freshness_severity="{{ 'warn' if params.accept_sources else 'late' }}",
        wait_until=WAIT_UNTIL,
        look_every=timedelta(minutes=settings.sources_look_every),
        **RUN_SCOPE,
    )
    dbt_build = DbtTaskGroup(
        group_id="dbt_build",
        project_config=ProjectConfig(
            dbt_project_path=DBT_PROJECT,
            manifest_path=MANIFEST,
            # Variables, not --vars: with other vars dbt parses all files again, with other variables what reads them.
            env_vars={
                "AS_OF_DATE": AS_OF_DATE,
                "RUN_SCHEMA": RUN_SCHEMA,
                "QUERY_TAG": QUERY_TAG,
                "TEST_SCOPE": TEST_SCOPE,
                "WAREHOUSE_FILE": str(settings.warehouse_file),
                "WAREHOUSE_MEMORY": settings.warehouse_memory,
                "WAREHOUSE_CONNECT_ATTEMPTS": str(settings.dbt_connect_attempts),
                "SNOWFLAKE_EDITION": settings.snowflake_edition,
            },
            install_dbt_deps=False,
        ),
        profile_config=ProfileConfig(
            profile_name="customer_analytics",
            target_name=settings.warehouse,
            profiles_yml_filepath=DBT_PROJECT / "profiles.yml",
        ),
        execution_config=ExecutionConfig(
            execution_mode=ExecutionMode.WATCHER,
            setup_operator_args={
                "pool": BUILD_POOL,
                "pool_slots": writer_slots(),
                # Data tests run inside the build, so that a failed one stops what is downstream of its model.
                "dbt_cmd_flags": ["--resource-type", "test", "--exclude", "tag:first_load_only"],
                "full_refresh": "{{ params.full_refresh }}",
                "pre_execute": before_dbt_build,
            },
        ),
        render_config=RenderConfig(
            load_method=LoadMode.DBT_MANIFEST,
            group_nodes_by_folder=True,
            normalize_task_id=lambda node: node.name,
            normalize_task_display_name=lambda node: node.name,
            test_behavior=TestBehavior.NONE,
            node_converters=dict.fromkeys(
                (DbtResourceType.MODEL, DbtResourceType.SEED, DbtResourceType.SNAPSHOT), watch_node
            ),
            emit_datasets=False,
        ),
        operator_args={
            "append_env": True,
            "execution_timeout": timedelta(hours=2) + LOCK_WAIT,
            "retries": 0,
        },
    )
    with TaskGroup("validate_marts") as validate_marts:
        for mart in catalog.marts:
            validation = ValidateMartOperator(
                task_id=f"validate_{mart.name}",
                mart=mart.name,
                drift=mart.drift,
                drift_severity="{{ 'warn' if params.accept_drift else 'error' }}",
                **RUN_SCOPE,
            )
            dbt_build.tasks_map[f"model.customer_analytics.{mart.name}"] >> validation
    keep_results = KeepValidationResultsOperator(
        task_id="keep_validation_results",
        validations=sorted(validate_marts.children),
        build="dbt_build.dbt_producer_watcher",
        trigger_rule="all_done",
        **RUN_SCOPE,
    )
    write_history = WriteHistoryOperator(task_id="write_history", **RUN_SCOPE)
    publish = PublishMartsOperator(task_id="publish", published=catalog.published, **RUN_SCOPE)
    drop_run_schemas = DropRunSchemasOperator(task_id="drop_run_schemas", trigger_rule="none_failed", **RUN_SCOPE)
    run_again = RunAgainOperator(
        task_id="run_again", as_of_date=AS_OF_DATE, test_scope=TEST_SCOPE, execution_timeout=timedelta(hours=3)
    )

    # A run ends as its last tasks do. log_night succeeds whatever failed; this one, which no worker runs, does not.
    run_went_well = EmptyOperator(task_id="run_went_well", trigger_rule="none_failed", on_execute_callback=None)
    log_night = LogNightOperator(task_id="log_night", as_of_date=AS_OF_DATE, trigger_rule="all_done")

    chain(check_export_root, validate_sources, dbt_build, write_history)
    # Kept whatever they are; what follows needs each validation's success besides.
    chain(validate_marts, keep_results, write_history)
    chain(validate_marts, write_history, publish, drop_run_schemas)
    # Beside drop_run_schemas, by which run_went_well has its state.
    [
        check_export_root,
        validate_sources,
        dbt_build.children["dbt_build.dbt_producer_watcher"],
        keep_results,
        write_history,
        publish,
    ] >> run_again
    drop_run_schemas >> run_went_well
    [drop_run_schemas, run_again] >> log_night
