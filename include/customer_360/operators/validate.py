"""Holds the sources, and each mart of one run against what it was made from, before anyone reads it."""

from __future__ import annotations

import datetime
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from airflow.providers.common.sql.operators.sql import SQLCheckResult
from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from include.customer_360.as_of_date import BUSINESS_TIME_ZONE, hour_of_the_day_after
from include.customer_360.dbt_seeds import dbt_seeds
from include.customer_360.dbt_vars import dbt_vars
from include.customer_360.failures import EXAMPLES_BY_CHECK, one_line
from include.customer_360.holidays import holiday
from include.customer_360.operators.base import RUN_SCHEMAS, RunSchemaOperator, warehouse_error
from include.customer_360.operators.build import FAILED_TESTS
from include.customer_360.operators.evolution import make_ops_tables
from include.customer_360.operators.failing_rows import (
    FailingRows,
    as_xcom,
    data_test,
    keep_failing_rows,
    keys_of_data_test,
)
from include.customer_360.settings import WEEKDAYS, WRITTEN_DATE, load_settings

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook
    from airflow.sdk import Context

    from include.customer_360.catalog import DriftLimits

RESULT_COLUMNS = (
    "dag_run_id",
    "mart",
    "as_of_date",
    "run_schema",
    "check_name",
    "severity",
    "observed",
    "expected",
    "passed",
    "checked_at",
)
RESULTS = "validation_results"
EXAMPLES = 5
"""How many keys of rows at fault a log or a message names."""
LATE = "late"
"""The severity of a check of the sources that a later delivery puts right."""
Result = tuple[Any, ...]
"""One check's row of ops.validation_results, in the order of RESULT_COLUMNS."""


class ValidationFailed(AirflowFailException):
    """A mart is not true to its sources. Trying again with the same rows fails again, so there is no retry."""


class ValidationNotRun(AirflowException):
    """The validation SQL could not be executed, for example because the run's schema is gone."""


