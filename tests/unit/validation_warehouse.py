"""A warehouse of ten hand-made customers, built by dbt into the schema of one run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import duckdb

from include.customer_360.settings import DBT_PROJECT

AS_OF_DATE = "2026-03-15"
RUN_SCHEMA = "marts_run_20260315"

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
    ("BUDGET", "2026-03-01", "80.00", "Nobody knows", "approved"),
    ("STABLE", "2025-06-10", "400.00", "Retail", "approved"),
    ("STABLE", "2025-10-20", "450.00", "Retail", "approved"),
    ("STABLE", "2026-02-01", "420.00", "Retail", "approved"),
    ("ONE_PURCHASE", "2026-03-05", "50.00", "Hotels", "approved"),
    ("SPENT_BEFORE_OPENING", "2026-02-20", "30.00", "Grocery", "approved"),
    ("LONG_GONE", "2025-09-01", "60.00", "Utilities", "approved"),
]


def build_warehouse(folder: Path) -> Path:
    """Write the sources, let dbt build every model into RUN_SCHEMA, and return the DuckDB file."""
    file = folder / "validated.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute("create schema raw")
        connection.execute(
            "create table raw.customers (customer_id varchar, first_name varchar, last_name varchar, email varchar, "
            "age integer, state varchar, city varchar, employment_status varchar, card_type varchar, "
            "credit_limit decimal(18, 2), account_open_date date, marketing_opt_in boolean, updated_at timestamp)"
        )
        connection.executemany(
            "insert into raw.customers values "
            "(?, 'Ada', 'Byron', 'ada@example.com', 40, 'NY', 'Albany', 'Employed', 'Standard', 9000, ?, true, ?)",
            [(customer, opened, "2025-01-01 08:00:00") for customer, opened in CUSTOMERS],
        )
        connection.execute(
            "create table raw.transactions (transaction_id varchar, customer_id varchar, transaction_date date, "
            "transaction_amount varchar, merchant_name varchar, merchant_category varchar, channel varchar, "
            "status varchar, ingested_at timestamp)"
        )
        connection.executemany(
            "insert into raw.transactions values (?, ?, ?, ?, 'Shop', ?, 'Online', ?, '2026-03-21 01:00:00')",
            [
                (f"TXN{number:02}", customer, date, amount, category, status)
                for number, (customer, date, amount, category, status) in enumerate(TRANSACTIONS)
            ],
        )
    _dbt_build(file, folder)
    return file


def _dbt_build(file: Path, folder: Path) -> None:
    kinds = ["--resource-type", "seed", "--resource-type", "snapshot", "--resource-type", "model"]
    outputs = ["--target-path", str(folder / "target"), "--log-path", str(folder / "logs")]
    finished = subprocess.run(
        [sys.executable, "-m", "dbt.cli.main", "build", "--profiles-dir", ".", *kinds, *outputs],
        cwd=DBT_PROJECT,
        env=os.environ
        | {"AS_OF_DATE": AS_OF_DATE, "RUN_SCHEMA": RUN_SCHEMA, "WAREHOUSE": "duckdb", "WAREHOUSE_FILE": str(file)},
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode != 0:
        raise RuntimeError(f"dbt build failed:\n{finished.stdout}{finished.stderr}")
