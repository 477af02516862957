"""Page Ask, on the small copy: what the controls ask, the verified questions, and Cortex Analyst on Snowflake."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import pandas as pd
import pytest
from snowflake.connector import ProgrammingError
from snowflake.connector.cursor import ResultMetadata
from streamlit.testing.v1 import AppTest

from app import published, reader
from app.published import open_copy
from app.questions import names_customers, texts_in
from app.roles import load_roles
from app.verified_queries import NoVerifiedQueries, load_verified_queries
from include.customer_360.settings import Settings
from tests.screens.analyst_server import Analyst, analyst_server
from tests.screens.conftest import Screen
from tests.screens.looking import captions, in_the_copy
from tests.screens.small_copy import customer_id


def by_label(widgets: Iterable[Any], label: str) -> Any:  # noqa: ANN401 - a widget of AppTest
    [found] = [each for each in widgets if each.label == label]
    return found


def log_of(settings: Settings) -> list[dict[str, Any]]:
    file = settings.screens_log_file
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_a_figure_by_a_dimension_with_its_sql(screen: Screen, settings: Settings) -> None:
    page = screen("ask", "operations")
    assert [(each.label, each.value) for each in page.metric] == [("Customers", "8")]
    by_label(page.multiselect, "Figures").select("average_lifetime_value")
    by_label(page.multiselect, "Cut by").select("state")
    by_label(page.multiselect, "Filter on").select("customer_segment")
    page.run()
    by_label(page.multiselect, "Segment: is one of").select("Declining").select("High-Value Travelers").run()
    assert page.dataframe[0].value.values.tolist() == [
        ["CA", 1.0, 60_000.0],
        ["NY", 2.0, 90_000.0],
        ["TX", 1.0, 10_000.0],
    ]
    assert "marts.customer_360_profile as customer_360_profile" in page.code[0].value
    assert "customer_360_profile.customer_segment in (?, ?)" in page.code[0].value
    assert page.text[0].value == "Values of the ? in their order: 'Declining', 'High-Value Travelers'"
    assert "The chart is of Customers. The table has the same figures." in [each.value for each in page.caption]
    assert not log_of(settings)


def test_figures_over_time_in_a_period(screen: Screen) -> None:
    page = screen("ask", "operations")
    by_label(page.selectbox, "About").select("customer_360_history").run()
    by_label(page.multiselect, "Figures").set_value(["customers_on_date", "retention_rate_on_date"])
    by_label(page.multiselect, "Cut by").set_value(["as_of_date", "card_type"])
    by_label(page.multiselect, "Filter on").select("as_of_date")
    page.run()
    assert page.dataframe[0].value["Customers on a date"].tolist() == [3, 4, 3, 5]
    by_label(page.date_input, "As of: from").set_value(datetime.date(2026, 3, 2)).run()
    assert page.dataframe[0].value.iloc[:, 1:3].values.tolist() == [["Premium", 3], ["Standard", 5]]
    assert page.text[0].value == "Values of the ? in their order: '2026-03-02', '2026-03-31'"


def test_figures_of_one_horizon_take_the_first_until_another_is_chosen(screen: Screen) -> None:
    page = screen("ask", "operations")
    by_label(page.selectbox, "About").select("campaign_results").run()
    by_label(page.multiselect, "Figures").set_value(["average_lift_pct"]).run()
    assert page.text[0].value == "Values of the ? in their order: 30"
    assert [(each.label, each.value) for each in page.metric] == [("Lift in percent", "10.0 %")]


def test_a_missing_value_an_empty_answer_and_no_figure_are_said(screen: Screen) -> None:
    page = screen("ask", "operations")
    by_label(page.multiselect, "Cut by").select("customer_segment")
    by_label(page.multiselect, "Filter on").select("marketing_opt_in")
    page.run()
    by_label(page.selectbox, "Marketing opt-in: how").select("is null").run()
    assert page.dataframe[0].value.values.tolist() == [["Budget-Conscious", 1.0]]
    by_label(page.selectbox, "Marketing opt-in: how").select("=").run()
    by_label(page.selectbox, "Marketing opt-in: is").select(True).run()
    assert page.text[0].value == "Values of the ? in their order: true"
    assert sum(page.dataframe[0].value["Customers"]) == 6
    by_label(page.multiselect, "Figures").set_value([]).run()
    assert [each.value for each in page.info] == ["Choose one figure or more."]


def test_no_figure_is_cut_by_single_customers_and_what_is_not_modelled_is_said(screen: Screen) -> None:
    page = screen("ask", "operations")
    for label in ("Cut by", "Filter on"):
        assert "Customer" not in by_label(page.multiselect, label).options
    told = [each.value for each in page.markdown]
    assert any(each.startswith(r"**Churn risk share**: not yet modelled\.") for each in told)


def test_a_verified_question_runs_as_it_is(screen: Screen, settings: Settings) -> None:
    page = screen("ask", "operations")
    by_label(page.radio, "How to ask").set_value("Verified questions").run()
    by_label(page.radio, "Question").set_value("segment_summary").run()
    answer = page.dataframe[0].value
    assert answer.columns.tolist() == ["customer_segment", "customer_count", "avg_ltv", "avg_atv", "avg_mom_change"]
    assert answer.iloc[0].tolist()[:4] == ["High-Value Travelers", 2, 90_000, 360]
    assert page.code[0].value == next(each.sql for each in load_verified_queries() if each.name == "segment_summary")
    assert not log_of(settings)


def test_an_answer_about_single_customers_is_written_down_once(screen: Screen, settings: Settings) -> None:
    page = screen("ask", "operations")
    by_label(page.radio, "How to ask").set_value("Verified questions").run()
    by_label(page.radio, "Question").set_value("customers_for_the_retention_campaign").run()
    page.run()
    assert page.dataframe[0].value["customer_id"].tolist() == ["CUST00000003"]
    [line] = log_of(settings)
    assert (line["role"], line["event"], line["customer_id"]) == ("operations", "look_up", "CUST00000003")
    assert json.loads(line["detail"]) == {
        "by": "verified question",
        "question": "customers_for_the_retention_campaign",
        "rows": 1,
    }
    by_label(page.radio, "Question").set_value("top_customers_by_lifetime_value").run()
    assert [line["customer_id"] for line in log_of(settings)[1:]] == [customer_id(each) for each in range(1, 9)]
    settings.screens_log_file.unlink()
    settings.screens_log_file.mkdir()
    by_label(page.radio, "Question").set_value("high_value_travelers").run()
    assert "cannot be written" in page.error[0].value
    assert not page.dataframe


def test_every_verified_question_has_an_answer(settings: Settings) -> None:
    copy = open_copy(settings, personal_data=False)
    rows = {each.name: len(copy.in_marts(each.sql)) for each in load_verified_queries()}
    assert rows["customers_who_changed_segment"] == 1
    assert rows["monthly_spend_of_a_customer"] == 3
    assert [name for name, number in rows.items() if number == 0] == ["customers_with_biggest_decline"]


def test_questions_that_are_not_there_are_said(tmp_path: Path) -> None:
    with pytest.raises(NoVerifiedQueries, match=r"none\.yml has no questions that can be used: FileNotFoundError"):
        load_verified_queries(tmp_path / "none.yml")
    broken = tmp_path / "broken.yml"
    broken.write_text("- name: a\n")
    with pytest.raises(NoVerifiedQueries, match=r"broken\.yml .*KeyError: 'question'"):
        load_verified_queries(broken)


def test_of_an_answer_about_many_customers_it_is_written_down_how_many(screen: Screen, settings: Settings) -> None:
    in_the_copy(
        settings,
        "insert into marts.customer_360_profile by name select profiles.* replace ('X' || range as customer_id) "
        "from marts.customer_360_profile as profiles, range(13) where customer_id = 'CUST00000008'",
    )
    page = screen("ask", "operations")
    by_label(page.radio, "How to ask").set_value("Verified questions").run()
    by_label(page.radio, "Question").set_value("top_customers_by_lifetime_value").run()
    [line] = log_of(settings)
    assert line["customer_id"] is None
    assert json.loads(line["detail"])["customers"] == 21


def test_an_answer_about_the_customer_whom_its_sql_names_is_theirs(screen: Screen, settings: Settings) -> None:
    page = screen("ask", "operations")
    by_label(page.radio, "How to ask").set_value("Verified questions").run()
    by_label(page.radio, "Question").set_value("monthly_spend_of_a_customer").run()
    assert [line["customer_id"] for line in log_of(settings)] == ["CUST00000001"]


@pytest.mark.parametrize(
    ("sql", "columns", "named"),
    [
        ("select customer_id from t", ["customer_id"], True),
        ("select spend from t where t.CUSTOMER_ID like 'A%'", ["spend"], True),
        ('select "CUSTOMER_ID" as id from t', ["id"], True),
        ("select * from t", ["CUSTOMER_ID", "spend"], True),
        ("select * from t", ["state", "email"], True),
        ("select count(*) from t where full_name = 'Ada Stone'", ["count"], True),
        ("select count(*) from customer_360_profile", ["count"], False),
        ("select * from t", ["state", "customers"], False),
    ],
)
def test_which_answer_may_be_about_single_customers(sql: str, columns: list[str], named: bool) -> None:
    assert names_customers(sql, pd.DataFrame(columns=columns)) is named


@pytest.mark.parametrize(
    ("sql", "texts"),
    [
        ("select 'a', 'b''c', 'a'", ["a", "b'c"]),
        ("select 1 -- it's\nwhere x = 'a' /* don't */ and y = 'b'", ["a", "b"]),
        ("select \"it's\" from t where x = $$CUST$$ and y = ''", ["CUST"]),
        ("select 1", []),
    ],
)
def test_the_texts_of_a_statement(sql: str, texts: list[str]) -> None:
    assert texts_in(sql) == texts


class SmallSnowflake:
    """A connection like that of Snowflake's connector, whose marts are the small copy."""

    database = "CUSTOMER_360"

    def __init__(self, settings: Settings, server: str) -> None:
        self.copy = duckdb.connect()
        self.copy.execute(f"attach '{settings.published_file}' as customer_360 (read_only); use customer_360.marts")
        self.rest = type("Rest", (), {"server_url": server, "token": "t0ken"})
        self.run: list[str] = []
        self.written: list[dict[str, Any]] = []

    def cursor(self) -> SmallSnowflake:
        return self

    def __enter__(self) -> SmallSnowflake:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> None:
        self.run.append(sql)
        if sql.startswith("insert into ops.screens_log"):
            self.written.append({"customer_id": parameters[5], **json.loads(str(parameters[6]))})
        if not sql.startswith(("insert", "use")):
            self.copy.execute(sql, list(parameters))

    @property
    def description(self) -> list[ResultMetadata]:
        return [ResultMetadata(column[0].upper(), 2, None, None, None, None, True) for column in self.copy.description]

    def fetch_pandas_all(self) -> pd.DataFrame:
        return self.copy.df().rename(columns=str.upper)


