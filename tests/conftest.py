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
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

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


# What starts an Airflow, which is several processes: beside tests that take both cores it would be late.
WITH_AIRFLOW = ("tests/end_to_end/", "tests/snowflake/test_refresh_on_snowflake.py")
# Files that share what is made once: an Airflow; an emulator, whose statements are looked at in the files' order.
SHARED_AIRFLOW = ("test_refresh.py", "test_side_by_side.py", "test_watchers.py")
WITHOUT_THE_EMULATOR = (
    "test_setup.py",
    "test_random_loads.py",
    "test_refresh_on_snowflake.py",
    "test_bad_values.py",
)
LONGEST = (
    "airflow",
    "tests/snowflake/test_refresh_on_snowflake.py",
    "emulator",
    "tests/integration/test_load_property.py",
    "tests/snowflake/test_random_loads.py",
    "tests/integration/test_small_disk.py",
    "tests/integration/test_file_size.py",
    "tests/integration/test_load_history.py",
    "tests/unit/test_validations.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what starts an Airflow; of the processes of `make test`, each begins with the longest."""
    for item in items:
        if item.nodeid.startswith(WITH_AIRFLOW):
            item.add_marker("airflow")
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: place_in(LONGEST, group_of(item.nodeid)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Keep in one process of `make test` what shares: its own groups do not come through with pytest 9.2."""
    return GroupScheduling(config, log)


class GroupScheduling(LoadScopeScheduling):
    """Gives a process the tests of a group; one that has done with its group takes the next."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def group_of(nodeid: str) -> str:
    """Return the group that a test belongs to: its file, or the files that share with it."""
    file = nodeid.partition("::")[0]
    if file.startswith("tests/end_to_end/") and file.endswith(SHARED_AIRFLOW):
        return "airflow"
    if file.startswith("tests/snowflake/") and not file.endswith(WITHOUT_THE_EMULATOR):
        return "emulator"
    return file


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
