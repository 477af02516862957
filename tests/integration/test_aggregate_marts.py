"""The marts, built by dbt on DuckDB, against the same marts computed in pandas and against values found by hand."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from edge_customers import (
    AS_OF_DATE,
    DUPLICATES,
    PROFILES,
    PURCHASES,
    REJECTED,
    SAMPLE_CUSTOMERS,
    TRENDS,
    customer_rows,
    transaction_rows,
)
from independent_marts import Delivery, Rows, compute_marts, known_customers, sort_out
from mart_rows import MARTS, assert_same_rows, query, read_rows, read_table
from warehouse_builds import Build, DbtBuilds, insert_rows

from include.customer_360.settings import PROJECT_ROOT

EARLIER = date(2025, 12, 30)
EARLIER_SCHEMA = "marts_run_20251230"
NEVER_NULL = [
    "customer_id", "customer_key", "lifetime_value", "total_transactions", "customer_age_days", "spend_last_90_days",
    "spend_prior_90_days", "avg_monthly_spend", "travel_spend_pct", "necessities_spend_pct", "recency_status",
    "spending_profile", "eligible_for_retention_campaign", "eligible_for_onboarding_campaign",
    "eligible_for_premium_campaign", "segment_assigned_date", "profile_updated_date", "as_of_date",
]  # fmt: skip


def test_all_marts_build(built: Build) -> None:
    statuses = {node: status for node, status in built.statuses.items() if not node.startswith("exposure.")}
    assert set(statuses.values()) == {"success", "pass"}
    models = {node.rsplit(".", 1)[1] for node in built.statuses if node.startswith("model.")}
    assert models >= {*MARTS, "customer_360_history"}
    for mart in [*MARTS, "customer_360_history"]:
        _, ((rows, dates, as_of_date),) = query(
            built.file, f"select count(*), count(distinct as_of_date), max(as_of_date) from {mart}"
        )
        assert rows > 0
        assert (dates, as_of_date) == (1, AS_OF_DATE)


def test_metric_customer_ltv(built: Build, expected: dict[str, Rows]) -> None:
    _assert_mart(built, expected, "metric_customer_ltv")


def test_metric_mom_spend_change(built: Build, expected: dict[str, Rows]) -> None:
    _assert_mart(built, expected, "metric_mom_spend_change")


def test_metric_avg_transaction_value(built: Build, expected: dict[str, Rows]) -> None:
    _assert_mart(built, expected, "metric_avg_transaction_value")


def test_customer_segments(built: Build, expected: dict[str, Rows]) -> None:
    _assert_mart(built, expected, "customer_segments")


def test_customer_category_spend(built: Build, expected: dict[str, Rows]) -> None:
    _assert_mart(built, expected, "customer_category_spend")


def test_the_categories_of_a_customer_add_up_to_the_last_90_days(built: Build) -> None:
    _, differing = query(
        built.file,
        "select customer_id from customer_segments "
        "left join (select customer_id, sum(spend) as spend from customer_category_spend group by all) "
        "using (customer_id) where coalesce(spend, 0) <> spend_last_90_days",
    )
    assert differing == []


def test_customer_360_profile(built: Build, expected: dict[str, Rows]) -> None:
    _assert_mart(built, expected, "customer_360_profile")


def test_customer_360_history(built: Build, expected: dict[str, Rows]) -> None:
    _assert_mart(built, expected, "customer_360_history")


def _assert_mart(built: Build, expected: dict[str, Rows], mart: str) -> None:
    assert len(expected[mart]) >= SAMPLE_CUSTOMERS
    assert_same_rows(mart, read_rows(built.file, mart), expected[mart])


@pytest.mark.parametrize("customer_id", PROFILES)
def test_border_of_a_definition(built: Build, customer_id: str) -> None:
    profile = read_rows(built.file, "customer_360_profile")[customer_id,]
    by_hand = PROFILES[customer_id]
    assert {column: profile[column] for column in by_hand} == by_hand


def test_trend_of_every_month(built: Build) -> None:
    months = read_rows(built.file, "metric_mom_spend_change", "customer_id = 'TRENDS'").values()
    by_month = {
        row["month"]: (row["monthly_spend"], row["mom_change_pct"], row["mom_trend_category"]) for row in months
    }
    assert by_month == TRENDS
    assert [row["month_number"] for row in sorted(months, key=lambda row: row["month"])] == list(range(1, 11))


def test_every_segment_recency_and_trend_occurs(expected: dict[str, Rows]) -> None:
    """Else the comparison with pandas would say nothing of them."""
    profiles = expected["customer_360_profile"].values()
    assert {row["customer_segment"] for row in profiles} == {
        "High-Value Travelers",
        "Declining",
        "New & Growing",
        "Budget-Conscious",
        "Stable Mid-Spenders",
        None,
    }
    assert len({row["recency_status"] for row in profiles}) == 4
    assert len({row["spending_profile"] for row in profiles}) == 3
    assert {row["spending_consistency"] for row in profiles} == {"Consistent", "Moderate", "Variable", None}
    assert len({row["mom_trend_category"] for row in expected["metric_mom_spend_change"].values()}) == 6


# Besides the guide's columns: what decides whether a customer may be written to.
WHOM_AN_AUDIENCE_MAY_HOLD = {"ads_opt_in", "account_closed_date", "deceased_date"}


def test_profile_is_complete(built: Build) -> None:
    columns, _ = query(built.file, "from customer_360_profile limit 0")
    assert set(columns) == _columns_of_the_guide() | WHOM_AN_AUDIENCE_MAY_HOLD
    counts = ", ".join(f"count(*) - count({column})" for column in NEVER_NULL)
    _, ((customers, distinct, *missing),) = query(
        built.file, f"select count(*), count(distinct customer_id), {counts} from customer_360_profile"
    )
    assert distinct == customers == SAMPLE_CUSTOMERS + len(PURCHASES) + 1 - len(["NOT_YET_OPEN"])
    assert dict(zip(NEVER_NULL, missing, strict=True)) == dict.fromkeys(NEVER_NULL, 0)
    _, ((without_segment, without_transaction),) = query(
        built.file,
        "select count(*) filter (customer_segment is null), count(*) filter (total_transactions = 0) "
        "from customer_360_profile",
    )
    assert without_segment == without_transaction >= 2


def _columns_of_the_guide() -> set[str]:
    guide = (PROJECT_ROOT / "docs" / "aggregate_marts_guide.md").read_text()
    schema = guide.partition("## Customer 360 Schema\n")[2].partition("\n---\n")[0]
    return {name for line in re.findall(r"^- ([^:\n]+)", schema, re.M) for name in re.findall(r"`(\w+)`", line)}


def test_history_holds_no_personal_data(built: Build) -> None:
    columns, _ = query(built.file, "from customer_360_history limit 0")
    assert not {"first_name", "last_name", "full_name", "email", "state", "city", "age"} & set(columns)


def test_join_integrity(built: Build) -> None:
    profiles = read_rows(built.file, "customer_360_profile")
    for mart in ("customer_segments", "metric_customer_ltv", "metric_avg_transaction_value", "customer_360_history"):
        rows = read_rows(built.file, mart)
        assert rows.keys() == profiles.keys()
        assert {key: row["customer_segment"] for key, row in rows.items()} == {
            key: row["customer_segment"] for key, row in profiles.items()
        }
    spenders = {key[0] for key, row in profiles.items() if row["total_transactions"]}
    assert {customer_id for customer_id, _ in read_rows(built.file, "metric_mom_spend_change")} == spenders
    _, unresolved = query(
        built.file,
        """
        select p.customer_id
        from customer_360_profile p
        left join core.dim_customer d on p.customer_key = d.customer_key
        where
            d.customer_id is distinct from p.customer_id
            or not d.is_current
            or d.card_type is distinct from p.card_type
        """,
    )
    assert unresolved == []
    # The last day of February is in, so the complete months hold the whole lifetime value.
    _, different = query(
        built.file,
        """
        select l.customer_id, l.lifetime_value, sum(m.monthly_spend)
        from metric_customer_ltv l
        left join metric_mom_spend_change m on l.customer_id = m.customer_id
        group by all having l.lifetime_value <> coalesce(sum(m.monthly_spend), 0)
        """,
    )
    assert different == []


def test_every_raw_row_is_accepted_a_duplicate_or_rejected(built: Build, delivery: Delivery) -> None:
    raw = read_table(built.file, "raw.transactions")
    sorted_out = sort_out(raw, known_customers([delivery]))
    accepted = read_table(built.file, "core.fct_transactions")
    reasons = Counter(read_table(built.file, "core.rejected_transactions").reject_reason)
    by_hand = Counter(REJECTED) + Counter(
        {
            "no transaction_id": 2,
            "unknown customer": 2,
            "amount missing": 2,
            "amount not a number": 2,
            "amount not positive": 4,
            "date missing": 2,
        }
    )
    assert reasons == sorted_out.rejected == by_hand
    assert sorted_out.duplicates > DUPLICATES
    assert len(raw) == len(accepted) + sorted_out.duplicates + reasons.total()
    columns = ["transaction_id", "customer_id", "transaction_date", "cents", "status"]
    accepted["cents"] = (accepted.transaction_amount * 100).astype("int64")
    assert set(accepted[columns].itertuples(index=False, name=None)) == set(
        sorted_out.usable[columns].itertuples(index=False, name=None)
    )


def test_duplicates_made_by_hand(built: Build) -> None:
    _, ((rows, transactions),) = query(
        built.file,
        "select count(*), count(distinct transaction_id) from staging.stg_transaction_rows "
        "where customer_id = 'CORRECTIONS' and reject_reason is null",
    )
    assert rows - transactions == DUPLICATES


def test_query_patterns(built: Build, expected: dict[str, Rows]) -> None:
    lookup = "select * from customer_360_profile where customer_id = ?"
    columns, rows = query(built.file, lookup, ["CUST00000001"])
    assert len(rows) == 1
    found = {("CUST00000001",): dict(zip(columns, rows[0], strict=True))}
    assert_same_rows("lookup", found, {key: expected["customer_360_profile"][key] for key in found})
    assert query(built.file, lookup, ["CUST99999999"])[1] == []

    _, segments = query(
        built.file, "select customer_segment, count(*), sum(lifetime_value) from customer_360_profile group by all"
    )
    profiles = expected["customer_360_profile"].values()
    customers, values = Counter(), Counter()
    for row in profiles:
        customers[row["customer_segment"]] += 1
        values[row["customer_segment"]] += row["lifetime_value"]
    assert {segment: (count, value) for segment, count, value in segments} == {
        segment: (customers[segment], values[segment]) for segment in customers
    }

    for campaign, segment in [
        ("retention", "Declining"),
        ("onboarding", "New & Growing"),
        ("premium", "High-Value Travelers"),
    ]:
        _, eligible = query(
            built.file, f"select customer_id from customer_360_profile where eligible_for_{campaign}_campaign"
        )
        in_segment = {row["customer_id"] for row in profiles if row["customer_segment"] == segment}
        assert {customer_id for (customer_id,) in eligible} == in_segment


# The refresh: what arrives after the build, for the same as_of_date.
CORRECTED, CARD_CHANGED, MISTAKEN = "CUST00000001", "CUST00000002", "CUST00000003"
NEWCOMER = "NEWCOMER"
CARD_CHANGED_ON = date(2026, 2, 10)
CORRECTED_AMOUNT, LATE_AMOUNT, NEW_AMOUNT = Decimal("999.99"), Decimal("12.34"), Decimal("5.00")


@dataclass(frozen=True)
class Refresh:
    """The warehouse after the second build, the customers delivered before it and now, and the amount corrected."""

    build: Build
    deliveries: list[Delivery]
    amount_before: Decimal
    card_before: str
    expected: dict[str, Rows]


@pytest.fixture(scope="module")
def refresh(built: Build, dbt_builds: DbtBuilds, delivery: Delivery) -> Refresh:
    sources = dbt_builds.folder / "more_sources.duckdb"
    shutil.copyfile(built.file, sources)
    amount_before = _deliver_more_transactions(sources)
    card_before = delivery.customers.set_index("customer_id").card_type[CARD_CHANGED]
    newcomer = customer_rows()[0] | {"customer_id": NEWCOMER, "account_open_date": date(2026, 2, 1)}
    insert_rows(sources, "customers", [newcomer])
    with duckdb.connect(str(sources)) as connection:
        connection.execute(
            "update raw.customers set card_type = ?, updated_at = ? where customer_id = ?",
            ["Standard" if card_before == "Premium" else "Premium", f"{CARD_CHANGED_ON} 15:00:00", CARD_CHANGED],
        )
    deliveries = [delivery, Delivery(AS_OF_DATE, read_table(sources, "raw.customers"))]
    return Refresh(
        build=dbt_builds.build(sources, "refreshed", AS_OF_DATE),
        deliveries=deliveries,
        amount_before=amount_before,
        card_before=card_before,
        expected=compute_marts(deliveries, read_table(sources, "raw.transactions"), AS_OF_DATE),
    )


def _deliver_more_transactions(sources: Path) -> Decimal:
    """Insert the rows of the refresh; return the amount, as it was, of the transaction that is corrected."""
    columns, rows = query(
        sources,
        """
        select * from raw.transactions
        where customer_id in (?, ?) and status = 'approved' and transaction_date between '2026-01-01' and '2026-01-31'
        qualify count(*) over (partition by transaction_id) = 1
        order by transaction_id
        """,
        [CORRECTED, CARD_CHANGED],
    )
    january = [dict(zip(columns, row, strict=True)) for row in rows]
    corrected = next(row for row in january if row["customer_id"] == CORRECTED)
    repeated = next(row for row in january if row["customer_id"] == CARD_CHANGED)
    new = transaction_rows()[0] | {"customer_id": CORRECTED, "status": "approved", "ingested_at": "2026-03-02 05:00:00"}
    insert_rows(
        sources,
        "transactions",
        [
            corrected | {"transaction_amount": str(CORRECTED_AMOUNT), "ingested_at": "2026-03-02 05:00:00"},
            new | {"transaction_id": "L1", "transaction_date": "2025-06-15", "transaction_amount": str(LATE_AMOUNT)},
            new | {"transaction_id": "L2", "transaction_date": "2026-02-28", "transaction_amount": str(NEW_AMOUNT)},
            repeated,
            new | {"transaction_id": "L3", "transaction_amount": "n/a", "customer_id": MISTAKEN},
            new | {"transaction_id": "L4", "transaction_date": "2026-03-01", "customer_id": MISTAKEN},
        ],
    )
    return Decimal(corrected["transaction_amount"])


@pytest.mark.parametrize("mart", [*MARTS, "customer_360_history"])
def test_refresh_changes_the_customers_it_concerns_and_no_other(built: Build, refresh: Refresh, mart: str) -> None:
    before, after = read_rows(built.file, mart), read_rows(refresh.build.file, mart)
    changed = {key[0] for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    with_card = {CARD_CHANGED} if mart.startswith("customer_360") else set()
    assert changed == {CORRECTED, NEWCOMER} | with_card
    assert_same_rows(mart, after, refresh.expected[mart])


def test_refresh_moves_the_lifetime_value_by_what_arrived(built: Build, refresh: Refresh) -> None:
    before = read_rows(built.file, "metric_customer_ltv")[CORRECTED,]
    after = read_rows(refresh.build.file, "metric_customer_ltv")
    moved = after[CORRECTED,]["lifetime_value"] - before["lifetime_value"]
    assert moved == CORRECTED_AMOUNT - refresh.amount_before + LATE_AMOUNT + NEW_AMOUNT
    assert after[CORRECTED,]["total_transactions"] == before["total_transactions"] + 2
    # Delivered before its customer was known, and rejected then.
    assert after[NEWCOMER,]["lifetime_value"] == Decimal("44.00")


def test_refresh_counts_what_it_could_not_use(built: Build, refresh: Refresh) -> None:
    reasons = [
        Counter(read_table(file, "core.rejected_transactions").reject_reason)
        for file in (built.file, refresh.build.file)
    ]
    reasons[0].update({"amount not a number": 1, "unknown customer": -1})
    assert reasons[1] == reasons[0]
    # Of the six new rows and the newcomer's old one: a correction, a repeat and a rejected row are no new transactions.
    _, ((before,),) = query(built.file, "select count(*) from core.fct_transactions")
    _, ((after,),) = query(refresh.build.file, "select count(*) from core.fct_transactions")
    assert after - before == 4


@pytest.fixture(scope="module")
def rerun(refresh: Refresh, dbt_builds: DbtBuilds) -> Build:
    return dbt_builds.build(refresh.build.file, "rerun", AS_OF_DATE)


def test_rerun_changes_nothing(refresh: Refresh, rerun: Build) -> None:
    _, names = query(
        rerun.file,
        "select schema_name || '.' || table_name from duckdb_tables() "
        "where schema_name in ('core', 'intermediate', 'marts') order by all",
    )
    tables = [name for (name,) in names]
    assert {f"marts.{mart}" for mart in MARTS} < set(tables)
    assert {"core.fct_transactions", "core.customers_snapshot", "marts.customer_360_history"} < set(tables)
    assert [table for table in tables if _differing_rows(refresh.build.file, rerun.file, table)] == []


def _differing_rows(before: Path, after: Path, table: str) -> int:
    """Count the rows that one of the two files has and the other has not."""
    with duckdb.connect() as connection:
        connection.execute(f"attach '{before}' as before (read_only)")
        connection.execute(f"attach '{after}' as after (read_only)")
        (rows,) = connection.execute(
            f"""
            select count(*)
            from (
                (from before.{table} except all from after.{table})
                union all
                (from after.{table} except all from before.{table})
            )
            """
        ).fetchone()
    return rows


@pytest.fixture(scope="module")
def backfill(rerun: Build, dbt_builds: DbtBuilds) -> Build:
    """An earlier date, built into a schema of its own."""
    return dbt_builds.build(rerun.file, "backfilled", EARLIER, EARLIER_SCHEMA)


@pytest.fixture(scope="module")
def expected_then(refresh: Refresh, backfill: Build) -> dict[str, Rows]:
    return compute_marts(refresh.deliveries, read_table(backfill.file, "raw.transactions"), EARLIER)


@pytest.mark.parametrize("mart", MARTS)
def test_earlier_date_is_rebuilt_as_it_was(backfill: Build, expected_then: dict[str, Rows], mart: str) -> None:
    assert_same_rows(mart, read_rows(backfill.file, mart, schema=EARLIER_SCHEMA), expected_then[mart])


def test_earlier_date_shows_the_card_of_then(refresh: Refresh, backfill: Build) -> None:
    then = read_rows(backfill.file, "customer_360_profile", schema=EARLIER_SCHEMA)
    now = read_rows(backfill.file, "customer_360_profile")
    assert then[CARD_CHANGED,]["card_type"] == refresh.card_before
    assert now[CARD_CHANGED,]["card_type"] != refresh.card_before
    assert then[CARD_CHANGED,]["customer_key"] != now[CARD_CHANGED,]["customer_key"]
    # Opened since.
    assert (NEWCOMER,) in now
    assert (NEWCOMER,) not in then
    assert ("OPENED_THAT_DAY",) not in then


def test_earlier_date_leaves_the_marts_and_the_history_of_other_dates(
    refresh: Refresh, backfill: Build, expected_then: dict[str, Rows]
) -> None:
    for mart in [*MARTS, "customer_360_history"]:
        assert read_rows(backfill.file, mart) == read_rows(refresh.build.file, mart)
    then = read_rows(backfill.file, "customer_360_history", schema=EARLIER_SCHEMA)
    assert_same_rows("customer_360_history", then, expected_then["customer_360_history"])
