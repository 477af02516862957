"""WAREHOUSE_MEMORY bounds every DuckDB session that the project opens, which spills beside the warehouse file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import duckdb
import pytest
import yaml

from include.customer_360.operators.publish import WriteHistoryOperator
from include.customer_360.operators.validate import ValidateMartOperator
from include.customer_360.settings import DBT_PROJECT, HALF_OF_THE_MACHINE, PROJECT_ROOT, SettingsError, load_settings
from local.local_airflow import LocalAirflow
from local.sources import connect_beside
from tests.forked_dbt import run_dbt

LIMIT = "select current_setting('memory_limit')"
# DuckDB shows sizes in powers of 1024: 2000000000 / 1024^3 = 1.86.
TWO_GB = "1.8 GiB"


@pytest.mark.parametrize("value", ["6GB", "6gb", "6 GB", "1.5GiB", "500MB", "50%", "100%", "0.5TB", "524288KiB"])
def test_a_size_or_a_share_is_taken_as_duckdb_takes_it(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAREHOUSE_MEMORY", value)
    memory = load_settings().warehouse_memory
    assert memory == value
    duckdb.connect(config={"memory_limit": memory}).close()


@pytest.mark.parametrize("value", ["", " "])
def test_empty_is_half_of_the_machine(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAREHOUSE_MEMORY", value.strip())
    assert load_settings().warehouse_memory == HALF_OF_THE_MACHINE == "50%"


@pytest.mark.parametrize(
    ("value", "takes"),
    [
        ("6", "give a size such as 6GB or 6GiB, or a share of the machine such as 50%"),
        ("lots", "give a size such as 6GB or 6GiB, or a share of the machine such as 50%"),
        ("-6GB", "give a size such as 6GB or 6GiB, or a share of the machine such as 50%"),
        ("6GB; drop schema core", "give a size such as 6GB or 6GiB, or a share of the machine such as 50%"),
        ("499MB", "give at least 500MB"),
        ("0GB", "give at least 500MB"),
        ("0%", "a share of the machine is from 1% to 100%"),
        ("101%", "a share of the machine is from 1% to 100%"),
    ],
)
def test_what_cannot_be_used_is_said(value: str, takes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAREHOUSE_MEMORY", value)
    with pytest.raises(SettingsError, match=re.escape(f"WAREHOUSE_MEMORY={value!r}: Value error, {takes}")):
        load_settings()


@pytest.mark.skipif(sys.platform != "linux", reason="physical memory is read from /proc")
def test_the_share_is_of_this_machine_or_of_what_it_is_given() -> None:
    """SLURM_MEM_PER_NODE stands for a container's limit here: DuckDB reads both in the same place."""
    ask = f"import duckdb; print(duckdb.connect(config={{'memory_limit': '50%'}}).execute({LIMIT!r}).fetchone()[0])"
    given = subprocess.run(
        [sys.executable, "-c", ask],
        env=os.environ | {"SLURM_MEM_PER_NODE": "4096"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert given.stdout.strip() in ("1.9 GiB", "2.0 GiB")


def test_a_session_of_an_operator_that_writes_keeps_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warehouse = tmp_path / "w.duckdb"
    monkeypatch.setenv("WAREHOUSE_MEMORY", "2GB")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "duckdb", "host": str(warehouse)}))
    operator = WriteHistoryOperator(task_id="w", run_schema="marts_run_1", as_of_date="2026-03-31")
    with closing(operator.get_db_hook().get_conn()) as connection:
        settings = connection.execute(f"{LIMIT}, current_setting('temp_directory')").fetchall()
    assert settings == [(TWO_GB, f"{warehouse}.tmp")]


