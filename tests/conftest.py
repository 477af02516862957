"""For every test: an Airflow home of its own, none of the caller's settings, and a manifest to draw the Dag from."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile

import pytest

from include.customer_360.settings import PROJECT_ROOT, Settings

# Airflow reads these once, when it is first imported: before any test module is.
AIRFLOW_HOME = tempfile.mkdtemp(prefix="airflow-of-tests-")
atexit.register(shutil.rmtree, AIRFLOW_HOME, ignore_errors=True)
os.environ |= {
    "AIRFLOW_HOME": AIRFLOW_HOME,
    "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT_ROOT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT_ROOT / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "DO_NOT_TRACK": "1",
}
for name in (*Settings.model_fields, "run_schema"):
    os.environ.pop(name.upper(), None)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Write include/dbt/target/manifest.json when there is none or the dbt project is newer, as `make test` does."""
    # -o: the environment that runs the tests is not set up again under them.
    target = "include/dbt/target/manifest.json"
    made = subprocess.run(
        ["make", "--silent", "-o", ".venv/.made-from-lock", f"PY={sys.executable}", target],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.exit(f"The dbt manifest could not be written:\n{made.stdout}{made.stderr}", returncode=1)
