"""Each metric by each dimension, three times: by MetricFlow, by the project's SQL, and by pandas from the marts."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import jinja2
import pandas as pd
import pytest
from edge_customers import AS_OF_DATE
from metricflow.engine.metricflow_engine import MetricFlowEngine, MetricFlowQueryRequest
from metricflow.protocols.sql_client import SqlEngine
from metricflow.sql.render.duckdb_renderer import DuckDbSqlPlanRenderer
from metricflow_semantics.model.dbt_manifest_parser import parse_manifest_from_dbt_generated_manifest
from metricflow_semantics.model.semantic_manifest_lookup import SemanticManifestLookup
from test_guide_examples import EXAMPLES
from warehouse_builds import Build

from deploy.snowflake.semantic_view import VerifiedQuery, verified_queries
from include.customer_360.ops_tables import ops_columns
from include.customer_360.semantics import MANIFEST, Dimension, Filter, load_semantics
from include.customer_360.settings import SQL_TEMPLATES

SEMANTICS = load_semantics()
SEMANTIC_MANIFEST = parse_manifest_from_dbt_generated_manifest(
    MANIFEST.with_name("semantic_manifest.json").read_text(encoding="utf-8")
)
DATABASE = SEMANTIC_MANIFEST.semantic_models[0].node_relation.database
PERSONAL = {"full_name", "email"}
SOME_CUSTOMERS = 40
"""So many have every figure computed by pandas, which takes it a while."""

Value = float | int | None
Rows = pd.DataFrame
Answer = dict[tuple[Any, ...], dict[str, Value]]


# What pandas makes of the marts' rows


def total(values: pd.Series) -> Value:
    """SQL's sum: NULL where there is nothing to add up."""
    return None if values.dropna().empty else float(values.dropna().sum())


def divided(one: Value, other: Value) -> Value:
    return None if one is None or not other else one / other


def percent(one: Value, other: Value) -> Value:
    return divided(None if one is None else 100 * one, other)


def is_active(rows: Rows) -> pd.Series:
    return rows["recency_status"] == "Active (30 days)"


def is_inactive(rows: Rows) -> pd.Series:
    return rows["recency_status"] == "Inactive (90+ days)"


def is_tenured(rows: Rows) -> pd.Series:
    return rows["tenure_months"] >= 12


def is_declining(rows: Rows) -> pd.Series:
    return rows["customer_segment"] == "Declining"


def number(which: pd.Series) -> int:
    return int(which.sum())


def change(rows: Rows) -> Value:
    prior = total(rows["spend_prior_90_days"])
    return percent(total(rows["spend_last_90_days"]) - prior, prior)


