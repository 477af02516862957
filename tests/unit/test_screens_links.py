"""The links from Airflow's UI to the screens."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from airflow.dag_processing.dagbag import DagBag

from include.customer_360.settings import PROJECT_ROOT
from plugins.customer_360_screens import TASKS, Customer360Screens, ScreensLink


@pytest.fixture
def screens(monkeypatch: pytest.MonkeyPatch) -> str:
    url = "https://screens.example.com"
    monkeypatch.setenv("SCREENS_URL", url)
    return url


def link(dag_id: str, task_id: str) -> str:
    return ScreensLink().get_link(None, ti_key=SimpleNamespace(dag_id=dag_id, task_id=task_id))  # type: ignore[arg-type]


@pytest.mark.parametrize(("dag_id", "task_id"), TASKS.items())
def test_what_changes_the_screens_leads_to_them(dag_id: str, task_id: str, screens: str) -> None:
    assert link(dag_id, task_id) == screens


def test_another_task_has_no_link(screens: str) -> None:
    assert link("customer_360_refresh", "write_history") == ""
    assert link("somebody_elses", "publish") == ""


def test_the_linked_tasks_are_there_and_each_dag_says_where_the_screens_are(screens: str) -> None:
    dags = DagBag(PROJECT_ROOT / "dags").dags
    assert {dag_id: dag.has_task(TASKS[dag_id]) for dag_id, dag in dags.items()} == dict.fromkeys(TASKS, True)
    assert [dag_id for dag_id, dag in dags.items() if f"[The screens]({screens})" not in dag.doc_md] == []


def test_the_plugin_serves_nothing_itself() -> None:
    assert Customer360Screens.fastapi_apps == []
    assert Customer360Screens.react_apps == []
    assert [view for view in Customer360Screens.external_views if "url_route" in view] == []
