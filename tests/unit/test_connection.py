"""One switch, WAREHOUSE, and one connection: what is wrong with them is said at once, and before anything is built."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from airflow.sdk.exceptions import AirflowFailException

from include.customer_360.connection import (
    WarehouseConnectionError,
    dbt_environment,
    query_tag,
    warehouse_connection,
)
from include.customer_360.operators.validate import ValidateSourcesOperator
from include.customer_360.settings import DBT_PROJECT, PROJECT_ROOT

EXTRA = {
    "account": "org-account",
    "database": "customer_360",
    "warehouse": "customer_360_transform",
    "role": "customer_360_transformer",
    "private_key_file": "/keys/airflow.p8",
}


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch):  # noqa: ANN201 - a function of its own kind
    def set_connection(warehouse: str, **connection: object) -> None:
        monkeypatch.setenv("WAREHOUSE", warehouse)
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(connection))

    return set_connection


def test_a_complete_snowflake_connection_is_taken(connect) -> None:  # noqa: ANN001
    connect("snowflake", conn_type="snowflake", login="customer_360_airflow", extra=EXTRA)
    assert warehouse_connection().conn_type == "snowflake"


def test_a_connection_of_another_type_is_named(connect) -> None:  # noqa: ANN001
    connect("snowflake", conn_type="duckdb", host="/data/warehouse.duckdb")
    with pytest.raises(WarehouseConnectionError, match=r"WAREHOUSE is snowflake, but .* 'warehouse' is of type duckdb"):
        warehouse_connection()


def test_a_missing_connection_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_WAREHOUSE", raising=False)
    with pytest.raises(WarehouseConnectionError, match="no Airflow connection 'nowhere', which WAREHOUSE=duckdb needs"):
        warehouse_connection("nowhere")


def test_all_that_is_missing_is_named_at_once(connect) -> None:  # noqa: ANN001
    connect("snowflake", conn_type="snowflake", extra={"account": "org-account"})
    with pytest.raises(
        WarehouseConnectionError,
        match="lacks login, database, warehouse, role, private_key_content or private_key_file: add it",
    ):
        warehouse_connection()


def test_the_first_task_fails_for_good_on_such_a_connection(connect) -> None:  # noqa: ANN001
    connect("snowflake", conn_type="snowflake", login="customer_360_airflow", extra=EXTRA | {"role": ""})
    operator = ValidateSourcesOperator(task_id="validate_sources", run_schema="marts_run_1", as_of_date="2026-03-31")
    with pytest.raises(AirflowFailException, match="'warehouse' lacks role"):
        operator.execute({})


def test_an_unknown_warehouse_is_refused_when_the_dag_is_read() -> None:
    done = subprocess.run(
        [sys.executable, "dags/customer_360_refresh.py"],
        cwd=PROJECT_ROOT,
        env=os.environ | {"WAREHOUSE": "oracle", "PYTHONPATH": f"{PROJECT_ROOT}:{PROJECT_ROOT / 'plugins'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "WAREHOUSE='oracle': Input should be 'duckdb' or 'snowflake'" in done.stderr


def test_dbt_gets_what_the_connection_holds_and_nothing_else(connect) -> None:  # noqa: ANN001
    connect("snowflake", conn_type="snowflake", login="customer_360_airflow", password="of the key", extra=EXTRA)
    assert dbt_environment(warehouse_connection()) == {
        "SNOWFLAKE_ACCOUNT": "org-account",
        "SNOWFLAKE_USER": "customer_360_airflow",
        "SNOWFLAKE_DATABASE": "customer_360",
        "SNOWFLAKE_WAREHOUSE": "customer_360_transform",
        "SNOWFLAKE_ROLE": "customer_360_transformer",
        "SNOWFLAKE_PRIVATE_KEY": "",
        "SNOWFLAKE_PRIVATE_KEY_PATH": "/keys/airflow.p8",
        "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE": "of the key",
        "SNOWFLAKE_PASSWORD": "",
        "SNOWFLAKE_AUTHENTICATOR": "",
        "SNOWFLAKE_HOST": "",
        "SNOWFLAKE_PORT": "",
    }


def test_a_password_is_a_password_where_there_is_no_key(connect) -> None:  # noqa: ANN001
    extra = {name: value for name, value in EXTRA.items() if name != "private_key_file"}
    connect("snowflake", conn_type="snowflake", login="customer_360_airflow", password="a password", extra=extra)
    given = dbt_environment(warehouse_connection())
    assert (given["SNOWFLAKE_PASSWORD"], given["SNOWFLAKE_PRIVATE_KEY_PASSPHRASE"]) == ("a password", "")


def test_every_variable_of_the_profile_comes_from_the_connection(connect) -> None:  # noqa: ANN001
    connect("snowflake", conn_type="snowflake", login="customer_360_airflow", extra=EXTRA)
    profile = (DBT_PROJECT / "profiles.yml").read_text(encoding="utf-8")
    read = set(re.findall(r"env_var\('(SNOWFLAKE_\w+)'", profile))
    assert read - set(dbt_environment(warehouse_connection())) == {"SNOWFLAKE_THREADS"}


def test_a_tag_is_json_with_dag_run_task_and_date() -> None:
    assert json.loads(query_tag("customer_360_refresh", "manual__1", "publish", "2026-03-31")) == {
        "dag": "customer_360_refresh",
        "run": "manual__1",
        "task": "publish",
        "as_of_date": "2026-03-31",
    }