class ValidateOperator(RunSchemaOperator):
    """Run `validations/<mart>.sql`, log its checks, hand on their results, and fail on a failed error check.

    The SQL returns one row per check: check_name, severity (`error` or `warn`), observed, expected, passed. Its
    template may also use `mart`, `drift`, `drift_severity`, `vars` and `seeds`, those of the dbt project, and, for the
    sources, `freshness_severity` and `calendar`.
    Returns (XCom) `{"passed": n, "warned": n, "failed": n}`.

    :param mart: the mart's name, which is also the template's, or `sources`.
    :param drift: its limits per measure, as its yml gives them.
    :param drift_severity: `error` or `warn`, for a measure that moved too far against what is published.
    :param freshness_severity: `late` or `warn`, for sources that are not all there.
    :param dag_run_id: the run under which the results are kept.
    """

    template_fields: Sequence[str] = (
        *RunSchemaOperator.template_fields,
        "drift_severity",
        "freshness_severity",
        "sql",
    )
    sql_names: Sequence[str] = (
        *RunSchemaOperator.sql_names,
        "mart",
        "drift",
        "drift_severity",
        "freshness_severity",
        "vars",
        "seeds",
        "calendar",
        "failing",
    )
    ui_color = "#d4ecd4"
    failing: Sequence[str] = ()
    """The checks whose failing rows are asked for, by name; none: the SQL returns the checks."""

    def __init__(
        self,
        *,
        mart: str,
        drift: Mapping[str, DriftLimits] | None = None,
        drift_severity: str = "error",
        freshness_severity: str = LATE,
        **kwargs: Any,  # noqa: ANN401 - passed on to RunSchemaOperator
    ) -> None:
        super().__init__(**kwargs)
        self.mart = mart
        self.drift = drift or {}
        self.drift_severity = drift_severity
        self.freshness_severity = freshness_severity
        self.sql = f"validations/{mart}.sql"

    @property
    def vars(self) -> Mapping[str, int | str]:
        """The vars of the dbt project, by name. No attribute: an operator is copied, and they cannot be."""
        return dbt_vars()

    @property
    def seeds(self) -> Mapping[str, Sequence[Mapping[str, str]]]:
        """The rows of the seeds of the dbt project, by name."""
        return dbt_seeds()

    @property
    def calendar(self) -> list[dict[str, str | None]]:
        """The days that sources are looked at for, as_of_date and then the days before it; none before it is rendered.

        Each with its date and the next (YYYY-MM-DD), its weekday and the name of its holiday, None when it is none.
        """
        if not re.fullmatch(WRITTEN_DATE, self.as_of_date):
            return []
        last = datetime.date.fromisoformat(self.as_of_date)
        days = [
            last - datetime.timedelta(days=number) for number in range(7 * (dbt_vars()["sources_profile_weeks"] + 1))
        ]
        return [
            {
                "date": str(day),
                "next_date": str(day + datetime.timedelta(days=1)),
                "weekday": WEEKDAYS[day.weekday()].title(),
                "holiday": holiday(day),
            }
            for day in days
        ]

    def prepare(self, cursor: Any, hook: DbApiHook) -> None:  # noqa: ANN401 - DB-API
        """Make what the checks read besides what a run builds: nothing."""

    def hand_on(
        self,
        results: Sequence[Result],
        failing_rows: Sequence[FailingRows],
        context: Context,
        cursor: Any,  # noqa: ANN401 - DB-API
        hook: DbApiHook,
    ) -> None:
        """See to it that results and keys get into ops.validation_results and ops.failing_rows."""
        raise NotImplementedError

    def before_failing(self, failed: Sequence[SQLCheckResult], context: Context) -> None:
        """Do what may yet save the run: nothing."""

    def execute(self, context: Context) -> dict[str, int]:
        """Run the checks.

        :raises ValidationFailed: when a check of severity error failed, or no check came back.
        :raises ValidationNotRun: when the SQL itself fails.
        """
        with self.warehouse_session() as (hook, cursor):
            self.prepare(cursor, hook)
            self.check_results = self._run_checks(cursor)
            checked_at = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
            run = (self.dag_run_id, self.mart, datetime.date.fromisoformat(self.as_of_date), self.run_schema)
            rows = [
                (*run, check.name, check.severity, check.actual, check.expected, check.success, checked_at)
                for check in self.check_results
            ]
            failing_rows = self._failing_rows(cursor)
            self.hand_on(rows, failing_rows, context, cursor, hook)

        failed = [check for check in self.check_results if not check.success and check.severity != "warn"]
        if failed:
            self.before_failing(failed, context)
        warned = [check for check in self.check_results if not check.success and check.severity == "warn"]
        self.log.info(
            "Validation of %s for %s in %s:\n%s",
            self.mart,
            self.as_of_date,
            self.run_schema,
            _as_table(self.check_results),
        )
        if not self.check_results:
            raise ValidationFailed(
                f"The validation of {self.mart} returned no check: see that include/sql/validations/{self.mart}.sql "
                "selects one row per check."
            )
        if failed:
            keys = {each.check: each.keys for each in failing_rows}
            self.failed_checks = [
                {
                    "mart": self.mart,
                    "check": check.name,
                    "observed": str(check.actual),
                    "expected": str(check.expected),
                    "examples": list(keys.get(check.name, ()))[:EXAMPLES],
                }
                for check in failed
            ]
            raise ValidationFailed(self._what_failed(failed))
        return {
            "passed": len(self.check_results) - len(warned),
            "warned": len(warned),
            "failed": 0,
        }

    def _run_checks(self, cursor: Any) -> list[SQLCheckResult]:  # noqa: ANN401 - DB-API
        try:
            cursor.execute(self.sql)
            rows = cursor.fetchall()
        except Exception as error:
            raise ValidationNotRun(
                f"The validation SQL of {self.mart} could not run on schema {self.run_schema}: {error}\n"
                f"If a table is missing, start a new run for as_of_date {self.as_of_date}, which builds it again."
            ) from error
        return [
            SQLCheckResult(
                name=check_name,
                check_type="validation",
                success=passed is True,
                severity=severity,
                table=self.mart,
                expected=expected,
                actual=observed,
            )
            for check_name, severity, observed, expected, passed in rows
        ]

    def _failing_rows(self, cursor: Any) -> list[FailingRows]:  # noqa: ANN401 - DB-API
        """Return the keys of the rows at which checks failed, of those that are about rows; said in the log too."""
        failed = {check.name: check for check in self.check_results if not check.success}
        template = f"validations/{self.mart}.sql"
        sql = self.render_sql(template, failing=tuple(failed))
        if sql == self.render_sql(template):
            return []
        cursor.execute(sql)
        keys: dict[str, list[str]] = {}
        for check_name, row_key in cursor.fetchall():
            keys.setdefault(check_name, []).append(str(row_key))
        for check_name, found in keys.items():
            self.log.info("Rows that fail %s, by key: %s", check_name, ", ".join(found[:EXAMPLES]))
        return [
            FailingRows(
                self.mart, check_name, str(failed[check_name].severity), str(failed[check_name].expected), found
            )
            for check_name, found in keys.items()
        ]

    def _what_failed(self, failed: list[SQLCheckResult]) -> str:
        checks = "\n".join(f"- {check.name}: observed {check.actual}; expected {check.expected}" for check in failed)
        return (
            f"{self.mart} in {self.run_schema} for {self.as_of_date} failed {len(failed)} of {len(self.check_results)} "
            f"checks; nothing is published.\n{checks}\n"
            f"The run's tables stay in {self.run_schema}; the SQL is under this task's Rendered Template. Correct the "
            f"source or the model, then start a new run for as_of_date {self.as_of_date}. If another run loaded core "
            "meanwhile, a new run is enough; a wanted change of size goes through with accept_drift."
        )


