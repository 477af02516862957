"""Remove a person from the DuckDB warehouse and from the export files that still lie there: `make erase CUSTOMER=...`.

What is left are hashes of the customer_id and of the addresses on the suppression list, by which whoever the feed
delivers again stays out of every audience. The file is written anew at the end: DuckDB leaves the bytes of deleted rows
where they were until something else needs the room. So are the copies that readers open. What the screens logged about
the person, that is who looked them up, goes too.
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import io
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
from jinja2 import Environment, FileSystemLoader

from include.customer_360.ops_tables import ops_columns
from include.customer_360.settings import TEMPLATE_FOLDERS, Settings, SettingsError, load_settings
from local.local_airflow import home_of, running_state
from local.sources import WarehouseError, attach_warehouse, connect_beside, warehouse_transaction

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

ERASED = "erased"
"""The reason on the suppression list, and what takes the place of an id in a text."""
_TABLES = """
select tables.schema_name, tables.table_name, list(columns.column_name)
from duckdb_tables() as tables
inner join duckdb_columns() as columns using (database_name, schema_name, table_name)
where tables.database_name = 'warehouse'
group by all
order by all
"""
_TEXTS = {"ops.validation_results": "observed", "ops.nights": "reason", "ops.export_runs": "reason"}
"""The texts of schema ops that may name a person, by table."""


class EraseError(ValueError):
    """Nobody can be erased by what was asked; nothing was changed."""


@dataclass
class Erased:
    """What was removed: rows by table, and export files by path with the rows taken out of each; the copies renewed."""

    tables: dict[str, int] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    copies: list[Path] = field(default_factory=list)

    @property
    def nothing(self) -> bool:
        """Whether nothing of the person was there."""
        return not any(self.tables.values()) and not self.files


@dataclass(frozen=True)
class Person:
    """Who is erased: the id, and every address that the warehouse has of them, normalised."""

    customer_id: str
    addresses: frozenset[str]


def erase(settings: Settings, customer_id: str) -> Erased:
    """Erase a person, in one transaction; then take them out of the export files, and write the warehouse file anew.

    :raises EraseError: when the warehouse is Snowflake, or nobody of this id is or was there.
    :raises WarehouseError: when an Airflow runs on the warehouse, or the file cannot be used.
    """
    file = settings.warehouse_file
    if settings.warehouse == "snowflake":
        raise EraseError(
            "WAREHOUSE is snowflake: docs/erasure.md has the statements, which an administrator runs. This command "
            "erases from the DuckDB file."
        )
    if running := running_state(home_of(settings)):
        raise WarehouseError(
            f"Airflow runs on {file} (pid {running['pid']}, {running['url']}): stop it first, with `make down`; a run "
            "that is under way would write the person back."
        )
    if not file.exists():
        raise WarehouseError(f"{file} is not there: there is nothing to erase from.")
    erased = Erased()
    with closing(connect_beside(file, settings.warehouse_memory)) as connection:
        attach_warehouse(connection, file, settings.warehouse_lock_wait)
        tables = connection.execute(_TABLES).fetchall()
        person = Person(customer_id, frozenset(_addresses_of(connection, tables, customer_id)))
        if not _is_there(connection, tables, customer_id) and not _is_on_the_list(connection, tables, customer_id):
            raise EraseError(
                f"No customer {customer_id!r} is in {file}, and none of that id was erased from it: see that the id is "
                "whole and in the case in which the sources have it."
            )
        _take_screens_log(connection, settings)
        tables = connection.execute(_TABLES).fetchall()
        # First: once the person is out of the warehouse, nothing there says by which addresses to find them.
        rewritten = _erase_from_exports(settings, person, erased)
        with warehouse_transaction(connection, file):
            _delete(connection, tables, person, erased)
            _remember(connection, person)
            for audience, files in rewritten.items():
                _correct_the_log(connection, audience, files)
        _erase_from_rejected_lines(settings, person, erased)
        # Before what may fail for want of room: they hold the person, and are written anew from what is left.
        erased.copies = _removed_copies(settings)
        _write_anew(connection, file)
    if erased.copies:
        _write_copies(settings)
    return erased


def _columns_of(tables: Sequence[tuple[str, str, list[str]]]) -> Iterator[tuple[str, list[str]]]:
    for schema, table, columns in tables:
        yield f'warehouse."{schema}"."{table}"', [column.lower() for column in columns]


def _addresses_of(
    connection: duckdb.DuckDBPyConnection, tables: Sequence[tuple[str, str, list[str]]], customer_id: str
) -> Iterator[str]:
    templates = Environment(loader=FileSystemLoader(TEMPLATE_FOLDERS))
    addresses: Any = templates.get_template("audiences/addresses.jinja").make_module({"warehouse": "duckdb"})
    for name, columns in _columns_of(tables):
        if {"customer_id", "email"} <= set(columns):
            found = connection.execute(
                f"select distinct {addresses.normalised_address('email')} from {name} where trim(customer_id) = ?",
                [customer_id],
            ).fetchall()
            yield from (address for (address,) in found if address)


def _is_there(
    connection: duckdb.DuckDBPyConnection, tables: Sequence[tuple[str, str, list[str]]], customer_id: str
) -> bool:
    return any(
        connection.execute(
            f"select 1 from {name} where trim(cast(customer_id as varchar)) = ? limit 1", [customer_id]
        ).fetchall()
        for name, columns in _columns_of(tables)
        if "customer_id" in columns
    )


def _is_on_the_list(
    connection: duckdb.DuckDBPyConnection, tables: Sequence[tuple[str, str, list[str]]], customer_id: str
) -> bool:
    columns = dict(_columns_of(tables)).get('warehouse."ops"."suppressions"', [])
    if "customer_id_hash" not in columns:
        return False
    [(found,)] = connection.execute(
        "select count(*) from warehouse.ops.suppressions where customer_id_hash = ?", [_hash(customer_id)]
    ).fetchall()
    return bool(found)


def _delete(
    connection: duckdb.DuckDBPyConnection,
    tables: Sequence[tuple[str, str, list[str]]],
    person: Person,
    erased: Erased,
) -> None:
    """Delete the rows of the person from tables with a customer_id, and their id and addresses from texts of ops."""
    customer_id = person.customer_id
    there = {(schema, table) for schema, table, _ in tables}
    if {("core", "fct_transactions"), ("raw", "transactions")} <= there:
        # Also what was delivered of their transactions under another customer's id, and superseded since.
        erased.tables["raw.transactions"] = _changed(
            connection,
            "delete from warehouse.raw.transactions where transaction_id in "
            "(select transaction_id from warehouse.core.fct_transactions where customer_id = ?)",
            [customer_id],
        )
    for name, columns in _columns_of(tables):
        shown = name.removeprefix("warehouse.").replace('"', "")
        if "customer_id" in columns:
            rows = _changed(
                connection, f"delete from {name} where trim(cast(customer_id as varchar)) = ?", [customer_id]
            )
            if shown == "ops.screens_log":
                # A list may name the person beside others, whose look-up stays on record.
                rows += sum(
                    _changed(
                        connection,
                        f"update {name} set detail = regexp_replace(detail, ?, '({ERASED})', 'gi') "
                        "where regexp_matches(detail, ?, 'i')",
                        [_as_word(each)] * 2,
                    )
                    for each in (*sorted(person.addresses), customer_id)
                )
        elif shown == "ops.failing_rows":
            rows = _changed(
                connection, f"delete from {name} where list_contains(string_split(row_key, ' '), ?)", [customer_id]
            )
        elif text := _TEXTS.get(shown):
            rows = _changed(
                connection,
                f"update {name} set {text} = regexp_replace({text}, ?, '({ERASED})', 'g') "
                f"where regexp_matches({text}, ?)",
                [_named(person)] * 2,
            )
        else:
            continue
        if rows or shown in erased.tables:
            erased.tables[shown] = erased.tables.get(shown, 0) + rows


def _changed(connection: duckdb.DuckDBPyConnection, sql: str, values: Sequence[object]) -> int:
    [(rows,)] = connection.execute(sql, values).fetchall()
    return int(rows)


def _as_word(customer_id: str) -> str:
    return rf"(?:^|\b){re.escape(customer_id)}(?:\b|$)"


def _named(person: Person) -> str:
    """Return a pattern of what names the person in a text: an address, in any case, first, since it may hold the id."""
    return "|".join([*(f"(?i:{_as_word(each)})" for each in sorted(person.addresses)), _as_word(person.customer_id)])


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _make(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    """Make a table of schema ops that an older warehouse lacks, and its columns."""
    described = ops_columns()[table]
    connection.execute("create schema if not exists warehouse.ops")
    connection.execute(
        f"create table if not exists warehouse.ops.{table} "
        f"({', '.join(f'{name} {kind}' for name, kind in described.items())})"
    )
    for name, kind in described.items():
        connection.execute(f"alter table warehouse.ops.{table} add column if not exists {name} {kind}")


def _remember(connection: duckdb.DuckDBPyConnection, person: Person) -> None:
    """Put the hashes of id and addresses on the suppression list, without an end, where they are not on it."""
    _make(connection, "suppressions")
    hashes = [("customer_id_hash", _hash(person.customer_id))]
    hashes += [("email_hash", _hash(address)) for address in sorted(person.addresses)]
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    for column, digest in hashes:
        connection.execute(
            f"insert into warehouse.ops.suppressions ({column}, reason, recorded_at) "
            f"select ?, '{ERASED}', ? where not exists (from warehouse.ops.suppressions "
            f"where {column} = ? and reason = '{ERASED}')",
            [digest, now, digest],
        )


# The log of the screens, and the copies that readers open


def _take_screens_log(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Take what the screens logged since the last night into the warehouse, where it is erased with the rest.

    :raises WarehouseError: when it cannot be taken whole; nobody is erased then.
    """
    # Imported here, as below: it takes seconds.
    from include.customer_360.operators.screens_log import LogNotTaken, take_screens_log

    _make(connection, "screens_log")
    connection.execute("use warehouse")
    try:
        take_screens_log(connection, settings, lambda line: print(line, file=sys.stderr))
    except LogNotTaken as error:
        raise WarehouseError(f"Nobody was erased. {error}") from error
    connection.execute("use memory")


