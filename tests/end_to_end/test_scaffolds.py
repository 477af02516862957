"""What the README says about a new metric and a new campaign, done in the copy in which its commands run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from tests.documented_run import DocumentedRun

WRITTEN = {
    "include/dbt/models/marts/marketing/metric_recent_share.sql",
    "include/dbt/models/marts/marketing/metric_recent_share.yml",
    "include/sql/validations/metric_recent_share.sql",
    "include/dbt/models/exposures/winback_campaign.yml",
    "include/dbt/models/exposures/everyone_campaign.yml",
    "include/sql/exports/everyone.sql",
}


@pytest.fixture
def project(documented_run: DocumentedRun) -> Path:
    """The copy of the project in which the README's commands ran."""
    return documented_run.project


@pytest.fixture
def data(documented_run: DocumentedRun) -> Path:
    """What the refresh after them left in data/."""
    return documented_run.first_data


@pytest.fixture
def refreshed(documented_run: DocumentedRun) -> str:
    """What that refresh printed."""
    return documented_run.printed["CUSTOMERS=2000 make refresh"]


def test_the_commands_write_the_files_and_touch_no_other(documented_run: DocumentedRun) -> None:
    before, after = documented_run.files_before, documented_run.files_after
    assert after.keys() - before.keys() == WRITTEN
    assert {path: after.get(path) for path in before} == before


def test_the_new_metric_is_validated_published_and_in_the_summary(data: Path, refreshed: str) -> None:
    [line] = [line.split() for line in refreshed.splitlines() if line.startswith("metric_recent_share ")]
    assert (line[1], line[3:]) == ("2,000", ["5", "of", "5"])
    with duckdb.connect(str(data / "warehouse.duckdb"), read_only=True) as connection:
        assert connection.execute("select count(*) from marts.metric_recent_share").fetchone() == (2000,)
        wrong = connection.execute(
            """
            select count(*)
            from marts.metric_recent_share as metric
            inner join marts.customer_360_profile as profile on metric.customer_id = profile.customer_id
            where
                metric.recent_share is distinct from
                cast(round(profile.spend_last_90_days / nullif(profile.lifetime_value, 0) * 100, 4) as decimal(18, 4))
            """
        ).fetchone()
        assert wrong == (0,)


def test_the_unit_tests_of_the_new_metric_pass(project: Path, data: Path, tmp_path: Path) -> None:
    command = ["dbt", "test", "--select", "metric_recent_share,test_type:unit", "--log-path", str(tmp_path)]
    environment = {"WAREHOUSE_FILE": str(data / "warehouse.duckdb"), "AS_OF_DATE": "2026-03-31", "RUN_SCHEMA": ""}
    done = subprocess.run(
        [Path(sys.executable).parent / command[0], *command[1:], "--target-path", str(tmp_path / "target")],
        cwd=project / "include" / "dbt",
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "ERROR=0" in done.stdout
    assert "PASS=0" not in done.stdout


@pytest.mark.parametrize("campaign", ["winback", "everyone"])
def test_the_new_campaign_is_decided_and_exported(data: Path, refreshed: str, campaign: str) -> None:
    [audience] = (data / "exports" / campaign).rglob("audience.csv")
    rows = audience.read_text().splitlines()
    assert rows[0] == "customer_id,full_name,email,lifetime_value"
    assert any(line.split()[:3] == [campaign, "csv", str(len(rows) - 1)] for line in refreshed.splitlines())
    with duckdb.connect(str(data / "warehouse.duckdb"), read_only=True) as connection:
        ends = dict(
            connection.execute(
                "select status, count(*) from ops.audience_memberships where campaign = ? group by status", [campaign]
            ).fetchall()
        )
    assert ends.get("exported", 0) == len(rows) - 1
    assert sum(ends.values()) > 500
    # Both are for the same customers with the same priority, so that the first by name has them.
    assert ends.keys() >= ({"exported", "suppressed"} if campaign == "everyone" else {"outranked", "suppressed"})


def test_what_is_there_is_not_overwritten(project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "local.scaffold", "metric"],
        cwd=project,
        env=os.environ | {"NAME": "recent_share"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "metric_recent_share.sql" in done.stderr
    assert "is there already: choose another NAME" in done.stderr


@pytest.mark.parametrize("name", ["", "Weekend", "weekend spend", "9th", "a/../b", "x" * 51, "order"])
def test_a_name_that_cannot_be_used_is_refused(project: Path, name: str) -> None:
    for kind in ("metric", "campaign"):
        done = subprocess.run(
            [sys.executable, "-m", "local.scaffold", kind],
            cwd=project,
            env=os.environ | {"NAME": name},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "for example NAME=" in done.stderr
