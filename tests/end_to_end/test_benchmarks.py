"""What the benchmarks measure of a run of the Dag, on one of 300 customers; its seconds mean nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.run import run_seconds

if TYPE_CHECKING:
    from tests.deployment import Deployment


def test_a_run_is_timed_to_its_publication_and_its_validations_lie_within(deployment: Deployment, green: str) -> None:
    measured = run_seconds(deployment.airflow, deployment.client, green)
    assert 0 < measured.validations < measured.total