def _erase_from_rejected_lines(settings: Settings, person: Person, erased: Erased) -> None:
    """Take out of the lines that were no entries of that log those that name the person; nights alone write there."""
    from include.customer_360.operators.screens_log import rejected_file

    file = rejected_file(settings.screens_log_file)
    if not file.exists():
        return
    lines = file.read_text(encoding="utf-8", errors="surrogateescape").splitlines(keepends=True)
    named = re.compile("|".join(_as_word(each) for each in (person.customer_id, *person.addresses)), re.IGNORECASE)
    kept = [line for line in lines if not named.search(line)]
    if len(kept) < len(lines):
        part = file.with_name(f".{file.name}.part")
        part.touch(mode=0o600)
        part.write_text("".join(kept), encoding="utf-8", errors="surrogateescape")
        part.rename(file)
        erased.files[str(file)] = len(lines) - len(kept)


def _removed_copies(settings: Settings) -> list[Path]:
    copies = [each for each in (settings.published_file, settings.published_personal_file) if each.exists()]
    for each in copies:
        each.unlink()
    return copies


def _write_copies(settings: Settings) -> None:
    """Write the copies from what is left.

    :raises WarehouseError: when they cannot be; the person is erased then, and readers have no copy.
    """
    from include.customer_360.operators.published_copy import CopyNotRenewed, renew_copy

    try:
        file = settings.warehouse_file
        with connect_beside(file, settings.warehouse_memory, file) as connection, connection.cursor() as cursor:
            renew_copy(cursor, settings, print)
    except CopyNotRenewed as error:
        raise WarehouseError(
            f"The person is erased, and the copies that readers open were removed, but could not be written anew: "
            f"{error} Until then readers have none."
        ) from error


