"""Measures what benchmarks/README.md reports, at full size, and prints it as a table.

`make bench` runs all; `python -m benchmarks.run dag queries` runs some, and options make all of them smaller.
Everything happens in a temporary folder, which takes 25 GB of disk at full size.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import duckdb
import httpx
import psutil

from benchmarks.pages import DAYS_OF_HISTORY, publish, seconds_per_page
from benchmarks.simulated_campaigns import SimulatedCampaigns
from include.customer_360.catalog import load_catalog
from include.customer_360.operators.published_copy import renew_copy
from include.customer_360.settings import DBT_PROJECT, PROJECT_ROOT, Settings, load_settings
from local.local_airflow import LocalAirflow
from local.sample import write_sample

AS_OF_DATE = datetime.date(2026, 11, 21)
# How many times as much history, or as many customers, the same night is measured with.
GROWTH = 10
# A backfill is of past dates, this many days apart.
BACKFILLED_DAYS_APART = 30
NIGHTS = 30
# So many processes ask the published copy so many times a second between them, through so many refreshes.
READERS, READS_A_SECOND, REFRESHES_READ = 4, 200, 3
RUN_SCHEMA = "marts_run_benchmark"
AS_OF_MODELS = ["--select", "path:models/intermediate", "path:models/marts", "--exclude", "customer_360_history"]
LOAD_MODELS = (
    "touched_customer_months",
    "stg_transaction_days",
    "stg_transaction_rows",
    "stg_transactions",
    "fct_transactions",
    "rejected_transactions",
    "loaded_transaction_days",
)
DAG_ID = "customer_360_refresh"
QUERIES = {
    "single-customer lookup": "select * from marts.customer_360_profile where customer_id = 'CUST00025000'",
    "segment dashboard": (
        "select customer_segment, count(*), avg(lifetime_value), avg(avg_transaction_value), avg(spend_change_pct) "
        "from marts.customer_360_profile group by customer_segment order by 3 desc"
    ),
    "campaign query (retention)": (
        "select customer_id, full_name, email, lifetime_value, spend_change_pct from marts.customer_360_profile "
        "where eligible_for_retention_campaign and lifetime_value >= 50000 "
        "order by spend_change_pct asc nulls last, customer_id limit 1000"
    ),
}


@dataclass
class Bench:
    """The folder that the measurements share, their size, and the rows of the table they fill."""

    folder: Path
    customers: int
    months: int
    rounds: int = 3
    rows: list[tuple[str, str]] = field(default_factory=list)
    exports: dict[str, list[dict]] = field(default_factory=dict)

    @property
    def sources(self) -> Path:
        """The warehouse with nothing but sources; made at the first use."""
        file = self.folder / "sources.duckdb"
        if not file.exists():
            self.sample("sources", self.customers, self.months, AS_OF_DATE)
        return file

    def sample(self, name: str, customers: int, months: int, as_of_date: datetime.date) -> Path:
        """Write a warehouse with nothing but sources that end on as_of_date."""
        file = self.folder / f"{name}.duckdb"
        began = time.perf_counter()
        counts = write_sample(file, customers=customers, months=months, seed=42, as_of_date=as_of_date)
        self.report(
            f"sample: {counts.customers:,} customers, {months} months, {counts.transactions:,} transactions",
            f"{time.perf_counter() - began:.1f} s",
        )
        return file

    def warehouse(self, name: str, source: str = "sources") -> Path:
        """Return a copy of a warehouse file; no process has it open and no .wal lies beside it."""
        original = self.sources if source == "sources" else self.folder / f"{source}.duckdb"
        copy = self.folder / f"{name}.duckdb"
        assert not original.with_name(f"{original.name}.wal").exists()
        shutil.copy(original, copy)
        return copy

    def remove(self, *names: str) -> None:
        """Remove warehouse files that no later measurement needs."""
        for name in names:
            for left in self.folder.glob(f"{name}.*"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()

    def report(self, what: str, measured: str) -> None:
        self.rows.append((what, measured))
        print(f"| {what} | {measured} |", flush=True)


def dbt(warehouse: Path, *arguments: str, run_schema: str = "") -> float:
    """Run dbt on a warehouse file as a person would, and return the seconds it took."""
    began = time.perf_counter()
    run_dbt(warehouse, [str(Path(sys.executable).with_name("dbt")), *arguments], run_schema)
    return time.perf_counter() - began


def run_dbt(warehouse: Path, command: list[str], run_schema: str) -> subprocess.CompletedProcess[str]:
    """Run a command that is dbt, as nights do, with its artifacts beside the warehouse file."""
    environment = os.environ | {
        "WAREHOUSE_FILE": str(warehouse),
        "AS_OF_DATE": AS_OF_DATE.isoformat(),
        "RUN_SCHEMA": run_schema,
        "TEST_SCOPE": "touched",
    }
    artifacts = [
        "--target-path",
        str(warehouse.with_suffix(".target")),
        "--log-path",
        str(warehouse.with_suffix(".logs")),
    ]
    done = subprocess.run([*command, *artifacts], cwd=DBT_PROJECT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[-6:])} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done


@contextmanager
def peak_memory(pid: int) -> Iterator[dict[str, int]]:
    """Sample the memory of a process and all below it: `total` is their proportional set, `largest` that of one."""
    peak = {"total": 0, "largest": 0}
    done = threading.Event()

    def sample() -> None:
        while not done.wait(0.5):
            sizes = []
            for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
                try:
                    sizes.append(process.memory_full_info().pss)
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    continue
            peak["total"] = max(peak["total"], sum(sizes))
            peak["largest"] = max(peak["largest"], max(sizes, default=0))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def seconds(later: str, earlier: str) -> float:
    return (datetime.datetime.fromisoformat(later) - datetime.datetime.fromisoformat(earlier)).total_seconds()


@dataclass(frozen=True)
class DagRunSeconds:
    """From a run's first task to its asset event, or to its last task where it publishes nothing; and of that, how
    long at least one validation ran."""

    total: float
    validations: float

    @property
    def without_validations(self) -> float:
        return self.total - self.validations


def dag_run(airflow: LocalAirflow, as_of_date: datetime.date = AS_OF_DATE, full_refresh: bool = False) -> DagRunSeconds:
    """Run the Dag once, and return how long it took."""
    form = {"as_of_date": as_of_date.isoformat(), "full_refresh": full_refresh}
    with airflow.client() as client:
        answer = client.post(f"dags/{DAG_ID}/dagRuns", json={"logical_date": None, "conf": form})
        run_id = answer.raise_for_status().json()["dag_run_id"]
        while (state := client.get(f"dags/{DAG_ID}/dagRuns/{run_id}").json()["state"]) not in ("success", "failed"):
            airflow.check()
            time.sleep(1)
        if state == "failed":
            raise RuntimeError(f"{DAG_ID} {run_id} failed: see {airflow.home / 'logs'}")
        return run_seconds(airflow, client, run_id)


def run_seconds(airflow: LocalAirflow, client: httpx.Client, run_id: str) -> DagRunSeconds:
    """Return how long a run took that went well, from its first task's start to its asset event."""
    answer = client.get(f"dags/{DAG_ID}/dagRuns/{run_id}/taskInstances", params={"limit": 200})
    tasks = [task for task in answer.json()["task_instances"] if task["start_date"]]
    first, last = min(task["start_date"] for task in tasks), max(task["end_date"] for task in tasks)
    if all(task["state"] == "success" for task in tasks):
        # An error until the run that the event created has started.
        while (answer := client.get("assets/events", params={"source_run_id": run_id})).is_error:
            airflow.check()
            time.sleep(1)
        last = answer.json()["asset_events"][0]["timestamp"]
    return DagRunSeconds(seconds(last, first), seconds_covered(validations_of(tasks)))


