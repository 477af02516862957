"""Page Executive, on the small copy: its figures are worked out in tests/screens/small_copy.py."""

from __future__ import annotations

import datetime

import pytest
from streamlit.testing.v1 import AppTest

from app import published
from app.header import Night, why_stale
from app.published import State
from include.customer_360.settings import Settings
from tests.screens.conftest import Screen
from tests.screens.looking import in_the_copy, texts
from tests.screens.small_copy import AS_OF, PUBLISHED_AT


@pytest.fixture
def page(screen: Screen) -> AppTest:
    return screen("executive")


def test_the_kpis_and_their_change_since_30_days_before(page: AppTest) -> None:
    """Before: without C7, lifetime values a tenth lower: 250,200 of 7 customers, 1,350 transactions; 5 of 7 active."""
    assert {each.label: (each.value, each.delta) for each in page.metric} == {
        "Customers": ("8", "+14.3 %"),
        "Total lifetime value": ("$279,000.00", "+11.5 %"),
        "Average lifetime value": ("$34,875.00", "-2.4 %"),
        "Average transaction value": ("$203.65", "+9.9 %"),
        "Spend change": ("-3.9 %", "+1.9 points"),
        "Active share": ("50.0 %", "-21.4 points"),
        "Retention rate": ("83.3 %", "+0.0 points"),
    }
    assert "Changes are since 1 Mar 2026." in [each.value for each in page.caption]


def test_the_page_says_of_which_day_it_is_and_how_the_last_night_went(page: AppTest) -> None:
    captions = [each.value for each in page.caption]
    assert captions[0] == "As of 31 Mar 2026, published 1 Apr 2026, 07:02 UTC"
    assert captions[1] == "Last good night: for 31 Mar 2026, ended 1 Apr 2026, 06:23 UTC, 3 of 4 checks passed"


def test_the_segments_largest_first_and_a_null_is_a_dash(page: AppTest) -> None:
    table = texts(page.table[0].value)
    assert {segment: cells[0] for segment, cells in table.items()} == {
        "Declining": "2",
        "High-Value Travelers": "2",
        "Budget-Conscious": "1",
        "New & Growing": "1",
        "Stable Mid-Spenders": "1",
        "No transaction yet": "1",
    }
    assert table["High-Value Travelers"] == ["2", "$90,000.00", "$360.00", "6.5 %"]
    assert table["No transaction yet"] == ["1", "$0.00", "-", "-"]


def test_of_each_cohort_the_share_that_spent_in_each_month_since(page: AppTest) -> None:
    """Six began in January, of whom C4 spent nothing in February: 5 of 6. C7 alone began in February."""
    [cohorts] = [each.value for each in page.dataframe]
    assert cohorts.to_dict("index") == {
        "Jan 2026": {0: "100.0 %", 1: "83.3 %", 2: "100.0 %"},
        "Feb 2026": {0: "100.0 %", 1: "100.0 %", 2: "-"},
    }


def test_value_at_risk_is_not_yet_modelled_rather_than_0(page: AppTest) -> None:
    assert [each.value for each in page.info] == [
        "Predicted spend times the probability of churn: not yet modelled. Column churn_risk_score is empty until a "
        "model fills it."
    ]


def test_a_first_night_has_no_change_and_no_line(settings: Settings, screen: Screen) -> None:
    in_the_copy(settings, "delete from marts.customer_360_history where as_of_date < date '2026-03-31'")
    page = screen("executive")
    assert [each.delta for each in page.metric] == [""] * 7
    assert "No change is shown: history has no day 30 days before or earlier." in [each.value for each in page.caption]
    assert page.info[0].value.startswith("History has one day so far.")


def test_an_empty_bank_is_said_rather_than_an_error(settings: Settings, screen: Screen) -> None:
    tables = ("customer_360_profile", "customer_360_history", "metric_mom_spend_change", "nights", "validation_results")
    in_the_copy(settings, *(f"delete from marts.{table}" for table in tables))
    page = screen("executive")
    assert (page.metric[0].value, page.metric[3].value) == ("0", "-")
    assert "No customer has a whole month yet." in [each.value for each in page.info]


