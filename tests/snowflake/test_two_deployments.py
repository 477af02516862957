"""Two deployments in one account: each has its own set-up, and a build in one touches nothing of the other."""

from __future__ import annotations

import json
import re
from contextlib import closing

import pytest

from deploy.snowflake.set_up import read_statements, run_statements
from tests.snowflake.account import SOURCES, EmulatedAccount, SnowflakeAccount
from tests.snowflake.conftest import CUSTOMERS, RUN_SCHEMA, run_dbt

PRODUCTION = "card"
STAGING = "card_staging"


@pytest.fixture(scope="module")
def both(account: SnowflakeAccount) -> EmulatedAccount:
    """The account with both set up, and the sources in each."""
    if not isinstance(account, EmulatedAccount):
        pytest.skip("the set-up needs an administrator, whom the tests on a real account do not ask for")
    for deployment, edition in ((PRODUCTION, "enterprise"), (STAGING, "standard")):
        with closing(account.connect()) as connection:
            run_statements(connection, read_statements(deployment, edition))
            for table in SOURCES:
                copied = f"insert into {deployment}.raw.{table} select * from {account.database}.raw.{table}"
                connection.cursor().execute(copied)
    return account


def tables(account: SnowflakeAccount, database: str) -> dict[str, int]:
    """Return the tables and views of a database, each with its number of rows."""
    listed = account.query(
        "select lower(table_schema), lower(table_name) from information_schema.tables "
        "where lower(table_schema) <> 'information_schema' order by 1, 2",
        database,
    )
    return {
        f"{schema}.{name}": account.query(f"select count(*) from {schema}.{name}", database)[0][0]
        for schema, name in listed
    }


@pytest.fixture(scope="module")
def manifest(both: EmulatedAccount, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A build of staging, an account of Standard Edition; dbt's manifest."""
    folder = tmp_path_factory.mktemp("staging")
    of_deployment = {"SNOWFLAKE_DATABASE": STAGING, "SNOWFLAKE_ROLE": "", "SNOWFLAKE_WAREHOUSE": ""}
    environment = both.dbt_environment | of_deployment | {"RUN_SCHEMA": RUN_SCHEMA, "SNOWFLAKE_EDITION": "standard"}
    done = run_dbt(environment, folder, "build", "--target=snowflake", "--exclude-resource-type", "unit_test")
    assert done.returncode == 0, done.stdout[-6000:]
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def test_a_build_in_one_touches_nothing_of_the_other(both: EmulatedAccount, manifest: dict) -> None:
    sources = {f"raw.{table}": both.query(f"select count(*) from raw.{table}")[0][0] for table in SOURCES}
    assert tables(both, PRODUCTION) == {
        **sources,
        **dict.fromkeys(("ops.warehouse", "ops.audience_memberships", "ops.suppressions", "ops.export_runs"), 0),
        "ops.screens_log": 0,
    }
    built = tables(both, STAGING)
    assert built[f"{RUN_SCHEMA}.customer_360_profile"] == CUSTOMERS
    assert {name.split(".")[0] for name in built} == {"raw", "staging", "core", "ops", RUN_SCHEMA}


def test_a_build_names_its_own_deployment_only(both: EmulatedAccount, manifest: dict) -> None:
    by_dbt = [sql for sql in both.statements() if '"app": "dbt"' in sql and re.search(rf"\b{STAGING}\.", sql)]
    assert len(by_dbt) > 20
    assert [sql for sql in by_dbt if re.search(rf"\b({PRODUCTION}|{both.database}|{both.by_hand})\.", sql)] == []


def test_on_standard_edition_a_build_asks_for_no_masking_policy(both: EmulatedAccount, manifest: dict) -> None:
    made = [sql for sql in both.statements() if re.match(rf"\s*create .*\b{STAGING}\.", sql)]
    assert any("customers_snapshot" in sql for sql in made)
    assert [sql for sql in made if "masking policy" in sql] == []


def test_a_build_runs_on_the_warehouse_of_its_deployment(manifest: dict) -> None:
    warehouses = {
        node["config"]["snowflake_warehouse"]
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model" and node["fqn"][1] != "staging"
    }
    assert warehouses == {f"{STAGING}_transform"}
