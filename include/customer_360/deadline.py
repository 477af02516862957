"""When the marts of a date are to be published: the moment that Airflow's deadline alert counts from."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.deadline import BaseDeadlineReference

from include.customer_360.as_of_date import hour_of_the_day_after, parse_as_of_date
from include.customer_360.settings import load_settings

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


class PublishedBy(BaseDeadlineReference):
    """The hour PUBLISHED_BY in New York, on the day after the date of a scheduled run; no moment for another run."""

    required_kwargs = frozenset({"dag_id", "run_id"})

    def _evaluate_with(self, *, session: Session, dag_id: str, run_id: str, **_: Any) -> datetime.datetime | None:  # noqa: ANN401 - as in Airflow
        # Here: every process imports this file, and few need the models of the database.
        from airflow.models.dagrun import DagRun
        from sqlalchemy import select

        wanted = select(DagRun.run_type, DagRun.partition_key).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)
        run_type, partition_key = session.execute(wanted).one()
        hour = load_settings().published_by
        if hour is None or run_type != "scheduled" or not partition_key:
            return None
        return hour_of_the_day_after(parse_as_of_date(partition_key), hour)
