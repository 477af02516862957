"""The operator that leaves a campaign's audience, as CSV with a manifest, where its users pick it up."""

from __future__ import annotations

import datetime
import errno
import hashlib
import json
import unicodedata
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, ObjectStoragePath
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSkipException,
)

from include.customer_360.connection import EXPORT_CONN_ID, export_conn_id
from include.customer_360.operators.audiences import MASKED, AudienceOperator, AudienceRefused
from include.customer_360.operators.base import PROFILE, warehouse_id_of

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook
    from airflow.sdk import Context

    from include.customer_360.catalog import Campaign

AUDIENCE = "audience.csv"
ENTERED = "entered.csv"
LEFT = "left.csv"
AT_THE_TOP = "csv"
"""The destination whose files lie in the date's own folder; any other's lie in one of its name below."""
MANIFEST = "manifest.json"
TEMPORARY = ".tmp"
_TITLES = ("campaign", "as_of_date", "customers", "entered", "left")
PROBE = ".write_probe"
"""What CheckExportRootOperator writes into the export root and removes again."""

ADDRESS = "email"
FORMULA_SIGNS = "=+-@\N{MINUS SIGN}"
"""With one of these, also in full width, a spreadsheet's formula begins."""
_BREAKS = ("\t", "\r", "\n")

# What stays as it is however often it is tried; any other error of a path may be a moment's.
_LASTING = (ValueError, ImportError, AirflowNotFoundException)
_LASTING_NUMBERS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ELOOP),
    errno.ENAMETOOLONG,
}
_LASTING_PATHS = (PermissionError, FileNotFoundError, NotADirectoryError, FileExistsError, IsADirectoryError)


@dataclass(frozen=True)
class Audience:
    """What was read for one campaign and destination.

    :param as_of_date: of the published marts.
    :param columns: in lower case.
    :param rows: one per customer, in the order of the columns.
    :param entered: those of them who enter where the file goes.
    :param left: who was there and leaves it, in the same columns; NULL where there is no profile any more.
    :param counts: of the decision: customers by status.
    :param warehouse_id: of the warehouse it was read from, as ops.warehouse has it; None where there is none yet.
    :param why_empty: why there is nobody, for people; empty when there is somebody.
    """

    as_of_date: datetime.date
    columns: list[str]
    rows: list[tuple[Any, ...]]
    entered: list[tuple[Any, ...]]
    left: list[tuple[Any, ...]]
    counts: dict[str, int]
    warehouse_id: str | None
    why_empty: str = ""


