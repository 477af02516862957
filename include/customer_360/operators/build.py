"""What Cosmos' producer, the task that runs the dbt build, does before it starts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from include.customer_360.connection import dbt_environment, warehouse_connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Context
    from cosmos.operators.watcher import DbtProducerWatcherOperator


def before_dbt_build(context: Context) -> None:
    """Refuse a second try, hand dbt its credentials, and report what dbt prints instead of all that it traces.

    :raises AirflowFailException: on every try but the first, or when connection `warehouse` cannot be used.
    """
    refuse_second_try(context)
    hand_over_credentials(context["task"])
    report_printed_events(context["task"])


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


def hand_over_credentials(producer: DbtProducerWatcherOperator) -> None:
    """Give dbt's profile what connection `warehouse` holds, after templates are rendered: the UI never shows it.

    :raises WarehouseConnectionError: when the connection cannot be used.
    """
    connection = warehouse_connection()
    if connection.conn_type == "snowflake":
        producer.env = {**(producer.env or {}), **dbt_environment(connection)}


def report_printed_events(producer: DbtProducerWatcherOperator) -> None:
    """Leave dbt's debug events out of what the producer writes to XCom: dbt waits for every write.

    With dbt as a subprocess Cosmos sees the other events only, and needs no more; in this process dbt hands it all,
    six writes a node.
    """
    make_parser = producer._make_parse_callable

    def make_parser_of_printed_events() -> Callable[[str, Any], None]:
        parse = make_parser()

        def parse_printed_event(line: str, extra: Any) -> None:  # noqa: ANN401 - as in Cosmos
            if json.loads(line)["info"]["level"] != "debug":
                parse(line, extra)

        return parse_printed_event

    producer._make_parse_callable = make_parser_of_printed_events
