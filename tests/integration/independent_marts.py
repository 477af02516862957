"""The marts a second time, in pandas, from the definitions of docs/aggregate_marts_guide.md and none of the SQL.

Amounts are whole cents, so sums are exact; ratios are exact decimals, rounded half up to four digits.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

import pandas as pd

# A row by column; the rows of a mart by their key: (customer_id,), or with a month or a merchant category.
Row = dict[str, Any]
Rows = dict[tuple, Row]

TRAVEL = ["Travel", "Airlines", "Hotels"]
NECESSITIES = ["Grocery", "Gas", "Utilities"]
UNCATEGORIZED = "Uncategorized"
OTHERS = ["Dining", "Entertainment", "Retail", "Healthcare", UNCATEGORIZED]
BEGINNING = date(1900, 1, 1)
LARGEST_AMOUNT_CENTS = 1_000_000_00

HISTORY_COLUMNS = [
    "as_of_date", "customer_id", "customer_key", "card_type", "credit_limit", "customer_segment", "tenure_months",
    "lifetime_value", "total_transactions", "customer_age_days", "avg_spend_per_day", "avg_transaction_value",
    "transaction_value_stddev", "median_transaction_value", "spending_consistency", "spend_last_90_days",
    "spend_prior_90_days", "spend_change_pct", "avg_monthly_spend", "days_since_last_transaction", "recency_status",
    "travel_spend_pct", "necessities_spend_pct", "spending_profile", "eligible_for_retention_campaign",
    "eligible_for_onboarding_campaign", "eligible_for_premium_campaign",
]  # fmt: skip


@dataclass(frozen=True)
class Delivery:
    """raw.customers as a run saw it, and the as_of_date of that run."""

    seen_on: date
    customers: pd.DataFrame


@dataclass(frozen=True)
class Transactions:
    """raw.transactions sorted out: usable has a row per transaction_id, with its amount in cents."""

    usable: pd.DataFrame
    duplicates: int
    rejected: Counter[str]


def _dollars(value: Decimal | int | float) -> Decimal:
    return Decimal(str(value)).quantize(Decimal("0.01"), ROUND_HALF_UP)


def _four_digits(value: Decimal | float) -> Decimal:
    return Decimal(str(value)).quantize(Decimal("0.0001"), ROUND_HALF_UP)


def _ratio(numerator: int, denominator: int, factor: int = 1) -> Decimal | None:
    return _four_digits(Decimal(numerator) * factor / denominator) if denominator else None


def _from_cents(cents: int) -> Decimal:
    return _dollars(Decimal(int(cents)) / 100)


def _mapped(column: pd.Series, function: Callable[[Any], Any]) -> pd.Series:
    """The column with None kept as it is: pandas would turn it into NaN."""
    values = [None if value is None else function(value) for value in column]
    return pd.Series(values, index=column.index, dtype=object)


def _cents(amount: str) -> int | None:
    try:
        number = Decimal(amount)
    except InvalidOperation:
        return None
    if "_" in amount:
        return None
    return int(_dollars(number) * 100) if number.is_finite() else None


def _reject_reason(row: Any, known_customers: set[str]) -> str | None:  # noqa: ANN401 - a named tuple of pandas
    if not row.transaction_id:
        return "no transaction_id"
    if row.customer_id not in known_customers:
        return "unknown customer"
    if not row.transaction_amount:
        return "amount missing"
    if row.cents is None:
        return "amount not a number"
    if row.cents <= 0:
        return "amount not positive"
    if row.cents > LARGEST_AMOUNT_CENTS:
        return "amount above limit"
    if row.transaction_date is None:
        return "date missing"
    if not BEGINNING <= row.transaction_date <= date(2199, 12, 31):
        return "date out of range"
    return None


def sort_out(raw: pd.DataFrame, known_customers: set[str]) -> Transactions:
    """Turn away what cannot be used, then keep the latest ingested row of each transaction_id.

    :raises ValueError: when two different rows of a transaction were ingested at once: the definitions leave open
        which one counts, so such rows have no place in the test data.
    """
    rows = raw.assign(
        status=_mapped(raw.status, lambda status: status.strip().lower()),
        merchant_category=_mapped(raw.merchant_category, lambda category: category.strip().title()),
        cents=_mapped(raw.transaction_amount, _cents),
    )
    reasons = pd.Series([_reject_reason(row, known_customers) for row in rows.itertuples()], rows.index, dtype=object)
    usable = rows[reasons.isna()]
    different = usable.drop_duplicates()
    undecided = different[different.duplicated(["transaction_id", "ingested_at"])]
    if len(undecided):
        raise ValueError(f"ingested at once: {sorted(undecided.transaction_id)}")
    latest = usable.sort_values("ingested_at", na_position="first").drop_duplicates("transaction_id", keep="last")
    return Transactions(
        usable=latest.assign(cents=latest.cents.astype("int64")),
        duplicates=len(usable) - len(latest),
        rejected=Counter(reasons.dropna()),
    )


def _ids(delivered: pd.DataFrame) -> set[str]:
    return {customer_id for customer_id in delivered.customer_id if customer_id}


def known_customers(deliveries: list[Delivery]) -> set[str]:
    """The ids of all customers ever delivered: the others' transactions are rejected."""
    return set().union(*(_ids(delivery.customers) for delivery in deliveries))