OF_CUSTOMERS: dict[str, Callable[[Rows], Value]] = {
    "customers": len,
    "total_lifetime_value": lambda rows: total(rows["lifetime_value"]),
    "average_lifetime_value": lambda rows: float(rows["lifetime_value"].mean()),
    "transactions": lambda rows: total(rows["total_transactions"]),
    "average_transaction_value": lambda rows: divided(total(rows["lifetime_value"]), total(rows["total_transactions"])),
    "recent_spend": lambda rows: total(rows["spend_last_90_days"]),
    "prior_spend": lambda rows: total(rows["spend_prior_90_days"]),
    "spend_change": change,
    "active_customers": lambda rows: number(is_active(rows)),
    "active_share": lambda rows: 100 * float(is_active(rows).mean()),
    "tenured_customers": lambda rows: number(is_tenured(rows)),
    "retained_customers": lambda rows: number(is_tenured(rows) & ~is_inactive(rows)),
    "retention_rate": lambda rows: percent(number(is_tenured(rows) & ~is_inactive(rows)), number(is_tenured(rows))),
}
EXPECTED: dict[str, dict[str, Callable[[Rows], Value]]] = {
    "customer_360_profile": {
        **OF_CUSTOMERS,
        "monthly_average_of_recent_spend": lambda rows: total(rows["avg_monthly_spend"]),
        "average_monthly_spend": lambda rows: float(rows["avg_monthly_spend"].mean()),
        "inactive_customers": lambda rows: number(is_inactive(rows)),
        "inactive_share": lambda rows: 100 * float(is_inactive(rows).mean()),
        "declining_customers": lambda rows: number(is_declining(rows)),
        "declining_share": lambda rows: 100 * float(is_declining(rows).mean()),
        "average_days_since_last_transaction": lambda rows: divided(
            total(rows["days_since_last_transaction"]), int(rows["days_since_last_transaction"].notna().sum())
        ),
    },
    "customer_360_history": {f"{name}_on_date": figure for name, figure in OF_CUSTOMERS.items()},
    "metric_mom_spend_change": {
        "spend": lambda rows: total(rows["monthly_spend"]),
        "compared_spend": lambda rows: total(rows.dropna(subset="prior_month_spend")["monthly_spend"]),
        "spend_of_month_before": lambda rows: total(rows["prior_month_spend"]),
        "month_spend_change": lambda rows: percent(
            total((rows["monthly_spend"] - rows["prior_month_spend"]).dropna()), total(rows["prior_month_spend"])
        ),
        "spending_customers": lambda rows: rows[rows["monthly_spend"] > 0]["customer_id"].nunique(),
        "compared_months": lambda rows: number(rows["month_number"] > 1),
        "growing_months": lambda rows: number(rows["monthly_spend"] > rows["prior_month_spend"]),
        "growing_share": lambda rows: percent(
            number(rows["monthly_spend"] > rows["prior_month_spend"]), number(rows["month_number"] > 1)
        ),
    },
    "campaign_results": {
        "results": len,
        "significant_results": lambda rows: number(rows["is_significant"].fillna(False).astype(bool)),
        "total_treated_customers": lambda rows: total(rows["treated_customers"]),
        "total_held_out_customers": lambda rows: total(rows["held_out_customers"]),
        "treated_spend": lambda rows: total(rows["treated_spend_after"]),
        "held_out_spend": lambda rows: total(rows["held_out_spend_after"]),
        "treated_spend_per_customer": lambda rows: divided(
            total(rows["treated_spend_after"]), total(rows["treated_customers"])
        ),
        "held_out_spend_per_customer": lambda rows: divided(
            total(rows["held_out_spend_after"]), total(rows["held_out_customers"])
        ),
        "measured_customers": lambda rows: total(with_lift(rows)["treated_customers"]),
        "incremental_spend": lambda rows: total(with_lift(rows)["lift"] * with_lift(rows)["treated_customers"]),
        "baseline_spend": lambda rows: total(baseline(with_lift(rows))),
        "average_lift": lambda rows: divided(
            total(with_lift(rows)["lift"] * with_lift(rows)["treated_customers"]),
            total(with_lift(rows)["treated_customers"]),
        ),
        "average_lift_pct": lambda rows: percent(
            total(with_lift(rows)["lift"] * with_lift(rows)["treated_customers"]), total(baseline(with_lift(rows)))
        ),
    },
    "audience_memberships": {
        "audience_eligible": len,
        **{
            f"audience_{status}": lambda rows, status=status: number(rows["status"] == status)
            for status in ("suppressed", "capped", "outranked", "over_limit", "held_out", "exported")
        },
        "audience_entered": lambda rows: number(rows["entered"].fillna(False).astype(bool)),
        "audience_exported_share": lambda rows: 100 * float((rows["status"] == "exported").mean()),
    },
}


def with_lift(rows: Rows) -> Rows:
    return rows.dropna(subset="lift")


def baseline(rows: Rows) -> pd.Series:
    return rows["held_out_spend_after_per_customer"] * rows["treated_customers"]


