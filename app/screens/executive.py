"""Page Executive: how many customers, what they are worth, how that moves."""

from __future__ import annotations

import datetime

import pandas as pd
import streamlit as st

from app import charts
from app.chosen import NO_SEGMENT
from app.figures import figures, label_of, show_figure, written_figure
from app.formats import day, is_missing, moment, written
from app.header import show_header, show_not_yet_modelled, show_nothing_there
from app.page import show_page
from app.published import State, Warehouse, query
from app.reader import Reader
from app.tables import show_texts
from include.customer_360.semantics import Filter

COMPARED_DAYS = 30
KPIS = (
    "customers",
    "total_lifetime_value",
    "average_lifetime_value",
    "average_transaction_value",
    "spend_change",
    "active_share",
    "retention_rate",
)
BY_SEGMENT = ("customers", "average_lifetime_value", "average_transaction_value", "spend_change")
COHORTS_SHOWN = 18


def show(warehouse: Warehouse, reader: Reader) -> None:
    """Show the page."""
    state = show_header("Executive", warehouse)
    show_last_night(warehouse)
    show_kpis(warehouse, state)
    show_segments(warehouse)
    show_segments_over_time(warehouse)
    show_cohorts(warehouse)
    st.subheader("Value at risk")
    show_not_yet_modelled("Predicted spend times the probability of churn", "churn_risk_score")


def show_last_night(warehouse: Warehouse) -> None:
    """Say when the last good night ended, and how many of its checks held."""
    found = warehouse.frame(query("nights/checks_of_last"))
    if found.empty:
        show_nothing_there("No night has been recorded yet: the next one is.")
        return
    night = found.iloc[0]
    st.caption(
        f"Last good night: for {day(pd.Timestamp(night.as_of_date).date())}, ended {moment(night.ended_at)}, "
        f"{written(int(night.passed), 'count')} of {written(int(night.checks), 'count')} checks passed"
    )


def show_kpis(warehouse: Warehouse, state: State) -> None:
    """Show the KPIs with their change since COMPARED_DAYS before, of the newest day then that history has."""
    now = figures(warehouse, KPIS).iloc[0]
    wanted = state.as_of_date - datetime.timedelta(days=COMPARED_DAYS)
    [found] = warehouse.frame(query("executive/date_before"), [wanted]).as_of_date
    before = None
    if not is_missing(found):
        compared_with = pd.Timestamp(found).date()
        before = figures(
            warehouse,
            [f"{name}_on_date" for name in KPIS],
            where=[Filter("as_of_date", "=", compared_with)],
        ).iloc[0]
    for row in (KPIS[:2], KPIS[2:4], KPIS[4:]):
        for column, name in zip(st.columns(len(row)), row, strict=True):
            with column:
                show_figure(name, now[name], None if before is None else before[f"{name}_on_date"])
    if before is None:
        st.caption(f"No change is shown: history has no day {COMPARED_DAYS} days before or earlier.")
    else:
        st.caption(f"Changes are since {day(compared_with)}.")


def show_segments(warehouse: Warehouse) -> None:
    """Show the segments as they are now, as a chart and as a table."""
    st.subheader("Segments")
    by_segment = figures(warehouse, BY_SEGMENT, by=["customer_segment"])
    by_segment["customer_segment"] = by_segment.customer_segment.fillna(NO_SEGMENT)
    by_segment = by_segment.sort_values("customers", ascending=False)
    st.altair_chart(charts.bars(by_segment, "customer_segment", "customers", "count", title="Customers"))
    show_texts(
        pd.DataFrame(
            {
                "Segment": by_segment.customer_segment,
                **{label_of(name): [written_figure(name, value) for value in by_segment[name]] for name in BY_SEGMENT},
            }
        )
    )


def show_segments_over_time(warehouse: Warehouse) -> None:
    """Show how many customers each segment had on each day that history has."""
    st.subheader("Segments over time")
    over_time = figures(warehouse, ["customers_on_date"], by=["as_of_date", "customer_segment"])
    if over_time.as_of_date.nunique() < 2:
        show_nothing_there("History has one day so far. From the second night on, the segments are drawn over time.")
        return
    over_time["customer_segment"] = over_time.customer_segment.fillna(NO_SEGMENT)
    st.altair_chart(
        charts.lines(
            over_time, "as_of_date", "customers_on_date", "count", series="customer_segment", title="Customers"
        )
    )


def show_cohorts(warehouse: Warehouse) -> None:
    """Show, by the month of the first transaction, the share of customers that spent in each later month."""
    st.subheader("Retention by first month")
    cohorts = warehouse.frame(query("executive/retention_cohorts"))
    if cohorts.empty:
        show_nothing_there("No customer has a whole month yet.")
        return
    cohorts["cohort"] = pd.to_datetime(cohorts.cohort)
    newest = sorted(cohorts.cohort.unique())[-COHORTS_SHOWN:]
    shown = cohorts[cohorts.cohort.isin(newest)].copy()
    shown["first_month"] = shown.cohort.dt.strftime("%b %Y")
    st.altair_chart(
        charts.heat_map(
            shown, "months_later", "first_month", "still_spending_pct", "percent", "Months later", "First month"
        )
    )
    st.caption("Share of a month's new customers, in percent, that spent in the months after. Complete months only.")
    with st.expander("As a table"):
        table = shown.pivot(index="first_month", columns="months_later", values="still_spending_pct")
        table = table.loc[list(dict.fromkeys(shown.first_month))]
        st.dataframe(table.map(lambda value: written(value, "percent")))


show_page(show)
