"""A warehouse of customers made by hand, on each side of every threshold, built by dbt into the schema of one run."""

from __future__ import annotations

from pathlib import Path

import duckdb

from include.customer_360.ops_tables import ops_columns
from local import sources
from tests.forked_dbt import run_dbt

AS_OF_DATE = "2026-03-15"
RUN_SCHEMA = "marts_run_20260315"

# On both sides of each threshold; the windows of 90 days begin on 2025-12-16 and 2025-09-17.
_AT_THRESHOLDS = {
    "HIGH_VALUE_AT": [("2026-01-20", "3750.00", "Hotels"), ("2026-01-21", "11250.00", "Retail")],
    "HIGH_VALUE_BELOW": [("2026-01-20", "5000.00", "Hotels"), ("2026-01-21", "9999.99", "Retail")],
    "TRAVEL_BELOW": [("2026-01-20", "3749.98", "Hotels"), ("2026-01-21", "11250.02", "Retail")],
    "DECLINING_AT": [("2025-10-05", "2000.00", "Retail"), ("2026-01-10", "1400.00", "Retail")],
    "FELL_LESS": [("2025-10-05", "2000.00", "Retail"), ("2026-01-10", "1400.01", "Retail")],
    "FELL_FROM_LESS": [("2025-10-05", "1999.99", "Retail"), ("2026-01-10", "1000.00", "Retail")],
    "GROWING_AT": [("2025-09-20", "100.00", "Retail"), ("2026-01-05", "150.00", "Retail")],
    "GREW_LESS": [("2025-11-20", "100.00", "Retail"), ("2026-01-05", "149.99", "Retail")],
    "NO_LONGER_NEW": [
        ("2025-08-20", "10.00", "Dining"),
        ("2025-10-20", "100.00", "Dining"),
        ("2026-01-05", "160.00", "Dining"),
    ],
    "BUDGET_AT": [("2025-05-05", "500.00", "Gas"), ("2025-10-05", "4500.00", "Gas"), ("2026-01-05", "4500.00", "Gas")],
    "BUDGET_BELOW": [
        ("2025-05-05", "500.00", "Gas"),
        ("2025-10-05", "4500.00", "Gas"),
        ("2026-01-05", "4499.99", "Gas"),
    ],
    "NECESSITIES_AT": [("2025-05-05", "60.00", "Gas"), ("2026-01-05", "40.00", "Retail")],
    "NECESSITIES_BELOW": [("2025-05-05", "59.99", "Gas"), ("2026-01-05", "40.01", "Retail")],
    "LAST_SEEN_30": [("2026-02-13", "9.00", "Retail")],
    "LAST_SEEN_31": [("2026-02-12", "9.00", "Retail")],
    "LAST_SEEN_60": [("2026-01-14", "9.00", "Retail")],
    "LAST_SEEN_61": [("2026-01-13", "9.00", "Retail")],
    "LAST_SEEN_90": [("2025-12-15", "9.00", "Retail")],
    "LAST_SEEN_91": [("2025-12-14", "9.00", "Retail")],
    "WINDOWS": [("2025-09-16", "5.00", "Retail"), ("2025-09-17", "7.00", "Retail"), ("2025-12-16", "11.00", "Retail")],
    "STDDEV_50": [("2026-01-01", amount, "Retail") for amount in ("50.00", "100.00", "150.00")],
    "STDDEV_BELOW_50": [("2026-01-01", amount, "Retail") for amount in ("50.01", "100.00", "149.99")],
    "STDDEV_200": [("2026-01-01", amount, "Retail") for amount in ("50.00", "250.00", "450.00")],
    "STDDEV_BELOW_200": [("2026-01-01", amount, "Retail") for amount in ("50.01", "250.00", "449.99")],
    # Changes of 50, 50.0067, 0, -11, -30 and -30.0071 percent, nothing twice, and something.
    "TRENDS": [
        ("2025-05-09", "100.00", "Retail"),
        ("2025-06-09", "150.00", "Retail"),
        ("2025-07-09", "225.01", "Retail"),
        ("2025-08-09", "225.01", "Retail"),
        ("2025-09-09", "200.00", "Retail"),
        ("2025-10-09", "140.00", "Retail"),
        ("2025-11-09", "97.99", "Retail"),
        ("2026-02-09", "0.01", "Retail"),
    ],
}

