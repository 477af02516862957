"""Back up the DuckDB file of the warehouse, and put a backup in its place: `make backup`, `make restore FILE=...`.

A copy made while somebody writes, or while a .wal lies beside the file, is none. So the file is held open, with all of
the .wal in it, while it is copied; and the copy counts once every row of it was read.
"""

from __future__ import annotations

import argparse
import datetime
import os
import shutil
import sys
from contextlib import closing
from pathlib import Path

import duckdb

from include.customer_360.duckdb_file import (
    DuckDBFileError,
    DuckDBFileInUse,
    open_when_free,
    path_literal,
    why_not_opened,
)
from include.customer_360.settings import Settings, SettingsError, load_settings
from local.local_airflow import home_of, running_state
from local.sources import WarehouseError, attach_warehouse, connect_beside, print_at_once

_TABLES = """
select schema_name, table_name from duckdb_tables() where database_name = 'warehouse' order by all
"""


def back_up(settings: Settings, target: Path) -> int:
    """Copy the warehouse file to `target`; return the rows in the copy's tables.

    :raises WarehouseError: when there is something at `target`, or the file is missing, in use for too long, damaged or
        cannot be copied; then nothing is left at `target`.
    """
    file = _duckdb_file(settings)
    if target.exists():
        raise WarehouseError(f"{target} is there already: give another FILE, or move that one away.")
    part = _part_of(target)
    with connect_beside(file, settings.warehouse_memory) as connection:
        if not file.exists():
            raise WarehouseError(f"There is nothing to back up: the warehouse {file} is not there.")
        attach_warehouse(connection, file, settings.warehouse_lock_wait)
        try:
            connection.execute("force checkpoint warehouse")
        except duckdb.Error as error:
            raise WarehouseError(why_not_opened(file, str(error))) from error
        # With the connection open, nobody writes meanwhile.
        _copy(file, part)
    return _taken_when_whole(settings, part, target)


def restore(settings: Settings, backup: Path) -> tuple[int, Path | None]:
    """Put a backup in the place of the warehouse file; return the rows in its tables, and where the earlier file is.

    The earlier file, damaged or not, and its .wal are kept beside it under another name.

    :raises WarehouseError: when the backup is none, or is damaged, when an Airflow runs on the warehouse, or another
        program has it open for too long; then the warehouse is as it was.
    """
    file = _duckdb_file(settings)
    if running := running_state(home_of(settings)):
        raise WarehouseError(
            f"Airflow runs on {file} (pid {running['pid']}, {running['url']}): stop it first, with `make down`."
        )
    if not backup.is_file():
        raise WarehouseError(f"{backup}: no such file. `make backup` prints where it leaves one.")
    if _wal_of(backup).exists():
        raise WarehouseError(
            f"{_wal_of(backup)} lies beside {backup}, which does not hold all there is: it is no backup, or it was "
            "opened for writing since. Open it with DuckDB, run `force checkpoint`, then restore it."
        )
    if file.exists():
        _see_that_it_is_free(settings)
    part = _part_of(file)
    _copy(backup, part)
    earlier = file.with_name(f"{file.stem}_before_restore_{_stamp()}{file.suffix}") if file.exists() else None
    rows = _taken_when_whole(settings, part, file, earlier)
    return rows, earlier


def _duckdb_file(settings: Settings) -> Path:
    if settings.warehouse == "snowflake":
        raise WarehouseError(
            "WAREHOUSE is snowflake, which keeps earlier states itself (data_retention_time_in_days): "
            "backups are for the DuckDB file."
        )
    return settings.warehouse_file


def _see_that_it_is_free(settings: Settings) -> None:
    """Wait until no other program has the file open; whether it can be read is not asked: it may be damaged."""
    file = settings.warehouse_file
    try:
        with connect_beside(file, settings.warehouse_memory) as connection:
            statement = f"attach {path_literal(file)} as warehouse"
            open_when_free(lambda: connection.execute(statement), file, settings.warehouse_lock_wait, print_at_once)
    except DuckDBFileInUse as error:
        raise WarehouseError(str(error)) from error
    except DuckDBFileError:
        return


def _copy(source: Path, part: Path) -> None:
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, part)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise WarehouseError(f"{source} cannot be copied to {part.parent}: {error.strerror}.") from error


def _taken_when_whole(settings: Settings, part: Path, target: Path, earlier: Path | None = None) -> int:
    """Give a copy its name, once every row of it was read; what had the name before is called `earlier` then."""
    try:
        rows = _rows_of(settings, part)
    except (WarehouseError, duckdb.Error) as error:
        part.unlink()
        raise WarehouseError(f"The copy that was made for {target} cannot be read, and is not kept. {error}") from error
    if earlier:
        if _wal_of(target).exists():
            _wal_of(target).rename(_wal_of(earlier))
        target.rename(earlier)
    part.rename(target)
    return rows


def _rows_of(settings: Settings, file: Path) -> int:
    """Read everything in the file, so that every block is held against its checksum; return the rows of its tables."""
    total = 0
    with closing(connect_beside(file, settings.warehouse_memory)) as connection:
        attach_warehouse(connection, file, read_only=True)
        for schema, table in connection.execute(_TABLES).fetchall():
            read = f'select count(*), bit_xor(hash(read)) from warehouse."{schema}"."{table}" as read'
            [(rows, _)] = connection.execute(read).fetchall()
            total += rows
    return total


def _part_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _wal_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.wal")


def _stamp() -> str:
    return f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S}"


def main() -> int:
    """Back up to, or restore, the file that FILE names; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("backup", "restore"))
    command = parser.parse_args().command
    given = os.environ.get("FILE", "")
    try:
        settings = load_settings()
        file = settings.warehouse_file
        if command == "backup":
            target = file.parent / "backups" / f"{file.stem}_{_stamp()}{file.suffix}"
            target = Path(given).expanduser().resolve() if given else target
            rows = back_up(settings, target)
            print(f"Backed up {file}, {rows:,} rows in all tables. To restore it: make restore FILE={target}")
        elif not given:
            raise WarehouseError("Say which backup: make restore FILE=...")  # noqa: TRY301
        else:
            rows, earlier = restore(settings, Path(given).expanduser().resolve())
            print(f"Restored {file} from {given}, {rows:,} rows in all tables.")
            if earlier:
                print(f"The file that was there is kept: {earlier}")
    except (SettingsError, WarehouseError) as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
