"""When the sources of a date are there: rows by day in a small file, what the gate says of them, how a run waits."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from include.customer_360.operators import validate
from include.customer_360.operators.validate import ValidateSourcesOperator, ValidationFailed
from include.customer_360.settings import TEMPLATE_FOLDERS
from local import sources

# A Tuesday; its holidays within nine weeks are Columbus and Veterans Day.
TUESDAY = "2026-11-24"
USUAL = {0: 1000, 1: 1000, 2: 1000, 3: 1000, 4: 1000, 5: 700, 6: 330}
"""Rows by weekday, Monday first."""


@pytest.fixture(scope="module")
def shared_connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("create schema raw")
        for table in (sources.CUSTOMERS, sources.TRANSACTIONS):
            connection.execute(f"create table raw.{table.name} ({table.column_definitions})")
        yield connection


@pytest.fixture
def connection(shared_connection: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """Empty sources but for one customer, in a transaction that is taken back after the test."""
    shared_connection.execute("begin")
    shared_connection.execute("insert into raw.customers (customer_id, account_open_date) values ('C1', '2020-01-01')")
    yield shared_connection
    shared_connection.execute("rollback")


def days_before(date: str, count: int) -> list[datetime.date]:
    """The `count` days before a date, the latest first."""
    return [datetime.date.fromisoformat(date) - datetime.timedelta(days=number) for number in range(1, count + 1)]


def deliver(connection: duckdb.DuckDBPyConnection, rows: Mapping[datetime.date, int]) -> None:
    """Put so many transactions of each day into raw, which arrived at two in the night after."""
    connection.execute(
        "insert into raw.transactions (transaction_id, customer_id, transaction_date, status, ingested_at) "
        "select day || '/' || number, 'C1', day, 'approved', day + interval 26 hours from "
        "(select unnest(?) as day, unnest(?) as row_count), range(row_count) as numbers (number)",
        [list(rows), list(rows.values())],
    )


def usual(date: str, count: int = 70) -> dict[datetime.date, int]:
    return {day: USUAL[day.weekday()] for day in days_before(date, count)}


def rendered(date: str, **arguments: object) -> ValidateSourcesOperator:
    with DAG("refresh", schedule=None, template_searchpath=TEMPLATE_FOLDERS):
        operator = ValidateSourcesOperator(
            task_id="validate_sources", run_schema="marts_run_1", as_of_date=date, drift={}, **arguments
        )
    operator.resolve_template_files()
    operator.render_template_fields({"run_id": "run_1"})
    return operator


def checks_of(connection: duckdb.DuckDBPyConnection, date: str) -> dict[str, tuple[str, str, str, bool]]:
    """Return (severity, observed, expected, passed) by check_name."""
    return {row[0]: row[1:] for row in connection.execute(rendered(date).sql).fetchall()}


def is_ready(connection: duckdb.DuckDBPyConnection, date: str) -> bool:
    checks = checks_of(connection, date)
    return all(passed for severity, _, _, passed in checks.values() if severity != "warn")


@pytest.mark.parametrize(
    ("date", "rows", "ready"),
    [
        pytest.param(TUESDAY, 1000, True, id="a full Tuesday"),
        pytest.param(TUESDAY, 400, True, id="a weak Tuesday"),
        pytest.param(TUESDAY, 399, False, id="less than 40 % of a Tuesday"),
        pytest.param(TUESDAY, 100, False, id="a tenth of a Tuesday"),
        pytest.param(TUESDAY, 0, False, id="no row of a Tuesday"),
        pytest.param(TUESDAY, 3000, True, id="three times a Tuesday"),
        pytest.param("2026-11-22", 330, True, id="a Sunday, a third of a weekday as always"),
        pytest.param("2026-11-22", 33, False, id="a tenth of a Sunday"),
        pytest.param("2026-12-25", 400, True, id="Christmas with two fifths"),
        pytest.param("2026-12-25", 200, True, id="Christmas with a fifth"),
        pytest.param("2026-12-25", 100, False, id="Christmas with a tenth"),
        pytest.param("2026-12-25", 0, False, id="Christmas without a row"),
        pytest.param("2026-12-24", 200, False, id="the same on the day before Christmas, which is no holiday"),
    ],
)
def test_a_day_is_held_against_its_weekday(
    connection: duckdb.DuckDBPyConnection, date: str, rows: int, ready: bool
) -> None:
    deliver(connection, usual(date) | {datetime.date.fromisoformat(date): rows})

    assert checks_of(connection, date)["sources_day_complete"][-1] is ready
    assert is_ready(connection, date) is ready


@pytest.mark.parametrize(
    ("column_type", "time"),
    [("varchar", ""), ("varchar", "T23:30:00-05:00"), ("timestamp", " 23:30:00"), ("timestamptz", " 12:00:00+00")],
)
def test_a_day_may_be_delivered_as_text_and_with_its_time(
    connection: duckdb.DuckDBPyConnection, column_type: str, time: str
) -> None:
    deliver(connection, usual(TUESDAY) | {datetime.date.fromisoformat(TUESDAY): 999})
    connection.execute(
        f"alter table raw.transactions alter transaction_date set data type {column_type} "
        f"using cast(transaction_date || '{time}' as {column_type})"
    )

    assert checks_of(connection, TUESDAY)["sources_day_complete"][1:3] == (
        "999 rows of 2026-11-24, a Tuesday; latest transaction_date 2026-11-24, "
        "latest arrival (ingested_at) 2026-11-25 02:00:00",
        "at least 400: a Tuesday has 1000 (median of 8)",
    )


@pytest.mark.parametrize("text", ["02/03/2026", "2026-02-29", "yesterday", "", "zzz"])
def test_text_that_is_no_date_says_nothing_of_the_days(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    deliver(connection, usual(TUESDAY) | {datetime.date.fromisoformat(TUESDAY): 999})
    connection.execute("alter table raw.transactions alter transaction_date set data type varchar")
    connection.execute("insert into raw.transactions (transaction_date, status) values (?, 'approved')", [text])

    checks = checks_of(connection, TUESDAY)
    assert checks["sources_day_complete"][1].startswith("999 rows of 2026-11-24, a Tuesday; latest ")
    assert is_ready(connection, TUESDAY)


def test_what_is_missing_and_since_when_is_said(connection: duckdb.DuckDBPyConnection) -> None:
    deliver(connection, usual(TUESDAY))

    assert checks_of(connection, TUESDAY)["sources_day_complete"] == (
        "late",
        "0 rows of 2026-11-24, a Tuesday; latest transaction_date 2026-11-23, "
        "latest arrival (ingested_at) 2026-11-24 02:00:00",
        "at least 400: a Tuesday has 1000 (median of 8)",
        False,
    )


def test_a_holiday_is_named(connection: duckdb.DuckDBPyConnection) -> None:
    deliver(connection, usual("2026-12-25") | {datetime.date(2026, 12, 25): 100})

    _, observed, expected, _ = checks_of(connection, "2026-12-25")["sources_day_complete"]

    assert observed.startswith("100 rows of 2026-12-25, a Friday and Christmas Day; ")
    # The Friday after Thanksgiving is none.
    assert expected == "at least 200: a Friday has 1000 (median of 8), a holiday less"


def test_holidays_are_not_what_a_day_is_held_against(connection: duckdb.DuckDBPyConnection) -> None:
    wednesday = "2026-11-18"
    history = usual(wednesday) | {datetime.date(2026, 11, 11): 0}
    deliver(connection, history | {datetime.date.fromisoformat(wednesday): 1000})

    # Veterans Day is one of the eight Wednesdays before.
    expected = checks_of(connection, wednesday)["sources_day_complete"][2]
    assert expected == "at least 400: a Wednesday has 1000 (median of 7)"


@pytest.mark.parametrize("weekly_growth", [1.15, 0.87])
@pytest.mark.parametrize(("share", "ready"), [(1, True), (0.1, False), (0, False)])
def test_a_bank_may_grow_or_shrink_to_a_third_within_the_weeks_looked_at(
    connection: duckdb.DuckDBPyConnection, weekly_growth: float, share: float, ready: bool
) -> None:
    rows = {day: round(1000 * weekly_growth ** (-number / 7)) for number, day in enumerate(days_before(TUESDAY, 70), 1)}
    deliver(connection, rows | {datetime.date.fromisoformat(TUESDAY): round(1000 * share)})

    assert is_ready(connection, TUESDAY) is ready


@pytest.mark.parametrize(("rows", "ready"), [(248, True), (247, False), (100, False), (0, False)])
def test_a_weekday_that_varies_may_have_less_but_never_a_tenth(
    connection: duckdb.DuckDBPyConnection, rows: int, ready: bool
) -> None:
    # Median 1000, absolute deviations 0, 140 and 150: 1000 - 3.5 * 1.4826 * 145 = 247.58.
    tuesdays = [1000, 1000, 860, 1140, 850, 1150, 850, 1150]
    history = dict(zip(days_before(TUESDAY, 56)[6::7], tuesdays, strict=True))
    deliver(connection, history | {datetime.date.fromisoformat(TUESDAY): rows})

    assert checks_of(connection, TUESDAY)["sources_day_complete"][-1] is ready


def test_a_weekday_that_varies_wildly_still_has_a_fifth(connection: duckdb.DuckDBPyConnection) -> None:
    history = dict(zip(days_before(TUESDAY, 56)[6::7], [100, 1900, 200, 1800, 300, 1700, 400, 1600], strict=True))
    deliver(connection, history | {datetime.date.fromisoformat(TUESDAY): 100})

    _, _, expected, passed = checks_of(connection, TUESDAY)["sources_day_complete"]
    assert (expected, passed) == ("at least 200: a Tuesday has 1000 (median of 8)", False)


@pytest.mark.parametrize(
    ("days", "remark"),
    [
        (1, "any number: 0 earlier Tuesdays are there to compare with, 4 are needed"),
        (6, "any number: 0 earlier Tuesdays are there to compare with, 4 are needed"),
        (21, "any number: 3 earlier Tuesdays are there to compare with, 4 are needed"),
    ],
)
def test_without_weeks_to_compare_with_any_number_of_rows_is_enough(
    connection: duckdb.DuckDBPyConnection, days: int, remark: str
) -> None:
    deliver(connection, usual(TUESDAY, days) | {datetime.date.fromisoformat(TUESDAY): 10})

    _, _, expected, passed = checks_of(connection, TUESDAY)["sources_day_complete"]
    assert (expected, passed) == (remark, True)
    assert is_ready(connection, TUESDAY)


def test_four_weeks_are_enough_to_compare_with(connection: duckdb.DuckDBPyConnection) -> None:
    deliver(connection, usual(TUESDAY, 28) | {datetime.date.fromisoformat(TUESDAY): 10})

    assert not is_ready(connection, TUESDAY)


@pytest.mark.parametrize(("rows_a_day", "ready"), [(19, True), (20, False)])
def test_of_few_rows_a_day_none_may_be_chance(
    connection: duckdb.DuckDBPyConnection, rows_a_day: int, ready: bool
) -> None:
    deliver(connection, dict.fromkeys(days_before(TUESDAY, 70), rows_a_day))

    _, _, expected, passed = checks_of(connection, TUESDAY)["sources_day_complete"]
    assert passed is ready
    if ready:
        assert expected == "any number: a Tuesday has 19 (median of 8), and fewer than 20 say nothing"


def test_a_weekday_that_never_has_rows_needs_none(connection: duckdb.DuckDBPyConnection) -> None:
    sunday = "2026-11-22"
    deliver(connection, {day: 1000 for day in days_before(sunday, 70) if day.weekday() < 5})

    _, _, expected, passed = checks_of(connection, sunday)["sources_day_complete"]
    assert (expected, passed) == ("any number: a Sunday has 0 (median of 8), and fewer than 20 say nothing", True)
    assert is_ready(connection, sunday)


def test_a_day_before_that_is_short_is_a_warning_with_its_numbers(connection: duckdb.DuckDBPyConnection) -> None:
    rows = usual(TUESDAY) | {datetime.date.fromisoformat(TUESDAY): 1000}
    deliver(connection, rows | {datetime.date(2026, 11, 20): 100, datetime.date(2026, 11, 21): 0})

    assert checks_of(connection, TUESDAY)["sources_days_before_complete"] == (
        "warn",
        "2 of the 6 days before are short, for example 2026-11-20 with 100 rows, usually 1000",
        "each has the rows that its weekday has",
        False,
    )
    assert is_ready(connection, TUESDAY)


def test_transactions_that_ended_before_the_weeks_looked_at_are_named(connection: duckdb.DuckDBPyConnection) -> None:
    deliver(connection, {datetime.date(2026, 9, 1): 5, datetime.date(2027, 1, 1): 1})

    _, observed, _, passed = checks_of(connection, TUESDAY)["sources_transactions_fresh"]
    assert not passed
    assert observed == "no transaction from 2026-09-23 to 2026-11-24, the latest of all is of 2027-01-01"


@pytest.mark.parametrize(
    ("date", "possible"),
    [("2019-12-31", False), ("2020-01-01", True), ("1900-01-01", False)],
)
def test_a_date_before_the_first_customer_is_refused_with_the_first_possible_one(
    connection: duckdb.DuckDBPyConnection, date: str, possible: bool
) -> None:
    deliver(connection, {datetime.date(2021, 5, 1): 1})

    severity, observed, _, passed = checks_of(connection, date)["sources_as_of_date_possible"]
    assert (severity, observed, passed) == ("error", "the first possible date is 2020-01-01", possible)


def test_a_transaction_before_the_accounts_opening_makes_a_date_possible(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    deliver(connection, {datetime.date(2019, 5, 1): 1})

    assert checks_of(connection, "2019-05-01")["sources_as_of_date_possible"][-1]
    _, observed, _, passed = checks_of(connection, "2019-04-30")["sources_as_of_date_possible"]
    assert (observed, passed) == ("the first possible date is 2019-05-01", False)


def test_a_customer_without_an_opening_date_has_been_there_from_the_calendars_first_day_on(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    connection.execute("insert into raw.customers (customer_id) values ('C2')")

    assert checks_of(connection, "1900-01-01")["sources_as_of_date_possible"][-1]


# How a run waits


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file behind the Airflow connection, filled by no load of this project, without the rows of TUESDAY."""
    file = tmp_path / "warehouse.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute("create schema raw")
        for table in (sources.CUSTOMERS, sources.TRANSACTIONS):
            connection.execute(f"create table raw.{table.name} ({table.column_definitions})")
        connection.execute("insert into raw.customers (customer_id, account_open_date) values ('C1', '2020-01-01')")
        deliver(connection, dict.fromkeys(days_before(TUESDAY, 63), 30))
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "duckdb", "host": str(file)}))
    return file


