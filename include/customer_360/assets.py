"""The assets that Dags exchange, each defined once."""

from __future__ import annotations

from airflow.sdk import Asset

from include.customer_360.settings import load_settings

# Emitted by publish, never before; its events carry the as_of_date (YYYY-MM-DD) as partition key. Its page in the UI
# shows the extra: where the screens are that read it.
PUBLISHED = Asset("customer_360/published", extra={"screens": load_settings().screens_url})
