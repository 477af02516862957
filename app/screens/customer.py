"""Page Customer: one person, found by who may look, and written down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from app import charts
from app.chosen import NO_SEGMENT
from app.facts import show_facts
from app.formats import NOTHING, day, is_missing, plain, written, yes_or_no
from app.header import show_header, show_not_yet_modelled, show_nothing_there
from app.look_up import LISTED, View, choose, follow, look_up
from app.next_action import CAMPAIGNS, has_come, next_actions
from app.page import show_page
from app.published import Warehouse, query
from app.reader import Reader
from app.screens_log import NotLogged
from app.tables import show_table

VIEW = "customer_view"
SEARCHED = "customer_searched"
CHOSEN = "customer_chosen"
# The parameter of the page's address that names a customer.
LINK = "customer"

MEMBERSHIPS_SHOWN = 100
MONTHS_DRAWN = 12


def show(warehouse: Warehouse, reader: Reader) -> None:
    """Show the page."""
    show_header("Customer", warehouse)
    try:
        opened = looked_up(warehouse, reader)
    except NotLogged as error:
        forget()
        st.query_params.pop(LINK, None)
        st.error(str(error))
        return
    if opened:
        show_customer(warehouse, opened)


def looked_up(warehouse: Warehouse, reader: Reader) -> str:
    """Return who is shown, empty for nobody; what was looked up stays so while the reader stays on the page.

    :raises NotLogged: when a look-up cannot be written down.
    """
    # Streamlit forgets what stands in a field when its page is left.
    if SEARCHED not in st.session_state or (VIEW in st.session_state and not st.session_state[VIEW].is_of(reader)):
        forget()
    with st.form("find", border=False):
        personal_data = reader.role.personal_data
        text = st.text_input(
            "Id, name or e-mail address of the customer" if personal_data else "Id of the customer",
            key=SEARCHED,
            type="search",
        )
        asked = st.form_submit_button("Look up", type="primary")
    st.caption("Every look-up is logged: who, whom, when.")
    view: View | None = st.session_state.get(VIEW)
    linked = st.query_params.get(LINK)
    if asked and text.strip():
        forget()
        view = look_up(warehouse, reader, text)
    elif linked and (view is None or linked != view.opened):
        forget()
        view = follow(warehouse, reader, linked)
    if view is None:
        return ""
    if view.found:
        view = chosen(warehouse, reader, view)
    if view.why_nobody:
        show_nothing_there(view.why_nobody)
    st.session_state[VIEW] = view
    if view.opened:
        st.query_params[LINK] = view.opened
    else:
        st.query_params.pop(LINK, None)
    return view.opened


def forget() -> None:
    """Forget who was looked up."""
    for key in (VIEW, CHOSEN):
        st.session_state.pop(key, None)


def chosen(warehouse: Warehouse, reader: Reader, view: View) -> View:
    """List whom a text found, and open whom the reader chooses."""
    assert view.found is not None
    listed = view.found.listed
    hits = written(view.found.hits, "count")
    if view.found.hits > LISTED:
        st.info(f"{hits} customers were found, here are the first {LISTED}. Give more of the name, or the id.")
    else:
        st.info(f"{hits} customers were found.")
    show_table(
        listed,
        {"full_name": "Name", "customer_id": "Id", "city": "City", "state": "State"},
        {},
        alt="The customers who were found",
    )
    names = dict(zip(listed.customer_id, listed.full_name, strict=True))
    one = st.selectbox(
        "Show",
        list(names),
        index=None,
        format_func=lambda each: f"{names[each]}, {each}",
        placeholder="Choose a customer",
        key=CHOSEN,
    )
    return choose(warehouse, reader, view, one) if one and one != view.opened else view


def show_customer(warehouse: Warehouse, customer_id: str) -> None:
    """Show one customer."""
    found = warehouse.frame(query("customer/profile"), [customer_id])
    if found.empty:
        show_nothing_there("This customer is no longer among those published.")
        return
    profile = found.astype(object).where(found.notna(), None).iloc[0].to_dict()
    memberships = warehouse.frame(query("customer/memberships"), [customer_id, MEMBERSHIPS_SHOWN])
    name = NOTHING if is_missing(profile["full_name"]) else profile["full_name"]
    st.header(plain(f"{name}, {customer_id}"))
    show_state_of_account(profile)
    show_contact_and_account(profile)
    action, risk = st.columns(2)
    with action:
        show_next_action(profile, memberships)
    with risk:
        show_risk(profile)
    show_spending(warehouse, profile)
    show_periods(warehouse, profile)
    show_campaigns(profile, memberships)
    show_categories(warehouse, profile)


def show_state_of_account(profile: Mapping[str, Any]) -> None:
    """Say first what forbids to write to the customer."""
    if has_come(profile, "deceased_date"):
        st.error(f"The customer died on {day(profile['deceased_date'])}.")
    if has_come(profile, "account_closed_date"):
        st.warning(f"The account was closed on {day(profile['account_closed_date'])}.")
    elif not is_missing(profile["account_closed_date"]):
        st.info(f"The account closes on {day(profile['account_closed_date'])}.")


def show_contact_and_account(profile: Mapping[str, Any]) -> None:
    """Show who the customer is, and what they have."""
    st.subheader("Contact")
    show_facts(
        {
            "Name": text(profile["full_name"]),
            "E-mail address": text(profile["email"]),
            "City": text(profile["city"]),
            "State": text(profile["state"]),
            "Age": written(profile["age"], "count"),
            "Employment": text(profile["employment_status"]),
            "Marketing opt-in": yes_or_no(profile["marketing_opt_in"]),
            "Ads opt-in": yes_or_no(profile["ads_opt_in"]),
        }
    )
    st.subheader("Account")
    show_facts(
        {
            "Card": text(profile["card_type"]),
            "Credit limit": written(profile["credit_limit"], "usd"),
            "Opened": day(profile["account_open_date"]),
            "Age of the account": written(profile["account_age_days"], "days"),
            "Closed": day(profile["account_closed_date"]),
            "Died": day(profile["deceased_date"]),
        }
    )


def show_next_action(profile: Mapping[str, Any], memberships: pd.DataFrame) -> None:
    """Show what the campaigns have decided."""
    st.subheader("Next action")
    for action in next_actions(profile, memberships):
        st.markdown(f"- {plain(action)}")
    st.caption("From the campaigns' decisions of this date. No model recommends anything yet.")


def show_risk(profile: Mapping[str, Any]) -> None:
    """Show how likely the customer is to leave, and why, once a model says so."""
    st.subheader("Risk")
    if is_missing(profile["churn_risk_score"]):
        show_not_yet_modelled("Churn risk and its reasons", "churn_risk_score")
        return
    show_facts(
        {"Churn risk": text(profile["churn_risk_category"]), "Score": written(profile["churn_risk_score"], "count", 4)}
    )


def show_spending(warehouse: Warehouse, profile: Mapping[str, Any]) -> None:
    """Show what the customer spends, and how that moves from month to month."""
    st.subheader("Spending")
    for row in (
        {
            "Lifetime value": written(profile["lifetime_value"], "usd"),
            "Average transaction value": written(profile["avg_transaction_value"], "usd"),
            "Transactions": written(profile["total_transactions"], "count"),
        },
        {
            "Spend, last 90 days": written(profile["spend_last_90_days"], "usd"),
            "Spend change": written(profile["spend_change_pct"], "percent"),
            "Average monthly spend": written(profile["avg_monthly_spend"], "usd"),
        },
    ):
        for column, (label, value) in zip(st.columns(len(row)), row.items(), strict=True):
            column.metric(label, plain(value))
    show_facts(
        {
            "Spending profile": text(profile["spending_profile"]),
            "Travel": written(profile["travel_spend_pct"], "percent"),
            "Necessities": written(profile["necessities_spend_pct"], "percent"),
            "Consistency": text(profile["spending_consistency"]),
            "Median transaction": written(profile["median_transaction_value"], "usd"),
            "First transaction": day(profile["first_transaction_date"]),
            "Last transaction": day(profile["last_transaction_date"]),
        }
    )
    months = warehouse.frame(query("customer/months"), [profile["customer_id"]])
    if months.empty:
        show_nothing_there("The customer has no complete month yet: spend by month begins with the first.")
        return
    drawn = months.tail(MONTHS_DRAWN)
    spend, moved = st.columns(2)
    spend.altair_chart(charts.lines(drawn, "month", "monthly_spend", "usd", title="Spend of the month"))
    compared = drawn[drawn.mom_change_pct.notna()]
    with moved:
        if compared.empty:
            show_nothing_there("No month has one with spend before it to be compared with.")
        else:
            title = "Change from the month before, %"
            st.altair_chart(charts.lines(compared, "month", "mom_change_pct", "percent", title=title))
    st.caption(f"Complete months, the last {MONTHS_DRAWN}; all of them are in the table.")
    with st.expander("Months as a table"):
        show_table(
            months.iloc[::-1],
            {
                "month": "Month from",
                "monthly_spend": "Spend",
                "prior_month_spend": "Month before",
                "mom_change_pct": "Change",
                "mom_trend_category": "Trend",
            },
            {"month": "day", "monthly_spend": "usd", "prior_month_spend": "usd", "mom_change_pct": "percent"},
            alt="Spend by month",
        )


def show_periods(warehouse: Warehouse, profile: Mapping[str, Any]) -> None:
    """Show in which segment the customer was, and how recent their last transaction, from when until when."""
    st.subheader("Segment and recency")
    show_facts(
        {
            "Segment": text(profile["customer_segment"], NO_SEGMENT),
            "Recency": text(profile["recency_status"]),
            "Last transaction before": written(profile["days_since_last_transaction"], "days"),
            "Customer for": NOTHING
            if is_missing(profile["tenure_months"])
            else f"{written(profile['tenure_months'], 'count')} months",
        }
    )
    periods = warehouse.frame(query("customer/periods"), [profile["customer_id"]])
    if periods.empty:
        show_nothing_there("History does not have this customer yet: the next night writes them.")
        return
    for column, kind, label in zip(st.columns(2), ("segment", "recency"), ("Segment", "Recency"), strict=True):
        with column:
            of_kind = periods[periods.kind == kind].copy()
            of_kind["state"] = of_kind.state.fillna(NO_SEGMENT)
            show_table(
                of_kind,
                {"state": label, "from_date": "From", "until_date": "Until"},
                {"from_date": "day", "until_date": "day"},
                alt=f"{label} over time, newest first",
            )
    st.caption("Periods are of the dates that history has, the newest first.")


def show_campaigns(profile: Mapping[str, Any], memberships: pd.DataFrame) -> None:
    """Show for which campaigns the customer is eligible, and what each decided."""
    st.subheader("Campaigns")
    show_facts(
        {f"Eligible for {campaign}": yes_or_no(profile[f"eligible_for_{campaign}_campaign"]) for campaign in CAMPAIGNS}
    )
    if memberships.empty:
        show_nothing_there("No campaign has decided anything about this customer.")
        return
    show_table(
        memberships,
        {
            "as_of_date": "As of",
            "campaign": "Campaign",
            "status": "Decision",
            "reason": "Reason",
            "entered": "Entered",
            "entered_on": "In since",
        },
        {"as_of_date": "day", "entered": "flag", "entered_on": "day"},
        alt="What campaigns decided about the customer, newest first",
    )
    if len(memberships) == MEMBERSHIPS_SHOWN:
        st.caption(f"The newest {MEMBERSHIPS_SHOWN} decisions.")


def show_categories(warehouse: Warehouse, profile: Mapping[str, Any]) -> None:
    """Show what the customer spent on, in the last 90 days."""
    st.subheader("Transactions of the last 90 days")
    categories = warehouse.frame(query("customer/categories"), [profile["customer_id"]])
    if categories.empty:
        show_nothing_there("The customer has no transaction in the last 90 days.")
        return
    st.altair_chart(charts.bars(categories, "merchant_category", "spend", "usd", title="Spend"))
    show_table(
        categories,
        {"merchant_category": "Category", "category_group": "Group", "transactions": "Transactions", "spend": "Spend"},
        {"transactions": "count", "spend": "usd"},
        alt="Spend and transactions by category",
    )


def text(value: object, otherwise: str = NOTHING) -> str:
    """Return a text of the data, or what stands for none."""
    return otherwise if is_missing(value) else str(value)


show_page(show)
