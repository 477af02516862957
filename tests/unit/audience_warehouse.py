"""A small warehouse for audiences: published profiles, memberships of earlier dates, suppressions, made in the test."""

from __future__ import annotations

import datetime
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
from airflow.sdk import DAG

from include.customer_360.catalog import MANIFEST, Campaign, load_catalog
from include.customer_360.operators.audiences import DecideAudiencesOperator, ValidateAudiencesOperator
from include.customer_360.ops_tables import ops_columns
from include.customer_360.settings import TEMPLATE_FOLDERS

AS_OF_DATE = "2026-03-31"
ROWS_PER_INSERT = 500
PROFILE = json.loads(MANIFEST.read_text())["nodes"]["model.customer_analytics.customer_360_profile"]
PROFILE_COLUMNS = {name: column["data_type"] for name, column in PROFILE["columns"].items()}
# Nobody is held out, so that who is in an audience does not hang on a hash.
CAMPAIGNS = {campaign.name: campaign.model_copy(update={"holdout_share": 0.0}) for campaign in load_catalog().campaigns}


def campaign(name: str = "premium", **values: object) -> Campaign:
    """Return the project's campaign of this name, with nobody held out, and `values` instead of its own."""
    return CAMPAIGNS[name].model_copy(update=values)


def profile(customer_id: str, **values: object) -> dict[str, object]:
    """Return a customer who may be contacted and is eligible for the premium campaign only, with `values` besides."""
    return {
        "customer_id": customer_id,
        "full_name": "Ada Byron",
        "email": f"{customer_id.lower()}@example.com",
        "marketing_opt_in": True,
        "lifetime_value": "60000.00",
        "spend_change_pct": "-40.0000",
        "eligible_for_retention_campaign": False,
        "eligible_for_onboarding_campaign": False,
        "eligible_for_premium_campaign": True,
        "as_of_date": AS_OF_DATE,
    } | values


class AudienceWarehouse:
    """A DuckDB file behind the Airflow connection `warehouse`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        with self.connect() as connection:
            connection.execute("create schema marts; create schema ops; create schema core")
            for table, columns in ops_columns().items():
                self._create(connection, f"ops.{table}", columns)
            self._create(connection, "marts.customer_360_history", PROFILE_COLUMNS)
            self._create(connection, "core.rejected_transactions", {"reject_reason": "varchar"})
            self._create(connection, "ops.loaded_transaction_days", {"arrival_day": "date", "row_count": "bigint"})

    def connect(self) -> duckdb.DuckDBPyConnection:
        return duckdb.connect(str(self.file))

    @staticmethod
    def _create(connection: duckdb.DuckDBPyConnection, table: str, columns: dict[str, str]) -> None:
        described = ", ".join(f"{name} {data_type}" for name, data_type in columns.items())
        connection.execute(f"create or replace table {table} ({described})")

    def publish(self, *profiles: dict[str, object]) -> None:
        """Replace the published profiles."""
        with self.connect() as connection:
            self._create(connection, "marts.customer_360_profile", PROFILE_COLUMNS)
            _insert(connection, "marts.customer_360_profile", profiles)

    def keep(self, *profiles: dict[str, object]) -> None:
        """Add profiles of earlier dates to history."""
        with self.connect() as connection:
            _insert(connection, "marts.customer_360_history", profiles)

    def suppress(self, **values: object) -> None:
        """Add a row to the suppression list, recorded an hour before the first decision, unless `values` say else."""
        recorded_at = datetime.datetime(2026, 1, 1)
        with self.connect() as connection:
            _insert(connection, "ops.suppressions", [{"recorded_at": recorded_at, "reason": "asked", **values}])

    def remember(self, name: str, as_of_date: str, *customer_ids: str, **values: object) -> None:
        """Add memberships of an earlier date: exported and entered on it, unless `values` say else."""
        row: dict[str, object] = {
            "campaign": name,
            "as_of_date": as_of_date,
            "status": "exported",
            "split_group": "treated",
            "entered": True,
            "entered_on": as_of_date,
            "decided_at": f"{as_of_date} 08:00:00",
        }
        with self.connect() as connection:
            memberships = [{"customer_id": customer_id, **row, **values} for customer_id in customer_ids]
            _insert(connection, "ops.audience_memberships", memberships)

    def exported(self, name: str, as_of_date: str, destination: str = "csv") -> None:
        """Record that an audience was exported."""
        row: dict[str, object] = {
            "campaign": name,
            "as_of_date": as_of_date,
            "destination": destination,
            "state": "exported",
        }
        with self.connect() as connection:
            _insert(connection, "ops.export_runs", [row])

    def decide(self, *campaigns: Campaign, **values: Any) -> dict[str, Any]:  # noqa: ANN401 - passed on
        """Decide for AS_OF_DATE, and return what the task returns."""
        pushed: dict[str, Any] = {}
        ti = SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value}))
        operator = rendered(DecideAudiencesOperator, campaigns=campaigns or (campaign(),), **values)
        return operator.execute({"ti": ti}) or pushed

    def validate(self, *campaigns: Campaign) -> dict[str, int]:
        """Validate the decision."""
        counts: dict[str, int] = rendered(ValidateAudiencesOperator, campaigns=campaigns or (campaign(),)).execute({})
        return counts

    def ends(self, columns: str = "customer_id, status, reason", as_of_date: str = AS_OF_DATE) -> list[tuple[Any, ...]]:
        """Return these columns of the date's memberships, by campaign and customer."""
        with self.connect() as connection:
            return connection.execute(
                f"select {columns} from ops.audience_memberships where as_of_date = ? order by campaign, customer_id",
                [as_of_date],
            ).fetchall()


def rendered(kind: Any, as_of_date: str = AS_OF_DATE, **values: Any) -> Any:  # noqa: ANN401 - an operator of any kind
    """Return an operator as a run renders it."""
    with DAG("audiences", schedule=None, template_searchpath=TEMPLATE_FOLDERS):
        operator = kind(task_id="task", as_of_date=as_of_date, **values)
    operator.resolve_template_files()
    operator.render_template_fields({"run_id": "run_1"})
    return operator


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: Sequence[dict[str, object]]) -> None:
    for columns, group in itertools.groupby(rows, tuple):
        alike = list(group)
        for first in range(0, len(alike), ROWS_PER_INSERT):
            inserted = alike[first : first + ROWS_PER_INSERT]
            marks = ", ".join([f"({', '.join('?' * len(columns))})"] * len(inserted))
            values = [value for row in inserted for value in row.values()]
            connection.execute(f"insert into {table} ({', '.join(columns)}) values {marks}", values)
