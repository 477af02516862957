"""The DuckDB file of the embedded warehouse: waiting until it is free, and what to say when it cannot be opened."""

from __future__ import annotations

import re
import shutil
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import duckdb

_Opened = TypeVar("_Opened")

# A tenth of what was waited already, within these.
SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 10.0
SECONDS_BETWEEN_WORDS = 60.0
RESTORE = "docs/backup.md says how to restore a backup (make restore FILE=...)"

_HOLDER = re.compile(r"Conflicting lock is held in (?P<program>.+?) ?\(PID (?P<pid>\d+)\)")
# As DuckDB 1 and 2 have them; a file that ends early, too, has lost what it held.
_DAMAGED = re.compile(
    r"[Cc]orrupt (?:Encrypted )?(?:database|WAL) file|Could not read enough bytes from file"
    r"|Failure while replaying (?:checkpoint )?WAL|Unsupported Storage Version|Invalid storage version"
)
_OTHER_VERSION = re.compile(
    r"storage version number|storage version greater than|database file with version number|newer version of DuckDB"
)
STORAGE_VERSION = 999
"""The number that the DuckDB of requirements.txt writes into the header of a file."""

# What follows the file's name in that of a folder to spill into: DuckDB's own, and a reader's.
_SPILL = re.compile(r"(\.reader_\d+)?\.tmp")
# The first bytes of a file: a checksum, DUCK, the number of the storage version.
_BEGINNING = struct.Struct("<8x4sQ")
_HEADER_DAMAGED = re.compile(r"checksum .* in block at location 0\b")


class DuckDBFileError(RuntimeError):
    """The warehouse file cannot be used; the message names it and says what to do. Trying again does not help."""


class DuckDBFileMissing(DuckDBFileError):
    """There is no file of this name."""


class DuckDBFileInUse(DuckDBFileError):
    """Another program held the file for as long as was waited; it may be free the next time."""


@dataclass(frozen=True)
class Holder:
    """The program that has a DuckDB file open, as DuckDB names it."""

    program: str
    pid: str

    def __str__(self) -> str:
        return f"{self.program} (PID {self.pid})" if self.pid else self.program


def path_literal(file: Path) -> str:
    """Return a file's path as SQL of DuckDB, in single quotes: a backslash is a letter there."""
    return "'" + str(file).replace("'", "''") + "'"


def holder(error: Exception) -> Holder | None:
    """Return who has the file open when an error of DuckDB is about its lock; None when it is about something else."""
    message = str(error)
    if not isinstance(error, duckdb.IOException) or "Could not set lock on file" not in message:
        return None
    found = _HOLDER.search(message)
    # It ends at once where the holder went away before DuckDB asked for its name.
    return Holder(found["program"], found["pid"]) if found else Holder("another program", "")


def open_when_free(
    open_file: Callable[[], _Opened],
    file: Path,
    seconds: float,
    say: Callable[[str], None],
    make: bool = False,
) -> _Opened:
    """Return what `open_file` returns, as soon as no other program keeps it from opening the file.

    Only a lock is waited for. Who holds it is said at once, and once a minute after that.

    :param seconds: how long to wait at most; with 0 it is tried once.
    :param make: a file that is missing is made; otherwise it is an error, and nothing is made in its place.
    :raises DuckDBFileMissing: when the file is missing and not to be made, also while it is waited for.
    :raises DuckDBFileInUse: when another program still holds it after that time.
    :raises DuckDBFileError: when it cannot be opened for another reason.
    """
    began = time.monotonic()
    said = -SECONDS_BETWEEN_WORDS
    while True:
        if not make:
            refuse_missing(file)
        try:
            return open_file()
        except duckdb.Error as error:
            held_by = holder(error)
            if held_by is None:
                raise DuckDBFileError(why_not_opened(file, str(error))) from error
            waited = time.monotonic() - began
            if waited >= seconds:
                raise DuckDBFileInUse(
                    f"The warehouse {file} is in use by {held_by}, and still was after {seconds:g} s "
                    "(WAREHOUSE_LOCK_WAIT). Close that program and try again; when it is an Airflow of this project, "
                    "wait until its run has ended, or stop it with `make down`."
                ) from error
        if waited - said >= SECONDS_BETWEEN_WORDS:
            said = waited
            say(
                f"The warehouse {file} is in use by {held_by}: waiting until it is free, "
                f"{seconds - waited:.0f} s more at most (WAREHOUSE_LOCK_WAIT)."
            )
        time.sleep(min(max(waited / 10, SHORTEST_PAUSE), LONGEST_PAUSE, seconds - waited))


