"""The date that dbt takes when nothing names one."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import jinja2
import pytest
import pytz

from include.customer_360.settings import DBT_PROJECT
from tests.forked_dbt import run_dbt


class ClockWasRead(Exception):
    """A model asked for the time: models of one build could get two dates."""


class StoppedClock(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> StoppedClock:
        raise ClockWasRead


def as_of_date(started: str, setting: str = "") -> str:
    """Return what the macro makes in a dbt that was started then (UTC): dbt gives it these names."""
    date_and_time = SimpleNamespace(datetime=StoppedClock, timedelta=datetime.timedelta)
    template = jinja2.Environment().from_string((DBT_PROJECT / "macros" / "as_of_date.sql").read_text())
    names = {
        "execute": True,
        "env_var": lambda name, default: setting or default,
        "modules": SimpleNamespace(datetime=date_and_time, pytz=pytz, re=re),
        "run_started_at": datetime.datetime.fromisoformat(started).replace(tzinfo=pytz.utc),
    }
    return template.make_module(names).as_of_date()


@pytest.mark.parametrize(
    ("started", "expected"),
    [
        pytest.param("2026-03-01 04:59:59", "2026-02-27", id="a second before midnight"),
        pytest.param("2026-03-01 05:00:00", "2026-02-28", id="midnight in New York"),
        pytest.param("2026-07-01 04:00:00", "2026-06-30", id="midnight in New York, in summer"),
        pytest.param("2026-01-01 12:00:00", "2025-12-31", id="new year"),
    ],
)
def test_it_is_the_day_before_the_one_in_new_york_on_which_dbt_was_started(started: str, expected: str) -> None:
    assert as_of_date(started) == f"cast('{expected}' as date)"


def test_what_is_set_goes_before() -> None:
    assert as_of_date("2026-03-01 05:00:00", "2024-02-29") == "cast('2024-02-29' as date)"


def test_all_models_of_one_dbt_take_the_day_before_it_was_started(tmp_path: Path) -> None:
    models = ["int_customer_transactions", "customer_segments", "customer_360_profile"]
    arguments = ["compile", "--no-introspect", "--select", *models]
    done = run_dbt(
        *(*arguments, f"--target-path={tmp_path}", f"--log-path={tmp_path}"),
        environment={"WAREHOUSE_FILE": str(tmp_path / "empty.duckdb"), "AS_OF_DATE": "", "RUN_SCHEMA": ""},
    )
    assert done.returncode == 0, done.stdout
    metadata = json.loads((tmp_path / "run_results.json").read_text())["metadata"]
    started = datetime.datetime.fromisoformat(metadata["invocation_started_at"]).astimezone(
        ZoneInfo("America/New_York")
    )
    yesterday = started.date() - datetime.timedelta(days=1)
    compiled = {file.stem: file.read_text() for file in (tmp_path / "compiled").rglob("*.sql")}
    dates = {name: set(re.findall(r"cast\('(\d{4}-\d\d-\d\d)' as date\)", compiled[name])) for name in models}
    assert dates == {name: {yesterday.isoformat()} for name in models}
