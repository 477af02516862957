"""What the process imports that tests/forked_dbt.py forks: dbt, and here it reads the project.

dbt imports every module whose name begins with dbt_ as a plugin of its own, so neither file has such a name.
"""

from __future__ import annotations

import gc
import os
import tempfile

import dbt.adapters.duckdb
import dbt.adapters.snowflake  # noqa: F401
from dbt.cli.main import dbtRunner

from include.customer_360.settings import DBT_PROJECT
from tests.forked_dbt import WITHOUT_THREADS

with tempfile.TemporaryDirectory() as folder:
    os.environ |= {
        "WAREHOUSE": "duckdb",
        "WAREHOUSE_FILE": f"{folder}/none.duckdb",
        "RUN_SCHEMA": "",
        **WITHOUT_THREADS,
    }
    project = [f"--project-dir={DBT_PROJECT}", f"--profiles-dir={DBT_PROJECT}"]
    dbtRunner().invoke(["parse", "--quiet", *project, f"--target-path={folder}", f"--log-path={folder}"])
# The forks share the memory of what is there: no collection of theirs has to look through it.
gc.freeze()
