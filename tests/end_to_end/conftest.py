"""What the tests share: an Airflow, which each finds as one green run has left it, and the documented commands' run."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from include.customer_360.settings import Settings
from local.sample import write_sample
from tests.alert_servers import AlertServers, alert_servers
from tests.deployment import Deployment, deployed
from tests.documented_run import DocumentedRun, run_documented
from tests.end_to_end.chaos import QUICK_TO_NOTICE, quick_to_retry
from tests.groups import group_of

CUSTOMERS = 300
LAST_DAY = datetime.date(2026, 3, 31)
RUNNING = pytest.StashKey[ExitStack]()


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the shared Airflow behind the last test of those that share it: an idle one takes a quarter of a core."""
    if RUNNING in item.session.stash and (nextitem is None or group_of(nextitem.nodeid) != group_of(item.nodeid)):
        item.session.stash[RUNNING].close()


@pytest.fixture(scope="session")
def people() -> Iterator[AlertServers]:
    """Where the deployment tells people of failures: a mail server and an HTTP endpoint."""
    with alert_servers() as servers:
        yield servers


@contextmanager
def tried_deployment(folder: Path, people: AlertServers) -> Iterator[Deployment]:
    """Run a deployment that is quick to notice and to retry, tells these people, and has only its sources."""
    settings = Settings(warehouse_file=folder / "warehouse.duckdb", export_root=str(folder / "exports"), _env_file=None)
    write_sample(settings.warehouse_file, customers=CUSTOMERS, months=9, seed=42, as_of_date=LAST_DAY)
    environment = {
        **QUICK_TO_NOTICE,
        **quick_to_retry(folder),
        **people.connections("alerts_http", "alerts_smtp"),
    }
    with deployed(settings, environment, as_a_service=True) as deployment:
        yield deployment


def run_once(deployment: Deployment, left: Path) -> tuple[str, Path]:
    """Run 2026-03-30, which is expected to succeed, and keep all that it left in a folder: its id, and the folder."""
    run_id, state = deployment.run(as_of_date="2026-03-30")
    assert state == "success", deployment.tasks(run_id)
    deployment.wait_for_export_of(run_id)
    deployment.keep(left)
    return run_id, left


@pytest.fixture(scope="session")
def deployment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, people: AlertServers
) -> Iterator[Deployment]:
    """The deployment that the tests of the group `airflow` share."""
    with ExitStack() as running:
        request.session.stash[RUNNING] = running
        yield running.enter_context(tried_deployment(tmp_path_factory.mktemp("deployment"), people))


@pytest.fixture(scope="session")
def first_run(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The shared deployment's first run: its id, and a folder with all that it left."""
    return run_once(deployment, tmp_path_factory.mktemp("green"))


class SecondRun(NamedTuple):
    """A second run of the first one's date: its id, and what was published and exported behind it."""

    run_id: str
    published: dict[str, list[tuple]]
    audiences: dict[str, bytes]


@pytest.fixture(scope="session")
def second_run(deployment: Deployment, first_run: tuple[str, Path]) -> SecondRun:
    """The second run, which is expected to succeed."""
    deployment.put_back(first_run[1])
    run_id, state = deployment.run(as_of_date="2026-03-30")
    assert state == "success", deployment.failures(run_id)
    assert deployment.wait_for_export_of(run_id)["state"] == "success"
    return SecondRun(run_id, deployment.published(), deployment.audiences())


@pytest.fixture
def green(deployment: Deployment, first_run: tuple[str, Path]) -> str:
    """The id of the first run; warehouse and audiences are as it left them, whatever another test did."""
    run_id, left = first_run
    deployment.put_back(left)
    return run_id


@pytest.fixture(scope="session")
def documented_run(tmp_path_factory: pytest.TempPathFactory) -> DocumentedRun:
    """The commands of the README and docs/, each run once, in a copy of the project."""
    return run_documented(tmp_path_factory.mktemp("documented"))
