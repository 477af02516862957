"""Every SQL example of docs/aggregate_marts_guide.md, run on marts that dbt built; their rows computed in pandas."""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import date
from decimal import Decimal
from pathlib import Path
from statistics import fmean
from typing import Any

import duckdb
import pytest
from edge_customers import AS_OF_DATE
from independent_marts import Row, Rows
from mart_rows import query
from warehouse_builds import BUILD, Build, DbtBuilds

from include.customer_360.settings import DBT_PROJECT, PROJECT_ROOT

GUIDE = PROJECT_ROOT / "docs" / "aggregate_marts_guide.md"
CUSTOMER = "CUST00000001"

Marts = dict[str, Rows]


def _examples() -> dict[str, str]:
    """Each statement of the guide's SQL blocks by its heading and, counted from 1, its place under it."""
    examples: dict[str, str] = {}
    heading = ""
    for title, block in re.findall(r"^##+ ([^\n]+)$|^```sql\n(.*?)^```$", GUIDE.read_text(), re.M | re.S):
        if title:
            heading = re.sub(r"[^a-z]+", "-", title.lower()).strip("-")
            continue
        for statement in duckdb.extract_statements(block.replace(":customer_id", "$customer_id")):
            place = 1 + sum(name.startswith(f"{heading} ") for name in examples)
            examples[f"{heading} {place}"] = statement.query
    return examples


EXAMPLES = _examples()


def _ltv(marts: Marts) -> list[Row]:
    return list(marts["metric_customer_ltv"].values())


def _atv(marts: Marts) -> list[Row]:
    return list(marts["metric_avg_transaction_value"].values())


def _mom(marts: Marts) -> list[Row]:
    return list(marts["metric_mom_spend_change"].values())


def _profiles(marts: Marts) -> list[Row]:
    return list(marts["customer_360_profile"].values())


def _top(rows: Iterable[Row], order_by: str, limit: int, descending: bool = True) -> list[Row]:
    """Ordered by a column, NULLs last, ties by customer_id."""
    sign = -1 if descending else 1
    return sorted(rows, key=lambda row: (row[order_by] is None, sign * (row[order_by] or 0), row["customer_id"]))[
        :limit
    ]


def _grouped(rows: Iterable[Row], *by: str) -> dict[tuple, list[Row]]:
    groups = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in by)].append(row)
    return groups


def _mean(rows: Iterable[Row], column: str) -> float | None:
    values = [float(row[column]) for row in rows if row[column] is not None]
    return fmean(values) if values else None


def _total(rows: Iterable[Row]) -> Decimal:
    return sum((row["lifetime_value"] for row in rows), Decimal(0))


def _ltv_tier(row: Row) -> str:
    for limit, tier in [(10_000, "<$10K"), (50_000, "$10K-$50K"), (100_000, "$50K-$100K")]:
        if row["lifetime_value"] < limit:
            return tier
    return "$100K+"


def _ltv_by_segment(marts: Marts) -> list[Row]:
    rows = [
        {"customer_segment": segment, "customer_count": len(group), "avg_ltv": _mean(group, "lifetime_value"),
         "total_segment_value": _total(group)}
        for (segment,), group in _grouped(_ltv(marts), "customer_segment").items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: -row["total_segment_value"])


def _ltv_tiers(marts: Marts) -> list[Row]:
    tiered = [{"ltv_tier": _ltv_tier(row)} for row in _ltv(marts)]
    return [{"ltv_tier": tier, "customer_count": len(group)} for (tier,), group in _grouped(tiered, "ltv_tier").items()]


def _latest_change_by_segment(marts: Marts) -> list[Row]:
    changes = [
        row | {"customer_segment": marts["customer_segments"][row["customer_id"],]["customer_segment"]}
        for row in _mom(marts)
        if row["month"] == date(2026, 2, 1) and row["mom_change_pct"] is not None
    ]
    return [
        {"customer_segment": segment, "avg_mom_change": _mean(group, "mom_change_pct"), "customer_count": len(group)}
        for (segment,), group in _grouped(changes, "customer_segment").items()
    ]


def _biggest_declines(marts: Marts) -> list[Row]:
    fallen = [row for row in _mom(marts) if row["month"] == date(2026, 2, 1) and (row["mom_change_pct"] or 0) < -30]
    return _top(fallen, "mom_change_pct", 100, descending=False)


def _atv_by_segment_and_consistency(marts: Marts) -> list[Row]:
    rows = [
        {"customer_segment": segment, "spending_consistency": consistency, "customer_count": len(group),
         "avg_atv": _mean(group, "avg_transaction_value")}
        for (segment, consistency), group in _grouped(_atv(marts), "customer_segment", "spending_consistency").items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: -(row["avg_atv"] or 0))


def _atv_by_pattern(marts: Marts) -> list[Row]:
    with_deviation = [row for row in _atv(marts) if row["spending_consistency"]]
    return [
        {"spending_pattern": pattern, "customer_count": len(group), "avg_atv": _mean(group, "avg_transaction_value")}
        for (pattern,), group in _grouped(with_deviation, "spending_consistency").items()
    ]