def in_warehouse(file: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(file)) as connection:
        return connection.execute(sql).fetchall()


def arrive(file: Path, date: str = TUESDAY) -> None:
    with duckdb.connect(str(file)) as connection:
        deliver(connection, {datetime.date.fromisoformat(date): 30})


def look(
    monkeypatch: pytest.MonkeyPatch, moment: str, again: bool = False, run_type: str = "scheduled", **arguments: object
) -> dict[str, int]:
    """Look at the sources of TUESDAY at a moment, in UTC, waiting until five in New York, ten in UTC."""
    monkeypatch.setattr(validate, "now", lambda: datetime.datetime.fromisoformat(f"{moment}+00:00"))
    operator = rendered(TUESDAY, **{"wait_until": datetime.time(5), **arguments})
    context: Any = {"dag_run": SimpleNamespace(run_type=run_type)}
    if again:
        return operator.resume_execution("look_again", {"event": moment}, context)
    return operator.execute(context)


def next_look(deferred: TaskDeferred) -> str:
    assert type(deferred.trigger) is DateTimeTrigger
    assert deferred.method_name == "look_again"
    # No end of its own, and no execution_timeout: the trigger fires at its moment.
    assert deferred.timeout is None
    return f"{deferred.trigger.moment:%Y-%m-%d %H:%M}"


