"""When the nightly run is due and for which date, over midnight and over both changes of the clocks in New York."""

from __future__ import annotations

import datetime
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import DagRunInfo, TimeRestriction, Timetable

from include.customer_360.settings import PROJECT_ROOT
from plugins.customer_360_macros import as_of_date, run_schema

NEW_YORK = ZoneInfo("America/New_York")
DAY = datetime.timedelta(days=1)
SPRING, AUTUMN = datetime.date(2026, 3, 8), datetime.date(2026, 11, 1)


@pytest.fixture(scope="module")
def timetable() -> Timetable:
    """The Dag's timetable as the scheduler has it: serialized, and read again."""
    dag = DagBag(str(PROJECT_ROOT / "dags" / "customer_360_refresh.py")).dags["customer_360_refresh"]
    return DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag)).timetable


def nights(timetable: Timetable, first: datetime.date, count: int) -> list[DagRunInfo]:
    """Return the runs that the scheduler starts from midnight of a day in New York on, one after the other."""
    midnight = datetime.datetime.combine(first, datetime.time(), NEW_YORK).astimezone(datetime.UTC)
    restriction = TimeRestriction(earliest=midnight, latest=None, catchup=True)
    found: list[DagRunInfo] = []
    for _ in range(count):
        due = timetable.next_dagrun_info_v2(last_dagrun_info=found[-1] if found else None, restriction=restriction)
        assert due is not None
        found.append(due)
    return found


def test_each_night_of_a_year_is_due_at_three_in_new_york_for_the_day_before(timetable: Timetable) -> None:
    first = datetime.date(2026, 1, 1)
    found = nights(timetable, first, 365)
    days = [first + number * DAY for number in range(365)]
    assert [run.run_after for run in found] == [
        datetime.datetime.combine(day, datetime.time(3), NEW_YORK) for day in days
    ]
    assert [run.partition_key for run in found] == [(day - DAY).isoformat() for day in days]


@pytest.mark.parametrize(
    ("night", "due"),
    [
        # Clocks go from 2 to 3 AM: three hours of the day have not passed.
        (SPRING, "2026-03-08T07:00:00+00:00"),
        (SPRING + DAY, "2026-03-09T07:00:00+00:00"),
        # And from 2 to 1 AM: four have.
        (AUTUMN, "2026-11-01T08:00:00+00:00"),
        (AUTUMN + DAY, "2026-11-02T08:00:00+00:00"),
    ],
)
def test_the_nights_around_a_change_of_the_clocks_come_once_each(
    night: datetime.date, due: str, timetable: Timetable
) -> None:
    [run] = nights(timetable, night, 1)
    assert (run.run_after, run.partition_key) == (datetime.datetime.fromisoformat(due), (night - DAY).isoformat())


@pytest.mark.parametrize("change", [SPRING, AUTUMN])
def test_a_backfill_over_a_change_of_the_clocks_has_each_date_once(change: datetime.date, timetable: Any) -> None:  # noqa: ANN401
    earliest, latest = (
        datetime.datetime.combine(change + days * DAY, datetime.time(), datetime.UTC) for days in (-2, 3)
    )
    found = list(timetable.iter_partition_dagrun_infos(earliest=earliest, latest=latest))
    assert [run.partition_key for run in found] == [(change + days * DAY).isoformat() for days in range(-2, 3)]


@pytest.mark.parametrize(
    ("triggered", "date"),
    [
        ("2026-11-22T04:58:00+00:00", "2026-11-20"),  # two minutes before midnight in New York
        ("2026-03-08T04:58:00+00:00", "2026-03-06"),  # the same, three hours before the clocks change
        ("2026-11-01T03:58:00+00:00", "2026-10-30"),
    ],
)
@pytest.mark.parametrize("begun_after", [datetime.timedelta(minutes=1), datetime.timedelta(hours=9)])
def test_a_run_without_a_date_keeps_the_one_it_was_triggered_for_over_midnight(
    begun_after: datetime.timedelta, triggered: str, date: str
) -> None:
    """However late its tasks run: waiting, retried, or cleared the next morning."""
    due = datetime.datetime.fromisoformat(triggered)
    run: Any = SimpleNamespace(
        run_id="manual__1", run_type="manual", partition_key=None, run_after=due, start_date=due + begun_after
    )
    form = {"as_of_date": None}
    assert as_of_date(run, form) == date
    assert run_schema(run, form).startswith(f"marts_run_{date.replace('-', '')}_")
