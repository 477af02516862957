"""The summary at the end of `make refresh`, printed from a small warehouse."""

from __future__ import annotations

import datetime
import io
from pathlib import Path

import duckdb
import pytest
from rich.console import Console

from include.customer_360.settings import Settings
from local.summary import LEFT_OUT_BY, print_summary

WHY_EMPTY = "no customer meets recency_status = 'Inactive (90+ days)': 0 of 50,000"
DAY = datetime.date(2026, 3, 31)

WAREHOUSE = """
create schema raw;
create schema core;
create schema marts;
create schema ops;
create table raw.customers as select unnest(range(3)) as customer_id;
create table raw.transactions as select unnest(range(1200)) as transaction_id;
create table core.fct_transactions as select unnest(range(1190)) as transaction_id;
create table core.rejected_transactions as
select unnest(['amount missing', 'amount missing', 'unknown customer']) as reject_reason;
create table ops.publications (dag_run_id varchar, mart varchar, row_count bigint);
insert into ops.publications values
    ('this', 'metric_customer_ltv', 1003), ('this', 'customer_360_profile', 3), ('earlier', 'metric_customer_ltv', 9);
create table ops.validation_results (
    dag_run_id varchar, mart varchar, check_name varchar, severity varchar, observed varchar, expected varchar,
    passed boolean
);
insert into ops.validation_results values
    ('this', 'sources', 'fresh', 'warn', '9 days', 'at most 3', false),
    ('this', 'sources', 'not_empty', 'error', '3', 'at least 1', true),
    ('this', 'sources', 'sources_statuses_known', 'warn', '2 of 1200 rows (0.17 %) have an unknown one: settled (2)',
     'only `approved` counts', false),
    ('this', 'metric_customer_ltv', 'reconciles', 'error', '0', '0', true),
    ('earlier', 'metric_customer_ltv', 'reconciles', 'error', '1', '0', false);
create table marts.customer_360_profile as
from (
    values
        (date '2026-03-31', 'Declining', 3000.00, 40.0, -50.0),
        (date '2026-03-31', 'Declining', 1000.00, 60.0, null),
        (date '2026-03-31', null, 0.00, null, null)
) as profile (as_of_date, customer_segment, lifetime_value, avg_transaction_value, spend_change_pct);
"""


@pytest.fixture
def summary(tmp_path: Path) -> list[str]:
    # Named like a schema in it, which DuckDB could not tell from it.
    settings = Settings(warehouse_file=tmp_path / "raw.duckdb", _env_file=None)
    with duckdb.connect() as connection:
        connection.execute(f"attach '{settings.warehouse_file}' as warehouse")
        connection.execute("use warehouse")
        for statement in WAREHOUSE.split(";"):
            connection.execute(statement)
    output = io.StringIO()
    decided = {
        "retention": {
            **{"eligible": 2345, "suppressed": 1103, "capped": 3, "outranked": 2, "over_limit": 1, "held_out": 2},
            **{"exported": 1234, "entered": 17, "reasons": {"suppression list": 3, "no consent": 1100}},
        },
        "premium": dict.fromkeys(("eligible", *LEFT_OUT_BY, "held_out", "exported", "entered"), 0) | {"reasons": {}},
    }
    to = {"destination": "csv"}
    audiences = [
        {"campaign": "retention", **to, "row_count": 1234, "path": "/out/retention/audience.csv"},
        {"campaign": "premium", **to, "row_count": 0, "path": "/out/premium/audience.csv", "why_empty": WHY_EMPTY},
    ]
    print_summary(Console(file=output), settings, DAY, "this", {"metric_customer_ltv": 2.34}, decided, audiences)
    return output.getvalue().splitlines()


def cells(summary: list[str], first: str) -> list[str]:
    """Return the cells of the one line that begins with `first`, as cut by two spaces or more."""
    (line,) = [line for line in summary if line.startswith(first)]
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_raw_rows_are_accounted_for_with_the_rejected_ones_by_reason(summary: list[str]) -> None:
    assert summary[1] == (
        "3 customer rows; 1,200 transaction rows = 1,190 accepted + 7 duplicates + 3 rejected "
        "(2 amount missing, 1 unknown customer)"
    )


def test_each_mart_has_rows_seconds_and_checks_of_this_run_alone(summary: list[str]) -> None:
    assert cells(summary, "metric_customer_ltv") == ["metric_customer_ltv", "1,003", "2.3", "1 of 1"]
    assert cells(summary, "customer_360_profile") == ["customer_360_profile", "3", "0 of 0"]
    assert cells(summary, "sources") == ["sources", "1 of 3"]


def test_a_check_that_warns_is_shown_with_what_it_saw(summary: list[str]) -> None:
    assert "Warning, sources: fresh: observed 9 days; expected at most 3" in summary


def test_unknown_statuses_and_categories_are_shown(summary: list[str]) -> None:
    assert (
        "Warning, sources: sources_statuses_known: observed 2 of 1200 rows (0.17 %) have an unknown one: settled (2); "
        "expected only `approved` counts"
    ) in summary


def test_segments_have_customers_and_averages_over_the_customers_that_have_the_figure(summary: list[str]) -> None:
    assert cells(summary, "Declining") == ["Declining", "2", "2,000.00", "50.00", "-50.00"]
    assert cells(summary, "no transaction yet") == ["no transaction yet", "1", "0.00"]


def test_what_became_of_the_eligible_customers_of_each_campaign_is_shown(summary: list[str]) -> None:
    header = summary.index(
        "campaign   eligible  suppressed  capped  outranked  over limit  held out  exported  entered"
    )
    assert summary[header + 2 : header + 5] == [
        "retention     2,345       1,103       3          2           1         2     1,234       17",
        "premium           0           0       0          0           0         0         0        0",
        "",
    ]
    assert "Suppressed, retention: 1,100 no consent, 3 suppression list" in summary


def test_an_empty_audience_is_a_warning_with_its_reason(summary: list[str]) -> None:
    assert "premium    csv                  0  /out/premium/audience.csv" in summary
    assert f"Warning, audience premium is empty: {WHY_EMPTY}" in summary


def test_audiences_and_the_warehouse_are_named_with_their_paths_and_a_query(summary: list[str], tmp_path: Path) -> None:
    assert "retention  csv              1,234  /out/retention/audience.csv" in summary
    assert summary[-2] == (
        f"Warehouse: {tmp_path}/raw.duckdb. To query what is published of it, also while Airflow runs:"
    )
    assert f"duckdb.connect('{tmp_path}/raw_published.duckdb', read_only=True)" in summary[-1]
