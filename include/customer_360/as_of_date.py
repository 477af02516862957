"""Which business date a run is for."""

from __future__ import annotations

import datetime
import re
from zoneinfo import ZoneInfo

from include.customer_360.dbt_vars import dbt_vars
from include.customer_360.settings import WRITTEN_DATE

BUSINESS_TIME_ZONE = "America/New_York"


def last_complete_business_day(moment: datetime.datetime) -> datetime.date:
    """Return the day before the one that `moment` (with a time zone) falls on in New York."""
    return moment.astimezone(ZoneInfo(BUSINESS_TIME_ZONE)).date() - datetime.timedelta(days=1)


def parse_as_of_date(text: str) -> datetime.date:
    """Return the date that `text` writes as YYYY-MM-DD; no other way of writing it is taken.

    :raises ValueError: when it is no such date.
    """
    try:
        # fromisoformat takes 20260331 and 2026-W14-2 too.
        return datetime.date.fromisoformat(text if re.fullmatch(WRITTEN_DATE, text) else "")
    except ValueError:
        raise ValueError(f"as_of_date {text!r} is no date: give it as YYYY-MM-DD, for example 2026-03-31.") from None


def requested_as_of_date(
    partition_key: str | None,
    requested: str | None,
    run_after: datetime.datetime,
    started: datetime.datetime | None = None,
) -> datetime.date | None:
    """Return the date that a run asks for; None when it asks for none.

    :param partition_key: the run's, YYYY-MM-DD: set by the schedule, an asset, a backfill or the REST API.
    :param requested: the form's as_of_date, YYYY-MM-DD, of a manual run.
    :param run_after: when the run was due.
    :param started: when the run started; a backfill's run_after lies on the partition date, before that day is over.
    :raises ValueError: when key and request differ, are no date, or lie after the last complete business day or before
        the calendar's first.
    """
    if partition_key and requested and partition_key != requested:
        raise ValueError(
            f"The run has partition key {partition_key} and asks for as_of_date {requested}: leave one of them out."
        )
    given = partition_key or requested
    if not given:
        return None
    as_of_date = parse_as_of_date(given)
    latest = last_complete_business_day(max(run_after, started or run_after))
    if as_of_date > latest:
        raise ValueError(
            f"as_of_date {as_of_date} is not over yet in {BUSINESS_TIME_ZONE}: the last complete day is {latest}. "
            f"Run again with as_of_date {latest} or earlier."
        )
    first = datetime.date.fromisoformat(dbt_vars()["calendar_first_day"])
    if as_of_date < first:
        raise ValueError(
            f"as_of_date {as_of_date} lies before the calendar, whose first day is {first} (calendar_first_day in "
            f"dbt_project.yml): nothing is built for it. Run again with as_of_date {first} or later."
        )
    return as_of_date


def decide_as_of_date(
    partition_key: str | None,
    requested: str | None,
    run_after: datetime.datetime,
    started: datetime.datetime | None = None,
) -> datetime.date:
    """Return the date that a run is for: the one it asks for, or the day before the one it was due on in New York.

    Parameters and errors are those of requested_as_of_date.
    """
    return requested_as_of_date(partition_key, requested, run_after, started) or last_complete_business_day(run_after)


def hour_of_the_day_after(as_of_date: datetime.date, hour: datetime.time) -> datetime.datetime:
    """Return the moment, in UTC, at which clocks in New York show `hour` on the day after `as_of_date`.

    An hour that they skip counts from the one before the change, an hour that they show twice is the first.
    """
    on_clocks = datetime.datetime.combine(as_of_date + datetime.timedelta(days=1), hour)
    return on_clocks.replace(tzinfo=ZoneInfo(BUSINESS_TIME_ZONE)).astimezone(datetime.UTC)
