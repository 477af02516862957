"""Several runs on one DuckDB file at once: those that read do so side by side, one that writes has the file alone."""

from __future__ import annotations

import datetime
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from include.customer_360.settings import POOL, POOL_SLOTS
from tests.end_to_end.backfills import audiences_of, create_by_form, runs_of, unlike_pandas

if TYPE_CHECKING:
    from tests.deployment import Deployment


class Use(NamedTuple):
    """One task's time with the warehouse."""

    task: str
    begin: datetime.datetime
    end: datetime.datetime
    writes: bool

    def meets(self, other: Use) -> bool:
        return self.begin < other.end and other.begin < self.end


def uses_of(deployment: Deployment, dag_id: str, run_id: str) -> list[Use]:
    """Return when each task of a run had the warehouse; each was started once and wrote nothing of a lock."""
    path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances"
    tasks: list[dict[str, Any]] = deployment.client.get(path, params={"limit": 200}).json()["task_instances"]
    uses = []
    for task in tasks:
        if task["pool"] == POOL and task["start_date"]:
            assert task["try_number"] == 1, task
            log = deployment.client.get(
                f"{path}/{task['task_id']}/logs/1",
                params={"full_content": True},
                headers={"Accept": "application/x-ndjson"},
            ).text
            assert "Could not set lock" not in log
            begin, end = (datetime.datetime.fromisoformat(task[name]) for name in ("start_date", "end_date"))
            uses.append(Use(f"{run_id} {task['task_id']}", begin, end, task["pool_slots"] == POOL_SLOTS))
    return uses


def test_a_backfill_beside_a_nightly_run_and_a_second_run_of_its_date_never_meet_a_writer_and_are_right(
    deployment: Deployment, green: str
) -> None:
    dates = ["2026-03-10", "2026-03-11"]
    create_by_form(deployment, dates, max_active_runs=2)
    nightly, second = deployment.start(as_of_date="2026-03-31"), deployment.start(as_of_date="2026-03-10")
    assert deployment.state(nightly) == "success", deployment.failures(nightly)
    export = deployment.wait_for_export_of(nightly)
    backfilled = [run["dag_run_id"] for run in runs_of(deployment, dates).values()]
    assert [deployment.state(run_id) for run_id in (*backfilled, second)] == ["success"] * 3

    assert unlike_pandas(deployment, [*dates, "2026-03-30", "2026-03-31"]) == []
    assert deployment.query("select count(*) from ops.restatements") == [(0,)]
    assert audiences_of(deployment) == {"2026-03-30", "2026-03-31"}
    by_run = [uses_of(deployment, "customer_360_refresh", run_id) for run_id in (nightly, *backfilled, second)]
    by_run.append(uses_of(deployment, "campaign_exports", export["dag_run_id"]))
    pairs = list(itertools.combinations([use for uses in by_run for use in uses], 2))
    met = [(one, other) for one, other in pairs if one.meets(other)]

    assert [(one.task, other.task) for one, other in met if one.writes or other.writes] == []
    # They were at it at the same time: validations beside each other, and each run among the tasks of another.
    assert [pair for pair in met if all("validate_marts" in use.task for use in pair)]
    spans = [(min(use.begin for use in uses), max(use.end for use in uses)) for uses in by_run[:3]]
    assert max(begin for begin, _ in spans) < min(end for _, end in spans)
