"""Which days are bank holidays: held against the calendars that the Federal Reserve published."""

from __future__ import annotations

import datetime

import pytest

from include.customer_360.holidays import HolidayError, holiday, read_holidays

# As listed on the Reserve Banks' holiday schedule.
PUBLISHED = {
    2025: "01-01 01-20 02-17 05-26 06-19 07-04 09-01 10-13 11-11 11-27 12-25",
    2026: "01-01 01-19 02-16 05-25 06-19 07-04 09-07 10-12 11-11 11-26 12-25",
    2027: "01-01 01-18 02-15 05-31 06-19 07-04 07-05 09-06 10-11 11-11 11-25 12-25",
}
# The Friday before a Saturday, which offices keep and the Reserve Banks do not.
FRIDAYS = {2025: "", 2026: "07-03", 2027: "06-18 12-24 12-31"}


@pytest.mark.parametrize("year", PUBLISHED)
def test_the_holidays_of_a_year_are_those_of_the_federal_reserve(year: int) -> None:
    first = datetime.date(year, 1, 1)
    days = [first + datetime.timedelta(days=number) for number in range(365)]
    found = {f"{day:%m-%d}" for day in days if holiday(day)}
    assert found == {*PUBLISHED[year].split(), *FRIDAYS[year].split()}


@pytest.mark.parametrize(
    ("day", "name"),
    [
        ("2026-11-26", "Thanksgiving Day"),
        ("2026-05-25", "Memorial Day"),
        ("2027-07-05", "Independence Day"),
        ("2021-12-31", "New Year's Day"),
        ("2026-11-25", None),
        ("9999-12-31", None),
    ],
)
def test_a_holiday_has_a_name(day: str, name: str | None) -> None:
    assert holiday(datetime.date.fromisoformat(day)) == name


def test_a_day_of_its_own_is_a_holiday_once() -> None:
    own = read_holidays([{"name": "Closed", "date": "2026-05-04"}])
    assert holiday(datetime.date(2026, 5, 4), own) == "Closed"
    assert holiday(datetime.date(2027, 5, 4), own) is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"name": "Closed", "month": 5},
            "'Closed', 'month': 5.* give month and day, or month, weekday and week, or date",
        ),
        ({"name": "Closed", "month": 13, "day": 1}, "less than or equal to 12"),
        ({"name": "Closed", "month": 5, "weekday": "Mon", "week": 1}, "'monday'"),
    ],
)
def test_an_entry_that_cannot_be_used_is_named(entry: dict[str, object], message: str) -> None:
    with pytest.raises(HolidayError, match=message):
        read_holidays([entry])
