"""What Cosmos' producer, the task that runs the dbt build, does before it starts."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.duckdb.hooks.duckdb import DuckDBHook
from airflow.sdk.exceptions import AirflowFailException
from cosmos.operators._watcher.base import _log_dbt_msg, store_compiled_sql_for_model

from include.customer_360.connection import CONN_ID, dbt_environment, waiting_for_the_file, warehouse_connection
from include.customer_360.duckdb_file import remove_spills
from include.customer_360.failures import LostSight
from include.customer_360.operators.failing_rows import data_test
from include.customer_360.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow.sdk import Context
    from cosmos.operators.watcher import DbtProducerWatcherOperator

NODES = "dbt_nodes"
"""The producer's XCom of its finished nodes, by unique_id: status, message, and of one that dbt ran, since when and for
how many seconds (`started_at`, `seconds`)."""
FAILED_TESTS = "failed_tests"
"""The producer's XCom of data tests that failed or warned, by unique_id: severity, what dbt says, and the SQL."""
NODE_RESULTS = ("LogModelResult", "LogSeedResult", "LogSnapshotResult", "SkippingDetails", "LogSkipBecauseError")
"""dbt's events with which a node is finished; those of a data test are not among them."""
FAILED = ("error", "fail", "runtime error")
"""dbt's statuses of a node or a data test that failed."""
WITH_FAILING_ROWS = {"fail": "error", "warn": "warn"}
"""dbt's statuses of a data test that found rows, and the severity that it has then."""


def before_dbt_build(context: Context) -> None:
    """Refuse a second try, hand dbt its credentials, wait for a DuckDB file, and report what the watchers ask for.

    :raises AirflowFailException: on a cleared second try, or when connection `warehouse` or its file cannot be used.
    :raises LostSight: on a second try that nobody asked for.
    :raises DuckDBFileInUse: when another program still has the file open after WAREHOUSE_LOCK_WAIT.
    """
    refuse_second_try(context)
    hand_over_credentials(context["task"])
    wait_for_the_file_of(context["task"])
    report_finished_nodes(context["task"])


def refuse_second_try(context: Context) -> None:
    """Fail a second try of a dbt build before it starts.

    Cosmos skips a second try of its producer and lets each watcher build its own node, without the data tests: a run
    whose tests failed would end in success. Nobody need have cleared it: a scheduler that comes up, or that was silent
    for too long, starts again what it no longer knows to run.

    :raises LostSight: on a second try in a run that nobody cleared; a new run follows.
    :raises AirflowFailException: in one that somebody did; it says how to run the date again.
    """
    if context["ti"].try_number > 1:
        if not context["dag_run"].clear_number:
            raise LostSight(
                "the scheduler was stopped, or silent for too long, and started the dbt build again, which does not "
                "run twice in one Dag run"
            )
        raise AirflowFailException(
            f"A dbt build does not run twice in one Dag run: its data tests would be left out. Start a new run of "
            f"{context['dag'].dag_id} for the same as_of_date instead (Trigger, as_of_date); this run's schema is "
            "dropped by the next successful run of that date."
        )


def hand_over_credentials(producer: DbtProducerWatcherOperator) -> None:
    """Give dbt's profile what connection `warehouse` holds, after templates are rendered: the UI never shows it.

    :raises WarehouseConnectionError: when the connection cannot be used.
    """
    connection = warehouse_connection()
    if connection.conn_type == "snowflake":
        producer.env = {**(producer.env or {}), **dbt_environment(connection)}


def wait_for_the_file_of(producer: DbtProducerWatcherOperator) -> None:
    """Wait until the DuckDB file that dbt will open is free: dbt says nothing while it waits, and makes a missing file.

    :raises WarehouseFileUnusable: when it is missing, damaged, or no file of this DuckDB.
    :raises DuckDBFileInUse: when another program still has it open after WAREHOUSE_LOCK_WAIT.
    """
    settings = load_settings()
    if settings.warehouse == "duckdb":
        # dbt's file is the setting's; the connection is what the operators open.
        hook = DuckDBHook(
            duckdb_conn_id=CONN_ID, database=str(settings.warehouse_file), memory_limit=settings.warehouse_memory
        )
        with closing(waiting_for_the_file(hook, producer.log.warning)):
            remove_spills(settings.warehouse_file, producer.log.info)


