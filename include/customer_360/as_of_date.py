"""Which business date a run is for."""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

BUSINESS_TIME_ZONE = "America/New_York"


def last_complete_business_day(moment: datetime.datetime) -> datetime.date:
    """Return the day before the one that `moment` (with a time zone) falls on in New York."""
    return moment.astimezone(ZoneInfo(BUSINESS_TIME_ZONE)).date() - datetime.timedelta(days=1)


def decide_as_of_date(
    partition_key: str | None,
    requested: str | None,
    run_after: datetime.datetime,
    started: datetime.datetime | None = None,
) -> datetime.date:
    """Return the as_of_date of a run.

    :param partition_key: the run's partition key, YYYY-MM-DD: set by the schedule, a backfill or the REST API.
    :param requested: the form's as_of_date, YYYY-MM-DD, of a manual run.
    :param run_after: when the run was due; without key and request the run is for the day before it in New York.
    :param started: when the run started; a backfill's run_after lies on the partition date, before that day is over.
    :raises ValueError: when key and request differ, are no date, or lie after the last complete business day.
    """
    if partition_key and requested and partition_key != requested:
        raise ValueError(
            f"The run has partition key {partition_key} and asks for as_of_date {requested}: leave one of them out."
        )
    given = partition_key or requested
    if not given:
        return last_complete_business_day(run_after)
    latest = last_complete_business_day(max(run_after, started or run_after))
    try:
        as_of_date = datetime.datetime.strptime(given, "%Y-%m-%d").replace(tzinfo=datetime.UTC).date()
    except ValueError:
        raise ValueError(f"as_of_date {given!r} is no date: give it as YYYY-MM-DD, for example {latest}.") from None
    if as_of_date > latest:
        raise ValueError(
            f"as_of_date {as_of_date} is not over yet in {BUSINESS_TIME_ZONE}: the last complete day is {latest}. "
            f"Run again with as_of_date {latest} or earlier."
        )
    return as_of_date