@pytest.mark.parametrize(("memory", "of_a_reader"), [("8GiB", "1.0 GiB"), ("6.4 GB", "762.9 MiB")])
def test_readers_side_by_side_share_it_and_spill_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: str, of_a_reader: str
) -> None:
    """Eight slots: 8 GiB are 1 GiB each, 6.4 GB are 800 MB, which DuckDB shows in MiB."""
    warehouse = tmp_path / "w.duckdb"
    duckdb.connect(str(warehouse)).close()
    monkeypatch.setenv("WAREHOUSE_MEMORY", memory)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "duckdb", "host": str(warehouse)}))
    operator = ValidateMartOperator(task_id="v", mart="sources", run_schema="marts_run_1", as_of_date="2026-03-31")
    rows = "select row_number() over (order by hash(i)) as r, repeat('x', 50) from range(5000000) as t (i)"
    with closing(operator.get_db_hook().get_conn()) as connection:
        settings = connection.execute(f"{LIMIT}, current_setting('temp_directory')").fetchall()
        assert settings == [(of_a_reader, f"{warehouse}.reader_{os.getpid()}.tmp")]
        connection.execute("set memory_limit = '60MB'")
        assert connection.execute(f"select max(r) from ({rows})").fetchall() == [(5_000_000,)]
    assert not list(tmp_path.glob("*.tmp"))


def test_dbt_keeps_to_it(tmp_path: Path) -> None:
    warehouse = tmp_path / "w.duckdb"
    settings = "current_setting('memory_limit') || ' ' || current_setting('temp_directory') as found"
    done = run_dbt(
        *("--quiet", "show", "--output", "json", "--inline", f"select {settings}"),
        *("--target-path", str(tmp_path), "--log-path", str(tmp_path)),
        environment={"WAREHOUSE_FILE": str(warehouse), "WAREHOUSE_MEMORY": "2GB", "RUN_SCHEMA": ""},
    )
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["show"] == [{"found": f"{TWO_GB} {warehouse}.tmp"}]


def test_dbt_from_a_shell_takes_the_same_default() -> None:
    profile = yaml.safe_load((DBT_PROJECT / "profiles.yml").read_text(encoding="utf-8"))
    given = profile["customer_analytics"]["outputs"]["duckdb"]["settings"]["memory_limit"]
    assert given == f"{{{{ env_var('WAREHOUSE_MEMORY', '') or '{HALF_OF_THE_MACHINE}' }}}}"


def test_a_local_session_spills_beside_the_warehouse_wherever_it_is_started(tmp_path: Path) -> None:
    """A sort of 2.4 GB within 500 MB; DuckDB removes what it spilled when the session ends."""
    warehouse = tmp_path / "w.duckdb"
    with connect_beside(warehouse, "500MB") as connection:
        rows = connection.execute(
            "create temp table wide as select hash(range) as key, repeat(md5(range::varchar), 8) as text "
            "from range(1000000); "
            "create temp table sorted as select * from wide order by text; "
            "select count(*), (select sum(size) > 100000000 from duckdb_temporary_files()), "
            "(select bool_and(starts_with(path, getvariable('folder'))) from duckdb_temporary_files()) "
            "from sorted".replace("getvariable('folder')", f"'{warehouse}.tmp/'")
        ).fetchall()
    assert rows == [(1_000_000, True, True)]
    assert not Path(f"{warehouse}.tmp").exists()


def test_a_local_airflow_hands_it_to_its_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAREHOUSE_MEMORY", "2GB")
    monkeypatch.setattr("local.local_airflow.STATE_FOLDER", tmp_path)
    airflow = LocalAirflow(load_settings())
    airflow.home.mkdir(parents=True)
    assert airflow.environment(port=1234)["WAREHOUSE_MEMORY"] == "2GB"


def test_every_duckdb_session_of_the_project_is_opened_in_a_way_that_is_bounded() -> None:
    """Operators through the hook, dbt by its profile, local/ by connect_beside: nothing else opens a session."""
    opens = {
        str(file.relative_to(PROJECT_ROOT)): found
        for folder in ("dags", "include", "local", "plugins")
        for file in (PROJECT_ROOT / folder).rglob("*.py")
        if (found := re.findall(r"duckdb\.connect\((?!\{)[^)]*", file.read_text(encoding="utf-8")))
    }
    assert set(opens) == {"local/sources.py"}
