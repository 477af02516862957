"""Customers that a reader chooses by segment, state, card and lifetime value, and the figures of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

import pandas as pd
import streamlit as st

from app.figures import semantics
from app.formats import is_missing
from app.header import NOT_YET_MODELLED
from app.published import State, Warehouse, query

BINS = 25
Column = Literal["customer_segment", "state", "card_type"]

NO_SEGMENT = "No transaction yet"
WITHOUT: Mapping[Column, str] = {
    "customer_segment": NO_SEGMENT,
    "state": "No state known",
    "card_type": "No card known",
}
"""How customers are called who have no value in a column."""


@dataclass(frozen=True)
class Chosen:
    """What is chosen of the customers; what is left out chooses all.

    :param values: by column, those that are chosen; None stands for customers without a value.
    :param lowest: the lowest lifetime value, in dollars.
    :param highest: the highest.
    """

    values: Mapping[Column, Sequence[str | None]] = field(default_factory=dict)
    lowest: Decimal | None = None
    highest: Decimal | None = None

    def where(self) -> tuple[str, list[object]]:
        """Return the condition on customer_360_profile, and what is bound to its `?`."""
        conditions: list[str] = []
        bound: list[object] = []
        for column, chosen in self.values.items():
            if not chosen:
                continue
            known = [value for value in chosen if value is not None]
            either = [f"customer_360_profile.{column} in ({', '.join('?' * len(known))})"] if known else []
            if None in chosen:
                either.append(f"customer_360_profile.{column} is null")
            conditions.append(f"({' or '.join(either)})")
            bound += known
        for sign, bound_of in ((">=", self.lowest), ("<=", self.highest)):
            if bound_of is not None:
                conditions.append(f"customer_360_profile.lifetime_value {sign} cast(? as decimal(18, 2))")
                bound.append(bound_of)
        return "\n    and ".join(conditions) or "true", bound

    def described(self) -> dict[str, object]:
        """Return what is chosen, for the log of the screens."""
        told: dict[str, object] = {column: list(chosen) for column, chosen in self.values.items() if chosen}
        limits = {"lifetime_value_from": self.lowest, "lifetime_value_to": self.highest}
        return told | {name: str(value) for name, value in limits.items() if value is not None}


@dataclass(frozen=True)
class Choices:
    """What there is to choose from.

    :param values: by column, in alphabetical order, None last where customers have no value.
    :param highest: the highest lifetime value, in dollars.
    """

    values: Mapping[Column, Sequence[str | None]]
    highest: Decimal


def choices(warehouse: Warehouse, state: State) -> Choices:
    """Return them, read once by each reader, whose rights they are, as long as what is published is the same."""
    return _choices(warehouse, state)


@st.cache_data(scope="session", max_entries=2, show_spinner=False)
def _choices(_warehouse: Warehouse, state: State) -> Choices:
    found = _warehouse.frame(query("chosen/choices"))
    values: dict[Column, Sequence[str | None]] = {}
    for column in WITHOUT:
        known = sorted({str(value) for value in found[column] if not is_missing(value)})
        values[column] = [*known, *([None] if found[column].isna().any() else [])]
    highest = found.highest_lifetime_value.max()
    return Choices(values, Decimal(0) if is_missing(highest) else Decimal(str(highest)))


def name_of(column: Column, value: object) -> str:
    """Return how a value is shown."""
    return WITHOUT[column] if is_missing(value) else str(value)


def choose_risk() -> None:
    """Show where churn risk will be chosen."""
    # A disabled widget's own label is too pale to read.
    with st.container(gap="xxsmall"):
        st.markdown(":small[Churn risk]")
        st.selectbox("Churn risk", [NOT_YET_MODELLED], disabled=True, label_visibility="collapsed")


def figures_of(warehouse: Warehouse, chosen: Chosen, metrics: Sequence[str], by: Sequence[str] = ()) -> pd.DataFrame:
    """Return metrics of the customers who are chosen, cut by columns of the profile; without any, one row.

    The metrics are those of the semantic definitions; what is chosen may be a lifetime value, which is no dimension.
    """
    conditions, bound = chosen.where()
    cut = [f"customer_360_profile.{column}" for column in by]
    columns = [*cut, *(f"{semantics().expression(metric)} as {metric}" for metric in metrics)]
    sql = query("chosen/figures").format(columns=",\n    ".join(columns), conditions=conditions)
    if cut:
        sql += f"group by\n    {', '.join(cut)}\norder by\n    {', '.join(f'{column} nulls last' for column in cut)}"
    return warehouse.frame(sql, bound)


def bin_width(highest: float) -> int:
    """Return a width in dollars, 1, 2 or 5 times a power of 10, that cuts 0 to `highest` into BINS steps or fewer."""
    least = max(highest / BINS, 1)
    power = 10 ** math.floor(math.log10(least))
    # The highest value begins a bin of its own when it lies on an edge.
    return int(next(step * power for step in (1, 2, 5, 10) if highest // (step * power) < BINS))
