"""Writes include/dbt/target/manifest.json, from which Cosmos draws the Dag.

dbt's own parse cache, beside it, is good for the runs on the warehouse of the settings: dbt discards it where profile,
target or an environment variable of profiles.yml is another, so all of them are given here as the Dag gives them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from include.customer_360.settings import DBT_PROJECT, SettingsError, load_settings


def main() -> int:
    try:
        settings = load_settings()
    except SettingsError as problem:
        print(problem, file=sys.stderr)
        return 1
    command = [str(Path(sys.executable).with_name("dbt")), "--quiet", "parse"]
    command += ["--profiles-dir", str(DBT_PROJECT), "--profile", "customer_analytics", "--target", settings.warehouse]
    environment = {
        "WAREHOUSE_FILE": str(settings.warehouse_file),
        "WAREHOUSE_MEMORY": settings.warehouse_memory,
        "WAREHOUSE_CONNECT_ATTEMPTS": str(settings.dbt_connect_attempts),
        "AS_OF_DATE": "",
        "RUN_SCHEMA": "",
    }
    return subprocess.run(command, cwd=DBT_PROJECT, env=os.environ | environment).returncode


if __name__ == "__main__":
    sys.exit(main())
