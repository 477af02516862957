"""The published copy: what readers may see, in files beside the DuckDB warehouse that they open whatever a run does.

PUBLISHED_FILE has the marts, their history and what readers see of schema ops, personal data masked. The file beside
it, which is its user's alone, has names and addresses: modes protect files, and not schemas of one. Both are written
under another name and put into their place by a rename, so that a reader has the old one or the new one, whole. Who has
both open compares `publication_id` of their table marts.publication_state: the renames are two moments.
"""

from __future__ import annotations

import datetime
import glob
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from airflow.sdk.exceptions import AirflowException
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from include.customer_360.catalog import PROFILE, Mart, load_catalog
from include.customer_360.duckdb_file import path_literal
from include.customer_360.operators.audience_files import only_for_its_user
from include.customer_360.operators.base import published_as_of_dates
from include.customer_360.operators.evolution import columns_in
from include.customer_360.settings import TEMPLATE_FOLDERS, Settings

HISTORY = "customer_360_history"
FOR_EVERYBODY, FOR_ITS_USER = 0o644, 0o600
# What a file is called until it has its place: <name>.<pid>.new.
_UNFINISHED = ".new"
_ATTACHED = "published_copy"


class CopyNotRenewed(AirflowException):
    """The copy could not be written. What a task committed to the warehouse stays, readers keep the earlier copy."""


@dataclass(frozen=True)
class Publication:
    """Which marts are published: their date, and when a run published them, None of marts that dbt alone built."""

    as_of_date: datetime.date
    published_at: datetime.datetime | None


def renew_copy(
    cursor: Any,  # noqa: ANN401 - DB-API
    settings: Settings,
    say: Callable[[str], None],
    changed: Sequence[str] | None = None,
) -> None:
    """Have the copy hold what the warehouse holds for readers; nothing on Snowflake, nor before the first publication.

    :param cursor: has the warehouse open to write, with no transaction: nobody else writes it, or its copy, meanwhile.
    :param changed: the marts that changed since the copy was made, none of which has personal data; only they are
        written anew, and what readers see of schema ops. None: all of it. A copy that is missing, damaged, or of
        another publication is written anew as a whole in any case.
    :raises CopyNotRenewed: naming the file and what to do.
    """
    if settings.warehouse == "snowflake":
        return
    if not (dates := published_as_of_dates(cursor)):
        return
    publication = Publication(dates[-1], _published_at(cursor, dates[-1]))
    file, personal_file = settings.published_file, settings.published_personal_file
    there = columns_in(cursor, "marts")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        for left_behind in [found for place in (file, personal_file) for found in _unfinished(place)]:
            left_behind.unlink()
            say(f"Removed {left_behind}, which a killed task had left.")
        if changed is not None and (publication_id := _id_of_both(cursor, file, personal_file, publication)):
            try:
                _renew_part(cursor, file, _marts(there, changed), publication, publication_id)
            except duckdb.Error as error:
                say(f"{file} is written anew as a whole, for a part of it could not be: {error}")
            else:
                return
        history = _marts(there, [HISTORY])
        if history and (tables := _tables_to_go_on_with(cursor, file, *history)):
            try:
                _renew_all(cursor, file, personal_file, _marts(there), publication, tables)
            except duckdb.Error as error:
                say(f"{file} is written anew with all of {HISTORY}, for it could not be from what is there: {error}")
            else:
                return
        _renew_all(cursor, file, personal_file, _marts(there), publication)
    except (OSError, duckdb.Error) as error:
        raise CopyNotRenewed(
            f"The marts of {publication.as_of_date} are published in the warehouse, but {file}, the copy that readers "
            f"open, could not be renewed: {error}. They keep the one that is there. See that there is room in "
            f"{file.parent}, and that it may be written (PUBLISHED_FILE names the place); then clear this task. The "
            "next publication, export or night renews it too."
        ) from error


def _marts(there: dict[str, dict[str, str]], names: Sequence[str] | None = None) -> list[Mart]:
    """Return the marts that readers see, each with those of its columns that it has.

    What no yml describes is not copied: nobody has said whether it is personal.
    """
    marts = []
    for model in load_catalog().models if names is None or names else ():
        columns = tuple(column for column in model.columns if column in there.get(model.name, ()))
        if columns and model.table_schema == "marts" and (names is None or model.name in names):
            personal = tuple(column for column in model.personal_columns if column in columns)
            marts.append(model.model_copy(update={"columns": columns, "personal_columns": personal}))
    return marts


def _published_at(cursor: Any, as_of_date: datetime.date) -> datetime.datetime | None:  # noqa: ANN401 - DB-API
    cursor.execute(f"select max(published_at) from ops.publications where as_of_date = date '{as_of_date}'")
    published_at: datetime.datetime | None = cursor.fetchone()[0]
    return published_at


def _id_of_both(cursor: Any, file: Path, personal_file: Path, publication: Publication) -> str | None:  # noqa: ANN401 - DB-API
    """Return the publication_id of both files; None when they are not whole, not of this publication, or of two."""
    found = set()
    for each in (file, personal_file):
        if not each.is_file():
            return None
        try:
            with _attached(cursor, each, " (read_only)"):
                cursor.execute(
                    f"select publication_id, as_of_date, published_at from {_ATTACHED}.marts.publication_state"
                )
                found.update(cursor.fetchall())
        # Damaged, of another shape, or held by somebody who writes to it: no copy to go on with.
        except duckdb.Error:
            return None
    if len(found) != 1:
        return None
    [(publication_id, *of)] = found
    return str(publication_id) if Publication(*of) == publication else None


