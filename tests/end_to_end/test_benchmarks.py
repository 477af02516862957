"""A part of the benchmarks that starts an Airflow runs, on 300 customers; what is measured there means nothing."""

from __future__ import annotations

from tests.benched import bench


def test_a_part_with_airflow_runs() -> None:
    done = bench("backfill")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "one backfilled date when core is loaded, whole Dag run, median of 1" in done.stdout
