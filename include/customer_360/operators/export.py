"""The operator that leaves a campaign's audience, as CSV with a manifest, where its users pick it up."""

from __future__ import annotations

import datetime
import errno
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, ObjectStoragePath
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSkipException,
)

from include.customer_360.connection import EXPORT_CONN_ID, export_conn_id
from include.customer_360.operators.audience_files import (
    ADDRESS,
    AT_THE_TOP,
    AUDIENCE,
    ENTERED,
    LEFT,
    MANIFEST,
    OF_A_DATE,
    Attempt,
    Batch,
    Form,
    Outgoing,
    form_of,
    make_folder,
    only_for_its_user,
)
from include.customer_360.operators.audiences import MASKED, AudienceOperator, AudienceRefused
from include.customer_360.operators.base import PROFILE, warehouse_id_of
from include.customer_360.settings import load_settings

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook
    from airflow.sdk import Context

    from include.customer_360.catalog import Campaign

MEMORY = "300MB"
"""What DuckDB may take to join and sort an audience, where a reader may have more; it spills what is over it."""
_TITLES = ("campaign", "as_of_date", "customers", "entered", "left")
PROBE = ".write_probe"
"""What CheckExportRootOperator writes into the export root and removes again."""

# What stays as it is however often it is tried; any other error of a path may be a moment's.
_LASTING = (ValueError, ImportError, AirflowNotFoundException)
_LASTING_NUMBERS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ELOOP),
    errno.ENAMETOOLONG,
}
_LASTING_PATHS = (PermissionError, FileNotFoundError, NotADirectoryError, FileExistsError, IsADirectoryError)


