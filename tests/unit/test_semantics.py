"""What the figures of the semantic models are, asked for on a few rows, and what is refused."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest

from docs.list_metrics import PAGE, page
from include.customer_360.semantics import MANIFEST, Filter, Query, Semantics, SemanticsError, load_semantics
from include.customer_360.settings import PROJECT_ROOT

SEMANTICS = load_semantics()
JANUARY, FEBRUARY, MARCH = (datetime.date(2026, month, 1) for month in (1, 2, 3))
THIRTIETH, LAST_DAY = datetime.date(2026, 3, 30), datetime.date(2026, 3, 31)
ACTIVE, RECENT, INACTIVE = "Active (30 days)", "Recent (60 days)", "Inactive (90+ days)"


@pytest.fixture(scope="module")
def marts() -> duckdb.DuckDBPyConnection:
    """Four customers, one of them without transactions, their history of two dates, months, results and audiences."""
    connection = duckdb.connect()
    connection.execute("create schema marts")
    connection.execute(
        "create table marts.customer_360_profile (customer_id varchar, as_of_date date, customer_segment varchar, "
        "state varchar, recency_status varchar, tenure_months integer, days_since_last_transaction integer, "
        "lifetime_value decimal(18, 2), total_transactions bigint, spend_last_90_days decimal(18, 2), "
        "spend_prior_90_days decimal(18, 2), avg_monthly_spend decimal(18, 4))"
    )
    customers: list[tuple[Any, ...]] = [
        ("A", LAST_DAY, "Declining", "NY", ACTIVE, 14, 2, 1000, 10, 100, 200, "33.3333"),
        ("B", LAST_DAY, "Declining", "CA", INACTIVE, 12, 95, 500, 1, 0, 0, 0),
        ("C", LAST_DAY, "New & Growing", "NY", RECENT, 3, 40, 300, 4, 300, 0, 100),
        ("D", LAST_DAY, None, None, INACTIVE, None, None, 0, 0, 0, 0, 0),
    ]
    _insert(connection, "customer_360_profile", customers)
    connection.execute(
        "create table marts.customer_360_history as select * exclude (state) from marts.customer_360_profile "
        "union all select * exclude (state) replace (as_of_date - 1 as as_of_date, lifetime_value - 100 as "
        "lifetime_value) from marts.customer_360_profile where customer_id in ('A', 'C')"
    )
    connection.execute(
        "create table marts.metric_mom_spend_change (customer_id varchar, month date, monthly_spend decimal(18, 2), "
        "prior_month_spend decimal(18, 2), mom_trend_category varchar)"
    )
    months = [
        ("A", JANUARY, 100, None, "First Month"),
        ("A", FEBRUARY, 150, 100, "Growth"),
        ("B", FEBRUARY, 500, None, "First Month"),
        ("A", MARCH, 0, 150, "High Decline"),
        ("B", MARCH, 600, 500, "Growth"),
    ]
    _insert(connection, "metric_mom_spend_change", months)
    connection.execute(
        "create table marts.campaign_results (campaign varchar, wave_date date, horizon_days integer, "
        "treated_customers integer, held_out_customers integer, treated_spend_after decimal(18, 2), "
        "held_out_spend_after decimal(18, 2), held_out_spend_after_per_customer decimal(18, 4), lift decimal(18, 4), "
        "is_significant boolean)"
    )
    results = [
        ("retention", JANUARY, 30, 100, 10, 5000, 400, 40, 10, True),
        ("retention", FEBRUARY, 30, 300, 20, 15000, 1000, 50, 2, False),
        ("retention", MARCH, 30, 1, 1, 70, 60, 60, None, None),
        ("retention", JANUARY, 60, 100, 10, 9000, 800, 80, 20, True),
    ]
    _insert(connection, "campaign_results", results)
    connection.execute(
        "create table marts.audience_memberships (campaign varchar, as_of_date date, customer_id varchar, "
        "status varchar, split_group varchar, entered boolean)"
    )
    members = [
        ("retention", THIRTIETH, "A", "exported", "treated", True),
        ("premium", THIRTIETH, "B", "exported", "treated", True),
        ("retention", LAST_DAY, "A", "exported", "treated", False),
        ("retention", LAST_DAY, "B", "held_out", "control", True),
        ("retention", LAST_DAY, "C", "suppressed", "treated", None),
    ]
    _insert(connection, "audience_memberships", members)
    return connection


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    connection.executemany(f"insert into marts.{table} values ({', '.join('?' * len(rows[0]))})", rows)


@pytest.fixture
def rows(marts: duckdb.DuckDBPyConnection) -> Callable[..., list[tuple[Any, ...]]]:
    """What a query answers, its numbers as floats."""

    def answered(metrics: Sequence[str], by: Sequence[str] = (), *where: Filter) -> list[tuple[Any, ...]]:
        query = SEMANTICS.query(metrics, by, where)
        found = marts.execute(query.sql, query.parameters)
        assert [column[0] for column in found.description] == [*by, *metrics]
        plain = (bool, str, datetime.date, type(None))
        return [tuple(value if isinstance(value, plain) else float(value) for value in row) for row in found.fetchall()]

    return answered


Rows = Callable[..., list[tuple[Any, ...]]]


# What the figures are


def test_without_dimensions_a_figure_is_of_all_customers(rows: Rows) -> None:
    assert rows(["customers", "total_lifetime_value", "transactions"]) == [(4, 1800, 15)]


def test_an_average_is_the_ratio_of_the_sums(rows: Rows) -> None:
    # The mean of the customers' averages 100, 500 and 75 would be 225.
    assert rows(["average_transaction_value", "average_lifetime_value"]) == [(120, 450)]
    assert rows(["average_monthly_spend"]) == [(pytest.approx(133.3333 / 4),)]


def test_a_change_is_that_of_the_sums_in_percent(rows: Rows) -> None:
    # From 200 to 400. That of customer A, the only one with a change of their own, is -50 %.
    assert rows(["spend_change"]) == [(100,)]


def test_a_share_is_in_percent(rows: Rows) -> None:
    shares = ["active_share", "inactive_share", "declining_share"]
    assert rows(shares) == [(25, 50, 50)]


def test_the_retention_rate_is_of_customers_whose_first_transaction_is_12_months_old(rows: Rows) -> None:
    # A and B, of whom B is inactive.
    assert rows(["tenured_customers", "retained_customers", "retention_rate"]) == [(2, 1, 50)]


def test_customers_without_a_transaction_have_no_days_since_it(rows: Rows) -> None:
    assert rows(["average_days_since_last_transaction"]) == [(pytest.approx((2 + 95 + 40) / 3),)]


def test_there_is_a_row_per_value_of_a_dimension_in_order_and_null_last(rows: Rows) -> None:
    assert rows(["customers", "retention_rate"], ["customer_segment"]) == [
        ("Declining", 2, 50),
        ("New & Growing", 1, None),
        (None, 1, None),
    ]


def test_two_dimensions_make_a_row_per_combination(rows: Rows) -> None:
    found = rows(["customers"], ["customer_segment", "state"])
    assert found == [("Declining", "CA", 1), ("Declining", "NY", 1), ("New & Growing", "NY", 1), (None, None, 1)]


def test_a_figure_of_dates_is_never_added_up_over_them(rows: Rows) -> None:
    metrics = ["customers_on_date", "total_lifetime_value_on_date"]
    assert rows(metrics, ["as_of_date"]) == [(THIRTIETH, 2, 1100), (LAST_DAY, 4, 1800)]
    assert rows(metrics) == [(4, 1800)]


def test_a_figure_of_dates_is_of_the_latest_within_a_filter_of_dates(rows: Rows) -> None:
    assert rows(["customers_on_date"], [], Filter("as_of_date", "<=", THIRTIETH)) == [(2,)]
    assert rows(["customers_on_date"], [], Filter("as_of_date", "=", THIRTIETH)) == [(2,)]


def test_the_latest_date_is_everybodys_whatever_else_is_filtered(rows: Rows) -> None:
    # Nobody of premium on the last day: none, and not those of the day before.
    assert rows(["audience_exported"], [], Filter("campaign", "=", "premium")) == [(0,)]
    assert rows(["audience_exported"], ["as_of_date"], Filter("campaign", "=", "premium")) == [(THIRTIETH, 1)]


def test_an_audience_is_counted_by_its_ends(rows: Rows) -> None:
    metrics = ["audience_eligible", "audience_suppressed", "audience_held_out", "audience_exported", "audience_entered"]
    assert rows(metrics, ["campaign"]) == [("retention", 3, 1, 1, 1, 1)]
    assert rows(["audience_exported_share"]) == [(pytest.approx(100 / 3),)]


def test_the_change_of_a_month_is_of_those_who_had_a_month_before(rows: Rows) -> None:
    found = rows(["spend", "month_spend_change", "spending_customers", "growing_share"], ["spend_month"])
    # February: A from 100 to 150, B is new. March: both, from 650 to 600.
    assert found == [
        (JANUARY, 100, None, 1, None),
        (FEBRUARY, 650, 50, 2, 100),
        (MARCH, 600, pytest.approx(-50 / 650 * 100), 1, 50),
    ]


def test_over_several_months_a_spending_customer_counts_once(rows: Rows) -> None:
    assert rows(["spending_customers"]) == [(2,)]


def test_months_can_be_cut_by_what_their_customer_is_now(rows: Rows) -> None:
    assert rows(["spend"], ["state"]) == [("CA", 1100), ("NY", 250)]
    assert rows(["spend"], ["spend_month"], Filter("state", "=", "CA")) == [(FEBRUARY, 500), (MARCH, 600)]


def test_the_lift_of_several_waves_counts_each_by_its_treated_customers(rows: Rows) -> None:
    of_30_days = Filter("horizon_days", "=", 30)
    metrics = ["results", "significant_results", "incremental_spend", "average_lift", "average_lift_pct"]
    # 100 customers with 10 dollars more, 300 with 2, on 40 and 50; the wave of one customer has no lift.
    assert rows(metrics, [], of_30_days) == [(3, 1, 1600, 4, pytest.approx(100 * 1600 / (100 * 40 + 300 * 50)))]
    assert rows(["treated_spend_per_customer"], ["wave_date"], of_30_days) == [
        (JANUARY, 50),
        (FEBRUARY, 50),
        (MARCH, 70),
    ]
    assert rows(["average_lift"], ["horizon_days"]) == [(30, 4), (60, 20)]


# Filters


@pytest.mark.parametrize(
    ("condition", "customers"),
    [
        (Filter("state", "=", "NY"), 2),
        (Filter("state", "<>", "NY"), 1),
        (Filter("customer_id", ">=", "B"), 3),
        (Filter("customer_id", "<=", "B"), 2),
        (Filter("state", "in", ["NY", "CA"]), 3),
        (Filter("customer_id", "between", ("B", "C")), 2),
        (Filter("state", "is null"), 1),
    ],
    ids=lambda value: value.operator if isinstance(value, Filter) else "",
)
def test_each_operator_filters(rows: Rows, condition: Filter, customers: int) -> None:
    assert rows(["customers"], [], condition) == [(customers,)]


def test_filters_hold_together(rows: Rows) -> None:
    assert rows(["customers"], [], Filter("state", "=", "NY"), Filter("customer_segment", "=", "Declining")) == [(1,)]


@pytest.mark.parametrize("value", ["' or true --", "NY'; drop table marts.customer_360_profile; --", "?"])
@pytest.mark.parametrize("operator", ["=", "in", "between"])
def test_a_value_is_bound_whatever_it_says(rows: Rows, operator: str, value: str) -> None:
    given = {"=": value, "in": [value, value], "between": [value, value]}[operator]
    query = SEMANTICS.query(["customers"], where=[Filter("state", operator, given)])
    assert query.parameters == ((value,) if operator == "=" else (value, value))
    assert value == "?" or value not in query.sql
    assert rows(["customers"], [], Filter("state", operator, given)) == [(0,)]
    assert rows(["customers"]) == [(4,)]


def test_a_value_that_is_bound_twice_is_given_twice() -> None:
    query = SEMANTICS.query(["customers_on_date"], where=[Filter("as_of_date", "<=", LAST_DAY)])
    assert (query.sql.count("?"), query.parameters) == (2, (LAST_DAY, LAST_DAY))


def test_marts_are_read_where_readers_have_them() -> None:
    sql = SEMANTICS.query(["spend"], ["state"], schema="customer_360.marts_read").sql
    assert "from customer_360.marts_read.metric_mom_spend_change as" in sql
    assert "left join customer_360.marts_read.customer_360_profile as" in sql


# What is refused


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"metrics": []}, "no metric is asked for"),
        ({"metrics": ["custmers"]}, "there is no metric 'custmers': the metrics are active_customers, "),
        ({"metrics": ["churn_risk_share"]}, "churn_risk_share is not yet modelled: the columns"),
        (
            {"metrics": ["customers", "spend"]},
            "of several tables: customers of customer_360_profile, spend of metric_mom_spend_change",
        ),
        ({"metrics": ["customers"], "by": ["full_name"]}, "customers cannot be cut by 'full_name': the dimensions of"),
        ({"metrics": ["customers"], "by": ["state; drop table x"]}, "cannot be cut by 'state; drop table x'"),
        (
            {"metrics": ["customers"], "where": [Filter("1 = 1 or state", "=", "NY")]},
            "cannot be cut by '1 = 1 or state'",
        ),
        ({"metrics": ["customers"], "by": ["state", "state"]}, "state is asked for twice"),
        ({"metrics": ["customers"], "where": [Filter("state", "like", "N%")]}, "'like' is no operator: they are =, <>"),
        ({"metrics": ["customers"], "where": [Filter("state", "in", [])]}, "takes one value or more, in a sequence"),
        ({"metrics": ["customers"], "where": [Filter("state", "in", "NY")]}, "in a sequence, and not 'NY'"),
        ({"metrics": ["customers"], "where": [Filter("state", "between", ["NY"])]}, "'between' takes two values"),
        ({"metrics": ["customers"], "where": [Filter("state", "=")]}, "nothing equals NULL: use 'is null'"),
        ({"metrics": ["average_lift"]}, "figures of campaign_results are of one horizon_days: cut by it, or filter it"),
        ({"metrics": ["average_lift"], "where": [Filter("horizon_days", ">=", 30)]}, "are of one horizon_days"),
        ({"metrics": ["customers"], "schema": "marts; drop schema marts"}, "is no name: give one like marts"),
        ({"metrics": ["customers"], "schema": 'a"b'}, "is no name"),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(SemanticsError) as refused:
        SEMANTICS.query(**asked)
    assert message in str(refused.value)


# What there is


def test_a_metric_says_what_it_is_and_how_it_is_shown() -> None:
    metric = SEMANTICS.metrics["average_transaction_value"]
    assert (metric.label, metric.unit, metric.decimals) == ("Average transaction value", "usd", 2)
    assert "ATV" in metric.synonyms
    assert metric.description.startswith("Total lifetime value divided by the number of transactions: the ratio of")


def test_what_is_not_yet_modelled_is_named_and_has_no_metric() -> None:
    wanted = {entry.name: entry.description for entry in SEMANTICS.not_yet_modelled}
    assert "churn_risk_share" in wanted
    assert all(wanted.values())
    assert not wanted.keys() & SEMANTICS.metrics.keys()


def test_metrics_can_be_cut_by_their_own_dimensions_and_by_those_of_the_customer() -> None:
    names = [dimension.name for dimension in SEMANTICS.dimensions_of(["spend"])]
    assert names[:3] == ["customer_id", "spend_month", "mom_trend_category"]
    assert {"customer_segment", "state", "card_type"} <= set(names)
    assert len(names) == len(set(names))


def test_no_dimension_or_fact_is_personal_data() -> None:
    nodes = json.loads(MANIFEST.read_text())["nodes"].values()
    personal = {
        name
        for node in nodes
        for name, column in node.get("columns", {}).items()
        if column["config"].get("meta", {}).get("personal_data")
    }
    assert {"full_name", "email"} <= personal
    facts = {fact.name for table in SEMANTICS.tables.values() for fact in table.facts}
    used = {dimension.name for dimension in SEMANTICS.dimensions} | facts
    assert used & personal == set()


def test_a_metric_has_no_name_of_a_column_of_its_mart() -> None:
    # In Snowflake's semantic view metrics, dimensions and facts of a table share their names.
    manifest = json.loads(MANIFEST.read_text())
    columns = {
        model["name"]: set(manifest["nodes"][model["depends_on"]["nodes"][0]]["columns"])
        for model in manifest["semantic_models"].values()
    }
    assert [name for name, metric in SEMANTICS.metrics.items() if name in columns[metric.table]] == []


def test_nothing_but_the_standard_library_is_imported() -> None:
    code = (
        "import sys; before = set(sys.modules); import include.customer_360.semantics; "
        "print({name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'include'}"


def test_the_page_lists_what_there_is() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page(text, SEMANTICS) == text, "write it again: make semantics"
    assert [name for name in SEMANTICS.metrics if f"| `{name}` |" not in text] == []


# What cannot be used of a manifest


@pytest.fixture(scope="module")
def parts_read() -> str:
    """The parts of the project's manifest that are read."""
    manifest = json.loads(MANIFEST.read_text())
    marts = {model["depends_on"]["nodes"][0] for model in manifest["semantic_models"].values()}
    parts = {name: manifest[name] for name in ("semantic_models", "metrics", "exposures")}
    return json.dumps({**parts, "nodes": {name: manifest["nodes"][name] for name in marts}})


