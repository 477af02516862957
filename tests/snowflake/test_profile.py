"""dbt's profile on Snowflake, as dbt renders it: what the connection says and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import dbt.adapters.base.connections
import pytest
import snowflake.connector
import yaml
from dbt.adapters.contracts.connection import Connection
from dbt.adapters.exceptions import FailedToConnectError
from dbt.adapters.snowflake.connections import SnowflakeConnectionManager, SnowflakeCredentials
from dbt.config.renderer import ProfileRenderer
from dbt_common.context import set_invocation_context
from snowflake.connector.errors import InterfaceError, OperationalError

from include.customer_360.connection import dbt_environment, warehouse_connection
from include.customer_360.settings import DBT_PROJECT
from tests.forked_dbt import run_dbt
from tests.snowflake.account import SnowflakeAccount

OF_SOMEBODY_ELSE = {
    "SNOWFLAKE_PRIVATE_KEY_PATH": "/nowhere/key.p8",
    "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE": "of another key",
    "SNOWFLAKE_PASSWORD": "of another user",
    "SNOWFLAKE_AUTHENTICATOR": "externalbrowser",
    "SNOWFLAKE_ROLE": "another_role",
    "SNOWFLAKE_DATABASE": "another_database",
    "SNOWFLAKE_WAREHOUSE": "another_warehouse",
}


def debug(environment: dict[str, str], folder: Path) -> str:
    done = run_dbt("debug", "--target=snowflake", f"--log-path={folder}", environment=environment)
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def test_what_a_worker_has_in_its_environment_does_not_mix_with_the_connection(
    account: SnowflakeAccount, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    connection = account.connection
    extra = dict(connection["extra"])
    extra["private_key_content"] = Path(extra.pop("private_key_file")).read_text(encoding="utf-8")
    monkeypatch.setenv("WAREHOUSE", "snowflake")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({**connection, "extra": extra}))
    worker = {**account.dbt_environment, **OF_SOMEBODY_ELSE}
    printed = debug({**worker, **dbt_environment(warehouse_connection())}, tmp_path)
    assert "OK connection ok" in printed
    for told in (f"role: {extra['role']}", f"database: {account.database}", f"warehouse: {extra['warehouse']}"):
        assert told in printed


def test_variables_that_are_empty_are_as_good_as_absent(account: SnowflakeAccount, tmp_path: Path) -> None:
    empty = dict.fromkeys(("SNOWFLAKE_ROLE", "SNOWFLAKE_DATABASE", "SNOWFLAKE_WAREHOUSE", "SNOWFLAKE_THREADS"), "")
    environment = {name: value for name, value in account.dbt_environment.items() if name not in empty}
    done = run_dbt(
        *("parse", "--target=snowflake", f"--target-path={tmp_path}", f"--log-path={tmp_path}"),
        environment={**environment, **empty, "SNOWFLAKE_PORT": "", "RUN_SCHEMA": ""},
    )
    assert done.returncode == 0, done.stdout[-3000:]
    nodes = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))["nodes"]
    assert nodes["model.customer_analytics.dim_customer"]["database"] == "customer_360"


class Unreachable:
    """A Snowflake that refuses the first logins with one error after the other; after them it opens."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.logins = 0

    def connect(self, **_: object) -> str:
        self.logins += 1
        if self.errors:
            raise self.errors.pop(0)
        return "a session"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long dbt waits between two logins, in seconds; here it does not."""
    waited: list[float] = []
    monkeypatch.setattr(dbt.adapters.base.connections, "sleep", waited.append)
    return waited


def opened(unreachable: Unreachable, target: str, monkeypatch: pytest.MonkeyPatch) -> Connection:
    monkeypatch.setenv("SNOWFLAKE_ACCOUNT", "org-account")
    monkeypatch.setenv("SNOWFLAKE_USER", "customer_360_airflow")
    monkeypatch.setattr(snowflake.connector, "connect", unreachable.connect)
    set_invocation_context(os.environ)
    raw = yaml.safe_load((DBT_PROJECT / "profiles.yml").read_text(encoding="utf-8"))["customer_analytics"]
    rendered = ProfileRenderer({}).render_data(raw["outputs"][target])
    of_connection = {name: value for name, value in rendered.items() if name not in ("type", "threads")}
    return SnowflakeConnectionManager.open(
        Connection("snowflake", "a_model", SnowflakeCredentials.from_dict(of_connection))
    )


def test_a_login_that_the_network_fails_is_tried_five_times(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    account = Unreachable(*[OperationalError("250001: Could not connect to Snowflake backend")] * 4)
    assert opened(account, "snowflake", monkeypatch).handle == "a session"
    assert (account.logins, pauses) == (5, [15, 15, 15, 15])


def test_a_login_that_cannot_work_is_tried_once(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    account = Unreachable(InterfaceError("250003: this option does not exist"))
    with pytest.raises(FailedToConnectError, match="this option does not exist"):
        opened(account, "snowflake", monkeypatch)
    assert (account.logins, pauses) == (1, [])
