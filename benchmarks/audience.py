"""One audience of many customers: makes its warehouse, or copies it by DuckDB, or exports it, in a process of its own.

`python -m benchmarks.audience make|copy|export FILE CUSTOMERS`; the last line printed is `{"seconds": ..., "mebibytes":
...}`, the memory over what the process had before.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import psutil
from airflow.sdk import DAG

from include.customer_360.catalog import MANIFEST, load_catalog
from include.customer_360.operators.export import MEMORY, ExportAudienceOperator
from include.customer_360.ops_tables import ops_columns
from include.customer_360.settings import TEMPLATE_FOLDERS

AS_OF_DATE = "2026-03-31"
COLUMNS = ("customer_id", "full_name", "email", "lifetime_value", "spend_change_pct")
# One name in fifty has a separator, and one in a hundred a sign that a spreadsheet would run.
ROWS = """
    select
        'CUST' || lpad(i::varchar, 8, '0') as customer_id,
        case when i % 100 = 1 then '=' when i % 50 = 0 then 'Byron, ' else 'Byron ' end || i as full_name,
        'c' || i || '@example.com' as email,
        (i * 7919 % 10000000 / 100)::decimal(18, 2) as lifetime_value,
        (i * 104729 % 2000000 / 10000 - 100)::decimal(18, 4) as spend_change_pct,
        date '2026-03-31' as as_of_date
    from range(?) as numbers(i)
"""


def make(file: Path, customers: int) -> None:
    """Write the warehouse: profiles, and an audience of all of them in another order."""
    profile = json.loads(MANIFEST.read_text())["nodes"]["model.customer_analytics.customer_360_profile"]["columns"]
    with duckdb.connect(str(file)) as connection:
        connection.execute("create schema marts; create schema ops")
        for table, columns in ops_columns().items():
            described = ", ".join(f"{name} {data_type}" for name, data_type in columns.items())
            connection.execute(f"create table ops.{table} ({described})")
        described = ", ".join(f"{name} {column['data_type']}" for name, column in profile.items())
        connection.execute(f"create table marts.customer_360_profile ({described})")
        connection.execute(f"insert into marts.customer_360_profile by name {ROWS}", [customers])
        connection.execute(
            "insert into ops.audience_memberships by name select 'premium' as campaign, as_of_date, customer_id, "
            "'exported' as status, 'treated' as split_group, row_number() over (order by hash(customer_id)) as rank, "
            "true as entered, as_of_date as entered_on from marts.customer_360_profile"
        )


def operator_of(file: Path, export_root: Path) -> ExportAudienceOperator:
    os.environ["AIRFLOW_CONN_WAREHOUSE"] = json.dumps({"conn_type": "duckdb", "host": str(file)})
    premium = next(each for each in load_catalog().campaigns if each.name == "premium")
    with DAG("benchmark", schedule=None, template_searchpath=TEMPLATE_FOLDERS):
        operator = ExportAudienceOperator(
            task_id="export",
            campaign=premium.model_copy(update={"columns": COLUMNS}),
            export_root=str(export_root),
            as_of_date=AS_OF_DATE,
        )
    operator.render_template_fields({"run_id": "benchmark"})
    return operator


@contextmanager
def measured() -> Iterator[None]:
    """Print the seconds and the memory that what is done within takes."""
    process, done = psutil.Process(), threading.Event()
    start = peak = process.memory_info().rss

    def sample() -> None:
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, process.memory_info().rss)

    thread = threading.Thread(target=sample)
    thread.start()
    began = time.perf_counter()
    yield
    seconds = time.perf_counter() - began
    done.set()
    thread.join()
    print(json.dumps({"seconds": seconds, "mebibytes": (peak - start) / 2**20}))


def main() -> None:
    what, file, customers = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if what == "make":
        make(file, customers)
        return
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        operator = operator_of(file, Path(folder))
        if what == "export":
            with measured():
                exported = operator.execute({"dag_run": SimpleNamespace(run_id="benchmark")})
            assert exported["row_count"] == customers
            return
        destination = operator.campaign.destination("csv")
        values = {"destination": destination, "columns": COLUMNS, "previous": "", "selected": ", ".join(COLUMNS)}
        sql = operator.render_sql("audiences/audience.sql", **values)
        spill: dict[str, Any] = {"memory_limit": MEMORY, "temp_directory": f"{folder}/spill"}
        with duckdb.connect(str(file), read_only=True, config=spill) as connection, measured():
            connection.execute(f"copy ({sql}) to '{folder}/audience.csv' (header)")


if __name__ == "__main__":
    main()
