"""Builds small warehouses with dbt."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from include.customer_360.settings import DBT_PROJECT

BUILD = "build --exclude-resource-type unit_test"

# One process for all commands: it takes seconds to import dbt. Takes the commands and the file for their statuses.
_RUN_DBT = """
import json, pathlib, sys
from dbt.cli.main import dbtRunner

statuses = []
for command in json.loads(sys.argv[1]):
    outcome = dbtRunner().invoke(command)
    if not outcome.success:
        sys.exit(f"dbt {' '.join(command)}: {outcome.exception or 'failed'}")
    statuses.append({each.node.unique_id: str(each.status) for each in outcome.result})
pathlib.Path(sys.argv[2]).write_text(json.dumps(statuses))
"""


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
        finished = subprocess.run(
            [sys.executable, "-c", _RUN_DBT, json.dumps([[*each.split(), *paths] for each in commands]), str(statuses)],
            cwd=DBT_PROJECT,
            env=os.environ | settings | {"AS_OF_DATE": as_of_date.isoformat()},
            capture_output=True,
            text=True,
            check=False,
        )
        if finished.returncode != 0:
            raise RuntimeError(f"dbt failed:\n{finished.stdout}{finished.stderr}")
        return json.loads(statuses.read_text())


def insert_rows(file: Path, table: str, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows, all with the same columns, into a table of schema raw."""
    columns = list(rows[0])
    with duckdb.connect(str(file)) as connection:
        connection.executemany(
            f"insert into raw.{table} ({', '.join(columns)}) values ({', '.join('?' * len(columns))})",
            [list(row.values()) for row in rows],
        )
