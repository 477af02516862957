"""The semantic view of Snowflake: is it what the semantic models give, and is what stands in it SQL that runs?

No parser here knows `create semantic view`. So its clauses are read one by one, their expressions are parsed as
Snowflake's, and each metric is computed by the view's own text on DuckDB.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest
import sqlglot
from sqlglot import exp

from deploy.snowflake import semantic_view, set_up
from deploy.snowflake.semantic_view import SEMANTIC_VIEW_SQL, name_in_view, verified_queries
from deploy.snowflake.set_up import AFTER_PUBLICATION, SnowflakeLogin, read_statements
from include.customer_360.semantics import MANIFEST, load_semantics
from tests.snowflake.test_statements import quoted_identifiers, unknown_functions, unparsable

CLAUSES = ["tables", "relationships", "facts", "dimensions", "metrics", "comment", "ai_sql_generation"]
CLAUSES += ["ai_verified_queries", "copy grants"]
SEMANTICS = load_semantics()
FILE = "semantic_view.sql"
"""What else is run after a publication, tests/snowflake/test_setup.py reads."""
ENTERPRISE, STANDARD = (
    [each.sql for each in read_statements(edition=edition, folder=AFTER_PUBLICATION) if each.file == FILE]
    for edition in ("enterprise", "standard")
)
TEXT = r"'((?:[^']|'')*)'"
TOLD = rf"(?:\n +with synonyms = \({TEXT}(?:, {TEXT})*\))?\n +comment = {TEXT}"
PUBLISHED = ("customer_360_profile", "customer_360_history", "metric_mom_spend_change", "campaign_results")


@dataclass(frozen=True)
class View:
    """The parts of a statement that creates a semantic view."""

    name: str
    clauses: dict[str, str]

    def entries(self, clause: str) -> list[tuple[str, str, str]]:
        """Return table, name and SQL of what a clause defines; behind a metric's name what it is not added up over."""
        pattern = rf"^ {{8}}(\w+)\.(\w+(?: non additive by \(\w+\.\w+\))?) as ([^\n]+){TOLD}(?:,\n|$)"
        found = list(re.finditer(pattern, self.clauses[clause], re.MULTILINE))
        assert "".join(each[0] for each in found).rstrip(",\n") == self.clauses[clause].rstrip(), (
            "not all of it was read"
        )
        return [(each[1], each[2], each[3]) for each in found]


def view_of(statements: list[str]) -> View:
    """Read the one semantic view among the statements."""
    (sql,) = (statement for statement in statements if " semantic view " in statement and "create" in statement)
    name, rest = re.fullmatch(r"create or replace semantic view (\S+)\n(.*)", sql, re.DOTALL).groups()
    clauses: dict[str, str] = {}
    while rest := rest.strip("\n"):
        found = re.match(
            rf"    (\w+) \(\n(.*?)\n    \)(?:\n|$)|    (\w+)(?: =)? {TEXT}(?:\n|$)|    (copy grants)$", rest, re.S
        )
        assert found, f"a clause that this test cannot read: {rest[:80]}"
        clauses[found[1] or found[3] or found[5]] = found[2] or found[4] or ""
        rest = rest[found.end() :]
    return View(name, clauses)


VIEW = view_of(ENTERPRISE)


def test_the_committed_file_is_what_the_semantic_models_give() -> None:
    written = semantic_view.semantic_view(SEMANTICS, verified_queries())
    assert SEMANTIC_VIEW_SQL.read_text(encoding="utf-8") == written, "write it again: make semantics"


def test_the_clauses_stand_in_the_order_that_snowflake_asks_for() -> None:
    assert list(VIEW.clauses) == CLAUSES


def test_every_metric_every_dimension_and_every_fact_is_in_it() -> None:
    metrics = [(table, name.partition(" ")[0]) for table, name, _ in VIEW.entries("metrics")]
    assert sorted(metrics) == sorted((each.table, name) for name, each in SEMANTICS.metrics.items())
    dimensions = [(table, name) for table, name, _ in VIEW.entries("dimensions")]
    assert sorted(dimensions) == sorted((each.table, name_in_view(each)) for each in SEMANTICS.dimensions)
    facts = [(table, name) for table, name, _ in VIEW.entries("facts")]
    assert facts == [(table.name, fact.name) for table in SEMANTICS.tables.values() for fact in table.facts]


def test_no_two_of_a_table_have_one_name() -> None:
    found = [
        (table, name.partition(" ")[0])
        for clause in ("facts", "dimensions", "metrics")
        for table, name, _ in VIEW.entries(clause)
    ]
    assert len(found) == len(set(found))


def test_what_is_of_one_date_is_not_added_up_over_dates() -> None:
    semi_additive = {(table, name.partition(" ")[0]) for table, name, _ in VIEW.entries("metrics") if " by (" in name}
    tables = {table for table, _ in semi_additive}
    assert tables == {"customer_360_history", "audience_memberships"}
    # Formulas are of metrics that are.
    aggregates = {
        (each.table, name) for name, each in SEMANTICS.metrics.items() if each.aggregate and each.table in tables
    }
    assert semi_additive == aggregates
    assert {
        name.partition(" ")[2] for table, name, _ in VIEW.entries("metrics") if table == "audience_memberships"
    } == {
        "",
        "non additive by (audience_memberships.as_of_date)",
    }


