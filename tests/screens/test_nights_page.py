"""Page Nights, on the small copy: how the runs went, what they checked, and what the sources are like."""

from __future__ import annotations

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from include.customer_360.settings import Settings
from tests.screens.conftest import Screen
from tests.screens.looking import in_the_copy
from tests.screens.small_copy import RUN

FAILED = "manual__broken"


def tables(page: AppTest) -> list[pd.DataFrame]:
    return [each.value for each in page.dataframe]


def metrics(page: AppTest) -> dict[str, str]:
    return {each.label: each.value.replace("\\", "") for each in page.metric}


def test_the_runs_and_what_the_newest_did(screen: Screen) -> None:
    page = screen("nights", "operations")
    runs, checked, not_passed, all_checks, published, *_ = tables(page)[:1] + tables(page)[2:]
    assert runs[["For", "State", "Published", "Took", "Failed in"]].astype(str).values.tolist() == [
        ["2026-03-31", "success", "yes", "65.0", "-"],
        ["2026-03-31", "failed", "no", "65.0", "validate_sources"],
        ["2026-03-30", "success", "yes", "65.0", "-"],
    ]
    assert tables(page)[1][["Task", "Took"]].values.tolist() == [
        ["dbt_build.fct_transactions", 30.5],
        ["validate_marts.validate_metric_customer_ltv", 4.0],
        ["validate_sources", 2.0],
        ["publish", 1.5],
    ]
    assert "3 of 4 checks passed, 1 warned, 0 failed." in [each.value for each in page.markdown]
    assert checked.values.tolist() == [
        ["customer_360_profile", 1, 1, 0, 0],
        ["metric_customer_ltv", 2, 2, 0, 0],
        ["sources", 1, 0, 1, 0],
    ]
    assert not_passed.values.tolist() == [
        ["sources", "sources_categories_known", "warned", "3 of 1370 rows have an unknown one", "none"]
    ]
    assert len(all_checks) == 4
    assert published[["Mart", "Rows", "Lifetime value"]].values.tolist() == [["customer_360_profile", 8, 279_000]]


def test_the_state_the_sources_and_what_is_not_modelled(screen: Screen) -> None:
    page = screen("nights", "operations")
    assert metrics(page) == {
        "For": "31 Mar 2026",
        "State": "success",
        "Took": "1 min 5 s",
        "Published": "yes",
        "Newest day of arrival": "31 Mar 2026",
        "Behind the figures": "0 days",
        "Rows that day": "38",
    }
    rejected, days = tables(page)[-2:]
    assert rejected.values.tolist() == [["amount not a number", 3], ["unknown customer", 1]]
    assert days["Rows"].tolist() == [38, 40]
    assert page.info[-1].value.startswith("Versions of the models and how good they were: not yet modelled.")
    [link] = page.get("link_button")
    assert link.proto.url == "http://localhost:8080/dags/customer_360_refresh/runs/scheduled__2026-04-01"


def test_a_failed_run_says_why_and_leads_to_its_task(
    screen: Screen, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_URL", "https://airflow.example.com/")
    in_the_copy(
        settings,
        f"update marts.nights set dag_run_id = 'manual__2026-04-01T06:00:00+00:00' where dag_run_id = '{FAILED}'",
    )
    page = screen("nights", "operations")
    page.main.selectbox[0].select_index(1).run()
    assert page.error[0].value.replace("\\", "") == (
        "Failed in validate_sources: The sources of 2026-03-31 are not ready."
    )
    run = "https://airflow.example.com/dags/customer_360_refresh/runs/manual__2026-04-01T06%3A00%3A00%2B00%3A00"
    assert [each.proto.url for each in page.get("link_button")] == [run, f"{run}/tasks/validate_sources"]
    assert [each.value for each in page.info][:3] == [
        "No steps of this run are recorded.",
        "No check of this run is recorded: it ended before its validations, or they are too old.",
        "This run published nothing.",
    ]


def test_an_error_is_failed_and_a_warning_warned(screen: Screen, settings: Settings) -> None:
    in_the_copy(
        settings,
        "update marts.validation_results set passed = false, observed = '7' where check_name = 'profile_one_date'",
        f"insert into marts.night_steps select '{RUN}', as_of_date, 'skipped', 'skipped', null, null from "
        "marts.night_steps limit 1",
    )
    page = screen("nights", "operations")
    assert "2 of 4 checks passed, 1 warned, 1 failed." in [each.value for each in page.markdown]
    assert tables(page)[3][["Check", "Result"]].values.tolist() == [
        ["profile_one_date", "failed"],
        ["sources_categories_known", "warned"],
    ]
    assert pd.isna(tables(page)[1]["Took"].iloc[-1])


def test_before_the_first_night_each_place_says_why_it_is_empty(screen: Screen, settings: Settings) -> None:
    names = ("nights", "night_steps", "validation_results", "publications", "rejected_rows", "source_days")
    in_the_copy(settings, *(f"delete from marts.{name}" for name in names))
    page = screen("nights", "operations")
    assert [each.value for each in page.info][:3] == [
        "No run is recorded yet: the next night is.",
        "No row of the sources is rejected.",
        "The sources say of no row when it arrived.",
    ]
    assert not page.metric


def test_sources_that_stopped_are_days_behind_and_rows_without_a_day_are_none(
    screen: Screen, settings: Settings
) -> None:
    in_the_copy(
        settings,
        "update marts.source_days set arrival_day = arrival_day - 4",
        "insert into marts.source_days values (date '0001-01-01', 5)",
    )
    page = screen("nights", "operations")
    assert metrics(page)["Newest day of arrival"] == "27 Mar 2026"
    assert metrics(page)["Behind the figures"] == "4 days"
    assert len(tables(page)[-1]) == 2
