"""Page Customer, on the small copy: whom a reader finds, what stands there, and that each look-up is written down."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from app import look_up
from app.look_up import find
from app.next_action import next_actions
from app.published import open_copy
from app.reader import CHOSEN
from include.customer_360.settings import PROJECT_ROOT, Settings
from tests.screens.conftest import MAIN, Screen
from tests.screens.looking import in_the_copy
from tests.screens.small_copy import AS_OF, customer_id


def searched(page: AppTest, text: str) -> AppTest:
    page.main.text_input[0].input(text)
    [button] = [each for each in page.button if each.label == "Look up"]
    return button.click().run()


def logged(settings: Settings) -> list[tuple[str, str, str | None, dict[str, Any]]]:
    """Return role, event, whom and what else each line of the log says."""
    if not settings.screens_log_file.exists():
        return []
    lines = [json.loads(line) for line in settings.screens_log_file.read_text().splitlines()]
    return [(line["role"], line["event"], line["customer_id"], json.loads(line["detail"])) for line in lines]


def facts(page: AppTest) -> dict[str, str]:
    """Return the names and values of the page's lists."""
    shown: dict[str, str] = {}
    for each in page.get("html"):
        for entry in each.proto.body.split("<div>")[1:]:
            name, value = (part.rpartition(">")[2] for part in entry.split("</d")[:2])
            shown[name] = value
    return shown