@pytest.fixture(scope="module")
def warehouse(built: Build, tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    """The built marts, under the name of the database that the manifest has; with a second date in the history, results
    of campaigns and memberships, and with the views that a publication makes."""
    file = Path(shutil.copyfile(built.file, tmp_path_factory.mktemp("metrics") / "metrics.duckdb"))
    connection = duckdb.connect()
    connection.execute(f'attach \'{file}\' as "{DATABASE}"; use "{DATABASE}"')
    connection.execute(
        "insert into marts.customer_360_history select * replace (as_of_date - 1 as as_of_date, "
        "lifetime_value / 2 as lifetime_value) from marts.customer_360_history where customer_id < 'CUST00000300'"
    )
    results = [
        ("premium", "2026-01-31", 30, 90, 10, 9123.45, 812.5, 12.25, True),
        ("premium", "2026-02-01", 30, 40, 5, 4000, 390, -3.5, False),
        ("retention", "2026-02-01", 30, 20, 4, 1500.5, 400, 1.75, False),
        ("retention", "2026-02-02", 30, 3, 1, 70, 60, None, None),
        ("premium", "2026-01-31", 60, 90, 10, 19000, 1700, 20.125, True),
        ("onboarding", "2026-01-31", 60, 7, 0, 70, 0, None, None),
    ]
    connection.executemany(
        "insert into marts.campaign_results by name select ? as campaign, cast(? as date) as wave_date, "
        "? as horizon_days, cast(? as integer) as treated_customers, cast(? as integer) as held_out_customers, "
        "? as treated_spend_after, ? as held_out_spend_after, cast(? as decimal(18, 4)) as lift, ? as is_significant, "
        "held_out_spend_after / nullif(held_out_customers, 0) as held_out_spend_after_per_customer, "
        "0 as treated_spend_before, 0 as held_out_spend_before, date '2026-03-30' as as_of_date",
        results,
    )
    connection.execute("create schema if not exists ops")
    for table in ("audience_memberships", "export_runs"):
        columns = ", ".join(f"{name} {data_type}" for name, data_type in ops_columns()[table].items())
        connection.execute(f"create or replace table ops.{table} ({columns})")
    connection.execute(
        """
        insert into ops.audience_memberships (campaign, as_of_date, customer_id, status, split_group, entered)
        select
            case customer_number % 3 when 0 then 'premium' else 'retention' end,
            day,
            customer_id,
            ['exported', 'exported', 'held_out', 'suppressed', 'capped', 'outranked', 'over_limit'][
                1 + (customer_number + day_number) % 7
            ],
            case (customer_number + day_number) % 7 when 2 then 'control' else 'treated' end,
            case when (customer_number + day_number) % 7 <= 2 then customer_number % 2 = 0 end
        from (
            select customer_id, row_number() over (order by customer_id) as customer_number
            from marts.customer_360_profile
        )
        cross join (values (1, date '2026-03-29'), (2, date '2026-03-30')) as days (day_number, day)
        where customer_number % 4 < 3
        """
    )
    view = jinja2.Environment(loader=jinja2.FileSystemLoader(SQL_TEMPLATES)).from_string(
        "{% import 'publish/ops_views.jinja' as readers %}"
        "create view marts.audience_memberships as {{ readers.select_of('audience_memberships') }}"
    )
    connection.execute(view.render())
    connection.execute(
        "create or replace view staging.stg_audience_memberships as select campaign, as_of_date, customer_id, status, "
        "split_group, entered from ops.audience_memberships"
    )
    return connection


@pytest.fixture(scope="module")
def marts(warehouse: duckdb.DuckDBPyConnection) -> dict[str, Rows]:
    """Every mart's rows, each with what its customer is in the profile, where a semantic model joins it."""
    found = {}
    for name, table in SEMANTICS.tables.items():
        rows = warehouse.execute(f"from marts.{table.relation}").df()
        for other, column in table.joins.items():
            joined = warehouse.execute(f"from marts.{other}").df()
            own = {each.name for each in table.dimensions} | set(rows.columns) - {"as_of_date"}
            named = {each.name for each in SEMANTICS.tables[other].dimensions} - own
            joined = joined[[column, *sorted(named)]]
            # The date of a row and the date of the profile have one name.
            rows = rows.drop(columns=named & set(rows.columns)).merge(joined, on=column, how="left")
        found[name] = rows
    return found


@pytest.fixture(scope="module")
def metricflow() -> MetricFlowEngine:
    client: Any = SimpleNamespace(sql_engine_type=SqlEngine.DUCKDB, sql_plan_renderer=DuckDbSqlPlanRenderer())
    return MetricFlowEngine(SemanticManifestLookup(SEMANTIC_MANIFEST), client)


def answer(connection: duckdb.DuckDBPyConnection, sql: str, by: int, parameters: Sequence[object] = ()) -> Answer:
    """Return the figures of each row by the values of its dimensions, which are its first columns."""
    found = connection.execute(sql, parameters)
    names = [column[0] for column in found.description][by:]
    rows = found.fetchall()
    answered = {
        tuple(map(plain, row[:by])): {name: plain(value) for name, value in zip(names, row[by:], strict=True)}
        for row in rows
    }
    assert len(answered) == len(rows), "two rows of the same values"
    return answered


def plain(value: Any) -> Any:  # noqa: ANN401 - any value of a cell
    """Return a value as all three have it: whole numbers and decimals as floats, times as days, NaN as None."""
    if value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, datetime | pd.Timestamp):
        return value.date()
    if isinstance(value, bool | str | date):
        return value
    if type(value).__name__ in ("bool_", "bool"):
        return bool(value)
    return float(value) if isinstance(value, Decimal) or hasattr(value, "__float__") else value


