"""Page Segments, on the small copy: its figures are worked out in tests/screens/small_copy.py."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest
from streamlit.runtime.caching import cache_data_api
from streamlit.testing.v1 import AppTest

from app.chosen import bin_width
from app.list_export import PREPARED
from app.published import PublishedCopy, query
from include.customer_360.settings import PROJECT_ROOT, Settings
from tests.screens.conftest import Screen
from tests.screens.looking import captions, downloads, in_the_copy, log_of, metrics, number, prepare, texts
from tests.screens.small_copy import customer_id


def choose(page: AppTest, label: str, *values: str | None) -> AppTest:
    [filter_of_it] = [each for each in page.multiselect if each.label == label]
    filter_of_it.set_value(list(values))
    return page


def customers_shown(page: AppTest) -> list[str]:
    return list(page.dataframe[-1].value.Customer)


def test_everybody_without_a_filter(screen: Screen) -> None:
    page = screen("segments", "marketing")
    assert metrics(page) == {
        "Customers": "8",
        "Total lifetime value": "$279,000.00",
        "Average lifetime value": "$34,875.00",
        "Spend change": "-3.9 %",
        "Active share": "50.0 %",
    }
    sizes, states, cards, recency, values = (texts(each.value) for each in page.table)
    assert list(page.table[0].value.columns) == [
        "Customers",
        "Average lifetime value",
        "Average monthly spend",
        "Spend change",
        "Active share",
    ]
    assert sizes == {
        # 1,900 dollars in 90 days are 633.33 a month of two; 1,900 after 6,500.
        "Declining": ["2", "$35,000.00", "$316.67", "-70.8 %", "0.0 %"],
        "High-Value Travelers": ["2", "$90,000.00", "$5,500.00", "6.5 %", "100.0 %"],
        "Budget-Conscious": ["1", "$8,000.00", "$400.00", "20.0 %", "100.0 %"],
        "New & Growing": ["1", "$1,000.00", "$266.67", "-", "0.0 %"],
        "No transaction yet": ["1", "$0.00", "$0.00", "-", "0.0 %"],
        "Stable Mid-Spenders": ["1", "$20,000.00", "$1,000.00", "0.0 %", "100.0 %"],
    }
    assert states == {"NY": ["3"], "TX": ["3"], "CA": ["2"]}
    assert cards == {"Standard": ["5"], "Premium": ["3"]}
    assert recency == {
        "Budget-Conscious": ["1", "0", "0", "0"],
        "Declining": ["0", "0", "1", "1"],
        "High-Value Travelers": ["2", "0", "0", "0"],
        "New & Growing": ["0", "1", "0", "0"],
        "No transaction yet": ["0", "0", "0", "1"],
        "Stable Mid-Spenders": ["1", "0", "0", "0"],
    }
    assert len(values) == 25
    assert {step: count for step, [count] in values.items() if count != "0"} == {
        "$0 to $5,000": "2",
        "$5,000 to $10,000": "1",
        "$10,000 to $15,000": "1",
        "$20,000 to $25,000": "1",
        "$60,000 to $65,000": "2",
        "$120,000 to $125,000": "1",
    }
    assert customers_shown(page) == [customer_id(each) for each in (1, 2, 3, 5, 4, 6, 7, 8)]
    assert page.dataframe[-1].value.iloc[-1].tolist() == [
        *(customer_id(8), "-", "TX", "Standard", "Inactive (90+ days)", "$0.00", "$0.00", "-")
    ]
    assert "8 of 8 customers, highest lifetime value first." in captions(page)


def test_the_filters_hold_together_and_nobody_is_lost_who_has_no_segment(screen: Screen) -> None:
    page = choose(screen("segments", "marketing"), "Segment", "Declining", None).run()
    assert metrics(page)["Customers"] == "3"
    assert metrics(page)["Total lifetime value"] == "$70,000.00"
    assert customers_shown(page) == [customer_id(3), customer_id(4), customer_id(8)]
    choose(page, "State", "TX").run()
    assert customers_shown(page) == [customer_id(4), customer_id(8)]
    number(page, "Lifetime value to, in dollars", 10_000).run()
    assert customers_shown(page) == [customer_id(4), customer_id(8)]
    number(page, "Lifetime value from, in dollars", 10_000).run()
    assert customers_shown(page) == [customer_id(4)]
    choose(page, "Card", "Premium").run()
    assert metrics(page) == {
        "Customers": "0",
        "Total lifetime value": "-",
        "Average lifetime value": "-",
        "Spend change": "-",
        "Active share": "-",
    }
    assert [each.value for each in page.info][-1] == ("No customer is chosen by these filters. Take one of them away.")


def test_churn_risk_is_not_yet_modelled(screen: Screen) -> None:
    page = screen("segments", "marketing")
    [risk] = [each for each in page.selectbox if each.label == "Churn risk"]
    assert (risk.disabled, risk.value) == (True, "Not yet modelled")
    assert page.info[0].value == (
        "Churn risk: not yet modelled. Column churn_risk_category is empty until a model fills it."
    )


def test_a_list_is_written_down_before_it_is_offered_and_downloaded_once(screen: Screen, settings: Settings) -> None:
    page = choose(screen("segments", "marketing"), "State", "NY")
    number(page, "Lifetime value from, in dollars", 50_000).run()
    assert (log_of(settings), downloads(page)) == ([], [])
    prepare(page)
    [line] = log_of(settings)
    assert (line["role"], line["event"], line["customer_id"]) == ("marketing", "list_export", None)
    assert json.loads(str(line["detail"])) == {
        "page": "segments",
        "filters": {"state": ["NY"], "lifetime_value_from": "50000"},
        "columns": ["customer_id"],
        "rows": 2,
    }
    assert downloads(page) == ["Download 2 customers as CSV"]
    assert page.session_state[PREPARED].content == b"customer_id\nCUST00000001\nCUST00000003\n"
    choose(page, "State", "NY", "CA").run()
    assert downloads(page) == []


def test_what_cannot_be_written_down_is_not_offered(screen: Screen, settings: Settings) -> None:
    settings.screens_log_file.mkdir()
    page = prepare(screen("segments", "marketing"))
    assert page.error[0].value.startswith(f"{settings.screens_log_file} cannot be written")
    assert downloads(page) == []
    assert PREPARED not in page.session_state


def test_who_may_not_take_lists_sees_why(screen: Screen) -> None:
    page = screen("segments", "executive")
    assert len(customers_shown(page)) == 8
    assert [each.label for each in page.button] == []
    assert captions(page)[-1] == "Role Executive does not download lists of customers (docs/screens.md, Roles)."


def test_a_table_has_no_button_of_its_own_that_takes_it_away() -> None:
    config = (PROJECT_ROOT / "app" / ".streamlit" / "config.toml").read_text()
    assert "\ndisableDataExport = true\n" in config


def test_who_may_see_names_has_them_in_the_list_that_is_written_down_only_and_no_cell_is_a_formula(
    screen: Screen, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles = tmp_path / "roles.yml"
    roles.write_text(
        "roles:\n  care:\n    label: Care\n    pages: [segments]\n    personal_data: true\n    export_lists: true\n"
    )
    monkeypatch.setenv("SCREENS_ROLES", str(roles))
    new = tmp_path / "new.duckdb"
    new.write_bytes(settings.published_personal_file.read_bytes())
    with duckdb.connect(str(new)) as connection:
        connection.execute("update marts.customer_contacts set full_name = '=1+1' where customer_id = 'CUST00000008'")
    new.replace(settings.published_personal_file)
    page = choose(screen("segments"), "State", "TX").run()
    assert customers_shown(page) == [customer_id(4), customer_id(7), customer_id(8)]
    assert not {"Name", "Email"} & set(page.dataframe[-1].value.columns)
    prepare(page)
    assert page.session_state[PREPARED].content.decode() == (
        "customer_id,full_name,email\n"
        "CUST00000004,Dee Hill,dee@mail.example.com\n"
        "CUST00000007,Gus Field,gus@mail.example.com\n"
        "CUST00000008,'=1+1,hal@mail.example.com\n"
    )


def test_a_thousand_customers_are_shown_and_the_list_has_all(screen: Screen, settings: Settings) -> None:
    in_the_copy(
        settings,
        "insert into marts.customer_360_profile by name select profiles.* replace ('X' || range as customer_id) "
        "from marts.customer_360_profile as profiles, range(1000) where customer_id = 'CUST00000008'",
    )
    page = screen("segments", "marketing")
    assert len(customers_shown(page)) == 1000
    assert "1,000 of 1,008 customers, highest lifetime value first. No more than 1,000 are shown." in captions(page)
    assert downloads(prepare(page)) == ["Download 1,008 customers as CSV"]


def test_an_empty_bank_is_said(screen: Screen, settings: Settings) -> None:
    in_the_copy(settings, "delete from marts.customer_360_profile")
    page = screen("segments", "marketing")
    assert metrics(page)["Customers"] == "0"
    assert page.info[-1].value == "No customer is chosen by these filters. Take one of them away."


@pytest.mark.parametrize(
    ("highest", "width"),
    [(0, 1), (24.99, 1), (25, 2), (49, 2), (50, 5), (206_122.61, 10_000), (249_999, 10_000), (250_000, 20_000)],
)
def test_the_steps_of_a_histogram_are_round_and_no_more_than_25(highest: float, width: int) -> None:
    assert bin_width(highest) == width


def test_what_there_is_to_choose_is_that_of_the_copy_as_it_is_now(screen: Screen, settings: Settings) -> None:
    page = screen("segments", "marketing")
    in_the_copy(
        settings,
        "update marts.customer_360_profile set state = 'WA' where state = 'CA'",
        "update marts.publication_state set copied_at = copied_at + interval 1 hour",
    )
    page.run()
    [states] = [each for each in page.multiselect if each.label == "State"]
    assert states.options == ["NY", "TX", "WA"]


def test_what_there_is_to_choose_is_kept_for_its_reader_alone(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    frame = PublishedCopy.frame
    monkeypatch.setattr(
        PublishedCopy, "frame", lambda copy, sql, *bound: (read.append(sql), frame(copy, sql, *bound))[1]
    )
    # In a test all readers have one session.
    session = ["ann"]
    monkeypatch.setattr(cache_data_api, "get_session_id_or_throw", lambda: session[0])
    screen("segments", "marketing").run()
    assert read.count(query("chosen/choices")) == 1
    session[0] = "ben"
    screen("segments", "marketing")
    assert read.count(query("chosen/choices")) == 2
