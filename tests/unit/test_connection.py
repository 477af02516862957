"""One switch, WAREHOUSE, and one connection: what is wrong with them is said at once, and before anything is built."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys

import pytest
from airflow.providers.snowflake.hooks.snowflake import SnowflakeHook
from airflow.sdk.exceptions import AirflowFailException
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from dbt.adapters.snowflake.auth import private_key_from_string

from include.customer_360.connection import (
    WarehouseConnectionError,
    dbt_environment,
    query_tag,
    session_parameters,
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


KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PASSPHRASE = "of the key"


def pem(passphrase: str) -> str:
    encryption = (
        serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    )
    return KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode()


def in_base64(text: str, width: int = 10_000) -> str:
    encoded = base64.b64encode(text.encode()).decode()
    return "\n".join(encoded[start : start + width] for start in range(0, len(encoded), width))


@pytest.mark.parametrize(
    ("content", "passphrase"),
    [
        pytest.param(pem(""), "", id="pem"),
        pytest.param(pem(PASSPHRASE), PASSPHRASE, id="encrypted"),
        pytest.param(f"\n  {pem(PASSPHRASE)}  \n", f" {PASSPHRASE}\n", id="white-space-around"),
        pytest.param(in_base64(pem("")), "", id="base64"),
        pytest.param(in_base64(pem(PASSPHRASE)), PASSPHRASE, id="base64-encrypted"),
        pytest.param(f"  {in_base64(pem(PASSPHRASE), 64)}\n", PASSPHRASE, id="base64-in-lines"),
    ],
)
def test_every_form_of_a_key_serves_the_hook_and_dbt(content: str, passphrase: str, connect) -> None:  # noqa: ANN001
    extra = {**EXTRA, "private_key_file": None, "private_key_content": content}
    connect("snowflake", conn_type="snowflake", login="customer_360_airflow", password=passphrase, extra=extra)
    given = dbt_environment(warehouse_connection())
    of_dbt = private_key_from_string(given["SNOWFLAKE_PRIVATE_KEY"], given["SNOWFLAKE_PRIVATE_KEY_PASSPHRASE"])
    of_hook = SnowflakeHook("warehouse").get_private_key()
    assert of_dbt.private_numbers() == KEY.private_numbers()
    assert of_hook is not None
    assert of_hook.private_numbers() == KEY.private_numbers()


@pytest.mark.parametrize(
    ("content", "passphrase", "said"),
    [
        pytest.param("s3cret", "", "is no private key: give the text of the .p8 file", id="text"),
        pytest.param(in_base64("s3cret"), "", "is no private key", id="base64-of-text"),
        pytest.param("/keys/s3cret.p8", "", "is no private key", id="path"),
        pytest.param("".join(pem("").splitlines()[1:-1]), "", "is no private key", id="base64-of-der"),
        pytest.param(pem("").replace("\n", "\\n"), "", "cannot be read", id="line-breaks-escaped"),
        pytest.param(pem(PASSPHRASE), "another", "has to be the key's passphrase", id="another-passphrase"),
        pytest.param(pem(PASSPHRASE), "", "has to be the key's passphrase", id="no-passphrase"),
        pytest.param(pem(""), "one too many", "and empty where the key has none", id="passphrase-too-many"),
    ],
)
def test_what_is_no_key_is_refused_before_anything_is_built_and_not_shown(
    content: str,
    passphrase: str,
    said: str,
    connect,  # noqa: ANN001
) -> None:
    extra = {**EXTRA, "private_key_file": None, "private_key_content": content}
    connect("snowflake", conn_type="snowflake", login="customer_360_airflow", password=passphrase, extra=extra)
    with pytest.raises(WarehouseConnectionError, match=said) as refused:
        warehouse_connection()
    assert "s3cret" not in str(refused.value)
    assert content[30:60] not in str(refused.value) or len(content) < 30


def test_a_session_of_the_hook_has_what_the_project_relies_on_whatever_the_connection_says(connect) -> None:  # noqa: ANN001
    extra = EXTRA | {"session_parameters": {"DATE_OUTPUT_FORMAT": "DD.MM.YYYY", "ABORT_DETACHED_QUERY": True}}
    connect("snowflake", conn_type="snowflake", login="customer_360_airflow", extra=extra)
    assert session_parameters(warehouse_connection(), "a tag") == {
        "ABORT_DETACHED_QUERY": True,
        "TIMEZONE": "UTC",
        "TIMESTAMP_TYPE_MAPPING": "TIMESTAMP_NTZ",
        "DATE_INPUT_FORMAT": "YYYY-MM-DD",
        "DATE_OUTPUT_FORMAT": "YYYY-MM-DD",
        "TIMESTAMP_INPUT_FORMAT": "AUTO",
        "TIMESTAMP_NTZ_OUTPUT_FORMAT": "YYYY-MM-DD HH24:MI:SS.FF6",
        "WEEK_START": 1,
        "WEEK_OF_YEAR_POLICY": 0,
        "AUTOCOMMIT": True,
        "QUOTED_IDENTIFIERS_IGNORE_CASE": False,
        "QUERY_TAG": "a tag",
    }