class ExportAudienceOperator(AudienceOperator):
    """Write one campaign's audience to `<export root>/<campaign>/as_of_date=YYYY-MM-DD/`, or a folder of its own there.

    It exports who is `exported` in ops.audience_memberships, but for those suppressed since. `audience.csv`,
    `entered.csv` and `left.csv` come first and `manifest.json` last: a reader that finds a manifest finds the files it
    describes. The same published marts, memberships and suppressions give the same bytes.

    On Snowflake it reads with connection `warehouse_export`, whose user may see names and e-mails; on DuckDB with
    `warehouse`.

    :param campaign: its settings.
    :param export_root: a folder or any ObjectStoragePath URI (templated).
    :param destination: the name of one of the campaign's destinations.
    :param as_of_date: YYYY-MM-DD, or empty for the date that is published (templated).
    :param only: the name of the campaign that the run is for; empty: all (templated).
    :raises AirflowSkipException: when the published marts are newer than as_of_date, or the run is for another one.
    :raises AirflowFailException: when there are no published marts of as_of_date; a retry would not help.
    :raises AudienceRefused: when it has masked values, or addresses that are none, or would replace the audience of
        another warehouse.
    :raises AirflowException: when the export root cannot be written, or the marts are published anew while read.
    """

    template_fields: Sequence[str] = (*AudienceOperator.template_fields, "export_root", "only")
    sql_names: Sequence[str] = (*AudienceOperator.sql_names, "campaign", "purpose")
    reads_only = True

    def __init__(
        self,
        *,
        campaign: Campaign,
        export_root: str,
        destination: str = "csv",
        as_of_date: str = "",
        only: str = "",
        **kwargs: Any,  # noqa: ANN401 - passed on to WarehouseOperator
    ) -> None:
        super().__init__(as_of_date=as_of_date, **{"conn_id": export_conn_id(), **kwargs})
        self.campaign = campaign
        self.export_root = export_root
        self.destination = destination
        self.only = only

    @property
    def purpose(self) -> str:
        """The consent that this destination's file takes."""
        return self.campaign.purpose_of(self.campaign.destination(self.destination))

    def execute(self, context: Context) -> dict[str, Any]:
        """Export the audience; returns the manifest, the path of the CSV and, of an empty one, why it is."""
        if self.only and self.only != self.campaign.name:
            self.skip_reason = f"The run is for campaign {self.only!r} only."
            raise AirflowSkipException(self.skip_reason)
        started_at = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        audience = self._read_audience()
        as_of_date, rows = audience.as_of_date, audience.rows
        files = {
            AUDIENCE: audience_csv(audience.columns, rows),
            ENTERED: audience_csv(audience.columns, audience.entered),
            LEFT: audience_csv(audience.columns, audience.left),
        }
        counts = {AUDIENCE: len(rows), ENTERED: len(audience.entered), LEFT: len(audience.left)}
        manifest = {
            "campaign": self.campaign.name,
            "destination": self.destination,
            "purpose": self.purpose,
            "owner": self.campaign.owner,
            "as_of_date": as_of_date.isoformat(),
            "dag_run_id": context["dag_run"].run_id,
            "row_count": len(rows),
            "columns": audience.columns,
            "sha256": hashlib.sha256(files[AUDIENCE]).hexdigest(),
            "files": {
                name: {"row_count": counts[name], "sha256": hashlib.sha256(content).hexdigest()}
                for name, content in files.items()
            },
            "decision": audience.counts,
            "warehouse_id": audience.warehouse_id,
        }
        root = self.campaign.destination(self.destination).place or self.export_root
        try:
            with under_export_root(root, f"The audience {self.campaign.name!r}", "clear this task"):
                folder = ObjectStoragePath(root) / self.campaign.name / f"as_of_date={as_of_date}"
                if self.destination != AT_THE_TOP:
                    folder = folder / self.destination
                self._refuse_to_replace_anothers(folder / MANIFEST, audience.warehouse_id)
                write_audience(folder, files, manifest)
        except AirflowException as unwritable:
            # At each try, where the UI shows it open; the trace is Airflow's.
            self.log.error("%s", unwritable)  # noqa: TRY400
            raise
        path = str(folder / AUDIENCE)
        cells = (self.campaign.name, str(as_of_date), *(f"{counts[name]:,}" for name in (AUDIENCE, ENTERED, LEFT)))
        widths = [max(len(cell), len(title)) for cell, title in zip(cells, _TITLES, strict=True)]
        table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in (_TITLES, cells)]
        self.log.info("%s\n%s", path, "\n".join(table))
        finished_at = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        times = {"started_at": started_at.isoformat(sep=" "), "finished_at": finished_at.isoformat(sep=" ")}
        returned = {"path": path, **manifest, **times}
        if not rows:
            self.log.warning("The audience %r of %s is empty: %s", self.campaign.name, as_of_date, audience.why_empty)
            returned["why_empty"] = audience.why_empty
        return returned

    def _read_audience(self) -> Audience:
        with self.warehouse_session() as (hook, cursor):
            published = self.as_of_date_to_use(cursor)
            self.as_of_date = published.isoformat()
            cursor.execute(
                "select status, count(*) from ops.audience_memberships "
                f"where campaign = {hook.placeholder} and as_of_date = cast({hook.placeholder} as date) "
                "group by status order by status",
                (self.campaign.name, self.as_of_date),
            )
            counts = {status: int(customers) for status, customers in cursor.fetchall()}
            self._refuse_what_is_not_theirs(cursor, published)
            values = {
                "destination": self.campaign.destination(self.destination),
                "columns": self.campaign.columns,
                **self._exported_before(cursor, hook),
            }
            sql = self.render_sql("audiences/audience.sql", **values)
            self.log.info("Reading the audience as of %s:\n%s", published, sql)
            cursor.execute(sql)
            # The last column says who enters.
            columns = [column[0].lower() for column in cursor.description][:-1]
            found = cursor.fetchall()
            rows = [tuple(row[:-1]) for row in found]
            if masked := masked_columns(columns, rows):
                raise self._refused(published, masked)
            entered = [tuple(row[:-1]) for row in found if row[-1]]
            cursor.execute(self.render_sql("audiences/left.sql", **values))
            left = [tuple(row) for row in cursor.fetchall()]
            why_empty = "" if rows else self._why_empty(cursor, counts)
            warehouse_id = warehouse_id_of(cursor)
            # Snowflake lets a publication in between two statements.
            if self.published_as_of_date(cursor) != published:
                raise AirflowException(f"{PROFILE} was published anew while it was read: clear this task.")
        return Audience(published, columns, rows, entered, left, counts, warehouse_id, why_empty)

    def _exported_before(self, cursor: Any, hook: DbApiHook) -> dict[str, Any]:  # noqa: ANN401 - DB-API
        """Return the date of this destination's export before this date's, if any, and whether this date had one."""
        cursor.execute(
            "select max(case when as_of_date < cast({0} as date) then as_of_date end), "
            "count(case when as_of_date = cast({0} as date) then 1 end) from ops.export_runs "
            "where campaign = {0} and destination = {0} and state = 'exported'".replace("{0}", hook.placeholder),
            (self.as_of_date, self.as_of_date, self.campaign.name, self.destination),
        )
        [(previous, of_this_date)] = cursor.fetchall()
        return {"previous": previous or "", "exported_before": bool(of_this_date)}

    def _refuse_to_replace_anothers(self, manifest: ObjectStoragePath, warehouse_id: str | None) -> None:
        """Raise AudienceRefused when this manifest, of an earlier export, is that of another warehouse."""
        if not manifest.exists():
            return
        try:
            earlier = json.loads(manifest.read_text(encoding="utf-8"))
        except ValueError:
            earlier = None
        theirs = earlier.get("warehouse_id") if isinstance(earlier, dict) else None
        if theirs is None:
            self.log.info("%s says nothing of its warehouse, as before there were ids: it is replaced.", manifest)
        elif theirs != warehouse_id:
            ours = repr(warehouse_id) if warehouse_id else "without an id that this export can read"
            first_step = (
                "Where both should be one"
                if warehouse_id
                else "Run customer_360_refresh, which gives the warehouse an id (on Snowflake `make snowflake-setup` "
                "lets the exports read it). Where the id is another one then"
            )
            raise AudienceRefused(
                f"{manifest} is of warehouse {theirs!r}, and this warehouse is {ours}: the audience "
                f"{self.campaign.name!r} is not exported, and that one stays. {first_step}, for example after a "
                f"warehouse was made anew, move {manifest.parent} away; otherwise name another EXPORT_ROOT. Then clear "
                "this task."
            )

    def _refuse_what_is_not_theirs(self, cursor: Any, as_of_date: datetime.date) -> None:  # noqa: ANN401 - DB-API
        """Raise AudienceRefused when nobody among the eligible has an address of their own that could be written to."""
        cursor.execute(self.render_sql("audiences/addresses.sql"))
        [(customers, addresses, distinct, valid)] = cursor.fetchall()
        if addresses and not valid:
            raise self._refused(as_of_date, [f"none of the {addresses:,} values in {ADDRESS} is an address"])
        if addresses > 1 and distinct == 1:
            raise self._refused(as_of_date, [f"all {addresses:,} values in {ADDRESS} are the same address"])
        if customers and not addresses:
            cursor.execute(f"select count({ADDRESS}) from {PROFILE}")
            if cursor.fetchone()[0]:
                raise self._refused(as_of_date, [f"{ADDRESS} is empty for all of its {customers:,} customers"])
            self.log.warning(
                "Nobody in %s has a value in %s: the sources deliver none, or the role of connection %r does not see "
                "them. The audience %r is empty.",
                *(PROFILE, ADDRESS, self.conn_id, self.campaign.name),
            )

    def _refused(self, as_of_date: datetime.date, problems: Sequence[str]) -> AudienceRefused:
        return AudienceRefused(
            f"The audience {self.campaign.name!r} of {as_of_date} is not exported: {'; '.join(problems)}. Nothing "
            "was written, and an earlier audience of that date stays. On Snowflake give connection "
            f"{EXPORT_CONN_ID!r} the role of the exports, which sees personal data, and run "
            "`make snowflake-setup`; where the values come from the sources, correct them there. Then clear this "
            "task."
        )

    def _why_empty(self, cursor: Any, counts: Mapping[str, int]) -> str:  # noqa: ANN401 - DB-API
        """Return to which ends the eligible came or, without any, which condition no customer meets."""
        if counts:
            ends = ", ".join(f"{customers:,} {status.replace('_', ' ')}" for status, customers in counts.items())
            return f"of {sum(counts.values()):,} eligible customers {ends}"
        conditions = self.campaign.conditions
        if not conditions:
            return f"include/sql/{self.campaign.template} selects nobody"
        found = ", ".join(f"count(case when {condition} then 1 end)" for condition in conditions)
        cursor.execute(f"select count(*), {found} from {PROFILE}")
        [(customers, *met)] = cursor.fetchall()
        lines = [f"{condition}: {count:,} of {customers:,}" for condition, count in zip(conditions, met, strict=True)]
        nobody = [line for line, count in zip(lines, met, strict=True) if not count]
        if nobody:
            return f"no customer meets {'; '.join(nobody)}"
        return f"customers meet each condition, and nobody all of them: {'; '.join(lines)}"


