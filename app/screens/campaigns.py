"""Page Campaigns: what was decided last, what waves changed, who would be next, and what one would bring."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

import pandas as pd
import streamlit as st

from app import charts
from app.chosen import Chosen, Column, choices, choose_risk, name_of
from app.figures import figures, label_of, written_figure
from app.formats import NOTHING, day, is_missing, moment, plain, written, yes_or_no
from app.header import show_header, show_nothing_there
from app.list_export import offer_list
from app.page import show_page
from app.published import State, Warehouse, query
from app.reader import Reader
from app.simulator import Lift, Plan, contacted, outcome, verdict
from app.tables import show_texts
from include.customer_360.catalog import Campaign, CatalogError, load_catalog
from include.customer_360.dbt_vars import dbt_vars
from include.customer_360.semantics import Filter

FUNNEL = (
    "audience_eligible",
    "audience_suppressed",
    "audience_capped",
    "audience_outranked",
    "audience_over_limit",
    "audience_held_out",
    "audience_exported",
)
SHARED_TEMPLATE = "exports/_eligible.sql"
WAVES_SHOWN = 12
REASONS_SHOWN = 15
EVERYBODY = "All"
MEASURED = "Expected, as measured"
ASSUMED = "Expected, by assumption"
OPEN_ACCOUNT = (
    "(customer_360_profile.account_closed_date is null"
    " or customer_360_profile.account_closed_date > customer_360_profile.as_of_date)",
    "(customer_360_profile.deceased_date is null"
    " or customer_360_profile.deceased_date > customer_360_profile.as_of_date)",
)


@dataclass(frozen=True)
class MeasuredLift:
    """A lift, and which wave's it is."""

    lift: Lift
    of: str


@st.cache_resource(show_spinner=False)
def campaigns() -> Mapping[str, Campaign]:
    """Return the campaigns by name, read once.

    :raises CatalogError: when one cannot be used.
    """
    return {campaign.name: campaign for campaign in load_catalog().campaigns}


def show(warehouse: Warehouse, reader: Reader) -> None:
    """Show the page."""
    state = show_header("Campaigns", warehouse)
    try:
        named = campaigns()
    except CatalogError as wrong:
        st.error(str(wrong))
        return
    if not named:
        show_nothing_there("There is no campaign: `make new-campaign NAME=...` writes one (docs/campaigns.md).")
        return
    campaign = named[st.selectbox("Campaign", list(named), format_func=lambda name: named[name].label)]
    show_settings(campaign)
    decided = warehouse.frame(query("campaigns/decided"), [campaign.name]).iloc[0]
    show_last_audience(warehouse, campaign, decided.last_decided)
    show_entered_and_left(warehouse, campaign)
    results = warehouse.frame(query("campaigns/results"), [campaign.name])
    show_results(results, decided.first_wave)
    show_next_wave(warehouse, campaign, decided.last_decided)
    show_simulator(warehouse, reader, state, campaign, results)


def show_settings(campaign: Campaign) -> None:
    """Say what the campaign is."""
    st.write(plain(f"{campaign.description.rstrip('.')}. Owner: {campaign.owner}."))
    eligible = " and ".join(campaign.eligibility) or "as its own template says"
    held_out = written(campaign.holdout_share * 100, "percent")
    st.caption(
        plain(
            f"Eligible: {eligible}. Order: {campaign.order}. Limit: {written(campaign.limit, 'count')}. "
            f"Held out: {held_out}. Priority: {campaign.priority}. Consent: {campaign.purpose}."
        )
    )


