"""The days on which a bank has less to do: var bank_holidays of dbt_project.yml, as dates."""

from __future__ import annotations

import calendar
import datetime
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from include.customer_360.dbt_vars import dbt_vars
from include.customer_360.settings import WEEKDAYS


class HolidayError(ValueError):
    """An entry of bank_holidays cannot be used; the message names it and says what it takes."""


class Holiday(BaseModel):
    """A holiday of every year, by its day (`month`, `day`) or its weekday (`month`, `weekday`, `week`), or one `date`.

    :param week: which of the month's weekdays of that name; -1 is the last.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1)]
    month: Annotated[int, Field(ge=1, le=12)] | None = None
    day: Annotated[int, Field(ge=1, le=31)] | None = None
    weekday: Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] | None = None
    week: Literal[1, 2, 3, 4, -1] | None = None
    date: datetime.date | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Holiday:
        given = self.model_fields_set - {"name"}
        if given not in ({"month", "day"}, {"month", "weekday", "week"}, {"date"}):
            raise ValueError("give month and day, or month, weekday and week, or date")
        return self

    def dates(self, year: int) -> tuple[datetime.date, ...]:
        """Return its dates in a year; one on a weekend is kept on the Friday before or the Monday after as well."""
        if self.date is not None:
            return (self.date,) if self.date.year == year else ()
        if self.weekday is not None:
            number = WEEKDAYS.index(self.weekday)
            weeks = calendar.Calendar().monthdatescalendar(year, self.month)  # type: ignore[arg-type]
            of_month = [week[number] for week in weeks if week[number].month == self.month]
            return (of_month[self.week - 1 if self.week > 0 else self.week],)  # type: ignore[index, operator]
        try:
            day = datetime.date(year, self.month, self.day)  # type: ignore[arg-type]
        except ValueError:
            return ()
        shift = {5: -1, 6: 1}.get(day.weekday())
        return (day,) if shift is None else (day, day + datetime.timedelta(days=shift))


def read_holidays(entries: Iterable[Mapping[str, Any]]) -> tuple[Holiday, ...]:
    """Return the entries of bank_holidays.

    :raises HolidayError: naming the first that cannot be used.
    """
    found = []
    for entry in entries:
        try:
            found.append(Holiday.model_validate(entry))
        except ValidationError as invalid:
            raise HolidayError(
                f"include/dbt/dbt_project.yml: vars.bank_holidays has {dict(entry)}: {invalid.errors()[0]['msg']}."
            ) from None
    return tuple(found)


@cache
def _of_project() -> tuple[Holiday, ...]:
    return read_holidays(dbt_vars()["bank_holidays"])


@cache
def holiday(day: datetime.date, holidays: tuple[Holiday, ...] | None = None) -> str | None:
    """Return the name of the holiday that a day is; None when it is none.

    :param holidays: those of the project when not given.
    """
    # A New Year's Day on a Saturday is kept in the year before.
    years = (day.year, (day + datetime.timedelta(days=1)).year) if day < datetime.date.max else (day.year,)
    known = _of_project() if holidays is None else holidays
    return next((each.name for each in known for year in dict.fromkeys(years) if day in each.dates(year)), None)
