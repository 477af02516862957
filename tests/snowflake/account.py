"""The Snowflake that the tests work on: the emulator, or a real account where the variables of one are set."""

from __future__ import annotations

import json
import os
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import snowflake.connector

from tests.snowflake.blocks import changes_of

REAL_ACCOUNT = (
    "SNOWFLAKE_ACCOUNT",
    "SNOWFLAKE_USER",
    "SNOWFLAKE_PRIVATE_KEY_PATH",
    "SNOWFLAKE_ROLE",
    "SNOWFLAKE_WAREHOUSE",
)
SOURCES = ("customers", "transactions")
ROWS_PER_INSERT = 2000


@dataclass(frozen=True)
class SnowflakeAccount(ABC):
    """Where the tests connect to: one database for Airflow, and one for dbt on the command line, each with sources."""

    parameters: Mapping[str, Any]
    """What the connector takes: account, user, role, warehouse, private_key_file, and host and port of an emulator."""

    database: str
    by_hand: str

    @property
    def loaded(self) -> str:
        """The name of a third database, for the test of load_sources."""
        return f"{self.database}_loaded"

    @property
    def private_key_file(self) -> Path:
        """The user's private key, in PEM."""
        return Path(self.parameters["private_key_file"])

    @property
    def connection(self) -> dict[str, object]:
        """What the Airflow connection `warehouse` holds: a key pair, as in production."""
        extra = {name: value for name, value in self.parameters.items() if name != "user"}
        return {
            "conn_type": "snowflake",
            "login": self.parameters["user"],
            "extra": {**extra, "database": self.database},
        }

    @property
    def export_connection(self) -> dict[str, object]:
        """What the Airflow connection `warehouse_export` holds: another user and role, as in production."""
        extra = {"role": f"{self.database}_exporter", "warehouse": f"{self.database}_read"}
        return {
            **self.connection,
            "login": f"{self.database}_export",
            "extra": {**self.connection["extra"], **extra},  # type: ignore[dict-item]
        }

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make this the warehouse of an Airflow."""
        return {
            "WAREHOUSE": "snowflake",
            "AIRFLOW_CONN_WAREHOUSE": json.dumps(self.connection),
            "AIRFLOW_CONN_WAREHOUSE_EXPORT": json.dumps(self.export_connection),
        }

    @property
    def dbt_environment(self) -> dict[str, str]:
        """The variables that make database `by_hand` the warehouse of dbt on the command line."""
        variables = {
            "SNOWFLAKE_ACCOUNT": "account",
            "SNOWFLAKE_USER": "user",
            "SNOWFLAKE_ROLE": "role",
            "SNOWFLAKE_WAREHOUSE": "warehouse",
            "SNOWFLAKE_PRIVATE_KEY_PATH": "private_key_file",
            "SNOWFLAKE_HOST": "host",
            "SNOWFLAKE_PORT": "port",
        }
        values = {name: str(self.parameters[key]) for name, key in variables.items() if key in self.parameters}
        return {**values, "WAREHOUSE": "snowflake", "SNOWFLAKE_DATABASE": self.by_hand}

    def connect(self, database: str | None = None) -> snowflake.connector.SnowflakeConnection:
        """Connect with Snowflake's own connector."""
        return snowflake.connector.connect(**self.parameters, database=database or self.database)

    def query(self, sql: str, database: str | None = None) -> list[tuple]:
        """Run one statement and return its rows."""
        with closing(self.connect(database)) as connection:
            return connection.cursor().execute(sql).fetchall()

    @abstractmethod
    def tagged_statements(self) -> list[tuple[dict[str, str], str]]:
        """Return the statements that were sent so far, in order, each with its query tag; {} when it had none."""

    def statements(self) -> list[str]:
        """Return the statements that were sent so far, in order."""
        return [sql for _, sql in self.tagged_statements()]


