"""What the README says about a new metric and a new campaign, done in a copy of the project."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from tests.project_copy import MAKE, copy_project, files_of, run
from tests.scaffolded import add_what_the_readme_adds

WRITTEN = {
    "include/dbt/models/marts/marketing/metric_recent_share.sql",
    "include/dbt/models/marts/marketing/metric_recent_share.yml",
    "include/sql/validations/metric_recent_share.sql",
    "include/dbt/models/exposures/winback_campaign.yml",
    "include/dbt/models/exposures/everyone_campaign.yml",
    "include/sql/exports/everyone.sql",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project."""
    return copy_project(tmp_path_factory.mktemp("copy"))


@pytest.fixture(scope="module")
def before(project: Path) -> dict[str, str]:
    return files_of(project)


@pytest.fixture(scope="module")
def refreshed(project: Path, before: dict[str, str]) -> str:
    """What `make refresh` printed in the copy."""
    add_what_the_readme_adds(project)
    return run(project, *MAKE, "refresh", CUSTOMERS="200", MONTHS="9")


def test_the_commands_write_the_files_and_touch_no_other(project: Path, before: dict[str, str], refreshed: str) -> None:
    now = files_of(project)
    assert now.keys() - before.keys() == WRITTEN
    assert {path: now.get(path) for path in before} == before


def test_the_new_metric_is_validated_published_and_in_the_summary(project: Path, refreshed: str) -> None:
    [line] = [line.split() for line in refreshed.splitlines() if line.startswith("metric_recent_share ")]
    assert (line[1], line[3:]) == ("200", ["5", "of", "5"])
    with duckdb.connect(str(project / "data" / "warehouse.duckdb"), read_only=True) as connection:
        assert connection.execute("select count(*) from marts.metric_recent_share").fetchone() == (200,)
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


@pytest.mark.parametrize("campaign", ["winback", "everyone"])
def test_the_new_campaign_is_decided_and_exported(project: Path, refreshed: str, campaign: str) -> None:
    [audience] = (project / "data" / "exports" / campaign).rglob("audience.csv")
    rows = audience.read_text().splitlines()
    assert rows[0] == "customer_id,full_name,email,lifetime_value"
    assert any(line.split()[:3] == [campaign, "csv", str(len(rows) - 1)] for line in refreshed.splitlines())
    with duckdb.connect(str(project / "data" / "warehouse.duckdb"), read_only=True) as connection:
        ends = dict(
            connection.execute(
                "select status, count(*) from ops.audience_memberships where campaign = ? group by status", [campaign]
            ).fetchall()
        )
    assert ends.get("exported", 0) == len(rows) - 1
    assert sum(ends.values()) > 50
    # Both are for the same customers with the same priority, so that the first by name has them.
    assert ends.keys() >= ({"exported", "suppressed"} if campaign == "everyone" else {"outranked", "suppressed"})


def test_what_is_there_is_not_overwritten(project: Path, refreshed: str) -> None:
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