def computed(table: str, rows: Rows, by: Sequence[str]) -> Answer:
    """Return what pandas makes of the rows of a mart; by customer, of SOME_CUSTOMERS."""
    latest = {SEMANTICS.metrics[name].latest_of for name in EXPECTED[table]} - {"", *by}
    for name in latest:
        rows = rows[rows[name] == rows[name].max()]
    if "customer_id" in by:
        rows = rows[rows["customer_id"].isin(sorted(rows["customer_id"].unique())[:SOME_CUSTOMERS])]
    columns = {each.name: each.expression.partition(".")[2] for each in SEMANTICS.tables[table].dimensions}
    groups = rows.groupby([columns.get(name, name) for name in by], dropna=False) if by else [((), rows)]
    return {
        tuple(map(plain, key)): {name: plain(figure(group)) for name, figure in EXPECTED[table].items()}
        for key, group in groups
    }


def name_in_metricflow(table: str, dimension: Dimension) -> str:
    """Return what MetricFlow calls a dimension: behind the entity that leads to it, its grain behind it."""
    models = {model.name: model for model in SEMANTIC_MANIFEST.semantic_models}
    for entity in models[table].entities:
        if entity.expr == dimension.name:
            return entity.name
    primary = models[table].primary_entity or next(each.name for each in models[table].entities)
    entity = primary if dimension.table == table else "customer"
    if dimension.type == "categorical":
        return f"{entity}__{dimension.name}"
    (described,) = (each for each in models[dimension.table].dimensions if each.name == dimension.name)
    assert described.type_params
    return f"{entity}__{dimension.name}__{described.type_params.time_granularity.value}"


CUTS = [
    (table, dimension)
    for table, metrics in EXPECTED.items()
    for dimension in [None, *SEMANTICS.dimensions_of([next(iter(metrics))])]
    if dimension is not None or not SEMANTICS.tables[table].one_value_of
]


def test_every_metric_is_compared() -> None:
    assert {name for metrics in EXPECTED.values() for name in metrics} == set(SEMANTICS.metrics)
    assert {dimension.name for _, dimension in CUTS if dimension} == {each.name for each in SEMANTICS.dimensions}


@pytest.mark.parametrize(
    ("table", "dimension"),
    CUTS,
    ids=[f"{table}-by-{dimension.name if dimension else 'nothing'}" for table, dimension in CUTS],
)
def test_each_metric_by_each_dimension(
    warehouse: duckdb.DuckDBPyConnection,
    marts: Mapping[str, Rows],
    metricflow: MetricFlowEngine,
    table: str,
    dimension: Dimension | None,
) -> None:
    known = {each.name: each for each in SEMANTICS.dimensions_of(list(EXPECTED[table]))}
    asked = [SEMANTICS.tables[table].one_value_of, dimension.name if dimension else ""]
    by = [name for name in dict.fromkeys(asked) if name]
    expected = computed(table, marts[table], by)
    assert expected

    metrics = list(EXPECTED[table])
    query = SEMANTICS.query(metrics, by)
    got = answer(warehouse, query.sql, len(by), query.parameters)
    assert len(got) == len(expected) or "customer_id" in by
    assert_same({key: got[key] for key in expected}, expected)

    names = [name_in_metricflow(table, known[name]) for name in by]
    request = MetricFlowQueryRequest.create(metric_names=metrics, group_by_names=names)
    sql = metricflow.explain(request).sql_statement.sql
    columns = ", ".join([*names, *metrics])
    assert_same(answer(warehouse, f"select {columns} from ({sql})", len(by)), got)


