"""The assets that Dags exchange, each defined once."""

from __future__ import annotations

from airflow.sdk import Asset

# Emitted by publish, never before; its events carry the as_of_date (YYYY-MM-DD) as partition key.
PUBLISHED = Asset("customer_360/published")