class CheckExportRootOperator(BaseOperator):
    """Write a hidden file into the export root and remove it again, before a run builds what could not be exported.

    A backfill, which exports nothing as a rule, needs no export root.

    :param export_root: a folder, which is made, or any ObjectStoragePath URI.
    :raises AirflowFailException: with the reason, when another try would fail too: rights, a file in its place, an
        unknown scheme, a missing provider or connection.
    :raises AirflowException: with the reason, when another try may help: no room, no answer.
    """

    ui_color = "#d4ecd4"

    def __init__(self, *, export_root: str, **kwargs: Any) -> None:  # noqa: ANN401 - passed on to BaseOperator
        super().__init__(**kwargs)
        self.export_root = export_root

    def execute(self, context: Context) -> None:
        """Check it."""
        if context["dag_run"].run_type == "backfill":
            self.log.info("A backfill: whether %s can be written is not looked at.", self.export_root)
            return
        try:
            with under_export_root(self.export_root, "The audiences of this run", "start a new run"):
                probe_export_root(self.export_root)
        except AirflowException as unwritable:
            self.log.error("%s", unwritable)  # noqa: TRY400
            if stays_unwritable(unwritable.__cause__):
                raise AirflowFailException(str(unwritable)) from unwritable.__cause__
            raise
        self.log.info("%s can be written.", self.export_root)


