"""Page Nights: how the runs went, what they checked and rejected, and how fresh the sources are."""

from __future__ import annotations

import datetime
from typing import Any
from urllib.parse import quote

import pandas as pd
import streamlit as st

from app import charts
from app.formats import day, is_missing, moment, plain, written
from app.header import show_header, show_not_yet_modelled, show_nothing_there
from app.page import show_page
from app.published import State, Warehouse, query
from app.reader import Reader
from app.tables import show_table
from include.customer_360.settings import load_settings

DAG_ID = "customer_360_refresh"
RUNS_SHOWN = 60
STEPS_DRAWN = 15
DAYS_SHOWN = 30


def show(warehouse: Warehouse, reader: Reader) -> None:
    """Show the page."""
    state = show_header("Nights", warehouse)
    runs = warehouse.frame(query("nights/runs"), [RUNS_SHOWN])
    show_runs(runs)
    if not runs.empty:
        show_run(warehouse, runs)
    show_rejected_rows(warehouse)
    show_freshness(warehouse, state)
    st.subheader("Model versions")
    show_not_yet_modelled("Versions of the models and how good they were", "churn_risk_score")


def show_runs(runs: pd.DataFrame) -> None:
    """Show the newest runs."""
    st.subheader("Runs")
    if runs.empty:
        show_nothing_there("No run is recorded yet: the next night is.")
        return
    runs["seconds"] = (pd.to_datetime(runs.ended_at) - pd.to_datetime(runs.started_at)).dt.total_seconds()
    show_table(
        runs,
        {
            "as_of_date": "For",
            "state": "State",
            "published": "Published",
            "started_at": "Began",
            "seconds": "Took",
            "run_type": "Kind",
            "failed_task": "Failed in",
            "reason": "Reason",
        },
        {"as_of_date": "day", "published": "flag", "started_at": "moment", "seconds": "seconds"},
        alt="Runs, newest first",
    )
    st.caption(f"The newest {RUNS_SHOWN} runs at most. What a run did is below.")


def show_run(warehouse: Warehouse, runs: pd.DataFrame) -> None:
    """Show one run: the newest, or which the reader chooses."""
    by_id = {str(run["dag_run_id"]): run for run in runs.to_dict("records")}
    chosen = st.selectbox(
        "Run",
        list(by_id),
        format_func=lambda each: told(by_id[each]),
    )
    run = by_id[chosen]
    show_state_of_run(run)
    show_steps(warehouse, chosen)
    show_checks(warehouse, chosen)
    show_publications(warehouse, chosen)


def told(run: dict[str, Any]) -> str:
    """Return how a run is called in the list."""
    return f"{day(as_day(run['as_of_date']))}, {run['state']}, began {moment(run['started_at'])}"


def show_state_of_run(run: dict[str, Any]) -> None:
    """Show how a run ended, and where it stands in Airflow."""
    for column, (label, value) in zip(
        st.columns(4),
        {
            "For": day(as_day(run["as_of_date"])),
            "State": run["state"],
            "Took": written(run["seconds"], "seconds"),
            "Published": "yes" if run["published"] is True else "no",
        }.items(),
        strict=True,
    ):
        column.metric(label, plain(value))
    if run["state"] == "failed":
        where = "" if is_missing(run["failed_task"]) else f" in {run['failed_task']}"
        why = "No reason is recorded." if is_missing(run["reason"]) else run["reason"]
        st.error(plain(f"Failed{where}: {why}"))
    address = run_in_airflow(str(run["dag_run_id"]))
    st.link_button("This run in Airflow", address, icon=":material/open_in_new:")
    if not is_missing(run["failed_task"]):
        st.link_button(
            "The failed task in Airflow",
            f"{address}/tasks/{quote(str(run['failed_task']), safe='')}",
            icon=":material/open_in_new:",
        )


def run_in_airflow(dag_run_id: str) -> str:
    """Return the address of a run in Airflow's UI."""
    return f"{load_settings().airflow_url.rstrip('/')}/dags/{DAG_ID}/runs/{quote(dag_run_id, safe='')}"


def show_steps(warehouse: Warehouse, dag_run_id: str) -> None:
    """Show how long each task of a run took."""
    st.subheader("Steps")
    steps = warehouse.frame(query("nights/steps"), [dag_run_id])
    if steps.empty:
        show_nothing_there("No steps of this run are recorded.")
        return
    longest = steps[steps.seconds.notna()].head(STEPS_DRAWN)
    # Without the groups that a task is in, for which a chart has no room; the table has them.
    named = longest.assign(task_id=longest.task_id.str.rpartition(".")[2])
    st.altair_chart(charts.bars(named, "task_id", "seconds", "seconds", title="Seconds"))
    tasks = f"{written(len(steps), 'count')} task" + ("s" if len(steps) != 1 else "")
    st.caption(f"The {STEPS_DRAWN} longest of {tasks}. Tasks run side by side: their times do not add up to the run's.")
    with st.expander("All steps as a table"):
        show_table(
            steps,
            {"task_id": "Task", "state": "State", "started_at": "Began", "seconds": "Took"},
            {"started_at": "moment", "seconds": "seconds"},
            alt="Steps, longest first",
        )


