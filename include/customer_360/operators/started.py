"""When a task began: Airflow tells the others of a run only how long it took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context

STARTED = "started_at"
"""The XCom of a task that ran: when it began."""


def keep_start(context: Context) -> None:
    """Leave, as XCom STARTED, when a task began: a callback of every task."""
    ti: Any = context["ti"]
    ti.xcom_push(key=STARTED, value=ti.start_date.isoformat())