@pytest.fixture
def manifest(parts_read: str) -> dict[str, Any]:
    """The project's manifest, to change."""
    return json.loads(parts_read)


def read(manifest: dict[str, Any], folder: Path) -> Semantics:
    file = folder / "manifest.json"
    file.write_text(json.dumps(manifest))
    return load_semantics(file)


def metric_of(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    return manifest["metrics"][f"metric.customer_analytics.{name}"]


def model_of(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    return manifest["semantic_models"][f"semantic_model.customer_analytics.{name}"]


def test_what_stands_in_quotes_is_no_column(manifest: dict[str, Any], tmp_path: Path) -> None:
    measures = {each["name"]: each for each in model_of(manifest, "customer_360_profile")["measures"]}
    measures["declining_customers"]["expr"] = "case when customer_segment = 'state''s state' then customer_id end"
    assert read(manifest, tmp_path).expression("declining_customers") == (
        "count(case when customer_360_profile.customer_segment = 'state''s state' "
        "then customer_360_profile.customer_id end)"
    )


def _without_unit(manifest: dict[str, Any]) -> None:
    del metric_of(manifest, "customers")["config"]["meta"]["unit"]


def _euros(manifest: dict[str, Any]) -> None:
    metric_of(manifest, "customers")["config"]["meta"]["unit"] = "eur"


def _undescribed(manifest: dict[str, Any]) -> None:
    metric_of(manifest, "customers")["description"] = " "


def _undescribed_dimension(manifest: dict[str, Any]) -> None:
    model_of(manifest, "customer_360_profile")["dimensions"][1]["description"] = None


def _filtered(manifest: dict[str, Any]) -> None:
    metric_of(manifest, "customers")["filter"] = {"where_filters": [{"where_sql_template": "state = 'NY'"}]}


def _offset(manifest: dict[str, Any]) -> None:
    metric_of(manifest, "spend_change")["type_params"]["metrics"][0]["offset_window"] = {"count": 1}


def _cumulative(manifest: dict[str, Any]) -> None:
    metric_of(manifest, "customers")["type"] = "cumulative"


def _median(manifest: dict[str, Any]) -> None:
    model_of(manifest, "customer_360_profile")["measures"][0]["agg"] = "median"


def _of_two_models(manifest: dict[str, Any]) -> None:
    metric_of(manifest, "spend_change")["type_params"]["input_measures"][0]["name"] = "spend"


def _partly_additive(manifest: dict[str, Any]) -> None:
    model_of(manifest, "customer_360_history")["measures"][0]["non_additive_dimension"] = None


def _fact_without_column(manifest: dict[str, Any]) -> None:
    model_of(manifest, "customer_360_profile")["config"]["meta"]["facts"].append("shoe_size")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_unit, "metric customers, config.meta: unit is None and decimals 0; give a unit of usd, percent"),
        (_euros, "metric customers, config.meta: unit is 'eur'"),
        (_undescribed, "metric customers has no description"),
        (_undescribed_dimension, "semantic model customer_360_profile, dimension customer_segment has no description"),
        (_filtered, "metric customers has filter, which is not read: write it into the expr of a measure"),
        (_offset, "metric spend_change has offset_window, which is not read"),
        (_cumulative, "metric customers: its type is cumulative; known are simple, ratio and derived"),
        (_median, "metric customers: its measure is median; known are sum, count"),
        (_of_two_models, "metric spend_change is of several semantic models: customer_360_profile, metric_mom_spend"),
        (
            _partly_additive,
            "semantic model customer_360_history: give all measures one non_additive_dimension, or none",
        ),
        (_fact_without_column, "semantic model customer_360_profile, fact 'shoe_size': customer_360_profile has no"),
    ],
)
def test_a_definition_that_cannot_be_used_is_named(
    manifest: dict[str, Any], tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    change(manifest)
    with pytest.raises(SemanticsError) as refused:
        read(manifest, tmp_path)
    assert message in str(refused.value)


def test_a_manifest_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SemanticsError, match=r"manifest\.json is not there: write it with `dbt parse`"):
        load_semantics(tmp_path / "manifest.json")


def test_a_query_is_its_text_and_its_values() -> None:
    assert SEMANTICS.query(["customers"], ["state"], [Filter("city", "=", "Albany")]) == Query(
        "select\n"
        "    customer_360_profile.state as state,\n"
        "    count(customer_360_profile.customer_id) as customers\n"
        "from marts.customer_360_profile as customer_360_profile\n"
        "where\n"
        "    customer_360_profile.city = ?\n"
        "group by\n"
        "    customer_360_profile.state\n"
        "order by\n"
        "    state nulls last",
        ("Albany",),
    )
