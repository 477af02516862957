"""How far a measure may move against what was published: by its own changes, without them by the limits of its yml."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import duckdb
import pytest
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from include.customer_360.catalog import DriftLimits
from include.customer_360.dbt_vars import dbt_vars
from include.customer_360.settings import TEMPLATE_FOLDERS

AS_OF_DATE = datetime.date(2026, 3, 31)
LIMITS = {"row_count": DriftLimits(lowest_pct=-5, highest_pct=10), "spend": DriftLimits(lowest_pct=-5, highest_pct=25)}

CHECKS = """
{% import 'validations/checks.jinja' as validation with context %}
with mart as (select * from made_up),
{{ validation.drift_of_measures() }},
final as (
    select '' as check_name, '' as severity, '' as observed, '' as expected, true as passed where 1 = 0
    {{ validation.drift_checks('made_up') }}
)
select * from final
"""


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("create schema ops")
        ops_tables = Environment(loader=FileSystemLoader(TEMPLATE_FOLDERS)).get_template("publish/ops_tables.sql")
        connection.execute(ops_tables.render(drift=LIMITS))
        yield connection


def publish(
    connection: duckdb.DuckDBPyConnection, as_of_date: datetime.date, row_count: float, run: str = "run"
) -> None:
    connection.execute(
        "insert into ops.publications (dag_run_id, as_of_date, mart, row_count, spend, published_at) "
        "values (?, ?, 'made_up', ?, 100, ?)",
        [run, as_of_date, round(row_count), as_of_date + datetime.timedelta(days=1)],
    )


def days_before(number: int) -> datetime.date:
    return AS_OF_DATE - datetime.timedelta(days=number)


def publish_growing(connection: duckdb.DuckDBPyConnection, daily_pct: float, publications: int = 20) -> float:
    """Publish each of the days before AS_OF_DATE; return the rows of the last."""
    rows = 1_000_000.0
    for number in range(publications, 0, -1):
        publish(connection, days_before(number), rows)
        rows *= 1 + daily_pct / 100
    return rows / (1 + daily_pct / 100)


def row_count_check(connection: duckdb.DuckDBPyConnection, row_count: float) -> tuple[str, str, str, bool]:
    """Return (severity, observed, expected, passed) of a mart with so many rows, which spend a hundred together."""
    connection.execute(
        f"create or replace table made_up as select 1.0 as spend from range({round(row_count)}) "
        f"limit {round(row_count)}"
    )
    sql = (
        Environment(loader=FileSystemLoader(TEMPLATE_FOLDERS), undefined=StrictUndefined)
        .from_string(CHECKS)
        .render(as_of_date=str(AS_OF_DATE), mart="made_up", drift=LIMITS, drift_severity="error", vars=dbt_vars())
    )
    checks = {row[0]: row[1:] for row in connection.execute(sql).fetchall()}
    assert checks.keys() == {"made_up_row_count_near_published", "made_up_spend_near_published"}
    return checks["made_up_row_count_near_published"]


@pytest.mark.parametrize(("publications", "change_pct", "passes"), [(1, 9, True), (1, 12, False), (1, -6, False)])
def test_without_a_history_the_limits_of_the_yml_hold(
    connection: duckdb.DuckDBPyConnection, publications: int, change_pct: float, passes: bool
) -> None:
    last = publish_growing(connection, 0, publications)
    assert row_count_check(connection, last * (1 + change_pct / 100))[-1] is passes


def test_seven_changes_are_a_history(connection: duckdb.DuckDBPyConnection) -> None:
    last = publish_growing(connection, 12, publications=7)
    assert row_count_check(connection, last * 1.12)[1:] == (
        f"row_count {round(last * 1.12)}, 12.00 % against 2026-03-30",
        "between -5 % and +10 % of what is published, at most 7 days older; "
        "6 of 7 earlier changes that limits of its own need",
        False,
    )
    publish(connection, days_before(8), 1_000_000 / 1.12)
    assert row_count_check(connection, last * 1.12)[-1]


def test_a_bank_that_grows_by_twelve_percent_a_day_passes(connection: duckdb.DuckDBPyConnection) -> None:
    last = publish_growing(connection, 12)
    assert row_count_check(connection, last * 1.12) == (
        "error",
        f"row_count {round(last * 1.12)}, 12.00 % against 2026-03-30, z 0.0",
        "between 7.00 % and 17.00 %, z up to 5, by 19 earlier changes, median 12.00 % a day",
        True,
    )


@pytest.mark.parametrize("daily_pct", [0, 0.2, 2, 12])
@pytest.mark.parametrize("publications", [1, 20])
def test_a_slip_of_thirty_percent_fails_with_and_without_a_history(
    connection: duckdb.DuckDBPyConnection, daily_pct: float, publications: int
) -> None:
    last = publish_growing(connection, daily_pct, publications)
    assert not row_count_check(connection, last * 0.7)[-1]


def test_a_slip_of_thirty_percent_fails_after_the_wildest_history(connection: duckdb.DuckDBPyConnection) -> None:
    for number in range(20, 0, -1):
        publish(connection, days_before(number), 2000 if number % 3 else 1000)
    # Changes of 0 % (7), -50 % (6) and +100 % (6): median 0 %, half of them 50 % or more from it. 20 % are the most.
    _, observed, expected, passed = row_count_check(connection, 1400)
    assert expected == "between -20.00 % and 20.00 %, z up to 5, by 19 earlier changes, median 0.00 % a day"
    assert not passed
    assert observed == "row_count 1400, -30.00 % against 2026-03-30, z -7.5"


def test_a_quiet_history_leaves_room_for_noise(connection: duckdb.DuckDBPyConnection) -> None:
    last = publish_growing(connection, 0)
    assert row_count_check(connection, last * 1.049)[-1]
    assert row_count_check(connection, last * 0.951)[-1]
    # One per cent is a deviation: five of them are the 5 % that there are at least.
    assert row_count_check(connection, last * 0.94) == (
        "error",
        "row_count 940000, -6.00 % against 2026-03-30, z -6.0",
        "between -5.00 % and 5.00 %, z up to 5, by 19 earlier changes, median 0.00 % a day",
        False,
    )


def test_a_history_that_varies_widens_the_limits(connection: duckdb.DuckDBPyConnection) -> None:
    rows = 1_000_000.0
    # Half of the changes are 1 % and half 3 %: median 2 %, each 1 % from it: 5 * 1.4826 % = 7.41 %.
    for number in range(21, 0, -1):
        publish(connection, days_before(number), rows)
        rows *= 1.03 if number % 2 else 1.01
    _, _, expected, passed = row_count_check(connection, rows / 1.03 * 1.09)
    assert expected == "between -5.41 % and 9.41 %, z up to 5, by 20 earlier changes, median 2.00 % a day"
    assert passed


def test_days_that_were_not_published_are_counted(connection: duckdb.DuckDBPyConnection) -> None:
    publish_growing(connection, 2)
    connection.execute("delete from ops.publications where as_of_date > ?", [days_before(3)])
    [(last,)] = connection.execute("select max(row_count) from ops.publications").fetchall()
    # Three days at 2 % are 6 %.
    _, observed, expected, passed = row_count_check(connection, last * 1.061)
    assert observed.endswith("6.10 % against 2026-03-28, z 0.1")
    assert expected == "between 1.00 % and 11.00 %, z up to 5, by 17 earlier changes, median 2.00 % a day"
    assert passed


def test_a_rerun_is_held_against_what_its_own_date_published(connection: duckdb.DuckDBPyConnection) -> None:
    last = publish_growing(connection, 12)
    publish(connection, AS_OF_DATE, last * 1.12)
    assert row_count_check(connection, last * 1.12)[1:] == (
        f"row_count {round(last * 1.12)}, 0.00 % against 2026-03-31, z 0.0",
        "between -5.00 % and 5.00 %, z up to 5, by 19 earlier changes, median 12.00 % a day",
        True,
    )


def test_of_a_date_that_was_published_twice_the_later_counts(connection: duckdb.DuckDBPyConnection) -> None:
    last = publish_growing(connection, 2)
    connection.execute(
        "insert into ops.publications by name select * replace ('earlier' as dag_run_id, 1 as row_count, "
        "published_at - interval 1 hour as published_at) from ops.publications"
    )
    assert "19 earlier changes, median 2.00 % a day" in row_count_check(connection, last * 1.02)[2]


def test_one_publication_that_went_wrong_does_not_move_the_limits(connection: duckdb.DuckDBPyConnection) -> None:
    last = publish_growing(connection, 2)
    connection.execute("update ops.publications set row_count = 10 where as_of_date = ?", [days_before(10)])
    assert row_count_check(connection, last * 1.02)[2] == (
        "between -3.00 % and 7.00 %, z up to 5, by 19 earlier changes, median 2.00 % a day"
    )


def test_a_measure_that_is_watched_since_today_has_no_history(connection: duckdb.DuckDBPyConnection) -> None:
    last = publish_growing(connection, 2)
    connection.execute("update ops.publications set row_count = null")
    _, observed, expected, passed = row_count_check(connection, last)
    assert observed.endswith("nothing comparable published")
    assert "0 of 7 earlier changes" in expected
    assert passed