@pytest.mark.parametrize(
    ("moment", "next_moment"),
    [
        ("2026-11-25 08:00", "2026-11-25 08:10"),
        ("2026-11-25 09:49", "2026-11-25 09:59"),
        ("2026-11-25 09:55", "2026-11-25 10:00"),
    ],
)
def test_before_the_hour_a_run_waits_for_the_next_look(
    warehouse: Path, monkeypatch: pytest.MonkeyPatch, moment: str, next_moment: str
) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        look(monkeypatch, moment)
    assert next_look(deferred.value) == next_moment


@pytest.mark.parametrize(
    ("as_of_date", "before", "last"),
    [
        # Clocks go forward on 8 March 2026, and back on 1 November.
        ("2026-03-07", "2026-03-08 08:55", "2026-03-08 09:00"),
        ("2026-10-31", "2026-11-01 09:55", "2026-11-01 10:00"),
    ],
)
def test_the_hour_is_that_of_the_clocks_when_they_change(
    warehouse: Path, monkeypatch: pytest.MonkeyPatch, as_of_date: str, before: str, last: str
) -> None:
    in_warehouse(warehouse, "delete from raw.transactions")
    monkeypatch.setattr(validate, "now", lambda: datetime.datetime.fromisoformat(f"{before}+00:00"))
    with pytest.raises(TaskDeferred) as deferred:
        rendered(as_of_date, wait_until=datetime.time(5)).execute({"dag_run": SimpleNamespace(run_type="scheduled")})
    assert next_look(deferred.value) == last


