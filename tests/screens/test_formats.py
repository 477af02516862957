"""How figures are written, on every page alike."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pandas as pd
import pytest

from app.formats import change, day, moment, plain, written, yes_or_no


@pytest.mark.parametrize(
    ("value", "unit", "decimals", "expected"),
    [
        (1234.5, "usd", None, "$1,234.50"),
        (Decimal("-1234.56"), "usd", 2, "-$1,234.56"),
        (1_234_567, "usd", 0, "$1,234,567"),
        (12.345, "percent", 1, "12.3 %"),
        (0, "percent", None, "0.0 %"),
        (1234, "count", None, "1,234"),
        (12, "days", None, "12 days"),
        (1, "days", None, "1 day"),
        (30.46, "seconds", None, "30.5 s"),
        (59.96, "seconds", None, "1 min 0 s"),
        (65, "seconds", None, "1 min 5 s"),
        (3_725, "seconds", None, "1 h 2 min"),
        (None, "usd", None, "-"),
        (float("nan"), "count", None, "-"),
        (pd.NA, "count", None, "-"),
    ],
)
def test_a_figure_is_written_by_its_unit(value: float, unit: str, decimals: int | None, expected: str) -> None:
    assert written(value, unit, decimals) == expected


@pytest.mark.parametrize(
    ("now", "before", "unit", "expected"),
    [
        (110, 100, "usd", "+10.0 %"),
        (90, 100, "count", "-10.0 %"),
        (12.5, 10.0, "percent", "+2.5 points"),
        (10, 0, "usd", None),
        (None, 5, "usd", None),
        (5, float("nan"), "percent", None),
    ],
)
def test_a_change_is_relative_and_of_a_share_in_points(
    now: float, before: float, unit: str, expected: str | None
) -> None:
    assert change(now, before, unit) == expected


def test_days_moments_and_flags() -> None:
    assert day(datetime.date(2026, 3, 1)) == "1 Mar 2026"
    assert moment(datetime.datetime(2026, 4, 1, 7, 2)) == "1 Apr 2026, 07:02 UTC"
    assert [yes_or_no(True), yes_or_no(False), yes_or_no(None), day(None), moment(None)] == ["yes", "no", "-", "-", "-"]


def test_a_text_of_the_data_is_no_markup() -> None:
    assert plain("a*b [c](d) :red[e] $f$ <g> 1.5") == r"a\*b \[c\]\(d\) \:red\[e\] \$f\$ \<g\> 1\.5"