@pytest.fixture
def masked(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A role that has the page without the right to personal data."""
    roles = tmp_path / "roles.yml"
    roles.write_text(
        "roles:\n  call_center:\n    label: Call center\n    pages: [customer]\n    personal_data: false\n"
        "    export_lists: false\n"
    )
    monkeypatch.setenv("SCREENS_ROLES", str(roles))


def test_one_customer_in_one_view(screen: Screen, settings: Settings) -> None:
    page = searched(screen("customer", "service"), " cust00000001 ")
    assert logged(settings) == [("service", "look_up", "CUST00000001", {"by": "id", "rows": 1})]
    assert not page.exception
    assert page.header[0].value == r"Ada Stone\, CUST00000001"
    shown = facts(page)
    assert {name: shown[name] for name in ("E-mail address", "Card", "Credit limit", "Opened", "Closed")} == {
        "E-mail address": "ada@mail.example.com",
        "Card": "Premium",
        "Credit limit": "$10,000.00",
        "Opened": "1 Jan 2024",
        "Closed": "-",
    }
    assert {each.label: each.value.replace("\\", "") for each in page.metric} == {
        "Lifetime value": "$120,000.00",
        "Average transaction value": "$400.00",
        "Transactions": "300",
        "Spend, last 90 days": "$18,000.00",
        "Spend change": "20.0 %",
        "Average monthly spend": "$6,000.00",
    }
    assert [shown[f"Eligible for {each}"] for each in ("retention", "onboarding", "premium")] == ["no", "no", "yes"]
    assert "Churn risk and its reasons: not yet modelled" in page.info[0].value
    assert page.markdown[0].value == r"- Campaign premium writes to them\: they are in its audience of 31 Mar 2026\."

    months, segments, recency, memberships, categories = [each.value for each in page.dataframe]
    assert months["Spend"].tolist() == [6200, 6100, 6000]
    assert months["Change"].round(1).tolist()[:2] == [1.6, 1.7]
    assert segments.to_dict("records") == [
        {"Segment": "High-Value Travelers", "From": pd.Timestamp("2026-03-01"), "Until": pd.Timestamp("2026-03-31")}
    ]
    assert len(recency) == 1
    assert memberships[["Campaign", "Decision", "Reason", "Entered"]].to_dict("records") == [
        {"Campaign": "premium", "Decision": "exported", "Reason": "-", "Entered": "yes"}
    ]
    assert categories.to_dict("records") == [
        {"Category": "Travel", "Group": "travel", "Transactions": 12, "Spend": 12_000},
        {"Category": "Dining", "Group": "other", "Transactions": 40, "Spend": 6_000},
    ]


def test_a_customer_who_changed_segment_has_a_period_for_each(screen: Screen) -> None:
    page = searched(screen("customer", "service"), customer_id(3))
    _, segments, recency, memberships = [each.value for each in page.dataframe]
    assert segments.astype(str).values.tolist() == [
        ["Declining", "2026-03-31", "2026-03-31"],
        ["Stable Mid-Spenders", "2026-03-01", "2026-03-01"],
    ]
    assert recency["Recency"].tolist() == ["At Risk (90 days)", "Active (30 days)"]
    assert memberships["As of"].astype(str).tolist() == ["2026-03-31", "2026-03-30"]
    assert page.info[-1].value == "The customer has no transaction in the last 90 days."


def test_a_customer_without_a_transaction_and_with_a_closed_account(screen: Screen, settings: Settings) -> None:
    in_the_copy(
        settings,
        "update marts.customer_360_profile set account_closed_date = date '2026-02-15' "
        "where customer_id = 'CUST00000008'",
    )
    page = searched(screen("customer", "service"), customer_id(8))
    assert [each.value for each in page.warning][1:] == ["The account was closed on 15 Feb 2026."]
    assert page.markdown[0].value == r"- None\. The account is closed\: no campaign writes to them\."
    assert {each.label: each.value.replace("\\", "") for each in page.metric} | {"Transactions": "0"} == {
        "Lifetime value": "$0.00",
        "Average transaction value": "-",
        "Transactions": "0",
        "Spend, last 90 days": "$0.00",
        "Spend change": "-",
        "Average monthly spend": "$0.00",
    }
    assert facts(page)["Segment"] == "No transaction yet"
    assert [each.value for each in page.info][1:] == [
        "The customer has no complete month yet: spend by month begins with the first.",
        "No campaign has decided anything about this customer.",
        "The customer has no transaction in the last 90 days.",
    ]


def test_one_view_is_one_line_and_the_next_look_up_is_another(screen: Screen, settings: Settings) -> None:
    page = searched(screen("customer", "service"), customer_id(1))
    page.run()
    assert len(logged(settings)) == 1
    searched(page, customer_id(2))
    searched(page, customer_id(2))
    assert [whom for _, _, whom, _ in logged(settings)] == [customer_id(1), customer_id(2), customer_id(2)]


def test_what_cannot_be_written_down_is_not_shown(screen: Screen, settings: Settings) -> None:
    page = screen("customer", "service")
    settings.screens_log_file.mkdir()
    page = searched(page, customer_id(1))
    assert page.error[0].value.startswith(f"{settings.screens_log_file} cannot be written: ")
    assert not page.header
    assert not page.metric
    settings.screens_log_file.rmdir()
    assert not page.run().header, "it takes a new look-up"


def test_several_hits_are_one_line_and_whom_the_reader_chooses_another(screen: Screen, settings: Settings) -> None:
    page = searched(screen("customer", "service"), "s")  # Stone, Rivers, Woods, Marsh, Gus.
    assert [each.value for each in page.info] == ["5 customers were found."]
    assert page.dataframe[0].value["Name"].tolist() == [
        "Ada Stone",
        "Ben Rivers",
        "Eve Woods",
        "Flo Marsh",
        "Gus Field",
    ]
    assert not page.header
    page.main.selectbox[0].select(customer_id(5)).run()
    assert page.header[0].value == r"Eve Woods\, CUST00000005"
    page.run()
    page.main.selectbox[0].select(customer_id(6)).run()
    assert logged(settings) == [
        (
            "service",
            "look_up",
            None,
            {"by": "name", "rows": 5, "listed": [customer_id(each) for each in (1, 2, 5, 6, 7)]},
        ),
        ("service", "look_up", customer_id(5), {"by": "list", "rows": 1}),
        ("service", "look_up", customer_id(6), {"by": "list", "rows": 1}),
    ]
    assert "Eve" not in settings.screens_log_file.read_text()


def test_a_link_is_a_look_up_like_any_other(screen: Screen, settings: Settings) -> None:
    page = screen("customer", "service")
    page.query_params["customer"] = "cust00000002"
    page.run()
    page.run()
    assert page.header[0].value == r"Ben Rivers\, CUST00000002"
    assert logged(settings) == [("service", "look_up", customer_id(2), {"by": "link", "rows": 1})]
    page.query_params["customer"] = "Ada Stone"
    page.run()
    page.run()
    assert not page.header
    assert logged(settings)[1:] == [("service", "look_up", None, {"by": "link", "rows": 0})]


def test_another_role_and_a_page_that_was_left_look_up_anew(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles = tmp_path / "roles.yml"
    text = (PROJECT_ROOT / "app" / "roles.yml").read_text()
    roles.write_text(text.replace("pages: [nights, ask]", "pages: [nights, customer]"))
    monkeypatch.setenv("SCREENS_ROLES", str(roles))
    page = AppTest.from_file(str(MAIN), default_timeout=30)
    page.session_state[CHOSEN] = "operations"
    page.switch_page("screens/customer.py").run()
    searched(page, customer_id(1))
    assert page.header[0].value == r"\*\*\*\*\*\, CUST00000001"
    del page.query_params["customer"]  # As Streamlit does when a page is left.
    page.switch_page("screens/nights.py").run()
    page.switch_page("screens/customer.py").run()
    assert not page.header
    searched(page, customer_id(1))
    [role] = [each for each in page.sidebar.selectbox if each.label == "Role"]
    role.select("service").run()
    assert page.header[0].value == r"Ada Stone\, CUST00000001"
    assert [(role, detail["by"]) for role, _, _, detail in logged(settings)] == [
        ("operations", "id"),
        ("operations", "id"),
        ("service", "link"),
    ]


@pytest.mark.usefixtures("masked")
def test_without_the_right_to_personal_data_an_id_finds_and_a_name_does_not(screen: Screen, settings: Settings) -> None:
    page = screen("customer")
    assert page.main.text_input[0].label == "Id of the customer"
    for text in ("Stone", "ada@mail.example.com", "*****"):
        searched(page, text)
        assert [each.value for each in page.info] == [
            "No customer has this id. Names and addresses are masked for role Call center: it finds customers by id "
            "only."
        ]
    searched(page, customer_id(1))
    assert facts(page)["Name"] == "*****"
    assert facts(page)["E-mail address"] == "*****"
    assert [detail for _, _, _, detail in logged(settings)] == [{"by": "id", "rows": 0}] * 3 + [{"by": "id", "rows": 1}]


@pytest.mark.parametrize(
    ("text", "by", "names"),
    [
        ("STONE", "name", ["Ada Stone"]),
        ("o'neil cy", "name", ["Cy O'Neil"]),
        ("O\u2019Neil", "name", ["Cy O'Neil"]),
        ("neil", "name", ["Cy O'Neil"]),
        ("ada rivers", "name", []),
        ("%", "name", []),
        ("_", "name", []),
        ("a\\", "name", []),
        ("' or 1=1 --", "name", []),
        ("Cy O'Neil and two more", "name", []),
        (" Ada@Mail.Example.com", "address", ["Ada Stone"]),
        ("ada@mail", "address", []),
        ("cust00000001", "id", ["Ada Stone"]),
    ],
)
def test_whom_a_text_finds(settings: Settings, text: str, by: str, names: list[str]) -> None:
    found = find(open_copy(settings, personal_data=True), text, personal_data=True)
    assert (found.by, found.listed.full_name.tolist(), found.hits) == (by, names, len(names))


def test_more_hits_than_are_listed_are_counted(
    screen: Screen, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look_up, "LISTED", 2)
    page = searched(screen("customer", "service"), "s")
    assert [each.value for each in page.info] == [
        "5 customers were found, here are the first 2. Give more of the name, or the id."
    ]
    assert len(page.dataframe[0].value) == 2
    assert logged(settings)[0][3] == {"by": "name", "rows": 5, "listed": [customer_id(1), customer_id(2)]}


def test_who_was_erased_meanwhile_is_no_longer_there(screen: Screen, settings: Settings) -> None:
    page = searched(screen("customer", "service"), customer_id(1))
    in_the_copy(settings, "delete from marts.customer_360_profile where customer_id = 'CUST00000001'")
    page.run()
    assert [each.value for each in page.info] == ["This customer is no longer among those published."]


def test_a_name_is_a_text_and_no_markup(screen: Screen, settings: Settings) -> None:
    new = settings.published_personal_file.with_suffix(".new")
    new.write_bytes(settings.published_personal_file.read_bytes())
    with duckdb.connect(str(new)) as connection:
        connection.execute(
            "update marts.customer_contacts set full_name = '<b>![x](http://a.example.com)' "
            "where customer_id = 'CUST00000001'"
        )
    new.replace(settings.published_personal_file)
    page = searched(screen("customer", "service"), customer_id(1))
    assert page.header[0].value == r"\<b\>\!\[x\]\(http\:\/\/a\.example\.com\)\, CUST00000001"
    assert "<b>" not in page.get("html")[0].proto.body


PROFILE: Mapping[str, object] = {
    "deceased_date": None,
    "account_closed_date": None,
    "as_of_date": AS_OF,
    "eligible_for_retention_campaign": True,
    "eligible_for_onboarding_campaign": False,
    "eligible_for_premium_campaign": False,
}


def decisions(*rows: tuple[str, str, str, str | None, str | None]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=["campaign", "as_of_date", "status", "reason", "entered_on"])


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], ["Eligible for campaign retention, which has decided nothing about them for this date."]),
        (
            [("retention", "2026-03-31", "suppressed", "no consent", None)],
            ["Campaign retention may not write to them: no consent."],
        ),
        (
            [("retention", "2026-03-31", "held_out", None, "2026-03-30")],
            ["Do not write to them for campaign retention: held out since 30 Mar 2026, to measure what it changes."],
        ),
        (
            [("premium", "2026-03-31", "outranked", None, None), ("retention", "2026-03-31", "exported", None, None)],
            [
                "Campaign retention writes to them: they are in its audience of 31 Mar 2026.",
                "Campaign premium does not write to them: they are in the audience of one that comes first.",
            ],
        ),
        (
            [("retention", "2026-03-30", "exported", None, None)],
            ["Eligible for campaign retention, which has decided nothing about them for this date."],
        ),
    ],
)
def test_the_next_action_is_what_the_campaigns_decided_for_the_date(rows: list[Any], told: list[str]) -> None:
    assert next_actions(PROFILE, decisions(*rows)) == told


def test_nobody_writes_to_who_has_died_and_who_is_eligible_for_nothing_has_no_next_action() -> None:
    exported = decisions(("retention", "2026-03-31", "exported", None, None))
    assert next_actions({**PROFILE, "deceased_date": AS_OF}, exported) == [
        "None. The customer has died: no campaign writes to them."
    ]
    assert next_actions({**PROFILE, "eligible_for_retention_campaign": False}, decisions()) == [
        "None. The customer is eligible for no campaign."
    ]


@pytest.mark.parametrize("column", ["deceased_date", "account_closed_date"])
def test_a_date_that_has_not_come_by_the_profiles_own_closes_nothing_yet(column: str) -> None:
    eligible = ["Eligible for campaign retention, which has decided nothing about them for this date."]
    tomorrow = AS_OF + datetime.timedelta(days=1)
    assert next_actions({**PROFILE, column: tomorrow}, decisions()) == eligible
    assert next_actions({**PROFILE, column: pd.Timestamp(AS_OF)}, decisions())[0].startswith("None. The ")


def test_an_account_that_closes_tomorrow_is_not_said_to_be_closed(screen: Screen, settings: Settings) -> None:
    in_the_copy(
        settings,
        "update marts.customer_360_profile set account_closed_date = date '2026-04-01', deceased_date = "
        "date '2026-04-01' where customer_id = 'CUST00000003'",
    )
    page = searched(screen("customer", "service"), customer_id(3))
    assert not page.error
    assert not [each for each in page.warning if "closed" in each.value]
    assert "The account closes on 1 Apr 2026." in [each.value for each in page.info]


def test_an_id_as_it_is_written_is_found_before_one_in_another_case(settings: Settings) -> None:
    in_the_copy(
        settings,
        "update marts.customer_360_profile set customer_id = 'cust00000001' where customer_id = 'CUST00000002'",
    )
    copy = open_copy(settings, personal_data=False)
    assert list(find(copy, "cust00000001", personal_data=False).listed.customer_id) == ["cust00000001"]
    assert list(find(copy, "CUST00000001", personal_data=False).listed.customer_id) == ["CUST00000001"]
    assert list(find(copy, "Cust00000001", personal_data=False).listed.customer_id) == ["CUST00000001", "cust00000001"]