def validations_of(tasks: list[dict[str, str]]) -> list[tuple[str, str]]:
    """Return start and end of the tasks that validate."""
    return [
        (task["start_date"], task["end_date"])
        for task in tasks
        if task["task_id"].rpartition(".")[2].startswith("validate_")
    ]


def seconds_covered(spans: list[tuple[str, str]]) -> float:
    """Return for how long at least one of the spans lasted: they may overlap."""
    covered, reached = 0.0, ""
    for start, end in sorted(spans):
        if end > reached:
            covered += seconds(end, max(start, reached))
            reached = end
    return covered


def measure_dag(bench: Bench) -> None:
    """Whole Dag run against the bare dbt build of the same selection, on equal files in turn; and memory."""
    # What the Dag has dbt build and test, and no more.
    build = ("build", "--exclude-resource-type", "unit_test", "--exclude", "tag:first_load_only")
    taken: dict[str, list[float]] = {"first build": [], "first run": [], "next build": [], "next run": []}
    for _ in range(bench.rounds):
        bare, with_airflow = bench.warehouse("bare"), bench.warehouse("dag")
        dbt(bare, "parse")
        taken["first build"].append(dbt(bare, *build))
        taken["next build"].append(dbt(bare, *build))
        with started_airflow(bench, with_airflow) as airflow:
            taken["first run"].append(dag_run(airflow).total)
            taken["next run"].append(dag_run(airflow).total)
    with started_airflow(bench, with_airflow) as airflow:
        assert airflow.process
        # Apart from the timed runs: to look at the memory of every process takes its time.
        with peak_memory(airflow.process.pid) as peak:
            dag_run(airflow, full_refresh=True)
    middle = {what: statistics.median(times) for what, times in taken.items()}
    for load, title in (("first", "first load"), ("next", "no new rows")):
        ratios = [run / build for run, build in zip(taken[f"{load} run"], taken[f"{load} build"], strict=True)]
        bench.report(f"bare dbt build, {title}, median of {bench.rounds}", f"{middle[f'{load} build']:.1f} s")
        bench.report(
            f"whole Dag run, {title} (first task start to asset event), median of {bench.rounds}",
            f"{middle[f'{load} run']:.1f} s",
        )
        bench.report(
            f"**Dag run / bare dbt build, {title}, median of {bench.rounds}**",
            f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})",
        )
    bench.report("peak memory, all of Airflow with its tasks (proportional set)", f"{peak['total'] / 2**30:.1f} GiB")
    bench.report("peak memory, the largest process (the dbt build)", f"{peak['largest'] / 2**30:.1f} GiB")
    bench.remove("bare", "dag")


