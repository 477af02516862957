"""Every part of the benchmarks that starts no Airflow runs, on 300 customers; what is measured there means nothing."""

from __future__ import annotations

import datetime
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from benchmarks.run import (
    AS_OF_DATE,
    MEASUREMENTS,
    Bench,
    DagRunSeconds,
    assert_same_load,
    deliver_day,
    measure_growth,
    seconds_covered,
)
from include.customer_360.settings import PROJECT_ROOT
from local.sample import write_sample
from tests.forked_dbt import run_dbt

LAST_DAY = datetime.date(2026, 3, 31)
QUICK = {
    "load": "first load by dbt / hand-tuned load",
    "models": "dbt build / hand-tuned script, models and tests only",
    "queries": "single-customer lookup",
    "exports": "export / COPY",
    "parsing": "parse of dags/customer_360_refresh.py",
}
# These start an Airflow; tests/end_to_end/test_benchmarks.py measures a run as they do. test_file_size.py runs `size`,
# test_campaign_results.py `campaigns`.
SLOW = {"dag", "history", "customers", "backfill", "size", "campaigns", "refresh", "readers", "screens"}


def test_every_part_is_named_here_and_in_the_readme() -> None:
    assert set(MEASUREMENTS) == {*QUICK, *SLOW}
    readme = (PROJECT_ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert [part for part in MEASUREMENTS if f"`{part}`" not in readme] == []


def test_the_parts_without_airflow_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = subprocess.run

    def run_or_fork(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:  # noqa: ANN401 - passed on
        if Path(command[0]).name != "dbt":
            return run(command, **options)
        return run_dbt(*command[1:], environment=options["env"])

    monkeypatch.setattr(subprocess, "run", run_or_fork)
    bench = Bench(tmp_path, customers=300, months=2, rounds=1)
    for part in QUICK:
        MEASUREMENTS[part](bench)
    reported = " ".join(what for what, _ in bench.rows)
    assert [part for part, row in QUICK.items() if row not in reported] == []


def test_growth_compares_the_same_night_on_both_warehouses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 10 s and 15 s validations take 4 s and 3 s: the ratios are 15 / 10 and 12 / 6."""
    nights: list[tuple[str, datetime.date]] = []

    @contextmanager
    def airflow(_: Bench, warehouse: Path, prepared: bool = False) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(process=SimpleNamespace(pid=os.getpid()), name=warehouse.stem)

    def dag_run(airflow: SimpleNamespace, as_of_date: datetime.date = AS_OF_DATE) -> DagRunSeconds:
        nights.append((airflow.name, as_of_date))
        return DagRunSeconds(10, 4) if airflow.name == "small" else DagRunSeconds(15, 3)

    monkeypatch.setattr("benchmarks.run.started_airflow", airflow)
    monkeypatch.setattr("benchmarks.run.prepare_manifest", lambda _: None)
    monkeypatch.setattr("benchmarks.run.dag_run", dag_run)
    bench = Bench(tmp_path, customers=20, months=1, rounds=2)
    measure_growth(bench, "twice the history", {"small": (20, 1), "large": (20, 2)}, aim=1.5)

    days = [AS_OF_DATE - datetime.timedelta(days=back) for back in (3, 2, 1, 0)]
    both = ("small", "large")
    assert nights == [(name, day) for day in days for name in both]
    reported = dict(bench.rows)
    assert reported["**twice the history, Dag run alone, median of 2**"] == "**1.50** (1.50 to 1.50)"
    assert reported["**twice the history, Dag run without validations, median of 2**"] == "**2.00** (2.00 to 2.00)"
    assert "**twice the history, refresh, median of 2** (aim 1.5)" in reported
    assert list(tmp_path.glob("*.duckdb")) == []


def test_a_new_day_has_new_transactions_late_ones_and_corrections(tmp_path: Path) -> None:
    file = tmp_path / "w.duckdb"
    write_sample(file, customers=3000, months=1, seed=42, as_of_date=LAST_DAY)
    query = (
        "select count(*), count(distinct transaction_id) from raw.transactions where transaction_date = '2026-03-31'"
    )
    [(_, last_day)] = rows(file, query)
    before = rows(file, "select count(*) from raw.transactions")

    added = deliver_day(file, datetime.date(2026, 4, 1))

    assert rows(file, f"select count(*) - {added} from raw.transactions") == before
    arrived = "from raw.transactions where ingested_at >= '2026-04-02'"
    [(new, late)] = rows(
        file,
        f"select count(*), count(*) filter (transaction_date < '2026-04-01') {arrived} "
        "and transaction_id like 'DAY0401%'",
    )
    [(corrections, known)] = rows(
        file,
        "select count(*), count(*) filter (transaction_id in (select transaction_id from raw.transactions where "
        f"ingested_at < '2026-04-02')) {arrived} and transaction_id not like 'DAY%'",
    )
    assert new == last_day
    assert 0 < late < new / 50
    assert corrections == known == added - new > 0


def rows(file: Path, sql: str) -> list[tuple]:
    with duckdb.connect(str(file)) as connection:
        return connection.execute(sql).fetchall()


def test_a_row_that_differs_from_the_hand_tuned_load_is_found(tmp_path: Path) -> None:
    for name, schema in (("a", "core"), ("b", "hand_tuned_load")):
        with duckdb.connect(str(tmp_path / name)) as connection:
            connection.execute(f"create schema {schema}")
            connection.execute(f"create table {schema}.fct_transactions as select 1 as id from range(2)")
            connection.execute(f"create table {schema}.rejected_transactions as select 1 as id")
    assert_same_load(tmp_path / "a", tmp_path / "b")
    with duckdb.connect(str(tmp_path / "b")) as connection:
        connection.execute("insert into hand_tuned_load.fct_transactions values (1)")
    with pytest.raises(AssertionError, match="fct_transactions differs from the hand-tuned load in 1 rows"):
        assert_same_load(tmp_path / "a", tmp_path / "b")


def test_time_that_validations_share_counts_once() -> None:
    at = "2026-03-31T03:00:{:02d}+00:00".format
    assert seconds_covered([]) == 0
    # 0 to 4, with one inside and one that reaches to 6; then 10 to 12.
    assert seconds_covered([(at(10), at(12)), (at(0), at(4)), (at(1), at(3)), (at(2), at(6))]) == 8