def _segment_summary(marts: Marts) -> list[Row]:
    rows = [
        {"customer_segment": segment, "customer_count": len(group), "avg_ltv": _mean(group, "lifetime_value"),
         "avg_atv": _mean(group, "avg_transaction_value"), "avg_mom_change": _mean(group, "spend_change_pct")}
        for (segment,), group in _grouped(_profiles(marts), "customer_segment").items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: -row["avg_ltv"])


def _churn_risk(marts: Marts) -> list[Row]:
    at_risk = [
        row
        for row in _profiles(marts)
        if row["customer_segment"] == "Declining" or row["recency_status"] == "Inactive (90+ days)"
    ]
    return _top(at_risk, "spend_change_pct", len(at_risk), descending=False)


def _audience(
    segment: str, order_by: str, limit: int, descending: bool, least: int = 0
) -> Callable[[Marts], list[Row]]:
    def rows(marts: Marts) -> list[Row]:
        eligible = [
            row for row in _profiles(marts) if row["customer_segment"] == segment and row["lifetime_value"] >= least
        ]
        return _top(eligible, order_by, limit, descending)

    return rows


def _key_figures(marts: Marts) -> list[Row]:
    profiles = _profiles(marts)
    return [
        {"total_customers": len(profiles), "total_ltv": _total(profiles), "avg_ltv": _mean(profiles, "lifetime_value"),
         "avg_atv": _mean(profiles, "avg_transaction_value")}
    ]  # fmt: skip


def _segment_breakdown(marts: Marts) -> list[Row]:
    return [
        {"customer_segment": segment, "customers": len(group), "avg_ltv": _mean(group, "lifetime_value")}
        for (segment,), group in _grouped(_profiles(marts), "customer_segment").items()
    ]


def _one_profile(marts: Marts) -> list[Row]:
    return [marts["customer_360_profile"][CUSTOMER,]]


LTV, MOM, ATV = "customer-lifetime-value-ltv", "month-over-month-spend-change-mom", "average-transaction-value-atv"
PERSON = ["customer_id", "full_name", "email"]
PREMIUM = _audience("High-Value Travelers", "lifetime_value", 5000, descending=True)

# Per example: the columns it returns (None: all of the profile), whether its order counts, and its rows, of which the
# columns named are compared.
EXPECTED: dict[str, tuple[list[str] | None, bool, Callable[[Marts], list[Row]]]] = {
    f"{LTV} 1": (
        ["customer_id", "lifetime_value"],
        False,
        lambda marts: [row for row in _ltv(marts) if row["total_transactions"]],
    ),
    f"{LTV} 2": (
        ["customer_id", "customer_segment", "lifetime_value", "total_transactions", "avg_spend_per_day"],
        True,
        lambda marts: _top(_ltv(marts), "lifetime_value", 100),
    ),
    f"{LTV} 3": (["customer_segment", "customer_count", "avg_ltv", "total_segment_value"], True, _ltv_by_segment),
    f"{LTV} 4": (["ltv_tier", "customer_count"], False, _ltv_tiers),
    f"{MOM} 1": (["customer_id", "month", "mom_change_pct"], False, _mom),
    f"{MOM} 2": (["customer_segment", "avg_mom_change", "customer_count"], False, _latest_change_by_segment),
    f"{MOM} 3": (
        ["customer_id", "month", "monthly_spend", "prior_month_spend", "mom_change_pct", "mom_trend_category"],
        True,
        _biggest_declines,
    ),
    f"{MOM} 4": (
        ["month", "monthly_spend", "prior_month_spend", "mom_change_pct", "mom_trend_category"],
        True,
        lambda marts: [row for row in _mom(marts) if row["customer_id"] == CUSTOMER],
    ),
    f"{ATV} 1": (
        ["customer_id", "avg_transaction_value"],
        False,
        lambda marts: [row for row in _atv(marts) if row["avg_transaction_value"] is not None],
    ),
    f"{ATV} 2": (
        [
            "customer_id",
            "customer_segment",
            "avg_transaction_value",
            "transaction_value_stddev",
            "spending_consistency",
        ],
        True,
        lambda marts: _top(_atv(marts), "avg_transaction_value", 100),
    ),
    f"{ATV} 3": (
        ["customer_segment", "spending_consistency", "customer_count", "avg_atv"],
        True,
        _atv_by_segment_and_consistency,
    ),
    f"{ATV} 4": (["spending_pattern", "customer_count", "avg_atv"], False, _atv_by_pattern),
    "single-customer-lookup 1": (None, False, _one_profile),
    "segment-dashboard 1": (
        ["customer_segment", "customer_count", "avg_ltv", "avg_atv", "avg_mom_change"],
        True,
        _segment_summary,
    ),
    "high-value-customers 1": (
        [
            *PERSON,
            "lifetime_value",
            "avg_transaction_value",
            "travel_spend_pct",
            "days_since_last_transaction",
            "recency_status",
        ],
        True,
        lambda marts: PREMIUM(marts)[:100],
    ),
    "churn-risk-monitoring 1": (
        [
            *PERSON,
            "customer_segment",
            "lifetime_value",
            "spend_change_pct",
            "days_since_last_transaction",
            "recency_status",
        ],
        True,
        _churn_risk,
    ),
    "campaign-targeting 1": (
        [*PERSON, "lifetime_value", "spend_change_pct"],
        True,
        _audience("Declining", "spend_change_pct", 1000, descending=False, least=50_000),
    ),
    "campaign-targeting 2": (
        [*PERSON, "tenure_months", "spend_change_pct", "avg_monthly_spend"],
        True,
        _audience("New & Growing", "spend_change_pct", 2000, descending=True),
    ),
    "campaign-targeting 3": ([*PERSON, "lifetime_value", "travel_spend_pct"], True, PREMIUM),
    "executive-dashboard 1": (["total_customers", "total_ltv", "avg_ltv", "avg_atv"], False, _key_figures),
    "executive-dashboard 2": (["customer_segment", "customers", "avg_ltv"], False, _segment_breakdown),
    "marketing-campaign-manager 1": (
        ["customer_id", "email", "full_name", "customer_segment"],
        False,
        _audience("Declining", "spend_change_pct", 1000, descending=False),
    ),
    "customer-service-dashboard 1": (None, False, _one_profile),
}


