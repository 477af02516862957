"""Puts the validated marts of a run in front of their readers, and clears away what runs leave behind."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from include.customer_360.assets import PUBLISHED
from include.customer_360.connection import exporter_role, reader_role, warehouse_connection
from include.customer_360.heartbeat import call_heartbeat
from include.customer_360.operators.base import (
    RUN_SCHEMAS,
    RunSchemaOperator,
    published_as_of_dates,
    sql_literal,
    warehouse_error,
    warehouse_id_of,
)
from include.customer_360.operators.evolution import add_missing, columns_in, refuse_changed
from include.customer_360.operators.lineage import Check, checks_of, is_told, lineage_of
from include.customer_360.operators.published_copy import HISTORY, renew_copy
from include.customer_360.operators.turn import Turn, turn
from include.customer_360.settings import load_settings

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook
    from airflow.providers.openlineage.extractors.base import OperatorLineage
    from airflow.sdk import Context

    from include.customer_360.catalog import Mart

WAYS_OUT = (
    "Give the column back to the model customer_360_history, as NULL or under its old type, or, where its values may "
    "be lost for all dates, drop it from the table (alter table ... drop column ...); then start a new run."
)

SNOWFLAKE_SQL = "publish/snowflake.sql"


class GrantsLost(AirflowFailException):
    """Readers or exports cannot select from a published mart. Trying again clones it again and grants nothing more."""


class WritesForAllOperator(RunSchemaOperator):
    """Base of the operators that write what all runs share, one run at a time.

    On DuckDB whoever writes has the file alone. On Snowflake a turn is taken (ops.publishing): a pool of one slot would
    not hold against a task that was given up and still runs, and tells nobody of what died half-way.
    """

    def complete(self, begun: Turn, cursor: Any, hook: DbApiHook) -> None:  # noqa: ANN401 - DB-API
        """Finish what a run that has died began: nothing, where it is one transaction."""

    @contextmanager
    def own_turn(self, context: Context, cursor: Any, hook: DbApiHook) -> Iterator[None]:  # noqa: ANN401 - DB-API
        """Wait for this run's turn and give it back at the end.

        :raises NotItsTurn: when another run has had it for too long.
        """
        if load_settings().warehouse != "snowflake":
            yield
            return
        own = Turn(
            task_id=self.task_id,
            dag_run_id=self.dag_run_id,
            as_of_date=datetime.date.fromisoformat(self.as_of_date),
            run_schema=self.run_schema,
            begun_at=datetime.datetime.now(datetime.UTC).replace(tzinfo=None),
        )

        def is_alive(holder: Turn) -> bool:
            return holder.dag_run_id != self.dag_run_id and under_way(context, self.dag_id, holder.dag_run_id)

        with turn(
            cursor, hook.placeholder, own, is_alive, lambda begun: self.complete(begun, cursor, hook), self.log.info
        ):
            yield


class PublishMartsOperator(WritesForAllOperator):
    """Put what `run_schema` holds before the readers, and emit the asset for partition as_of_date.

    On DuckDB all of it changes in one transaction. On Snowflake each table is whole, and they change one after the
    other, within seconds, what the others are made of first. On DuckDB the copy that readers open follows the commit.

    Skipped, without an asset event, when newer marts are published: a backfill never takes readers back in time.
    Returns (XCom) the number of rows per mart. Its templates may also use `published`, `published_at`.

    :param published: what is published, in this order.
    :param run_schema: the schema that this run built and validated its marts in.
    :param as_of_date: the run's business date, YYYY-MM-DD.
    """

    template_fields: Sequence[str] = (*RunSchemaOperator.template_fields, "published_at", "sql")
    sql_names: Sequence[str] = (*RunSchemaOperator.sql_names, "published", "published_at", "edition")
    ui_color = "#cfe3f5"

    def __init__(self, *, published: Sequence[Mart], **kwargs: Any) -> None:  # noqa: ANN401 - passed on to RunSchemaOperator
        super().__init__(outlets=[PUBLISHED], **kwargs)
        self.published = published
        self.checks: Sequence[Check] = ()
        self.published_at = "{{ macros.datetime.utcnow().isoformat(sep=' ') }}"
        self.edition = load_settings().snowflake_edition
        self.sql = SNOWFLAKE_SQL if load_settings().warehouse == "snowflake" else "publish/duckdb.sql"

    def execute(self, context: Context) -> dict[str, int]:
        """Publish.

        :raises AirflowSkipException: when the published marts are of a later date than this run's.
        :raises CopyNotRenewed: when the marts are published and readers' copy of them could not be written.
        :raises GrantsLost: when, on Snowflake, readers or exports cannot select from what is published.
        """
        with self.warehouse_session() as (hook, cursor):
            with self.own_turn(context, cursor, hook):
                published = max(published_as_of_dates(cursor) or (), default=None)
                if published and published > datetime.date.fromisoformat(self.as_of_date):
                    renew_copy(cursor, load_settings(), self.log.info, changed=[HISTORY])
                    raise AirflowSkipException(
                        f"The published marts are of {published}, newer than this run's {self.as_of_date}: they stay. "
                        f"marts.customer_360_history has {self.as_of_date}."
                    )
                for statement in hook.split_sql_string(self.sql):
                    cursor.execute(statement)
                lost = self._grants_lost(cursor) if load_settings().warehouse == "snowflake" else {}
            if lost:
                raise GrantsLost(
                    f"{self.as_of_date} is published, but "
                    + "; ".join(f"{roles} cannot select from {mart}" for mart, roles in lost.items())
                    + ". The future grants of the set-up are missing: run `make snowflake-setup`, which grants on the "
                    "tables that exist and on future ones, then clear this task."
                )
            self._removed_from_the_catalog(cursor)
            renew_copy(cursor, load_settings(), self.log.info)
            cursor.execute(
                f"select mart, row_count from ops.publications where dag_run_id = {hook.placeholder} "
                f"and published_at = {hook.placeholder}",
                (self.dag_run_id, datetime.datetime.fromisoformat(self.published_at)),
            )
            rows = dict(cursor.fetchall())
            warehouse_id = warehouse_id_of(cursor)
            if is_told():
                self.checks = checks_of(cursor, hook.placeholder, self.dag_run_id)
        self.log.info("Published %s as schema marts: %s", self.as_of_date, rows)
        event = context["outlet_events"][PUBLISHED]
        event.extra = {"as_of_date": self.as_of_date, "rows": rows, "warehouse_id": warehouse_id}
        event.add_partitions(self.as_of_date)
        call_heartbeat(self.log.info, self.log.warning)
        return rows

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:  # noqa: ANN401 - as in Airflow
        """Return what OpenLineage is told of the publication, where it is configured."""
        return lineage_of(self.published, self.checks)

    def complete(self, begun: Turn, cursor: Any, hook: DbApiHook) -> None:  # noqa: ANN401 - DB-API
        """Publish what a run that has died began to publish: of its marts some may be before the readers already.

        What this run replaces as a whole it need not complete.

        :raises AirflowFailException: when its run schema is gone and this run's date is older than its own.
        """
        if begun.dag_run_id == self.dag_run_id:
            return  # An earlier try of this task, which does it again.
        is_older = datetime.date.fromisoformat(self.as_of_date) < begun.as_of_date
        began = f"The publication of {begun.as_of_date} by {begun.dag_run_id} died half-way"
        try:
            if columns_in(cursor, begun.run_schema):
                self._publish_for(begun, cursor, hook)
                return
            reason = "is gone"
        except warehouse_error() as error:
            if is_older:
                raise
            reason = f"cannot be published: {error}"
        if is_older:
            raise AirflowFailException(
                f"{began}, and its schema {begun.run_schema} is gone: marts may be of two dates, and this run's "
                f"{self.as_of_date} is older. Start a new run for {begun.as_of_date}, or a later date, which replaces "
                "all of them."
            )
        self.log.warning("%s, and its schema %s %s. This run replaces all.", began, begun.run_schema, reason)

    def _publish_for(self, begun: Turn, cursor: Any, hook: DbApiHook) -> None:  # noqa: ANN401 - DB-API
        """Do again all that another run's publication does."""
        theirs = {
            "run_schema": begun.run_schema,
            "as_of_date": begun.as_of_date.isoformat(),
            "dag_run_id": begun.dag_run_id,
            "dag_run_literal": sql_literal(begun.dag_run_id),
        }
        for statement in hook.split_sql_string(self.render_sql(SNOWFLAKE_SQL, **theirs)):
            cursor.execute(statement)

    def _removed_from_the_catalog(self, cursor: Any) -> None:  # noqa: ANN401 - DB-API
        """Say which marts earlier runs published that nobody builds any more, or drop them, as REMOVED_MARTS has it."""
        current = {mart.name for mart in self.published}
        cursor.execute(
            "select publications.mart, max(publications.as_of_date) from ops.publications as publications "
            "inner join information_schema.tables as published on lower(published.table_name) = publications.mart "
            "where lower(published.table_schema) = 'marts' group by publications.mart order by publications.mart"
        )
        for mart, last in [(mart, last) for mart, last in cursor.fetchall() if mart not in current]:
            if load_settings().removed_marts == "report":
                self.log.warning(
                    "marts.%s is of %s, and no model of that name is published any more: readers see it as it was. "
                    "REMOVED_MARTS=drop has the next publication drop it.",
                    mart,
                    last,
                )
                continue
            if load_settings().warehouse == "snowflake" and self.edition == "standard":
                cursor.execute(f"drop view if exists marts_read.{mart}")
            cursor.execute(f"drop table if exists marts.{mart}")
            self.log.warning("Dropped marts.%s of %s: no model of that name is published any more.", mart, last)

    def _grants_lost(self, cursor: Any) -> dict[str, str]:  # noqa: ANN401 - DB-API
        """Clone a mart once more, which future grants reach, where grants did not come with the first clone.

        Return the roles that cannot select from a mart even then, by mart.
        """
        connection = warehouse_connection()
        reader, exporter = reader_role(connection).lower(), exporter_role(connection).lower()
        with_masking = self.edition != "standard"
        of_tables = {reader, exporter} if with_masking else {exporter}
        lost = {}
        for mart in (mart for mart in self.published if mart.table_schema == "marts"):
            table = f"marts.{mart.name}"
            if missing := of_tables - roles_that_select(cursor, "table", table):
                self.log.warning(
                    "%s cannot select from %s: it is cloned once more.", " and ".join(sorted(missing)), table
                )
                cursor.execute(f"create or replace transient table {table} clone {self.run_schema}.{mart.name}")
                missing = of_tables - roles_that_select(cursor, "table", table)
            if not with_masking:
                missing |= {reader} - roles_that_select(cursor, "view", f"marts_read.{mart.name}")
            if missing:
                lost[mart.name] = " and ".join(sorted(missing))
        return lost