def test_tables_and_relationships_are_those_of_the_marts() -> None:
    tables = re.findall(r"^ {8}(\w+) as (\S+)\n +primary key \(([\w, ]+)\)", VIEW.clauses["tables"], re.MULTILINE)
    assert {name: (relation, key) for name, relation, key in tables} == {
        "audience_memberships": ("customer_360.marts.audience_memberships", "campaign, as_of_date, customer_id"),
        "campaign_results": ("customer_360.marts.campaign_results", "campaign, wave_date, horizon_days"),
        "customer_360_history": ("customer_360.marts.customer_360_history", "customer_id, as_of_date"),
        "customer_360_profile": ("customer_360.marts.customer_360_profile", "customer_id"),
        "metric_mom_spend_change": ("customer_360.marts.metric_mom_spend_change", "customer_id, month"),
    }
    assert [line.split(" as ")[1].rstrip(",") for line in VIEW.clauses["relationships"].splitlines()] == [
        "audience_memberships (customer_id) references customer_360_profile (customer_id)",
        "metric_mom_spend_change (customer_id) references customer_360_profile (customer_id)",
    ]


# What it is made of is SQL


def expressions() -> dict[str, str]:
    """Each expression and each verified query, as a select, by where it stands."""
    found = {
        f"{table}.{name.partition(' ')[0]}": f"select {sql} from {table}"
        for clause in ("facts", "dimensions", "metrics")
        for table, name, sql in VIEW.entries(clause)
    }
    queries = re.findall(
        rf"^ {{8}}(\w+) as \(\n +question {TEXT}\n +sql {TEXT}\n {{8}}\)", VIEW.clauses["ai_verified_queries"], re.M
    )
    return found | {name: sql.replace("''", "'").strip() for name, _, sql in queries}


@pytest.mark.parametrize("check", [unparsable, unknown_functions, quoted_identifiers], ids=lambda check: check.__name__)
def test_nothing_in_it_is_objected_to(check: Callable[[str], list[str]]) -> None:
    assert {place: found for place, sql in expressions().items() if (found := check(sql))} == {}


def test_every_select_that_the_semantics_write_is_snowflakes_too() -> None:
    for metric in SEMANTICS.metrics:
        table = SEMANTICS.tables[SEMANTICS.metrics[metric].table]
        by = [table.one_value_of] if table.one_value_of else []
        sql = SEMANTICS.query([metric], by, schema="customer_360.marts").sql
        assert [*unparsable(sql), *unknown_functions(sql), *quoted_identifiers(sql)] == [], sql


@pytest.fixture(scope="module")
def marts() -> duckdb.DuckDBPyConnection:
    """The marts, empty."""
    nodes = json.loads(MANIFEST.read_text())["nodes"]
    connection = duckdb.connect()
    connection.execute("create schema marts; use marts")
    for name in (*PUBLISHED, "stg_audience_memberships"):
        (node,) = (each for each in nodes.values() if each["name"] == name)
        columns = ", ".join(f"{column} {each['data_type']}" for column, each in node["columns"].items())
        relation = name.removeprefix("stg_")
        connection.execute(f"create table {relation} ({columns})")
    return connection


def test_every_verified_query_runs_on_the_marts(marts: duckdb.DuckDBPyConnection) -> None:
    queries = verified_queries()
    written = expressions()
    assert len({query.question for query in queries}) == len(queries)
    for query in queries:
        text = " ".join(written[query.name].split())
        assert text == " ".join(query.sql.split())
        marts.execute(written[query.name])


def test_every_verified_query_names_columns_that_the_view_has() -> None:
    known = {f"{table}.{name}" for clause in ("facts", "dimensions") for table, name, _ in VIEW.entries(clause)}
    for query in verified_queries():
        tree = sqlglot.parse_one(query.sql, read="snowflake")
        tables = {table.name for table in tree.find_all(exp.Table)} - {cte.alias for cte in tree.find_all(exp.CTE)}
        named = {alias.alias for alias in tree.find_all(exp.Alias)}
        for column in {column.name for column in tree.find_all(exp.Column)} - named:
            assert any(f"{table}.{column}" in known for table in tables), f"{query.name}: {column}"


def test_each_metric_is_computed_by_the_text_of_the_view_as_by_the_semantics(marts: duckdb.DuckDBPyConnection) -> None:
    filled = marts.cursor()
    filled.execute("begin; use marts")
    fill(filled)
    for table in SEMANTICS.tables:
        entries = [(name.partition(" ")[0], sql) for owner, name, sql in VIEW.entries("metrics") if owner == table]
        aggregates = {name: sql for name, sql in entries if SEMANTICS.metrics[name].aggregate}
        listed = ", ".join(f"{sql} as {name}" for name, sql in aggregates.items())
        # One date and one horizon stand in it.
        inner = f"select {listed} from marts.{SEMANTICS.tables[table].relation} as {table}"
        names = [name for name, _ in entries]
        outer = ", ".join(sql if name not in aggregates else f"{table}.{name}" for name, sql in entries)
        by = [SEMANTICS.tables[table].one_value_of] if SEMANTICS.tables[table].one_value_of else []
        (of_view,) = filled.execute(f"select {outer} from ({inner}) as {table}").fetchall()
        (of_semantics,) = filled.execute(SEMANTICS.query(names, by).sql).fetchall()
        assert dict(zip(names, of_view, strict=True)) == dict(zip(names, of_semantics[len(by) :], strict=True))
        assert None not in of_view, table
    filled.execute("rollback")


