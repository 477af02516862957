"""A DuckDB file in use is waited for; one that is missing, damaged or foreign is an error that says what to do."""

from __future__ import annotations

import json
import re
import struct
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from dbt.adapters.duckdb.credentials import DuckDBCredentials
from dbt.adapters.duckdb.environments import Environment
from jinja2 import Template

from include.customer_360 import duckdb_file
from include.customer_360.connection import WarehouseFileUnusable
from include.customer_360.duckdb_file import (
    STORAGE_VERSION,
    DuckDBFileInUse,
    DuckDBFileMissing,
    open_when_free,
    storage_version,
    why_not_opened,
)
from include.customer_360.operators.base import WarehouseOperator
from include.customer_360.operators.build import before_dbt_build
from include.customer_360.operators.validate import ValidateMartOperator
from include.customer_360.settings import DBT_PROJECT, PROJECT_ROOT, Settings, SettingsError, load_settings
from tests.forked_dbt import run_dbt
from tests.held_file import held


class Writer(WarehouseOperator):
    """An operator that writes."""


class Reader(WarehouseOperator):
    """An operator that reads."""

    reads_only = True


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A warehouse file with one table of one row, and what names it."""
    file = tmp_path / "w.duckdb"
    with duckdb.connect(file) as connection:
        connection.execute("create table one as select 1 as number")
    monkeypatch.setenv("WAREHOUSE_FILE", str(file))
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "duckdb", "host": str(file)}))
    return file


@pytest.fixture(scope="module")
def producer() -> Any:  # noqa: ANN401 - Cosmos' operator
    dags = DagBag(str(PROJECT_ROOT / "dags" / "customer_360_refresh.py")).dags
    return dags["customer_360_refresh"].get_task("dbt_build.dbt_producer_watcher")


def read_by(operator: type[WarehouseOperator]) -> list[tuple[int]]:
    with operator(task_id="t", as_of_date="2026-03-31").warehouse_session() as (_, cursor):
        return cursor.execute("select number from one").fetchall()


def start_build(producer: Any) -> None:  # noqa: ANN401 - Cosmos' operator
    before_dbt_build({"task": producer, "ti": SimpleNamespace(try_number=1), "dag": producer.dag})


def seconds_of(wait: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAREHOUSE_LOCK_WAIT", wait)


@pytest.mark.parametrize(("operator", "reads_only"), [(Writer, True), (Reader, False)])
def test_an_operator_waits_until_the_file_is_free_and_says_who_has_it(
    operator: type[WarehouseOperator], reads_only: bool, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with held(file, seconds=1.5, read_only=reads_only) as pid:
        assert read_by(operator) == [(1,)]
    [said] = [line for line in capsys.readouterr().out.splitlines() if "is in use by" in line]
    assert re.search(
        rf"The warehouse {file} is in use by \S*python\S* \(PID {pid}\): waiting until it is free, 600 s more at most "
        r"\(WAREHOUSE_LOCK_WAIT\)\.",
        said,
    )


def test_readers_do_not_wait_for_each_other(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds_of("0", monkeypatch)
    with held(file, read_only=True):
        assert read_by(Reader) == [(1,)]


def test_a_file_that_stays_in_use_is_an_error_that_names_the_holder_and_may_be_tried_again(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds_of("1", monkeypatch)
    with held(file) as pid, pytest.raises(DuckDBFileInUse) as raised:
        read_by(Writer)
    assert re.match(rf"The warehouse {file} is in use by \S+ \(PID {pid}\), and still was after 1 s", str(raised.value))
    assert "make down" in str(raised.value)
    assert "Ctrl-C" not in str(raised.value)
    assert not isinstance(raised.value, AirflowFailException)


def test_who_holds_it_is_said_again_now_and_then(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duckdb_file, "SECONDS_BETWEEN_WORDS", 1.5)
    said: list[str] = []
    with held(file), pytest.raises(DuckDBFileInUse):
        open_when_free(lambda: duckdb.connect(file), file, 2.5, said.append)
    # Tried after 0, 1, 2 and 2.5 s.
    assert [re.search(r"([\d]+) s more", text)[1] for text in said] in (["2", "0"], ["2", "1"])


def test_the_dbt_build_waits_for_the_file_before_it_starts(
    producer: Any,  # noqa: ANN401
    file: Path,
) -> None:
    began = time.monotonic()
    with held(file, seconds=1.5, read_only=True):
        start_build(producer)
    assert time.monotonic() - began > 1.4
    duckdb.connect(file, config={"memory_limit": "1GB"}).close()


@pytest.mark.parametrize("missing", ["w.duckdb", "folder/w.duckdb"])
@pytest.mark.parametrize("task", [Writer, Reader, "dbt"], ids=["writer", "reader", "dbt"])
def test_a_missing_file_is_made_by_no_task_and_not_tried_again(
    task: Any,  # noqa: ANN401
    missing: str,
    tmp_path: Path,
    producer: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / missing
    monkeypatch.setenv("WAREHOUSE_FILE", str(file))
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "duckdb", "host": str(file)}))
    use = (lambda: start_build(producer)) if task == "dbt" else (lambda: read_by(task))
    with pytest.raises(WarehouseFileUnusable, match=rf"The warehouse {file} is not there") as raised:
        use()
    assert isinstance(raised.value, AirflowFailException)
    for way_out in ("docs/backup.md", "make restore", "make load", "WAREHOUSE_FILE"):
        assert way_out in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_deleted_while_it_is_waited_for_is_missing(file: Path) -> None:
    with held(file), pytest.raises(DuckDBFileMissing):
        open_when_free(lambda: duckdb.connect(file), file, 60, lambda _: file.unlink())
    assert not file.exists()


def damaged(file: Path, offsets: range) -> None:
    content = bytearray(file.read_bytes())
    for offset in offsets:
        content[offset] ^= 0xFF
    file.write_bytes(content)


@pytest.mark.parametrize("operator", [Writer, Reader])
def test_a_damaged_header_is_not_waited_for_and_the_way_to_restore_is_said(
    operator: type[WarehouseOperator], file: Path
) -> None:
    damaged(file, range(4100, 12288, 4096))
    began = time.monotonic()
    with pytest.raises(WarehouseFileUnusable) as raised:
        read_by(operator)
    assert time.monotonic() - began < 5
    assert "Corrupt database file" in str(raised.value)
    assert f"{file} is damaged, which no new try mends." in str(raised.value)
    assert "docs/backup.md" in str(raised.value)


@pytest.fixture
def with_a_damaged_block(file: Path) -> Path:
    """A file that opens, and of whose table a block is damaged."""
    with duckdb.connect(file) as connection:
        connection.execute("create or replace table one (number bigint, text varchar)")
        connection.execute("insert into one select range, md5(range::varchar) from range(100000)")
    blocks = range(12288 + 1000, file.stat().st_size, 262144)
    damaged(file, range(blocks[1], blocks[2], 262144))
    return file


def test_a_block_that_turns_out_to_be_damaged_fails_the_task_for_good(with_a_damaged_block: Path) -> None:
    operator = Writer(task_id="t", as_of_date="2026-03-31")
    with (
        pytest.raises(WarehouseFileUnusable, match=r"Corrupt database file(?s:.*)is damaged(?s:.*)docs/backup\.md"),
        operator.warehouse_session() as (_, cursor),
    ):
        cursor.execute("select bit_xor(hash(one)) from one").fetchall()


def test_a_validation_that_meets_a_damaged_block_fails_for_good(with_a_damaged_block: Path) -> None:
    validation = ValidateMartOperator(task_id="v", mart="one", run_schema="main", as_of_date="2026-03-31")
    validation.sql = "select bit_xor(hash(one)) from one"
    with pytest.raises(WarehouseFileUnusable, match=r"Corrupt database file(?s:.*)docs/backup\.md"):
        validation.execute({})


def test_another_error_in_a_session_is_left_as_it_is(file: Path) -> None:
    with (
        pytest.raises(duckdb.CatalogException),
        Writer(task_id="t", as_of_date="2026-03-31").warehouse_session() as (_, cursor),
    ):
        cursor.execute("select * from two")
    with (
        pytest.raises(AirflowException, match=r"^as it is$"),
        Writer(task_id="t", as_of_date="2026-03-31").warehouse_session(),
    ):
        raise AirflowException("as it is")


def test_a_file_that_ends_early_is_damaged(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:6000])
    with pytest.raises(WarehouseFileUnusable, match=r"Could not read enough bytes(?s:.*)is damaged"):
        read_by(Writer)


@pytest.mark.parametrize("content", [b"", b"not a warehouse" * 1000])
def test_another_kind_of_file_is_named_and_kept(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    with pytest.raises(WarehouseFileUnusable, match=rf"{file} is not a DuckDB file.*docs/backup\.md"):
        read_by(Writer)
    assert file.read_bytes() == content


@pytest.mark.parametrize(
    "message",
    [
        "IO Error: Trying to read a database file with storage version number 99, but we can only read storage "
        "versions between 64 and 68.",
        'Error opening "/w.duckdb": file was written with a storage version greater than the latest version supported '
        "by this DuckDB instance. Try opening the file with a newer version of DuckDB.",
    ],
)
def test_a_file_of_another_duckdb_names_both_ways_out(message: str) -> None:
    why = why_not_opened(Path("/w.duckdb"), message)
    assert why.startswith(
        f"The warehouse /w.duckdb was written by another version of DuckDB than this one, {duckdb.__version__}: open "
        "it with the version that wrote it, or a later one"
    )
    assert "docs/backup.md" in why
    assert message in why


@pytest.mark.parametrize("task", [Writer, Reader, "dbt"], ids=["writer", "reader", "dbt"])
@pytest.mark.parametrize("version", [1, 4711])
def test_a_header_of_another_version_is_named_with_both_versions_and_the_file_stays(
    version: int,
    task: Any,  # noqa: ANN401
    file: Path,
    producer: Any,  # noqa: ANN401
) -> None:
    assert storage_version(file) == STORAGE_VERSION
    altered = bytearray(file.read_bytes())
    struct.pack_into("<Q", altered, 12, version)
    file.write_bytes(altered)
    use = (lambda: start_build(producer)) if task == "dbt" else (lambda: read_by(task))
    with pytest.raises(WarehouseFileUnusable, match=r"written by another version.*docs/backup\.md") as raised:
        use()
    assert f"it names storage version {version}, and DuckDB {duckdb.__version__} writes 999." in str(raised.value)
    assert file.read_bytes() == altered


# What a killed program had spilled


def spilled(file: Path, name: str) -> Path:
    """Make what a killed program leaves beside the file: rows that did not fit into memory."""
    folder = file.with_name(f"{file.name}{name}")
    folder.mkdir()
    (folder / "duckdb_temp_1_0_storage_DEFAULT-0.tmp").write_bytes(b"ada.byron@example.com")
    return folder


@pytest.mark.parametrize("task", [Writer, "dbt"], ids=["writer", "dbt"])
def test_who_has_the_file_alone_removes_what_killed_programs_had_spilled(
    task: Any,  # noqa: ANN401
    file: Path,
    producer: Any,  # noqa: ANN401
) -> None:
    left = [spilled(file, ".tmp"), spilled(file, ".reader_4711.tmp")]
    others = [spilled(file, ".backup"), spilled(file, ".reader_x")]
    start_build(producer) if task == "dbt" else read_by(task)
    assert [folder.exists() for folder in (*left, *others)] == [False, False, True, True]


def test_who_reads_leaves_what_another_reader_has_spilled(file: Path) -> None:
    theirs = spilled(file, ".reader_4711.tmp")
    assert read_by(Reader) == [(1,)]
    assert theirs.exists()


# dbt's own tries


@pytest.mark.parametrize("wait", [1, 60, 600, 3600])
def test_dbts_tries_take_as_long_as_is_waited_and_not_twice_as_long(
    wait: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By dbt-duckdb itself, on a folder that is missing: 600 s are ten tries, with pauses of 1 to 512 s."""
    pauses: list[float] = []
    monkeypatch.setattr("dbt.adapters.duckdb.environments.time.sleep", pauses.append)
    attempts = Settings(warehouse_lock_wait=wait, _env_file=None).dbt_connect_attempts
    retries = {"connect_attempts": attempts, "retryable_exceptions": ["IOException"]}
    credentials = DuckDBCredentials.from_dict(
        {"path": str(tmp_path / "folder" / "w.duckdb"), "schema": "main", "retries": retries}
    )
    with pytest.raises(duckdb.IOException):
        Environment.initialize_db(credentials)
    assert wait <= sum(pauses) < 2 * wait + 1


