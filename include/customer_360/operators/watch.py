"""Tasks that show how far a dbt build has come with each of its nodes. They take no worker: the triggerer runs them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.sdk.execution_time.xcom import XCom
from airflow.triggers.base import (
    BaseTrigger,
    StartTriggerArgs,
    TaskFailedEvent,
    TaskSkippedEvent,
    TaskSuccessEvent,
    TriggerEvent,
)
from asgiref.sync import sync_to_async
from cosmos.constants import PRODUCER_WATCHER_TASK_ID
from cosmos.operators._watcher.state import (
    get_compiled_sql_xcom_key,
    is_dbt_node_status_success,
    is_producer_task_terminated,
)

from include.customer_360.operators.build import NODES
from include.customer_360.runbook import place_of, what_to_do

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow.sdk import DAG, Context, TaskGroup
    from cosmos.dbt.graph import DbtNode

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_TO_KEEP_A_LOOK = 60.0


class DbtNodeWatcherOperator(BaseOperator):
    """Ends as one node of a dbt build does, by what Cosmos' producer reports in XCom; never builds the node itself.

    All of them begin with the run. The edges between them are drawn for people: a node that waited for those before it
    would lose seconds at each level of the graph.

    :param unique_id: the node's, as in dbt's manifest.
    :param producer_task_id: the task that runs the dbt build.
    """

    start_from_trigger = True

    def __init__(self, *, unique_id: str, producer_task_id: str, **kwargs: Any) -> None:  # noqa: ANN401 - passed on to BaseOperator
        super().__init__(trigger_rule="always", **kwargs)
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=f"{__name__}.{DbtNodeTrigger.__name__}",
            trigger_kwargs={"unique_id": unique_id, "producer_task_id": producer_task_id},
            next_method="execute",
            next_kwargs=None,
            timeout=None,
        )

    def execute(self, context: Context) -> None:
        """Never called: a trigger ends the task."""
        raise NotImplementedError


@dataclass(frozen=True)
class Look:
    """One look at a dbt build, which the triggers of all its nodes share: what is asked, and since when."""

    taken: float
    answer: asyncio.Task[tuple[str | None, dict[str, dict[str, Any]]]]


class DbtNodeTrigger(BaseTrigger):
    """Looks every second what the producer has reported of one node, and ends the task accordingly.

    :param unique_id: the node's, as in dbt's manifest.
    :param producer_task_id: the task that runs the dbt build.
    """

    looks: ClassVar[dict[tuple[str, str, str], Look]] = {}

    def __init__(self, unique_id: str, producer_task_id: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.unique_id = unique_id
        self.producer_task_id = producer_task_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        arguments = {"unique_id": self.unique_id, "producer_task_id": self.producer_task_id}
        return f"{__name__}.{type(self).__name__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: success with the compiled SQL, failure, or skipped when the build was never started."""
        while True:
            producer, nodes = await self.look()
            if self._is_cleared() and not is_producer_task_terminated(producer):
                # A build does not run twice: what there is was reported by its first try, and is about to be deleted.
                nodes = {}
            if node := nodes.get(self.unique_id):
                yield await self.end(node["status"], node["message"])
                return
            if producer == "upstream_failed":
                self.log.info("Not built: %s was not started.", self.producer_task_id)
                yield TaskSkippedEvent()
                return
            if is_producer_task_terminated(producer):
                self.log.error(
                    "Not built: %s ended (%s) without a word on this node. See its log. What to do: %s",
                    self.producer_task_id,
                    producer,
                    what_to_do(place_of(self.producer_task_id)),
                )
                yield TaskFailedEvent()
                return
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)

    async def end(self, status: str, message: str) -> TriggerEvent:
        """Log what dbt said of the node, and return how the task ends."""
        if not is_dbt_node_status_success(status):
            todo = what_to_do(place_of(self.producer_task_id))
            self.log.error("%s: %s. See the log of %s. What to do: %s", status, message, self.producer_task_id, todo)
            return TaskFailedEvent()
        self.log.info("%s: %s", status, message)
        compiled = await self.reported(get_compiled_sql_xcom_key(self.unique_id))
        return TaskSuccessEvent(xcoms={"compiled_sql": compiled} if compiled else None)

    async def look(self) -> tuple[str | None, dict[str, dict[str, Any]]]:
        """Return the producer's state, None before it is scheduled, and its finished nodes; a second old at most."""
        dag_id, run_id = self._run()
        build = (dag_id, run_id, self.producer_task_id)
        now = time.monotonic()
        if build not in self.looks or self.looks[build].taken <= now - SECONDS_BETWEEN_LOOKS:
            for other in [other for other, look in self.looks.items() if look.taken < now - SECONDS_TO_KEEP_A_LOOK]:
                del self.looks[other]
            self.looks[build] = Look(now, asyncio.create_task(self._look()))
        # One trigger's end is not the others'.
        return await asyncio.shield(self.looks[build].answer)

    async def _look(self) -> tuple[str | None, dict[str, dict[str, Any]]]:
        dag_id, run_id = self._run()
        ask = sync_to_async(RuntimeTaskInstance.get_task_states)
        states = await ask(dag_id=dag_id, task_ids=[self.producer_task_id], run_ids=[run_id])
        state = states.get(run_id, {}).get(self.producer_task_id)
        # The state first: what the producer reported last, it reported before its end. Until a cleared one has started,
        # what its first try reported is still there.
        if state != "running" and not is_producer_task_terminated(state):
            return state, {}
        return state, await self.reported(NODES) or {}

    async def reported(self, key: str) -> Any:  # noqa: ANN401 - whatever was pushed
        """Return an XCom of the producer, None without it."""
        dag_id, run_id = self._run()
        return await XCom.aget_one(key=key, dag_id=dag_id, task_id=self.producer_task_id, run_id=run_id, map_index=-1)

    def _is_cleared(self) -> bool:
        return self.task_instance is not None and self.task_instance.try_number > 1

    def _run(self) -> tuple[str, str]:
        if self.task_instance is None:
            raise RuntimeError("The triggerer gave this trigger no task instance.")
        return self.task_instance.dag_id, self.task_instance.run_id


def watch_node(
    *,
    node: DbtNode,
    task_id: str,
    dag: DAG,
    task_group: TaskGroup,
    **of_cosmos: Any,  # noqa: ANN401 - not needed
) -> DbtNodeWatcherOperator:
    """Return the task of one node, as RenderConfig.node_converters asks for it."""
    whole_build = task_group
    while whole_build.parent_group and not whole_build.parent_group.is_root:
        whole_build = whole_build.parent_group
    return DbtNodeWatcherOperator(
        task_id=task_id,
        task_display_name=node.name,
        unique_id=node.unique_id,
        producer_task_id=whole_build.child_id(PRODUCER_WATCHER_TASK_ID),  # type: ignore[no-untyped-call]
        retries=0,
        # Its build may wait for another run's.
        execution_timeout=dag.dagrun_timeout,
        dag=dag,
        task_group=task_group,
    )