def show_last_audience(warehouse: Warehouse, campaign: Campaign, last_decided: object) -> None:
    """Show to which end each eligible customer came, the last time that it was decided."""
    st.subheader("Last audience")
    if is_missing(last_decided):
        show_nothing_there("Nothing has been decided for this campaign yet. The next night with exports does.")
        return
    decided_for = pd.Timestamp(last_decided).date()
    counts = figures(
        warehouse,
        [*FUNNEL, "audience_entered"],
        where=[Filter("campaign", "=", campaign.name), Filter("as_of_date", "=", decided_for)],
    ).iloc[0]
    funnel = pd.DataFrame({"end": [label_of(name) for name in FUNNEL], "customers": [counts[name] for name in FUNNEL]})
    st.altair_chart(charts.bars(funnel, "end", "customers", "count", title="Customers"))
    ends = " + ".join(f"{written_figure(name, counts[name])} {label_of(name).lower()}" for name in FUNNEL[1:])
    st.caption(
        f"Decided for {day(decided_for)}: {written_figure(FUNNEL[0], counts[FUNNEL[0]])} eligible = {ends}. "
        f"{written_figure('audience_entered', counts.audience_entered)} of the exported and held out entered."
    )
    show_left_out(warehouse, campaign, decided_for)
    for each in warehouse.frame(query("campaigns/exports_of_date"), [campaign.name, decided_for]).itertuples():
        if each.state == "exported":
            st.caption(
                f"Destination {each.destination}: exported {moment(each.finished_at)}, customers in the file: "
                f"{written(each.exported, 'count')}."
            )
        else:
            why = "" if is_missing(each.reason) else f": {each.reason}"
            st.warning(plain(f"Destination {each.destination}: {each.state}{why}"))


def show_left_out(warehouse: Warehouse, campaign: Campaign, decided_for: object) -> None:
    """Show who of the eligible was left out, by reason."""
    st.markdown("#### Left out, by reason")
    left_out = warehouse.frame(query("campaigns/left_out"), [campaign.name, decided_for])
    if left_out.empty:
        show_nothing_there("Nobody who was eligible was left out.")
        return
    shown = left_out.head(REASONS_SHOWN)
    show_texts(
        pd.DataFrame(
            {
                "End": [label_of(f"audience_{status}") for status in shown.status],
                "Reason": [NOTHING if is_missing(reason) else reason for reason in shown.reason],
                "Customers": [written(customers, "count") for customers in shown.customers],
            }
        )
    )
    if len(left_out) > len(shown):
        rest = left_out.customers[REASONS_SHOWN:]
        st.caption(f"{written(rest.sum(), 'count')} customers more, of {len(rest)} rarer reasons.")


def show_entered_and_left(warehouse: Warehouse, campaign: Campaign) -> None:
    """Show who entered and left the files over time."""
    st.subheader("Entered and left")
    destinations = [destination.name for destination in campaign.destinations]
    destination = destinations[0] if len(destinations) == 1 else st.selectbox("Destination", destinations)
    found = warehouse.frame(query("campaigns/entered_and_left"), [campaign.name, destination])
    if found.empty:
        show_nothing_there(f"Nothing has been exported to {destination} yet.")
        return
    over_time = found.rename(columns={"entered": "Entered", "left_audience": "Left"}).melt(
        "as_of_date", var_name="change", value_name="customers"
    )
    st.altair_chart(
        charts.lines(over_time, "as_of_date", "customers", "count", series="change", title="Customers", x_title="Date")
    )
    with st.expander("Entered and left, as a table"):
        show_texts(
            pd.DataFrame(
                {
                    "Date": [day(pd.Timestamp(date).date()) for date in found.as_of_date],
                    "Entered": [written(value, "count") for value in found.entered],
                    "Left": [written(value, "count") for value in found.left_audience],
                }
            ).iloc[::-1]
        )