def test_a_publication_shows_at_the_next_look(settings: Settings, screen: Screen) -> None:
    page = screen("executive")
    in_the_copy(settings, "delete from marts.customer_360_profile where customer_id = 'CUST00000008'")
    assert page.run().metric[0].value == "7"


def test_a_failed_night_is_told_above_the_figures(settings: Settings, screen: Screen) -> None:
    in_the_copy(settings, "delete from marts.nights where dag_run_id = 'scheduled__2026-04-01'")
    assert [each.value for each in screen("executive").error] == [
        "The last run, for 31 Mar 2026, failed in validate_sources. You see what was published before: 31 Mar 2026."
    ]


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ("2026-04-01T12:00Z", ""),  # The day after.
        ("2026-04-02T08:59Z", ""),  # 4:59 in New York: the night may still be at work.
        ("2026-04-02T09:00Z", "1 day behind 1 Apr 2026"),
        ("2026-04-04T12:00Z", "3 days behind 3 Apr 2026"),
    ],
)
def test_stale_figures_are_told_once_the_next_are_due(now: str, said: str) -> None:
    state = State("p", AS_OF, PUBLISHED_AT, PUBLISHED_AT)
    told = why_stale(state, datetime.datetime.fromisoformat(now), None)
    assert said in told
    assert bool(told) == bool(said)


def test_a_night_that_failed_after_it_had_published_is_told_as_that(settings: Settings, screen: Screen) -> None:
    in_the_copy(
        settings,
        "update marts.nights set state = 'failed', failed_task = 'publish_copy' "
        "where dag_run_id = 'scheduled__2026-04-01'",
    )
    assert [each.value for each in screen("executive").error] == [
        "The last run, for 31 Mar 2026, failed in publish_copy after it had published. You see what it published: "
        "31 Mar 2026."
    ]


@pytest.mark.parametrize(
    ("hours_after", "published", "said"),
    [
        (None, False, "No run since then has ended: it has not begun, or is still at work."),
        (-1, True, "No run since then has ended: it has not begun, or is still at work."),
        (24, False, "The last run since then has published nothing; page Nights has why."),
    ],
)
def test_stale_figures_are_laid_on_a_night_only_when_there_was_one(
    hours_after: int | None, published: bool, said: str
) -> None:
    state = State("p", AS_OF, PUBLISHED_AT, PUBLISHED_AT)
    night = None
    if hours_after is not None:
        night = Night(AS_OF, "failed", "", published, PUBLISHED_AT + datetime.timedelta(hours=hours_after))
    assert why_stale(state, datetime.datetime.fromisoformat("2026-04-04T12:00Z"), night).endswith(said)


def test_without_a_copy_the_page_says_what_makes_one(settings: Settings, screen: Screen) -> None:
    settings.published_file.unlink()
    page = screen()
    assert [each.value for each in page.error] == [
        f"There is no published copy {settings.published_file} yet: `make refresh` builds and publishes the marts."
    ]


def test_a_damaged_copy_says_what_mends_it(settings: Settings, screen: Screen) -> None:
    settings.published_file.unlink()
    settings.published_file.write_bytes(b"no database" * 1000)
    [error] = screen().error
    assert error.value.startswith(f"The published copy {settings.published_file} cannot be read")
    assert error.value.endswith("to have it at once, clear task publish of the last run of customer_360_refresh.")


def test_two_files_of_two_publications_are_never_shown_together(
    settings: Settings, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "SECONDS_BETWEEN_TRIES", 0)
    in_the_copy(settings, "update marts.publication_state set publication_id = 'another'")
    [error] = screen("", "service").error
    assert "are of two publications: the copy is being renewed" in error.value
