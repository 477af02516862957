"""Runs nights on a warehouse file whose sources stay as they are, and prints the file's size after each.

A night is what the Dag does with the file: the dbt build in a schema of its own (without the tests, which only read),
validations, history, publication, and the schema dropped. All nights run in this process, with one manifest: a start of
dbt takes longer than a small night.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow.sdk import DAG
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.cli.main import dbtRunner
from dbt.contracts.graph.manifest import Manifest

from include.customer_360.assets import PUBLISHED
from include.customer_360.catalog import load_catalog
from include.customer_360.operators.build import FAILED_TESTS
from include.customer_360.operators.publish import DropRunSchemasOperator, PublishMartsOperator, WriteHistoryOperator
from include.customer_360.operators.validate import (
    KeepValidationResultsOperator,
    ValidateMartOperator,
    ValidateSourcesOperator,
)
from include.customer_360.settings import DBT_PROJECT, TEMPLATE_FOLDERS

# The same each night: a manifest has it.
RUN_SCHEMA = "marts_run_night"
BUILD = ["build", "--exclude-resource-type", "unit_test", "--exclude-resource-type", "test"]


class Night:
    """What runs of the Dag do with one warehouse file, one after the other."""

    def __init__(self, file: Path, folder: Path) -> None:
        self.paths = ["--quiet", f"--target-path={folder / 'target'}", f"--log-path={folder / 'logs'}"]
        os.chdir(DBT_PROJECT)
        os.environ |= {
            "WAREHOUSE": "duckdb",
            "WAREHOUSE_FILE": str(file),
            "RUN_SCHEMA": RUN_SCHEMA,
            "AIRFLOW_CONN_WAREHOUSE": json.dumps({"conn_type": "duckdb", "host": str(file)}),
        }
        self.manifest: Manifest | None = None
        self.dbt(["parse"])

    def dbt(self, command: list[str]) -> None:
        outcome = dbtRunner(manifest=self.manifest).invoke([*command, *self.paths])
        if not outcome.success:
            raise RuntimeError(f"dbt {' '.join(command)} failed: {outcome.exception or outcome.result}")
        # dbt keeps the file open, and operators open it with settings of their own.
        DuckDBConnectionManager.close_all_connections()
        if isinstance(outcome.result, Manifest):
            self.manifest = outcome.result

    def run(self, as_of_date: datetime.date) -> None:
        """Build, keep and publish one date."""
        os.environ["AS_OF_DATE"] = as_of_date.isoformat()
        self.dbt(BUILD)
        scope: dict[str, Any] = {
            "run_schema": RUN_SCHEMA,
            "as_of_date": as_of_date.isoformat(),
            "dag_run_id": f"night__{as_of_date}",
        }
        handed_on: list[dict[str, Any]] = []
        # What the operators ask of a run, without one.
        context: Any = {
            "outlet_events": {PUBLISHED: SimpleNamespace(add_partitions=lambda _: None)},
            "macros": SimpleNamespace(datetime=datetime.datetime),
            "ti": SimpleNamespace(
                get_dr_count=lambda *_, **__: 0,
                xcom_push=lambda *, key, value: handed_on.append(value),
                xcom_pull=lambda key, **_: None if key == FAILED_TESTS else handed_on,
            ),
        }
        catalog = load_catalog()
        with DAG("night", schedule=None, template_searchpath=TEMPLATE_FOLDERS):
            operators = (
                ValidateSourcesOperator(
                    task_id="validate_sources",
                    drift={measure: limits for mart in catalog.marts for measure, limits in mart.drift.items()},
                    freshness_severity="warn",
                    **scope,
                ),
                *(
                    ValidateMartOperator(task_id=mart.name, mart=mart.name, drift=mart.drift, **scope)
                    for mart in catalog.marts
                ),
                KeepValidationResultsOperator(task_id="keep_validation_results", validations=[], build="", **scope),
                WriteHistoryOperator(task_id="write_history", **scope),
                PublishMartsOperator(task_id="publish", published=catalog.published, **scope),
                DropRunSchemasOperator(task_id="drop_run_schemas", **scope),
            )
        for operator in operators:
            operator.resolve_template_files()
            operator.render_template_fields(context)
            operator.execute(context)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--first", type=datetime.date.fromisoformat, required=True, help="the first as_of_date")
    parser.add_argument("--nights", type=int, default=30)
    arguments = parser.parse_args()
    file = arguments.file.resolve()
    with tempfile.TemporaryDirectory() as folder:
        night = Night(file, Path(folder))
        for number in range(arguments.nights):
            night.run(arguments.first + datetime.timedelta(days=number))
            print(f"after night {number + 1}: {file.stat().st_size} bytes", flush=True)


if __name__ == "__main__":
    main()
