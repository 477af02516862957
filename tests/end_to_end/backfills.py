"""Backfills as a user creates them, and what they have to leave: each date as pandas computes it, and nothing else.

Run by itself it backfills thirty dates, half of them from the command line and half as the form of the UI does, several
at once and beside a nightly run and two runs of one date; then all of them again.

    .venv/bin/python -m tests.end_to_end.backfills --dates 30
"""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from include.customer_360.settings import Settings
from local.sample import write_sample
from tests.deployment import DAG_ID, Deployment, deployed
from tests.end_to_end.chaos import DAY, DAY_BEFORE, SECONDS_TO_END, active, tables_of, unlike
from tests.integration.independent_marts import Delivery, compute_marts

HISTORY = "marts.customer_360_history"
ONE_DAY = datetime.timedelta(days=1)
LAST_STORED_DIGIT = Decimal("0.0001")
"""Of a decimal(18,4), which comes from double arithmetic; everything else has to be equal."""


def dates_between(first: datetime.date, count: int) -> list[str]:
    """Return so many dates from the first on, YYYY-MM-DD."""
    return [(first + number * ONE_DAY).isoformat() for number in range(count)]


def create_by_command(deployment: Deployment, dates: Sequence[str], *options: str) -> None:
    """Create a backfill of consecutive dates with `airflow backfill create`, whose range ends at a midnight."""
    deployment.wait_for_backfills()
    until = datetime.date.fromisoformat(dates[-1]) + ONE_DAY
    deployment.command(
        *("backfill", "create", "--dag-id", DAG_ID, "--from-date", dates[0], "--to-date", until.isoformat()), *options
    )


def create_by_form(deployment: Deployment, dates: Sequence[str], **fields: object) -> None:
    """Create a backfill of consecutive dates as the form of the UI does, by the REST API."""
    deployment.wait_for_backfills()
    until = datetime.date.fromisoformat(dates[-1]) + ONE_DAY
    body = {"dag_id": DAG_ID, "from_date": f"{dates[0]}T00:00:00Z", "to_date": f"{until}T00:00:00Z", **fields}
    deployment.client.post("backfills", json=body).raise_for_status()


