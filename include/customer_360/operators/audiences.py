"""Decides, once for all campaigns of a date, who is in which audience, and holds the decision against its rules."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from include.customer_360.as_of_date import BUSINESS_TIME_ZONE
from include.customer_360.dbt_vars import dbt_vars
from include.customer_360.operators.base import PROFILE, PublishedMartsOperator
from include.customer_360.operators.evolution import columns_in
from include.customer_360.operators.failing_rows import FailingRows, keep_failing_rows
from include.customer_360.operators.validate import Result, ValidateOperator, keep_results
from include.customer_360.settings import load_settings

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook
    from airflow.providers.common.sql.operators.sql import SQLCheckResult
    from airflow.sdk import Context

    from include.customer_360.catalog import ApprovalLimits, Campaign

MASKED = "*****"
"""What a role sees in place of personal data that it may not see, as deploy/snowflake/06_masking.sql has it."""

MEMBERSHIPS = "audience_memberships"
STATUSES = ("suppressed", "capped", "outranked", "held_out", "over_limit", "exported")
"""The ends to which a customer who is eligible for a campaign may come."""

NEEDED = ("marketing_opt_in", "ads_opt_in", "account_closed_date", "deceased_date")
"""What a decision reads of the profile besides what the campaigns name."""


class AudienceRefused(AirflowFailException):
    """The audience does not hold whom it claims, so that nothing is written; the message says why and what to do."""


def today() -> datetime.date:
    """Return the day in New York: suppressions that hold on it count, whatever date an audience is of."""
    return datetime.datetime.now(ZoneInfo(BUSINESS_TIME_ZONE)).date()


class AudienceOperator(PublishedMartsOperator):
    """Base of what reads or writes audiences.

    Its templates of include/sql/audiences may use `vars` (of the dbt project), `warehouse` (the setting) and `today`
    besides.
    """

    sql_names: Sequence[str] = (*PublishedMartsOperator.sql_names, "vars", "warehouse", "today")

    @property
    def vars(self) -> Mapping[str, Any]:
        """The vars of the dbt project, by name."""
        return dbt_vars()

    @property
    def warehouse(self) -> str:
        """The setting WAREHOUSE."""
        return load_settings().warehouse

    @property
    def today(self) -> str:
        """The day in New York, YYYY-MM-DD."""
        return today().isoformat()


class DecideAudiencesOperator(AudienceOperator):
    """Write who is in the audience of each campaign to ops.audience_memberships, in place of what the date had there.

    audiences/decision.sql decides, and reads of the memberships those of earlier dates only: a rerun of a date decides
    the same. Who was suppressed since the first decision of the date is taken out of it, and nobody is put in.
    Returns (XCom) `{"as_of_date": ..., "campaigns": {name: {"eligible": n, <status>: n, ..., "entered": n, "reasons":
    {reason: n}, "moved": [what is unlike the audiences before]}}}`.

    :param campaigns: all of them.
    :param only: the name of the campaign that the run is for; empty: all. All are decided on (templated).
    :param counts_only: true: count, write nothing, and skip (templated).
    """

    template_fields: Sequence[str] = (*AudienceOperator.template_fields, "only", "counts_only")
    sql_names: Sequence[str] = (*AudienceOperator.sql_names, "campaigns")

    def __init__(
        self,
        *,
        campaigns: Sequence[Campaign],
        only: str = "",
        counts_only: str | bool = False,
        **kwargs: Any,  # noqa: ANN401 - passed on to WarehouseOperator
    ) -> None:
        super().__init__(**kwargs)
        self.campaigns = campaigns
        self.only = only
        self.counts_only = counts_only

    def execute(self, context: Context) -> dict[str, Any]:
        """Decide.

        :raises AirflowSkipException: when the published marts are newer than as_of_date, or the run is a dry one.
        :raises AirflowFailException: when there are no published marts of as_of_date.
        :raises AudienceRefused: when the addresses are masked for this role.
        """
        with self.warehouse_session() as (hook, cursor):
            as_of_date = self.as_of_date_to_use(cursor)
            self.as_of_date = as_of_date.isoformat()
            self._refuse_unusable_profiles(cursor)
            decision = self.render_sql("audiences/decision.sql", decided_at=self._first_decided_at(cursor, hook))
            self.log.info("The audiences of %s:\n%s", as_of_date, decision)
            if str(self.counts_only).lower() == "true":
                counts = self._counts(cursor, f"({decision})")
                context["ti"].xcom_push(key="return_value", value=counts)
                raise AirflowSkipException(f"A dry run, nothing is written or exported. {shown(counts, self.only)}")
            cursor.execute("begin transaction")
            cursor.execute(f"delete from ops.{MEMBERSHIPS} where as_of_date = cast('{as_of_date}' as date)")
            cursor.execute(f"insert into ops.{MEMBERSHIPS} {decision}")
            cursor.execute(self.render_sql("audiences/after_decision.sql"))
            cursor.execute("commit")
            counts = self._counts(cursor, f"ops.{MEMBERSHIPS}")
            self._add_what_moved(cursor, counts)
        self.log.info("Decided for %s. %s", as_of_date, shown(counts, ""))
        return counts

    def _first_decided_at(self, cursor: Any, hook: DbApiHook) -> str:  # noqa: ANN401 - DB-API
        cursor.execute(
            f"select min(decided_at) from ops.{MEMBERSHIPS} where as_of_date = cast({hook.placeholder} as date)",
            (self.as_of_date,),
        )
        first = cursor.fetchone()[0]
        return (first or datetime.datetime.now(datetime.UTC).replace(tzinfo=None)).isoformat(sep=" ")

    def _refuse_unusable_profiles(self, cursor: Any) -> None:  # noqa: ANN401 - DB-API
        published = columns_in(cursor, "marts")["customer_360_profile"]
        missing = [name for name in NEEDED if name not in published]
        if missing:
            raise AirflowFailException(
                f"{PROFILE} lacks {', '.join(missing)}, which say whom an audience may hold: it was published by an "
                f"earlier version. Run customer_360_refresh for {self.as_of_date}, which publishes it anew."
            )
        cursor.execute(f"select count(*) from {PROFILE} where email = '{MASKED}'")
        if masked := cursor.fetchone()[0]:
            raise AudienceRefused(
                f"email is masked ({MASKED}) for {masked:,} customers of {PROFILE}, as the role of connection "
                f"{self.conn_id!r} sees it, so nobody could be written to. Give it the transformer's role and run "
                "`make snowflake-setup`; then clear this task."
            )

    def _counts(self, cursor: Any, memberships: str) -> dict[str, Any]:  # noqa: ANN401 - DB-API
        cursor.execute(self.render_sql("audiences/counts.sql", memberships=memberships))
        campaigns: dict[str, dict[str, Any]] = {
            campaign.name: {"eligible": 0, **dict.fromkeys(STATUSES, 0), "entered": 0, "reasons": {}, "moved": []}
            for campaign in self.campaigns
        }
        for name, status, reason, customers, entered in cursor.fetchall():
            if name not in campaigns:
                continue
            counts = campaigns[name]
            counts["eligible"] += customers
            counts[status] += customers
            counts["entered"] += int(entered)
            if status == "suppressed":
                counts["reasons"][reason] = counts["reasons"].get(reason, 0) + customers
        return {"as_of_date": self.as_of_date, "campaigns": campaigns}

    def _add_what_moved(self, cursor: Any, counts: Mapping[str, Any]) -> None:  # noqa: ANN401 - DB-API
        cursor.execute(self.render_sql("audiences/trailing.sql"))
        of_campaign = {name: (before, values) for name, before, *values in cursor.fetchall()}
        for campaign in self.campaigns:
            before, values = of_campaign.get(campaign.name, (0, ()))
            if before >= self.vars["audience_least_trailing"]:
                counts["campaigns"][campaign.name]["moved"] = what_moved(campaign.approval, before, values)


def shown(counts: Mapping[str, Any], only: str) -> str:
    """Return the counts of a decision, a sentence per campaign, or of one campaign."""
    return " ".join(
        f"{name}: {of_campaign['eligible']:,} eligible = "
        + " + ".join(f"{of_campaign[status]:,} {status.replace('_', ' ')}" for status in STATUSES)
        + f"; {of_campaign['entered']:,} entered."
        for name, of_campaign in counts["campaigns"].items()
        if only in ("", name)
    )


def what_moved(limits: ApprovalLimits, audiences_before: int, values: Sequence[Any]) -> list[str]:
    """Return a line per measure that lies further from its median than the limits of the campaign allow.

    :param audiences_before: how many audiences the medians are of.
    :param values: size, share entered in percent and average lifetime value of this audience, then their medians; NULL
        where there was nobody.
    """
    size, entered, average, *medians = (None if value is None else float(value) for value in values)
    median_size, median_entered, median_average = medians
    of = f"median of the {audiences_before} audiences before"
    lines = []
    if size is not None and median_size is not None and _percent_apart(size, median_size) > limits.size_pct:
        lines.append(f"size: {size:,.0f} customers; {of}: {median_size:,.0f}; limit: {limits.size_pct:g} %")
    if entered is not None and median_entered is not None and abs(entered - median_entered) > limits.entered_points:
        lines.append(
            f"entered: {entered:.1f} % of them; {of}: {median_entered:.1f} %; limit: {limits.entered_points:g} points"
        )
    if average is not None and median_average is not None:
        apart = _percent_apart(average, median_average)
        if apart > limits.average_value_pct:
            lines.append(
                f"average lifetime value: {average:,.2f}; {of}: {median_average:,.2f}; "
                f"limit: {limits.average_value_pct:g} %"
            )
    return lines


def _percent_apart(value: float, median: float) -> float:
    if value == median:
        return 0.0
    return 100 * abs(value - median) / abs(median) if median else float("inf")


class ValidateAudiencesOperator(ValidateOperator):
    """Check the memberships of a date, with `validations/audience_memberships.sql`, before anything is exported.

    Its template may also use `campaigns`.

    :param campaigns: all of them.
    :param as_of_date: YYYY-MM-DD (templated): that of the decision.
    """

    sql_names: Sequence[str] = (*ValidateOperator.sql_names, "campaigns", "warehouse", "today")

    def __init__(self, *, campaigns: Sequence[Campaign], **kwargs: Any) -> None:  # noqa: ANN401 - passed on
        super().__init__(mart=MEMBERSHIPS, run_schema="ops", **kwargs)
        self.campaigns = campaigns

    @property
    def warehouse(self) -> str:
        """The setting WAREHOUSE."""
        return load_settings().warehouse

    @property
    def today(self) -> str:
        """The day in New York, YYYY-MM-DD."""
        return today().isoformat()

    def hand_on(
        self,
        results: Sequence[Result],
        failing_rows: Sequence[FailingRows],
        context: Context,
        cursor: Any,  # noqa: ANN401 - DB-API
        hook: DbApiHook,
    ) -> None:
        """Keep both."""
        keep_results(cursor, hook.placeholder, {(self.dag_run_id, self.mart): results})
        as_of_date = datetime.date.fromisoformat(self.as_of_date)
        keep_failing_rows(cursor, hook.placeholder, self.dag_run_id, as_of_date, failing_rows)

    def _what_failed(self, failed: list[SQLCheckResult]) -> str:
        checks = "\n".join(f"- {check.name}: observed {check.actual}; expected {check.expected}" for check in failed)
        return (
            f"The audiences of {self.as_of_date} failed {len(failed)} of {len(self.check_results)} checks; nothing is "
            f"exported.\n{checks}\n"
            "The decision stays in ops.audience_memberships for inspection. Correct audiences/decision.sql or the "
            "campaign's template, then clear decide_audiences."
        )