def prepare_manifest(warehouse: Path) -> None:
    """Parse the dbt project for this warehouse, as `make` has done before Airflow starts."""
    environment = os.environ | {"WAREHOUSE_FILE": str(warehouse)}
    subprocess.run([sys.executable, "-m", "local.dbt_manifest"], check=True, env=environment)


@contextmanager
def started_airflow(bench: Bench, warehouse: Path, prepared: bool = False) -> Iterator[LocalAirflow]:
    """Run an Airflow on this warehouse that has parsed the Dags, as new as on the first day."""
    settings = Settings(warehouse_file=warehouse, export_root=str(bench.folder / "exports"), _env_file=None)
    if not prepared:
        prepare_manifest(warehouse)
    airflow = LocalAirflow(settings)
    try:
        with airflow:
            airflow.wait_until_healthy()
            yield airflow
    finally:
        shutil.rmtree(airflow.home, ignore_errors=True)


IMPORTED_DBT = """
import sys, time
began = time.perf_counter()
from dbt.cli.main import dbtRunner
import dbt.adapters.duckdb
imported = time.perf_counter()
assert dbtRunner().invoke(sys.argv[1:]).success
print(imported - began, time.perf_counter() - imported, file=sys.stderr)
"""


def measure_models(bench: Bench) -> None:
    """The dbt build of the as-of models against a hand-tuned script, alternating on one file; rows must be equal.

    Once from a shell, which imports dbt first, and once where dbt is imported, as it is in the nightly task.
    """
    file = bench.warehouse("models")
    dbt(file, "build", "--exclude-resource-type", "unit_test")
    build = ("build", *AS_OF_MODELS, "--exclude-resource-type", "unit_test")
    dbt(file, *build, run_schema=RUN_SCHEMA)
    script = (Path(__file__).parent / "hand_tuned.sql").read_text().format(as_of_date=AS_OF_DATE)
    imports: list[float] = []
    imported: list[float] = []
    from_shell, nodes, scripts = [], [], []
    for _ in range(bench.rounds):
        from_shell.append(dbt(file, *build, run_schema=RUN_SCHEMA))
        done = run_dbt(file, [sys.executable, "-c", IMPORTED_DBT, *build], RUN_SCHEMA)
        for times, measured in zip((imports, imported), done.stderr.split()[-2:], strict=True):
            times.append(float(measured))
        nodes.append(json.loads((file.with_suffix(".target") / "run_results.json").read_text())["elapsed_time"])
        began = time.perf_counter()
        run_by_hand(file, script)
        scripts.append(time.perf_counter() - began)
    with duckdb.connect(str(file)) as connection:
        # Results of campaigns, none here, are no part of the script.
        for mart in (mart.name for mart in load_catalog().marts if mart.name != "campaign_results"):
            columns = ", ".join(row[0] for row in connection.execute(f"describe {RUN_SCHEMA}.{mart}").fetchall())
            built, by_hand = (f"select {columns} from {schema}.{mart}" for schema in (RUN_SCHEMA, "hand_tuned"))
            [(differing,)] = connection.execute(
                f"select count(*) from (({built} except all {by_hand}) union all ({by_hand} except all {built}))"
            ).fetchall()
            assert differing == 0, f"{mart} differs from the hand-tuned script in {differing} rows"
    bench.report(
        f"dbt build of the as-of models with their tests, where dbt is imported, median of {bench.rounds}",
        f"{statistics.median(imported):.1f} s",
    )
    bench.report(
        f"the same from a shell, median of {bench.rounds}; import of dbt alone",
        f"{statistics.median(from_shell):.1f} s; {statistics.median(imports):.1f} s",
    )
    bench.report(
        f"hand-tuned DuckDB script, same rows, median of {bench.rounds}", f"{statistics.median(scripts):.1f} s"
    )
    parts = {"models and tests only": nodes, "where dbt is imported": imported, "from a shell": from_shell}
    for where, builds in parts.items():
        ratio = statistics.median(build / script for build, script in zip(builds, scripts, strict=True))
        aim = " (aim 1.6)" if builds is nodes else ""
        bench.report(f"**dbt build / hand-tuned script, {where}**{aim}", f"**{ratio:.2f}**")