def _current_customers(delivered: pd.DataFrame) -> dict[str, Row]:
    """The latest row of each customer by updated_at."""
    named = delivered[delivered.customer_id.isin(_ids(delivered))]
    named = named.assign(email=_mapped(named.email, str.lower))
    latest = named.sort_values("updated_at", na_position="first").drop_duplicates("customer_id", keep="last")
    return {row["customer_id"]: row for row in latest.to_dict("records")}


def _card_versions(deliveries: list[Delivery]) -> dict[str, list[Row]]:
    """The cards of each customer in the order seen: card_type, credit_limit, valid_from, customer_key."""
    versions: dict[str, list[Row]] = {}
    for delivery in deliveries:
        for customer_id, customer in _current_customers(delivery.customers).items():
            seen = versions.setdefault(customer_id, [])
            card = {"card_type": customer["card_type"], "credit_limit": customer["credit_limit"]}
            if seen and {name: seen[-1][name] for name in card} == card:
                continue
            if seen:
                changed_on = customer["updated_at"].date() if customer["updated_at"] else delivery.seen_on
                valid_from = max(seen[-1]["valid_from"], changed_on)
            else:
                valid_from = customer["account_open_date"] or BEGINNING
            key = hashlib.md5(f"{customer_id}|{len(seen) + 1}".encode()).hexdigest()
            seen.append(card | {"valid_from": valid_from, "customer_key": key})
    return versions


def _customers_as_of(deliveries: list[Delivery], first_spent: dict[str, date], as_of_date: date) -> dict[str, Row]:
    """The customers that exist on as_of_date, with the card of that day."""
    versions = _card_versions(deliveries)
    existing = {}
    for customer_id, customer in _current_customers(deliveries[-1].customers).items():
        opened = customer["account_open_date"] or BEGINNING
        if min(opened, first_spent.get(customer_id, opened)) > as_of_date:
            continue
        begun = [version for version in versions[customer_id] if version["valid_from"] <= as_of_date]
        existing[customer_id] = customer | (begun or versions[customer_id][:1])[-1]
    return existing


def _spending(counted: pd.DataFrame, as_of_date: date) -> dict[str, Row]:
    """What a customer's approved transactions until as_of_date add up to; in cents."""
    days_ago = counted.transaction_date.map(lambda day: (as_of_date - day).days)

    def cents_where(condition: pd.Series) -> pd.Series:
        return counted.cents.where(condition, 0)

    groups = counted.assign(
        last_90=cents_where(days_ago < 90),
        prior_90=cents_where((days_ago >= 90) & (days_ago < 180)),
        travel=cents_where(counted.merchant_category.isin(TRAVEL)),
        necessities=cents_where(counted.merchant_category.isin(NECESSITIES)),
    ).groupby("customer_id")
    return groups.agg(
        transactions=("cents", "size"),
        total=("cents", "sum"),
        least=("cents", "min"),
        most=("cents", "max"),
        median=("cents", "median"),
        stddev=("cents", "std"),
        first=("transaction_date", "min"),
        last=("transaction_date", "max"),
        last_90=("last_90", "sum"),
        prior_90=("prior_90", "sum"),
        travel=("travel", "sum"),
        necessities=("necessities", "sum"),
    ).to_dict("index")


def _segment(row: Row) -> str:
    monthly, change, prior = row["avg_monthly_spend"], row["spend_change_pct"], row["spend_prior_90_days"]
    if monthly >= 5000 and row["travel_spend_pct"] >= 25:
        return "High-Value Travelers"
    if change is not None and change <= -30 and prior >= 2000:
        return "Declining"
    grew = change >= 50 if change is not None else row["spend_last_90_days"] > 0
    if row["tenure_months"] <= 6 and grew:
        return "New & Growing"
    if monthly < 1500 and row["necessities_spend_pct"] >= 60:
        return "Budget-Conscious"
    return "Stable Mid-Spenders"


