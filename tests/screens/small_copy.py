"""A small published copy whose figures can be worked out by hand: eight customers, two campaigns, five nights.

customer  segment                state  card      ATV x n        last 90  prior 90  recency
C1        High-Value Travelers   NY     Premium   400 x 300      18,000   15,000    Active (30 days)
C2        High-Value Travelers   CA     Premium   300 x 200      15,000   16,000    Active (30 days)
C3        Declining              NY     Premium   200 x 300       1,000    4,000    At Risk (90 days)
C4        Declining              TX     Standard  100 x 100         900    2,500    Inactive (90+ days)
C5        Stable Mid-Spenders    NY     Standard   80 x 250       3,000    3,000    Active (30 days)
C6        Budget-Conscious       CA     Standard   40 x 200       1,200    1,000    Active (30 days)
C7        New & Growing          TX     Standard   50 x 20          800        0    Recent (60 days)
C8        none: no transaction   TX     Standard                                     Inactive (90+ days)

lifetime value: 120,000 + 60,000 + 60,000 + 10,000 + 20,000 + 8,000 + 1,000 + 0 = 279,000 of 8 customers
transactions: 300 + 200 + 300 + 100 + 250 + 200 + 20 = 1,370
last 90 days: 39,900; the 90 days before: 41,500
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import duckdb

from include.customer_360.catalog import MANIFEST, load_catalog
from include.customer_360.operators.published_copy import renew_copy
from include.customer_360.ops_tables import ops_columns
from include.customer_360.settings import Settings

AS_OF = datetime.date(2026, 3, 31)
MONTH_BEFORE = datetime.date(2026, 3, 1)
PUBLISHED_AT = datetime.datetime(2026, 4, 1, 7, 2)
RUN = "scheduled__2026-04-01"

_NAMES = ("Ada Stone", "Ben Rivers", "Cy O'Neil", "Dee Hill", "Eve Woods", "Flo Marsh", "Gus Field", "Hal Brook")
_SEGMENTS = (
    *("High-Value Travelers", "High-Value Travelers", "Declining", "Declining"),
    *("Stable Mid-Spenders", "Budget-Conscious", "New & Growing", None),
)
_STATES = ("NY", "CA", "NY", "TX", "NY", "CA", "TX", "TX")
_CARDS = ("Premium", "Premium", "Premium", "Standard", "Standard", "Standard", "Standard", "Standard")
_ATV = (400, 300, 200, 100, 80, 40, 50, None)
_TRANSACTIONS = (300, 200, 300, 100, 250, 200, 20, 0)
_LAST = (18000, 15000, 1000, 900, 3000, 1200, 800, 0)
_PRIOR = (15000, 16000, 4000, 2500, 3000, 1000, 0, 0)
_RECENCY = (
    *("Active (30 days)", "Active (30 days)", "At Risk (90 days)", "Inactive (90+ days)"),
    *("Active (30 days)", "Active (30 days)", "Recent (60 days)", "Inactive (90+ days)"),
)
_DAYS_SINCE = (1, 2, 75, 120, 3, 5, 40, None)


def customer_id(number: int) -> str:
    """Return the id of a customer, counted from 1."""
    return f"CUST{number:08d}"


def profiles() -> list[dict[str, Any]]:
    """Return the rows of customer_360_profile that the docstring above says."""
    return [
        {
            "customer_id": customer_id(number),
            "customer_key": f"key{number}",
            "full_name": _NAMES[index],
            "first_name": _NAMES[index].partition(" ")[0],
            "last_name": _NAMES[index].partition(" ")[2],
            "email": f"{_NAMES[index].partition(' ')[0].lower()}@mail.example.com",
            "age": 30 + number,
            "state": _STATES[index],
            "city": "Springfield",
            "employment_status": "Employed",
            "card_type": _CARDS[index],
            "credit_limit": 10_000 * number,
            "account_open_date": datetime.date(2024, number, 1),
            "account_age_days": (AS_OF - datetime.date(2024, number, 1)).days,
            "marketing_opt_in": None if number == 6 else number != 4,
            "customer_segment": _SEGMENTS[index],
            "segment_assigned_date": AS_OF,
            "tenure_months": {7: 3, 8: None}.get(number, 20),
            "lifetime_value": (_ATV[index] or 0) * _TRANSACTIONS[index],
            "total_transactions": _TRANSACTIONS[index],
            "avg_transaction_value": _ATV[index],
            "spend_last_90_days": _LAST[index],
            "spend_prior_90_days": _PRIOR[index],
            "spend_change_pct": round((_LAST[index] / _PRIOR[index] - 1) * 100, 4) if _PRIOR[index] else None,
            "avg_monthly_spend": round(_LAST[index] / 3, 4),
            "days_since_last_transaction": _DAYS_SINCE[index],
            "recency_status": _RECENCY[index],
            "travel_spend_pct": 30 if number < 3 else 5,
            "necessities_spend_pct": 65 if number == 6 else 20,
            "spending_profile": "Travel-Focused" if number < 3 else "Balanced",
            "eligible_for_retention_campaign": _SEGMENTS[index] == "Declining",
            "eligible_for_onboarding_campaign": _SEGMENTS[index] == "New & Growing",
            "eligible_for_premium_campaign": _SEGMENTS[index] == "High-Value Travelers",
            "profile_updated_date": AS_OF,
            "as_of_date": AS_OF,
        }
        for index, number in enumerate(range(1, 9))
    ]


def history() -> Iterable[dict[str, Any]]:
    """Return the rows of customer_360_history: AS_OF, and MONTH_BEFORE without C7, when C3 was a stable spender."""
    kept = set(columns_of("customer_360_history"))
    for row in profiles():
        yield {name: value for name, value in row.items() if name in kept}
        if row["customer_id"] == customer_id(7):
            continue
        before = {name: value for name, value in row.items() if name in kept} | {"as_of_date": MONTH_BEFORE}
        before["lifetime_value"] = row["lifetime_value"] * 0.9
        if row["customer_id"] == customer_id(3):
            before |= {"customer_segment": "Stable Mid-Spenders", "recency_status": "Active (30 days)"}
        yield before


def months() -> Iterable[dict[str, Any]]:
    """Return metric_mom_spend_change: January to March of who has a transaction, 100 a month more each time.

    C4 spent nothing in February. C7 had the first transaction then.
    """
    for row in profiles():
        if row["customer_segment"] is None:
            continue
        base = round(float(row["spend_last_90_days"]) / 3)
        first = 2 if row["customer_id"] == customer_id(7) else 1
        prior = None
        for month in range(first, 4):
            spend = 0 if (row["customer_id"], month) == (customer_id(4), 2) else base + 100 * (month - 1)
            if prior is None:
                trend = "First Month"
            elif spend:
                trend = "Growth" if prior else "High Growth"
            else:
                trend = "High Decline"
            yield {
                "customer_id": row["customer_id"],
                "month": datetime.date(2026, month, 1),
                "month_number": month - first + 1,
                "monthly_spend": spend,
                "prior_month_spend": prior,
                "mom_change_pct": round((spend / prior - 1) * 100, 4) if prior else None,
                "mom_trend_category": trend,
                "as_of_date": AS_OF,
            }
            prior = spend


def results() -> list[dict[str, Any]]:
    """Return campaign_results: of retention one wave after 30 days, a lift of 20 dollars a customer (10 %), 5 to 35."""
    return [
        {
            "campaign": "retention",
            "wave_date": datetime.date(2026, 2, 20),
            "horizon_days": 30,
            "treated_customers": 950,
            "held_out_customers": 50,
            "treated_spend_before": 190_000,
            "treated_spend_before_per_customer": 200,
            "treated_spend_after": 209_000,
            "treated_spend_after_per_customer": 220,
            "held_out_spend_before": 10_000,
            "held_out_spend_before_per_customer": 200,
            "held_out_spend_after": 10_000,
            "held_out_spend_after_per_customer": 200,
            "plain_lift": 20,
            "plain_lift_low": -10,
            "plain_lift_high": 50,
            "theta": 0.8,
            "variance_reduction_pct": 60,
            "lift": 20,
            "lift_low": 5,
            "lift_high": 35,
            "lift_standard_error": 7.65,
            "lift_pct": 10,
            "is_significant": True,
            "minimum_detectable_effect": 21.4,
            "total_effect": 19_000,
            "total_effect_low": 4_750,
            "total_effect_high": 33_250,
            "as_of_date": AS_OF,
        }
    ]


def memberships() -> Iterable[dict[str, Any]]:
    """Return ops.audience_memberships of AS_OF and the day before.

    retention, AS_OF: C3 exported (entered the day before), C4 suppressed (no consent). premium, AS_OF: C1 exported,
    entered; C2 held out.
    """
    day_before = AS_OF - datetime.timedelta(days=1)
    rows: list[
        tuple[str, datetime.date, int, str, str | None, str | None, int | None, bool | None, datetime.date | None]
    ]
    rows = [
        ("retention", day_before, 3, "exported", None, "treated", 1, True, day_before),
        ("retention", AS_OF, 3, "exported", None, "treated", 1, False, day_before),
        ("retention", AS_OF, 4, "suppressed", "no consent", None, None, None, None),
        ("premium", AS_OF, 1, "exported", None, "treated", 1, True, AS_OF),
        ("premium", AS_OF, 2, "held_out", None, "held_out", 2, True, AS_OF),
    ]
    for campaign, day, number, status, reason, split, rank, entered, entered_on in rows:
        yield {
            "campaign": campaign,
            "as_of_date": day,
            "customer_id": customer_id(number),
            "status": status,
            "reason": reason,
            "split_group": split,
            "rank": rank,
            "entered": entered,
            "entered_on": entered_on,
            "ads_consent": False,
            "dag_run_id": f"exports__{day}",
            "decided_at": datetime.datetime.combine(day, datetime.time(8)) + datetime.timedelta(days=1),
        }


def exports() -> Iterable[dict[str, Any]]:
    """Return ops.export_runs, one for each of the decisions above."""
    day_before = AS_OF - datetime.timedelta(days=1)
    for campaign, day, counts in (
        ("retention", day_before, {"eligible": 1, "exported": 1, "entered": 1, "left_audience": 0}),
        ("retention", AS_OF, {"eligible": 2, "suppressed": 1, "exported": 1, "entered": 0, "left_audience": 0}),
        ("premium", AS_OF, {"eligible": 2, "held_out": 1, "exported": 1, "entered": 1, "left_audience": 0}),
    ):
        finished = datetime.datetime.combine(day, datetime.time(8, 1)) + datetime.timedelta(days=1)
        yield {
            **dict.fromkeys(("suppressed", "capped", "outranked", "over_limit", "held_out"), 0),
            **counts,
            "campaign": campaign,
            "destination": "csv",
            "as_of_date": day,
            "dag_run_id": f"exports__{day}",
            "state": "exported",
            "file": f"exports/{campaign}/as_of_date={day}/audience.csv",
            "sha256": "0" * 64,
            "started_at": finished - datetime.timedelta(seconds=5),
            "finished_at": finished,
        }


def nights() -> list[dict[str, Any]]:
    """Return ops.nights: AS_OF and the day before went well; a run in between failed."""
    return [
        _night("scheduled__2026-03-31", AS_OF - datetime.timedelta(days=1), "success", 50),
        _night("manual__broken", AS_OF, "failed", 60)
        | {"failed_task": "validate_sources", "reason": "The sources of 2026-03-31 are not ready."},
        _night(RUN, AS_OF, "success", 40),
    ]


def _night(run: str, as_of_date: datetime.date, state: str, minutes_before: int) -> dict[str, Any]:
    began = PUBLISHED_AT - datetime.timedelta(minutes=minutes_before)
    if as_of_date < AS_OF:
        began -= datetime.timedelta(days=1)
    return {
        "dag_id": "customer_360_refresh",
        "dag_run_id": run,
        "as_of_date": as_of_date,
        "run_type": "scheduled" if run.startswith("scheduled") else "manual",
        "state": state,
        "started_at": began,
        "ended_at": began + datetime.timedelta(seconds=65),
        "published": state == "success",
    }


def night_steps() -> Iterable[dict[str, Any]]:
    """Return ops.night_steps of RUN: 2, 30.5, 4 and 1.5 seconds."""
    for number, (task, seconds) in enumerate(
        {
            "validate_sources": 2.0,
            "dbt_build.fct_transactions": 30.5,
            "validate_marts.validate_metric_customer_ltv": 4.0,
        }.items()
    ):
        yield _step(number, task, seconds)
    yield _step(3, "publish", 1.5)


def _step(number: int, task: str, seconds: float) -> dict[str, Any]:
    return {
        "dag_run_id": RUN,
        "as_of_date": AS_OF,
        "task_id": task,
        "state": "success",
        "started_at": PUBLISHED_AT - datetime.timedelta(minutes=40 - number),
        "seconds": seconds,
    }


def validation_results() -> list[dict[str, Any]]:
    """Return ops.validation_results of RUN: three checks passed, one warned."""
    return [
        {
            "dag_run_id": RUN,
            "mart": mart,
            "as_of_date": AS_OF,
            "run_schema": "marts_run_20260331_00000000",
            "check_name": check,
            "severity": severity,
            "observed": observed,
            "expected": expected,
            "passed": passed,
            "checked_at": PUBLISHED_AT,
        }
        for mart, check, severity, observed, expected, passed in (
            ("metric_customer_ltv", "ltv_equals_fact", "error", "279000.00", "279000.00", True),
            ("metric_customer_ltv", "ltv_one_row_per_customer", "error", "8", "8", True),
            ("customer_360_profile", "profile_one_date", "error", "1", "1", True),
            ("sources", "sources_categories_known", "warn", "3 of 1370 rows have an unknown one", "none", False),
        )
    ]


def publications() -> list[dict[str, Any]]:
    """Return ops.publications of RUN."""
    return [
        {
            "dag_run_id": RUN,
            "as_of_date": AS_OF,
            "mart": "customer_360_profile",
            "row_count": 8,
            "lifetime_value": 279_000,
            "published_at": PUBLISHED_AT,
        }
    ]


def category_spend() -> Iterable[dict[str, Any]]:
    """Return customer_category_spend of C1 and C2: what they spent in the last 90 days, 18,000 and 15,000."""
    for number, category, group, transactions, spend in (
        (1, "Travel", "travel", 12, 12_000),
        (1, "Dining", "other", 40, 6_000),
        (2, "Airlines", "travel", 5, 15_000),
    ):
        yield {
            "customer_id": customer_id(number),
            "merchant_category": category,
            "category_group": group,
            "transactions": transactions,
            "spend": spend,
            "as_of_date": AS_OF,
        }


def rejected() -> Iterable[dict[str, Any]]:
    """Return core.rejected_transactions: three rows of one reason, one of another."""
    for reason in (*["amount not a number"] * 3, "unknown customer"):
        yield {"reject_reason": reason}


def loaded_days() -> Iterable[dict[str, Any]]:
    """Return ops.loaded_transaction_days: 38 rows came on AS_OF, 40 the day before."""
    yield {"arrival_day": AS_OF - datetime.timedelta(days=1), "row_count": 40}
    yield {"arrival_day": AS_OF, "row_count": 38}


def columns_of(mart: str) -> dict[str, str]:
    """Return the columns of a model and their types, as its contract has them."""
    nodes = json.loads(MANIFEST.read_text(encoding="utf-8"))["nodes"]
    described = nodes[f"model.customer_analytics.{mart}"]["columns"]
    return {name: column["data_type"] for name, column in described.items()}


def fill(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    columns: Mapping[str, str],
    rows: Iterable[Mapping[str, Any]],
) -> None:
    """Make a table and fill it; a column that a row does not name is NULL."""
    connection.execute(f"create table {table} ({', '.join(f'{name} {kind}' for name, kind in columns.items())})")
    for row in rows:
        connection.execute(
            f"insert into {table} ({', '.join(row)}) values ({', '.join('?' * len(row))})", list(row.values())
        )


def make_warehouse(file: Path) -> None:
    """Write a warehouse that has what a night publishes, and nothing that it is made of."""
    with duckdb.connect(str(file)) as connection:
        for schema in ("marts", "ops", "core"):
            connection.execute(f"create schema {schema}")
        of_marts = {
            "customer_360_profile": profiles(),
            "customer_360_history": history(),
            "metric_mom_spend_change": months(),
            "campaign_results": results(),
            "customer_category_spend": category_spend(),
        }
        for mart in ("customer_360_history", *(mart.name for mart in load_catalog().published)):
            if mart not in of_marts:
                kept = set(columns_of(mart))
                of_marts[mart] = [{name: row[name] for name in row if name in kept} for row in profiles()]
            fill(connection, f"marts.{mart}", columns_of(mart), of_marts[mart])
        of_ops = {
            "audience_memberships": memberships(),
            "export_runs": exports(),
            "nights": nights(),
            "night_steps": night_steps(),
            "validation_results": validation_results(),
            "publications": publications(),
        }
        for table, columns in ops_columns().items():
            fill(connection, f"ops.{table}", columns, of_ops.get(table, ()))
        fill(connection, "core.rejected_transactions", {"reject_reason": "varchar"}, rejected())
        fill(connection, "ops.loaded_transaction_days", {"arrival_day": "date", "row_count": "bigint"}, loaded_days())


def make_copy(folder: Path) -> None:
    """Write a warehouse into the folder, and the copy of it beside it, as a publication does."""
    file = folder / "warehouse.duckdb"
    make_warehouse(file)
    with duckdb.connect(str(file)) as connection:
        renew_copy(connection.cursor(), Settings(warehouse_file=file), print)