def report_finished_nodes(producer: DbtProducerWatcherOperator) -> None:
    """Have the producer report its finished nodes by one XCom, NODES, instead of by several for each event of dbt's.

    dbt waits for every write, and one look at one XCom tells all watchers where the build is. What dbt prints goes to
    the log as before, and the SQL of each finished model to an XCom of its own, for people. What failed, and why, is
    the producer's `node_failures`, by name, data tests among it; these are its `failed_checks` when nothing else is.
    """
    producer.node_failures = {}
    producer.failed_checks = []

    def make_parser() -> Callable[[str, Any], None]:
        nodes: dict[str, dict[str, Any]] = {}
        failed_tests: dict[str, dict[str, str]] = {}
        reporting = threading.Lock()

        def parse(line: str, extra: Any) -> None:  # noqa: ANN401 - as in Cosmos
            event = json.loads(line)
            if event["info"]["name"] == "NodeFinished":
                result, finished = event["data"]["run_result"], event["data"]["node_info"]
                if result["status"] in FAILED:
                    producer.node_failures[finished["node_name"]] = result.get("message", "")
                if finished["resource_type"] == "test" and result["status"] in WITH_FAILING_ROWS:
                    with reporting:
                        failed_tests[finished["unique_id"]] = {
                            "name": finished["node_name"],
                            "severity": WITH_FAILING_ROWS[result["status"]],
                            "message": result.get("message", ""),
                            "sql": compiled_test(extra["project_dir"], finished["node_path"]),
                        }
                        extra["context"]["ti"].xcom_push(key=FAILED_TESTS, value=failed_tests)
                producer.failed_checks = checks_of(failed_tests, producer.node_failures)
            if event["info"]["level"] == "debug":
                return
            _log_dbt_msg(event)
            node = event.get("data", {}).get("node_info", {})
            if event["info"]["name"] not in NODE_RESULTS:
                return
            # dbt's threads finish nodes at the same time.
            with reporting:
                nodes[node["unique_id"]] = {
                    "status": node["node_status"],
                    "message": event["info"]["msg"],
                    **seconds_of(event["data"]),
                }
                extra["context"]["ti"].xcom_push(key=NODES, value=nodes)
                store_compiled_sql_for_model(
                    extra["context"]["ti"],
                    extra["project_dir"],
                    node["unique_id"],
                    node["node_path"],
                    node["resource_type"],
                )

        return parse

    producer._make_parse_callable = make_parser


def seconds_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return when dbt began with a node, and how long it took; nothing of one that it skipped."""
    if "execution_time" not in data:
        return {}
    return {"started_at": data["node_info"].get("node_started_at"), "seconds": data["execution_time"]}


def checks_of(failed_tests: Mapping[str, Mapping[str, str]], node_failures: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the data tests that failed as failed checks; none when something else failed too."""
    failed = {unique_id: test for unique_id, test in failed_tests.items() if test["severity"] == "error"}
    if set(node_failures) - {test["name"] for test in failed.values()}:
        return []
    return [
        {
            "mart": data_test(unique_id).model,
            "check": test["name"],
            "observed": test["message"],
            "expected": "no row",
            "examples": [],
        }
        for unique_id, test in failed.items()
    ]


def compiled_test(project_dir: str, node_path: str) -> str:
    """Return the SQL of a data test as dbt compiled it, which lies in a folder named after its yml or its own file.

    Empty where dbt left none: what a test found is told then without its rows.
    """
    found = list((Path(project_dir) / "target" / "compiled").rglob(Path(node_path).name))
    return found[0].read_text(encoding="utf-8").strip() if found else ""
