"""Who looked a person up or took a list away: written down before it is shown.

On DuckDB in a file beside the published copy, which the next night takes into ops.screens_log; in Snowflake in that
table itself.
"""

from __future__ import annotations

import datetime
import errno
import fcntl
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from app.published import NotReadable, SnowflakeMarts, query
from app.reader import Reader
from include.customer_360.settings import load_settings

Event = Literal["look_up", "list_export"]


class NotLogged(RuntimeError):
    """What was asked for cannot be written down, and so is not shown; the message says what to do."""


def write_down(
    reader: Reader, event: Event, customer_id: str | None, detail: Mapping[str, object], marts: object
) -> None:
    """Keep who asked for what.

    :param customer_id: the person, where it is one.
    :param detail: what was asked, and how many rows it has.
    :param marts: what answers; in Snowflake the log is written with the same session.
    :raises NotLogged: when it cannot be kept.
    """
    entry = {
        "event_id": str(uuid.uuid4()),
        "happened_at": datetime.datetime.now(datetime.UTC).replace(tzinfo=None).isoformat(sep=" "),
        "reader": reader.name,
        "role": reader.role_name,
        "event": event,
        "customer_id": customer_id,
        "detail": json.dumps(detail, default=str, ensure_ascii=False),
    }
    if isinstance(marts, SnowflakeMarts):
        try:
            marts.execute(query("all/write_down"), list(entry.values()))
        except NotReadable as refused:
            raise NotLogged(f"ops.screens_log: {refused} Every look-up is logged, so nothing is shown.") from refused
        return
    file = load_settings().screens_log_file
    try:
        _append(file, json.dumps(entry, ensure_ascii=False) + "\n")
    except OSError as error:
        raise NotLogged(
            f"{file} cannot be written: {error}. Every look-up is logged, so nothing is shown until it can: free "
            "space, or see to the rights on the file and its folder."
        ) from error


def _append(file: Path, line: str) -> None:
    """Append a line, whole, on the disk when this returns; the night that takes them locks the file too."""
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        before = os.fstat(descriptor).st_size
        content = line.encode()
        # A crash may have left half a line, which would swallow this one.
        if before and os.pread(descriptor, 1, before - 1) != b"\n":
            content = b"\n" + content
        if os.write(descriptor, content) < len(content):
            os.ftruncate(descriptor, before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
        if not before:
            _to_disk(file.parent)
    finally:
        os.close(descriptor)


def _to_disk(folder: Path) -> None:
    """Have the disk know the files of a folder by their names."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