def test_waiting_logs_one_line_a_look(
    warehouse: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TaskDeferred):
        look(monkeypatch, "2026-11-25 08:00")

    out, err = capfd.readouterr()
    lines = [line for line in (out + err).splitlines() if "2026-11-24" in line]
    assert len(lines) == 1, lines
    assert (
        "The sources of 2026-11-24 are not there: sources_day_complete: 0 rows of 2026-11-24, a Tuesday; latest "
        "transaction_date 2026-11-23, latest arrival (ingested_at) 2026-11-24 02:00:00, expected at least 12: a "
        "Tuesday "
        "has 30 (median of 8). Looking again at 03:10, until 05:00 in New York."
    ) in lines[0]


def test_a_run_goes_on_when_the_sources_have_come(warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TaskDeferred):
        look(monkeypatch, "2026-11-25 08:00")
    arrive(warehouse)

    assert look(monkeypatch, "2026-11-25 08:10", again=True) == {"passed": 8, "warned": 0, "failed": 0}
    assert in_warehouse(warehouse, "select count(*), count(*) filter (passed) from ops.validation_results") == [(8, 8)]


def test_after_the_hour_it_fails_saying_what_is_missing_since_when_and_what_to_do(
    warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValidationFailed) as failed:
        look(monkeypatch, "2026-11-25 10:00", again=True)

    assert issubclass(ValidationFailed, AirflowFailException)  # not retried
    assert str(failed.value) == (
        "The sources of 2026-11-24 are not ready, though the run waited until 05:00 in New York; nothing is built. "
        "1 of 8 checks failed:\n"
        "- sources_day_complete: observed 0 rows of 2026-11-24, a Tuesday; latest transaction_date 2026-11-23, latest "
        "arrival (ingested_at) 2026-11-24 02:00:00; expected at least 12: a Tuesday has 30 (median of 8)\n"
        "Ask for what is missing or wrong, then clear this task, or start a new run for as_of_date 2026-11-24. Where "
        "nothing is missing, start one with accept_sources."
    )