def _segments(spent: Row | None, as_of_date: date) -> Row:
    nothing = {"last_90": 0, "prior_90": 0, "travel": 0, "necessities": 0, "total": 0}
    cents = spent or nothing
    row = {
        "segment_assigned_date": as_of_date,
        "tenure_months": None,
        "spend_last_90_days": _from_cents(cents["last_90"]),
        "spend_prior_90_days": _from_cents(cents["prior_90"]),
        "spend_change_pct": _ratio(cents["last_90"] - cents["prior_90"], cents["prior_90"], 100),
        "avg_monthly_spend": _ratio(cents["last_90"], 300),
        "travel_spend_pct": _ratio(cents["travel"], cents["total"], 100) or Decimal(0),
        "necessities_spend_pct": _ratio(cents["necessities"], cents["total"], 100) or Decimal(0),
        "customer_segment": None,
        "as_of_date": as_of_date,
    }
    if spent:
        first = spent["first"]
        row["tenure_months"] = (as_of_date.year - first.year) * 12 + as_of_date.month - first.month
        row["customer_segment"] = _segment(row)
    return row


def _lifetime(spent: Row | None) -> Row:
    if not spent:
        return {
            "lifetime_value": Decimal(0),
            "total_transactions": 0,
            "first_transaction_date": None,
            "last_transaction_date": None,
            "customer_age_days": 0,
            "avg_spend_per_day": None,
        }
    days = (spent["last"] - spent["first"]).days
    return {
        "lifetime_value": _from_cents(spent["total"]),
        "total_transactions": spent["transactions"],
        "first_transaction_date": spent["first"],
        "last_transaction_date": spent["last"],
        "customer_age_days": days,
        "avg_spend_per_day": _ratio(spent["total"], 100 * days),
    }


def _transaction_values(spent: Row | None) -> Row:
    names = ["avg_transaction_value", "transaction_value_stddev", "min_transaction_value", "max_transaction_value"]
    row = dict.fromkeys([*names, "median_transaction_value", "spending_consistency"])
    if not spent:
        return row
    row["avg_transaction_value"] = _ratio(spent["total"], 100 * spent["transactions"])
    row["min_transaction_value"] = _from_cents(spent["least"])
    row["max_transaction_value"] = _from_cents(spent["most"])
    row["median_transaction_value"] = _four_digits(Decimal(str(spent["median"])) / 100)
    if spent["transactions"] > 1:
        stddev = row["transaction_value_stddev"] = _four_digits(spent["stddev"] / 100)
        row["spending_consistency"] = "Consistent" if stddev < 50 else "Moderate" if stddev < 200 else "Variable"
    return row


def _full_name(customer: Row) -> str | None:
    return " ".join(name for name in (customer["first_name"], customer["last_name"]) if name) or None


def _recency(days: int | None) -> str:
    for limit, status in [(30, "Active (30 days)"), (60, "Recent (60 days)"), (90, "At Risk (90 days)")]:
        if days is not None and days <= limit:
            return status
    return "Inactive (90+ days)"


def _profile(customer: Row, metrics: Row, as_of_date: date) -> Row:
    opened, last, segment = customer["account_open_date"], metrics["last_transaction_date"], metrics["customer_segment"]
    days_since = (as_of_date - last).days if last else None
    described = [
        "customer_key", "first_name", "last_name", "email", "age", "state", "city", "employment_status", "card_type",
        "credit_limit", "account_open_date", "marketing_opt_in", "ads_opt_in", "account_closed_date", "deceased_date",
    ]  # fmt: skip
    return metrics | {
        **{name: customer[name] for name in described},
        "full_name": _full_name(customer),
        "account_age_days": (as_of_date - opened).days if opened else None,
        "days_since_last_transaction": days_since,
        "recency_status": _recency(days_since),
        "spending_profile": (
            "Travel-Focused"
            if metrics["travel_spend_pct"] >= 25
            else "Necessity-Focused"
            if metrics["necessities_spend_pct"] >= 60
            else "Balanced"
        ),
        "eligible_for_retention_campaign": segment == "Declining",
        "eligible_for_onboarding_campaign": segment == "New & Growing",
        "eligible_for_premium_campaign": segment == "High-Value Travelers",
        "churn_risk_score": None,
        "churn_risk_category": None,
        "profile_updated_date": as_of_date,
    }


