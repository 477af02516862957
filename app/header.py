"""What stands above every page: its title, of which day the figures are, and whether something is the matter."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import pandas as pd
import streamlit as st

from app.formats import day, is_missing, moment
from app.published import State, Warehouse, query
from include.customer_360.as_of_date import BUSINESS_TIME_ZONE, last_complete_business_day
from include.customer_360.settings import load_settings

NOT_YET_MODELLED = "Not yet modelled"


def show_header(title: str, warehouse: Warehouse) -> State:
    """Show them, and return which publication the page is of.

    :raises NotReadable: when nothing is published yet.
    """
    st.title(title)
    state = warehouse.state()
    st.caption(f"As of {day(state.as_of_date)}, published {moment(state.published_at)}")
    now = datetime.datetime.now(datetime.UTC)
    last = last_night(warehouse, state)
    if late := why_stale(state, now, last):
        st.warning(late)
    if last is not None and (failed := why_last_night_failed(last, state)):
        st.error(failed)
    return state


@dataclass(frozen=True)
class Night:
    """The newest run that is not of an earlier date than what is published; times are UTC.

    :param failed_task: empty when none failed.
    """

    as_of_date: datetime.date
    state: str
    failed_task: str
    published: bool
    started_at: datetime.datetime


def last_night(warehouse: Warehouse, state: State) -> Night | None:
    """Return it; None when there is none on record."""
    found = warehouse.frame(query("nights/last"), [state.as_of_date])
    if found.empty:
        return None
    night = found.iloc[0]
    return Night(
        as_of_date=pd.Timestamp(night.as_of_date).date(),
        state=str(night.state),
        failed_task="" if is_missing(night.failed_task) else str(night.failed_task),
        published=not is_missing(night.published) and bool(night.published),
        started_at=pd.Timestamp(night.started_at).to_pydatetime(),
    )


def why_stale(state: State, now: datetime.datetime, last: Night | None) -> str:
    """Return how old the figures are, once those of yesterday should be there; empty while they need not be.

    :param last: the newest run, which may be of before the publication.
    """
    yesterday = last_complete_business_day(now)
    behind = (yesterday - state.as_of_date).days
    due = load_settings().published_by
    new_york = now.astimezone(ZoneInfo(BUSINESS_TIME_ZONE))
    if behind == 1 and (due is None or new_york.time() < due):
        return ""
    if behind < 1:
        return ""
    since = last is not None and not last.published and last.started_at > state.published_at
    return (
        f"These figures are of {day(state.as_of_date)}, {behind} day{'s' if behind > 1 else ''} behind "
        f"{day(yesterday)}. "
        + (
            "The last run since then has published nothing; page Nights has why."
            if since
            else "No run since then has ended: it has not begun, or is still at work."
        )
    )


def why_last_night_failed(night: Night, state: State) -> str:
    """Return that the newest run failed, and what readers see since; empty when it did not."""
    if night.state != "failed":
        return ""
    failed = f"The last run, for {day(night.as_of_date)}, failed{f' in {night.failed_task}' * bool(night.failed_task)}"
    if night.published:
        return f"{failed} after it had published. You see what it published: {day(state.as_of_date)}."
    return f"{failed}. You see what was published before: {day(state.as_of_date)}."


def show_not_yet_modelled(what: str, column: str) -> None:
    """Say that a figure does not exist yet, where it will stand; never a 0 in its place."""
    st.info(f"{what}: {NOT_YET_MODELLED.lower()}. Column {column} is empty until a model fills it.")


def show_nothing_there(what: str) -> None:
    """Say why a place is empty."""
    st.info(what)
