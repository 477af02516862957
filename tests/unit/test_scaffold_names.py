"""Which names `make new-metric` and `make new-campaign` refuse before they write anything."""

from __future__ import annotations

import pytest

from local.scaffold import ScaffoldError, campaign_files, metric_files


# increment, minus and rlike are words of Snowflake's alone, qualify and pivot of DuckDB's too.
@pytest.mark.parametrize("name", ["order", "select", "metric_select", "left", "increment", "minus", "rlike", "qualify"])
def test_a_word_of_sql_is_no_metric(name: str) -> None:
    with pytest.raises(
        ScaffoldError, match=rf"NAME='{name.removeprefix('metric_')}' cannot be used: it is a word of SQL"
    ):
        metric_files(name)


def test_a_word_of_sql_is_no_campaign() -> None:
    with pytest.raises(ScaffoldError, match="NAME='table' cannot be used: it is a word of SQL"):
        campaign_files("table", own_template=False)


@pytest.mark.parametrize("name", ["customer_id", "metric_customer_id", "lifetime_value", "as_of_date"])
def test_a_column_that_a_model_has_is_no_new_metric(name: str) -> None:
    with pytest.raises(ScaffoldError, match=rf"NAME='{name}' cannot be used: \w+ is a column of \w+ already"):
        metric_files(name)


def test_another_name_is_taken() -> None:
    assert {file.name for file in metric_files("weekend_spend")} == {
        "metric_weekend_spend.sql",
        "metric_weekend_spend.yml",
    }
    assert [file.name for file in campaign_files("winback", own_template=False)] == ["winback_campaign.yml"]
