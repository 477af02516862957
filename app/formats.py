"""How numbers, dates and shares are written, on every page and in every chart alike."""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from typing import Literal

import pandas as pd

Unit = Literal["usd", "percent", "count", "days", "seconds"]
Number = int | float | Decimal

NOTHING = "-"
"""Stands where there is no value: NULL is not 0."""

D3_FORMATS: dict[str, str] = {"usd": "$,.2f", "percent": ",.1f", "count": ",.0f", "days": ",.0f", "seconds": ",.1f"}
"""The same for axes and tooltips, which the browser writes."""


def is_missing(value: object) -> bool:
    """Tell whether there is no value: None, NaN, NaT and pandas' NA are what NULL becomes on its way here."""
    return bool(pd.isna(value))


def written(value: Number | None, unit: str, decimals: int | None = None) -> str:
    """Return a figure: $1,234.56, 12.3 %, 1,234, 12 days, 1 min 5 s; without a value a dash."""
    if value is None or is_missing(value):
        return NOTHING
    if unit == "usd":
        places = 2 if decimals is None else decimals
        return f"{'-' if value < 0 else ''}${abs(value):,.{places}f}"
    if unit == "percent":
        return f"{value:,.{1 if decimals is None else decimals}f} %"
    if unit == "seconds":
        return _duration(float(value))
    number = f"{value:,.{0 if decimals is None else decimals}f}"
    if unit == "days":
        return f"{number} day" if number == "1" else f"{number} days"
    return number


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if seconds < 60 and whole < 60:
        return f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def change(now: Number | None, before: Number | None, unit: str) -> str | None:
    """Return how a figure moved: +3.2 % of it, or of a share its percentage points; None where it cannot be said."""
    if now is None or before is None or is_missing(now) or is_missing(before):
        return None
    if unit == "percent":
        return f"{float(now) - float(before):+,.1f} points"
    if not before:
        return None
    return f"{(float(now) / float(before) - 1) * 100:+,.1f} %"


def day(value: datetime.date | None) -> str:
    """Return a day: 30 Nov 2026."""
    return NOTHING if value is None or is_missing(value) else f"{value.day} {value:%b %Y}"


def moment(value: datetime.datetime | None) -> str:
    """Return a moment that the warehouse keeps, which is UTC: 30 Nov 2026, 08:01 UTC."""
    return NOTHING if value is None or is_missing(value) else f"{day(value)}, {value:%H:%M} UTC"


def yes_or_no(value: bool | None) -> str:
    """Return a flag in words."""
    return NOTHING if value is None or is_missing(value) else "yes" if value else "no"


def plain(text: object) -> str:
    """Return a text of the data for a place that reads Markdown: it stands there as it is."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", str(text))
