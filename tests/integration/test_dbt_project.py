"""What the dbt project promises as a whole."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest

from include.customer_360.catalog import load_catalog
from include.customer_360.settings import DBT_PROJECT
from local.sources import CUSTOMERS, TRANSACTIONS
from tests.forked_dbt import run_dbt


@pytest.fixture(scope="module")
def manifest() -> dict:
    return json.loads((DBT_PROJECT / "target" / "manifest.json").read_text())


def test_every_unit_test_passes(tmp_path: Path) -> None:
    """Unit tests look up the columns of what they replace: the relations must be there, without a row."""
    warehouse = tmp_path / "warehouse.duckdb"
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("create schema raw")
        for table in (CUSTOMERS, TRANSACTIONS):
            connection.execute(f"create table raw.{table.name} ({table.column_definitions})")

    def dbt(*arguments: str) -> str:
        done = run_dbt(
            *(*arguments, "--target-path", str(tmp_path / "target"), "--log-path", str(tmp_path / "logs")),
            environment={"WAREHOUSE_FILE": str(warehouse), "AS_OF_DATE": "2026-03-31", "RUN_SCHEMA": ""},
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    dbt("build", "--empty", "--resource-type", "model", "--resource-type", "seed", "--resource-type", "snapshot")
    printed = dbt("test", "--select", "test_type:unit")
    assert "ERROR=0" in printed
    assert "PASS=0" not in printed


def test_every_model_that_depends_on_the_date_builds_in_the_run_schema(manifest: dict) -> None:
    dated = {
        node["name"]: node
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model" and node["fqn"][1] in ("intermediate", "marts")
    }
    assert set(dated) == {*(model.name for model in load_catalog().published), "customer_360_history"}
    for name, node in dated.items():
        assert "schema=run_schema(" in node["raw_code"], name


def test_every_model_and_column_is_described_and_every_mart_has_a_contract(manifest: dict) -> None:
    models = [node for node in manifest["nodes"].values() if node["resource_type"] in ("model", "seed", "snapshot")]
    assert models
    for model in models:
        assert model["description"], model["name"]
        assert model["columns"], model["name"]
        for column in model["columns"].values():
            assert column["description"], f"{model['name']}.{column['name']}"
        if "marts" in model["fqn"]:
            assert model["config"]["contract"]["enforced"], model["name"]


def test_every_export_is_an_exposure_of_published_marts(manifest: dict) -> None:
    """What a dashboard reads, tests/screens/test_exposures.py asks."""
    exposures = {exposure["name"]: exposure for exposure in manifest["exposures"].values()}
    assert exposures.keys() >= {"executive_dashboard", "customer_service_view", "retention_campaign"}
    published = {model.name for model in load_catalog().published}
    for exposure in exposures.values():
        if exposure["type"] == "dashboard":
            continue
        assert {node.rsplit(".", 1)[-1] for node in exposure["depends_on"]["nodes"]} <= published