class ValidateSourcesOperator(ValidateOperator):
    """Check the sources, with `validations/sources.sql`, and keep the results itself: what comes after may never run.

    It is the first of a run to open the warehouse, and makes the tables of schema ops that the others read and fill.

    Where they are not there yet, it waits for them, deferred, without a worker or a slot of its pool, and looks
    again until `wait_until`. A backfill does not wait. Sources that somebody loaded, by hand or as the sample, are what
    they are: what is late there only warns.

    :param drift: the measures of all marts; each gets a column in ops.publications.
    :param wait_until: the hour in New York, on the day after as_of_date, after which it fails; None: at once.
    :param look_every: how long it waits from one look to the next.
    """

    template_fields: Sequence[str] = (*ValidateOperator.template_fields, "ops_tables")

    def __init__(
        self,
        *,
        wait_until: datetime.time | None = None,
        look_every: datetime.timedelta = datetime.timedelta(minutes=10),
        **kwargs: Any,  # noqa: ANN401 - passed on to ValidateOperator
    ) -> None:
        super().__init__(mart="sources", **kwargs)
        self.wait_until = wait_until
        self.look_every = look_every
        self.has_waited = False
        self.late: set[str] = set()
        self.ops_tables = "publish/ops_tables.sql"

    def prepare(self, cursor: Any, hook: DbApiHook) -> None:  # noqa: ANN401 - DB-API
        """Make the tables of schema ops, give those of an older warehouse what was added since, and it its id.

        :raises ColumnsChanged: when one of them has a column as another type.
        """
        make_ops_tables(cursor, hook.split_sql_string(self.ops_tables))
        # One row, for good: two runs at once make one between them.
        cursor.execute(
            "merge into ops.warehouse as kept using "
            f"(select {hook.placeholder} as warehouse_id, cast({hook.placeholder} as timestamp) as made_at) as made "
            "on kept.made_at <= made.made_at when not matched then insert (warehouse_id, made_at) "
            "values (made.warehouse_id, made.made_at)",
            (str(uuid.uuid4()), datetime.datetime.now(datetime.UTC).replace(tzinfo=None).isoformat(sep=" ")),
        )

    def hand_on(
        self,
        results: Sequence[Result],
        failing_rows: Sequence[FailingRows],
        context: Context,
        cursor: Any,  # noqa: ANN401 - DB-API
        hook: DbApiHook,
    ) -> None:
        """Keep the results; no check of the sources is about single rows."""
        keep_results(cursor, hook.placeholder, {(self.dag_run_id, self.mart): results})

    def before_failing(self, failed: Sequence[SQLCheckResult], context: Context) -> None:
        """Wait for what is missing, as long as there is time.

        :raises TaskDeferred: until the next look.
        """
        if self.wait_until is None or context["dag_run"].run_type == "backfill":
            return
        last_look = hour_of_the_day_after(datetime.date.fromisoformat(self.as_of_date), self.wait_until)
        if now() >= last_look:
            return
        next_look = min(now() + self.look_every, last_look)
        self.log.info(
            "The sources of %s are not there: %s. Looking again at %s, until %s in New York.",
            self.as_of_date,
            "; ".join(f"{check.name}: {check.actual}, expected {check.expected}" for check in failed),
            on_clocks(next_look),
            on_clocks(last_look),
        )
        self.defer(trigger=DateTimeTrigger(next_look), method_name="look_again")

    def look_again(self, context: Context, event: object = None) -> dict[str, int]:
        """Go on after waiting: check once more, with what `execute` returns and raises.

        :param event: the trigger's, the moment for which it waited.
        """
        self.has_waited = True
        return self.execute(context)

    def _run_checks(self, cursor: Any) -> list[SQLCheckResult]:  # noqa: ANN401 - DB-API
        checks = super()._run_checks(cursor)
        self.late = {check.name for check in checks if check.severity == LATE}
        if not self.late:
            return checks
        severity = "warn" if loaded_by_hand(cursor) else "error"
        return [replace(check, severity=severity) if check.severity == LATE else check for check in checks]

    def _what_failed(self, failed: list[SQLCheckResult]) -> str:
        checks = "\n".join(f"- {check.name}: observed {check.actual}; expected {check.expected}" for check in failed)
        waited = f", though the run waited until {self.wait_until:%H:%M} in New York" if self.has_waited else ""
        none_missing = " Where nothing is missing, start one with accept_sources."
        return (
            f"The sources of {self.as_of_date} are not ready{waited}; nothing is built. {len(failed)} of "
            f"{len(self.check_results)} checks failed:\n{checks}\n"
            "Ask for what is missing or wrong, then clear this task, or start a new run for as_of_date "
            f"{self.as_of_date}.{none_missing if self.late & {check.name for check in failed} else ''}"
        )