class ExportAudienceOperator(AudienceOperator):
    """Write one campaign's audience to `<export root>/<campaign>/as_of_date=YYYY-MM-DD/`, or a folder of its own there.

    It exports who is `exported` in ops.audience_memberships, but for those suppressed since. `audience.csv`,
    `entered.csv` and `left.csv` come first and `manifest.json` last: a reader that finds a manifest finds the files it
    describes. The same published marts, memberships and suppressions give the same bytes. The files are written in
    batches while the warehouse is read, so that an audience of any size takes no more memory than a small one.

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
        destination = self.campaign.destination(self.destination)
        form = form_of(destination.format, self.campaign.columns)
        with only_for_its_user():
            with self.warehouse_session() as (hook, cursor):
                self._bound_memory(cursor)
                published = self.as_of_date_to_use(cursor)
                self.as_of_date = published.isoformat()
                counts = self._decided(cursor, hook)
                self._refuse_what_is_not_theirs(cursor, published)
                warehouse_id = warehouse_id_of(cursor)
                with self._writing():
                    attempt = Attempt(self._folder())
                    self._refuse_to_replace_anothers(attempt.folder / MANIFEST, warehouse_id)
                with attempt:
                    self._write(attempt, form, cursor, hook)
                    why_empty = "" if attempt.files[AUDIENCE].rows else self._why_empty(cursor, counts)
                    # Snowflake lets a publication in between two statements.
                    if self.published_as_of_date(cursor) != published:
                        raise AirflowException(f"{PROFILE} was published anew while it was read: clear this task.")
            files = {name: outgoing.described() for name, outgoing in attempt.files.items()}
            manifest = {
                "campaign": self.campaign.name,
                "destination": self.destination,
                "format": destination.format,
                "purpose": self.purpose,
                "owner": self.campaign.owner,
                "as_of_date": self.as_of_date,
                "dag_run_id": context["dag_run"].run_id,
                "row_count": files[AUDIENCE]["row_count"],
                "columns": list(form.titles),
                "sha256": files[AUDIENCE]["sha256"],
                "files": files,
                "decision": counts,
                "warehouse_id": warehouse_id,
            }
            # By now the warehouse is closed: a slow place holds no other program from it.
            with self._writing(), attempt:
                attempt.finish(manifest)
        path = str(attempt.folder / AUDIENCE)
        cells = (
            *(self.campaign.name, self.as_of_date),
            *(f"{files[name]['row_count']:,}" for name in (AUDIENCE, ENTERED, LEFT)),
        )
        widths = [max(len(cell), len(title)) for cell, title in zip(cells, _TITLES, strict=True)]
        table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in (_TITLES, cells)]
        self.log.info("%s\n%s", path, "\n".join(table))
        finished_at = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        times = {"started_at": started_at.isoformat(sep=" "), "finished_at": finished_at.isoformat(sep=" ")}
        returned = {"path": path, **manifest, **times}
        if why_empty:
            self.log.warning("The audience %r of %s is empty: %s", self.campaign.name, self.as_of_date, why_empty)
            returned["why_empty"] = why_empty
        return returned

    def _root(self) -> str:
        return self.campaign.destination(self.destination).place or self.export_root

    def _folder(self) -> ObjectStoragePath:
        folder = ObjectStoragePath(self._root()) / self.campaign.name / f"{OF_A_DATE}{self.as_of_date}"
        return folder if self.destination == AT_THE_TOP else folder / self.destination

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Name what cannot be written, also in the log."""
        try:
            with under_export_root(self._root(), f"The audience {self.campaign.name!r}", "clear this task"):
                yield
        except AirflowException as unwritable:
            # At each try, where the UI shows it open; the trace is Airflow's.
            self.log.error("%s", unwritable)  # noqa: TRY400
            raise

    def _bound_memory(self, cursor: Any) -> None:  # noqa: ANN401 - DB-API
        """Have DuckDB take no more than MEMORY."""
        if load_settings().warehouse == "duckdb":
            limits = "parse_formatted_bytes(current_setting('memory_limit')), parse_formatted_bytes"
            cursor.execute(f"select {limits}('{MEMORY}')")
            [(limit, enough)] = cursor.fetchall()
            if limit > enough:
                cursor.execute(f"set memory_limit = '{MEMORY}'")

    def _decided(self, cursor: Any, hook: DbApiHook) -> dict[str, int]:  # noqa: ANN401 - DB-API
        """Return how many customers came to which status."""
        cursor.execute(
            "select status, count(*) from ops.audience_memberships "
            f"where campaign = {hook.placeholder} and as_of_date = cast({hook.placeholder} as date) "
            "group by status order by status",
            (self.campaign.name, self.as_of_date),
        )
        return {status: int(customers) for status, customers in cursor.fetchall()}

    def _write(self, attempt: Attempt, form: Form, cursor: Any, hook: DbApiHook) -> None:  # noqa: ANN401 - DB-API
        """Write the three files, under their hidden names.

        :raises AudienceRefused: when values are masked.
        """
        values = {
            "destination": self.campaign.destination(self.destination),
            "columns": form.columns,
            "previous": self._exported_before(cursor, hook),
        }

        def statement_of(template: str) -> Callable[[str], str]:
            return lambda selected: self.render_sql(f"audiences/{template}.sql", selected=selected, **values)

        audience, left = statement_of("audience"), statement_of("left")
        self.log.info("Reading the audience as of %s:\n%s", self.as_of_date, audience(", ".join(form.columns)))
        with self._writing():
            everybody, entered, leaving = (attempt.begin(name, form.titles) for name in (AUDIENCE, ENTERED, LEFT))
        with closing(form.batches(cursor, audience)) as batches:
            self._write_batches(batches, everybody, entered)
        if everybody.masked:
            self._refuse_masked(cursor, audience, form.columns)
        with closing(form.left(cursor, left)) as batches:
            self._write_batches(batches, leaving)
        if leaving.masked:
            self._refuse_masked(cursor, left, form.columns)

    def _write_batches(self, batches: Iterator[Batch], everybody: Outgoing, entered: Outgoing | None = None) -> None:
        """Write batches until one of them is masked, which the file then says."""
        for batch in batches:
            everybody.masked = batch.masked
            if batch.masked:
                return
            with self._writing():
                everybody.write(batch.lines, batch.rows)
                if entered:
                    entered.write(batch.entered, batch.entrants)

    def _refuse_masked(self, cursor: Any, statement: Callable[[str], str], columns: Sequence[str]) -> None:  # noqa: ANN401
        """Raise AudienceRefused with how many values are masked, by column."""
        counted = ", ".join(
            f"count(case when cast({name} as varchar) like '%{MASKED}%' then 1 end)" for name in columns
        )
        cursor.execute(f"select count(*), {counted} from ({statement(', '.join(columns))}) as audience")
        [(customers, *found)] = cursor.fetchall()
        masked = [
            f"{column} is masked ({MASKED}) for {count:,} of its {customers:,} customers"
            for column, count in zip(columns, found, strict=True)
            if count
        ]
        raise self._refused(datetime.date.fromisoformat(self.as_of_date), masked)

    def _exported_before(self, cursor: Any, hook: DbApiHook) -> str:  # noqa: ANN401 - DB-API
        """Return the date of this destination's last export of an earlier date; empty without one."""
        cursor.execute(
            "select max(as_of_date) from ops.export_runs where as_of_date < cast({0} as date) "
            "and campaign = {0} and destination = {0} and state = 'exported'".replace("{0}", hook.placeholder),
            (self.as_of_date, self.campaign.name, self.destination),
        )
        [(previous,)] = cursor.fetchall()
        return str(previous or "")

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
        [(customers, addresses, all_the_same, valid)] = cursor.fetchall()
        if addresses and not valid:
            raise self._refused(as_of_date, [f"none of the {addresses:,} values in {ADDRESS} is an address"])
        if addresses > 1 and all_the_same:
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
    with only_for_its_user():
        make_folder(root)
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
