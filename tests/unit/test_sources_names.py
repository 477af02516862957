"""Statuses and categories that the seeds do not know: what validate_sources says of them before anything is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import duckdb
import pytest
from airflow.sdk import DAG

from include.customer_360.dbt_seeds import dbt_seeds
from include.customer_360.operators.validate import ValidateSourcesOperator
from include.customer_360.settings import TEMPLATE_FOLDERS
from local import sources

STATUSES, CATEGORIES = "sources_statuses_known", "sources_categories_known"


@pytest.fixture(scope="module")
def validation() -> str:
    """The SQL of the sources' checks."""
    with DAG("refresh", schedule=None, template_searchpath=TEMPLATE_FOLDERS):
        operator = ValidateSourcesOperator(task_id="look", run_schema="marts_run_1", as_of_date="2026-03-31", drift={})
    operator.resolve_template_files()
    operator.render_template_fields({"run_id": "run_1"})
    return operator.sql


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("create schema raw")
        for table in (sources.CUSTOMERS, sources.TRANSACTIONS):
            connection.execute(f"create table raw.{table.name} ({table.column_definitions})")
        yield connection


def deliver(
    connection: duckdb.DuckDBPyConnection, rows: int, status: str | None = "approved", category: str | None = "Gas"
) -> None:
    connection.execute(
        "insert into raw.transactions (transaction_id, status, merchant_category) select 'T', ?, ? from range(?)",
        [status, category, rows],
    )


def check(connection: duckdb.DuckDBPyConnection, validation: str, name: str) -> tuple[str, str, bool]:
    """Return severity, observed and passed of one check."""
    results = {row[0]: row for row in connection.execute(validation).fetchall()}
    _, severity, observed, _, passed = results[name]
    return severity, observed, passed


def test_what_the_seeds_have_is_known_in_any_case_and_with_blanks_around_it(
    connection: duckdb.DuckDBPyConnection, validation: str
) -> None:
    for row in dbt_seeds()["transaction_statuses"]:
        deliver(connection, 1, f" {row['status'].title()}\t")
    for row in dbt_seeds()["merchant_categories"]:
        deliver(connection, 1, category=f"\n{row['merchant_category'].upper()} ")

    assert check(connection, validation, STATUSES) == ("warn", "each is known", True)
    assert check(connection, validation, CATEGORIES) == ("warn", "each is known", True)


def test_one_unknown_row_warns_and_is_named(connection: duckdb.DuckDBPyConnection, validation: str) -> None:
    deliver(connection, 199)
    deliver(connection, 1, "Settled", "Pets")

    assert check(connection, validation, STATUSES) == (
        "warn",
        "1 of 200 rows (0.50 %) have an unknown one: settled (1)",
        False,
    )
    assert check(connection, validation, CATEGORIES) == (
        "warn",
        "1 of 200 rows (0.50 %) have an unknown one: pets (1)",
        False,
    )


def test_blank_and_missing_statuses_are_unknown_and_such_categories_are_not(
    connection: duckdb.DuckDBPyConnection, validation: str
) -> None:
    deliver(connection, 97)
    for blank in (None, "", " \t"):
        deliver(connection, 1, blank, blank)

    assert check(connection, validation, STATUSES)[1] == "3 of 100 rows (3.00 %) have an unknown one: (blank) (3)"
    assert check(connection, validation, CATEGORIES) == ("warn", "each is known", True)


def test_the_five_most_frequent_are_named(connection: duckdb.DuckDBPyConnection, validation: str) -> None:
    deliver(connection, 1000)
    counts: Mapping[str | None, int] = {"f": 1, "e": 2, None: 3, "d": 3, "c": 4, "b": 5, "B": 1, "x" * 1000: 7}
    for status, rows in counts.items():
        deliver(connection, rows, status)

    assert check(connection, validation, STATUSES)[1] == (
        f"26 of 1026 rows (2.53 %) have 7 unknown ones: {'x' * 60} (7), b (6), c (4), d (3), (blank) (3), ..."
    )


@pytest.mark.parametrize(("unknown", "severity"), [(5, "warn"), (6, "error"), (100, "error")])
def test_more_unknown_statuses_than_a_share_stop_the_run(
    connection: duckdb.DuckDBPyConnection, validation: str, unknown: int, severity: str
) -> None:
    deliver(connection, 100 - unknown)
    deliver(connection, unknown, "Settled")

    assert check(connection, validation, STATUSES)[0] == severity


@pytest.mark.parametrize(("unknown", "severity"), [(50, "warn"), (51, "error")])
def test_more_unknown_categories_than_a_share_stop_the_run(
    connection: duckdb.DuckDBPyConnection, validation: str, unknown: int, severity: str
) -> None:
    deliver(connection, 100 - unknown)
    deliver(connection, unknown, category="Lebensmittel")

    assert check(connection, validation, CATEGORIES)[0] == severity


def test_of_no_rows_nothing_is_unknown(connection: duckdb.DuckDBPyConnection, validation: str) -> None:
    assert check(connection, validation, STATUSES) == ("warn", "each is known", True)
    assert check(connection, validation, CATEGORIES) == ("warn", "each is known", True)