# The only example that needs more than one date.
HISTORY = "customer-history 1"


def test_every_example_is_compared() -> None:
    assert set(EXAMPLES) == {*EXPECTED, HISTORY}


@pytest.mark.parametrize("name", EXPECTED)
def test_example(built: Build, expected: Marts, name: str) -> None:
    columns, ordered, rows = EXPECTED[name]
    parameters = {"customer_id": CUSTOMER} if "$customer_id" in EXAMPLES[name] else None
    got_columns, got = query(built.file, EXAMPLES[name], parameters)
    wanted = rows(expected)
    assert wanted
    if columns is None:
        assert set(got_columns) == set(wanted[0])
    else:
        assert got_columns == columns
    compared = [tuple(row[column] for column in got_columns) for row in wanted]
    if not ordered:
        got, compared = sorted(got, key=_names), sorted(compared, key=_names)
    assert [_names(row) for row in got] == [_names(row) for row in compared]
    assert [_figures(row) for row in got] == [pytest.approx(_figures(row), rel=1e-9, abs=1e-4) for row in compared]


def _is_figure(value: Any) -> bool:  # noqa: ANN401 - any value of a cell
    return isinstance(value, float | Decimal)


def _names(row: tuple) -> str:
    """All but the figures, which are equal only up to rounding."""
    return repr([value for value in row if not _is_figure(value)])


def _figures(row: tuple) -> list[float]:
    return [float(value) for value in row if _is_figure(value)]


def test_history_example_shows_the_customers_who_changed_segment(built: Build, tmp_path: Path) -> None:
    two_dates = tmp_path / "two_dates.duckdb"
    shutil.copyfile(built.file, two_dates)
    with duckdb.connect(str(two_dates)) as connection:
        connection.execute(
            """
            insert into marts.customer_360_history
            select * replace (
                as_of_date - 1 as as_of_date,
                case customer_id when 'FELL_BY_30' then 'New & Growing' else customer_segment end as customer_segment
            )
            from marts.customer_360_history
            """
        )
    columns, rows = query(two_dates, EXAMPLES[HISTORY])
    assert columns == ["customer_id", "prior_segment", "customer_segment"]
    assert rows == [("FELL_BY_30", "New & Growing", "Declining")]


def test_dbt_commands(built: Build, dbt_builds: DbtBuilds) -> None:
    blocks = re.findall(r"^```bash\n(.*?)^```$", GUIDE.read_text(), re.M | re.S)
    commands = set(re.findall(r"^dbt (.*?) *(?:#|$)", "\n".join(blocks), re.M))
    # Every model of the folder, those that were added to the guide's included.
    marketing = {file.stem for file in (DBT_PROJECT / "models" / "marts" / "marketing").glob("*.sql")}
    assert marketing >= {"customer_segments", "metric_customer_ltv", "metric_mom_spend_change"}
    models = {
        "run --select marts": {*marketing, "customer_360_profile", "customer_360_history"},
        "run --select marts.marketing": marketing,
        "run --select customer_360_profile": {"customer_360_profile"},
    }
    tests = ["test --select marts", "test --select metric_customer_ltv", "test --select customer_360_profile"]
    assert commands == {BUILD, *models, *tests}
    # The unit tests among them, which take longest, have a test of their own.
    data_tests = [f"{command} --exclude-resource-type unit_test" for command in tests]
    statuses = dbt_builds.run(built.file, [*models, *data_tests], AS_OF_DATE)
    ran = [{node.rsplit(".", 1)[1] for node in nodes} for nodes in statuses[: len(models)]]
    assert ran == list(models.values())
    of_marts, of_ltv, of_profile = (nodes.keys() for nodes in statuses[len(models) :])
    assert of_ltv < of_marts
    assert of_profile < of_marts
    assert any(node.startswith("test.customer_analytics.unique_metric_customer_ltv_customer_id") for node in of_ltv)
    assert {status for nodes in statuses for status in nodes.values()} == {"success", "pass"}
