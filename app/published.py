"""The published marts, as a reader of the screens may see them: the copy on DuckDB, schema marts in Snowflake.

Both are asked in the same SQL. On DuckDB a reader without the right to personal data has one file, in which it is
masked; who has it reads names and addresses from a second file. In Snowflake masking holds for whoever looks.
"""

from __future__ import annotations

import datetime
import re
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import duckdb
import pandas as pd
import streamlit as st

from include.customer_360.duckdb_file import path_literal
from include.customer_360.settings import Settings, load_settings

QUERIES = Path(__file__).parent / "sql"
CONTACTS = "customer_contacts"
PROFILE = "customer_360_profile"
# Between the renames of the two files a reader has one of each publication.
TRIES = 5
SECONDS_BETWEEN_TRIES = 0.2
# The types in the description of a cursor of snowflake.connector.
_NUMBER, _DATE = 0, 3
_NAME = re.compile(r"[a-z_]+/[a-z_0-9]+")


class NotReadable(RuntimeError):
    """There is nothing to show yet, or it cannot be read; the message says what to do."""


@dataclass(frozen=True)
class State:
    """Which publication is shown, and when it was made; times are UTC."""

    publication_id: str
    as_of_date: datetime.date
    published_at: datetime.datetime
    copied_at: datetime.datetime


class Warehouse(Protocol):
    """What pages ask."""

    def frame(self, sql: str, parameters: Sequence[object] = ()) -> pd.DataFrame:
        """Return the rows of one select, whose values are bound to `?` in their order.

        :raises NotReadable: when they cannot be read.
        """

    def in_marts(self, sql: str) -> pd.DataFrame:
        """Return the rows of one select that names the marts without their schema.

        :raises NotReadable: when they cannot be read.
        """

    def state(self) -> State:
        """Return which publication is read.

        :raises NotReadable: when there is none.
        """


def query(name: str) -> str:
    """Return a statement of app/sql by its name, `executive/retention_cohorts`."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a statement in {QUERIES}")
    return (QUERIES / f"{name}.sql").read_text(encoding="utf-8")


class PublishedCopy:
    """The published copy on DuckDB, one publication of it.

    :param connection: has the file attached, and schema marts of views on it.
    :param file: its name, for messages.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, state: State, file: Path) -> None:
        self._connection = connection
        self._state = state
        self._file = file

    def state(self) -> State:
        """Return which publication is read."""
        return self._state

    def frame(self, sql: str, parameters: Sequence[object] = ()) -> pd.DataFrame:
        """Return the rows of one select.

        :raises NotReadable: when they cannot be read.
        """
        # A cursor of its own: pages of several readers ask at once.
        with readable(self._file), self._connection.cursor() as cursor:
            return cursor.execute(sql, list(parameters)).df()

    def in_marts(self, sql: str) -> pd.DataFrame:
        """Return the rows of one select that names the marts without their schema.

        :raises NotReadable: when they cannot be read.
        """
        with readable(self._file), self._connection.cursor() as cursor:
            cursor.execute("use marts")
            return cursor.execute(sql).df()


@contextmanager
def readable(file: Path) -> Iterator[None]:
    """Have what goes wrong while a file of the copy is read say what to do.

    :raises NotReadable: when something does.
    """
    try:
        yield
    except (duckdb.Error, OSError) as error:
        raise NotReadable(
            f"The published copy {file} cannot be read: {error}. The next publication writes it anew; to have it "
            "at once, clear task publish of the last run of customer_360_refresh."
        ) from error


class SnowflakeMarts:
    """The marts in Snowflake, with the rights of whoever looks at the app."""

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - a connection of snowflake.connector
        self._connection = connection

    def state(self) -> State:
        """Return which publication is read."""
        found = self.frame(query("all/state"))
        if found.empty or pd.isna(found.as_of_date[0]):
            raise NotReadable("Nothing is published in schema marts yet: run customer_360_refresh.")
        return State(
            publication_id=str(found.dag_run_id[0]),
            as_of_date=pd.Timestamp(found.as_of_date[0]).date(),
            published_at=pd.Timestamp(found.published_at[0]).to_pydatetime(),
            copied_at=pd.Timestamp(found.published_at[0]).to_pydatetime(),
        )

    def frame(self, sql: str, parameters: Sequence[object] = ()) -> pd.DataFrame:
        """Return the rows of one select, columns in lower case.

        :raises NotReadable: when Snowflake refuses it to the viewer.
        """
        with self._executed(sql, parameters) as cursor:
            types = {column.name.lower(): column.type_code for column in cursor.description}
            found = cursor.fetch_pandas_all().rename(columns=str.lower)
        # As DuckDB gives them: charts and sums know neither Decimal nor date.
        for name, number in types.items():
            if number == _DATE:
                found[name] = pd.to_datetime(found[name])
            elif number == _NUMBER and pd.api.types.is_object_dtype(found[name]):
                found[name] = found[name].astype("float64")
        return found

    def in_marts(self, sql: str) -> pd.DataFrame:
        """Return the rows of one select that names the marts without their schema."""
        self.execute("use schema marts", [])
        return self.frame(sql)

    def in_database(self, name: str) -> str:
        """Return a name of schema marts with its schema and database, as Snowflake's REST API asks for it."""
        return f"{self._connection.database}.marts.{name}"

    def rest_session(self) -> tuple[str, str]:
        """Return address and token of this session, for Snowflake's REST API: it is asked as the viewer, too."""
        return self._connection.rest.server_url, self._connection.rest.token

    def execute(self, sql: str, parameters: Sequence[object]) -> None:
        """Run one statement that returns no rows.

        :raises NotReadable: when Snowflake refuses it to the viewer.
        """
        with self._executed(sql, parameters):
            pass

    @contextmanager
    def _executed(self, sql: str, parameters: Sequence[object]) -> Iterator[Any]:
        # Imported here: on DuckDB nothing needs it.
        from snowflake.connector import Error

        with self._connection.cursor() as cursor:
            try:
                cursor.execute(sql, list(parameters))
            except Error as error:
                raise NotReadable(
                    f"Snowflake refuses it: {error.raw_msg or error} Your default role needs what role "
                    "customer_360_reader has; on Standard Edition, which has no masking policies, the screens do not "
                    "run (docs/snowflake.md, The screens in Snowflake)."
                ) from error
            yield cursor


