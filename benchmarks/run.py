"""Measures what benchmarks/README.md reports, at full size, and prints it as a table.

`make bench` runs all; `python -m benchmarks.run dag queries` runs some. Everything happens in a temporary folder.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
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
import psutil

from include.customer_360.catalog import load_catalog
from include.customer_360.settings import DBT_PROJECT, PROJECT_ROOT, Settings
from local.local_airflow import LocalAirflow
from local.sample import write_sample

AS_OF_DATE = datetime.date(2026, 11, 21)
RUN_SCHEMA = "marts_run_benchmark"
AS_OF_MODELS = ["--select", "path:models/intermediate", "path:models/marts", "--exclude", "customer_360_history"]
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
    """The folder that the measurements share, and the rows of the table they fill."""

    folder: Path
    customers: int
    months: int
    rows: list[tuple[str, str]] = field(default_factory=list)

    @property
    def sources(self) -> Path:
        """The warehouse with nothing but sources; made at the first use."""
        file = self.folder / "sources.duckdb"
        if not file.exists():
            began = time.perf_counter()
            counts = write_sample(file, customers=self.customers, months=self.months, seed=42, as_of_date=AS_OF_DATE)
            self.report(
                f"sample: {counts.customers:,} customers, {counts.transactions:,} transactions",
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

    def report(self, what: str, measured: str) -> None:
        self.rows.append((what, measured))
        print(f"| {what} | {measured} |", flush=True)


def dbt(warehouse: Path, *arguments: str, run_schema: str = "") -> float:
    """Run dbt on a warehouse file as a person would, and return the seconds it took."""
    began = time.perf_counter()
    run_dbt(warehouse, [str(Path(sys.executable).with_name("dbt")), *arguments], run_schema)
    return time.perf_counter() - began


def run_dbt(warehouse: Path, command: list[str], run_schema: str) -> subprocess.CompletedProcess[str]:
    """Run a command that is dbt, with its artifacts beside the warehouse file."""
    environment = os.environ | {
        "WAREHOUSE_FILE": str(warehouse),
        "AS_OF_DATE": AS_OF_DATE.isoformat(),
        "RUN_SCHEMA": run_schema,
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


def dag_run(airflow: LocalAirflow, full_refresh: bool = False) -> float:
    """Run the Dag once, and return the seconds from its first task's start to its asset event."""
    form = {"as_of_date": AS_OF_DATE.isoformat(), "full_refresh": full_refresh}
    with airflow.client() as client:
        answer = client.post(f"dags/{DAG_ID}/dagRuns", json={"logical_date": None, "conf": form})
        run_id = answer.raise_for_status().json()["dag_run_id"]
        while (state := client.get(f"dags/{DAG_ID}/dagRuns/{run_id}").json()["state"]) not in ("success", "failed"):
            airflow.check()
            time.sleep(1)
        if state == "failed":
            raise RuntimeError(f"{DAG_ID} {run_id} failed: see {airflow.home / 'logs'}")
        tasks = client.get(f"dags/{DAG_ID}/dagRuns/{run_id}/taskInstances", params={"limit": 200}).json()
        first = min(task["start_date"] for task in tasks["task_instances"] if task["start_date"])
        # An error until the run that the event created has started.
        while (answer := client.get("assets/events", params={"source_run_id": run_id})).is_error:
            airflow.check()
            time.sleep(1)
        return seconds(answer.json()["asset_events"][0]["timestamp"], first)


def measure_dag(bench: Bench, rounds: int = 3) -> None:
    """Whole Dag run against the bare dbt build of the same selection, on equal files in turn; and memory."""
    build = ("build", "--exclude-resource-type", "unit_test")
    taken: dict[str, list[float]] = {"first build": [], "first run": [], "next build": [], "next run": []}
    for _ in range(rounds):
        bare, with_airflow = bench.warehouse("bare"), bench.warehouse("dag")
        dbt(bare, "parse")
        taken["first build"].append(dbt(bare, *build))
        taken["next build"].append(dbt(bare, *build))
        with started_airflow(bench, with_airflow) as airflow:
            taken["first run"].append(dag_run(airflow))
            taken["next run"].append(dag_run(airflow))
    with started_airflow(bench, with_airflow) as airflow:
        assert airflow.process
        # Apart from the timed runs: to look at the memory of every process takes its time.
        with peak_memory(airflow.process.pid) as peak:
            dag_run(airflow, full_refresh=True)
    middle = {what: statistics.median(times) for what, times in taken.items()}
    for load, title in (("first", "first load"), ("next", "no new rows")):
        ratios = [run / build for run, build in zip(taken[f"{load} run"], taken[f"{load} build"], strict=True)]
        bench.report(f"bare dbt build, {title}, median of {rounds}", f"{middle[f'{load} build']:.1f} s")
        bench.report(
            f"whole Dag run, {title} (first task start to asset event), median of {rounds}",
            f"{middle[f'{load} run']:.1f} s",
        )
        bench.report(
            f"**Dag run / bare dbt build, {title}, median of {rounds}**",
            f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})",
        )
    bench.report("peak memory, all of Airflow with its tasks (proportional set)", f"{peak['total'] / 2**30:.1f} GiB")
    bench.report("peak memory, the largest process (the dbt build)", f"{peak['largest'] / 2**30:.1f} GiB")


