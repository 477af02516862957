"""A small warehouse that dbt builds once: the sample, 400 customers and 14 months, and the customers made by hand."""

from __future__ import annotations

import pytest
from edge_customers import AS_OF_DATE, SAMPLE_CUSTOMERS, customer_rows, transaction_rows
from independent_marts import Delivery, Rows, compute_marts
from mart_rows import read_table
from warehouse_builds import Build, DbtBuilds, insert_rows

from local.sample import write_sample


@pytest.fixture(scope="session")
def dbt_builds(tmp_path_factory: pytest.TempPathFactory) -> DbtBuilds:
    return DbtBuilds(tmp_path_factory.mktemp("dbt"))


@pytest.fixture(scope="session")
def built(dbt_builds: DbtBuilds) -> Build:
    """The sources and every model as of AS_OF_DATE. Read only: a test that changes it works on a copy."""
    sources = dbt_builds.folder / "sources.duckdb"
    write_sample(sources, customers=SAMPLE_CUSTOMERS, months=14, seed=42, as_of_date=AS_OF_DATE)
    insert_rows(sources, "customers", customer_rows())
    insert_rows(sources, "transactions", transaction_rows())
    return dbt_builds.build(sources, "built", AS_OF_DATE)


@pytest.fixture(scope="session")
def delivery(built: Build) -> Delivery:
    """raw.customers as the build saw it."""
    return Delivery(AS_OF_DATE, read_table(built.file, "raw.customers"))


@pytest.fixture(scope="session")
def expected(built: Build, delivery: Delivery) -> dict[str, Rows]:
    """Every mart's rows by key, computed in pandas from the raw rows of the build."""
    return compute_marts([delivery], read_table(built.file, "raw.transactions"), AS_OF_DATE)