def deliver_day(warehouse: Path, day: datetime.date) -> int:
    """Add to raw.transactions what the night after `day` brings, and return the number of rows.

    As many transactions as the day before had, of the same customers and with ids of their own; one of 100 is of a day
    up to three weeks earlier; and one of 1,000 transactions of the ten days before comes again, corrected.
    """
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("set variable day = $day", {"day": day})
        [(before,)] = connection.execute("select count(*) from raw.transactions").fetchall()
        connection.execute(
            """
            insert into raw.transactions by name
            with recent as (
                select distinct on (transaction_id)
                    *,
                    hash(transaction_id) % 1000 as lot
                from raw.transactions
                where
                    transaction_id is not null
                    and transaction_date between getvariable('day') - 10 and getvariable('day') - 1
                order by transaction_id, ingested_at
            )

            select * exclude (lot) replace (
                'DAY' || strftime(getvariable('day'), '%m%d') || substr(transaction_id, 4) as transaction_id,
                getvariable('day') - if(lot < 10, 2 + 2 * cast(lot as integer), 0) as transaction_date,
                getvariable('day') + interval 25 hours + to_seconds(cast(lot as integer)) as ingested_at
            )
            from recent
            where transaction_date = getvariable('day') - 1
            union all
            select * exclude (lot) replace (
                coalesce(round(try_cast(transaction_amount as double) * 0.9, 2), 1)::varchar as transaction_amount,
                getvariable('day') + interval 26 hours + to_seconds(cast(lot as integer)) as ingested_at
            )
            from recent
            where lot = 500
            """
        )
        [(after,)] = connection.execute("select count(*) from raw.transactions").fetchall()
    return after - before


def measure_growth(bench: Bench, what: str, times: dict[str, tuple[int, int]], aim: float) -> None:
    """The same night on a smaller and on a larger warehouse, in turn.

    After the first load one new day arrives, then the whole refresh runs, as often as there are rounds; then once more
    to see how much memory it takes.

    :param times: by name, customers and months of the two; the second is the larger one.
    :param aim: how many times as long the larger one may take.
    """
    first = AS_OF_DATE - datetime.timedelta(days=bench.rounds + 1)
    files = {name: bench.sample(name, *size, first) for name, size in times.items()}
    for name, file in files.items():
        with started_airflow(bench, file) as airflow:
            loaded = dag_run(airflow, first)
        bench.report(f"{name}: whole Dag run, first load", f"{loaded.total:.1f} s")
    rows: dict[str, int] = {}
    whole: dict[str, list[float]] = {name: [] for name in files}
    runs: dict[str, list[DagRunSeconds]] = {name: [] for name in files}
    for number in range(bench.rounds):
        day = first + datetime.timedelta(days=number + 1)
        for name, file in files.items():
            rows[name] = deliver_day(file, day)
            prepare_manifest(file)
            began = time.perf_counter()
            with started_airflow(bench, file, prepared=True) as airflow:
                runs[name].append(dag_run(airflow, day))
                whole[name].append(time.perf_counter() - began)
    small, large = files
    for name, file in files.items():
        deliver_day(file, AS_OF_DATE)
        with started_airflow(bench, file) as airflow:
            assert airflow.process
            # Apart from the timed runs: to look at the memory of every process takes its time.
            with peak_memory(airflow.process.pid) as peak:
                dag_run(airflow)
        bench.report(
            f"{name}: refresh with {rows[name]:,} new rows, Airflow's start to asset event, median of {bench.rounds}",
            f"{statistics.median(whole[name]):.1f} s",
        )
        bench.report(
            f"{name}: peak memory of that, all of Airflow; the largest process",
            f"{peak['total'] / 2**30:.1f} GiB; {peak['largest'] / 2**30:.1f} GiB",
        )
    parts: dict[str, dict[str, list[float]]] = {
        "refresh": whole,
        "Dag run alone": {name: [run.total for run in runs[name]] for name in files},
        "Dag run without validations": {name: [run.without_validations for run in runs[name]] for name in files},
    }
    for part, taken in parts.items():
        ratios = [more / less for more, less in zip(taken[large], taken[small], strict=True)]
        told = f" (aim {aim:g})" if part == "refresh" else ""
        bench.report(
            f"**{what}, {part}, median of {bench.rounds}**{told}",
            f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})",
        )
    bench.remove(*files)


