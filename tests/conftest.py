"""For every test: an Airflow home of its own, none of the caller's settings, and a manifest to draw the Dag from."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence

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


# What takes the cores for itself: beside other tests it would be late.
WITH_AIRFLOW = ("tests/end_to_end/", "tests/snowflake/test_refresh_on_snowflake.py")
# One emulator, whose statements are looked at in the order of the files; these have none, or one of their own.
WITHOUT_THE_EMULATOR = ("test_setup.py", "test_random_loads.py")
LONGEST = (
    "emulator",
    "tests/integration/test_load_property.py",
    "tests/snowflake/test_random_loads.py",
    "tests/integration/test_small_disk.py",
    "tests/integration/test_file_size.py",
    "tests/integration/test_load_history.py",
    "tests/unit/test_validations.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what runs alone, and what `make test` keeps in one of its processes: a file, or the files of an emulator."""
    for item in items:
        file = item.nodeid.partition("::")[0]
        if file.startswith(WITH_AIRFLOW):
            item.add_marker("airflow")
        shared = file.startswith("tests/snowflake/") and not file.endswith(WITHOUT_THE_EMULATOR)
        item.add_marker(pytest.mark.xdist_group("emulator" if shared else file))
    if hasattr(config, "workerinput"):
        # The longest first: a process that has done with its group takes the next.
        items.sort(key=lambda item: place_in(LONGEST, item.get_closest_marker("xdist_group").args[0]))


def place_in(order: Sequence[str], group: str) -> int:
    """Return the place of a group; those that are not named come last."""
    return order.index(group) if group in order else len(order)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Write include/dbt/target/manifest.json when there is none or the dbt project is newer, as `make test` does."""
    if hasattr(session.config, "workerinput"):
        return  # The process that started this one has.
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
