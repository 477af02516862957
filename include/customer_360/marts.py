"""The marts that a refresh validates and publishes."""

from __future__ import annotations

MARTS = (
    "customer_segments",
    "metric_customer_ltv",
    "metric_mom_spend_change",
    "metric_avg_transaction_value",
    "customer_360_profile",
)
"""Their names: the dbt models, the validation templates and the tables of schema marts."""

MARTS_WITH_LIFETIME_VALUE = ("metric_customer_ltv", "customer_360_profile")
"""Those with a column lifetime_value, whose total is watched from one publication to the next."""

INTERMEDIATE = ("int_customers", "int_customer_transactions", "int_customer_monthly_spend")
"""What the marts are made of. Published beside them, so that `dbt run --select marts` works after a nightly run."""