def measure_history(bench: Bench) -> None:
    """The same night behind ten times the history."""
    times = {f"{months} months": (bench.customers, months) for months in (bench.months, GROWTH * bench.months)}
    measure_growth(bench, f"{GROWTH} times the history", times, aim=1.5)


def measure_customers(bench: Bench) -> None:
    """The same night with ten times the customers."""
    times = {
        f"{customers:,} customers": (customers, bench.months)
        for customers in (bench.customers, GROWTH * bench.customers)
    }
    measure_growth(bench, f"{GROWTH} times the customers", times, aim=6)


def measure_backfill(bench: Bench) -> None:
    """Dates of the past, one after the other, when core is loaded; and the newest date again, in turn."""
    file = bench.warehouse("backfill")
    past, again = [], []
    with started_airflow(bench, file) as airflow:
        dag_run(airflow)
        for number in range(bench.rounds):
            past.append(
                dag_run(airflow, AS_OF_DATE - datetime.timedelta(days=BACKFILLED_DAYS_APART * (number + 1))).total
            )
            again.append(dag_run(airflow).total)
    bench.report(
        f"one backfilled date when core is loaded, whole Dag run, median of {bench.rounds}",
        f"{statistics.median(past):.1f} s",
    )
    ratio = statistics.median(one / other for one, other in zip(past, again, strict=True))
    bench.report("backfilled date / the newest date again (no new rows)", f"{ratio:.2f}")
    bench.remove("backfill")


def measure_load(bench: Bench) -> None:
    """The first load of the fact by dbt, without tests, against the hand-tuned script, on equal files in turn.

    Rows must be equal.
    """
    prepared = bench.warehouse("unloaded")
    dbt(
        prepared,
        "build",
        "--select",
        "merchant_categories",
        "customers_snapshot",
        "--resource-type",
        "seed",
        "snapshot",
    )
    script = (Path(__file__).parent / "hand_tuned_load.sql").read_text()
    nodes, scripts, models = [], [], {}
    for number in range(bench.rounds):
        file = bench.warehouse("load", "unloaded")
        # Parsed before: what is measured is the load.
        dbt(file, "parse")
        dbt(file, "run", "--select", *LOAD_MODELS)
        results = json.loads((file.with_suffix(".target") / "run_results.json").read_text())
        nodes.append(results["elapsed_time"])
        models = {node["unique_id"].rpartition(".")[2]: node["execution_time"] for node in results["results"]}
        by_hand = bench.warehouse("by_hand", "unloaded")
        began = time.perf_counter()
        run_by_hand(by_hand, script)
        scripts.append(time.perf_counter() - began)
        if number == 0:
            assert_same_load(file, by_hand)
    ratios = [node / by_hand for node, by_hand in zip(nodes, scripts, strict=True)]
    bench.report(
        f"first load of the fact by dbt, models only, median of {bench.rounds}", f"{statistics.median(nodes):.1f} s"
    )
    bench.report(
        "of that, in the last round",
        ", ".join(f"{model} {taken:.1f} s" for model, taken in models.items() if taken >= 0.05),
    )
    bench.report(f"hand-tuned load, same rows, median of {bench.rounds}", f"{statistics.median(scripts):.1f} s")
    bench.report(
        f"**first load by dbt / hand-tuned load, median of {bench.rounds}** (aim 1.5)",
        f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})",
    )
    bench.remove("load", "by_hand", "unloaded")