def show_results(results: pd.DataFrame, first_wave: object) -> None:
    """Show what the waves changed, with the interval of each, for one horizon."""
    st.subheader("Measured lift")
    if results.empty:
        days: list[int] = sorted(dbt_vars()["campaign_horizon_days"])
        told = f"No result before the horizon is over: a wave has one {', '.join(map(str, days))} days after it."
        if not is_missing(first_wave):
            began = pd.Timestamp(first_wave).date()
            due = began + datetime.timedelta(days=days[0])
            told += f" The first wave was on {day(began)}, its first result is of {day(due)}."
        show_nothing_there(told)
        return
    horizons = sorted(int(each) for each in results.horizon_days.unique())
    horizon = horizons[0] if len(horizons) == 1 else st.selectbox("Days after the wave", horizons)
    of_horizon = results[results.horizon_days == horizon]
    shown = of_horizon.head(WAVES_SHOWN)
    drawn = shown.dropna(subset=["lift"]).copy()
    drawn["wave"] = [day(pd.Timestamp(date).date()) for date in drawn.wave_date]
    if drawn.empty:
        show_nothing_there("No wave has two customers in each group, which a lift takes.")
    else:
        title = f"Lift in {horizon} days, per customer"
        st.altair_chart(charts.intervals(drawn, "wave", "lift", "lift_low", "lift_high", "usd", title))
    st.caption(
        f"What a customer spent more in the {horizon} days after the wave for being contacted, against those held out, "
        "with the 95 % interval. The dashed line is no effect."
        + (f" The last {WAVES_SHOWN} of {len(of_horizon)} waves." if len(of_horizon) > WAVES_SHOWN else "")
    )
    st.dataframe(
        pd.DataFrame(
            {
                "Wave": [day(pd.Timestamp(date).date()) for date in shown.wave_date],
                "Treated": [written(value, "count") for value in shown.treated_customers],
                "Held out": [written(value, "count") for value in shown.held_out_customers],
                "Lift": [written(value, "usd") for value in shown.lift],
                "95 % interval": [_interval(each.lift_low, each.lift_high) for each in shown.itertuples()],
                "Lift, percent": [written(value, "percent") for value in shown.lift_pct],
                "Significant": [yes_or_no(value) for value in shown.is_significant],
                "Detectable": [written(value, "usd") for value in shown.minimum_detectable_effect],
            }
        ),
        hide_index=True,
        alt=f"Measured lift by wave, {horizon} days after it",
    )


def _interval(low: float | None, high: float | None) -> str:
    return NOTHING if is_missing(low) or is_missing(high) else f"{written(low, 'usd')} to {written(high, 'usd')}"


def show_next_wave(warehouse: Warehouse, campaign: Campaign, last_decided: object) -> None:
    """Show who would be eligible by the profile as it is now."""
    st.subheader("Next wave")
    by_the_night = (
        "The night then takes out who must not be written to, who was contacted too short a time ago and whom another "
        "campaign has. How many are left, a dry run of campaign_exports in Airflow counts, and writes nothing "
        "(docs/campaigns.md)."
    )
    if campaign.template != SHARED_TEMPLATE:
        show_nothing_there(
            f"Who is eligible, include/sql/{campaign.template} says, which is not run here. A dry run of "
            "campaign_exports in Airflow counts it, and writes nothing (docs/campaigns.md)."
        )
        return
    decided_for = None if is_missing(last_decided) else pd.Timestamp(last_decided).date()
    conditions = "\n        and ".join(campaign.conditions)
    counts = warehouse.frame(
        query("campaigns/preview").format(conditions=conditions), [campaign.name, decided_for]
    ).iloc[0]
    first, second, third = st.columns(3)
    first.metric("Eligible now", written(counts.eligible, "count"))
    second.metric("In the audience already", written(counts.in_the_audience, "count"))
    third.metric("Would be new", written(counts.eligible - counts.in_the_audience, "count"))
    st.caption(by_the_night)


def measured_lifts(results: pd.DataFrame) -> list[MeasuredLift]:
    """Return the lifts that there are, that of the largest wave first, of it the longest horizon."""
    there = results.dropna(subset=["lift"]).sort_values(
        ["treated_customers", "horizon_days", "wave_date"], ascending=False
    )
    return [
        MeasuredLift(
            Lift(
                float(each.lift),
                None if is_missing(each.lift_low) else float(each.lift_low),
                None if is_missing(each.lift_high) else float(each.lift_high),
            ),
            f"Measured: wave of {day(pd.Timestamp(each.wave_date).date())}, {each.horizon_days} days, "
            f"{written(each.treated_customers, 'count')} customers",
        )
        for each in there.itertuples()
    ]


