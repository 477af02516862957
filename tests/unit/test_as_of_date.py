"""Which business date a run is for."""

from __future__ import annotations

import datetime

import pytest

from include.customer_360.as_of_date import decide_as_of_date, hour_of_the_day_after, last_complete_business_day

NOW = datetime.datetime(2026, 11, 22, 8, tzinfo=datetime.UTC)


def utc(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        ("2026-11-22 08:00", "2026-11-21"),  # 3 AM in New York, winter
        ("2026-07-02 07:00", "2026-07-01"),  # 3 AM in New York, summer
        ("2026-11-22 04:59", "2026-11-20"),  # a minute before midnight there
        ("2026-11-22 05:00", "2026-11-21"),  # midnight there
        ("2026-07-02 04:00", "2026-07-01"),  # midnight there, summer
        ("2024-03-01 12:00", "2024-02-29"),
        ("2026-01-01 12:00", "2025-12-31"),
    ],
)
def test_the_last_complete_day_is_new_yorks_yesterday(moment: str, day: str) -> None:
    assert last_complete_business_day(utc(moment)) == datetime.date.fromisoformat(day)


def test_the_partition_key_decides() -> None:
    assert decide_as_of_date("2026-03-31", None, NOW, NOW) == datetime.date(2026, 3, 31)


def test_the_form_decides_without_a_partition_key() -> None:
    assert decide_as_of_date(None, "2026-03-31", NOW, NOW) == datetime.date(2026, 3, 31)


@pytest.mark.parametrize("empty", [None, ""])
def test_neither_means_yesterday_when_the_run_was_due(empty: str | None) -> None:
    assert decide_as_of_date(None, empty, utc("2026-11-22 03:00"), NOW) == datetime.date(2026, 11, 20)


def test_a_backfill_is_due_on_its_own_date_and_still_takes_it() -> None:
    assert decide_as_of_date("2026-11-21", None, utc("2026-11-21 08:00"), NOW) == datetime.date(2026, 11, 21)


def test_a_backfill_of_a_day_in_progress_is_refused() -> None:
    with pytest.raises(ValueError, match="2026-11-22 is not over yet"):
        decide_as_of_date("2026-11-22", None, NOW, NOW)


def test_key_and_form_may_agree() -> None:
    assert decide_as_of_date("2026-03-31", "2026-03-31", NOW, NOW) == datetime.date(2026, 3, 31)


def test_key_and_form_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"partition key 2026-03-31 .* as_of_date 2026-04-01"):
        decide_as_of_date("2026-03-31", "2026-04-01", NOW, NOW)


def test_a_day_in_progress_is_refused_with_the_last_complete_one() -> None:
    with pytest.raises(ValueError, match=r"2026-11-22 is not over yet .* last complete day is 2026-11-21"):
        decide_as_of_date(None, "2026-11-22", NOW, NOW)


@pytest.mark.parametrize(
    "no_date",
    [
        "yesterday",
        "2026-02-30",
        "31.03.2026",
        "2026-3-1",
        "2026-03-01 ",
        "20260301",
        "2026-W14-2",
        "\u0662\u0660\u0662\u0666-03-01",
    ],
)
def test_what_is_no_date_is_refused(no_date: str) -> None:
    with pytest.raises(ValueError, match="is no date: give it as YYYY-MM-DD"):
        decide_as_of_date(None, no_date, NOW, NOW)


@pytest.mark.parametrize("too_early", ["0001-01-01", "1899-12-31"])
def test_a_date_before_the_calendar_is_refused_with_the_first_possible_one(too_early: str) -> None:
    with pytest.raises(ValueError, match=rf"{too_early} lies before the calendar, whose first day is 1900-01-01"):
        decide_as_of_date(None, too_early, NOW, NOW)


def test_the_first_day_of_the_calendar_is_taken() -> None:
    assert decide_as_of_date(None, "1900-01-01", NOW, NOW) == datetime.date(1900, 1, 1)


@pytest.mark.parametrize(
    ("as_of_date", "hour", "moment"),
    [
        ("2026-07-01", "05:00", "2026-07-02 09:00"),
        ("2026-11-24", "05:00", "2026-11-25 10:00"),
        # Clocks go from 2 to 3 on 8 March, and from 2 to 1 on 1 November.
        ("2026-03-07", "05:00", "2026-03-08 09:00"),
        ("2026-03-06", "05:00", "2026-03-07 10:00"),
        ("2026-03-07", "02:30", "2026-03-08 07:30"),
        ("2026-10-31", "05:00", "2026-11-01 10:00"),
        ("2026-10-30", "05:00", "2026-10-31 09:00"),
        ("2026-10-31", "01:30", "2026-11-01 05:30"),
        ("2025-12-31", "00:00", "2026-01-01 05:00"),
    ],
)
def test_an_hour_is_that_of_the_clocks_in_new_york_on_the_day_after(as_of_date: str, hour: str, moment: str) -> None:
    day, time = datetime.date.fromisoformat(as_of_date), datetime.time.fromisoformat(hour)
    assert hour_of_the_day_after(day, time) == utc(moment)