def under_way(context: Context, dag_id: str, dag_run_id: str) -> bool:
    """Tell whether a run of the Dag is queued or running."""
    return context["ti"].get_dr_count(dag_id, run_ids=[dag_run_id], states=["queued", "running"]) > 0


def roles_that_select(cursor: Any, kind: str, name: str) -> set[str]:  # noqa: ANN401 - DB-API
    """Return the roles, in lower case, that may select from a table or view, its owner among them."""
    cursor.execute(f"show grants on {kind} {name}")
    columns = [column[0].lower() for column in cursor.description]
    grants = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
    return {grant["grantee_name"].lower() for grant in grants if grant["privilege"] in ("SELECT", "OWNERSHIP")}


class WriteHistoryOperator(WritesForAllOperator):
    """Put the run's rows of customer_360_history in place of those that marts.customer_360_history has for its date.

    dbt builds them in `run_schema`, like every mart, so that history too holds validated rows only. What changes in a
    date that history had is kept in ops.restatements, as publish/restatements.sql says. Dates that lie more than
    KEEP_HISTORY_DAYS before the run's own are removed from both.
    Returns (XCom) the number of rows.

    :param run_schema: the schema that this run built and validated its marts in.
    :param as_of_date: the run's business date, YYYY-MM-DD.
    """

    ui_color = "#cfe3f5"

    def execute(self, context: Context) -> int:
        """Write the date, all of it or nothing. A column that the model has gained is added first.

        :raises ColumnsChanged: when history has a column that the model has no longer, or as another type.
        """
        written = f"{self.run_schema}.customer_360_history"
        history = "marts.customer_360_history"
        with self.warehouse_session() as (hook, cursor), self.own_turn(context, cursor, hook):
            cursor.execute("create schema if not exists marts")
            cursor.execute(f"create table if not exists {history} as select * from {written} where 1 = 0")
            in_history = columns_in(cursor, "marts")["customer_360_history"]
            built = columns_in(cursor, self.run_schema)["customer_360_history"]
            refuse_changed(history, in_history, built, WAYS_OUT)
            if added := add_missing(cursor, history, in_history, built):
                self.log.info("Added to %s, NULL for earlier dates: %s", history, ", ".join(added))
            # By name: a table that is years old may have its columns in another order.
            columns = ", ".join(built)
            restatements = self._restatements([column for column in built if column in in_history])
            cursor.execute("begin transaction")
            cursor.execute(restatements)
            cursor.execute(f"delete from {history} where as_of_date = cast('{self.as_of_date}' as date)")
            cursor.execute(f"insert into {history} ({columns}) select {columns} from {written}")
            if days := load_settings().keep_history_days:
                for table in (history, "ops.restatements"):
                    cursor.execute(f"delete from {table} where as_of_date < cast('{self.as_of_date}' as date) - {days}")
            cursor.execute("commit")
            cursor.execute(f"select count(*) from {written}")
            rows: int = cursor.fetchone()[0]
        self.log.info("Wrote %s rows for %s to %s", rows, self.as_of_date, history)
        return rows

    def _restatements(self, columns: Sequence[str]) -> str:
        """Return the SQL that keeps what changes in those of these columns that are not the key."""
        return self.render_sql(
            "publish/restatements.sql",
            columns=[column for column in columns if column not in ("as_of_date", "customer_id")],
            restated_at=datetime.datetime.now(datetime.UTC).replace(tzinfo=None).isoformat(sep=" "),
        )