def refuse_missing(file: Path) -> None:
    """Do nothing while the file is there.

    :raises DuckDBFileMissing: when it, or its folder, is not.
    """
    if file.exists():
        return
    what = f"The warehouse {file} is not there"
    if not file.parent.is_dir():
        what += f", nor is its folder {file.parent}"
    raise DuckDBFileMissing(
        f"{what}, and none is made in its place: its history and sources would be missing without a word. Put the file "
        f"back where it was moved or deleted, or have WAREHOUSE_FILE name it; {RESTORE}. `make load` fills a new one. "
        "Then start a new run."
    )


def why_not_opened(file: Path, message: str) -> str:
    """Return what an error of DuckDB on opening the file, or on reading it, means, and what to do."""
    if "not a valid DuckDB database" in message:
        return (
            f"{file} is not a DuckDB file: set WAREHOUSE_FILE to another name, or move that file away. It was not "
            f"touched. If it was the warehouse once, {RESTORE}."
        )
    if _OTHER_VERSION.search(message):
        return (
            f"The warehouse {file} was written by another version of DuckDB than this one, {duckdb.__version__}: open "
            "it with the version that wrote it, or a later one (requirements.txt has this project's), or restore a "
            f"backup of this version; {RESTORE}. DuckDB says: {message}"
        )
    if _HEADER_DAMAGED.search(message) and (found := storage_version(file)) != STORAGE_VERSION:
        return (
            f"The warehouse {file} was written by another version of DuckDB than this one, or its header is damaged: "
            f"it names storage version {found}, and DuckDB {duckdb.__version__} writes {STORAGE_VERSION}. Open it with "
            "the version that wrote it, or a later one (requirements.txt has this project's). Where none opens it, "
            f"keep it under another name, and put a backup in its place: {RESTORE}. DuckDB says: {message}"
        )
    return f"The warehouse {file} cannot be opened: {message}{what_damage_asks_for(message, file)}"


def storage_version(file: Path) -> int | None:
    """Return the number of the storage version that the header of a DuckDB file names; None when it is no header."""
    with file.open("rb") as opened:
        beginning = opened.read(_BEGINNING.size)
    if len(beginning) < _BEGINNING.size:
        return None
    magic, number = _BEGINNING.unpack(beginning)
    return number if magic == b"DUCK" else None


def remove_spills(file: Path, say: Callable[[str], None]) -> None:
    """Remove what programs that were killed had spilled beside the file: rows of it, which nobody else takes away.

    Only for who has the file open to write, and has done nothing yet: nobody else can have it open.
    """
    for folder in file.parent.iterdir():
        if not _SPILL.fullmatch(folder.name.removeprefix(file.name)) or not folder.name.startswith(file.name):
            continue
        try:
            shutil.rmtree(folder)
            say(f"Removed {folder}, which a killed program had left.")
        except OSError as refused:
            say(f"{folder}, which a killed program had left, cannot be removed ({refused}): it holds rows. Remove it.")


def says_damaged(message: str) -> bool:
    """Tell whether a message of DuckDB says that the file is damaged, wherever in a statement it was found."""
    return _DAMAGED.search(message) is not None


def what_damage_asks_for(message: str, file: Path) -> str:
    """Return what to do when a message of DuckDB says that the file is damaged, as a line below it; else nothing."""
    if not says_damaged(message):
        return ""
    return (
        f"\n{file} is damaged, which no new try mends. Keep it and its .wal as they are, under another name, and put a "
        f"backup in its place: {RESTORE}. Without a backup: `make load` into a new file, then build the dates again."
    )
