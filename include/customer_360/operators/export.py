"""The operator that leaves a campaign's audience, as CSV with a manifest, where its users pick it up."""

from __future__ import annotations

import datetime
import hashlib
import json
import uuid
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow.sdk import ObjectStoragePath
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from include.customer_360.as_of_date import parse_as_of_date
from include.customer_360.connection import export_conn_id
from include.customer_360.operators.base import PROFILE, WarehouseOperator, published_as_of_dates

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.customer_360.catalog import Campaign

AUDIENCE = "audience.csv"
MANIFEST = "manifest.json"
TEMPORARY = ".tmp"


class ExportAudienceOperator(WarehouseOperator):
    """Write one campaign's audience to `<export root>/<campaign>/as_of_date=YYYY-MM-DD/`.

    `audience.csv` comes first and `manifest.json` last: a reader that finds a manifest finds the audience it describes.
    The same published marts give the same bytes of `audience.csv`.

    The template of the audience may also use `campaign`; the Dag's template_searchpath holds include/sql. On Snowflake
    it reads with connection `warehouse_export`, whose user may see names and e-mails; on DuckDB with `warehouse`.

    :param campaign: its settings.
    :param export_root: a folder or any ObjectStoragePath URI (templated).
    :param as_of_date: YYYY-MM-DD, or empty for the date that is published (templated).
    :raises AirflowSkipException: when the published marts are newer than as_of_date.
    :raises AirflowFailException: when there are no published marts of as_of_date; a retry would not help.
    :raises AirflowException: when the export root cannot be written, or the marts are published anew while read.
    """

    template_fields: Sequence[str] = (*WarehouseOperator.template_fields, "export_root", "sql")
    sql_names: Sequence[str] = (*WarehouseOperator.sql_names, "campaign")
    reads_only = True

    def __init__(
        self,
        *,
        campaign: Campaign,
        export_root: str,
        as_of_date: str = "",
        **kwargs: Any,  # noqa: ANN401 - passed on to WarehouseOperator
    ) -> None:
        super().__init__(as_of_date=as_of_date, **{"conn_id": export_conn_id(), **kwargs})
        self.campaign = campaign
        self.export_root = export_root
        self.sql = campaign.template

    def execute(self, context: Context) -> dict[str, Any]:
        """Export the audience; returns the manifest and the path of the CSV."""
        as_of_date, columns, rows = self._read_audience(self._requested_as_of_date())
        content = audience_csv(columns, rows)
        manifest = {
            "campaign": self.campaign.name,
            "owner": self.campaign.owner,
            "as_of_date": as_of_date.isoformat(),
            "dag_run_id": context["dag_run"].run_id,
            "row_count": len(rows),
            "columns": columns,
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        try:
            folder = ObjectStoragePath(self.export_root) / self.campaign.name / f"as_of_date={as_of_date}"
            write_audience(folder, content, manifest)
        # What a path raises for a folder or bucket (OSError), an unknown scheme and a bucket's missing provider.
        except (OSError, ValueError, ImportError) as error:
            raise AirflowException(
                f"The audience {self.campaign.name!r} cannot be written under the export root {self.export_root!r}: "
                f"{error}. Correct EXPORT_ROOT or the rights on it, then clear this task."
            ) from error
        path = str(folder / AUDIENCE)
        if not rows:
            self.log.warning("The audience %r of %s is empty: %s", self.campaign.name, as_of_date, path)
        self.log.info("%d customers in %s", len(rows), path)
        return {"path": path, **manifest}

    def _requested_as_of_date(self) -> datetime.date | None:
        if not self.as_of_date:
            return None
        try:
            return parse_as_of_date(self.as_of_date)
        except ValueError as refused:
            raise AirflowFailException(str(refused)) from None

    def _read_audience(self, requested: datetime.date | None) -> tuple[datetime.date, list[str], list[tuple[Any, ...]]]:
        with self.warehouse_session() as (_, cursor):
            published = self._published_as_of_date(cursor, requested)
            if requested and published > requested:
                raise AirflowSkipException(
                    f"The published marts are of {published}, newer than {requested}: nothing exported."
                )
            if requested and published < requested:
                raise AirflowFailException(
                    f"The published marts are of {published}, older than {requested}: "
                    f"run customer_360_refresh for {requested}, which publishes it and starts this export."
                )
            self.log.info("Reading the audience as of %s:\n%s", published, self.sql)
            cursor.execute(self.sql)
            columns = [column[0].lower() for column in cursor.description]
            rows = cursor.fetchall()
            # Snowflake lets a publication in between two statements.
            if self._published_as_of_date(cursor, requested) != published:
                raise AirflowException(f"{PROFILE} was published anew while it was read: clear this task.")
        return published, columns, rows

    def _published_as_of_date(self, cursor: Any, requested: datetime.date | None) -> datetime.date:  # noqa: ANN401 - DB-API
        wanted = f"an audience as of {requested}" if requested else "an audience"
        next_step = f"run customer_360_refresh{f' for {requested}' if requested else ''} first."
        dates = published_as_of_dates(cursor)
        if dates is None:
            raise AirflowFailException(
                f"{wanted} needs {PROFILE}, which connection {self.conn_id!r} does not have: {next_step}"
            )
        if len(dates) != 1:
            found = " and ".join(map(str, dates)) or "no customer"
            raise AirflowFailException(f"{wanted} needs {PROFILE} of one date, but it holds {found}: {next_step}")
        return dates[0]


def audience_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Return header and rows as CSV: UTF-8, RFC 4180 quoting, lines ending in a line feed.

    Decimals keep their scale, dates are YYYY-MM-DD, booleans true and false, NULL is empty.
    """
    lines = [columns, *rows]
    return "".join(",".join(_field(value) for value in line) + "\n" for line in lines).encode()


def _field(value: object) -> str:
    text = _text(value)
    # Not csv.writer: until Python 3.13 it leaves a lone carriage return bare, so bytes would depend on the version.
    return '"' + text.replace('"', '""') + '"' if any(character in text for character in ',"\r\n') else text


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case Decimal():
            return format(value, "f")
        case datetime.date():
            return value.isoformat()
        case _:
            return str(value)


def write_audience(folder: ObjectStoragePath, content: bytes, manifest: dict[str, Any]) -> None:
    """Put audience and manifest into `folder` so that a manifest never stands beside an audience it does not describe.

    Temporary files of writes that were killed are removed at the end.

    :raises OSError: when the folder cannot be written; what was there stays readable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    audience_path, manifest_path = folder / AUDIENCE, folder / MANIFEST
    attempt = uuid.uuid4().hex
    new_audience = folder / f".{AUDIENCE}.{attempt}{TEMPORARY}"
    new_manifest = folder / f".{MANIFEST}.{attempt}{TEMPORARY}"
    new_audience.write_bytes(content)
    new_manifest.write_bytes((json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode())
    if manifest_path.exists() and manifest["sha256"] not in manifest_path.read_text(encoding="utf-8"):
        manifest_path.unlink()
    new_audience.move(audience_path)
    new_manifest.move(manifest_path)
    for leftover in [path for path in folder.iterdir() if path.name.endswith(TEMPORARY)]:
        leftover.unlink()
