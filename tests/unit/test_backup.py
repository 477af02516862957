"""`make backup` and `make restore`: a copy counts once all of it was read, and nothing that was there is lost."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from include.customer_360.settings import Settings
from local import local_airflow
from local.backup import back_up, restore
from local.local_airflow import home_of
from local.sources import WarehouseError
from tests.held_file import held

ROWS = 100_000


@pytest.fixture(autouse=True)
def _state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_airflow, "STATE_FOLDER", tmp_path / "state")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a warehouse with a table, a view on it by the file's name, as dbt makes them, and an empty table."""
    settings = Settings(warehouse_file=tmp_path / "w.duckdb", warehouse_lock_wait=0, _env_file=None)
    with duckdb.connect(settings.warehouse_file) as connection:
        connection.execute("create schema core; create table core.fact (number bigint not null, text varchar)")
        connection.execute(f"insert into core.fact select range, md5(range::varchar) from range({ROWS})")
        connection.execute("create view core.as_seen as select number from w.core.fact; create table core.none (i int)")
    return settings


def numbers(file: Path) -> int:
    with duckdb.connect(file, read_only=True) as connection:
        return connection.execute("select sum(number) from core.as_seen").fetchall()[0][0]


def damaged(file: Path) -> None:
    content = bytearray(file.read_bytes())
    for offset in range(12288 + 262144 + 1000, len(content), 262144):
        content[offset] ^= 0xFF
    file.write_bytes(content)


def test_what_was_backed_up_is_there_again_after_the_restore(settings: Settings, tmp_path: Path) -> None:
    file, backup = settings.warehouse_file, tmp_path / "backups" / "b.duckdb"
    before = numbers(file)
    assert back_up(settings, backup) == ROWS
    with duckdb.connect(file) as connection:
        connection.execute("delete from core.fact where number > 10")
    rows, earlier = restore(settings, backup)
    assert rows == ROWS
    assert numbers(file) == before
    with duckdb.connect(earlier, read_only=True) as connection:
        assert connection.execute("select count(*) from core.fact").fetchall() == [(11,)]
    assert sorted(path.name for path in backup.parent.iterdir()) == ["b.duckdb"]


def test_what_only_the_wal_holds_is_in_the_backup(settings: Settings, tmp_path: Path) -> None:
    """As a killed process leaves it: committed, and not yet in the file."""
    file = settings.warehouse_file
    write = (
        f"import duckdb, os; connection = duckdb.connect({str(file)!r}); "
        "connection.execute('insert into core.none values (1), (2)'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", write], check=False).returncode == 9
    assert file.with_name("w.duckdb.wal").stat().st_size
    assert back_up(settings, tmp_path / "b.duckdb") == ROWS + 2
    assert not file.with_name("w.duckdb.wal").exists()


def test_a_lost_file_is_restored(settings: Settings, tmp_path: Path) -> None:
    back_up(settings, tmp_path / "b.duckdb")
    settings.warehouse_file.unlink()
    assert restore(settings, tmp_path / "b.duckdb") == (ROWS, None)
    assert numbers(settings.warehouse_file) == sum(range(ROWS))


def test_a_damaged_file_is_exchanged_and_kept(settings: Settings, tmp_path: Path) -> None:
    file = settings.warehouse_file
    back_up(settings, tmp_path / "b.duckdb")
    damaged(file)
    as_it_was = file.read_bytes()
    _, earlier = restore(settings, tmp_path / "b.duckdb")
    assert numbers(file) == sum(range(ROWS))
    assert earlier.read_bytes() == as_it_was


def test_a_damaged_file_gives_no_backup(settings: Settings, tmp_path: Path) -> None:
    damaged(settings.warehouse_file)
    with pytest.raises(WarehouseError, match=r"is not kept\.(?s:.*)Corrupt database file"):
        back_up(settings, tmp_path / "b.duckdb")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.duckdb"]


def test_a_damaged_backup_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    back_up(settings, tmp_path / "b.duckdb")
    damaged(tmp_path / "b.duckdb")
    with pytest.raises(WarehouseError, match="Corrupt database file"):
        restore(settings, tmp_path / "b.duckdb")
    assert numbers(settings.warehouse_file) == sum(range(ROWS))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.duckdb", "w.duckdb"]


def test_a_backup_is_never_overwritten(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "b.duckdb").write_text("mine")
    with pytest.raises(WarehouseError, match=rf"{tmp_path}/b\.duckdb is there already"):
        back_up(settings, tmp_path / "b.duckdb")
    assert (tmp_path / "b.duckdb").read_text() == "mine"


def test_nothing_is_copied_while_another_program_writes(settings: Settings, tmp_path: Path) -> None:
    back_up(settings, tmp_path / "b.duckdb")
    with held(settings.warehouse_file) as pid:
        with pytest.raises(WarehouseError, match=rf"in use by \S+ \(PID {pid}\)"):
            back_up(settings, tmp_path / "again.duckdb")
        with pytest.raises(WarehouseError, match=rf"in use by \S+ \(PID {pid}\)"):
            restore(settings, tmp_path / "b.duckdb")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.duckdb", "w.duckdb"]


def test_nothing_is_restored_under_a_running_airflow(settings: Settings, tmp_path: Path) -> None:
    home = home_of(settings)
    home.mkdir(parents=True)
    with (home / "running.json").open("w+") as running:
        json.dump({"pid": 4711, "url": "http://127.0.0.1:8080", "warehouse": "w.duckdb"}, running)
        running.flush()
        fcntl.flock(running, fcntl.LOCK_EX)
        with pytest.raises(WarehouseError, match=r"Airflow runs on .*\(pid 4711, .*`make down`"):
            restore(settings, tmp_path / "b.duckdb")


def test_a_copy_beside_which_a_wal_lies_is_no_backup(settings: Settings, tmp_path: Path) -> None:
    back_up(settings, tmp_path / "b.duckdb")
    (tmp_path / "b.duckdb.wal").write_text("more")
    with pytest.raises(WarehouseError, match=r"b\.duckdb\.wal lies beside"):
        restore(settings, tmp_path / "b.duckdb")


def test_what_is_missing_is_named(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match=r"nowhere\.duckdb: no such file"):
        restore(settings, tmp_path / "nowhere.duckdb")
    settings.warehouse_file.unlink()
    with pytest.raises(WarehouseError, match=r"nothing to back up: the warehouse .*w\.duckdb is not there"):
        back_up(settings, tmp_path / "b.duckdb")
    assert not list(tmp_path.iterdir())


def test_snowflake_keeps_earlier_states_itself(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match="WAREHOUSE is snowflake"):
        back_up(settings.model_copy(update={"warehouse": "snowflake"}), tmp_path / "b.duckdb")
