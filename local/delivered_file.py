"""A user's file of customers or transactions, read into a scratch database as texts, or one error on what is wrong.

Which columns a file must have stands in dbt's sources.yml; others may be absent. Columns of other names are ignored.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import re
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import duckdb

from local.dbt_sql import expression
from local.sources import SourceTable, WarehouseError, says_no_room

EXTENSIONS = (".csv", ".csv.gz", ".parquet")

_OTHER_DELIMITERS = {";": "semicolons (;)", "\t": "tabs", "|": "pipes (|)"}

# By its first bytes: what a file is that is no text in UTF-8. UTF-32 before UTF-16, whose mark begins the same.
_OTHER_KINDS = {
    b"\xff\xfe\0\0": "it is UTF-32 text. Save it as UTF-8.",
    b"\xff\xfe": "it is UTF-16 text. Save it as UTF-8.",
    b"\xfe\xff": "it is UTF-16 text. Save it as UTF-8.",
    b"PK\x03\x04": "it is a zip file or a spreadsheet, no text. Export it as CSV in UTF-8.",
    b"\xd0\xcf\x11\xe0": "it is an old spreadsheet, no text. Export it as CSV in UTF-8.",
    b"\x1f\x8b": "it is compressed by gzip. Name it .csv.gz.",
    b"PAR1": "it is Parquet. Name it .parquet.",
}

_NESTED = re.compile(r"(STRUCT|MAP|UNION|VARIANT)\b|.*\]$")
_TEMPORAL = re.compile(r"DATE$|TIMESTAMP")

_IDS = ("customer_id", "transaction_id")

# An error quotes so much of a value or of a line.
_QUOTED = 200


class LoadError(ValueError):
    """A file cannot be loaded; the message names the file, the column or line, and the first value that is wrong."""


@dataclass(frozen=True)
class Delivery:
    """A file read into the scratch database, as one table of texts with the source table's name and columns.

    Transactions also have the column transaction_day: the business day, where transaction_date is one.
    """

    table: SourceTable
    source: str
    absent: tuple[str, ...]
    ignored: tuple[str, ...]


def read_file(connection: duckdb.DuckDBPyConnection, table: SourceTable, source: str, scratch: Path) -> Delivery:
    """Read a CSV, CSV.gz or Parquet file, a path or an ObjectStoragePath URI, into a table of texts.

    Blanks around values are dropped, blank values are NULL, and the rows have the order of the file.

    :param scratch: a folder for what has to be fetched.
    :raises LoadError: when the file cannot be read as what its name says, or its columns are not those of the table.
    :raises WarehouseError: when there is no room for its rows.
    """
    extension = next((known for known in EXTENSIONS[::-1] if source.lower().endswith(known)), None)
    if extension is None:
        raise LoadError(f"{source}: unsupported kind of file. Give one that ends in {', '.join(EXTENSIONS)}.")
    # A plain name in the scratch folder: DuckDB would take * and [ in a path for a pattern.
    file = scratch / f"{table.name}{extension}"
    _fetch(source, file)
    try:
        if extension == ".parquet":
            scan = f"read_parquet('{file}')"
            described = connection.execute(f"describe select * from {scan}").fetchall()
            found = [name for name, *_ in described]
            types = [data_type for _, data_type, *_ in described]
            expressions = ['"{}"'.format(name.replace('"', '""')) for name in found]
        else:
            found = _csv_header(file, source, table)
            types = ["VARCHAR"] * len(found)
            expressions = [f"column_{position}" for position in range(len(found))]
            columns = ", ".join(f"'{name}': 'varchar'" for name in expressions)
            # Nothing is guessed from the content.
            scan = (
                f"read_csv('{file}', header=true, delim=',', quote='\"', escape='\"', auto_detect=false, "
                f"columns={{{columns}}})"
            )
        delivery, positions = _match_columns(table, source, found)
        for name, position in positions.items():
            if _NESTED.match(types[position]):
                raise LoadError(
                    f"{source}: column {name} is nested, of type {shortened(types[position])}. Write one plain value "
                    "into each row."
                )
            if name in _IDS and types[position] in ("DOUBLE", "FLOAT"):
                raise LoadError(
                    f"{source}: column {name} has floating-point numbers, of type {types[position]}: 5 is 5.0 there, "
                    "and long ids lose digits. Write it as text or as whole numbers."
                )
        texts = [
            f"nullif({_without_blanks(f'cast({expressions[positions[column.name]]} as varchar)')}, '') as {column.name}"
            if column.name in positions
            else f"cast(null as varchar) as {column.name}"
            for column in table.columns
        ]
        if "transaction_date" in positions:
            position = positions["transaction_date"]
            texts.append(f"{_day(expressions[position], types[position])} as transaction_day")
        connection.execute(f"create table {table.name} as select {', '.join(texts)} from {scan}")
    except duckdb.Error as error:
        if says_no_room(str(error)):
            raise WarehouseError(
                f"{source}: there is no room for its rows: {error}\nThey are read into {scratch.parent} first: "
                "free space there, or have TMPDIR name another folder. The warehouse was left as it was."
            ) from error
        message = _parquet_fault(error) if extension == ".parquet" else _csv_fault(error, file)
        raise LoadError(f"{source}: cannot be read as {extension[1:]}: {message}") from error
    if connection.execute(f"select count(*) from {table.name}").fetchall() == [(0,)]:
        raise LoadError(f"{source}: the file is empty: it has a header and no rows.")
    return delivery


def shortened(text: str) -> str:
    """Return a text as an error quotes it: in one line, nothing invisible, and no megabytes."""
    shown = text if len(text) <= _QUOTED else f"{text[:_QUOTED]}... ({len(text):,} characters)"
    return " ".join(shown.replace("\0", "\\0").split())


def _without_blanks(text: str) -> str:
    """Return the SQL of a text without blanks around it: spaces of all kinds, tabs and line ends.

    Few values have tabs or line ends, so they are looked for first: taking them off costs seven times as much.
    """
    trimmed = f"trim({text})"
    return f"case when {text} < '!' or right({text}, 1) < '!' then {expression('trimmed', trimmed)} else {trimmed} end"


def _day(column: str, data_type: str) -> str:
    """Return the SQL of a business day; a time of Parquet is not made a text first, which would lose infinite ones."""
    if _TEMPORAL.match(data_type):
        return expression("date_of", column, data_type)
    return expression("date_of_text", f"cast({column} as varchar)")


def _fetch(source: str, file: Path) -> None:
    if "://" not in source:
        local = Path(source).expanduser().resolve()
        if not local.is_file():
            raise LoadError(
                f"{source}: no such file{' (it is a folder)' if local.is_dir() else ''}. Looked at {local}."
            )
        file.symlink_to(local)
    else:
        _download(source, file)
    if not file.stat().st_size:
        raise LoadError(f"{source}: the file is empty (0 bytes).")


def _download(uri: str, file: Path) -> None:
    # Imported here: starting Airflow takes seconds, and a local path needs none of it.
    from airflow.sdk import ObjectStoragePath

    try:
        with ObjectStoragePath(uri).open("rb") as remote, file.open("wb") as local:
            shutil.copyfileobj(remote, local)
    except FileNotFoundError as error:
        raise LoadError(f"{uri}: no such file.") from error
    except Exception as error:  # every storage client has exceptions of its own
        raise LoadError(
            f"{uri}: cannot be fetched: {error}. Check the address, that the storage's provider is installed, and its "
            "Airflow connection."
        ) from error


def _opened(file: Path) -> gzip.GzipFile | BinaryIO:
    return gzip.open(file) if file.suffix == ".gz" else file.open("rb")


def _csv_header(file: Path, source: str, table: SourceTable) -> list[str]:
    try:
        with _opened(file) as opened:
            start = opened.read(1_000)
            if file.suffix == ".gz":
                # To the end, where the checksum is, which DuckDB ignores: damaged rows may still be rows.
                while opened.read(1 << 20):
                    pass
        _check_kind(start, source)
        with _opened(file) as opened:
            lines = (line.decode(encoding="utf-8") for line in opened)
            header = next(csv.reader(_without_mark(lines)), [])
    except UnicodeDecodeError as error:
        raise LoadError(f"{source}: {_not_utf_8(file)}") from error
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise LoadError(f"{source}: cannot be read: {error}.") from error
    if not any(name.strip() for name in header):
        raise LoadError(f"{source}: the file is empty: its first line holds no column names.")
    _check_delimiter(header, source, table)
    return header


def _without_mark(lines: Iterator[str]) -> Iterator[str]:
    """Drop the byte order mark; lines that end in a carriage return alone are lines too."""
    for number, line in enumerate(lines):
        yield from (line.removeprefix("\ufeff") if number == 0 else line).splitlines(keepends=True)


def _check_kind(start: bytes, source: str) -> None:
    for mark, kind in _OTHER_KINDS.items():
        if start.startswith(mark):
            raise LoadError(f"{source}: the file is not UTF-8 text: {kind}")
    if start.count(0) * 3 > len(start):
        raise LoadError(
            f"{source}: the file is not UTF-8 text: it looks like UTF-16, with many NUL bytes. Save it as UTF-8."
        )


def _check_delimiter(header: list[str], source: str, table: SourceTable) -> None:
    """Refuse a header in which another delimiter than the comma gives more of the columns."""
    known = {column.name for column in table.columns}
    line = ",".join(header)

    def hits(delimiter: str) -> int:
        return len(known.intersection(name.strip().strip('"').lower() for name in line.split(delimiter)))

    best = max(_OTHER_DELIMITERS, key=hits)
    if hits(best) > hits(","):
        raise LoadError(
            f"{source}: its delimiter is not the comma: the names in its first line are separated by "
            f"{_OTHER_DELIMITERS[best]}: {shortened(line)}. Save it with commas, and amounts like 1234.50."
        )


def _match_columns(table: SourceTable, source: str, found: list[str]) -> tuple[Delivery, dict[str, int]]:
    """Return the delivery, and the position in the file of each column of the table that the file has."""
    known = {column.name for column in table.columns}
    listed = shortened(", ".join(found))
    positions: dict[str, int] = {}
    for position, name in enumerate(found):
        key = name.strip().lower()
        if key in positions and key in known:
            raise LoadError(
                f"{source}: column {key} stands there twice, in positions {positions[key] + 1} and {position + 1}."
            )
        positions[key] = position
    ignored = [key for key in positions if key and key not in known]
    absent = [column for column in table.columns if column.name not in positions]
    for column in absent:
        # An optional column may be absent, so only a name that is all but the same counts as a misspelling.
        close = difflib.get_close_matches(column.name, ignored, n=1, cutoff=0.4 if column.required else 0.88)
        if column.name == "status" and not close:
            # Without it every row counts as approved, so more names are suspected of being it: txn_status, statis.
            close = [name for name in ignored if column.name in name]
            close += difflib.get_close_matches(column.name, ignored, n=1, cutoff=0.8)
        if column.required:
            hint = f" Is it {shortened(close[0])}? Rename that column to {column.name}." if close else ""
            raise LoadError(f"{source}: column {column.name} is missing.{hint} Columns found: {listed}.")
        if close:
            raise LoadError(
                f"{source}: column {shortened(close[0])} looks like a misspelt {column.name}: rename or remove it."
            )
    delivery = Delivery(table, source, tuple(column.name for column in absent), tuple(map(shortened, ignored)))
    return delivery, {name: position for name, position in positions.items() if name in known}


def _parquet_fault(error: duckdb.Error) -> str:
    said = _first_words(error)
    if "magic bytes" in said:
        return "it is no Parquet file, or it breaks off."
    return f"it is damaged, or written in a way that DuckDB does not know. DuckDB says: {shortened(said)}"


def _csv_fault(error: duckdb.Error, file: Path) -> str:
    """Return what is wrong with a CSV, and on which line, from what DuckDB says of it.

    DuckDB counts a row with line breaks in quotes as one line.
    """
    said = _first_words(error)
    found = re.search(r"CSV Error on Line: (\d+)\s+Original Line: ?", said)
    if "invalid state" in said:
        return _other_line_end(file) or f"a line does not end as the others do. DuckDB says: {shortened(said)}"
    if "not utf-8" in said:
        return _not_utf_8(file)
    if not found:
        return f"DuckDB says: {shortened(said)}"
    # Between the two stands the line itself, which may be long.
    original, _, reason = said[found.end() :].rpartition("\n")
    columns = re.search(r"Columns: (\d+) Found: (\d+)", reason)
    if columns:
        fault = f"it has {columns[2]} values, and the first line {columns[1]} names."
    elif "quote" in reason:
        fault = (
            'a quote (") is not closed, or text stands behind the closing one. Within quotes write two of them ("").'
        )
    elif "line size" in reason:
        fault = "it is too long."
    else:
        fault = "it is no row of a CSV."
    return (
        f"line {int(found[1]):,}: {fault} (CSV Error on Line: {found[1]} Original Line: {shortened(original)} "
        f"{shortened(reason)})"
    )


def _not_utf_8(file: Path) -> str:
    with _opened(file) as opened:
        for number, line in enumerate(opened, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                read = shortened(line[max(0, error.start - 80) : error.start + 80].decode("cp1252", errors="replace"))
                return (
                    f"line {number:,} is not UTF-8 text ({error.reason}). It may be Latin-1 or Windows-1252, in which "
                    f"it reads {read!r}. Save the file as UTF-8."
                )
    return "it is not UTF-8 text. Save it as UTF-8."


def _other_line_end(file: Path) -> str:
    """Return which line ends as the first does not, or holds a carriage return; nothing when there is none."""
    with _opened(file) as opened:
        first = b"\r\n" if opened.readline().endswith(b"\r\n") else b"\n"
        for number, line in enumerate(opened, 2):
            content = line.removesuffix(b"\n") if first == b"\n" else line.removesuffix(b"\r\n")
            # A line with quotes may hold one rightly.
            if (b"\r" in content or b"\n" in content) and b'"' not in content:
                return (
                    f"line {number:,}: it ends in another way than line 1 does, or holds a carriage return that stands "
                    "in no quotes. Save the file with one kind of line end."
                )
    return ""


def _first_words(error: duckdb.Error) -> str:
    """Return what DuckDB says is wrong, without its advice on its own options."""
    text = str(error).split("\nPossible")[0].split("\nLINE 1:")[0]
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())
