"""The figures of the semantic definitions, as the pages ask for them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from app.formats import change, written
from app.published import Warehouse
from include.customer_360.semantics import Filter, Semantics, load_semantics


@st.cache_resource(show_spinner=False)
def semantics() -> Semantics:
    """Return the definitions, read once."""
    return load_semantics()


def figures(
    warehouse: Warehouse, metrics: Sequence[str], by: Sequence[str] = (), where: Sequence[Filter] = ()
) -> pd.DataFrame:
    """Return metrics, one column each, cut by dimensions, one column each; without any, one row."""
    asked = semantics().query(metrics, by=by, where=where)
    return warehouse.frame(asked.sql, asked.parameters)


def label_of(metric: str) -> str:
    """Return how a metric is called."""
    return semantics().metrics[metric].label


def written_figure(metric: str, value: object) -> str:
    """Return a figure as its definition says that it is written."""
    defined = semantics().metrics[metric]
    return written(value, defined.unit, defined.decimals)  # type: ignore[arg-type]


def show_figure(metric: str, now: object, before: object = None, since: str = "") -> None:
    """Show a figure with its change, and its definition as help."""
    defined = semantics().metrics[metric]
    moved = change(now, before, defined.unit)  # type: ignore[arg-type]
    st.metric(
        defined.label,
        written_figure(metric, now),
        delta=f"{moved} {since}".strip() if moved else None,
        delta_color="off",
        help=defined.description,
    )