@pytest.fixture
def analyst() -> Iterator[Analyst]:
    with analyst_server() as server:
        yield server


@pytest.fixture
def snowflake(settings: Settings, analyst: Analyst, monkeypatch: pytest.MonkeyPatch) -> SmallSnowflake:
    """The screens in Snowflake, as a reader of the role operations."""
    connection = SmallSnowflake(settings, analyst.url)
    monkeypatch.setenv("WAREHOUSE", "snowflake")
    monkeypatch.setattr(published, "_snowflake", lambda: connection)
    operations = {"operations": load_roles(settings.screens_roles).roles["operations"]}
    monkeypatch.setattr(reader, "roles_of_reader", lambda: ("ann@mail.example.com", operations))
    return connection


def asked_in_words(page: AppTest, question: str) -> AppTest:
    by_label(page.radio, "How to ask").set_value("In words").run()
    by_label(page.text_input, "Question").input(question)
    return by_label(page.button, "Ask").click().run()


def test_in_words_the_sql_is_shown_before_it_is_run(
    screen: Screen, snowflake: SmallSnowflake, analyst: Analyst
) -> None:
    analyst.says(
        {"type": "text", "text": "Customers by state."},
        {"type": "sql", "statement": "select state, count(*) as customers from customer_360_profile group by 1;"},
    )
    page = asked_in_words(screen("ask"), "How many customers by state?")
    assert analyst.asked[0][2]["semantic_view"] == "CUSTOMER_360.marts.customer_360"
    assert page.code[0].value == "select state, count(*) as customers from customer_360_profile group by 1"
    assert not page.dataframe
    by_label(page.button, "Run this SQL").click().run()
    assert dict(page.dataframe[0].value.values.tolist()) == {"NY": 3, "CA": 2, "TX": 3}
    assert snowflake.written == [
        {
            "customer_id": None,
            "by": "words",
            "question": "r-1",
            "statement": "select state, count(*) as customers from customer_360_profile group by 1",
            "rows": 3,
        }
    ]
    assert len(analyst.asked) == 1


