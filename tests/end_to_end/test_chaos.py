"""Three nights in which something is killed, and that what would be wrong after one is seen and named."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import duckdb
import psutil
import pytest

from tests.alert_servers import AlertServers
from tests.deployment import PRODUCER, Deployment
from tests.end_to_end.chaos import (
    DAY,
    VICTIMS,
    Kill,
    Undisturbed,
    broken_after,
    disturbed_night,
    draw,
    tables_of,
    torn_for_readers,
    undisturbed_night,
)
from tests.end_to_end.conftest import run_once, tried_deployment

KILLS = (Kill("the dbt build", 0.6, PRODUCER), Kill("publish", 0.5, "publish"), Kill("the scheduler", 0.5))


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, people: AlertServers) -> Iterator[Deployment]:
    """A deployment of these tests alone: in `make test` another process has it, or this one behind the shared one."""
    with tried_deployment(tmp_path_factory.mktemp("deployment"), people) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def first_run(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Its first run: its id, and a folder with all that it left."""
    return run_once(deployment, tmp_path_factory.mktemp("green"))


@pytest.fixture(scope="module")
def undisturbed(
    deployment: Deployment, first_run: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Undisturbed, Path]:
    """A night that nobody disturbs, and a folder with what it left."""
    _, left = first_run
    night = undisturbed_night(deployment, left)
    folder = tmp_path_factory.mktemp("undisturbed")
    deployment.keep(folder)
    return night, folder


@pytest.mark.parametrize("kill", KILLS, ids=[kill.victim for kill in KILLS])
def test_a_night_in_which_something_is_killed_ends_as_one_that_nobody_disturbs(
    deployment: Deployment, first_run: tuple[str, Path], undisturbed: tuple[Undisturbed, Path], kill: Kill
) -> None:
    _, left = first_run
    night = disturbed_night(deployment, left, undisturbed[0], kill)
    assert night.broken == [], night


@pytest.mark.skipif(sys.platform != "linux", reason="tells the components from each other by /proc")
def test_a_component_that_ends_by_itself_is_started_again_too(deployment: Deployment) -> None:
    [before] = deployment.components("dag-processor")
    deadline = time.monotonic() + 60
    while not (now := deployment.components("dag-processor")) or now == [before]:
        # Asked to end it does so with status 0, as one does that has lost its database with another. It is asked again:
        # at its work it may miss a signal.
        with suppress(psutil.NoSuchProcess):
            before.terminate()
        deployment.airflow.check()
        assert time.monotonic() < deadline
        time.sleep(1)


def sql(statement: str) -> Callable[[Deployment], object]:
    return lambda deployment: deployment.query(statement)


def in_exports(change: Callable[[Path], object]) -> Callable[[Deployment], object]:
    """Return what does this to the folder of the premium audience."""
    return lambda deployment: change(Path(deployment.settings.export_root) / "premium" / f"as_of_date={DAY}")


def in_copy(statement: str) -> Callable[[Deployment], object]:
    """Return what does this to the copy that readers open."""

    def change(deployment: Deployment) -> None:
        with duckdb.connect() as connection:
            connection.execute(f"attach '{deployment.settings.published_file}' as copy")
            connection.execute(statement)

    return change


PLANTED = {
    "a mart of another run": (
        sql("create or replace table marts.customer_segments as from marts.customer_segments limit 299"),
        "published marts are of no one run",
    ),
    "a part of a date in history": (
        sql(f"delete from marts.customer_360_history where as_of_date = '{DAY}' and customer_id like '%7'"),
        "history has a part of a date: marts.customer_360_history of 2026-03-31",
    ),
    "a transaction that is nowhere": (
        sql("delete from core.fct_transactions where transaction_id like '%777'"),
        "rows are lost: ",
    ),
    "a publication without checks": (
        sql("delete from ops.validation_results where mart = 'customer_segments'"),
        "customer_segments: 300 rows, published 300 of 2026-03-31, 0 of 0 failed",
    ),
    "half an audience": (
        in_exports(lambda folder: (folder / "audience.csv").write_text("customer_id\n")),
        "its manifest says",
    ),
    "an export that is not logged": (
        sql(f"delete from ops.export_runs where campaign = 'premium' and as_of_date = '{DAY}'"),
        "premium csv: logged []",
    ),
    "a copy that lacks customers": (
        in_copy("delete from copy.marts.customer_segments where customer_id like '%7'"),
        "of customer_segments, the warehouse [(300, ",
    ),
    "a copy of two publications": (
        in_copy("update copy.marts.publication_state set publication_id = 'another'"),
        "the copy's files are of two publications: ",
    ),
    "a left-over schema": (sql("create schema marts_run_20260331_planted"), "left over: schema marts_run_"),
    "a left-over file": (
        in_exports(lambda folder: (folder / ".audience.csv.1.tmp").write_text("")),
        "premium/as_of_date=2026-03-31/.audience.csv.1.tmp",
    ),
    "another value in a table that nobody looks at": (
        sql("update core.dim_customer set credit_limit = credit_limit + 1 where customer_id like '%7'"),
        "unlike an undisturbed night: core.dim_customer",
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_what_is_wrong_after_a_night_is_named(
    deployment: Deployment, undisturbed: tuple[Undisturbed, Path], fault: str
) -> None:
    night, folder = undisturbed
    deployment.put_back(folder)
    assert broken_after(deployment, night) == []
    plant, named = PLANTED[fault]
    plant(deployment)
    broken = broken_after(deployment, night)
    assert [line for line in broken if named in line], broken


def test_the_marts_of_the_day_before_are_one_runs_too(
    deployment: Deployment, green: str, undisturbed: tuple[Undisturbed, Path]
) -> None:
    with deployment.reading() as connection:
        assert torn_for_readers(tables_of(connection), undisturbed[0]) == []


def test_a_customer_in_two_audiences_is_named(deployment: Deployment, undisturbed: tuple[Undisturbed, Path]) -> None:
    night, folder = undisturbed
    deployment.put_back(folder)
    root = Path(deployment.settings.export_root)
    [one, other] = sorted(
        (root / name / f"as_of_date={DAY}" for name in ("onboarding", "premium", "retention")),
        key=lambda audience: len((audience / "audience.csv").read_bytes().splitlines()),
    )[-2:]
    for name in ("audience.csv", "entered.csv", "left.csv", "manifest.json"):
        shutil.copy(other / name, one / name)
    assert [line for line in broken_after(deployment, night) if line.startswith(f"in two audiences of {DAY}: ['CUST")]


def test_in_as_many_nights_as_there_are_victims_each_is_killed_once_and_a_seed_draws_the_same() -> None:
    drawn = [draw(number, seed=7) for number in range(2 * len(VICTIMS))]
    assert sorted(kill.victim for kill in drawn) == sorted(2 * VICTIMS)
    assert all(0 <= kill.after < 1 for kill in drawn)
    assert [draw(number, seed=7) for number in range(2 * len(VICTIMS))] == drawn
    assert [draw(number, seed=8) for number in range(len(VICTIMS))] != drawn[: len(VICTIMS)]