# The files of exports


def _erase_from_exports(settings: Settings, person: Person, erased: Erased) -> dict[str, dict[str, dict[str, Any]]]:
    """Take the person out of every export file; return, by audience.csv, what its manifest says of the files now."""
    rewritten = {}
    # Imported here: it takes seconds, and a wrong id is to be told at once.
    from airflow.sdk import ObjectStoragePath

    from include.customer_360.catalog import load_catalog
    from include.customer_360.operators.audience_files import (
        AT_THE_TOP,
        AUDIENCE,
        ENTERED,
        LEFT,
        MANIFEST,
        OF_A_DATE,
        Attempt,
        googles_address,
        metas_address,
        only_for_its_user,
    )

    lines = {
        _hash(normalise(address)) for address in person.addresses for normalise in (googles_address, metas_address)
    }
    for campaign in load_catalog().campaigns:
        for destination in campaign.destinations:
            root = ObjectStoragePath(destination.place or settings.export_root) / campaign.name
            below = "" if destination.name == AT_THE_TOP else destination.name
            for dated in root.iterdir() if root.exists() else ():
                folder: ObjectStoragePath = dated / below if below else dated
                if not dated.name.startswith(OF_A_DATE) or not (folder / MANIFEST).exists():
                    continue
                contents = {
                    name: _without(person, lines, (folder / name).read_text(encoding="utf-8"))
                    for name in (AUDIENCE, ENTERED, LEFT)
                }
                if not any(removed for _, removed in contents.values()):
                    continue
                manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
                with only_for_its_user(), Attempt(folder) as attempt:
                    for name, (text, _) in contents.items():
                        header, *rows = text.splitlines(keepends=True)
                        outgoing = attempt.begin(name, next(csv.reader([header])))
                        outgoing.write("".join(rows).encode(), _records(text) - 1)
                    files = {name: outgoing.described() for name, outgoing in attempt.files.items()}
                    manifest |= {
                        "files": files,
                        "row_count": files[AUDIENCE]["row_count"],
                        "sha256": files[AUDIENCE]["sha256"],
                    }
                    attempt.finish(manifest)
                for name, (_, removed) in contents.items():
                    if removed:
                        erased.files[str(folder / name)] = removed
                rewritten[str(folder / AUDIENCE)] = files
    return rewritten


