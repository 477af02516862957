"""A threshold stands once, in dbt_project.yml: models and validations read it, and the documents say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from include.customer_360.dbt_vars import dbt_vars
from include.customer_360.settings import DBT_PROJECT, PROJECT_ROOT, SQL_TEMPLATES

# What models/columns.md says of a column, by docs block.
COLUMNS = {
    "reject_reason": (
        "amount above limit ({largest_transaction_amount} dollars), date missing, date not a date, "
        "date out of range (before {calendar_first_day} or after {calendar_last_day})"
    ),
    "spend_last_90_days": (
        "of the {spend_window_days} days that end with as_of_date: transaction_date in "
        "(as_of_date - {spend_window_days}, as_of_date]"
    ),
    "spend_prior_90_days": (
        "of the {spend_window_days} days before those: transaction_date in "
        "(as_of_date - {two_windows}, as_of_date - {spend_window_days}]"
    ),
    "avg_monthly_spend": "spend_last_90_days / {window_months}, in dollars a month",
    "customer_segment": (
        "High-Value Travelers (avg_monthly_spend >= {high_value_avg_monthly_spend} and travel_spend_pct >= "
        "{travel_focused_pct}); Declining (spend_change_pct <= {declining_spend_change_pct} and spend_prior_90_days >= "
        "{declining_prior_spend}); New & Growing (tenure_months <= {new_tenure_months} and either spend_change_pct >= "
        "{growing_spend_change_pct}, or spend_prior_90_days = 0 and spend_last_90_days > 0); Budget-Conscious "
        "(avg_monthly_spend < {budget_avg_monthly_spend} and necessities_spend_pct >= {necessity_focused_pct}); else"
    ),
    "recency_status": (
        "to {recency_active_days} Active (30 days), to {recency_recent_days} Recent (60 days), to "
        "{recency_at_risk_days} At Risk (90 days); else"
    ),
    "spending_consistency": (
        "below {consistent_stddev} Consistent, below {moderate_stddev} Moderate, from {moderate_stddev} Variable"
    ),
    "spending_profile": (
        "Travel-Focused with travel_spend_pct >= {travel_focused_pct}, else Necessity-Focused with "
        "necessities_spend_pct >= {necessity_focused_pct}, else"
    ),
}

GUIDE = (
    "Behavioral segment from rolling {spend_window_days}-day spending",
    "| High-Value Travelers | `avg_monthly_spend` >= {high_value_avg_monthly_spend:,} and "
    "`travel_spend_pct` >= {travel_focused_pct} |",
    "| Declining | `spend_change_pct` <= {declining_spend_change_pct} and "
    "`spend_prior_90_days` >= {declining_prior_spend:,} |",
    "| New & Growing | `tenure_months` <= {new_tenure_months}, and `spend_change_pct` >= {growing_spend_change_pct} or "
    "spending after {spend_window_days} days without |",
    "| Budget-Conscious | `avg_monthly_spend` < {budget_avg_monthly_spend:,} and "
    "`necessities_spend_pct` >= {necessity_focused_pct} |",
    "Spending of the {spend_window_days} days that end with `as_of_date`",
    "Spending of the {spend_window_days} days before those",
    "`avg_monthly_spend`: `spend_last_90_days` / {window_months}",
    "standard deviation below {consistent_stddev} Consistent, below {moderate_stddev} Moderate, from {moderate_stddev} "
    "Variable",
    "WHEN transaction_value_stddev < {consistent_stddev} THEN 'Consistent'",
    "WHEN transaction_value_stddev < {moderate_stddev} THEN 'Moderate'",
    "Travel-Focused from {travel_focused_pct} % travel, else Necessity-Focused from {necessity_focused_pct} % "
    "necessities, else Balanced",
    "| High Growth | change above {mom_high_growth_pct} %",
    "| Growth | change above 0 %, up to {mom_high_growth_pct} % |",
    "| Decline | change below 0 %, down to and including {mom_high_decline_pct} % |",
    "| High Decline | change below {mom_high_decline_pct} % |",
)


def filled_in(sentence: str) -> str:
    window = dbt_vars()["spend_window_days"]
    return sentence.format_map({**dbt_vars(), "two_windows": 2 * window, "window_months": window // 30})


def docs_block(name: str) -> str:
    columns = (DBT_PROJECT / "models" / "columns.md").read_text()
    return re.search(rf"{{% docs {name} %}}\n(.*?)\n{{% enddocs %}}", columns, flags=re.DOTALL)[1]


@pytest.mark.parametrize("column", COLUMNS)
def test_the_description_of_a_column_says_the_thresholds(column: str) -> None:
    assert filled_in(COLUMNS[column]) in docs_block(column)


@pytest.mark.parametrize("sentence", GUIDE)
def test_the_guide_says_the_thresholds(sentence: str) -> None:
    assert filled_in(sentence) in (PROJECT_ROOT / "docs" / "aggregate_marts_guide.md").read_text()


def test_the_names_that_carry_days_carry_those_of_the_vars() -> None:
    names = {
        "spend_last_{spend_window_days}_days": "customer_segments.sql",
        "spend_prior_{spend_window_days}_days": "customer_segments.sql",
        "Active ({recency_active_days} days)": "customer_360_profile.sql",
        "Recent ({recency_recent_days} days)": "customer_360_profile.sql",
        "At Risk ({recency_at_risk_days} days)": "customer_360_profile.sql",
        "Inactive ({recency_at_risk_days}+ days)": "customer_360_profile.sql",
    }
    models = {file.name: file.read_text() for file in (DBT_PROJECT / "models").rglob("*.sql")}
    assert [name for name, model in names.items() if filled_in(name) not in models[model]] == []


def thresholds_in(sql: str) -> list[str]:
    """Return the numbers of a template that are compared with, or taken off a date, and are those of a var."""
    values = {str(value) for value in dbt_vars().values()}
    code = re.sub(r"--[^\n]*|{#.*?#}|'[^'\n]*'", "", sql, flags=re.DOTALL)
    return [number for number in re.findall(r"(?:[<>=(]|}} -)\s*(-?\d+)\b", code) if number in values]


OPERATORS = [*(PROJECT_ROOT / "include" / "customer_360").rglob("*.py")]
SQL = [*(DBT_PROJECT / "models").rglob("*.sql"), *(SQL_TEMPLATES / "validations").glob("*.*")]


@pytest.mark.parametrize("file", SQL, ids=lambda file: file.name)
def test_no_model_and_no_validation_repeats_a_threshold(file: Path) -> None:
    assert thresholds_in(file.read_text()) == []


@pytest.mark.parametrize("planted", ["a >= 5000", "x <= -30 then 1", "d > {{ as_of }} - 90", "days_before_as_of(90)"])
def test_a_repeated_threshold_is_found(planted: str) -> None:
    assert len(thresholds_in(planted)) == 1


def test_every_var_is_read() -> None:
    sql = [file.read_text() for folder in ("models", "macros") for file in (DBT_PROJECT / folder).rglob("*.sql")]
    # A threshold of a model is read there: a validation's own reading of it would be none.
    elsewhere = ("sources_", "drift_", "bank_holidays", "unknown_", "audience_", "role_addresses", "test_domains")
    elsewhere += ("failing_rows_kept", "row_keys")
    of_checks = {name for name in dbt_vars() if name.startswith(elsewhere)}
    templates = [file for folder in ("validations", "audiences") for file in (SQL_TEMPLATES / folder).glob("*.*")]
    checks = [file.read_text() for file in (*templates, *OPERATORS)]
    assert [
        name
        for name in dbt_vars().keys() - of_checks
        if not any(re.search(rf"var\(['\"]{name}['\"]\)", text) for text in sql)
    ] == []
    read = r"vars\.{0}\b|(?:dbt_vars\(\)|self\.vars)\[['\"]{0}['\"]\]"
    assert [name for name in of_checks if not any(re.search(read.format(name), text) for text in checks)] == []
