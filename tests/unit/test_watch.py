"""How a task that watches a node of the dbt build ends, by what its producer has reported."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.sdk.execution_time.xcom import XCom
from airflow.triggers.base import TaskFailedEvent, TaskSkippedEvent, TaskSuccessEvent, TriggerEvent

from include.customer_360.operators import watch
from include.customer_360.operators.build import NODES
from include.customer_360.operators.watch import DbtNodeTrigger

NODE = "model.customer_analytics.int_customers"
OTHER = "model.customer_analytics.customer_segments"
COMPILED = "model__customer_analytics__int_customers_compiled_sql"


class Producer:
    """Stands for the task that runs the build: its state and its XComs, by the look from which on they are so."""

    def __init__(self, *looks: tuple[str | None, dict[str, Any]]) -> None:
        self.looks = looks
        self.taken = 0

    def get_task_states(self, dag_id: str, task_ids: list[str], run_ids: list[str]) -> dict[str, dict[str, str]]:
        assert (dag_id, task_ids, run_ids) == ("refresh", ["dbt_build.producer"], ["run_1"])
        state, _ = self.looks[min(self.taken, len(self.looks) - 1)]
        self.taken += 1
        return {"run_1": {"dbt_build.producer": state}} if state else {}

    async def aget_one(self, key: str, dag_id: str, task_id: str, run_id: str, map_index: int) -> Any:  # noqa: ANN401
        assert (dag_id, task_id, run_id, map_index) == ("refresh", "dbt_build.producer", "run_1", -1)
        return self.looks[min(self.taken, len(self.looks)) - 1][1].get(key)


def trigger(unique_id: str = NODE, try_number: int = 1) -> DbtNodeTrigger:
    watching = DbtNodeTrigger(unique_id=unique_id, producer_task_id="dbt_build.producer")
    watching.task_instance = SimpleNamespace(
        dag_id="refresh", run_id="run_1", task_id="int_customers", try_number=try_number
    )
    return watching


def events(monkeypatch: pytest.MonkeyPatch, producer: Producer, *triggers: DbtNodeTrigger) -> list[list[TriggerEvent]]:
    """Run triggers side by side, as the triggerer does, and return the events of each."""
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(producer.get_task_states))
    monkeypatch.setattr(XCom, "aget_one", producer.aget_one)
    monkeypatch.setattr(watch, "SECONDS_BETWEEN_LOOKS", 0.05)
    monkeypatch.setattr(DbtNodeTrigger, "looks", {})

    async def run_all() -> list[list[TriggerEvent]]:
        async def run(each: DbtNodeTrigger) -> list[TriggerEvent]:
            return [event async for event in each.run()]

        async with asyncio.timeout(5):
            return await asyncio.gather(*map(run, triggers))

    return asyncio.run(run_all())


def node(status: str, unique_id: str = NODE) -> dict[str, Any]:
    return {NODES: {unique_id: {"status": status, "message": "what dbt said"}}}


def test_a_built_node_ends_in_success_with_its_sql(monkeypatch: pytest.MonkeyPatch) -> None:
    producer = Producer(("running", node("success") | {COMPILED: "select 1"}))
    [[event]] = events(monkeypatch, producer, trigger())
    assert isinstance(event, TaskSuccessEvent)
    assert event.xcoms == {"compiled_sql": "select 1"}


@pytest.mark.parametrize("status", ["error", "skipped", "something new"])
def test_a_node_that_was_not_built_ends_in_failure(monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    """dbt skips what is made of something that failed."""
    [[event]] = events(monkeypatch, Producer(("running", node(status))), trigger())
    assert isinstance(event, TaskFailedEvent)


@pytest.mark.parametrize("state", ["failed", "success", "skipped", "removed"])
def test_a_build_that_ended_without_a_word_on_the_node_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """Killed, or green without having built it: nobody builds it instead."""
    [[event]] = events(monkeypatch, Producer((state, node("success", OTHER))), trigger())
    assert isinstance(event, TaskFailedEvent)


def test_a_build_that_never_started_skips_its_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    [[event]] = events(monkeypatch, Producer(("upstream_failed", {})), trigger())
    assert isinstance(event, TaskSkippedEvent)


def test_what_was_reported_last_counts_when_the_build_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    [[event]] = events(monkeypatch, Producer(("failed", node("success"))), trigger())
    assert isinstance(event, TaskSuccessEvent)


def test_it_waits_while_the_build_is_not_there_yet_and_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    producer = Producer((None, {}), ("queued", {}), ("running", node("success", OTHER)), ("running", node("success")))
    [[event]] = events(monkeypatch, producer, trigger())
    assert isinstance(event, TaskSuccessEvent)
    assert producer.taken == 4


def test_what_the_first_try_of_a_cleared_build_reported_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    # Airflow says running before it deletes what was reported.
    producer = Producer(
        (None, node("success")),
        ("queued", node("success")),
        ("running", node("success")),
        ("running", {}),
        ("failed", {}),
    )
    [[event]] = events(monkeypatch, producer, trigger(try_number=2))
    assert isinstance(event, TaskFailedEvent)


def test_a_node_that_is_cleared_alone_ends_as_its_finished_build_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    [[event]] = events(monkeypatch, Producer(("success", node("success"))), trigger(try_number=2))
    assert isinstance(event, TaskSuccessEvent)


def test_all_nodes_of_a_build_share_each_look(monkeypatch: pytest.MonkeyPatch) -> None:
    both = {NODES: node("success")[NODES] | node("error", OTHER)[NODES]}
    producer = Producer(("running", {}), ("running", both))
    [[first], [second]] = events(monkeypatch, producer, trigger(), trigger(OTHER))
    assert isinstance(first, TaskSuccessEvent)
    assert isinstance(second, TaskFailedEvent)
    assert producer.taken == 2


def test_a_trigger_is_made_again_from_what_it_serialises_to() -> None:
    """As a triggerer does that was started again."""
    classpath, arguments = trigger().serialize()
    assert classpath == "include.customer_360.operators.watch.DbtNodeTrigger"
    assert DbtNodeTrigger(**arguments).serialize() == (classpath, arguments)