# Customer, date account opened.
CUSTOMERS = [
    ("TRAVELLER", "2025-01-01"),
    ("DECLINING", "2025-01-01"),
    ("GROWING", "2026-01-01"),
    ("BUDGET", "2025-01-01"),
    ("STABLE", "2025-01-01"),
    ("NEVER_SPENT", "2025-01-01"),
    ("ONE_PURCHASE", "2026-03-01"),
    ("NOT_YET_OPEN", "2026-04-01"),
    ("SPENT_BEFORE_OPENING", "2026-04-01"),
    ("LONG_GONE", None),
    *((customer, "2025-01-01") for customer in _AT_THRESHOLDS),
]
# Customer, date, amount, category, status.
TRANSACTIONS = [
    ("TRAVELLER", "2025-11-10", "6000.00", "Travel", "approved"),
    ("TRAVELLER", "2026-01-20", "9000.00", "Airlines", "approved"),
    ("TRAVELLER", "2026-02-10", "7000.00", "Dining", "approved"),
    ("DECLINING", "2025-10-05", "2500.00", "Retail", "approved"),
    ("DECLINING", "2026-01-10", "500.00", "Retail", "approved"),
    ("DECLINING", "2026-01-11", "90.00", "Retail", "declined"),
    ("GROWING", "2026-01-05", "300.00", "Dining", "approved"),
    ("GROWING", "2026-03-12", "200.00", "Dining", "approved"),
    ("GROWING", "2026-03-20", "75.00", "Dining", "approved"),
    ("BUDGET", "2025-05-01", "100.00", "Grocery", "approved"),
    ("BUDGET", "2026-01-02", "120.00", "Gas", "approved"),
    ("BUDGET", "2026-03-01", "80.00", None, "approved"),
    ("STABLE", "2025-06-10", "400.00", "Retail", "approved"),
    ("STABLE", "2025-10-20", "450.00", "Retail", "approved"),
    ("STABLE", "2026-02-01", "420.00", "Retail", "approved"),
    ("ONE_PURCHASE", "2026-03-05", "50.00", "Hotels", "approved"),
    ("SPENT_BEFORE_OPENING", "2026-02-20", "30.00", "Grocery", "approved"),
    ("LONG_GONE", "2025-09-01", "60.00", "Utilities", "approved"),
    *((customer, *purchase, "approved") for customer, purchases in _AT_THRESHOLDS.items() for purchase in purchases),
]

# Campaign, wave, group, customers. The first wave is 90 days old; of the second somebody spent on each side of both
# ends of its 30 days; the third is as old as the first horizon, and the last a day younger.
ENTRIES = [
    ("premium", "2025-12-15", "treated", ["TRAVELLER", "HIGH_VALUE_AT", "TRENDS", "BUDGET_AT"]),
    ("premium", "2025-12-15", "control", ["HIGH_VALUE_BELOW", "STABLE", "DECLINING"]),
    ("retention", "2026-01-13", "treated", ["LAST_SEEN_91", "LAST_SEEN_60", "LAST_SEEN_30", "DECLINING_AT"]),
    ("retention", "2026-01-13", "control", ["LAST_SEEN_90", "LAST_SEEN_61", "LAST_SEEN_31"]),
    ("onboarding", "2026-02-13", "treated", ["ONE_PURCHASE", "GROWING"]),
    ("onboarding", "2026-02-13", "control", ["GREW_LESS"]),
    ("onboarding", "2026-02-14", "treated", ["GROWING_AT", "NEVER_SPENT"]),
]


def build_warehouse(folder: Path) -> Path:
    """Write the sources, let dbt build every model into RUN_SCHEMA, and return the DuckDB file."""
    file = folder / "validated.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute("create schema raw")
        for table in (sources.CUSTOMERS, sources.TRANSACTIONS):
            connection.execute(f"create table raw.{table.name} ({table.column_definitions})")
        connection.executemany(
            "insert into raw.customers "
            "(customer_id, first_name, last_name, email, age, state, city, employment_status, card_type, credit_limit, "
            "account_open_date, marketing_opt_in, updated_at) values "
            "(?, 'Ada', 'Byron', 'ada@example.com', 40, 'NY', 'Albany', 'Employed', 'Standard', 9000, ?, true, ?)",
            [(customer, opened, "2025-01-01 08:00:00") for customer, opened in CUSTOMERS],
        )
        connection.executemany(
            "insert into raw.transactions values (?, ?, ?, ?, 'Shop', ?, 'Online', ?, '2026-03-21 01:00:00', null)",
            [
                (f"TXN{number:02}", customer, date, amount, category, status)
                for number, (customer, date, amount, category, status) in enumerate(TRANSACTIONS)
            ],
        )
        columns = ", ".join(f"{name} {data_type}" for name, data_type in ops_columns()["audience_memberships"].items())
        connection.execute(f"create schema ops; create table ops.audience_memberships ({columns})")
        connection.executemany(
            "insert into ops.audience_memberships (campaign, as_of_date, customer_id, status, split_group, entered, "
            "entered_on) values (?, ?, ?, ?, ?, true, ?)",
            [
                (campaign, wave, customer, "exported" if group == "treated" else "held_out", group, wave)
                for campaign, wave, group, customers in ENTRIES
                for customer in customers
            ],
        )
    _dbt_build(file, folder)
    return file


def _dbt_build(file: Path, folder: Path) -> None:
    kinds = ["--resource-type", "seed", "--resource-type", "snapshot", "--resource-type", "model"]
    outputs = ["--target-path", str(folder / "target"), "--log-path", str(folder / "logs")]
    settings = {"AS_OF_DATE": AS_OF_DATE, "RUN_SCHEMA": RUN_SCHEMA, "WAREHOUSE": "duckdb", "WAREHOUSE_FILE": str(file)}
    finished = run_dbt("build", "--profiles-dir", ".", *kinds, *outputs, environment=settings)
    if finished.returncode != 0:
        raise RuntimeError(f"dbt build failed:\n{finished.stdout}{finished.stderr}")