def show_checks(warehouse: Warehouse, dag_run_id: str) -> None:
    """Show how many checks of each mart passed, and those that did not."""
    st.subheader("Checks")
    checks = warehouse.frame(query("nights/checks"), [dag_run_id])
    if checks.empty:
        show_nothing_there("No check of this run is recorded: it ended before its validations, or they are too old.")
        return
    passed = checks.passed.eq(True)
    checks["result"] = passed.map({True: "passed", False: "failed"}).where(
        passed | checks.severity.eq("error"), "warned"
    )
    counted = pd.crosstab(checks.mart, checks.result).reindex(columns=["passed", "warned", "failed"], fill_value=0)
    counted.insert(0, "checks", counted.sum(axis="columns"))
    st.write(
        f"{written(int(passed.sum()), 'count')} of {written(len(checks), 'count')} checks passed, "
        f"{written(int(counted.warned.sum()), 'count')} warned, {written(int(counted.failed.sum()), 'count')} failed."
    )
    show_table(
        counted.reset_index(),
        {"mart": "Mart", "checks": "Checks", "passed": "Passed", "warned": "Warned", "failed": "Failed"},
        dict.fromkeys(("checks", "passed", "warned", "failed"), "count"),
        alt="Checks by mart",
    )
    labels = {
        "mart": "Mart",
        "check_name": "Check",
        "result": "Result",
        "observed": "Observed",
        "expected": "Expected",
    }
    if not passed.all():
        st.write("What did not pass:")
        show_table(checks[~passed], labels, {}, alt="Checks that did not pass")
    with st.expander("All checks as a table"):
        show_table(checks, labels, {}, alt="All checks")


def show_publications(warehouse: Warehouse, dag_run_id: str) -> None:
    """Show what a run published."""
    st.subheader("Published")
    publications = warehouse.frame(query("nights/publications"), [dag_run_id])
    if publications.empty:
        show_nothing_there("This run published nothing.")
        return
    show_table(
        publications,
        {
            "mart": "Mart",
            "as_of_date": "For",
            "row_count": "Rows",
            "lifetime_value": "Lifetime value",
            "published_at": "Published",
        },
        {"as_of_date": "day", "row_count": "count", "lifetime_value": "usd", "published_at": "moment"},
        alt="Marts that the run published",
    )


def show_rejected_rows(warehouse: Warehouse) -> None:
    """Show why rows of the sources could not be used."""
    st.subheader("Rejected rows")
    rejected = warehouse.frame(query("nights/rejected_rows"))
    if rejected.empty:
        show_nothing_there("No row of the sources is rejected.")
        return
    st.altair_chart(charts.bars(rejected, "reason", "row_count", "count", title="Rows"))
    st.caption(
        f"{written(int(rejected.row_count.sum()), 'count')} rows are rejected as of the last load, each for the first "
        "reason that holds."
    )
    with st.expander("Reasons as a table"):
        show_table(rejected, {"reason": "Reason", "row_count": "Rows"}, {"row_count": "count"}, alt="Rows by reason")


def show_freshness(warehouse: Warehouse, state: State) -> None:
    """Show on which days the sources' rows arrived."""
    st.subheader("Freshness of the sources")
    days = warehouse.frame(query("nights/source_days"), [DAYS_SHOWN])
    if days.empty:
        show_nothing_there("The sources say of no row when it arrived.")
        return
    newest = as_day(days.arrival_day[0])
    behind = max((state.as_of_date - newest).days, 0)
    for column, (label, value) in zip(
        st.columns(3),
        {
            "Newest day of arrival": day(newest),
            "Behind the figures": written(behind, "days"),
            "Rows that day": written(int(days.row_count[0]), "count"),
        }.items(),
        strict=True,
    ):
        column.metric(label, plain(value))
    if len(days) > 1:
        st.altair_chart(charts.lines(days, "arrival_day", "row_count", "count", title="Rows that arrived"))
    st.caption(f"The newest {DAYS_SHOWN} days at most on which transactions arrived.")
    with st.expander("Days as a table"):
        show_table(
            days,
            {"arrival_day": "Day", "row_count": "Rows"},
            {"arrival_day": "day", "row_count": "count"},
            alt="Rows by day of arrival, newest first",
        )


def as_day(value: object) -> datetime.date:
    """Return a day of a frame, which is a moment there."""
    found: datetime.date = pd.Timestamp(value).date()
    return found


show_page(show)