def run_by_hand(warehouse: Path, script: str) -> None:
    """Run a script on a warehouse file, in a process of its own and within the memory that dbt has."""
    program = (
        "import duckdb, sys; connection = duckdb.connect(sys.argv[1], config={'memory_limit': sys.argv[2]}); "
        "connection.execute('set enable_progress_bar = false'); connection.execute(sys.stdin.read())"
    )
    memory = load_settings().warehouse_memory
    subprocess.run([sys.executable, "-c", program, str(warehouse), memory], input=script, text=True, check=True)


def assert_same_load(by_dbt: Path, by_hand: Path) -> None:
    """See that both files hold the same transactions and rejected rows, repeated rows as often.

    :raises AssertionError: naming the table and the number of rows that only one has.
    """
    with duckdb.connect() as connection:
        connection.execute(f"attach '{by_dbt}' as by_dbt (read_only)")
        connection.execute(f"attach '{by_hand}' as by_hand (read_only)")
        for table in ("fct_transactions", "rejected_transactions"):
            columns = ", ".join(row[0] for row in connection.execute(f"describe by_dbt.core.{table}").fetchall())
            one, other = (
                f"select {columns} from by_dbt.core.{table}",
                f"select {columns} from by_hand.hand_tuned_load.{table}",
            )
            [(differing,)] = connection.execute(
                f"select count(*) from (({one} except all {other}) union all ({other} except all {one}))"
            ).fetchall()
            assert differing == 0, f"{table} differs from the hand-tuned load in {differing} rows"


def measure_size(bench: Bench) -> None:
    """The size of the warehouse file after many nights on sources that stay as they are."""
    file = bench.sample("size", bench.customers, bench.months, AS_OF_DATE - datetime.timedelta(days=NIGHTS))
    first = AS_OF_DATE - datetime.timedelta(days=NIGHTS - 1)
    command = [
        sys.executable,
        "-m",
        "benchmarks.nights",
        str(file),
        "--first",
        first.isoformat(),
        "--nights",
        str(NIGHTS),
    ]
    done = subprocess.run(command, cwd=PROJECT_ROOT, check=True, capture_output=True, text=True)
    sizes = [int(size) for size in re.findall(r"^after night \d+: (\d+) bytes$", done.stdout, flags=re.MULTILINE)]
    bench.report("warehouse file after the first night", f"{sizes[0] / 1e6:,.0f} MB")
    bench.report(
        f"**warehouse file after {NIGHTS} nights / after the first** (aim 1.3)",
        f"**{sizes[-1] / sizes[0]:.2f}** (at most {max(sizes) / sizes[0]:.2f} on the way)",
    )
    bench.remove("size")


def measure_queries(bench: Bench) -> None:
    """Median of 50 runs of each query on the published marts, one warm connection."""
    file = bench.folder / "models.duckdb"
    if not file.exists():
        dbt(bench.warehouse("models"), "build", "--exclude-resource-type", "unit_test")
    with duckdb.connect(str(file), read_only=True) as connection:
        for name, sql in QUERIES.items():
            taken = []
            for _ in range(50):
                began = time.perf_counter()
                connection.execute(sql).fetchall()
                taken.append(time.perf_counter() - began)
            bench.report(name, f"{statistics.median(taken) * 1000:.1f} ms")


def measure_screens(bench: Bench) -> None:
    """Seconds until a page of the screens stands in a browser, on the customers and on ten times as many."""
    file = bench.folder / "models.duckdb"
    if not file.exists():
        dbt(bench.warehouse("models"), "build", "--exclude-resource-type", "unit_test")
    for times in (1, GROWTH):
        publish(file, times)
        taken = seconds_per_page(file, 5 * bench.rounds)
        bench.report(
            f"page of the screens, {times * bench.customers:,} customers, {DAYS_OF_HISTORY} days of history, median of "
            f"{5 * bench.rounds}, ms",
            ", ".join(f"{title} {seconds * 1000:.0f}" for title, seconds in taken.items()),
        )