def probe_export_root(export_root: str) -> None:
    """Write a hidden file into the export root and remove it.

    :raises Exception: whatever the path raises when it cannot.
    """
    root = ObjectStoragePath(export_root)
    # A bucket has no folders, and its client may try to make the bucket.
    if root.protocol in ("", "file"):
        root.mkdir(parents=True, exist_ok=True)
    probe = root / PROBE
    probe.write_bytes(b"customer_360\n")
    probe.unlink(missing_ok=True)


@contextmanager
def under_export_root(export_root: str, what: str, then: str) -> Iterator[None]:
    """Name what cannot be written, where, why and the next step, whatever a path raises within.

    :raises AirflowException: raised from the path's own exception.
    """
    try:
        yield
    except AirflowFailException:
        raise
    # A folder or bucket raises OSError, an unknown scheme ValueError, a missing provider ImportError, and a bucket's
    # client also errors of its own.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise AirflowException(
            f"{what} cannot be written under the export root {export_root!r}: {reason}. Correct EXPORT_ROOT or the "
            f"rights on it, then {then}."
        ) from error


def stays_unwritable(error: BaseException | None) -> bool:
    """Return whether a path that raised this will raise it again, until a person has done something."""
    if isinstance(error, OSError):
        return error.errno in _LASTING_NUMBERS or isinstance(error, _LASTING_PATHS)
    return isinstance(error, _LASTING)


def masked_columns(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Return a line for each column with masked values, and how many it has."""
    counts = [
        sum(isinstance(row[place], str) and MASKED in row[place] for row in rows) for place in range(len(columns))
    ]
    return [
        f"{column} is masked ({MASKED}) for {count:,} of its {len(rows):,} customers"
        for column, count in zip(columns, counts, strict=True)
        if count
    ]


def audience_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Return header and rows as CSV: UTF-8, RFC 4180 quoting, lines ending in a line feed.

    Decimals keep their scale, dates are YYYY-MM-DD, booleans true and false, NULL is empty. A text that a spreadsheet
    would run as a formula, or that begins with a single quote, has one before it.
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
        case int() | float():
            return str(value)
        case datetime.date():
            return value.isoformat()
        case _:
            text = str(value)
            # Also before a quote of its own, so that a program takes one off each text that begins with one.
            return f"'{text}" if text.startswith("'") or runs_as_formula(text) else text


def runs_as_formula(text: str) -> bool:
    """Return whether a spreadsheet may take a cell with this text for a formula.

    That is when it begins with a tab or a line break, or, after blanks and characters that cannot be seen, with one of
    FORMULA_SIGNS.
    """
    if text.startswith(_BREAKS):
        return True
    first = next((character for character in text if unicodedata.category(character)[0] not in "CZ"), "")
    return bool(first) and unicodedata.normalize("NFKC", first)[0] in FORMULA_SIGNS


def write_audience(folder: ObjectStoragePath, files: Mapping[str, bytes], manifest: dict[str, Any]) -> None:
    """Put files and manifest into `folder` so that a manifest never stands beside files that it does not describe.

    Temporary files of writes that were killed are removed at the end.

    :param files: their content by name.
    :param manifest: it has the sha256 of each of them.
    :raises OSError: when the folder cannot be written; what was there stays readable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    manifest_path = folder / MANIFEST
    attempt = uuid.uuid4().hex
    contents = {**files, MANIFEST: (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()}
    written = {name: folder / f".{name}.{attempt}{TEMPORARY}" for name in contents}
    for name, content in contents.items():
        written[name].write_bytes(content)
    if manifest_path.exists():
        described = manifest_path.read_bytes()
        if not all(each["sha256"].encode() in described for each in manifest["files"].values()):
            manifest_path.unlink()
    for name, path in written.items():
        path.move(folder / name)
    for leftover in [path for path in folder.iterdir() if path.name.endswith(TEMPORARY)]:
        leftover.unlink()
