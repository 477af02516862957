"""The log of the screens on DuckDB: a file that they append to, and that a night takes into ops.screens_log."""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from include.customer_360.ops_tables import ops_columns
from include.customer_360.settings import Settings

REJECTED = ".rejected"
"""What follows the stem of the log's name in that of the file with the lines that are no entries."""


class LogNotTaken(Exception):
    """Entries of the log did not reach ops.screens_log; the file has them still."""


class Entry(BaseModel):
    """A line of the log: who asked for what. Times are UTC.

    :param detail: JSON: what was asked, and how many rows it had.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    event_id: str
    happened_at: datetime.datetime
    reader: str = Field(strict=True, min_length=1)
    role: str = Field(strict=True)
    event: Literal["look_up", "list_export"]
    customer_id: str | None = Field(strict=True)
    detail: str

    @field_validator("event_id")
    @classmethod
    def _a_uuid(cls, value: str) -> str:
        return str(uuid.UUID(value))

    @field_validator("detail")
    @classmethod
    def _json(cls, value: str) -> str:
        json.loads(value)
        return value

    @field_validator("happened_at")
    @classmethod
    def _utc(cls, value: datetime.datetime) -> datetime.datetime:
        return value.astimezone(datetime.UTC).replace(tzinfo=None) if value.tzinfo else value


def rejected_file(log: Path) -> Path:
    """Return the file beside a log with its lines that are no entries."""
    return log.with_stem(f"{log.stem}{REJECTED}")


def take_screens_log(
    cursor: Any,  # noqa: ANN401 - DB-API
    settings: Settings,
    warn: Callable[[str], None],
) -> int:
    """Take the lines of the log into ops.screens_log, then empty the file; return how many were new.

    The screens wait meanwhile, for the lock that they append under. An entry is known by its id, so a kill between
    the commit and the emptying doubles none. A line that is no entry is kept in a file beside it.

    :raises LogNotTaken: when an entry is not in the table afterwards; the file stays as it is.
    """
    if settings.warehouse == "snowflake" or not settings.screens_log_file.exists():
        return 0
    with _locked(settings.screens_log_file) as log:
        entries: list[Entry] = []
        others: list[bytes] = []
        for line in log.read().splitlines():
            try:
                entries.append(Entry.model_validate_json(line))
            except ValidationError:
                others.append(line)
        new = _insert(cursor, entries)
        if missing := _missing(cursor, entries):
            raise LogNotTaken(
                f"{len(missing)} of {len(entries)} entries of {settings.screens_log_file} are not in ops.screens_log, "
                f"for example {missing[0]}: the file stays as it is. See what became of the table."
            )
        if others:
            kept = rejected_file(settings.screens_log_file)
            _keep(kept, others)
            warn(
                f"{len(others)} of {len(entries) + len(others)} lines of {settings.screens_log_file} are no entries of "
                f"the screens' log, and are not in ops.screens_log: they are kept in {kept}."
            )
        _empty(log)
    return new


def _empty(log: BinaryIO) -> None:
    log.truncate(0)
    os.fsync(log.fileno())


@contextmanager
def _locked(file: Path) -> Iterator[BinaryIO]:
    with file.open("r+b") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield opened


def _insert(cursor: Any, entries: Sequence[Entry]) -> int:  # noqa: ANN401 - DB-API
    """Insert the entries whose ids are not there yet, all of them or none; return how many these are."""
    columns = ops_columns()["screens_log"]
    values = [[getattr(entry, column) for entry in entries] for column in columns]
    # One statement: a statement for each entry would keep the screens waiting.
    unnested = ", ".join(f"unnest(cast(? as {kind}[])) as {column}" for column, kind in columns.items())
    cursor.execute(
        f"insert into ops.screens_log ({', '.join(columns)}) select distinct on (event_id) {', '.join(columns)} "
        f"from (select {unnested}) as taken "
        "where not exists (select 1 from ops.screens_log as logged where logged.event_id = taken.event_id)",
        values,
    )
    [inserted] = cursor.fetchone()
    return int(inserted)


def _missing(cursor: Any, entries: Sequence[Entry]) -> list[str]:  # noqa: ANN401 - DB-API
    """Return the ids that the table lacks."""
    cursor.execute(
        "select event_id from (select unnest(cast(? as varchar[])) as event_id) as taken "
        "anti join ops.screens_log using (event_id)",
        [[entry.event_id for entry in entries]],
    )
    return [event_id for (event_id,) in cursor.fetchall()]


def _keep(file: Path, lines: Sequence[bytes]) -> None:
    """Append lines to a file, on the disk when this returns; those that it has already, a kill has left there."""
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    with open(descriptor, "r+b") as opened:  # noqa: PTH123 - of a descriptor
        kept = set(opened.read().splitlines())
        opened.write(b"".join(line + b"\n" for line in lines if line not in kept))
        opened.flush()
        os.fsync(opened.fileno())
