"""A real Airflow on a small warehouse, started once for all tests of this folder."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import pytest

from include.customer_360.settings import Settings
from local.sample import write_sample
from tests.deployment import Deployment, deployed

CUSTOMERS = 300
LAST_DAY = datetime.date(2026, 3, 31)


@pytest.fixture(scope="package")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The deployment, whose warehouse has only its sources."""
    folder = tmp_path_factory.mktemp("deployment")
    settings = Settings(warehouse_file=folder / "warehouse.duckdb", export_root=str(folder / "exports"), _env_file=None)
    write_sample(settings.warehouse_file, customers=CUSTOMERS, months=9, seed=42, as_of_date=LAST_DAY)
    with deployed(settings) as deployment:
        yield deployment
