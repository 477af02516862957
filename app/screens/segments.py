"""Page Segments: customers by segment, state, card and value, how they are distributed, and who they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

import pandas as pd
import streamlit as st

from app import charts
from app.chosen import Choices, Chosen, Column, bin_width, choices, choose_risk, figures_of, name_of
from app.figures import label_of, show_figure, written_figure
from app.formats import NOTHING, is_missing, plain, written
from app.header import show_header, show_not_yet_modelled, show_nothing_there
from app.list_export import offer_list
from app.page import show_page
from app.published import State, Warehouse, query
from app.reader import Reader
from app.tables import ROWS_SHOWN, show_texts

KPIS = (("customers", "total_lifetime_value"), ("average_lifetime_value", "spend_change", "active_share"))
BY_SEGMENT = ("customers", "average_lifetime_value", "average_monthly_spend", "spend_change", "active_share")
RECENCY = ("Active (30 days)", "Recent (60 days)", "At Risk (90 days)", "Inactive (90+ days)")
BARS_SHOWN = 10


def show(warehouse: Warehouse, reader: Reader) -> None:
    """Show the page."""
    state = show_header("Segments", warehouse)
    there = choices(warehouse, state)
    chosen = choose(there)
    kpis = figures_of(warehouse, chosen, [name for row in KPIS for name in row]).iloc[0]
    show_kpis(kpis)
    if not kpis.customers:
        show_nothing_there("No customer is chosen by these filters. Take one of them away.")
        return
    show_sizes(warehouse, chosen)
    show_recency(warehouse, chosen)
    show_values(warehouse, chosen, there)
    show_customers(warehouse, reader, state, chosen, int(kpis.customers))


def choose(there: Choices) -> Chosen:
    """Show the filters, and return what is chosen."""
    st.subheader("Filters")
    first, second = st.columns(3), st.columns(3)
    with first[0]:
        segments = _several("Segment", "customer_segment", there)
    with first[1]:
        states = _several("State", "state", there)
    with first[2]:
        cards = _several("Card", "card_type", there)
    with second[0]:
        lowest = st.number_input("Lifetime value from, in dollars", 0, value=None, step=1000, placeholder="No limit")
    with second[1]:
        highest = st.number_input("Lifetime value to, in dollars", 0, value=None, step=1000, placeholder="No limit")
    with second[2]:
        choose_risk()
    show_not_yet_modelled("Churn risk", "churn_risk_category")
    return Chosen(
        {"customer_segment": segments, "state": states, "card_type": cards},
        None if lowest is None else Decimal(lowest),
        None if highest is None else Decimal(highest),
    )


def _several(label: str, column: Column, there: Choices) -> Sequence[str | None]:
    return st.multiselect(
        label, there.values[column], format_func=lambda value: name_of(column, value), placeholder="All"
    )


def show_kpis(kpis: pd.Series) -> None:
    """Show the figures of all who are chosen."""
    for row in KPIS:
        for column, name in zip(st.columns(len(row)), row, strict=True):
            with column:
                show_figure(name, kpis[name])


def show_sizes(warehouse: Warehouse, chosen: Chosen) -> None:
    """Show how many customers each segment, state and card has."""
    st.subheader("Sizes")
    by_segment = _by(warehouse, chosen, "customer_segment", BY_SEGMENT)
    st.altair_chart(charts.bars(by_segment, "name", "customers", "count", title="Customers by segment"))
    show_texts(
        pd.DataFrame(
            {
                "Segment": by_segment.name,
                **{label_of(name): [written_figure(name, value) for value in by_segment[name]] for name in BY_SEGMENT},
            }
        )
    )
    titles: Mapping[Column, str] = {"state": "Customers by state", "card_type": "Customers by card"}
    for place, (column, title) in zip(st.columns(2), titles.items(), strict=True):
        found = _by(warehouse, chosen, column, ("customers",))
        with place:
            st.altair_chart(charts.bars(found.head(BARS_SHOWN), "name", "customers", "count", title=title))
            st.caption(
                f"{title}, the {BARS_SHOWN} largest of {written(len(found), 'count')}."
                if len(found) > BARS_SHOWN
                else f"{title}."
            )
            with st.expander(f"{title}, as a table"):
                show_texts(
                    pd.DataFrame(
                        {
                            title.removeprefix("Customers by ").capitalize(): found.name,
                            "Customers": [written(value, "count") for value in found.customers],
                        }
                    )
                )


def _by(warehouse: Warehouse, chosen: Chosen, column: Column, metrics: Sequence[str]) -> pd.DataFrame:
    """Return the figures by a column, the value's name in column `name`, largest first."""
    found = figures_of(warehouse, chosen, metrics, by=[column])
    found["name"] = [name_of(column, value) for value in found[column]]
    return found.sort_values(["customers", "name"], ascending=[False, True])