def now() -> datetime.datetime:
    """Return the moment, in UTC."""
    return datetime.datetime.now(datetime.UTC)


def on_clocks(moment: datetime.datetime) -> str:
    """Return a moment as clocks in New York show it, HH:MM."""
    return f"{moment.astimezone(ZoneInfo(BUSINESS_TIME_ZONE)):%H:%M}"


def loaded_by_hand(cursor: Any) -> bool:  # noqa: ANN401 - DB-API
    """Return whether the sources are the sample or files that somebody loaded: nobody delivers more of them.

    Only the embedded warehouse is filled so.
    """
    if load_settings().warehouse != "duckdb":
        return False
    cursor.execute(
        "select count(*) from information_schema.tables where table_schema = 'ops' and table_name = 'source_loads'"
    )
    if cursor.fetchone()[0] == 0:
        return False
    cursor.execute("select count(*) from ops.source_loads")
    return bool(cursor.fetchone()[0])


class ValidateMartOperator(ValidateOperator):
    """Check one mart, reading only, so that the validations of all marts run side by side.

    The results are this task's XCom RESULTS, pushed before a failed check fails the task, for
    KeepValidationResultsOperator to write.
    """

    reads_only = True

    def hand_on(
        self,
        results: Sequence[Result],
        failing_rows: Sequence[FailingRows],
        context: Context,
        cursor: Any,  # noqa: ANN401 - DB-API
        hook: DbApiHook,
    ) -> None:
        """Push the results, one list per check in the order of RESULT_COLUMNS, dates and times in ISO format."""
        rows = [
            [value.isoformat() if isinstance(value, datetime.date) else value for value in result] for result in results
        ]
        handed_on = {"dag_run_id": self.dag_run_id, "mart": self.mart, "rows": rows, "failing": as_xcom(failing_rows)}
        context["ti"].xcom_push(key=RESULTS, value=handed_on)


