"""The link *What to do* on the page of each task of the project's Dags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin
from airflow.sdk import BaseOperatorLink

from include.customer_360.runbook import place_of, what_to_do
from include.customer_360.settings import load_settings

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

DAG_IDS = ("customer_360_refresh", "campaign_exports")


class WhatToDoLink(BaseOperatorLink):
    """Leads to the runbook at RUNBOOK_URL, else to the Dag's page in this Airflow, which has the Dag's docs."""

    name = "What to do"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ANN401 - as in BaseOperatorLink
        """Return the address; empty for a task of another Dag, which then shows no link."""
        if ti_key.dag_id not in DAG_IDS:
            return ""
        if load_settings().runbook_url:
            return what_to_do(place_of(ti_key.task_id))
        return f"{conf.get('api', 'base_url', fallback='').rstrip('/')}/dags/{ti_key.dag_id}"


class Customer360Runbook(AirflowPlugin):
    """Registers the link. Global, for it is worked out where it is shown: a killed task has it too."""

    name = "customer_360_runbook"
    global_operator_extra_links = [WhatToDoLink()]  # noqa: RUF012 - as in AirflowPlugin