def show_recency(warehouse: Warehouse, chosen: Chosen) -> None:
    """Show how long ago the customers of each segment had their last transaction."""
    st.subheader("Segment and recency")
    found = figures_of(warehouse, chosen, ["customers"], by=["customer_segment", "recency_status"])
    found["segment"] = [name_of("customer_segment", value) for value in found.customer_segment]
    shown = found.pivot_table(
        index="segment", columns="recency_status", values="customers", aggfunc="sum", fill_value=0
    )
    shown = shown.reindex(columns=[status for status in RECENCY if status in shown.columns])
    cells = shown.reset_index().melt("segment", var_name="recency", value_name="customers")
    cells["recency"] = cells.recency.str.partition(" (")[0]
    order = [status.partition(" (")[0] for status in RECENCY]
    st.altair_chart(
        charts.heat_map(cells, "recency", "segment", "customers", "count", "Last transaction", "Segment", x_order=order)
    )
    st.caption(
        "Customers by the days since their last transaction: Active up to 30, Recent up to 60, At Risk up to 90, "
        "Inactive more, or none ever."
    )
    with st.expander("Segment and recency, as a table"):
        show_texts(shown.map(lambda value: written(value, "count")).reset_index(names="Segment"))


def show_values(warehouse: Warehouse, chosen: Chosen, there: Choices) -> None:
    """Show how lifetime value is distributed."""
    st.subheader("Lifetime value")
    width = bin_width(float(there.highest))
    conditions, bound = chosen.where()
    found = warehouse.frame(query("chosen/bins").format(conditions=conditions), [width, *bound])
    counted = {int(each): int(customers) for each, customers in zip(found.bin, found.customers, strict=True)}
    bins = pd.DataFrame(
        [(number * width, counted.get(number, 0)) for number in range(min(counted), max(counted) + 1)],
        columns=["lifetime_value_from", "customers"],
    )
    bins["lifetime_value"] = [
        f"{written(low, 'usd', 0)} to {written(low + width, 'usd', 0)}" for low in bins.lifetime_value_from
    ]
    st.altair_chart(charts.histogram(bins, "lifetime_value_from", "customers", "Lifetime value from", "usd"))
    st.caption(
        plain(f"Customers by lifetime value, in steps of {written(width, 'usd', 0)}, each without its upper end.")
    )
    with st.expander("Lifetime value, as a table"):
        show_texts(
            pd.DataFrame(
                {
                    "Lifetime value": bins.lifetime_value,
                    "Customers": [written(each, "count") for each in bins.customers],
                }
            )
        )


def show_customers(warehouse: Warehouse, reader: Reader, state: State, chosen: Chosen, customers: int) -> None:
    """Show the customers with the highest lifetime value, and offer the list of all who are chosen.

    Who is shown here is not written down, and so has no name, whoever looks.
    """
    st.subheader("Customers")
    conditions, bound = chosen.where()
    found = warehouse.frame(query("chosen/customers").format(conditions=conditions), [*bound, ROWS_SHOWN])
    shown = pd.DataFrame({"Customer": found.customer_id})
    for label, column in (("Segment", "customer_segment"), ("State", "state"), ("Card", "card_type")):
        shown[label] = _texts(found[column])
    shown["Last transaction"] = _texts(found.recency_status)
    numbers = {
        "Lifetime value": ("lifetime_value", "usd"),
        "Spend, last 90 days": ("spend_last_90_days", "usd"),
        "Spend change": ("spend_change_pct", "percent"),
    }
    for label, (column, unit) in numbers.items():
        shown[label] = [written(value, unit) for value in found[column]]
    st.dataframe(
        shown,
        hide_index=True,
        column_config={label: st.column_config.TextColumn(label, alignment="right") for label in numbers},
        alt="Customers, highest lifetime value first",
    )
    st.caption(
        f"{written(len(found), 'count')} of {written(customers, 'count')} customers, highest lifetime value first."
        + (f" No more than {written(ROWS_SHOWN, 'count')} are shown." if customers > ROWS_SHOWN else "")
    )
    offer_list(warehouse, reader, state, "segments", chosen.described(), conditions, bound)


def _texts(values: pd.Series) -> list[str]:
    return [NOTHING if is_missing(value) else str(value) for value in values]


show_page(show)
