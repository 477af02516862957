"""Builds small warehouses with dbt."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
from dbt.cli.main import dbtRunner

from include.customer_360.settings import DBT_PROJECT
from tests.forked_dbt import run_function

BUILD = "build --exclude-resource-type unit_test"


@dataclass(frozen=True)
class Build:
    """A warehouse file that dbt has built; statuses is dbt's word on each node, by unique_id."""

    file: Path
    statuses: dict[str, str]


class DbtBuilds:
    """Runs `dbt build` on copies of warehouse files, one after the other, in a folder of its own.

    All builds use one WAREHOUSE_FILE: dbt parses the whole project again when that changes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.warehouse = folder / "warehouse.duckdb"
        self.target = folder / "target"

    def build(self, sources: Path, name: str, as_of_date: date, run_schema: str = "") -> Build:
        """Build every model for as_of_date on a copy of `sources`; the copy is kept as <name>.duckdb.

        :raises RuntimeError: when dbt fails, with what it printed.
        """
        (statuses,) = self.run(sources, [BUILD], as_of_date, run_schema)
        return Build(self.warehouse.rename(self.folder / f"{name}.duckdb"), statuses)

    def run(self, sources: Path, commands: list[str], as_of_date: date, run_schema: str = "") -> list[dict[str, str]]:
        """Run dbt commands one after the other on a copy of `sources`; return each one's statuses by unique_id.

        :raises RuntimeError: when one fails, with what it printed; the rest is not run.
        """
        shutil.copyfile(sources, self.warehouse)
        statuses = self.folder / "statuses.json"
        paths = ["--profiles-dir", ".", "--target-path", str(self.target), "--log-path", str(self.folder / "logs")]
        settings = {"WAREHOUSE": "duckdb", "WAREHOUSE_FILE": str(self.warehouse), "RUN_SCHEMA": run_schema}
        finished = run_function(
            _run_dbt,
            [[*each.split(), *paths] for each in commands],
            statuses,
            folder=DBT_PROJECT,
            environment={**settings, "AS_OF_DATE": as_of_date.isoformat()},
        )
        if finished.returncode != 0:
            raise RuntimeError(f"dbt failed:\n{finished.stdout}{finished.stderr}")
        return json.loads(statuses.read_text())


def _run_dbt(commands: list[list[str]], statuses: Path) -> None:
    """Run dbt commands one after the other, and write each one's statuses by unique_id."""
    of_each = []
    for command in commands:
        outcome = dbtRunner().invoke(command)
        if not outcome.success:
            sys.exit(f"dbt {' '.join(command)}: {outcome.exception or 'failed'}")
        of_each.append({each.node.unique_id: str(each.status) for each in outcome.result})
    statuses.write_text(json.dumps(of_each))


def insert_rows(file: Path, table: str, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows, all with the same columns, into a table of schema raw."""
    columns = list(rows[0])
    with duckdb.connect(str(file)) as connection:
        connection.executemany(
            f"insert into raw.{table} ({', '.join(columns)}) values ({', '.join('?' * len(columns))})",
            [list(row.values()) for row in rows],
        )