@contextmanager
def started_airflow(bench: Bench, warehouse: Path) -> Iterator[LocalAirflow]:
    """Run an Airflow on this warehouse that has parsed the Dags, as new as on the first day."""
    settings = Settings(warehouse_file=warehouse, export_root=str(bench.folder / "exports"), _env_file=None)
    environment = os.environ | {"WAREHOUSE_FILE": str(warehouse)}
    subprocess.run([sys.executable, "-m", "local.dbt_manifest"], check=True, env=environment)
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


def measure_models(bench: Bench, rounds: int = 3) -> None:
    """The dbt build of the as-of models against a hand-tuned script, alternating on one file; rows must be equal.

    Once from a shell, which imports dbt first, and once where dbt is imported, as it is in the nightly task.
    """
    file = bench.warehouse("models")
    dbt(file, "build", "--exclude-resource-type", "unit_test")
    build = ("build", *AS_OF_MODELS, "--exclude-resource-type", "unit_test")
    dbt(file, *build, run_schema=RUN_SCHEMA)
    script = (Path(__file__).parent / "hand_tuned.sql").read_text().format(as_of_date=AS_OF_DATE)
    run_script = "import duckdb, sys; duckdb.connect(sys.argv[1]).execute(sys.stdin.read())"
    imports: list[float] = []
    imported: list[float] = []
    from_shell, nodes, scripts = [], [], []
    for _ in range(rounds):
        from_shell.append(dbt(file, *build, run_schema=RUN_SCHEMA))
        done = run_dbt(file, [sys.executable, "-c", IMPORTED_DBT, *build], RUN_SCHEMA)
        for times, measured in zip((imports, imported), done.stderr.split()[-2:], strict=True):
            times.append(float(measured))
        nodes.append(json.loads((file.with_suffix(".target") / "run_results.json").read_text())["elapsed_time"])
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", run_script, str(file)], input=script, text=True, check=True)
        scripts.append(time.perf_counter() - began)
    with duckdb.connect(str(file)) as connection:
        for mart in (mart.name for mart in load_catalog().marts):
            columns = ", ".join(row[0] for row in connection.execute(f"describe {RUN_SCHEMA}.{mart}").fetchall())
            built, by_hand = (f"select {columns} from {schema}.{mart}" for schema in (RUN_SCHEMA, "hand_tuned"))
            [(differing,)] = connection.execute(
                f"select count(*) from (({built} except all {by_hand}) union all ({by_hand} except all {built}))"
            ).fetchall()
            assert differing == 0, f"{mart} differs from the hand-tuned script in {differing} rows"
    bench.report(
        f"dbt build of the as-of models with their tests, where dbt is imported, median of {rounds}",
        f"{statistics.median(imported):.1f} s",
    )
    bench.report(
        f"the same from a shell, median of {rounds}; import of dbt alone",
        f"{statistics.median(from_shell):.1f} s; {statistics.median(imports):.1f} s",
    )
    bench.report(f"hand-tuned DuckDB script, same rows, median of {rounds}", f"{statistics.median(scripts):.1f} s")
    parts = {"models and tests only": nodes, "where dbt is imported": imported, "from a shell": from_shell}
    for where, builds in parts.items():
        ratio = statistics.median(build / script for build, script in zip(builds, scripts, strict=True))
        bench.report(f"**dbt build / hand-tuned script, {where}**", f"**{ratio:.2f}**")


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
    "models": measure_models,
    "queries": measure_queries,
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
    arguments = parser.parse_args()
    print(f"{machine()}\n\n| what | measured |\n|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        bench = Bench(Path(folder), arguments.customers, arguments.months)
        for name in arguments.measurements or MEASUREMENTS:
            MEASUREMENTS[name](bench)


if __name__ == "__main__":
    main()
