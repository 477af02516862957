"""When tasks of several runs had the DuckDB file: those that read have it together, one that writes has it alone."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from include.customer_360.settings import POOL, POOL_SLOTS

if TYPE_CHECKING:
    from tests.deployment import Deployment


class Use(NamedTuple):
    """One task's time with the warehouse."""

    task: str
    begin: datetime.datetime
    end: datetime.datetime
    writes: bool

    def meets(self, other: Use) -> bool:
        """Tell whether both had it at the same time."""
        return self.begin < other.end and other.begin < self.end


def uses_of(deployment: Deployment, dag_id: str, run_id: str) -> list[Use]:
    """Return when each task of a run had the warehouse; each was started once and wrote nothing of a lock."""
    path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances"
    tasks: list[dict[str, Any]] = deployment.client.get(path, params={"limit": 200}).json()["task_instances"]
    uses = []
    for task in tasks:
        if task["pool"] == POOL and task["start_date"]:
            assert task["try_number"] == 1, task
            log = deployment.log(run_id, task["task_id"], dag_id=dag_id, map_index=task["map_index"])
            assert "Could not set lock" not in log
            begin, end = (datetime.datetime.fromisoformat(task[name]) for name in ("start_date", "end_date"))
            uses.append(Use(f"{run_id} {task['task_id']}", begin, end, task["pool_slots"] == POOL_SLOTS))
    return uses
