"""When Airflow's metadata database crashes in the middle of a run, the date is published all the same."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.customer_360.settings import Settings
from local.sample import write_sample
from tests.deployment import DAG_ID, PRODUCER, Deployment, deployed
from tests.end_to_end.conftest import LAST_DAY
from tests.postgres_server import PostgresServer, postgres_server, programs


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server; without one the test is skipped, but never in CI."""
    found = programs()
    if found is None:
        missing = "there is no PostgreSQL: on Debian, apt-get install postgresql"
        assert "CI" not in os.environ, missing
        pytest.skip(missing)
    with postgres_server(found) as server:
        yield server


@pytest.fixture
def on_postgres(postgres: PostgresServer, tmp_path: Path) -> Iterator[Deployment]:
    """A deployment of its own, whose metadata database is the server's."""
    settings = Settings(
        warehouse_file=tmp_path / "warehouse.duckdb", export_root=str(tmp_path / "exports"), _env_file=None
    )
    write_sample(settings.warehouse_file, customers=100, months=9, seed=42, as_of_date=LAST_DAY)
    with deployed(settings, {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": postgres.uri}, as_a_service=True) as deployment:
        yield deployment


def test_a_run_outlives_a_crash_of_the_metadata_database(postgres: PostgresServer, on_postgres: Deployment) -> None:
    deployment = on_postgres
    run_id = deployment.start(as_of_date=LAST_DAY.isoformat())
    deadline = time.monotonic() + 120
    while deployment.tasks(run_id)[PRODUCER] != "running":
        assert time.monotonic() < deadline, deployment.tasks(run_id)
        time.sleep(0.1)

    postgres.crash_and_restart()

    deployment.wait_until_back()
    state = deployment.state(run_id)
    while state == "failed" and (again := deployment.attempts(run_id)):
        run_id = again[-1]
        state = deployment.state(run_id)
    assert state == "success", deployment.failures(run_id)
    assert deployment.wait_for_export_of(run_id)["state"] == "success"
    published = deployment.query("select distinct cast(as_of_date as varchar) from marts.customer_360_profile")
    assert published == [(LAST_DAY.isoformat(),)]
    assert deployment.tasks(run_id, DAG_ID)["publish"] == "success"
