"""What all operators that open the warehouse have in common."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import duckdb
import jinja2
from airflow.providers.common.sql.operators.sql import BaseSQLOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from include.customer_360.as_of_date import parse_as_of_date
from include.customer_360.connection import (
    CONN_ID,
    WarehouseFileUnusable,
    query_tag,
    session_parameters,
    waiting_for_the_file,
    warehouse_connection,
    writer_slots,
)
from include.customer_360.duckdb_file import remove_spills, says_damaged, what_damage_asks_for
from include.customer_360.failures import one_line, said_by_client, what_to_correct
from include.customer_360.settings import POOL, load_settings

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook
    from airflow.sdk import DAG, Connection, Context
    from jinja2.bccache import Bucket

PROFILE = "marts.customer_360_profile"
RUN_SCHEMAS = "marts_run_"
"""How the names of the schemas of runs begin."""


class WarehouseRefused(AirflowFailException):
    """The warehouse refuses the user, or something to it; the message says what and what to do. No retry helps."""


class CompiledTemplates(jinja2.BytecodeCache):
    """The templates that this process has compiled.

    Airflow makes an environment for each rendering, which would compile a template and all that it imports anew.
    """

    def __init__(self) -> None:
        self._code: dict[tuple[type[jinja2.Environment], str, str], Any] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Take the code of the same text, for the same kind of environment."""
        bucket.code = self._code.get((type(bucket.environment), bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep the code."""
        self._code[type(bucket.environment), bucket.key, bucket.checksum] = bucket.code


COMPILED_TEMPLATES = CompiledTemplates()


class WarehouseOperator(BaseSQLOperator):
    """Base of the operators that open the warehouse.

    The connection is checked before it is used, and on Snowflake every statement is tagged with dag, run, task and
    as_of_date. DuckDB lets several processes read a file, or one write: an operator that only reads says so by
    `reads_only` and takes one slot of pool `warehouse`; one that writes takes all of them.

    A template of include/sql may use what Airflow gives every template, and by their bare names the operator's own
    values that `sql_names` lists, rendered already: `as_of_date`, `dag_run_id` and, as SQL has it between quotes,
    `dag_run_literal` here; a subclass adds its own.

    :param as_of_date: the run's business date, YYYY-MM-DD.
    :param dag_run_id: the run, for what it leaves in schema ops and in the tag.
    """

    # In this order: what stands later may use what stands before it, so a subclass's SQL comes last.
    template_fields: Sequence[str] = ("conn_id", "as_of_date", "dag_run_id")
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"sql": "sql"}
    sql_names: Sequence[str] = ("as_of_date", "dag_run_id", "dag_run_literal")
    reads_only: ClassVar[bool] = False
    skip_reason: str = ""
    """Why the task skipped itself, for its callbacks: Airflow hands them the exception of a failure, not of a skip."""

    def __init__(
        self,
        *,
        as_of_date: str,
        dag_run_id: str = "{{ run_id }}",
        conn_id: str = CONN_ID,
        **kwargs: Any,  # noqa: ANN401 - passed on to BaseSQLOperator
    ) -> None:
        # Also over what a mapped task hands on, which names each of its arguments.
        kwargs |= {"pool": POOL, "pool_slots": 1 if self.reads_only else writer_slots()}
        super().__init__(conn_id=conn_id, **kwargs)
        self.as_of_date = as_of_date
        self.dag_run_id = dag_run_id

    def get_template_env(self, dag: DAG | None = None) -> jinja2.Environment:
        """Return Airflow's environment for templates, which takes those that are compiled already as they are."""
        environment = super().get_template_env(dag)
        environment.bytecode_cache = COMPILED_TEMPLATES
        return environment

    def render_template(
        self,
        content: Any,  # noqa: ANN401 - as in BaseOperator
        context: Context,
        jinja_env: jinja2.Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:  # noqa: ANN401 - as in BaseOperator
        """Render `content`, with the names of `sql_names` within its reach."""
        own = {name: getattr(self, name) for name in self.sql_names}
        return super().render_template(content, {**context, **own}, jinja_env, seen_oids)  # type: ignore[typeddict-item]

    def render_sql(self, template: str, **values: object) -> str:
        """Return a template of include/sql as SQL, with what is known only now."""
        own = {name: getattr(self, name) for name in self.sql_names}
        return self.get_template_env().get_template(template).render(**{**own, **values})

    @property
    def dag_run_literal(self) -> str:
        """The run's id as a literal of SQL: whoever starts a run may give it any name."""
        return sql_literal(self.dag_run_id)

    def get_db_hook(self) -> DbApiHook:
        """Return the hook of connection `warehouse`.

        :raises WarehouseConnectionError: when the connection cannot be used.
        """
        connection = warehouse_connection(self.conn_id or CONN_ID)
        self.hook_params = {**(self.hook_params or {}), **self.hook_options(connection)}
        return super().get_db_hook()

    @contextmanager
    def warehouse_session(self) -> Iterator[tuple[DbApiHook, Any]]:
        """Open the warehouse; gives the hook and a cursor, which are closed at the end.

        On Snowflake the session has the connection's role and no other, whatever the user's default says. A DuckDB
        file that another program has open is waited for, as long as WAREHOUSE_LOCK_WAIT says.

        :raises WarehouseConnectionError: when the connection cannot be used.
        :raises WarehouseRefused: when the warehouse refuses the user, or something to it.
        :raises WarehouseFileUnusable: when the DuckDB file is missing, damaged, or no file of this DuckDB.
        :raises DuckDBFileInUse: when another program still has it open after that time.
        """
        hook = self.get_db_hook()
        on_snowflake = load_settings().warehouse == "snowflake"
        try:
            opened = hook.get_conn() if on_snowflake else waiting_for_the_file(hook, self.log.warning)
            with closing(opened) as connection, closing(connection.cursor()) as cursor:
                if on_snowflake:
                    cursor.execute("use secondary roles none")
                elif not self.reads_only:
                    remove_spills(Path(hook.get_database()), self.log.info)
                yield hook, cursor
        except AirflowSkipException as skip:
            self.skip_reason = str(skip)
            # Airflow logs it too, in a group that the UI shows closed.
            self.log.info("Skipped: %s", skip)
            raise
        except AirflowFailException:
            raise
        except Exception as error:
            if not on_snowflake and isinstance(error, (duckdb.Error, AirflowException)) and says_damaged(str(error)):
                file = Path(hook.get_database())
                raise WarehouseFileUnusable(f"{error}{what_damage_asks_for(str(error), file)}") from error
            said = str(error.__cause__ or error)
            if step := what_to_correct(said):
                refused = f"Connection {self.conn_id!r} is refused: {one_line(said_by_client(said))}"
                raise WarehouseRefused(f"{refused}\n{step} Then start a new run.") from error
            raise

    def hook_options(self, connection: Connection) -> dict[str, Any]:
        """Return what the hook is opened with besides what the connection says."""
        if connection.conn_type != "snowflake":
            settings = load_settings()
            if not self.reads_only:
                return {"memory_limit": settings.warehouse_memory}
            # Side by side each has its share of the memory, and its own place to spill to. Without read_only DuckDB
            # would also create a file that is missing.
            spill = f"{connection.host}.reader_{os.getpid()}.tmp"
            return {"read_only": True, "memory_limit": settings.memory_of_a_reader, "temp_directory": spill}
        tag = query_tag(self.dag_id, self.dag_run_id, self.task_id, self.as_of_date)
        return {"session_parameters": session_parameters(connection, tag)}


class RunSchemaOperator(WarehouseOperator):
    """Base of the operators that work on what one run built; their templates may use `run_schema` too.

    :param run_schema: the schema that this run built its marts in.
    :param as_of_date: the run's business date, YYYY-MM-DD.
    """

    template_fields: Sequence[str] = (*WarehouseOperator.template_fields, "run_schema")
    sql_names: Sequence[str] = (*WarehouseOperator.sql_names, "run_schema")

    def __init__(self, *, run_schema: str, **kwargs: Any) -> None:  # noqa: ANN401 - passed on to WarehouseOperator
        super().__init__(**kwargs)
        self.run_schema = run_schema


class PublishedMartsOperator(WarehouseOperator):
    """Base of the operators that work on the published marts of one date.

    :param as_of_date: YYYY-MM-DD, or empty for the date that is published (templated).
    """

    def requested_as_of_date(self) -> datetime.date | None:
        """Return the date that is asked for; None without one.

        :raises AirflowFailException: when it is none.
        """
        if not self.as_of_date:
            return None
        try:
            return parse_as_of_date(self.as_of_date)
        except ValueError as refused:
            raise AirflowFailException(str(refused)) from None

    def as_of_date_to_use(self, cursor: Any) -> datetime.date:  # noqa: ANN401 - DB-API
        """Return the date that is published, which is the one asked for.

        :raises AirflowSkipException: when the published marts are newer than as_of_date.
        :raises AirflowFailException: when there are no published marts of as_of_date; a retry would not help.
        """
        requested = self.requested_as_of_date()
        published = self.published_as_of_date(cursor)
        if requested and published > requested:
            raise AirflowSkipException(
                f"The published marts are of {published}, newer than {requested}: nothing exported."
            )
        if requested and published < requested:
            raise AirflowFailException(
                f"The published marts are of {published}, older than {requested}: "
                f"run customer_360_refresh for {requested}, which publishes it and starts this export."
            )
        return published

    def published_as_of_date(self, cursor: Any) -> datetime.date:  # noqa: ANN401 - DB-API
        """Return the date of the published marts.

        :raises AirflowFailException: when there are none, or they are of several dates.
        """
        of_date = f" as of {self.as_of_date}" if self.as_of_date else ""
        next_step = f"run customer_360_refresh{f' for {self.as_of_date}' if self.as_of_date else ''} first."
        dates = published_as_of_dates(cursor)
        if dates is None:
            raise AirflowFailException(
                f"an audience{of_date} needs {PROFILE}, which connection {self.conn_id!r} does not have: {next_step}"
            )
        if len(dates) != 1:
            found = " and ".join(map(str, dates)) or "no customer"
            raise AirflowFailException(
                f"an audience{of_date} needs {PROFILE} of one date, but it holds {found}: {next_step}"
            )
        return dates[0]


def warehouse_error() -> type[Exception]:
    """Return what the warehouse's client raises when a statement fails, or the session."""
    if load_settings().warehouse == "snowflake":
        # Imported here: it takes a second.
        import snowflake.connector

        return snowflake.connector.Error
    return duckdb.Error


def sql_literal(text: str) -> str:
    """Return a text as SQL, in single quotes. A backslash escapes on Snowflake and in what splits statements."""
    quoted = text.replace("'", "''").replace("\\", "' || chr(92) || '")
    return f"'{quoted}'"


def published_as_of_dates(cursor: Any) -> list[datetime.date] | None:  # noqa: ANN401 - DB-API
    """Return the dates of the profiles that readers see, whoever put them there; None without the table."""
    # DuckDB and Snowflake both answer this; Snowflake keeps names in upper case.
    cursor.execute(
        "select count(*) from information_schema.tables "
        "where lower(table_schema) = 'marts' and lower(table_name) = 'customer_360_profile'"
    )
    if cursor.fetchone()[0] == 0:
        return None
    cursor.execute(f"select distinct as_of_date from {PROFILE} order by as_of_date")
    return [as_of_date for (as_of_date,) in cursor.fetchall()]


def warehouse_id_of(cursor: Any) -> str | None:  # noqa: ANN401 - DB-API
    """Return the id of the warehouse; None before a run has given it one, or when the role does not see it."""
    cursor.execute(
        "select count(*) from information_schema.tables "
        "where lower(table_schema) = 'ops' and lower(table_name) = 'warehouse'"
    )
    if cursor.fetchone()[0] == 0:
        return None
    cursor.execute("select warehouse_id from ops.warehouse order by made_at, warehouse_id")
    found = cursor.fetchall()
    return found[0][0] if found else None