def _trend(number: int, spend: int, prior: int | None, change: Decimal | None) -> str:
    if number == 1:
        return "First Month"
    if not prior:
        return "High Growth" if spend > 0 else "Flat"
    if change > 0:
        return "High Growth" if change > 50 else "Growth"
    if change == 0:
        return "Flat"
    return "Decline" if change >= -30 else "High Decline"


def _monthly_changes(counted: pd.DataFrame, as_of_date: date) -> Rows:
    """A row per customer and complete month, from the month of the first transaction."""
    last_complete = pd.Period(as_of_date + timedelta(days=1), freq="M") - 1
    months = counted.transaction_date.map(lambda day: pd.Period(day, freq="M"))
    by_month = counted.groupby(["customer_id", months]).cents.sum()
    rows: Rows = {}
    for customer_id, spend in by_month.groupby(level=0):
        spend = spend.droplevel(0)
        dense = spend.reindex(pd.period_range(spend.index.min(), last_complete, freq="M"), fill_value=0)
        prior = None
        for number, (month, cents) in enumerate(dense.items(), start=1):
            change = _ratio(cents - prior, prior, 100) if prior else None
            first_day = month.start_time.date()
            rows[customer_id, first_day] = {
                "customer_id": customer_id,
                "month": first_day,
                "month_number": number,
                "monthly_spend": _from_cents(cents),
                "prior_month_spend": None if prior is None else _from_cents(prior),
                "mom_change_pct": change,
                "mom_trend_category": _trend(number, cents, prior, change),
                "as_of_date": as_of_date,
            }
            prior = int(cents)
    return rows


def _category_spend(counted: pd.DataFrame, as_of_date: date) -> Rows:
    """A row per customer and category with a transaction in the 90 days up to as_of_date."""
    days_ago = counted.transaction_date.map(lambda day: (as_of_date - day).days)
    known = counted.merchant_category.isin([*TRAVEL, *NECESSITIES, *OTHERS])
    recent = counted.assign(merchant_category=counted.merchant_category.where(known, UNCATEGORIZED))[days_ago < 90]
    sums = recent.groupby(["customer_id", "merchant_category"]).cents.agg(["size", "sum"])
    return {
        (customer_id, category): {
            "customer_id": customer_id,
            "merchant_category": category,
            "category_group": (
                "travel" if category in TRAVEL else "necessities" if category in NECESSITIES else "other"
            ),
            "transactions": int(count),
            "spend": _from_cents(cents),
            "as_of_date": as_of_date,
        }
        for (customer_id, category), count, cents in sums.itertuples()
    }


def compute_marts(deliveries: list[Delivery], raw_transactions: pd.DataFrame, as_of_date: date) -> dict[str, Rows]:
    """The rows of every mart for as_of_date, and of customer_360_history for that date.

    :param deliveries: raw.customers as each run saw it, the latest last.
    :param raw_transactions: raw.transactions now.
    """
    usable = sort_out(raw_transactions, known_customers(deliveries)).usable
    counted = usable[(usable.status == "approved") & (usable.transaction_date <= as_of_date)]
    spending = _spending(counted, as_of_date)
    first_spent = {customer_id: spent["first"] for customer_id, spent in spending.items()}
    segment_columns = ["customer_id", "customer_segment", "as_of_date"]
    marts: dict[str, Rows] = {
        name: {}
        for name in (
            "customer_segments",
            "metric_customer_ltv",
            "metric_avg_transaction_value",
            "customer_360_profile",
            "customer_360_history",
        )
    }
    for customer_id, customer in _customers_as_of(deliveries, first_spent, as_of_date).items():
        spent = spending.get(customer_id)
        segments = {"customer_id": customer_id} | _segments(spent, as_of_date)
        common = {name: segments[name] for name in segment_columns}
        lifetime, values = _lifetime(spent), _transaction_values(spent)
        profile = _profile(customer, segments | lifetime | values, as_of_date)
        marts["customer_segments"][customer_id,] = segments
        marts["metric_customer_ltv"][customer_id,] = common | lifetime
        marts["metric_avg_transaction_value"][customer_id,] = common | values
        marts["customer_360_profile"][customer_id,] = profile
        marts["customer_360_history"][customer_id,] = {name: profile[name] for name in HISTORY_COLUMNS}
    marts["customer_category_spend"] = _category_spend(counted, as_of_date)
    marts["metric_mom_spend_change"] = _monthly_changes(counted, as_of_date)
    return marts