def open_copy(settings: Settings, personal_data: bool) -> PublishedCopy:
    """Open the copy as it is now.

    :param personal_data: with names and addresses.
    :raises NotReadable: when there is none, or it cannot be read.
    """
    files = {"published": settings.published_file}
    if personal_data:
        files["personal"] = settings.published_personal_file
    for _ in range(TRIES):
        connection = _in_memory(settings)
        try:
            if _attached(connection, files):
                with readable(settings.published_file):
                    _as_marts(connection, personal_data)
                    [row] = connection.execute(query("all/copy_state")).fetchall()
                return PublishedCopy(connection, State(*row), settings.published_file)
        except BaseException:
            connection.close()
            raise
        connection.close()
        time.sleep(SECONDS_BETWEEN_TRIES)
    raise NotReadable(
        f"{files['published']} and {files['personal']} are of two publications: the copy is being renewed. Look "
        "again in a moment; if it stays so, clear task publish of the last run."
    )


def spill_folder(settings: Settings) -> Path:
    """Return where the sessions of readers put what their memory does not hold: rows, names among them."""
    return settings.published_file.with_name(f"{settings.published_file.name}.readers.tmp")


def _in_memory(settings: Settings) -> duckdb.DuckDBPyConnection:
    """Return a session of DuckDB that has a reader's share of the memory, and spills where nobody else looks."""
    folder = spill_folder(settings)
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise NotReadable(
            f"{folder}, which takes what the memory of a reader does not hold, cannot be made: {error}. See to the "
            f"rights on {folder.parent}."
        ) from error
    return duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": False,
            "memory_limit": settings.memory_of_a_reader,
            # Of its own: DuckDB makes it when it spills, and removes it when the session ends.
            "temp_directory": str(folder / uuid.uuid4().hex),
        },
    )


def _attached(connection: duckdb.DuckDBPyConnection, files: dict[str, Path]) -> bool:
    """Attach the files and nothing after them; return whether they are of one publication."""
    found = set()
    for name, file in files.items():
        if not file.exists():
            raise NotReadable(f"There is no published copy {file} yet: `make refresh` builds and publishes the marts.")
        with readable(file):
            connection.execute(f"attach {path_literal(file)} as {name} (read_only)")
            found.add(str(connection.execute(f"select publication_id from {name}.marts.publication_state").fetchall()))
    # Nothing that is asked reads another file, or takes this back.
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")
    return len(found) == 1


def _as_marts(connection: duckdb.DuckDBPyConnection, personal_data: bool) -> None:
    """Give the tables of the copy the names that they have in the warehouse."""
    connection.execute("create schema marts")
    tables = connection.execute(
        "select table_name from duckdb_tables() where database_name = 'published' and schema_name = 'marts'"
    ).fetchall()
    for (table,) in tables:
        connection.execute(f'create view marts."{table}" as select * from published.marts."{table}"')
    if personal_data:
        columns = [
            column
            for (column,) in connection.execute(
                "select column_name from duckdb_columns() where database_name = 'personal' and table_name = ? "
                "and column_name <> 'customer_id'",
                [CONTACTS],
            ).fetchall()
        ]
        shown = ", ".join(f'contacts."{column}" as "{column}"' for column in columns)
        connection.execute(
            f"create or replace view marts.{PROFILE} as select profile.* replace ({shown}) "
            f"from published.marts.{PROFILE} as profile "
            f"left join personal.marts.{CONTACTS} as contacts on contacts.customer_id = profile.customer_id"
        )


def warehouse(personal_data: bool) -> Warehouse:
    """Return what is published now, opened once for all readers who may see the same of it.

    :raises NotReadable: when nothing is published yet, or it cannot be read.
    """
    settings = load_settings()
    if settings.warehouse == "snowflake":
        return SnowflakeMarts(_snowflake())
    try:
        files = [settings.published_file, *([settings.published_personal_file] if personal_data else [])]
        identity = tuple((found.st_ino, found.st_mtime_ns) for found in (file.stat() for file in files))
    except OSError:
        identity = ()
    return _opened(identity, personal_data)


# A copy that was swapped out is closed when the third after it comes.
@st.cache_resource(max_entries=6, show_spinner=False)
def _opened(identity: tuple[tuple[int, int], ...], personal_data: bool) -> PublishedCopy:
    return open_copy(load_settings(), personal_data)


def _snowflake() -> Any:  # noqa: ANN401 - a connection of snowflake.connector
    """Return a connection with the rights of the viewer, which Snowflake gives apps that run there.

    https://docs.snowflake.com/en/developer-guide/streamlit/features/restricted-callers-rights

    :raises NotReadable: when the session has no database to read.
    """
    # Of the viewer's session: nothing of it may be kept for another's.
    connection = st.connection("snowflake-callers-rights").raw_connection
    if not connection.database:
        raise NotReadable(
            "The session has no database: deploy the screens into the database of the marts, as snowflake.yml does."
        )
    return connection
