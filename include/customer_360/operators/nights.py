"""What each run did, for people to query: ops.nights and ops.night_steps; and what the screens were asked, since."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from include.customer_360.alerts import without_values
from include.customer_360.failures import FAILED, KILLED, WHY
from include.customer_360.operators.base import WarehouseOperator
from include.customer_360.operators.build import NODES
from include.customer_360.operators.evolution import make_ops_tables
from include.customer_360.operators.published_copy import CopyNotRenewed, renew_copy
from include.customer_360.operators.screens_log import LogNotTaken, take_screens_log
from include.customer_360.operators.started import STARTED
from include.customer_360.operators.watch import DbtNodeWatcherOperator
from include.customer_360.ops_tables import ops_columns
from include.customer_360.settings import load_settings

if TYPE_CHECKING:
    from airflow.sdk import Context


@dataclass(frozen=True)
class Step:
    """A task of a run that has ended; without a start where no process ran it."""

    task_id: str
    state: str
    started_at: datetime.datetime | None
    seconds: float | None

    @property
    def ended_at(self) -> datetime.datetime:
        """When it ended; at the end of time where that is not known."""
        if self.started_at is None or self.seconds is None:
            return datetime.datetime.max
        return self.started_at + datetime.timedelta(seconds=self.seconds)


class LogNightOperator(WarehouseOperator):
    """Write what this run did to ops.nights and ops.night_steps, in place of what it left there before.

    It comes last but for what says whether the run went well, and succeeds whatever failed before it. A step is a task
    that has ended; of a node of the dbt build it has dbt's seconds. On DuckDB it also takes the log of the screens into
    ops.screens_log, and the copy that readers open has the night then. Entries of that log that are older than
    KEEP_SCREENS_LOG_DAYS are removed, and nights older than KEEP_VALIDATION_RESULTS_DAYS. A run that was ended from
    outside, by its timeout or by hand, has no night here.
    Returns (XCom) the number of entries that were new.

    :param as_of_date: a template of the run's business date; NULL of a run that asked for one that cannot be built.
    """

    # Not as_of_date, which for such a run cannot be rendered.
    template_fields: Sequence[str] = ("conn_id", "dag_run_id")

    def execute(self, context: Context) -> int:
        """Write them.

        What is no part of the warehouse, the log of the screens and the copy, only warns: the night was what it was.

        :raises ColumnsChanged: when a table of ops has a column as another type.
        """
        as_of_date = self._date(context)
        self.as_of_date = str(as_of_date or "")
        steps = self._steps(context)
        night = self._night(context, steps)
        now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        with self.warehouse_session() as (hook, cursor):
            # A run may fail before validate_sources has made them; it adds the columns of measures.
            make_ops_tables(cursor, hook.split_sql_string(self.render_sql("publish/ops_tables.sql", drift=())))
            mark = hook.placeholder
            cursor.execute("begin transaction")
            cursor.execute(f"select count(*) from ops.publications where dag_run_id = {mark}", (self.dag_run_id,))
            published = cursor.fetchone()[0] > 0
            for table in ("nights", "night_steps"):
                cursor.execute(f"delete from ops.{table} where dag_run_id = {mark}", (self.dag_run_id,))
            values = {**night, "as_of_date": as_of_date, "published": published, "ended_at": now}
            cursor.execute(_insert("nights", mark), tuple(values[column] for column in ops_columns()["nights"]))
            cursor.executemany(
                _insert("night_steps", mark),
                [
                    (self.dag_run_id, as_of_date, step.task_id, step.state, step.started_at, step.seconds)
                    for step in steps
                ],
            )
            self._remove_old(cursor, now)
            cursor.execute("commit")
            taken = self._take_screens_log(cursor)
            try:
                renew_copy(cursor, load_settings(), self.log.info, changed=())
            except CopyNotRenewed as error:
                self.log.warning("%s", error)
        self.log.info("Logged %s of %s: %s, %d steps", self.dag_run_id, as_of_date, night["state"], len(steps))
        return taken

    def _take_screens_log(self, cursor: Any) -> int:  # noqa: ANN401 - DB-API
        try:
            return take_screens_log(cursor, load_settings(), self.log.warning)
        except OSError as error:
            self.log.warning(
                "%s cannot be taken into ops.screens_log, and waits there for the next night: %s. See to the rights on "
                "it and to the room in its folder.",
                load_settings().screens_log_file,
                error,
            )
        except LogNotTaken as error:
            self.log.warning("%s", error)
        return 0

    def _date(self, context: Context) -> datetime.date | None:
        try:
            return datetime.date.fromisoformat(self.render_template(self.as_of_date, context))
        except AirflowFailException as refused:
            self.log.info("The run has no date: %s", refused)
            return None

    def _steps(self, context: Context) -> list[Step]:
        """Return the run's tasks that have ended, in the order in which they began."""
        ti: Any = context["ti"]
        watched = {
            task.task_id: task.start_trigger_args.trigger_kwargs  # type: ignore[union-attr]
            for task in self.dag.tasks
            if isinstance(task, DbtNodeWatcherOperator)
        }
        builds = {kwargs["producer_task_id"] for kwargs in watched.values() if kwargs}
        nodes = {build: ti.xcom_pull(task_ids=build, key=NODES) or {} for build in builds}
        steps = []
        for crumb in ti.get_task_breadcrumbs(dag_id=self.dag_id, run_id=self.dag_run_id):
            task_id, state = crumb["task_id"], crumb["state"]
            # An earlier try, of a run that was cleared; and what runs nothing.
            if task_id == self.task_id or crumb["operator"] == "EmptyOperator":
                continue
            if node := watched.get(task_id):
                # It was deferred since the run began.
                built = nodes[node["producer_task_id"]].get(node["unique_id"], {})
                started, seconds = built.get("started_at"), built.get("seconds")
            else:
                started, seconds = ti.xcom_pull(task_ids=task_id, key=STARTED), crumb["duration"]
            steps.append(Step(task_id, state, _utc(started), seconds))
        return sorted(steps, key=lambda step: (step.started_at or datetime.datetime.max, step.task_id))

    def _night(self, context: Context, steps: Sequence[Step]) -> dict[str, Any]:
        """Return what is known of the run as a whole."""
        watchers = {task.task_id for task in self.dag.tasks if isinstance(task, DbtNodeWatcherOperator)}
        failed = [step for step in steps if step.state == "failed" and step.task_id not in watchers]
        first = min(failed, key=lambda step: step.ended_at, default=None)
        why = context["ti"].xcom_pull(task_ids=first.task_id, key=WHY) if first else None
        dag_run: Any = context["dag_run"]
        return {
            "dag_id": self.dag_id,
            "dag_run_id": self.dag_run_id,
            "run_type": dag_run.run_type.value,
            "state": "failed" if any(step.state in FAILED for step in steps) else "success",
            "started_at": _utc(dag_run.start_date.isoformat()),
            "failed_task": first.task_id if first else None,
            # Readers see it, and what the warehouse says may quote a row.
            "reason": without_values((why or {}).get("reason", KILLED)) if first else None,
        }

    @staticmethod
    def _remove_old(cursor: Any, now: datetime.datetime) -> None:  # noqa: ANN401 - DB-API
        settings = load_settings()
        if days := settings.keep_validation_results_days:
            before = f"cast('{now - datetime.timedelta(days=days)}' as timestamp)"
            cursor.execute(
                "delete from ops.night_steps where dag_run_id in "
                f"(select dag_run_id from ops.nights where ended_at < {before})"
            )
            cursor.execute(f"delete from ops.nights where ended_at < {before}")
        if days := settings.keep_screens_log_days:
            before = f"cast('{now - datetime.timedelta(days=days)}' as timestamp)"
            cursor.execute(f"delete from ops.screens_log where happened_at < {before}")


def _insert(table: str, mark: str) -> str:
    columns = ops_columns()[table]
    return f"insert into ops.{table} ({', '.join(columns)}) values ({', '.join([mark] * len(columns))})"


def _utc(moment: str | None) -> datetime.datetime | None:
    """Return a moment in UTC, without a zone; dbt and Airflow write theirs with one or in UTC."""
    if not moment:
        return None
    parsed = datetime.datetime.fromisoformat(moment)
    return parsed.astimezone(datetime.UTC).replace(tzinfo=None) if parsed.tzinfo else parsed