def test_the_dag_gives_dbt_the_tries_and_its_tasks_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds_of("1200", monkeypatch)
    dag = DagBag(str(PROJECT_ROOT / "dags" / "customer_360_refresh.py")).dags["customer_360_refresh"]
    build = dag.get_task("dbt_build.dbt_producer_watcher")
    assert build.env["WAREHOUSE_CONNECT_ATTEMPTS"] == "11"
    assert build.execution_timeout == timedelta(hours=2, minutes=20)
    assert dag.get_task("publish").execution_timeout == timedelta(minutes=50)


@pytest.mark.parametrize(
    ("given", "attempts", "retried"), [("", "1", "none"), ("10", "10", "IOException")], ids=["by hand", "in a run"]
)
def test_dbt_waits_in_a_run_and_not_for_a_person(
    given: str, attempts: str, retried: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = yaml.safe_load((DBT_PROJECT / "profiles.yml").read_text(encoding="utf-8"))
    retries = profile["customer_analytics"]["outputs"]["duckdb"]["retries"]
    values = {"env_var": lambda name, default: given if name == "WAREHOUSE_CONNECT_ATTEMPTS" else default}

    def rendered(text: str) -> str:
        return Template(text.replace(" | as_number", "")).render(values)

    assert rendered(retries["connect_attempts"]) == attempts
    assert [rendered(name) for name in retries["retryable_exceptions"]] == [retried]


def test_a_folder_that_is_missing_ends_dbt_by_hand_at_once(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "w.duckdb"
    done = run_dbt(
        *("seed", "--target-path", str(tmp_path / "target"), "--log-path", str(tmp_path)),
        environment={"WAREHOUSE_FILE": str(file), "RUN_SCHEMA": ""},
    )
    assert done.returncode != 0
    assert f'Cannot open file "{file}": No such file or directory' in done.stdout + done.stderr


@pytest.mark.parametrize("value", ["-1", "3601", "ten minutes"])
def test_a_wait_that_cannot_be_is_said(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds_of(value, monkeypatch)
    with pytest.raises(SettingsError, match=f"WAREHOUSE_LOCK_WAIT='{value}'"):
        load_settings()
