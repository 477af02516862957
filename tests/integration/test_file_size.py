"""The warehouse file stays about as large as it was: what a night writes takes the place of what the last one wrote."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import duckdb

from include.customer_360.settings import PROJECT_ROOT
from local.sample import write_sample
from tests.forked_dbt import run_module

FIRST = datetime.date(2026, 3, 1)


def test_four_nights_on_unchanged_sources_leave_the_file_its_size(tmp_path: Path) -> None:
    file = tmp_path / "w.duckdb"
    write_sample(file, customers=400, months=14, seed=42, as_of_date=FIRST)
    done = run_module(
        *("benchmarks.nights", str(file), "--first", FIRST.isoformat(), "--nights", "4"),
        folder=PROJECT_ROOT,
        environment={},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    sizes = [int(size) for size in re.findall(r"^after night \d+: (\d+) bytes$", done.stdout, flags=re.MULTILINE)]
    assert len(sizes) == 4
    assert sizes[-1] <= 1.3 * sizes[0], sizes
    with duckdb.connect(str(file), read_only=True) as connection:
        assert connection.execute("select count(distinct as_of_date) from marts.customer_360_history").fetchall() == [
            (4,)
        ]