def test_in_words_who_asks_about_customers_is_written_down(
    screen: Screen, snowflake: SmallSnowflake, analyst: Analyst
) -> None:
    analyst.says(
        {
            "type": "sql",
            "statement": "select lifetime_value from customer_360_profile where customer_id = 'CUST00000001'",
        }
    )
    page = asked_in_words(screen("ask"), "What is CUST00000001 worth?")
    by_label(page.button, "Run this SQL").click().run()
    assert page.dataframe[0].value.values.tolist() == [[120_000]]
    page.run()
    assert [line["customer_id"] for line in snowflake.written] == ["CUST00000001"]


def test_in_words_sql_that_is_refused_is_written_down_too(
    screen: Screen, snowflake: SmallSnowflake, analyst: Analyst, monkeypatch: pytest.MonkeyPatch
) -> None:
    analyst.says({"type": "sql", "statement": "select cast(full_name as integer) from customer_360_profile"})
    page = asked_in_words(screen("ask"), "Names?")
    execute = snowflake.execute

    def refused(sql: str, parameters: Sequence[object] = ()) -> None:
        if "cast(full_name" in sql:
            raise ProgrammingError("Numeric value 'Ada Stone' is not recognized")
        execute(sql, parameters)

    monkeypatch.setattr(snowflake, "execute", refused)
    by_label(page.button, "Run this SQL").click().run()
    assert "is not recognized" in page.error[0].value
    [line] = snowflake.written
    assert line["statement"] == "select cast(full_name as integer) from customer_360_profile"
    assert line["rows"] is None


