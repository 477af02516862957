"""Add the rows of a CSV to the suppression list, ops.suppressions: `make suppress FILE=...`.

Each row names a customer, an address, or the SHA-256 of one. Of an address the hash alone is kept, as
include/sql/audiences/addresses.jinja makes it, and no error or report shows it.
"""

from __future__ import annotations

import csv
import datetime
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from include.customer_360.ops_tables import ops_columns
from include.customer_360.settings import TEMPLATE_FOLDERS, Settings, SettingsError, load_settings
from local.sources import WarehouseError, attach_warehouse, connect_beside, warehouse_transaction

COLUMNS = ("customer_id", "email", "email_hash", "reason", "from", "until")
WHOM = COLUMNS[:3]
_OTHER_NAMES = {"valid_from": "from", "valid_until": "until"}
_BLANKS = " \t\n\v\f\r"

Row = dict[str, Any]


class SuppressionError(ValueError):
    """The file cannot be used, and nothing was written; the message names file, row and column, and no address."""


@dataclass(frozen=True)
class Suppressed:
    """What became of a file's rows.

    :param rows: in the file.
    :param added: of them, new on the list; the others were there already, or stand in the file twice.
    """

    rows: int
    added: int


def suppress(settings: Settings, file: Path) -> Suppressed:
    """Add a file's rows to the list, in one transaction; a row that is there already is not added again.

    :raises SuppressionError: when the file cannot be used, or the warehouse is Snowflake.
    :raises WarehouseError: when the warehouse file cannot be used.
    """
    if settings.warehouse == "snowflake":
        raise SuppressionError(
            "The list is written on the embedded warehouse only, and WAREHOUSE is snowflake: insert into "
            "ops.suppressions there, as docs/campaigns.md says, or set WAREHOUSE=duckdb."
        )
    rows = list(read_rows(file))
    if not settings.warehouse_file.exists():
        raise WarehouseError(f"{settings.warehouse_file} is not there: run `make refresh` or `make load` first.")
    templates = Environment(loader=FileSystemLoader(TEMPLATE_FOLDERS))
    addresses: Any = templates.get_template("audiences/addresses.jinja").make_module({"warehouse": "duckdb"})
    hashed = addresses.address_hash(addresses.normalised_address("email"))
    recorded_at = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    with closing(connect_beside(settings.warehouse_file, settings.warehouse_memory)) as connection:
        attach_warehouse(connection, settings.warehouse_file, settings.warehouse_lock_wait)
        connection.execute(
            "create temp table delivered as select " + ", ".join(f'unnest(?) as "{name}"' for name in COLUMNS),
            [[row[name] for row in rows] for name in COLUMNS],
        )
        with warehouse_transaction(connection, settings.warehouse_file):
            described = ", ".join(f"{name} {data_type}" for name, data_type in ops_columns()["suppressions"].items())
            connection.execute("create schema if not exists warehouse.ops")
            connection.execute(f"create table if not exists warehouse.ops.suppressions ({described})")
            [(added,)] = connection.execute(
                f"""
                insert into warehouse.ops.suppressions by name
                select *, cast(? as timestamp) as recorded_at
                from (
                    select distinct
                        cast(customer_id as varchar) as customer_id,
                        coalesce(cast(email_hash as varchar), {hashed}) as email_hash,
                        reason,
                        cast("from" as date) as valid_from,
                        cast("until" as date) as valid_until
                    from delivered
                ) as wanted
                where not exists (
                    from warehouse.ops.suppressions as there
                    where
                        there.customer_id is not distinct from wanted.customer_id
                        and there.email_hash is not distinct from wanted.email_hash
                        and there.reason is not distinct from wanted.reason
                        and there.valid_from is not distinct from wanted.valid_from
                        and there.valid_until is not distinct from wanted.valid_until
                )
                """,
                [recorded_at],
            ).fetchall()
    return Suppressed(len(rows), added)


