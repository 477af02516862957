"""What the alerts need of Airflow: the moment that their deadline counts from, and a line where nobody is told."""

from __future__ import annotations

import logging
from typing import Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

from include.customer_360.deadline import PublishedBy
from include.customer_360.settings import ALERT_CONNECTIONS, NOBODY_IS_TOLD

log = logging.getLogger(__name__)


class NobodyIsTold:
    """Airflow's listener."""

    @hookimpl
    def on_starting(self, component: Any) -> None:  # noqa: ANN401 - as in Airflow
        """Say, when the scheduler starts, that there is no connection by which people would be told."""
        if getattr(component, "job_type", "") != "SchedulerJob":
            return
        # Here: every process imports this file, and few need what these import.
        from airflow.models.connection import Connection
        from airflow.sdk.exceptions import AirflowNotFoundException

        for conn_id in ALERT_CONNECTIONS:
            try:
                Connection.get_connection_from_secrets(conn_id)
            except AirflowNotFoundException:
                continue
            return
        log.warning(NOBODY_IS_TOLD)


class Customer360Alerts(AirflowPlugin):
    """Registers both."""

    name = "customer_360_alerts"
    deadline_references = [PublishedBy]  # noqa: RUF012 - as in AirflowPlugin
    listeners = [NobodyIsTold()]  # noqa: RUF012 - as in AirflowPlugin
