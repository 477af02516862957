"""For tasks that cannot do their work twice within one Dag run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowFailException

if TYPE_CHECKING:
    from airflow.sdk import Context


def refuse_second_try(context: Context) -> None:
    """Fail a cleared dbt build before it starts.

    Cosmos skips a second try of its producer and lets each watcher build its own node, without the data tests: a run
    whose tests failed would end in success.

    :raises AirflowFailException: on every try but the first; it says how to run the date again.
    """
    if context["ti"].try_number > 1:
        raise AirflowFailException(
            f"A dbt build does not run twice in one Dag run: its data tests would be left out. Start a new run of "
            f"{context['dag'].dag_id} for the same as_of_date instead (Trigger, as_of_date); this run's schema is "
            "dropped by the next successful run of that date."
        )