class DropRunSchemasOperator(RunSchemaOperator):
    """Drop the run schemas that nobody needs any more.

    Those are this run's own; those that earlier runs of the same date left; and those whose last validation is older
    than KEEP_RUN_SCHEMAS_DAYS. The schema of a run that is still under way is never touched, nor one that is no run's
    (marts_run_...). What the warehouse refuses to drop stays for the next run to try: this run has published.
    Returns (XCom) the names of the dropped schemas.

    :param run_schema: the schema of this run.
    :param as_of_date: the run's business date, YYYY-MM-DD.
    """

    def execute(self, context: Context) -> list[str]:
        """Drop them.

        :raises AirflowSkipException: naming the schemas that the warehouse refused to drop, and why.
        """
        kept = datetime.timedelta(days=load_settings().keep_run_schemas_days)
        keep_after = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) - kept
        with self.warehouse_session() as (_, cursor):
            cursor.execute(
                "select results.run_schema, results.as_of_date, results.dag_run_id, max(results.checked_at) "
                "from ops.validation_results as results "
                "inner join information_schema.schemata as schemata "
                "on lower(schemata.schema_name) = lower(results.run_schema) "
                "group by 1, 2, 3 order by 1"
            )
            results = cursor.fetchall()
            # What a publication that died half-way is completed from.
            cursor.execute("select run_schema from ops.publishing")
            unfinished = {run_schema for (run_schema,) in cursor.fetchall()}
            left_behind = [
                run_schema
                for run_schema, as_of_date, dag_run_id, last_checked in results
                if run_schema.startswith(RUN_SCHEMAS)
                and run_schema not in unfinished
                and (
                    run_schema == self.run_schema
                    or (
                        (as_of_date.isoformat() == self.as_of_date or last_checked < keep_after)
                        and not under_way(context, self.dag_id, dag_run_id)
                    )
                )
            ]
            refused = {}
            for run_schema in left_behind:
                try:
                    self._drop(cursor, run_schema)
                    self.log.info("Dropped schema %s", run_schema)
                except warehouse_error() as error:
                    refused[run_schema] = error
        if refused:
            reasons = "\n".join(f"- {run_schema}: {error}" for run_schema, error in refused.items())
            raise AirflowSkipException(
                f"Not dropped:\n{reasons}\nThe marts are published, and the next run tries again. What is refused "
                "again has to be dropped by hand, by the role that owns it."
            )
        return left_behind

    def _drop(self, cursor: Any, run_schema: str) -> None:  # noqa: ANN401 - DB-API
        """Drop a schema, on Snowflake what is in it first: a table there may carry a policy of another schema."""
        if load_settings().warehouse == "snowflake":
            cursor.execute(
                "select table_name, table_type from information_schema.tables "
                f"where lower(table_schema) = '{run_schema}' order by table_name"
            )
            for name, kind in cursor.fetchall():
                cursor.execute(f"drop {'view' if kind == 'VIEW' else 'table'} if exists {run_schema}.{name}")
        cursor.execute(f"drop schema if exists {run_schema} cascade")
