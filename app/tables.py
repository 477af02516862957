"""Tables: written as everything else is, sorted by what is behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import pandas as pd
import streamlit as st

from app.formats import D3_FORMATS, NOTHING, day, is_missing, moment, plain, written, yes_or_no

ROWS_SHOWN = 1000
"""How many rows a table shows at most."""


def show_table(
    frame: pd.DataFrame,
    labels: Mapping[str, str],
    units: Mapping[str, str],
    alt: str,
    decimals: Mapping[str, int] | None = None,
) -> None:
    """Show columns of a frame.

    :param labels: the columns, in their order, and what stands above each.
    :param units: how a column is written: a unit of formats, `day`, `moment` or `flag`; without one, as text.
    :param alt: what the table is, for who does not see it.
    :param decimals: of columns that have others than their unit has.
    """
    shown = pd.DataFrame({labels[column]: _as_sorted(frame[column], units.get(column, "")) for column in labels})
    formats = {labels[column]: _WRITERS[unit] for column, unit in units.items() if unit in _WRITERS}
    for column, places in (decimals or {}).items():
        formats[labels[column]] = partial(written, unit=units[column], decimals=places)
    st.dataframe(shown.style.format(formats), hide_index=True, placeholder=NOTHING, alt=alt)


def show_texts(frame: pd.DataFrame) -> None:
    """Show a small table of texts whole, its first column as the rows' names.

    Streamlit reads Markdown in it: a dash alone would be a list, and what stands between two dollar signs a formula.
    """
    st.table(frame.map(plain).set_index(frame.columns[0]))


_WRITERS: dict[str, Callable[..., str]] = {
    **{unit: partial(written, unit=unit) for unit in D3_FORMATS},
    "day": day,
    "moment": moment,
}


def _as_sorted(column: pd.Series, unit: str) -> pd.Series:
    if unit in ("day", "moment"):
        return pd.to_datetime(column)
    if unit in D3_FORMATS:
        # Neither pandas' own integers nor Decimal have one way to say NULL.
        return pd.to_numeric(column).astype("float64")
    return column.map(yes_or_no if unit == "flag" else _text)


def _text(value: object) -> str:
    return NOTHING if is_missing(value) else str(value)