@contextmanager
def reading(published: Path, customers: int) -> Iterator[list[dict]]:
    """Have READERS processes ask the copy READS_A_SECOND times between them; the list has what each saw, at the end."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.readers",
        str(published),
        str(customers),
        str(READS_A_SECOND / READERS),
    ]
    readers = [
        subprocess.Popen(command, cwd=PROJECT_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(READERS)
    ]
    seen: list[dict] = []
    try:
        yield seen
    finally:
        seen += [json.loads(reader.communicate()[0]) for reader in readers]


def measure_readers(bench: Bench) -> None:
    """Readers of the published copy through three whole refreshes, each of a new day, and the exports that follow."""
    first = AS_OF_DATE - datetime.timedelta(days=REFRESHES_READ)
    file = bench.sample("readers", bench.customers, bench.months, first)
    published = Settings(warehouse_file=file, _env_file=None).published_file
    with started_airflow(bench, file) as airflow:
        dag_run(airflow, first)
        wait_for_exports(airflow, 1)
        began = time.perf_counter()
        with reading(published, bench.customers) as seen:
            for number in range(1, REFRESHES_READ + 1):
                day = first + datetime.timedelta(days=number)
                deliver_day(file, day)
                dag_run(airflow, day)
                wait_for_exports(airflow, number + 1)
        took = time.perf_counter() - began
    taken = sorted(each for reader in seen for each in reader["milliseconds"])
    errors = [error for reader in seen for error in reader["errors"]]
    dates = {date for reader in seen for date in reader["dates"]}
    bench.report(
        f"reads of the copy by {READERS} processes through {REFRESHES_READ} refreshes, {took:.0f} s",
        f"{len(taken):,}, {len(taken) / took:.0f} a second, of {len(dates)} dates",
    )
    bench.report(
        "**errors; answers of more than one as_of_date** (aim 0; 0)",
        f"**{len(errors)}; {sum(reader['mixed'] for reader in seen)}**" + "".join(f" ({each})" for each in errors[:1]),
    )
    bench.report(
        "milliseconds of a read: median; 99 of 100; 999 of 1,000; the longest",
        "; ".join(f"{taken[min(int(len(taken) * share), len(taken) - 1)]:.1f}" for share in (0.5, 0.99, 0.999, 1)),
    )
    bench.report(
        "the copy; names and addresses; the warehouse",
        "; ".join(
            f"{each.stat().st_size / 1e6:.0f} MB"
            for each in (published, published.with_stem(f"{published.stem}_personal"), file)
        ),
    )
    whole = measured_renewals(file, bench.rounds, None)
    part = measured_renewals(file, bench.rounds, ())
    bench.report(f"renewal of the whole copy; of what is seen of ops, median of {bench.rounds}", f"{whole}; {part}")
    bench.remove("readers", "readers_published", "readers_published_personal")


def wait_for_exports(airflow: LocalAirflow, count: int) -> None:
    """Wait until so many runs of campaign_exports have ended."""
    with airflow.client() as client:
        while True:
            runs = client.get("dags/campaign_exports/dagRuns", params={"limit": 100}).raise_for_status().json()
            if sum(run["state"] in ("success", "failed") for run in runs["dag_runs"]) >= count:
                return
            airflow.check()
            time.sleep(0.5)


def measured_renewals(file: Path, rounds: int, changed: tuple[str, ...] | None) -> str:
    """Return how long a renewal of the copy takes, as operators have the warehouse open."""
    settings = Settings(warehouse_file=file, _env_file=None)
    taken = []
    for _ in range(rounds):
        with duckdb.connect(str(file), config={"memory_limit": settings.warehouse_memory}) as connection:
            began = time.perf_counter()
            renew_copy(connection.cursor(), settings, print, changed)
            taken.append(time.perf_counter() - began)
    return f"{statistics.median(taken):.2f} s"


def measure_exports(bench: Bench) -> None:
    """An audience of 100 times the customers, 5 million, against DuckDB's own COPY of the same rows; peak memory."""
    customers = 100 * bench.customers
    file = bench.folder / "audience.duckdb"
    for what in ("make", *["copy", "export"] * bench.rounds):
        command = [sys.executable, "-m", "benchmarks.audience", what, str(file), str(customers)]
        done = subprocess.run(command, cwd=PROJECT_ROOT, check=True, capture_output=True, text=True)
        if what != "make":
            bench.exports.setdefault(what, []).append(json.loads(done.stdout.splitlines()[-1]))
    taken = {what: statistics.median(each["seconds"] for each in found) for what, found in bench.exports.items()}
    bench.report(f"COPY of an audience of {customers:,}, median of {bench.rounds}", f"{taken['copy']:.1f} s")
    bench.report("its export: audience.csv, entered.csv, left.csv, checks", f"{taken['export']:.1f} s")
    bench.report("**export / COPY** (aim 3)", f"**{taken['export'] / taken['copy']:.2f}**")
    peak = max(each["mebibytes"] for each in bench.exports["export"])
    bench.report("peak memory of the export's process over its start (aim 600 MiB)", f"{peak:.0f} MiB")
    bench.remove("audience")


