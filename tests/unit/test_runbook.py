"""Each task leads to a place in the runbook."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from airflow.dag_processing.dagbag import DagBag

from include.customer_360.runbook import DEADLINE, place_of
from include.customer_360.settings import PROJECT_ROOT
from plugins.customer_360_runbook import WhatToDoLink


def link(dag_id: str = "customer_360_refresh", task_id: str = "publish") -> str:
    return WhatToDoLink().get_link(None, ti_key=SimpleNamespace(dag_id=dag_id, task_id=task_id))  # type: ignore[arg-type]


def test_every_task_has_its_place_and_no_place_is_without_a_task() -> None:
    dags = DagBag(PROJECT_ROOT / "dags").dags
    places = {place_of(task_id) for dag in dags.values() for task_id in dag.task_ids}
    runbook = (PROJECT_ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    assert set(re.findall("^## (.+)$", runbook, re.MULTILINE)) == {*places, DEADLINE}


def test_the_link_leads_to_the_runbook_where_there_is_one_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNBOOK_URL", "https://example.com/docs/runbook.md")
    assert link(task_id="validate_marts.validate_customer_segments") == (
        "https://example.com/docs/runbook.md#validate_mart"
    )


def test_else_to_the_page_of_the_dag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNBOOK_URL", raising=False)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com/prefix/")
    assert link() == "https://airflow.example.com/prefix/dags/customer_360_refresh"


def test_another_dag_gets_none() -> None:
    assert link(dag_id="somebody_elses") == ""