def _renew_part(
    cursor: Any,  # noqa: ANN401 - DB-API
    file: Path,
    marts: Sequence[Mart],
    publication: Publication,
    publication_id: str,
) -> None:
    history = [mart for mart in marts if mart.name == HISTORY]
    by_date = bool(history and _tables_to_go_on_with(cursor, file, *history))
    sql = _rendered("published_copy.sql", publication, publication_id, marts=marts, by_date=by_date, dropped=())
    with _written(cursor, file, FOR_EVERYBODY, sql, file) as finished:
        _put_into_place(finished, file)


def _tables_to_go_on_with(cursor: Any, file: Path, history: Mart) -> list[str]:  # noqa: ANN401 - DB-API
    """Return the tables of a copy whose history has the columns that it is to have; none of another, or of none."""
    if not file.is_file():
        return []
    columns = "select column_name, data_type from duckdb_columns() where schema_name = 'marts' and table_name = "
    try:
        with _attached(cursor, file, " (read_only)"):
            cursor.execute(f"{columns} '{HISTORY}' and database_name = '{_ATTACHED}'")
            of_copy = dict(cursor.fetchall())
            cursor.execute(f"{columns} '{HISTORY}' and database_name = current_database()")
            of_warehouse = dict(cursor.fetchall())
            cursor.execute(f"select table_name from duckdb_tables() where database_name = '{_ATTACHED}' order by 1")
            tables = [name for (name,) in cursor.fetchall()]
    # Damaged, or held by somebody who writes to it.
    except duckdb.Error:
        return []
    return tables if of_copy == {column: of_warehouse[column] for column in history.columns} else []


def _renew_all(
    cursor: Any,  # noqa: ANN401 - DB-API
    file: Path,
    personal_file: Path,
    marts: Sequence[Mart],
    publication: Publication,
    tables: Sequence[str] = (),
) -> None:
    """Write both files.

    :param tables: those of the copy that is there, when it is gone on with: of history only the dates that changed are
        written, and a table that is none any more is dropped. Empty: the file is begun anew.
    """
    publication_id = str(uuid.uuid4())
    [profile] = [mart for mart in marts if mart.name == PROFILE]
    contacts = _rendered("published_contacts.sql", publication, publication_id, profile=profile)
    readers = {"publication_state", *(mart.name for mart in marts)}
    everything = _rendered(
        "published_copy.sql",
        publication,
        publication_id,
        marts=marts,
        by_date=bool(tables),
        dropped=[table for table in tables if table not in readers],
    )
    with (
        _written(cursor, personal_file, FOR_ITS_USER, contacts) as finished_personal,
        _written(cursor, file, FOR_EVERYBODY, everything, file if tables else None) as finished,
    ):
        # Who sees the new marts finds their names, too.
        _put_into_place(finished_personal, personal_file)
        _put_into_place(finished, file)


def _rendered(template: str, publication: Publication, publication_id: str, **values: object) -> str:
    templates = Environment(loader=FileSystemLoader(TEMPLATE_FOLDERS), undefined=StrictUndefined)
    return templates.get_template(f"publish/{template}").render(
        copy=_ATTACHED,
        publication_id=publication_id,
        history=HISTORY,
        as_of_date=publication.as_of_date,
        published_at=publication.published_at,
        copied_at=datetime.datetime.now(datetime.UTC).replace(tzinfo=None),
        **values,
    )


@contextmanager
def _written(cursor: Any, place: Path, mode: int, sql: str, beginning: Path | None = None) -> Iterator[Path]:  # noqa: ANN401 - DB-API
    """Give a file of DuckDB beside its place, whole and on the disk; it is removed at the end if it is still there.

    :param beginning: a file that it is a copy of, before the SQL is run.
    """
    unfinished = place.with_name(f"{place.name}.{os.getpid()}{_UNFINISHED}")
    try:
        with only_for_its_user():
            if beginning:
                shutil.copyfile(beginning, unfinished)
            with _attached(cursor, unfinished):
                try:
                    cursor.execute("begin transaction")
                    cursor.execute(sql)
                    cursor.execute("commit")
                    cursor.execute(f"checkpoint {_ATTACHED}")
                except duckdb.Error:
                    with suppress(duckdb.Error):
                        cursor.execute("rollback")
                    raise
        if [unfinished] != (found := _unfinished(place)):
            raise OSError(f"{unfinished} is not whole: there is {', '.join(map(str, found))}")
        unfinished.chmod(mode)
        _to_disk(unfinished)
        yield unfinished
    finally:
        for left in _unfinished(place):
            left.unlink()


@contextmanager
def _attached(cursor: Any, file: Path, options: str = "") -> Iterator[None]:  # noqa: ANN401 - DB-API
    """Have a file attached as _ATTACHED, to write unless the options say otherwise."""
    cursor.execute(f"attach {path_literal(file)} as {_ATTACHED}{options}")
    try:
        yield
    finally:
        cursor.execute(f"detach {_ATTACHED}")


def _unfinished(place: Path) -> list[Path]:
    """Return what lies beside a file and was to take its place, and what DuckDB had beside that."""
    return sorted(place.parent.glob(f"{glob.escape(place.name)}.*{_UNFINISHED}*"))


def _put_into_place(finished: Path, place: Path) -> None:
    # Of a file that somebody opened to write; the new one has nothing to do with it.
    place.with_name(f"{place.name}.wal").unlink(missing_ok=True)
    finished.replace(place)
    _to_disk(place.parent)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