@dataclass(frozen=True)
class EmulatedAccount(SnowflakeAccount):
    """An emulator on this machine, which writes down what it is sent."""

    certificates: Path
    """The folder with its certificate and the user's key."""

    statements_file: Path

    @property
    def variables(self) -> dict[str, str]:
        """What its clients need beyond those of a real account: its certificate, and one statement at a time."""
        return {"REQUESTS_CA_BUNDLE": str(self.certificates / "bundle.pem"), "SNOWFLAKE_THREADS": "1"}

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make this the warehouse of an Airflow."""
        return {**super().environment, **self.variables}

    @property
    def dbt_environment(self) -> dict[str, str]:
        """The variables that make database `by_hand` the warehouse of dbt on the command line."""
        return {**super().dbt_environment, **self.variables}

    def connect(self, database: str | None = None) -> snowflake.connector.SnowflakeConnection:
        """Connect with Snowflake's own connector."""
        os.environ["REQUESTS_CA_BUNDLE"] = self.variables["REQUESTS_CA_BUNDLE"]
        return super().connect(database)

    def plant(self, *faults: dict[str, object]) -> None:
        """Have it answer the next statements like these as emulator.planted_answer says."""
        self.statements_file.with_name("faults.json").write_text(json.dumps(faults))

    def planted(self) -> list[dict[str, object]]:
        """Return what was planted and not met yet."""
        left: list[dict[str, object]] = json.loads(self.statements_file.with_name("faults.json").read_text())
        return left

    def tagged_statements(self) -> list[tuple[dict[str, str], str]]:
        """Return every statement it was sent so far, in order, each with its query tag; {} when it had none.

        Of a block those that it consists of, as an account's history has them, each with dbt's comment on the block.
        """
        return [
            (tag, f"{change}\n{comment}")
            for tag, sql in self.sent()
            for comment in ["".join(re.findall(r"\s/\* \{.*?\} \*/", sql, re.DOTALL)) if changes_of(sql) else ""]
            for change in changes_of(sql) or [sql]
        ]

    def sent(self) -> list[tuple[dict[str, str], str]]:
        """Return the same with each block as it was sent."""
        lines = [json.loads(line) for line in self.statements_file.read_text().splitlines()]
        return [(json.loads(line["query_tag"] or "{}"), line["sql"]) for line in lines]


@dataclass(frozen=True)
class RealAccount(SnowflakeAccount):
    """The account of the SNOWFLAKE_ variables, with two databases made for these tests."""

    @property
    def export_connection(self) -> dict[str, object]:
        """The one of Airflow: the account's one user and role export too."""
        return self.connection

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make this the warehouse of an Airflow; its one role reads too."""
        return {**super().environment, "READER_ROLE": self.parameters["role"]}

    def tagged_statements(self) -> list[tuple[dict[str, str], str]]:
        """Return the statements of this user in the tests' databases, in order, each with its query tag."""
        databases = f"'{self.database.upper()}', '{self.by_hand.upper()}'"
        history = self.query(
            "select query_tag, query_text from table(information_schema.query_history_by_user(result_limit => 10000)) "
            f"where database_name in ({databases}) order by start_time, query_id"
        )
        return [(json.loads(tag or "{}"), sql) for tag, sql in history]

    def create_databases(self, sources: Path) -> None:
        """Create both databases and load schema raw of a DuckDB file into each."""
        for database in (self.database, self.by_hand):
            with closing(snowflake.connector.connect(**self.parameters)) as connection:
                connection.cursor().execute(f"create database {database}")
            with closing(self.connect(database)) as connection:
                # The set-up's policy, without its roles.
                connection.cursor().execute("create schema ops")
                connection.cursor().execute(
                    "create masking policy ops.mask_personal_data as (value string) returns string -> value"
                )
                load_sources(connection, sources)

    def drop_databases(self) -> None:
        """Drop whatever databases the tests made."""
        with closing(snowflake.connector.connect(**self.parameters)) as connection:
            for database in (self.database, self.by_hand, self.loaded):
                connection.cursor().execute(f"drop database if exists {database}")


def load_sources(connection: snowflake.connector.SnowflakeConnection, sources: Path) -> None:
    """Write schema raw of a DuckDB file into schema raw of the connection's database, with the same types."""
    cursor = connection.cursor()
    cursor.execute("create schema if not exists raw")
    cursor.execute("use schema raw")
    with duckdb.connect(str(sources), read_only=True) as file:
        for table in SOURCES:
            described = file.execute(f"describe raw.{table}").fetchall()
            cursor.execute(f"create table {table} ({', '.join(f'{name} {kind}' for name, kind, *_ in described)})")
            insert = f"insert into {table} values ({', '.join(['%s'] * len(described))})"
            rows = file.execute(f"from raw.{table}")
            while chunk := rows.fetchmany(ROWS_PER_INSERT):
                cursor.executemany(insert, chunk)


def real_account() -> RealAccount | None:
    """Return the account that the environment names, with databases of names that nobody uses; None without one."""
    values = {name: os.environ.get(name, "") for name in REAL_ACCOUNT}
    if not all(values.values()):
        return None
    account, user, private_key_file, role, warehouse = values.values()
    parameters = {
        "account": account,
        "user": user,
        "private_key_file": private_key_file,
        "role": role,
        "warehouse": warehouse,
    }
    prefix = f"customer_360_test_{secrets.token_hex(4)}"
    return RealAccount(parameters, prefix, f"{prefix}_by_hand")
