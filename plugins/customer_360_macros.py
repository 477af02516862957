"""Template macros: a run's business date, the schema it builds in, the tag of its dbt build, what its data tests see.

In templates: `macros.customer_360.as_of_date(dag_run, params)` and so on.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin
from airflow.sdk.exceptions import AirflowFailException

from include.customer_360 import as_of_date as dates
from include.customer_360 import connection
from include.customer_360.settings import load_settings

if TYPE_CHECKING:
    from airflow.sdk.types import DagRunProtocol, RuntimeTaskInstanceProtocol


def as_of_date(dag_run: DagRunProtocol, params: dict[str, Any]) -> str:
    """Return the as_of_date of a run, YYYY-MM-DD: the one it asks for, else yesterday in New York when it was due.

    :raises AirflowFailException: when the run asks for a date that cannot be built; another try would ask again.
    """
    return requested_as_of_date(dag_run, params) or dates.last_complete_business_day(dag_run.run_after).isoformat()


def requested_as_of_date(dag_run: DagRunProtocol, params: dict[str, Any]) -> str:
    """Return the as_of_date that a run asks for, YYYY-MM-DD, by its partition key or its form; empty without one.

    :raises AirflowFailException: when the run asks for two dates, for what is no date, or for a day not yet over.
    """
    try:
        requested = dates.requested_as_of_date(
            dag_run.partition_key, params.get("as_of_date"), dag_run.run_after, dag_run.start_date
        )
    except ValueError as refused:
        raise AirflowFailException(str(refused)) from refused
    return requested.isoformat() if requested else ""


def run_schema(dag_run: DagRunProtocol, params: dict[str, Any]) -> str:
    """Return the schema this run builds in: the date for people, the run's hash to keep two runs of a date apart."""
    run_hash = hashlib.sha256(dag_run.run_id.encode()).hexdigest()[:8]
    return f"marts_run_{as_of_date(dag_run, params).replace('-', '')}_{run_hash}"


def query_tag(ti: RuntimeTaskInstanceProtocol, dag_run: DagRunProtocol, params: dict[str, Any]) -> str:
    """Return the tag of this task's statements on Snowflake: JSON with dag, run, task and as_of_date."""
    return connection.query_tag(ti.dag_id, dag_run.run_id, ti.task_id, as_of_date(dag_run, params))


def test_scope(dag_run: DagRunProtocol, params: dict[str, Any]) -> str:
    """Return what the run's data tests look at, as TEST_SCOPE takes it: `touched` or `everything`.

    Everything when the form asks for it, and in the scheduled runs that TEST_EVERYTHING_ON names.
    """
    scheduled_for = as_of_date(dag_run, params) if dag_run.run_type == "scheduled" else ""
    asked_for = params.get("test_everything")
    return "everything" if asked_for or load_settings().tests_everything(scheduled_for) else "touched"


class Customer360Macros(AirflowPlugin):
    """Registers the macros under `macros.customer_360`."""

    name = "customer_360"
    macros = [as_of_date, requested_as_of_date, run_schema, query_tag, test_scope]  # noqa: RUF012 - as in AirflowPlugin