def show_simulator(
    warehouse: Warehouse, reader: Reader, state: State, campaign: Campaign, results: pd.DataFrame
) -> None:
    """Show what contacting some customers would bring and cost, and offer their list."""
    st.subheader("Simulator")
    chosen = choose(warehouse, state)
    conditions, bound = chosen.where()
    reachable = " and ".join((f"customer_360_profile.{campaign.consent_column} = true", *OPEN_ACCOUNT))
    counts = warehouse.frame(
        query("campaigns/reachable").format(reachable=reachable, conditions=conditions), bound
    ).iloc[0]
    first, second, third, fourth = st.columns(4)
    limit = first.number_input("At most so many customers", 1, value=campaign.limit)
    contact_cost = second.number_input("Cost per contact, in dollars", 0.0, value=1.0, step=0.1)
    offer_cost = third.number_input("Offer per customer, in dollars", 0.0, value=10.0, step=1.0)
    margin = fourth.number_input("Assumption: margin, in %", 0.0, 100.0, value=20.0, step=1.0)
    lift, source = choose_lift(results)
    plan = Plan(contacted(int(counts.reachable), campaign.holdout_share, int(limit)), contact_cost, offer_cost, margin)
    st.caption(
        f"{written(counts.chosen, 'count')} customers are chosen, {written(counts.reachable, 'count')} of them agreed "
        f"({campaign.consent_column}) and have an open account, {written(plan.customers, 'count')} would be contacted: "
        "the others are held out or over the limit. Suppression list, addresses and caps are applied by the night."
    )
    show_outcome(plan, lift, source)
    st.markdown("#### List")
    st.caption(
        "The customers chosen who agreed and have an open account. It is for looking at, no audience: whom to write to "
        "is what the night exports, without the held out and whoever is suppressed or capped."
    )
    offer_list(
        warehouse,
        reader,
        state,
        "campaigns",
        {**chosen.described(), "consent": campaign.consent_column},
        f"{conditions}\n    and {reachable}",
        bound,
    )


def choose(warehouse: Warehouse, state: State) -> Chosen:
    """Show whom one can choose, and return who is chosen."""
    there = choices(warehouse, state)
    first, second, third, fourth = st.columns(4)

    def one(place: st.delta_generator.DeltaGenerator, label: str, column: Column) -> list[str | None]:
        values = there.values[column]
        number = place.selectbox(
            label,
            range(len(values) + 1),
            format_func=lambda each: name_of(column, values[each - 1]) if each else EVERYBODY,
        )
        return [values[number - 1]] if number else []

    segment = one(first, "Segment", "customer_segment")
    with second:
        choose_risk()
    card = one(third, "Card", "card_type")
    lowest = fourth.number_input("Lifetime value from, in dollars", 0, value=0, step=1000)
    return Chosen({"customer_segment": segment, "card_type": card}, Decimal(lowest) if lowest else None)


def choose_lift(results: pd.DataFrame) -> tuple[Lift, str]:
    """Show which lift is expected, measured ones first, and return it with MEASURED or ASSUMED."""
    measured = measured_lifts(results)
    number = st.selectbox(
        "Expected lift",
        range(len(measured) + 1),
        format_func=lambda each: measured[each].of if each < len(measured) else "Assumption",
    )
    if number < len(measured):
        lift = measured[number].lift
        st.caption(
            plain(
                f"{measured[number].of}: {written(lift.value, 'usd')} per customer, 95 % interval "
                f"{_interval(lift.low, lift.high)}. It was measured on this campaign's audience; other customers may "
                "respond otherwise."
            )
        )
        return lift, MEASURED
    if not measured:
        st.caption("This campaign has no measured lift yet, so that what follows rests on an assumption.")
    return Lift(st.number_input("Assumption: a customer spends more, in dollars", value=0.0, step=1.0)), ASSUMED


def show_outcome(plan: Plan, lift: Lift, source: str) -> None:
    """Show what a plan brings at a lift, measured or assumed, and at the ends of its interval."""
    at = {source: outcome(plan, lift.value), "Low": outcome(plan, lift.low), "High": outcome(plan, lift.high)}
    rows = {"Additional spend": "spend", "Margin on it, by assumption": "margin", "Net": "net"}
    table = {
        label: {row: NOTHING if each is None else written(getattr(each, name), "usd") for row, name in rows.items()}
        for label, each in at.items()
    }
    first, second, third, fourth = st.columns(4)
    first.metric("Would be contacted", written(plan.customers, "count"))
    second.metric("Cost", written(plan.cost, "usd"))
    third.metric("Expected net", table[source]["Net"])
    fourth.metric("Break-even lift per customer", written(plan.break_even_lift, "usd"))
    show_texts(pd.DataFrame(table).reset_index(names="In dollars"))
    st.caption(f"{verdict(plan, lift)} Low and high are the ends of the lift's 95 % interval.")


show_page(show)