def measure_campaigns(bench: Bench) -> None:
    """What campaign_results says of 2,000 simulated campaigns with no effect and 2,000 with 8 % more spend.

    The share of the population that enters goes down, so that the holdout of 5 % does: 320 held out of 20,000
    customers, then 100, 50 and 25.
    """
    campaigns = 2_000
    simulated = SimulatedCampaigns(bench.folder, 20_000)
    for effect in (0.0, 0.08):
        simulated.plant(effect)
        for share in (0.32, 0.1, 0.05, 0.025):
            found = simulated.run(campaigns, entering_share=share)
            significant = "false positives" if effect == 0 else "found significant"
            bench.report(
                f"{campaigns:,} campaigns, effect {100 * effect:.0f} %, {found.held_out:.0f} held out "
                f"(fewest {found.fewest_held_out}): coverage; of the plain interval; {significant}; interval / plain",
                f"{found.coverage_pct:.2f} %; {found.plain_coverage_pct:.2f} %; {found.significant_pct:.2f} %; "
                f"{found.interval_ratio:.2f}",
            )
    bench.remove("simulated", "simulated_sources")


def measure_parsing(bench: Bench) -> None:
    """How long Airflow takes over each Dag file, in a process that has Airflow imported already."""
    program = (
        "import sys, time; from airflow.dag_processing.dagbag import DagBag; import airflow.plugins_manager as p; "
        "p.ensure_plugins_loaded() if hasattr(p, 'ensure_plugins_loaded') else None; began = time.perf_counter(); "
        "bag = DagBag(sys.argv[1]); first = time.perf_counter() - began; assert bag.dags and not bag.import_errors; "
        "began = time.perf_counter(); DagBag(sys.argv[1]); print(first, time.perf_counter() - began, file=sys.stderr)"
    )
    environment = os.environ | {
        "AIRFLOW_HOME": str(bench.folder / "parsing"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT_ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": f"{PROJECT_ROOT}:{PROJECT_ROOT / 'plugins'}",
    }
    for file in sorted((PROJECT_ROOT / "dags").glob("*.py")):
        done = subprocess.run(
            [sys.executable, "-c", program, str(file)], env=environment, check=True, capture_output=True, text=True
        )
        first, again = map(float, done.stderr.split()[-2:])
        bench.report(f"parse of dags/{file.name}", f"{first:.2f} s first, {again:.2f} s again in the same process")


def measure_refresh(bench: Bench) -> None:
    """`make refresh` in a fresh clone, from set-up to summary; the package cache is as it is."""
    clone = bench.folder / "clone"
    subprocess.run(["git", "clone", "--quiet", str(PROJECT_ROOT), str(clone)], check=True)
    environment = {
        name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL")
    }
    for number, what in ((1, "in a fresh clone"), (2, "again")):
        began = time.perf_counter()
        with (bench.folder / f"refresh-{number}.log").open("wb") as log:
            subprocess.run(["make", "refresh"], cwd=clone, env=environment, stdout=log, stderr=log, check=True)
        bench.report(f"make refresh, {what}", f"{time.perf_counter() - began:.0f} s")


MEASUREMENTS: dict[str, Callable[[Bench], None]] = {
    "dag": measure_dag,
    "history": measure_history,
    "customers": measure_customers,
    "backfill": measure_backfill,
    "load": measure_load,
    "size": measure_size,
    "models": measure_models,
    "queries": measure_queries,
    "screens": measure_screens,
    "readers": measure_readers,
    "exports": measure_exports,
    "campaigns": measure_campaigns,
    "parsing": measure_parsing,
    "refresh": measure_refresh,
}


def machine() -> str:
    packages = ("apache-airflow", "astronomer-cosmos", "dbt-core", "dbt-duckdb", "duckdb")
    return (
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {os.cpu_count()} cores, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB, Python {platform.python_version()}, "
        + ", ".join(f"{package} {version(package)}" for package in packages)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measurements", nargs="*", choices=[*MEASUREMENTS, []], help="all, when none is named")
    parser.add_argument("--customers", type=int, default=50_000)
    parser.add_argument("--months", type=int, default=18)
    parser.add_argument("--rounds", type=int, default=3, help="of each ratio the median of so many is reported")
    arguments = parser.parse_args()
    print(f"{machine()}\n\n| what | measured |\n|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        bench = Bench(Path(folder), arguments.customers, arguments.months, arguments.rounds)
        for name in arguments.measurements or MEASUREMENTS:
            MEASUREMENTS[name](bench)


if __name__ == "__main__":
    main()