def runs_of(deployment: Deployment, dates: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Wait until the backfill runs of these dates have ended, and return the last of each, by date.

    :raises TimeoutError: when they do not, five minutes after the last change.
    """
    deadline, before = time.monotonic() + SECONDS_TO_END, -1
    while True:
        params: dict[str, Any] = {"run_type": "backfill", "limit": 1000, "order_by": "id"}
        found = deployment.client.get(f"dags/{DAG_ID}/dagRuns", params=params).raise_for_status().json()["dag_runs"]
        runs = {run["partition_key"]: run for run in found if run["partition_key"] in dates}
        ended = [date for date, run in runs.items() if run["state"] in ("success", "failed")]
        if len(ended) == len(dates):
            return runs
        if len(ended) > before:
            deadline, before = time.monotonic() + SECONDS_TO_END, len(ended)
        if time.monotonic() > deadline:
            raise TimeoutError(f"did not end: {sorted(set(dates) - set(ended))}; running: {active(deployment)}")
        time.sleep(0.5)


def table(connection: duckdb.DuckDBPyConnection, name: str) -> pd.DataFrame:
    """Return a table with Python's own values in its cells."""
    found = connection.execute(f"from {name}")
    columns = [column[0] for column in found.description]
    return pd.DataFrame(found.fetchall(), columns=columns, dtype=object)


def unlike_pandas(deployment: Deployment, dates: Sequence[str]) -> list[str]:
    """Return where history of these dates differs from what pandas makes of the sources, or has other dates."""
    with deployment.reading() as connection:
        customers, transactions = table(connection, "raw.customers"), table(connection, "raw.transactions")
        found = connection.execute(f"from {HISTORY}")
        columns = [column[0] for column in found.description]
        rows = [dict(zip(columns, row, strict=True)) for row in found.fetchall()]
    differences = []
    if others := {row["as_of_date"].isoformat() for row in rows} ^ set(dates):
        differences.append(f"dates that only one of them has: {sorted(others)}")
    for date in map(datetime.date.fromisoformat, dates):
        deliveries = [Delivery(date, customers)]
        expected = compute_marts(deliveries, transactions, date)["customer_360_history"]
        of_date = {row["customer_id"]: row for row in rows if row["as_of_date"] == date}
        if len(of_date) != sum(row["as_of_date"] == date for row in rows):
            differences.append(f"{date}: a customer has two rows")
        if of_date.keys() != {customer for (customer,) in expected}:
            differences.append(f"{date}: {len(of_date)} customers instead of {len(expected)}")
            continue
        differences += [
            f"{date}, {customer}, {column}: {of_date[customer][column]!r} instead of {value!r}"
            for (customer,), row in expected.items()
            for column, value in row.items()
            if not _equal(of_date[customer][column], value)
        ]
    return differences


def _equal(found: Any, expected: Any) -> bool:  # noqa: ANN401 - any value of a cell
    if isinstance(found, Decimal) and isinstance(expected, Decimal) and found.as_tuple().exponent == -4:
        return abs(found - expected) <= LAST_STORED_DIGIT
    return bool(found == expected)


def audiences_of(deployment: Deployment) -> set[str]:
    """Return the dates that have audiences, or a folder for one."""
    root = Path(deployment.settings.export_root)
    return {path.name.removeprefix("as_of_date=") for path in root.rglob("as_of_date=*")}


def backfill_all(deployment: Deployment, dates: Sequence[str], broken: list[str]) -> None:
    """Backfill the dates, beside a nightly run and two runs of one date; add to `broken` what failed."""
    half = len(dates) // 2
    by_command, by_form = dates[:half], dates[half:]
    create_by_command(deployment, by_command, "--max-active-runs", "4")
    beside = [deployment.start(as_of_date=DAY_BEFORE), deployment.start(as_of_date=DAY_BEFORE)]
    beside.append(deployment.start(as_of_date=DAY))
    runs = runs_of(deployment, by_command)
    for run_id in beside:
        if (state := deployment.state(run_id)) != "success":
            broken.append(f"beside a backfill {run_id} ended as {state}: {deployment.failures(run_id)}")
    create_by_form(deployment, by_form, max_active_runs=4)
    runs |= runs_of(deployment, by_form)
    broken += [f"{date}: its run ended as {run['state']}" for date, run in runs.items() if run["state"] != "success"]
    deployment.exports()


def held_in_place(deployment: Deployment, dates: Sequence[str], what: str) -> list[str]:
    """Return what a backfill did that it must not: to readers, customers, or the record of restatements."""
    published = deployment.query("select distinct cast(as_of_date as varchar) from marts.customer_360_profile")
    restated = deployment.query("select count(*) from ops.restatements")
    schemas = deployment.query(
        "select distinct schema_name from information_schema.schemata where schema_name like 'marts_run_%'"
    )
    exported = audiences_of(deployment)
    facts = {
        "published marts are of": (published, [(DAY,)]),
        "rows in ops.restatements": (restated, [(0,)]),
        "left-over schemas": (schemas, []),
        "audiences are of": (exported & set(dates), set()),
    }
    return [f"{what}: {name} {found}" for name, (found, expected) in facts.items() if found != expected]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dates", type=int, default=30)
    parser.add_argument("--first", type=datetime.date.fromisoformat, default=datetime.date(2026, 2, 1))
    parser.add_argument("--customers", type=int, default=300)
    options = parser.parse_args()
    dates = dates_between(options.first, options.dates)
    broken: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = Settings(
            warehouse_file=folder / "warehouse.duckdb", export_root=str(folder / "exports"), _env_file=None
        )
        last_day = datetime.date.fromisoformat(DAY)
        write_sample(settings.warehouse_file, customers=options.customers, months=9, seed=42, as_of_date=last_day)
        with deployed(settings) as deployment:
            run_id, state = deployment.run(as_of_date=DAY_BEFORE)
            assert state == "success", deployment.failures(run_id)
            deployment.wait_for_export_of(run_id)
            began = time.monotonic()
            backfill_all(deployment, dates, broken)
            print(f"{len(dates)} dates, and three runs beside them: {time.monotonic() - began:.0f} s", flush=True)
            broken += held_in_place(deployment, dates, "after the backfill")
            differences = unlike_pandas(deployment, [*dates, DAY_BEFORE, DAY])
            rows = deployment.query(f"select count(*) from {HISTORY}")[0][0]
            print(f"history: {rows} rows, {len(differences)} values unlike pandas", flush=True)
            broken += differences[:20]

            with deployment.reading() as connection:
                before = tables_of(connection)
            began = time.monotonic()
            create_by_command(deployment, dates, "--max-active-runs", "4", "--reprocess-behavior", "completed")
            deployment.wait_for_backfills(seconds=60 * len(dates))
            runs = runs_of(deployment, dates)
            broken += [f"{date}: again {run['state']}" for date, run in runs.items() if run["state"] != "success"]
            print(f"the same dates again: {time.monotonic() - began:.0f} s", flush=True)
            broken += held_in_place(deployment, dates, "after the same again")
            with deployment.reading() as connection:
                broken += [f"after the same again: {each}" for each in unlike(tables_of(connection), before)]
    print("\n".join(broken) or "held")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
