"""For every test: an Airflow home of its own, none of the caller's settings, and a manifest to draw the Dag from."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from include.customer_360.settings import PROJECT_ROOT, Settings
from tests.groups import group_of

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
LONGEST = (
    "airflow",
    "tests/snowflake/test_refresh_on_snowflake.py",
    "tests/end_to_end/test_schedule.py",
    "tests/end_to_end/test_chaos.py",
    "commands",
    "emulator",
    "tests/integration/test_scaffolded_project.py",
    "tests/integration/test_load_property.py",
    "tests/snowflake/test_random_loads.py",
    "tests/integration/test_small_disk.py",
    "tests/integration/test_file_size.py",
    "tests/integration/test_benchmark_parts.py",
    "tests/integration/test_bad_data.py",
    "tests/integration/test_load_history.py",
    "tests/unit/test_validations.py",
)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import the files of which `-m airflow`, or `-m "not airflow"`, takes no test."""
    asked = {"airflow": True, "not airflow": False}.get(config.option.markexpr)
    if asked is None or not collection_path.is_file():
        return None
    starts_one = collection_path.relative_to(PROJECT_ROOT).as_posix().startswith(WITH_AIRFLOW)
    return True if starts_one is not asked else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts an Airflow; begin with the longest, a group at a time."""
    for item in items:
        if item.nodeid.startswith(WITH_AIRFLOW):
            item.add_marker("airflow")
    items.sort(key=lambda item: place_in(LONGEST, group_of(item.nodeid)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Keep in one process of `make test` what shares: its own groups do not come through with pytest 9.2."""
    return GroupScheduling(config, log)


class GroupScheduling(LoadScopeScheduling):
    """Gives a process the tests of a group; one that has done with its group takes the next."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


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
