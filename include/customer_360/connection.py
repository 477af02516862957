"""The Airflow connections to the warehouse: what they must hold, and the same as the variables of dbt's profile."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from include.customer_360.dbt_vars import snowflake_session
from include.customer_360.duckdb_file import DuckDBFileError, DuckDBFileInUse, open_when_free
from include.customer_360.settings import POOL_SLOTS, load_settings

if TYPE_CHECKING:
    from airflow.sdk import Connection

CONN_ID = "warehouse"
EXPORT_CONN_ID = "warehouse_export"
SNOWFLAKE_EXTRAS = ("account", "database", "warehouse", "role")
PRIVATE_KEYS = ("private_key_content", "private_key_file")


class WarehouseConnectionError(AirflowFailException):
    """The connection cannot be used; the message names all that is wrong with it and what to do. No retry helps."""


class WarehouseFileUnusable(AirflowFailException):
    """The DuckDB file is missing, damaged or no file of this DuckDB; the message says what to do. No retry helps."""


def writer_slots() -> int:
    """Return the slots of pool `warehouse` that a task takes which writes: on DuckDB all, it has the file alone."""
    return POOL_SLOTS if load_settings().warehouse == "duckdb" else 1


def warehouse_connection(conn_id: str = CONN_ID) -> Connection:
    """Return the connection, complete and of the type that WAREHOUSE asks for.

    :raises WarehouseConnectionError: when it is missing, of another type, lacks something, or its key cannot be read.
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
    private_key(connection)
    return connection


def waiting_for_the_file(hook: Any, say: Callable[[str], None]) -> Any:  # noqa: ANN401 - a DuckDBHook, a connection
    """Return a connection of a DuckDBHook, as soon as no other program keeps it from opening the file.

    :param say: is told who has the file open, at once and then now and then.
    :raises WarehouseFileUnusable: when the file is missing (none is made), damaged, or no file of this DuckDB.
    :raises DuckDBFileInUse: when it still is in use after WAREHOUSE_LOCK_WAIT.
    """
    try:
        return open_when_free(hook.get_conn, Path(hook.get_database()), load_settings().warehouse_lock_wait, say)
    except DuckDBFileInUse:
        raise
    except DuckDBFileError as unusable:
        raise WarehouseFileUnusable(str(unusable)) from unusable


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


def private_key(connection: Connection) -> str:
    """Return the text of a connection's private_key_content as PEM, encrypted as it was; empty without one.

    It may be PEM or the base64 of PEM, with white space around it and within. The hook reads both, dbt only the first.

    :raises WarehouseConnectionError: when it is neither, or its passphrase is not the connection's password.
    """
    text = str(connection.extra_dejson.get("private_key_content") or "").strip()
    if not text:
        return ""
    pem = text
    if not text.startswith("-----BEGIN"):
        try:
            pem = base64.b64decode("".join(text.split()), validate=True).decode("ascii").strip()
        except ValueError:
            pem = ""
    if not pem.startswith("-----BEGIN"):
        raise WarehouseConnectionError(
            f"private_key_content of the Airflow connection {connection.conn_id!r} is no private key: give the text of "
            "the .p8 file, from -----BEGIN to -----END with its line breaks, or the base64 of all of it."
        )
    passphrase = connection.password.strip().encode() if connection.password else None
    try:
        load_pem_private_key(pem.encode(), password=passphrase)
    # As cryptography has it: TypeError for a passphrase too many or too few.
    except (ValueError, TypeError, UnsupportedAlgorithm) as refused:
        raise WarehouseConnectionError(
            f"private_key_content of the Airflow connection {connection.conn_id!r} cannot be read: {refused}. The "
            "connection's password has to be the key's passphrase, and empty where the key has none; check both."
        ) from None
    return pem + "\n"


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
        "SNOWFLAKE_PRIVATE_KEY": private_key(connection),
        "SNOWFLAKE_PRIVATE_KEY_PATH": extra.get("private_key_file"),
        # As SnowflakeHook has it: with a key, the password is the key's passphrase.
        "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE": (connection.password or "").strip() if has_key else None,
        "SNOWFLAKE_PASSWORD": None if has_key else connection.password,
        "SNOWFLAKE_AUTHENTICATOR": None,
        "SNOWFLAKE_HOST": extra.get("host"),
        "SNOWFLAKE_PORT": extra.get("port"),
    }
    return {name: str(value or "") for name, value in values.items()}


def export_conn_id() -> str:
    """Return the connection that exports read with: on Snowflake that of a user who may read personal data."""
    return EXPORT_CONN_ID if load_settings().warehouse == "snowflake" else CONN_ID


def reader_role(connection: Connection) -> str:
    """Return the role that readers of the marts have on Snowflake: READER_ROLE, or the one that the set-up made."""
    return load_settings().reader_role or f"{connection.extra_dejson['database']}_reader"


def exporter_role(connection: Connection) -> str:
    """Return the role that exports read with on Snowflake: that of connection `warehouse_export`.

    Where there is none, that of the set-up for the database of this connection.
    """
    try:
        of_exports = BaseHook.get_connection(EXPORT_CONN_ID).extra_dejson.get("role")
    except AirflowNotFoundException:
        of_exports = None
    return of_exports or f"{connection.extra_dejson['database']}_exporter"


def session_parameters(connection: Connection, tag: str) -> dict[str, str | int | bool]:
    """Return what a session on Snowflake is opened with: the connection's own, what all rely on, the tag."""
    return {**(connection.extra_dejson.get("session_parameters") or {}), **snowflake_session(), "QUERY_TAG": tag}


def query_tag(dag_id: str, run_id: str, task_id: str, as_of_date: str) -> str:
    """Return the tag that every statement on Snowflake carries: JSON with dag, run, task and as_of_date."""
    return json.dumps({"dag": dag_id, "run": run_id, "task": task_id, "as_of_date": as_of_date})
