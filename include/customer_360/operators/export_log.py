"""Records what a run of campaign_exports did, for people to query: ops.export_runs."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import ObjectStoragePath
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from include.customer_360.alerts import without_values
from include.customer_360.failures import FAILED, KILLED, WHY
from include.customer_360.operators.approval import ApproveAudienceOperator
from include.customer_360.operators.audience_files import AT_THE_TOP, remove_older
from include.customer_360.operators.audiences import STATUSES, AudienceOperator
from include.customer_360.operators.published_copy import renew_copy
from include.customer_360.operators.started import STARTED
from include.customer_360.settings import load_settings

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.customer_360.catalog import Campaign

COLUMNS = (
    *("campaign", "destination", "as_of_date", "dag_run_id", "state", "reason", "eligible"),
    *(*STATUSES, "entered", "left_audience", "file", "sha256", "started_at", "finished_at"),
)
"""The columns of ops.export_runs that are written here, in this order."""


class LogExportsOperator(AudienceOperator):
    """Write a row per campaign and destination to ops.export_runs, in place of those that the run left there before.

    It takes out of the memberships who was suppressed while the files were written, so that they say who is in them,
    and everybody of an audience that was not approved. A destination that failed, or was not approved, has a row too,
    with its reason, and finished when its task ended, else when it is recorded: what came last of a date is the last by
    finished_at. One that the run did not ask for has none. On DuckDB the copy that readers open has all of it then.
    It comes last,
    whatever happened before it, and so fails with whatever failed: a run ends as its last task does.
    Then the files of exports that are older than KEEP_EXPORTS_DAYS are removed, but for the newest of each campaign and
    destination; what cannot be is said in the log, and the next run tries again.
    Returns (XCom) the number of rows by state.

    :param campaigns: those that are exported, each with its destinations.
    :param export_root: as ExportAudienceOperator's.
    """

    template_fields: Sequence[str] = (*AudienceOperator.template_fields, "export_root")

    def __init__(self, *, campaigns: Sequence[Campaign], export_root: str, **kwargs: Any) -> None:  # noqa: ANN401 - passed on
        super().__init__(**kwargs)
        self.campaigns = campaigns
        self.export_root = export_root

    def execute(self, context: Context) -> dict[str, int]:
        """Record them.

        :raises AirflowSkipException: when nothing was exported and nothing failed.
        :raises AirflowFailException: when a task of the run failed.
        :raises CopyNotRenewed: when it is recorded, and readers' copy of it could not be written.
        """
        ti = context["ti"]
        states = ti.get_task_states(dag_id=self.dag_id, run_ids=[self.dag_run_id]).get(self.dag_run_id, {})
        failed = sorted(task_id for task_id, state in states.items() if state in FAILED)
        decided = ti.xcom_pull(task_ids="decide_audiences")
        rows: list[tuple[Any, ...]] = []
        rejected: dict[str, str] = {}
        if decided:
            self.as_of_date = decided["as_of_date"]
            rejected = self._rejected(context)
            rows = [
                row
                for campaign in self.campaigns
                for row in self._rows_of(campaign, decided, states, rejected.get(campaign.name), context)
            ]
        if rows:
            self._write(rows, [campaign for campaign in self.campaigns if campaign.name in rejected])
        if failed:
            raise AirflowFailException(f"{', '.join(failed)} failed: see the log of each, then clear them.")
        if not rows:
            raise AirflowSkipException("Nothing was exported, and nothing failed: there is nothing to record.")
        self._remove_old_files()
        return dict(Counter(row[COLUMNS.index("state")] for row in rows))

    def _remove_old_files(self) -> None:
        days = load_settings().keep_exports_days
        if not days:
            return
        oldest = datetime.date.fromisoformat(self.as_of_date) - datetime.timedelta(days=days)
        for campaign in self.campaigns:
            for destination in campaign.destinations:
                folder = ObjectStoragePath(destination.place or self.export_root) / campaign.name
                below = "" if destination.name == AT_THE_TOP else destination.name
                try:
                    removed = remove_older(folder, below, oldest)
                except (OSError, ValueError, ImportError) as error:
                    self.log.warning(
                        "Exports of %s under %s from before %s stay: %s", campaign.name, folder, oldest, error
                    )
                else:
                    for each in removed:
                        self.log.info("Removed %s: it is older than KEEP_EXPORTS_DAYS=%d", each, days)

    def _rejected(self, context: Context) -> dict[str, str]:
        """Return the campaigns whose audience a person did not let through, each with who did not."""
        answers = {
            campaign: context["ti"].xcom_pull(task_ids=f"approve_{campaign.name}") or {} for campaign in self.campaigns
        }
        return {
            campaign.name: (
                f"rejected by {answer['responded_by_user']['name']}"
                if answer["responded_by_user"]
                else f"not answered within {campaign.approval.answer_within_hours:g} hours"
            )
            for campaign, answer in answers.items()
            if ApproveAudienceOperator.REJECT in answer.get("chosen_options", ())
        }

    def _write(self, rows: Sequence[tuple[Any, ...]], rejected: Sequence[Campaign]) -> None:
        with self.warehouse_session() as (hook, cursor):
            mark = hook.placeholder
            cursor.execute("begin transaction")
            cursor.execute(self.render_sql("audiences/after_decision.sql"))
            for campaign in rejected:
                cursor.execute(self.render_sql("audiences/not_approved.sql", campaign=campaign))
            cursor.execute(f"delete from ops.export_runs where dag_run_id = {mark}", (self.dag_run_id,))
            cursor.executemany(
                f"insert into ops.export_runs ({', '.join(COLUMNS)}) values ({', '.join([mark] * len(COLUMNS))})", rows
            )
            cursor.execute("commit")
            renew_copy(cursor, load_settings(), self.log.info, changed=())

    def _rows_of(
        self,
        campaign: Campaign,
        decided: Mapping[str, Any],
        states: Mapping[str, str],
        rejected: str | None,
        context: Context,
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of one campaign, of what its tasks left as XCom."""
        counts = decided["campaigns"][campaign.name]
        for number, destination in enumerate(campaign.destinations):
            task: dict[str, Any] = {"task_ids": f"export_{campaign.name}", "map_indexes": number}
            state = states.get(f"export_{campaign.name}_{number}")
            if state not in ("success", "failed") and not rejected:
                continue
            values: dict[str, Any] = {
                "campaign": campaign.name,
                "destination": destination.name,
                "as_of_date": datetime.date.fromisoformat(self.as_of_date),
                "dag_run_id": self.dag_run_id,
                **{name: counts[name] for name in ("eligible", *STATUSES)},
                "finished_at": datetime.datetime.now(datetime.UTC).replace(tzinfo=None),
            }
            if rejected:
                values |= {
                    "state": "not approved",
                    "reason": rejected,
                    "suppressed": counts["suppressed"] + counts["held_out"] + counts["exported"],
                    "held_out": 0,
                    "exported": 0,
                }
            elif state == "success":
                manifest = context["ti"].xcom_pull(**task)
                files = manifest["files"]
                values |= {
                    "state": "exported",
                    "exported": manifest["row_count"],
                    "entered": files["entered.csv"]["row_count"],
                    "left_audience": files["left.csv"]["row_count"],
                    "file": manifest["path"],
                    "sha256": manifest["sha256"],
                    "started_at": datetime.datetime.fromisoformat(manifest["started_at"]),
                    "finished_at": datetime.datetime.fromisoformat(manifest["finished_at"]),
                }
            else:
                why = context["ti"].xcom_pull(**task, key=WHY) or {}
                values |= {
                    "state": "failed",
                    "exported": 0,
                    # Readers see it, and what the warehouse says may quote a row.
                    "reason": without_values(why.get("reason", KILLED)),
                }
                if started := context["ti"].xcom_pull(**task, key=STARTED):
                    values |= self._times_of(f"export_{campaign.name}", number, started, context)
            yield tuple(values.get(column) for column in COLUMNS)

    def _times_of(self, task_id: str, number: int, started: str, context: Context) -> dict[str, datetime.datetime]:
        """Return when a mapped task began, and when it ended if Airflow knows how long it took; UTC, without a zone."""
        began = datetime.datetime.fromisoformat(started).astimezone(datetime.UTC).replace(tzinfo=None)
        ti: Any = context["ti"]
        for crumb in ti.get_task_breadcrumbs(dag_id=self.dag_id, run_id=self.dag_run_id):
            if (crumb["task_id"], crumb["map_index"]) == (task_id, number) and crumb["duration"] is not None:
                return {"started_at": began, "finished_at": began + datetime.timedelta(seconds=crumb["duration"])}
        return {"started_at": began}