def assert_same(got: Answer, expected: Answer) -> None:
    assert got.keys() == expected.keys()
    for key, figures in expected.items():
        assert got[key].keys() == figures.keys()
        for name, figure in figures.items():
            value = got[key][name]
            same = value is None if figure is None else value == pytest.approx(figure, rel=1e-9, abs=1e-6)
            assert same, f"{name} of {key}: expected {figure}, got {value}"


def test_a_filter_is_that_of_metricflow(warehouse: duckdb.DuckDBPyConnection, metricflow: MetricFlowEngine) -> None:
    metrics = ["spend", "month_spend_change"]
    query = SEMANTICS.query(metrics, ["spend_month"], [Filter("customer_segment", "=", "Declining")])
    request = MetricFlowQueryRequest.create(
        metric_names=metrics,
        group_by_names=["customer_month__spend_month__month"],
        where_constraints=["{{ Dimension('customer__customer_segment') }} = 'Declining'"],
    )
    got = answer(warehouse, query.sql, 1, query.parameters)
    assert len(got) > 10
    assert_same(got, answer(warehouse, metricflow.explain(request).sql_statement.sql, 1))


def test_on_the_published_date_the_history_has_the_figures_of_the_profile(warehouse: duckdb.DuckDBPyConnection) -> None:
    names = list(OF_CUSTOMERS)
    published = SEMANTICS.query(names, ["as_of_date", "customer_segment"])
    dated = SEMANTICS.query([f"{name}_on_date" for name in names], ["as_of_date", "customer_segment"])
    of_history = answer(warehouse, dated.sql, 2)
    for key, figures in answer(warehouse, published.sql, 2).items():
        assert key[0] == AS_OF_DATE
        assert_same({key: of_history[key]}, {key: {f"{name}_on_date": value for name, value in figures.items()}})


# What the semantic view of Snowflake gives as answers


@pytest.mark.parametrize("query", verified_queries(), ids=lambda query: query.name)
def test_a_verified_query_answers_as_the_guide_does(warehouse: duckdb.DuckDBPyConnection, query: VerifiedQuery) -> None:
    warehouse.execute("use marts")
    try:
        guide, got = warehouse.execute(EXAMPLES[query.guide]).df(), warehouse.execute(query.sql).df()
    finally:
        warehouse.execute(f'use "{DATABASE}".main')
    if query.metrics:
        by = [name for name in got.columns if name in ("customer_segment", "spending_consistency")]
        _compare_metrics(warehouse, query, got, by)
        got, guide = got.drop(columns=list(query.metrics)), guide.drop(columns=list(query.metrics))
    left_out = PERSONAL if "customer_count" in got.columns else PERSONAL | {"customer_count"}
    guide = guide.drop(columns=left_out & set(guide.columns))
    assert list(got.columns) == list(guide.columns)
    # Where averages are others, so is the order by them.
    if query.metrics or "order by" not in query.sql:
        got, guide = (rows.sort_values(list(rows.columns)).reset_index(drop=True) for rows in (got, guide))
    pd.testing.assert_frame_equal(got, guide, check_dtype=False, rtol=1e-9)


def _compare_metrics(warehouse: duckdb.DuckDBPyConnection, query: VerifiedQuery, got: Rows, by: Sequence[str]) -> None:
    for column, metric in query.metrics.items():
        latest = [Filter("spend_month", "=", date(2026, 2, 1))] if metric == "month_spend_change" else []
        asked = SEMANTICS.query([metric], by, latest)
        found = {
            tuple(map(plain, row[:-1])): {metric: plain(row[-1])} for row in got[[*by, column]].itertuples(index=False)
        }
        assert_same(found, answer(warehouse, asked.sql, len(by), asked.parameters))
