"""How an audience becomes files: lines in batches, hashed addresses, and the way into a folder."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

import duckdb

from include.customer_360.csv_cells import csv_line, quoted, text_of
from include.customer_360.operators.audiences import MASKED
from include.customer_360.settings import WRITTEN_DATE

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

AUDIENCE = "audience.csv"
ENTERED = "entered.csv"
LEFT = "left.csv"
MANIFEST = "manifest.json"
AT_THE_TOP = "csv"
"""The destination whose files lie in the date's own folder; any other's lie in one of its name below."""
OF_A_DATE = "as_of_date="
"""How the name of a date's folder begins."""
TEMPORARY = ".tmp"

ADDRESS = "email"
BATCH_ROWS = 20_000
"""So many rows are in memory at once, besides what the warehouse's client holds."""

PLAIN_FIRST = (("0", "9"), ("A", "Z"), ("a", "z"), ("\u00c0", "\u024f"), ("\u0400", "\u052f"), ("\u4e00", "\u9fff"))
"""Characters, from and to: a text that begins with one of them is no formula. Digits and letters, all visible."""
_AS_DUCKDB_HAS_IT = ("VARCHAR", "BOOLEAN", "DATE", "DECIMAL", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
"""Types whose text is the same in DuckDB and here."""
_GOOGLES_OWN = ("gmail.com", "googlemail.com")


def googles_address(text: str) -> str:
    """Return an address as Google Customer Match normalises it before the hash; empty without one.

    Lower case, no white space; of gmail.com and googlemail.com neither the dots of the local part nor its +suffix.
    """
    address = "".join(text.split()).lower()
    local, _, domain = address.rpartition("@")
    if domain in _GOOGLES_OWN:
        local = local.partition("+")[0].replace(".", "")
        return f"{local}@{domain}"
    return address


def metas_address(text: str) -> str:
    """Return an address as Meta's custom audiences normalise it before the hash: trimmed and in lower case."""
    return text.strip().lower()


@dataclass(frozen=True)
class Batch:
    """Some lines of an audience, UTF-8.

    :param lines: of everybody in the batch.
    :param entered: of those of them who enter.
    :param masked: a value of it is masked.
    """

    lines: bytes | memoryview
    rows: int
    entered: bytes | memoryview = b""
    entrants: int = 0
    masked: bool = False


class Form(ABC):
    """A format of files.

    :param columns: what is read of the warehouse.
    :param titles: the header.
    """

    def __init__(self, columns: Sequence[str], titles: Sequence[str]) -> None:
        self.columns = columns
        self.titles = titles

    @abstractmethod
    def batches(self, cursor: Any, statement: Callable[[str], str]) -> Generator[Batch]:  # noqa: ANN401 - DB-API
        """Yield the audience, in its order.

        :param statement: takes what is selected, of the columns and of `enters`, and gives the SQL.
        """

    def left(self, cursor: Any, statement: Callable[[str], str]) -> Generator[Batch]:  # noqa: ANN401 - DB-API
        """Yield who leaves; not before all of the audience was taken from `batches`."""
        return self.batches(cursor, statement)


class Csv(Form):
    """Lines of CSV. DuckDB writes them itself, but for those with a cell that is not plain; else Python does.

    :param columns: of the profile; the header has their names.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        super().__init__(columns, columns)

    def batches(self, cursor: Any, statement: Callable[[str], str]) -> Generator[Batch]:  # noqa: ANN401 - DB-API
        """Yield the audience, in its order."""
        rows = statement(", ".join([*self.columns, "enters"]))
        if isinstance(cursor, duckdb.DuckDBPyConnection):
            types = [str(kind) for kind in cursor.sql(rows).types[:-1]]
            if all(kind.partition("(")[0] in _AS_DUCKDB_HAS_IT for kind in types):
                yield from self._from_duckdb(cursor, statement, types)
                return
        yield from batches_of_rows(cursor, rows, csv_line)

    def _from_duckdb(
        self, connection: duckdb.DuckDBPyConnection, statement: Callable[[str], str], types: Sequence[str]
    ) -> Generator[Batch]:
        import pyarrow as pa
        import pyarrow.compute as pc

        cells = [f"coalesce(cast({column} as varchar), '')" for column in self.columns]
        texts = [kind == "VARCHAR" for kind in types]
        plain = [_is_plain(column) for column, is_text in zip(self.columns, texts, strict=True) if is_text]
        separated = ", ',', ".join(cells)
        selected = (
            f"concat({separated}, chr(10)) as line, enters, "
            f"case when not ({' and '.join(plain) or 'true'}) then [{', '.join(cells)}] end as cells"
        )
        # As a relation: what `execute` gives would be in memory whole.
        with connection.sql(statement(selected)).to_arrow_reader(BATCH_ROWS) as found:
            for batch in found:
                lines, enters, odd = batch.columns
                if odd.null_count < len(odd):
                    written = [_line_of_cells(row, texts) for row in odd.drop_null().to_pylist()]
                    lines = pc.replace_with_mask(lines, odd.is_valid(), pa.array(written, lines.type))
                entered = lines.filter(enters)
                content = _content_of(lines)
                yield Batch(content, len(lines), _content_of(entered), len(entered), MASKED.encode() in bytes(content))


def _line_of_cells(cells: Sequence[str], texts: Sequence[bool]) -> str:
    """Return a line of CSV of what DuckDB gave as text; `texts` says which cells were text before."""
    written = [quoted(text_of(cell)) if is_text else cell for cell, is_text in zip(cells, texts, strict=True)]
    return f"{','.join(written)}\n"


def _is_plain(column: str) -> str:
    """Return SQL of DuckDB that is true for a text which stays as it is: it begins plainly, and has no separator."""
    begins = " or ".join(f"ascii({column}) between {ord(first)} and {ord(last)}" for first, last in PLAIN_FIRST)
    without = " and ".join(f"not contains({column}, chr({ord(character)}))" for character in ',"\r\n')
    return f"coalesce(({begins}) and {without}, true)"


def _content_of(lines: Any) -> memoryview:  # noqa: ANN401 - pyarrow.StringArray
    """Return the texts of an Arrow array, which lie one behind the other."""
    _, offsets, content = lines.buffers()
    if content is None:
        return memoryview(b"")
    places = memoryview(offsets).cast("q" if str(lines.type) == "large_string" else "i")
    return memoryview(content)[places[lines.offset] : places[lines.offset + len(lines)]]


class Upload(Form):
    """What an ad platform takes: one column, the SHA-256 (hexadecimal, lower case) of each normalised address.

    An address is written once, an empty one never. Who leaves under an address that the audience holds, as another
    customer's, is not in left: the platform would take out who stays.

    :param title: the header.
    :param normalise: gives the address as the platform hashes it.
    """

    def __init__(self, title: str, normalise: Callable[[str], str]) -> None:
        super().__init__((ADDRESS,), (title,))
        self.normalise = normalise
        self._held: set[bytes] = set()

    def batches(self, cursor: Any, statement: Callable[[str], str]) -> Generator[Batch]:  # noqa: ANN401 - DB-API
        """Yield the audience, in its order."""
        self._held = set()
        return self._hashed(cursor, statement)

    def left(self, cursor: Any, statement: Callable[[str], str]) -> Generator[Batch]:  # noqa: ANN401 - DB-API
        """Yield who leaves; not before all of the audience was taken from `batches`."""
        return self._hashed(cursor, statement)

    def _hashed(self, cursor: Any, statement: Callable[[str], str]) -> Generator[Batch]:  # noqa: ANN401 - DB-API
        return batches_of_rows(cursor, statement(f"{ADDRESS}, enters"), self._line)

    def _line(self, row: Sequence[Any]) -> str:
        [address] = row
        normalised = self.normalise(address or "")
        digest = hashlib.sha256(normalised.encode()).digest()
        if not normalised or digest in self._held:
            return ""
        self._held.add(digest)
        return f"{digest.hex()}\n"


def form_of(name: str, columns: Sequence[str]) -> Form:
    """Return the format of this name; `columns` are those of the campaign, which an upload does not hold."""
    match name:
        case "csv":
            return Csv(columns)
        case "google_customer_match":
            return Upload("Email", googles_address)
        case "meta_custom_audience":
            return Upload("email", metas_address)
    raise ValueError(f"{name!r} is no format of a destination: name csv, google_customer_match or meta_custom_audience")


def batches_of_rows(cursor: Any, sql: str, line: Callable[[Sequence[Any]], str]) -> Generator[Batch]:  # noqa: ANN401
    """Yield what a statement finds, whose last column is `enters`; `line` gives a row as text, or nothing."""
    cursor.execute(sql)
    while rows := cursor.fetchmany(BATCH_ROWS):
        written = [(line(row[:-1]), row[-1]) for row in rows]
        lines = [text for text, _ in written if text]
        entered = [text for text, enters in written if text and enters]
        yield Batch(
            "".join(lines).encode(),
            len(lines),
            "".join(entered).encode(),
            len(entered),
            any(isinstance(value, str) and MASKED in value for row in rows for value in row),
        )


@dataclass
class Outgoing:
    """A file under its hidden name, which is being written."""

    path: ObjectStoragePath
    file: BinaryIO
    rows: int = 0
    masked: bool = False
    _sha256: Any = field(default_factory=hashlib.sha256)

    def write(self, content: bytes | memoryview, rows: int) -> None:
        """Append lines."""
        self.file.write(content)
        self._sha256.update(content)
        self.rows += rows

    def described(self) -> dict[str, Any]:
        """Return what the manifest says of it."""
        return {"row_count": self.rows, "sha256": self._sha256.hexdigest()}


class Attempt:
    """One try to put files and a manifest into a folder, so that no manifest stands beside files it does not describe.

    The files are written under hidden names; `finish` moves them, the manifest last. A try that fails takes its hidden
    files away, and `finish` those of tries that were killed.

    :param folder: it is made when it is not there.
    """

    def __init__(self, folder: ObjectStoragePath) -> None:
        self.folder = folder
        self._id = uuid.uuid4().hex
        self.files: dict[str, Outgoing] = {}

    def __enter__(self) -> Attempt:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is not None:
            for outgoing in self.files.values():
                # What failed may fail here too; the next try removes what is left, and the first error is the one told.
                with suppress(Exception):
                    outgoing.file.close()
                with suppress(Exception):
                    outgoing.path.unlink(missing_ok=True)

    def begin(self, name: str, titles: Sequence[str]) -> Outgoing:
        """Open a file, with its header.

        :raises OSError: when the folder cannot be written.
        """
        make_folder(self.folder)
        outgoing = self._open(name)
        outgoing.write(csv_line(titles).encode(), 0)
        return outgoing

    def _open(self, name: str) -> Outgoing:
        path = self.folder / f".{name}.{self._id}{TEMPORARY}"
        outgoing = self.files[name] = Outgoing(path, path.open("wb"))  # type: ignore[no-untyped-call]
        return outgoing

    def finish(self, manifest: Mapping[str, Any]) -> None:
        """Move the files to their names, then the manifest.

        :param manifest: it has the sha256 of each file.
        :raises OSError: when the folder cannot be written; what was there stays readable.
        """
        digests = [outgoing.described()["sha256"].encode() for outgoing in self.files.values()]
        content = (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()
        self._open(MANIFEST).file.write(content)
        for outgoing in self.files.values():
            outgoing.file.close()
        standing = self.folder / MANIFEST
        if standing.exists():
            described = standing.read_bytes()
            if not all(digest in described for digest in digests):
                standing.unlink()
        for name, outgoing in self.files.items():
            outgoing.path.move(self.folder / name)
        for leftover in [path for path in self.folder.iterdir() if path.name.endswith(TEMPORARY)]:
            leftover.unlink()


def make_folder(folder: ObjectStoragePath) -> None:
    """Make a folder with those above it; in a bucket there are none, and its client might try to make the bucket."""
    if folder.protocol in ("", "file", "local"):
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def only_for_its_user() -> Iterator[None]:
    """Make the files of this process 0600, and its folders 0700, where they lie on a disk."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def remove_older(campaign_folder: ObjectStoragePath, below: str, oldest: datetime.date) -> list[str]:
    """Remove the files of a campaign's exports to one destination of dates before `oldest`; return their folders.

    The newest export stays, whatever its date. Of a date the manifest goes first: no manifest is left without its
    files. What has another name is somebody else's and stays, and so does its folder.

    :param campaign_folder: `<root>/<campaign>`.
    :param below: the folder of the destination within a date's; empty: none.
    :raises OSError: when a file cannot be removed.
    """
    if not campaign_folder.exists():
        return []
    dated: dict[datetime.date, ObjectStoragePath] = {}
    for folder in campaign_folder.iterdir():
        found = re.fullmatch(f"{OF_A_DATE}({WRITTEN_DATE})", folder.name)
        if found:
            dated[datetime.date.fromisoformat(found[1])] = folder / below if below else folder
    exported = {date: folder for date, folder in dated.items() if (folder / MANIFEST).exists()}
    removed = []
    for date, folder in sorted(exported.items()):
        if date >= oldest or date == max(exported):
            continue
        for name in (MANIFEST, AUDIENCE, ENTERED, LEFT):
            (folder / name).unlink(missing_ok=True)
        _remove_empty(folder)
        if below:
            _remove_empty(folder.parent)
        removed.append(str(folder))
    return removed


def _remove_empty(folder: ObjectStoragePath) -> None:
    """Remove a folder of a disk in which nothing is left; in a bucket it is gone with its last file."""
    if folder.protocol in ("", "file", "local") and not any(folder.iterdir()):
        folder.rmdir()