def test_in_words_what_is_no_select_is_shown_and_not_run(
    screen: Screen, snowflake: SmallSnowflake, analyst: Analyst
) -> None:
    analyst.says({"type": "sql", "statement": "select 1; drop table customer_360_profile"})
    page = asked_in_words(screen("ask"), "Drop it")
    assert page.code[0].value == "select 1; drop table customer_360_profile"
    assert [each.value for each in page.error] == [
        "This SQL is not run. There is a semicolon inside it: it may be more than one statement."
    ]
    assert not [each for each in page.button if each.label == "Run this SQL"]
    assert not any("drop" in sql for sql in snowflake.run)


def test_in_words_suggestions_and_refusals_are_shown(
    screen: Screen, snowflake: SmallSnowflake, analyst: Analyst
) -> None:
    analyst.says({"type": "text", "text": "Not that."}, {"type": "suggestions", "suggestions": ["How many customers?"]})
    page = asked_in_words(screen("ask"), "And the weather?")
    assert [each.value for each in page.markdown][-2:] == [r"Not that\.", r"- How many customers\?"]
    assert [each.value for each in page.info] == ["There is no SQL to run: ask in other words."]
    analyst.refuses(429, "{}")
    page = by_label(page.button, "Ask").click().run()
    assert "Too much is asked at once" in page.error[0].value
    assert not page.info


def test_without_snowflake_nothing_is_asked_in_words(screen: Screen, settings: Settings) -> None:
    assert by_label(screen("ask", "operations").radio, "How to ask").options == ["By figures", "Verified questions"]


def ask_for_audiences(page: AppTest) -> AppTest:
    by_label(page.selectbox, "About").select("audience_memberships").run()
    return by_label(page.multiselect, "Figures").set_value(["audience_exported"]).run()


def test_of_which_date_figures_are_that_are_never_added_up_is_said(screen: Screen, settings: Settings) -> None:
    """retention decided for 31 March; premium, here, last for the day before."""
    in_the_copy(
        settings,
        "update marts.audience_memberships set as_of_date = date '2026-03-30' where campaign = 'premium'",
    )
    page = ask_for_audiences(screen("ask", "operations"))
    any_campaign = "that any campaign decided for: one that decided nothing for it has 0."
    assert f"Figures of 31 Mar 2026, the latest date {any_campaign}" in captions(page)
    by_label(page.multiselect, "Filter on").set_value(["campaign"]).run()
    by_label(page.multiselect, "Campaign: is one of").set_value(["premium"]).run()
    assert [each.value for each in page.metric] == ["0"]
    assert f"Figures of 31 Mar 2026, the latest date {any_campaign}" in captions(page)
    by_label(page.multiselect, "Filter on").set_value(["as_of_date"]).run()
    by_label(page.date_input, "As of: until").set_value(datetime.date(2026, 3, 30)).run()
    assert f"Figures of 30 Mar 2026, the latest date within the filter of dates {any_campaign}" in captions(page)
    by_label(page.selectbox, "As of: how").select("=").run()
    by_label(page.selectbox, "As of: is").select(datetime.date(2026, 3, 30)).run()
    assert not any(each.startswith("Figures of") for each in captions(page))
    by_label(page.multiselect, "Filter on").set_value([]).run()
    by_label(page.multiselect, "Cut by").set_value(["as_of_date"]).run()
    assert not any(each.startswith("Figures of") for each in captions(page))


def test_an_export_that_renews_a_part_of_the_copy_renews_what_there_is_to_choose(
    screen: Screen, settings: Settings
) -> None:
    page = ask_for_audiences(screen("ask", "operations"))
    by_label(page.multiselect, "Filter on").set_value(["campaign"]).run()
    in_the_copy(
        settings,
        "update marts.audience_memberships set campaign = 'onboarding' where campaign = 'premium'",
        "update marts.publication_state set copied_at = copied_at + interval 1 hour",
    )
    page.run()
    assert by_label(page.multiselect, "Campaign: is one of").options == ["onboarding", "retention"]