def fill(connection: duckdb.DuckDBPyConnection) -> None:
    """Put three rows into each mart, in which every metric has a value."""
    connection.execute(
        """
        insert into customer_360_profile by name
        select
            'C' || n as customer_id, date '2026-03-31' as as_of_date, 'Declining' as customer_segment,
            case n when 1 then 'Active (30 days)' else 'Inactive (90+ days)' end as recency_status,
            12 * n as tenure_months, 10 * n as days_since_last_transaction, 100 * n as lifetime_value,
            n as total_transactions, 30 * n as spend_last_90_days, 20 as spend_prior_90_days,
            10 * n as avg_monthly_spend
        from range(1, 4) as numbers (n);
        insert into customer_360_history by name
        select customer_id, as_of_date, recency_status, tenure_months, lifetime_value, total_transactions,
            spend_last_90_days, spend_prior_90_days
        from customer_360_profile;
        insert into metric_mom_spend_change by name
        select 'C' || n as customer_id, date '2026-03-01' as month, 10 * n as monthly_spend,
            case when n > 1 then 15 end as prior_month_spend,
            case n when 1 then 'First Month' when 2 then 'Growth' else 'High Growth' end as mom_trend_category
        from range(1, 4) as numbers (n);
        insert into campaign_results by name
        select 'premium' as campaign, date '2026-01-01' + n::integer as wave_date, 30 as horizon_days,
            10 * n as treated_customers, n as held_out_customers, 100 * n as treated_spend_after,
            8 * n as held_out_spend_after, 8 as held_out_spend_after_per_customer, 2.5 as lift, n = 1 as is_significant
        from range(1, 4) as numbers (n);
        insert into audience_memberships by name
        select 'premium' as campaign, date '2026-03-31' as as_of_date, 'C' || n as customer_id,
            ['exported', 'held_out', 'suppressed'][n] as status, n = 1 as entered
        from range(1, 4) as numbers (n);
        """
    )


# How it is applied


def test_what_is_run_after_the_publication_is_what_is_allowed() -> None:
    allowed = (
        r"use role (sysadmin|securityadmin)",
        r"create or replace semantic view customer_360\.marts\.customer_360\n.*\n    copy grants",
        r"grant select on semantic view customer_360\.marts\.customer_360 to role customer_360_reader",
    )
    assert [sql for sql in ENTERPRISE if not any(re.fullmatch(each, sql, re.DOTALL) for each in allowed)] == []
    assert [re.match(r"[a-z]+ [a-z ]*?(?=sys|sec|cust)", sql)[0].strip() for sql in ENTERPRISE] == [
        "use role",
        "create or replace semantic view",
        "use role",
        "grant select on semantic view",
    ]


def test_on_standard_edition_it_is_made_of_the_readers_views_and_stands_beside_them() -> None:
    assert [sql.replace("marts_read.", "marts.") for sql in STANDARD] == ENTERPRISE
    assert not any(".marts." in sql for sql in STANDARD)


def test_another_deployment_has_it_in_its_own_database() -> None:
    made = read_statements("card_staging", folder=AFTER_PUBLICATION)
    statements = [statement.sql for statement in made if statement.file == FILE]
    view = view_of(statements)
    assert view.name == "card_staging.marts.customer_360"
    assert "customer_360.marts" not in view.clauses["tables"]
    assert statements[-1].endswith("card_staging.marts.customer_360 to role card_staging_reader")


def test_the_set_up_runs_it_when_asked_to(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(SnowflakeLogin.model_config, "env_file", None)
    for name in (*(f"SNOWFLAKE_{field.upper()}" for field in SnowflakeLogin.model_fields), "DEPLOYMENT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DRY_RUN", "1")
    monkeypatch.setenv("AFTER_PUBLICATION", "1")
    assert set_up.main() == 0
    printed = capsys.readouterr().out
    assert "-- semantic_view.sql, statement 2 of 4\ncreate or replace semantic view customer_360.marts" in printed
    assert "create role if not exists customer_360_loader" not in printed


def test_the_command_says_when_the_file_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "semantic_view.sql"
    monkeypatch.setattr(semantic_view, "SEMANTIC_VIEW_SQL", file)
    assert semantic_view.main() == 1
    assert f"{file} is not what the semantic models give: write it with `make semantics`" in capsys.readouterr().err
    monkeypatch.setenv("WRITE", "1")
    assert semantic_view.main() == 0
    monkeypatch.delenv("WRITE")
    assert semantic_view.main() == 0
    assert file.read_text() == SEMANTIC_VIEW_SQL.read_text()