class KeepValidationResultsOperator(RunSchemaOperator):
    """Write what this run's validations found to ops.validation_results, in one transaction, whatever it is.

    The keys of the rows at fault go to ops.failing_rows, and so do those of the data tests that failed in the dbt
    build, whose SQL is run once more here; one that cannot be is said in the log. A validation that has no
    results, because it did not run or was killed, leaves what an earlier try of it left.
    Returns (XCom) the number of checks per mart; as XCom EXAMPLES_BY_CHECK, by data test, the first of its keys.

    :param validations: the task_ids of the ValidateMartOperators.
    :param build: the task_id of the dbt build.
    """

    def __init__(self, *, validations: Sequence[str], build: str, **kwargs: Any) -> None:  # noqa: ANN401 - passed on to RunSchemaOperator
        super().__init__(**kwargs)
        self.validations = validations
        self.build = build

    def execute(self, context: Context) -> dict[str, int]:
        """Keep them.

        :raises AirflowSkipException: when there are none.
        """
        ti = context["ti"]
        handed_on = ti.xcom_pull(task_ids=self.validations, key=RESULTS, map_indexes=-1)
        results = {
            (validation["dag_run_id"], validation["mart"]): [_result(row) for row in validation["rows"]]
            for validation in handed_on
            if validation
        }
        failed_tests = ti.xcom_pull(task_ids=self.build, key=FAILED_TESTS) or {}
        if not results and not failed_tests:
            raise AirflowSkipException("No validation ran: there is nothing to keep.")
        failing = [
            FailingRows(**each) for validation in handed_on if validation for each in validation.get("failing", ())
        ]
        with self.warehouse_session() as (hook, cursor):
            keep_results(cursor, hook.placeholder, results)
            of_tests = self._rows_of_tests(cursor, failed_tests)
            ti.xcom_push(key=EXAMPLES_BY_CHECK, value={each.check: list(each.keys)[:EXAMPLES] for each in of_tests})
            as_of_date = datetime.date.fromisoformat(self.as_of_date)
            keep_failing_rows(cursor, hook.placeholder, self.dag_run_id, as_of_date, [*failing, *of_tests])
        return {mart: len(rows) for (_, mart), rows in results.items()}

    def _rows_of_tests(self, cursor: Any, failed_tests: Mapping[str, Mapping[str, str]]) -> list[FailingRows]:  # noqa: ANN401 - DB-API
        found = []
        for unique_id, failed in sorted(failed_tests.items()):
            tested = data_test(unique_id)
            if not failed["sql"]:
                self.log.warning("The rows that fail %s are not kept: dbt left no SQL of it.", tested.name)
                continue
            try:
                keys = keys_of_data_test(cursor, unique_id, failed["sql"])
            except warehouse_error() as error:
                self.log.warning("The rows that fail %s are not kept: %s", tested.name, one_line(str(error)))
                continue
            if keys:
                self.log.info("Rows that fail %s, by key: %s", tested.name, ", ".join(keys[:EXAMPLES]))
            found.append(FailingRows(tested.model, tested.name, failed["severity"], failed["message"], keys))
        return found


def _result(row: Sequence[Any]) -> Result:
    values = dict(zip(RESULT_COLUMNS, row, strict=True))
    values["as_of_date"] = datetime.date.fromisoformat(values["as_of_date"])
    values["checked_at"] = datetime.datetime.fromisoformat(values["checked_at"])
    return tuple(values.values())


def keep_results(cursor: Any, placeholder: str, results: Mapping[tuple[str, str], Sequence[Result]]) -> None:  # noqa: ANN401 - DB-API
    """Put results into ops.validation_results, in place of those that the same run has of the same mart.

    Those that are older than KEEP_VALIDATION_RESULTS_DAYS are removed, but for those of run schemas that still stand.

    :param results: by dag_run_id and mart.
    """
    cursor.execute("begin")
    if days := load_settings().keep_validation_results_days:
        oldest = now().replace(tzinfo=None) - datetime.timedelta(days=days)
        cursor.execute(
            f"delete from ops.validation_results where checked_at < {placeholder} "
            # No pattern: a percent sign beside a placeholder is one on Snowflake.
            "and lower(run_schema) not in (select lower(schema_name) from information_schema.schemata "
            f"where substr(lower(schema_name), 1, {len(RUN_SCHEMAS)}) = '{RUN_SCHEMAS}')",
            (oldest,),
        )
    for of_mart in results:
        cursor.execute(
            f"delete from ops.validation_results where dag_run_id = {placeholder} and mart = {placeholder}", of_mart
        )
    rows = [row for of_mart in results.values() for row in of_mart]
    if rows:
        cursor.executemany(
            f"insert into ops.validation_results ({', '.join(RESULT_COLUMNS)}) "
            f"values ({', '.join([placeholder] * len(RESULT_COLUMNS))})",
            rows,
        )
    cursor.execute("commit")


def _as_table(checks: list[SQLCheckResult]) -> str:
    """Return the checks as lines: PASS, WARN or FAIL, name, observed, expected."""
    rows = [("", "check", "observed", "expected")]
    for check in checks:
        verdict = "PASS" if check.success else "WARN" if check.severity == "warn" else "FAIL"
        rows.append((verdict, check.name, str(check.actual), str(check.expected)))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]) for row in rows
    )
