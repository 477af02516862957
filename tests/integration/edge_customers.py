"""The test data: how much of the sample, and customers made by hand for the borders of the definitions.

As of 2026-02-28. The 90 days that end then begin on 2025-12-01, the 90 days before those on 2025-09-02.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

AS_OF_DATE = date(2026, 2, 28)
SAMPLE_CUSTOMERS = 400

# Day, amount as delivered, category, status of each transaction; approved unless said otherwise.
PURCHASES: dict[str, list[tuple]] = {
    "NO_TRANSACTIONS": [],
    "DECLINED_ONLY": [("2026-02-01", "80.00", "Dining", "declined")],
    "ONE_TRANSACTION": [("2026-02-14", "19.99", "Retail")],
    "ONE_DAY": [("2026-02-14", "10.00", "Retail"), ("2026-02-14", "30.00", "Retail")],
    "WINDOWS": [
        ("2025-09-01", "40.00", "Retail"),
        ("2025-09-02", "80.00", "Retail"),
        ("2025-11-30", "10.00", "Retail"),
        ("2025-12-01", "20.00", "Retail"),
        ("2026-02-28", "160.00", "Retail"),
        ("2026-03-01", "320.00", "Retail"),
    ],
    "FELL_BY_30": [("2025-10-01", "2000.00", "Retail"), ("2026-01-10", "1400.00", "Retail")],
    "FELL_BY_LESS": [("2025-10-01", "2000.00", "Retail"), ("2026-01-10", "1400.01", "Retail")],
    "FELL_FROM_LESS": [("2025-10-01", "1999.99", "Retail"), ("2026-01-10", "100.00", "Retail")],
    "RETENTION_1ST": [("2025-10-01", "40000.00", "Retail"), ("2026-01-10", "10000.00", "Retail")],
    "RETENTION_2ND": [("2025-10-01", "60000.00", "Retail"), ("2026-01-10", "30000.00", "Retail")],
    "RETENTION_BELOW": [("2025-10-01", "40000.00", "Retail"), ("2026-01-10", "9999.99", "Retail")],
    "TRAVEL_25": [("2026-01-05", "3750.00", "Hotels"), ("2026-01-06", "11250.00", "Retail")],
    "TRAVEL_BELOW_25": [("2026-01-05", "3749.98", "Airlines"), ("2026-01-06", "11250.02", "Retail")],
    "NECESSITIES_60": [("2025-06-05", "40.00", "Dining"), ("2026-01-05", "60.00", " gas ")],
    "NEW_IN_MONTH_6": [("2025-08-31", "5.00", "Retail"), ("2026-02-01", "70.00", "Retail")],
    "NEW_IN_MONTH_7": [("2025-07-31", "5.00", "Retail"), ("2026-02-01", "70.00", "Retail")],
    "GREW_BY_HALF": [("2025-10-01", "100.00", "Retail"), ("2026-01-01", "150.00", "Retail")],
    "LEAP_DAY": [("2024-02-29", "100.00", "Retail"), ("2024-03-01", "150.00", "Retail")],
    "YEAR_END": [("2025-12-31", "100.00", "Retail"), ("2026-01-01", "105.00", "Retail")],
    "TRENDS": [
        ("2025-05-10", "100.00", "Retail"),
        ("2025-06-10", "150.00", "Retail"),
        ("2025-07-10", "225.01", "Retail"),
        ("2025-08-10", "225.01", "Retail"),
        ("2025-09-10", "200.00", "Retail"),
        ("2025-10-10", "140.00", "Retail"),
        ("2025-11-10", "97.99", "Retail"),
        ("2026-02-10", "0.01", "Retail"),
    ],
    "LAST_SEEN_30": [("2026-01-29", "9.00", "Retail")],
    "LAST_SEEN_31": [("2026-01-28", "9.00", "Retail")],
    "LAST_SEEN_60": [("2025-12-30", "9.00", "Retail")],
    "LAST_SEEN_61": [("2025-12-29", "9.00", "Retail")],
    "LAST_SEEN_90": [("2025-11-30", "9.00", "Retail")],
    "LAST_SEEN_91": [("2025-11-29", "9.00", "Retail")],
    "STDDEV_50": [
        ("2026-01-01", "50.00", "Retail"),
        ("2026-01-02", "100.00", "Retail"),
        ("2026-01-03", "150.00", "Gas"),
    ],
    "STDDEV_200": [("2026-01-01", "50", "Retail"), ("2026-01-02", "250", "Retail"), ("2026-01-03", "450", "Retail")],
    "SPENT_BEFORE_OPENING": [("2026-01-05", "25.00", "Grocery")],
    "SPENT_BEFORE_OPENING_LATER": [("2026-02-20", "30.00", "Grocery")],
    "NOT_YET_OPEN": [],
    "OPENED_THAT_DAY": [],
    "NOTHING_DELIVERED": [("2025-12-24", "75.00", None), ("2025-12-25", "25.00", "traveling", "APPROVED")],
    "TWO_ROWS": [("2025-12-24", "11.00", "Gas")],
}

ACCOUNT_OPEN_DATES = {
    "SPENT_BEFORE_OPENING": "2026-02-01",
    "SPENT_BEFORE_OPENING_LATER": "2026-03-10",
    "NOT_YET_OPEN": "2026-03-01",
    "OPENED_THAT_DAY": "2026-02-28",
}

# What the marts must say of them, worked out by hand: the column and its value as of AS_OF_DATE.
PROFILES: dict[str, dict[str, Any]] = {
    "NO_TRANSACTIONS": {
        "lifetime_value": Decimal("0.00"),
        "total_transactions": 0,
        "customer_age_days": 0,
        "avg_spend_per_day": None,
        "avg_transaction_value": None,
        "spending_consistency": None,
        "spend_last_90_days": Decimal("0.00"),
        "spend_change_pct": None,
        "avg_monthly_spend": Decimal("0.0000"),
        "travel_spend_pct": Decimal("0.0000"),
        "tenure_months": None,
        "customer_segment": None,
        "days_since_last_transaction": None,
        "recency_status": "Inactive (90+ days)",
        "spending_profile": "Balanced",
        "eligible_for_retention_campaign": False,
        "eligible_for_onboarding_campaign": False,
        "eligible_for_premium_campaign": False,
    },
    "DECLINED_ONLY": {"total_transactions": 0, "customer_segment": None, "recency_status": "Inactive (90+ days)"},
    "ONE_TRANSACTION": {
        "lifetime_value": Decimal("19.99"),
        "total_transactions": 1,
        "customer_age_days": 0,
        "avg_spend_per_day": None,
        "avg_transaction_value": Decimal("19.9900"),
        "transaction_value_stddev": None,
        "median_transaction_value": Decimal("19.9900"),
        "spending_consistency": None,
        "tenure_months": 0,
        "customer_segment": "New & Growing",
    },
    "ONE_DAY": {
        "customer_age_days": 0,
        "avg_spend_per_day": None,
        "transaction_value_stddev": Decimal("14.1421"),
        "median_transaction_value": Decimal("20.0000"),
        "spending_consistency": "Consistent",
    },
    "WINDOWS": {
        "lifetime_value": Decimal("310.00"),
        "spend_last_90_days": Decimal("180.00"),
        "spend_prior_90_days": Decimal("90.00"),
        "spend_change_pct": Decimal("100.0000"),
        "avg_monthly_spend": Decimal("60.0000"),
        "last_transaction_date": date(2026, 2, 28),
        "days_since_last_transaction": 0,
        "customer_age_days": 180,
        "avg_spend_per_day": Decimal("1.7222"),
    },
    "FELL_BY_30": {
        "spend_change_pct": Decimal("-30.0000"),
        "customer_segment": "Declining",
        "eligible_for_retention_campaign": True,
    },
    "FELL_BY_LESS": {"spend_change_pct": Decimal("-29.9995"), "customer_segment": "Stable Mid-Spenders"},
    "FELL_FROM_LESS": {"customer_segment": "Stable Mid-Spenders"},
    "TRAVEL_25": {
        "avg_monthly_spend": Decimal("5000.0000"),
        "travel_spend_pct": Decimal("25.0000"),
        "customer_segment": "High-Value Travelers",
        "spending_profile": "Travel-Focused",
        "eligible_for_premium_campaign": True,
    },
    "TRAVEL_BELOW_25": {
        "travel_spend_pct": Decimal("24.9999"),
        "customer_segment": "New & Growing",
        "spending_profile": "Balanced",
    },
    "NECESSITIES_60": {
        "necessities_spend_pct": Decimal("60.0000"),
        "customer_segment": "Budget-Conscious",
        "spending_profile": "Necessity-Focused",
    },
    "NEW_IN_MONTH_6": {
        "tenure_months": 6,
        "customer_segment": "New & Growing",
        "eligible_for_onboarding_campaign": True,
    },
    "NEW_IN_MONTH_7": {"tenure_months": 7, "customer_segment": "Stable Mid-Spenders"},
    "GREW_BY_HALF": {"spend_change_pct": Decimal("50.0000"), "customer_segment": "New & Growing"},
    "LEAP_DAY": {"customer_age_days": 1, "avg_spend_per_day": Decimal("250.0000"), "tenure_months": 24},
    "YEAR_END": {"customer_age_days": 1, "spend_last_90_days": Decimal("205.00"), "tenure_months": 2},
    "LAST_SEEN_30": {"days_since_last_transaction": 30, "recency_status": "Active (30 days)"},
    "LAST_SEEN_31": {"days_since_last_transaction": 31, "recency_status": "Recent (60 days)"},
    "LAST_SEEN_60": {"days_since_last_transaction": 60, "recency_status": "Recent (60 days)"},
    "LAST_SEEN_61": {"days_since_last_transaction": 61, "recency_status": "At Risk (90 days)"},
    "LAST_SEEN_90": {"days_since_last_transaction": 90, "recency_status": "At Risk (90 days)"},
    "LAST_SEEN_91": {"days_since_last_transaction": 91, "recency_status": "Inactive (90+ days)"},
    "STDDEV_50": {"transaction_value_stddev": Decimal("50.0000"), "spending_consistency": "Moderate"},
    "STDDEV_200": {"transaction_value_stddev": Decimal("200.0000"), "spending_consistency": "Variable"},
    "SPENT_BEFORE_OPENING": {"lifetime_value": Decimal("25.00"), "account_age_days": 27, "card_type": "Standard"},
    "SPENT_BEFORE_OPENING_LATER": {
        "lifetime_value": Decimal("30.00"),
        "account_age_days": -10,
        "card_type": "Standard",
    },
    "OPENED_THAT_DAY": {"account_age_days": 0, "total_transactions": 0},
    "NOTHING_DELIVERED": {
        "full_name": None,
        "email": None,
        "card_type": None,
        "credit_limit": None,
        "account_age_days": None,
        "lifetime_value": Decimal("100.00"),
        "travel_spend_pct": Decimal("0.0000"),
    },
    "TWO_ROWS": {
        "email": "new@example.com",
        "card_type": "Premium",
        "full_name": "Ada",
        "ads_opt_in": False,
        "account_closed_date": date(2026, 3, 1),
    },
    "CORRECTIONS": {"lifetime_value": Decimal("107.57"), "total_transactions": 4},
}

# Months by their first day: spend, change in percent, trend.
TRENDS = {
    date(2025, 5, 1): (Decimal("100.00"), None, "First Month"),
    date(2025, 6, 1): (Decimal("150.00"), Decimal("50.0000"), "Growth"),
    date(2025, 7, 1): (Decimal("225.01"), Decimal("50.0067"), "High Growth"),
    date(2025, 8, 1): (Decimal("225.01"), Decimal("0.0000"), "Flat"),
    date(2025, 9, 1): (Decimal("200.00"), Decimal("-11.1151"), "Decline"),
    date(2025, 10, 1): (Decimal("140.00"), Decimal("-30.0000"), "Decline"),
    date(2025, 11, 1): (Decimal("97.99"), Decimal("-30.0071"), "High Decline"),
    date(2025, 12, 1): (Decimal("0.00"), Decimal("-100.0000"), "High Decline"),
    date(2026, 1, 1): (Decimal("0.00"), None, "Flat"),
    date(2026, 2, 1): (Decimal("0.01"), None, "High Growth"),
}

# Rows that arrive more than once or cannot be used: id, customer, day, amount, category, status, ingested_at.
DELIVERED_ROWS: list[tuple] = [
    # The latest ingested row of a transaction counts, also when an older one arrives beside it.
    ("C1", "CORRECTIONS", "2026-01-10", "90.00", "Retail", "approved", "2026-01-11 03:00:00"),
    ("C1", "CORRECTIONS", "2026-01-10", "70.00", "Retail", "approved", "2026-01-13 03:00:00"),
    ("C1", "CORRECTIONS", "2026-01-10", "80.00", "Retail", "approved", "2026-01-12 03:00:00"),
    # Delivered twice as it was; an unusable repeat does not replace it; any time of arrival beats none.
    ("C2", "CORRECTIONS", "2026-01-11", "20.00", "Gas", "approved", "2026-01-12 03:00:00"),
    ("C2", "CORRECTIONS", "2026-01-11", "20.00", "Gas", "approved", "2026-01-12 03:00:00"),
    ("C2", "CORRECTIONS", "2026-01-11", "-20.00", "Gas", "approved", "2026-01-14 03:00:00"),
    ("C2", "CORRECTIONS", "2026-01-11", "21.00", "Gas", "approved", None),
    # A correction that takes the approval back.
    ("C3", "CORRECTIONS", "2026-01-12", "500.00", "Gas", "approved", "2026-01-13 03:00:00"),
    ("C3", "CORRECTIONS", "2026-01-12", "500.00", "Gas", "reversed", "2026-01-20 03:00:00"),
    ("C4", "CORRECTIONS", "2026-01-13", "12.5", "Gas", " Approved ", "2026-01-14 03:00:00"),
    # More digits than cents: rounded half up.
    ("C5", "CORRECTIONS", "2026-01-13", "5.065", "Gas", "approved", "2026-01-14 03:00:00"),
    (None, "CORRECTIONS", "2026-01-14", "1.00", "Gas", "approved", "2026-01-15 03:00:00"),
    ("", "CORRECTIONS", "2026-01-14", "1.00", "Gas", "approved", "2026-01-15 03:00:00"),
    ("R1", "NOBODY", "2026-01-14", "1.00", "Gas", "approved", "2026-01-15 03:00:00"),
    ("R2", None, "2026-01-14", "1.00", "Gas", "approved", "2026-01-15 03:00:00"),
    ("R3", "CORRECTIONS", "2026-01-14", None, "Gas", "approved", "2026-01-15 03:00:00"),
    ("R4", "CORRECTIONS", "2026-01-14", "", "Gas", "approved", "2026-01-15 03:00:00"),
    ("R5", "CORRECTIONS", "2026-01-14", "12,50", "Gas", "approved", "2026-01-15 03:00:00"),
    ("R6", "CORRECTIONS", "2026-01-14", "nan", "Gas", "approved", "2026-01-15 03:00:00"),
    ("R7", "CORRECTIONS", "2026-01-14", "0.00", "Gas", "approved", "2026-01-15 03:00:00"),
    ("R8", "CORRECTIONS", "2026-01-14", "0.004", "Gas", "approved", "2026-01-15 03:00:00"),
    ("R9", "CORRECTIONS", None, "1.00", "Gas", "approved", "2026-01-15 03:00:00"),
    ("R10", "CORRECTIONS", "1899-12-31", "1.00", "Gas", "approved", "2026-01-15 03:00:00"),
    ("R11", "CORRECTIONS", "2026-01-14", "1_000", "Gas", "approved", "2026-01-15 03:00:00"),
    ("R12", "CORRECTIONS", "2026-01-14", "1000000.01", "Gas", "approved", "2026-01-15 03:00:00"),
    ("R13", "CORRECTIONS", "2026-01-14", "1e18", "Gas", "approved", "2026-01-15 03:00:00"),
    # Waits for its customer, who comes with the refresh.
    ("N1", "NEWCOMER", "2026-02-03", "44.00", "Gas", "approved", "2026-02-04 03:00:00"),
]
# The reasons of the rows above.
REJECTED = {
    "no transaction_id": 2,
    "unknown customer": 3,
    "amount missing": 2,
    "amount not a number": 3,
    "amount not positive": 3,
    "amount above limit": 2,
    "date missing": 1,
    "date out of range": 1,
}
DUPLICATES = 5


def customer_rows() -> list[dict[str, Any]]:
    """The rows of raw.customers, by column."""
    rows = [
        {
            "customer_id": name,
            "first_name": "Ada",
            "last_name": "Byron",
            "email": f"{name}@Example.com",
            "age": 40,
            "state": "NY",
            "city": "Albany",
            "employment_status": "Employed",
            "card_type": "Standard",
            "credit_limit": Decimal("9000.00"),
            "account_open_date": date.fromisoformat(ACCOUNT_OPEN_DATES.get(name, "2024-01-15")),
            "marketing_opt_in": True,
            "ads_opt_in": True,
            "account_closed_date": None,
            "deceased_date": None,
            "updated_at": datetime(2025, 1, 1, 8),
        }
        for name in [*PURCHASES, "CORRECTIONS"]
    ]
    by_name = {row["customer_id"]: row for row in rows}
    nothing = by_name["NOTHING_DELIVERED"]
    nothing.update(dict.fromkeys(nothing.keys() - {"customer_id"}))
    newer = {
        "email": "New@example.com",
        "ads_opt_in": False,
        "account_closed_date": date(2026, 3, 1),
        "card_type": "Premium",
        "last_name": None,
        "updated_at": datetime(2025, 3, 1),
    }
    rows.append(by_name["TWO_ROWS"] | newer)
    rows.append(by_name["TWO_ROWS"] | {"updated_at": None, "email": "none@example.com"})
    rows.append(by_name["TWO_ROWS"] | {"customer_id": None, "email": "nobody@example.com"})
    return rows


def transaction_rows() -> list[dict[str, Any]]:
    """The rows of raw.transactions, by column."""
    delivered = [
        (f"{name}-{number}", name, day, amount, category, *(status or ["approved"]), f"{day} 23:30:00")
        for name, purchases in PURCHASES.items()
        for number, (day, amount, category, *status) in enumerate(purchases)
    ]
    return [
        {
            "transaction_id": transaction_id,
            "customer_id": customer_id,
            "transaction_date": day,
            "transaction_amount": amount,
            "merchant_name": "Shop",
            "merchant_category": category,
            "channel": "Online",
            "status": status,
            "ingested_at": ingested_at,
            "source_row": None,
        }
        for transaction_id, customer_id, day, amount, category, status, ingested_at in delivered + DELIVERED_ROWS
    ]
