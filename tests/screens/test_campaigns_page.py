"""Page Campaigns, on the small copy: its figures are worked out in tests/screens/small_copy.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app.list_export import PREPARED
from include.customer_360 import catalog
from include.customer_360.catalog import CatalogError, load_catalog
from include.customer_360.settings import Settings
from tests.screens.conftest import Screen
from tests.screens.looking import captions, downloads, in_the_copy, log_of, metrics, number, prepare, texts

IN_DOLLARS = ["Additional spend", "Margin on it, by assumption", "Net"]


def select(page: AppTest, label: str, option: str) -> AppTest:
    [box] = [each for each in page.selectbox if each.label == label]
    box.select_index(box.options.index(option))
    return page


def of_campaign(screen: Screen, label: str) -> AppTest:
    return select(screen("campaigns", "marketing"), "Campaign", label).run()


def infos(page: AppTest) -> list[str]:
    return [each.value for each in page.info]


def columns_of_simulation(page: AppTest) -> dict[str, list[str]]:
    table = page.table[-1].value
    rows = texts(table)
    return {name: [rows[row][number] for row in IN_DOLLARS] for number, name in enumerate(table.columns)}


def test_the_funnel_the_reasons_and_the_files_of_the_last_audience(screen: Screen) -> None:
    page = of_campaign(screen, "Retention campaign")
    assert [each.label for each in page.selectbox if each.label == "Campaign"] == ["Campaign"]
    said = captions(page)
    assert said[1] == (
        "Eligible: eligible_for_retention_campaign and lifetime_value >= 50000. Order: spend_change_pct asc. Limit: "
        "1,000. Held out: 5.0 %. Priority: 100. Consent: email."
    )
    assert said[2] == (
        "Decided for 31 Mar 2026: 2 eligible = 1 suppressed + 0 capped + 0 outranked + 0 over the limit + 0 held out + "
        "1 exported. 0 of the exported and held out entered."
    )
    assert said[3] == "Destination csv: exported 1 Apr 2026, 08:01 UTC, customers in the file: 1."
    assert page.table[0].value.reset_index().to_numpy().tolist() == [["Suppressed", "no consent", "1"]]
    assert texts(page.table[1].value) == {"31 Mar 2026": ["0", "0"], "30 Mar 2026": ["1", "0"]}


def test_the_measured_lift_with_its_interval_and_horizon(screen: Screen) -> None:
    page = of_campaign(screen, "Retention campaign")
    [lift] = [each.value for each in page.dataframe]
    assert lift.to_dict("records") == [
        {
            "Wave": "20 Feb 2026",
            "Treated": "950",
            "Held out": "50",
            "Lift": "$20.00",
            "95 % interval": "$5.00 to $35.00",
            "Lift, percent": "10.0 %",
            "Significant": "yes",
            "Detectable": "$21.40",
        }
    ]


def test_before_the_horizon_is_over_there_is_no_result_and_the_lift_is_an_assumption(screen: Screen) -> None:
    page = of_campaign(screen, "Premium campaign")
    assert infos(page) == [
        "Nobody who was eligible was left out.",
        "No result before the horizon is over: a wave has one 30, 60, 90 days after it. The first wave was on 31 Mar "
        "2026, its first result is of 30 Apr 2026.",
    ]
    [lifts] = [each for each in page.selectbox if each.label == "Expected lift"]
    assert lifts.options == ["Assumption"]
    assert list(columns_of_simulation(page)) == ["Expected, by assumption", "Low", "High"]
    number(page, "Assumption: a customer spends more, in dollars", 100).run()
    # 6 customers: 600 dollars, of which 120 are left, at a cost of 6 * 11.
    assert columns_of_simulation(page) == {
        "Expected, by assumption": ["$600.00", "$120.00", "$54.00"],
        "Low": ["-", "-", "-"],
        "High": ["-", "-", "-"],
    }
    assert captions(page)[-3].startswith("It pays at this lift, of which no interval is known.")


def test_a_campaign_of_which_nothing_was_decided_says_so(screen: Screen) -> None:
    page = of_campaign(screen, "Onboarding campaign")
    assert infos(page) == [
        "Nothing has been decided for this campaign yet. The next night with exports does.",
        "Nothing has been exported to csv yet.",
        "No result before the horizon is over: a wave has one 30, 60, 90 days after it.",
    ]
    assert [metrics(page)[name] for name in ("Eligible now", "In the audience already", "Would be new")] == [
        *("1", "0", "1")
    ]


def test_the_next_wave_by_the_profile_as_it_is_now(screen: Screen) -> None:
    """C3 declines and has 60,000 dollars; C4 has 10,000, and 50,000 is asked for."""
    page = of_campaign(screen, "Retention campaign")
    assert [metrics(page)[name] for name in ("Eligible now", "In the audience already", "Would be new")] == [
        *("1", "1", "0")
    ]
    page = select(page, "Campaign", "Premium campaign").run()
    assert [metrics(page)[name] for name in ("Eligible now", "In the audience already", "Would be new")] == [
        *("2", "2", "0")
    ]


def test_the_simulator_takes_the_measured_lift_and_says_of_which_wave_it_is(screen: Screen) -> None:
    """All but C4 (no) and C6 (not known) agreed; of 6 none is held out: 5 % are 0.3."""
    page = of_campaign(screen, "Retention campaign")
    assert columns_of_simulation(page) == {
        "Expected, as measured": ["$120.00", "$24.00", "-$42.00"],
        "Low": ["$30.00", "$6.00", "-$60.00"],
        "High": ["$210.00", "$42.00", "-$24.00"],
    }
    assert {name: metrics(page)[name] for name in list(metrics(page))[3:]} == {
        "Would be contacted": "6",
        "Cost": "$66.00",
        "Expected net": "-$42.00",
        "Break-even lift per customer": "$55.00",
    }
    said = captions(page)
    assert (
        "Measured: wave of 20 Feb 2026, 30 days, 950 customers: $20.00 per customer, 95 % interval $5.00 to $35.00. It "
        "was measured on this campaign's audience; other customers may respond otherwise."
    ) in said
    assert any(text.startswith("8 customers are chosen, 6 of them agreed (marketing_opt_in)") for text in said)
    assert "It does not pay anywhere in the interval. Low and high are the ends of the lift's 95 % interval." in said


def test_the_simulator_counts_whom_is_chosen(screen: Screen) -> None:
    """Of C3 and C4, who decline, C3 agreed; without an offer a lift of 5 dollars pays."""
    page = select(of_campaign(screen, "Retention campaign"), "Segment", "Declining")
    number(page, "Offer per customer, in dollars", 0).run()
    assert columns_of_simulation(page)["Expected, as measured"] == ["$20.00", "$4.00", "$3.00"]
    assert metrics(page)["Break-even lift per customer"] == "$5.00"
    assert any(text.startswith("It pays over the whole interval.") for text in captions(page))
    select(page, "Card", "Standard").run()
    assert metrics(page)["Would be contacted"] == "0"
    select(select(page, "Card", "All"), "Segment", "No transaction yet").run()
    assert metrics(page)["Would be contacted"] == "1"
    number(select(page, "Segment", "All"), "Lifetime value from, in dollars", 60_000)
    number(page, "At most so many customers", 2).run()
    assert any(text.startswith("3 customers are chosen, 3 of them agreed") for text in captions(page))
    assert metrics(page)["Would be contacted"] == "2"
    [risk] = [each for each in page.selectbox if each.label == "Churn risk"]
    assert (risk.disabled, risk.value) == (True, "Not yet modelled")


def test_who_has_closed_the_account_or_died_is_not_reached(screen: Screen, settings: Settings) -> None:
    in_the_copy(
        settings,
        "update marts.customer_360_profile set account_closed_date = as_of_date where customer_id = 'CUST00000001'",
        "update marts.customer_360_profile set account_closed_date = as_of_date + 1 where customer_id = 'CUST00000002'",
        "update marts.customer_360_profile set deceased_date = as_of_date where customer_id = 'CUST00000003'",
    )
    page = screen("campaigns", "marketing")
    assert metrics(page)["Would be contacted"] == "4"


def test_the_list_has_who_agreed_and_is_written_down(screen: Screen, settings: Settings) -> None:
    page = select(of_campaign(screen, "Retention campaign"), "Card", "Standard").run()
    assert downloads(page) == []
    prepare(page)
    [line] = log_of(settings)
    assert json.loads(str(line["detail"])) == {
        "page": "campaigns",
        "filters": {"card_type": ["Standard"], "consent": "marketing_opt_in"},
        "columns": ["customer_id"],
        "rows": 3,
    }
    assert page.session_state[PREPARED].content == b"customer_id\nCUST00000005\nCUST00000007\nCUST00000008\n"
    assert downloads(page) == ["Download 3 customers as CSV"]


def test_a_wave_that_is_too_small_has_a_dash_and_is_not_simulated_with(screen: Screen, settings: Settings) -> None:
    nulls = ("lift", "lift_low", "lift_high", "lift_pct", "is_significant", "minimum_detectable_effect")
    in_the_copy(settings, f"update marts.campaign_results set {', '.join(f'{name} = null' for name in nulls)}")
    page = of_campaign(screen, "Retention campaign")
    assert "No wave has two customers in each group, which a lift takes." in infos(page)
    assert page.dataframe[0].value.iloc[0].tolist() == ["20 Feb 2026", "950", "50", "-", "-", "-", "-", "-"]
    [lifts] = [each for each in page.selectbox if each.label == "Expected lift"]
    assert lifts.options == ["Assumption"]


def test_each_horizon_is_shown_by_itself_and_the_largest_wave_is_expected(screen: Screen, settings: Settings) -> None:
    in_the_copy(
        settings,
        "insert into marts.campaign_results by name select * replace (60 as horizon_days, 44 as lift) "
        "from marts.campaign_results",
        "insert into marts.campaign_results by name select * replace (date '2026-02-21' as wave_date, "
        "7 as treated_customers) from marts.campaign_results where horizon_days = 30",
    )
    page = of_campaign(screen, "Retention campaign")
    assert list(page.dataframe[0].value.Wave) == ["21 Feb 2026", "20 Feb 2026"]
    [lifts] = [each for each in page.selectbox if each.label == "Expected lift"]
    assert lifts.options == [
        "Measured: wave of 20 Feb 2026, 60 days, 950 customers",
        "Measured: wave of 20 Feb 2026, 30 days, 950 customers",
        "Measured: wave of 21 Feb 2026, 30 days, 7 customers",
        "Assumption",
    ]
    select(page, "Days after the wave", "60").run()
    assert list(page.dataframe[0].value.Lift) == ["$44.00"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("state = 'failed', reason = 'No space left in /exports', exported = 0", "failed: No space left in /exports"),
        ("state = 'not approved', reason = 'ann: too large', exported = 0", "not approved: ann: too large"),
    ],
)
def test_an_export_that_did_not_happen_is_told(screen: Screen, settings: Settings, change: str, told: str) -> None:
    in_the_copy(settings, f"update marts.export_runs set {change} where campaign = 'retention'")
    page = of_campaign(screen, "Retention campaign")
    [warned] = [each.value.replace("\\", "") for each in page.warning if "Destination" in each.value]
    assert warned == f"Destination csv: {told}"
    assert "Nothing has been exported to csv yet." in infos(page)


def test_a_failure_after_an_export_of_the_same_date_is_the_last_try(screen: Screen, settings: Settings) -> None:
    in_the_copy(
        settings,
        "insert into marts.export_runs by name select * replace ('failed' as state, 'No space left' as reason, "
        "'a_second' as dag_run_id, finished_at + interval 1 hour as finished_at) from marts.export_runs "
        "where campaign = 'retention' and as_of_date = '2026-03-31'",
    )
    page = of_campaign(screen, "Retention campaign")
    assert "Destination csv: failed: No space left" in [each.value.replace("\\", "") for each in page.warning]


@pytest.fixture
def other_campaigns() -> Iterator[None]:
    """The page reads the campaigns anew, now and afterwards."""
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()


def test_a_campaign_with_a_template_of_its_own_is_counted_by_a_dry_run(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, other_campaigns: None
) -> None:
    [onboarding, *_] = load_catalog().campaigns
    own = onboarding.model_copy(update={"template": "exports/onboarding.sql", "eligibility": (), "conditions": ()})
    monkeypatch.setattr(catalog, "load_catalog", lambda: SimpleNamespace(campaigns=(own,)))
    page = screen("campaigns", "marketing")
    assert "Eligible now" not in metrics(page)
    assert infos(page)[-1] == (
        "Who is eligible, include/sql/exports/onboarding.sql says, which is not run here. A dry run of "
        "campaign_exports in Airflow counts it, and writes nothing (docs/campaigns.md)."
    )


def test_campaigns_that_cannot_be_used_are_named(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, other_campaigns: None
) -> None:
    def broken() -> None:
        raise CatalogError("premium_campaign.yml: limit is 0")

    monkeypatch.setattr(catalog, "load_catalog", broken)
    assert [each.value for each in screen("campaigns", "marketing").error] == ["premium_campaign.yml: limit is 0"]