def _without(person: Person, digests: Iterable[str], text: str) -> tuple[str, int]:
    """Return a file's text without the person's lines, and how many these are."""
    header, *rows = list(_lines(text))
    titles = next(csv.reader([header]))
    lowered = [title.lower() for title in titles]
    digests = set(digests)

    def is_theirs(line: str) -> bool:
        cells = dict(zip(lowered, next(csv.reader(io.StringIO(line))), strict=True))
        address = cells.get("email", "").removeprefix("'").strip().lower()
        return cells.get("customer_id") == person.customer_id or address in person.addresses or address in digests

    kept = [line for line in rows if not is_theirs(line)]
    return header + "".join(kept), len(rows) - len(kept)


def _lines(text: str) -> Iterator[str]:
    """Yield the records of a CSV as they are written: one whose cell has a line break is several lines."""
    record = ""
    for line in text.splitlines(keepends=True):
        record += line
        if record.count('"') % 2 == 0:
            yield record
            record = ""


def _records(text: str) -> int:
    return sum(1 for _ in _lines(text))


def _correct_the_log(connection: duckdb.DuckDBPyConnection, file: str, files: dict[str, dict[str, Any]]) -> None:
    """Have ops.export_runs say of a file what is in it now."""
    [(there,)] = connection.execute(
        "select count(*) from duckdb_tables() where database_name = 'warehouse' and schema_name = 'ops' "
        "and table_name = 'export_runs'"
    ).fetchall()
    if there:
        connection.execute(
            "update warehouse.ops.export_runs set sha256 = ?, exported = ?, entered = ?, left_audience = ? "
            "where file = ?",
            [
                files["audience.csv"]["sha256"],
                *(files[name]["row_count"] for name in ("audience.csv", "entered.csv", "left.csv")),
                file,
            ],
        )


def _write_anew(connection: duckdb.DuckDBPyConnection, file: Path) -> None:
    """Copy what is left into a new file, which takes the place of the old one and of what lies beside it.

    :raises WarehouseError: when there is no room; the person is deleted then, and their bytes may still be in the file.
    """
    part = file.with_name(f".{file.name}.part")
    part.unlink(missing_ok=True)
    try:
        connection.execute(f"attach '{str(part).replace(chr(39), chr(39) * 2)}' as anew")
        connection.execute("copy from database warehouse to anew")
        connection.execute("detach anew")
        connection.execute("force checkpoint warehouse")
    except duckdb.Error as error:
        part.unlink(missing_ok=True)
        raise WarehouseError(
            f"The person is deleted, but {file} could not be written anew, and may still hold the bytes of what was "
            f"deleted: {error}\nFree as much room in {file.parent} as the file takes, then run the same command again."
        ) from error
    connection.execute("detach warehouse")
    part.rename(file)
    file.with_name(f"{file.name}.wal").unlink(missing_ok=True)


def report(customer_id: str, erased: Erased, settings: Settings) -> str:
    """Return what was done, as lines for people."""
    if erased.nothing:
        return (
            f"Nothing is left of customer {customer_id} in {settings.warehouse_file} or the export files: they were "
            "erased before, and stay suppressed."
        )
    rows = [(table, f"{count:,}") for table, count in erased.tables.items() if count]
    rows += [(file, f"{count:,}") for file, count in erased.files.items()]
    width = max(len(name) for name, _ in rows)
    lines = [f"  {name.ljust(width)}  {count:>8}" for name, count in rows]
    return "\n".join(
        [
            f"Erased customer {customer_id}: rows taken out of",
            *lines,
            f"{' and '.join(map(str, (settings.warehouse_file, *erased.copies)))}: written anew, so that the bytes are "
            "gone too. The person stays suppressed, by hashes of id and addresses (ops.suppressions).",
            "Left to you: the feed, backups, files that were handed on, and Airflow's logs (docs/erasure.md).",
        ]
    )


def main() -> int:
    """Erase whom CUSTOMER names; return the exit code."""
    try:
        settings = load_settings()
        customers = [each.strip() for each in os.environ.get("CUSTOMER", "").split(",") if each.strip()]
        if not customers:
            raise EraseError("Say whom: make erase CUSTOMER=CUST00000001.")  # noqa: TRY301
        for customer_id in customers:
            print(report(customer_id, erase(settings, customer_id), settings))
    except (EraseError, WarehouseError, SettingsError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
