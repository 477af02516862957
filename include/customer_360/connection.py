"""The Airflow connection `warehouse`: what it must hold, and the same as the variables that dbt's profile reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException

from include.customer_360.settings import POOL_SLOTS, load_settings

if TYPE_CHECKING:
    from airflow.sdk import Connection

CONN_ID = "warehouse"
SNOWFLAKE_EXTRAS = ("account", "database", "warehouse", "role")
PRIVATE_KEYS = ("private_key_content", "private_key_file")


class WarehouseConnectionError(AirflowFailException):
    """The connection cannot be used; the message names all that is wrong with it and what to do. No retry helps."""


def writer_slots() -> int:
    """Return the slots of pool `warehouse` that a task takes which writes: on DuckDB all, it has the file alone."""
    return POOL_SLOTS if load_settings().warehouse == "duckdb" else 1


def warehouse_connection(conn_id: str = CONN_ID) -> Connection:
    """Return the connection, complete and of the type that WAREHOUSE asks for.

    :raises WarehouseConnectionError: when it is missing, of another type, or lacks something.
    """
    warehouse = load_settings().warehouse
    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise WarehouseConnectionError(
            f"There is no Airflow connection {conn_id!r}, which WAREHOUSE={warehouse} needs: create it, of type "
            f"{warehouse}, as in airflow_settings.example.yaml."
        ) from None
    if connection.conn_type != warehouse:
        raise WarehouseConnectionError(
            f"WAREHOUSE is {warehouse}, but the Airflow connection {conn_id!r} is of type {connection.conn_type}: "
            "change one of them."
        )
    if missing := missing_from(connection):
        raise WarehouseConnectionError(
            f"The Airflow connection {conn_id!r} lacks {', '.join(missing)}: "
            "add it, as in airflow_settings.example.yaml."
        )
    return connection


def missing_from(connection: Connection) -> list[str]:
    """Return what a connection of its type lacks, by the names the form in the UI has."""
    if connection.conn_type == "duckdb":
        return [] if connection.host else ["host (the DuckDB file)"]
    extra = connection.extra_dejson
    missing = [] if connection.login else ["login"]
    missing += [name for name in SNOWFLAKE_EXTRAS if not extra.get(name)]
    # An emulator takes a password; Snowflake refuses one for a service user.
    if not connection.password and not any(extra.get(name) for name in PRIVATE_KEYS):
        missing.append(" or ".join(PRIVATE_KEYS))
    return missing


def dbt_environment(connection: Connection) -> dict[str, str]:
    """Return the variables that include/dbt/profiles.yml reads, with secrets, from a Snowflake connection.

    What the connection does not hold is there too, empty: a worker's own SNOWFLAKE_PRIVATE_KEY_PATH would otherwise
    stand beside the connection's key. Only SNOWFLAKE_THREADS, which is no part of a connection, stays the deployment's.
    """
    extra = connection.extra_dejson
    has_key = any(extra.get(name) for name in PRIVATE_KEYS)
    values = {
        "SNOWFLAKE_ACCOUNT": extra["account"],
        "SNOWFLAKE_USER": connection.login,
        "SNOWFLAKE_DATABASE": extra["database"],
        "SNOWFLAKE_WAREHOUSE": extra["warehouse"],
        "SNOWFLAKE_ROLE": extra["role"],
        "SNOWFLAKE_PRIVATE_KEY": extra.get("private_key_content"),
        "SNOWFLAKE_PRIVATE_KEY_PATH": extra.get("private_key_file"),
        # As SnowflakeHook has it: with a key, the password is the key's passphrase.
        "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE": connection.password if has_key else None,
        "SNOWFLAKE_PASSWORD": None if has_key else connection.password,
        "SNOWFLAKE_AUTHENTICATOR": None,
        "SNOWFLAKE_HOST": extra.get("host"),
        "SNOWFLAKE_PORT": extra.get("port"),
    }
    return {name: str(value or "") for name, value in values.items()}


def export_session(connection: Connection) -> dict[str, str]:
    """Return the role and the warehouse that exports read a Snowflake connection with, as SnowflakeHook takes them.

    EXPORT_ROLE and EXPORT_WAREHOUSE say which; without them those that the set-up made for the connection's database.
    """
    settings = load_settings()
    database = connection.extra_dejson["database"]
    return {
        "role": settings.export_role or f"{database}_exporter",
        "warehouse": settings.export_warehouse or f"{database}_read",
    }


def query_tag(dag_id: str, run_id: str, task_id: str, as_of_date: str) -> str:
    """Return the tag that every statement on Snowflake carries: JSON with dag, run, task and as_of_date."""
    return json.dumps({"dag": dag_id, "run": run_id, "task": task_id, "as_of_date": as_of_date})