def read_rows(file: Path) -> Iterator[Row]:
    """Yield the rows of a CSV, checked; blank values are None.

    :raises SuppressionError: when it is no CSV with these columns, or at the first row that cannot be used.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, restkey="", strict=True)
            names = {name: _column_of(name) for name in reader.fieldnames or ()}
            _check_names(file, [names[name] for name in reader.fieldnames or ()])
            for number, delivered in enumerate(reader, start=1):
                if "" in delivered or None in delivered.values():
                    raise SuppressionError(f"{file}, row {number}: it has more or fewer values than the first line.")
                values = {names[name]: value.strip(_BLANKS) or None for name, value in delivered.items()}
                yield _checked(file, number, {name: values.get(name) for name in COLUMNS})
    except FileNotFoundError:
        raise SuppressionError(f"{file} is not there: say which file, make suppress FILE=suppressions.csv.") from None
    except UnicodeDecodeError:
        raise SuppressionError(f"{file}: it is no text in UTF-8. Save it as CSV in UTF-8.") from None
    except (OSError, csv.Error) as error:
        raise SuppressionError(f"{file}: cannot be read: {error}.") from error


def _column_of(name: str) -> str:
    found = name.strip(_BLANKS).lower()
    return _OTHER_NAMES.get(found, found)


def _check_names(file: Path, names: list[str]) -> None:
    takes = f"It takes reason, one or more of {', '.join(WHOM)}, and from and until."
    if unknown := [name for name in names if name not in COLUMNS]:
        # Not quoted further: a file without a first line of names begins with somebody's address.
        raise SuppressionError(f"{file}: {len(unknown)} of its {len(names)} columns have another name. {takes}")
    if len(set(names)) < len(names):
        raise SuppressionError(f"{file}: a column stands there twice. {takes}")
    if "reason" not in names or not set(WHOM) & set(names):
        raise SuppressionError(f"{file}: it says not whom, or not why. {takes}")


def _checked(file: Path, number: int, row: Mapping[str, str | None]) -> Row:
    place = f"{file}, row {number}"
    if not any(row[name] for name in WHOM):
        raise SuppressionError(f"{place}: it names nobody: give {' or '.join(WHOM)}.")
    if not row["reason"]:
        raise SuppressionError(f"{place}, column reason: it is blank: say why, such as unsubscribed or bounced.")
    if row["email"] and "@" not in row["email"]:
        raise SuppressionError(f"{place}, column email: it is no address: an id belongs into customer_id.")
    if row["email"] and row["email_hash"]:
        raise SuppressionError(f"{place}: it has both email and email_hash: give one of them.")
    digest = (row["email_hash"] or "").lower() or None
    if digest and not re.fullmatch("[0-9a-f]{64}", digest):
        raise SuppressionError(
            f"{place}, column email_hash: it is no SHA-256 in hexadecimal digits: an address belongs into email."
        )
    days = [_day(place, name, row[name]) for name in ("from", "until")]
    if days[0] and days[1] and days[1] < days[0]:
        raise SuppressionError(f"{place}: until {days[1]} is before from {days[0]}: exchange them.")
    return {**row, "email_hash": digest, "from": days[0], "until": days[1]}


def _day(place: str, name: str, value: str | None) -> datetime.date | None:
    if not value:
        return None
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
            return datetime.date.fromisoformat(value)
    except ValueError:
        pass
    shown = "its value" if "@" in value else repr(value)
    raise SuppressionError(f"{place}, column {name}: {shown} is no date: give it as YYYY-MM-DD, or leave it blank.")


def main() -> int:
    """Add the rows of the file that FILE names; return the exit code."""
    try:
        settings = load_settings()
        if not (file := os.environ.get("FILE", "")):
            raise SuppressionError("Say which file: make suppress FILE=suppressions.csv.")  # noqa: TRY301
        done = suppress(settings, Path(file).expanduser())
    except (SuppressionError, WarehouseError, SettingsError) as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"{file}: {done.rows:,} rows, {done.added:,} new on the suppression list of {settings.warehouse_file}, "
        f"{done.rows - done.added:,} there already. They hold for audiences that are decided or exported from now on."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
