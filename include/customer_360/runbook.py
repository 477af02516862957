"""Where docs/runbook.md says what to do about a failed task."""

from __future__ import annotations

from include.customer_360.settings import load_settings

PLACES = {
    "dbt_build": "dbt_build",
    "validate_marts": "validate_mart",
    "approve_": "approve",
    "export": "export",
}
"""The place in docs/runbook.md by how a task's id begins; of the other tasks it is the id."""
DEADLINE = "not_published_in_time"
"""The place for marts that are late."""


def place_of(task_id: str) -> str:
    """Return the anchor in docs/runbook.md of what to do when this task fails."""
    return next((place for start, place in PLACES.items() if task_id.startswith(start)), task_id)


def what_to_do(place: str) -> str:
    """Return the address of a place in the runbook, at RUNBOOK_URL where it can be read there."""
    return f"{load_settings().runbook_url or 'docs/runbook.md'}#{place}"
