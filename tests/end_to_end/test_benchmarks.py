"""What the benchmarks measure of a run of the Dag, on one of 300 customers; its seconds mean nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.run import dag_run
from tests.end_to_end.conftest import LAST_DAY

if TYPE_CHECKING:
    from tests.deployment import Deployment


def test_a_run_is_timed_to_its_publication_and_its_validations_lie_within(deployment: Deployment, green: str) -> None:
    measured = dag_run(deployment.airflow, LAST_DAY)
    assert 0 < measured.validations < measured.total
