"""The charts: colours that colour-blind people tell apart, and numbers written as everywhere else.

Colours: Okabe and Ito, https://jfly.uni-koeln.de/color/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import altair as alt
import pandas as pd

from app.formats import D3_FORMATS

_Chart = TypeVar("_Chart", alt.Chart, alt.LayerChart)

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999")
ACCENT = PALETTE[0]
HEIGHT = 260
TICKS = 6


def lines(
    frame: pd.DataFrame, x: str, y: str, unit: str, series: str | None = None, title: str = "", x_title: str = ""
) -> alt.LayerChart:
    """Return lines over time, one per value of `series`, with a point at each date.

    :param frame: columns x (a date), y and, where it is given, series.
    """
    dates = [pd.Timestamp(date) for date in sorted(frame[x].unique())]
    # Of few dates each is named: left to itself the axis names a day again and again.
    ticks: dict[str, Any] = {"tickCount": TICKS}
    if len(dates) <= TICKS:
        ticks = {"values": [alt.DateTime(year=date.year, month=date.month, date=date.day) for date in dates]}
    encoding: dict[str, Any] = {
        "x": alt.X(f"{x}:T", title=x_title or None, axis=alt.Axis(format="%-d %b %Y", labelOverlap=True, **ticks)),
        "y": alt.Y(f"{y}:Q", title=title or None, axis=_axis(unit)),
        "tooltip": _tooltip(frame, [x, *([series] if series else []), y], {y: unit}, {x}),
    }
    if series:
        encoding["color"] = _colour(frame, series)
        encoding["strokeDash"] = alt.StrokeDash(f"{series}:N", legend=None)
    base = alt.Chart(frame).encode(**encoding)
    return _sized(base.mark_line(strokeWidth=2) + base.mark_point(filled=True, size=30))


def bars(frame: pd.DataFrame, category: str, value: str, unit: str, title: str = "") -> alt.LayerChart:
    """Return a bar per category in the frame's order, its figure written beside it."""
    base = alt.Chart(frame).encode(
        y=alt.Y(f"{category}:N", sort=None, title=None, axis=alt.Axis(labelLimit=220, labelOverlap=False)),
        x=alt.X(
            f"{value}:Q",
            title=title or None,
            axis=_axis(unit, tickCount=5),
            # Room for the figure beside the longest bar.
            scale=alt.Scale(domainMax=1.15 * max(map(float, frame[value].dropna()), default=0) or 1),
        ),
        tooltip=_tooltip(frame, [category, value], {value: unit}),
    )
    written = base.mark_text(align="left", dx=4, color="gray").encode(
        text=alt.Text(f"{value}:Q", format=D3_FORMATS[unit])
    )
    return _sized(base.mark_bar(color=ACCENT) + written, height=60 + 30 * len(frame))


def heat_map(
    frame: pd.DataFrame,
    x: str,
    y: str,
    value: str,
    unit: str,
    x_title: str,
    y_title: str,
    x_order: Sequence[str] = (),
) -> alt.LayerChart:
    """Return a cell per pair of x and y, its figure written into it.

    :param x_order: how the values of x follow each other; without it, ascending.
    """
    base = alt.Chart(frame).encode(
        x=alt.X(f"{x}:O", title=x_title, sort=list(x_order) or "ascending", axis=alt.Axis(labelAngle=0)),
        y=alt.Y(f"{y}:O", title=y_title, sort=None, axis=alt.Axis(labelLimit=220, labelOverlap=False)),
        tooltip=_tooltip(frame, [y, x, value], {value: unit}),
    )
    colour = alt.Color(f"{value}:Q", scale=alt.Scale(scheme="viridis"), legend=None)
    middle = float(frame[value].min() + frame[value].max()) / 2 if len(frame) else 0.0
    text = base.mark_text(fontSize=11).encode(
        text=alt.Text(f"{value}:Q", format=D3_FORMATS[unit]),
        color=alt.condition(alt.datum[value] > middle, alt.value("black"), alt.value("white")),
    )
    return _sized(base.mark_rect().encode(color=colour) + text, height=70 + 30 * int(frame[y].nunique()))


def intervals(
    frame: pd.DataFrame, label: str, value: str, low: str, high: str, unit: str, title: str
) -> alt.LayerChart:
    """Return a point with its interval per row, and a line at 0, where there is no effect."""
    base = alt.Chart(frame).encode(
        y=alt.Y(f"{label}:N", sort=None, title=None, axis=alt.Axis(labelLimit=260, labelOverlap=False))
    )
    points = base.mark_point(filled=True, size=70, color=ACCENT).encode(
        x=alt.X(f"{value}:Q", title=title, axis=_axis(unit), scale=alt.Scale(padding=12)),
        tooltip=_tooltip(frame, [label, value, low, high], dict.fromkeys((value, low, high), unit)),
    )
    rules = base.mark_rule(strokeWidth=2, color=ACCENT).encode(x=f"{low}:Q", x2=f"{high}:Q")
    none = alt.Chart(pd.DataFrame({"effect": [0]})).mark_rule(strokeDash=[4, 4], color="gray").encode(x="effect:Q")
    return _sized(none + rules + points, height=80 + 30 * len(frame))


def histogram(frame: pd.DataFrame, low: str, customers: str, title: str, unit: str) -> alt.Chart:
    """Return a bar per bin, given by its lower end, a whole number, and the customers in it."""
    whole = D3_FORMATS[unit].replace(".2f", ".0f")
    return _sized(
        alt.Chart(frame)
        .mark_bar(color=ACCENT)
        .encode(
            x=alt.X(f"{low}:O", title=title, sort=None, axis=alt.Axis(labelAngle=-40, format=whole)),
            y=alt.Y(f"{customers}:Q", title="Customers", axis=_axis("count")),
            tooltip=_tooltip(frame, [low, customers], {customers: "count", low: unit}),
        )
    )


def _axis(unit: str, **settings: Any) -> alt.Axis:  # noqa: ANN401 - of alt.Axis
    """Return an axis of figures; between whole numbers there is no tick, which would be written like the one before."""
    if unit in ("count", "days"):
        settings["tickMinStep"] = 1
    return alt.Axis(format=D3_FORMATS[unit], **settings)


def _tooltip(
    frame: pd.DataFrame, columns: Sequence[str], units: dict[str, str], dates: set[str] | None = None
) -> list[alt.Tooltip]:
    return [
        alt.Tooltip(f"{column}:Q", format=D3_FORMATS[units[column]], title=_words(column))
        if column in units
        else alt.Tooltip(f"{column}:T", format="%-d %b %Y", title=_words(column))
        if dates and column in dates
        else alt.Tooltip(f"{column}:N", title=_words(column))
        for column in columns
    ]


def _words(column: str) -> str:
    return column.replace("_", " ")


def _colour(frame: pd.DataFrame, series: str) -> alt.Color:
    values = list(dict.fromkeys(frame[series]))
    return alt.Color(
        f"{series}:N",
        title=None,
        scale=alt.Scale(domain=values, range=[PALETTE[number % len(PALETTE)] for number in range(len(values))]),
        legend=alt.Legend(orient="bottom", columns=2, labelLimit=240),
    )


def _sized(chart: _Chart, height: int = HEIGHT) -> _Chart:
    chart.height = height
    return chart
