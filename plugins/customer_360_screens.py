"""The screens, from Airflow's UI: in the navigation, and on the tasks behind which they show something new.

A link and no page of Airflow's own: what a plugin serves has no authentication unless it adds it, and the API server
has no customer data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin
from airflow.sdk import BaseOperatorLink

from include.customer_360.settings import load_settings

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

TASKS = {"customer_360_refresh": "publish", "campaign_exports": "log_exports"}
"""By Dag, the task behind which the screens show something new."""


class ScreensLink(BaseOperatorLink):
    """Leads to SCREENS_URL."""

    name = "Screens"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ANN401 - as in BaseOperatorLink
        """Return the address; empty for another task, which then shows no link."""
        return load_settings().screens_url if TASKS.get(ti_key.dag_id) == ti_key.task_id else ""


class Customer360Screens(AirflowPlugin):
    """Registers the links. Without url_route Airflow opens no frame, in which the screens' login would fail."""

    name = "customer_360_screens"
    external_views = [  # noqa: RUF012 - as in AirflowPlugin
        {"name": "Screens", "href": load_settings().screens_url, "destination": "nav"}
    ]
    global_operator_extra_links = [ScreensLink()]  # noqa: RUF012 - as in AirflowPlugin