def test_a_feed_in_which_no_row_has_a_known_status_stops_the_run_which_no_acceptance_changes(
    warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive(warehouse)
    [(rows,)] = in_warehouse(warehouse, "update raw.transactions set status = 'Settled'")

    with pytest.raises(ValidationFailed) as failed:
        look(monkeypatch, "2026-11-25 10:00", freshness_severity="warn")

    assert str(failed.value) == (
        "The sources of 2026-11-24 are not ready; nothing is built. 1 of 8 checks failed:\n"
        f"- sources_statuses_known: observed {rows} of {rows} rows (100.00 %) have an unknown one: settled ({rows}); "
        "expected only `approved` counts: add the status to include/dbt/seeds/transaction_statuses.csv or have the "
        "feed corrected; above 5 % of the rows (var unknown_status_error_pct) nothing is built\n"
        "Ask for what is missing or wrong, then clear this task, or start a new run for as_of_date 2026-11-24."
    )


@pytest.mark.parametrize(
    ("moment", "arguments"),
    [
        pytest.param("2026-11-25 10:00", {}, id="after the hour, as a run that is cleared"),
        pytest.param("2026-12-24 08:00", {}, id="a manual run of a date long ago"),
        pytest.param("2026-11-25 08:00", {"run_type": "backfill"}, id="a backfill of yesterday"),
        pytest.param("2026-11-25 08:00", {"wait_until": None}, id="where no hour is set"),
    ],
)
def test_what_does_not_wait_looks_once_and_fails(
    warehouse: Path, monkeypatch: pytest.MonkeyPatch, moment: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(ValidationFailed, match="not ready; nothing is built"):
        look(monkeypatch, moment, **arguments)


def test_it_looks_as_often_as_is_set(warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        look(monkeypatch, "2026-11-25 08:00", look_every=datetime.timedelta(minutes=45))
    assert next_look(deferred.value) == "2026-11-25 08:45"


@pytest.mark.parametrize("kind", ["sample", "files"])
def test_what_was_loaded_on_this_machine_is_not_waited_for_and_warns(
    warehouse: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    in_warehouse(
        warehouse,
        "create schema ops; create table ops.source_loads (loaded_at timestamp, kind varchar);"
        f"insert into ops.source_loads values ('2026-11-24 02:00:00', '{kind}')",
    )

    assert look(monkeypatch, "2026-11-25 08:00") == {"passed": 7, "warned": 1, "failed": 0}


def test_accepted_sources_warn(warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = look(monkeypatch, "2026-11-25 08:00", freshness_severity="warn")
    assert counts == {"passed": 7, "warned": 1, "failed": 0}


def test_empty_sources_are_waited_for_too_and_warn_nobody_away(
    warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_warehouse(warehouse, "delete from raw.transactions")
    with pytest.raises(TaskDeferred):
        look(monkeypatch, "2026-11-25 08:00", freshness_severity="warn")
    with pytest.raises(ValidationFailed, match=r"0 rows in raw\.transactions"):
        look(monkeypatch, "2026-11-25 10:00", freshness_severity="warn")
