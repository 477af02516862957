"""What the producer of the dbt build writes to XCom, and when it refuses to start."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowFailException

from include.customer_360.operators.build import before_dbt_build, report_printed_events
from include.customer_360.settings import PROJECT_ROOT

NODE = "model.customer_analytics.int_customers"


class TaskInstance:
    """Keeps what is pushed, as (key, value)."""

    def __init__(self, try_number: int = 1) -> None:
        self.try_number = try_number
        self.pushed: list[tuple[str, Any]] = []

    def xcom_push(self, key: str, value: object) -> None:
        self.pushed.append((key, value))

    def xcom_pull(self, **_: object) -> None:
        return None


@pytest.fixture(scope="module")
def producer() -> Any:  # noqa: ANN401 - Cosmos' operator
    dags = DagBag(str(PROJECT_ROOT / "dags" / "customer_360_refresh.py")).dags
    return dags["customer_360_refresh"].get_task("dbt_build.dbt_producer_watcher")


def event(level: str, name: str, node_status: str) -> str:
    """Return an event as dbt hands it to its callbacks."""
    node_info = {"unique_id": NODE, "node_status": node_status, "resource_type": "model"}
    return json.dumps({"info": {"name": name, "level": level, "msg": name}, "data": {"node_info": node_info}})


def test_a_printed_event_is_reported_and_a_debug_event_is_not(producer: Any) -> None:  # noqa: ANN401
    report_printed_events(producer)
    parse = producer._make_parse_callable()
    task_instance = TaskInstance()

    parse(event("debug", "NodeStart", "started"), {"context": {"ti": task_instance}})
    assert task_instance.pushed == []

    parse(event("info", "LogModelResult", "success"), {"context": {"ti": task_instance}})
    assert task_instance.pushed == [
        ("model__customer_analytics__int_customers_status", {"status": "success", "outlet_uris": []})
    ]


def test_a_second_try_is_refused_with_the_way_to_run_the_date_again(producer: Any) -> None:  # noqa: ANN401
    context = {"ti": TaskInstance(try_number=2), "dag": producer.dag, "task": producer}
    with pytest.raises(AirflowFailException, match="Start a new run of customer_360_refresh for the same as_of_date"):
        before_dbt_build(context)
