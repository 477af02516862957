"""What a night without new rows reads of the large tables, as it is sent: docs/snowflake.md says why for each."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
import sqlglot
from account import SnowflakeAccount
from airflow.sdk import DAG
from conftest import run_dbt
from sqlglot import exp
from test_statements import RUN_SCHEMA, validation

from include.customer_360.catalog import load_catalog
from include.customer_360.settings import PROJECT_ROOT, TEMPLATE_FOLDERS

LARGE = {"raw.transactions", "core.fct_transactions", "staging.stg_transactions", "staging.stg_transaction_rows"}


def whole_reads(sql: str) -> set[str]:
    """Return the large tables that a statement reads without a condition that rules every row out, or all old ones."""
    found = set()
    for tree in sqlglot.parse(sql, dialect="snowflake"):
        if tree is None or (isinstance(tree, exp.Create) and tree.kind == "VIEW"):
            continue
        for table in tree.find_all(exp.Table):
            select = table.find_ancestor(exp.Select)
            name = f"{table.db}.{table.name}".lower()
            if name in LARGE and select is not None and not reads_nothing(select, tree):
                found.add(name)
    return found


def reads_nothing(select: exp.Select, tree: exp.Expression) -> bool:
    """Whether the select has the condition 1 = 0 or a literal date to begin with, or is read by such selects only."""
    where = select.args.get("where")
    if where is not None and any(part.sql() == "1 = 0" for part in where.find_all(exp.EQ)):
        return True
    since = list(where.find_all(exp.GT, exp.GTE)) if where is not None and not where.find(exp.Or) else []
    if any(part.left.name == "transaction_date" and not part.right.find(exp.Column) for part in since):
        return True
    around = select.parent
    while isinstance(around, exp.SetOperation | exp.Subquery):
        around = around.parent
    if isinstance(around, exp.CTE):
        users = [table for table in tree.find_all(exp.Table) if table.name == around.alias and not table.db]
        selects = [user.find_ancestor(exp.Select) for user in users]
        return all(each is not None and reads_nothing(each, tree) for each in selects)
    outer = select.parent.find_ancestor(exp.Select) if select.parent is not None else None
    return outer is not None and reads_nothing(outer, tree)


def readers(statements: Iterable[str]) -> set[tuple[str, str]]:
    """Return (dbt node, large table) for each statement of a node that reads one as a whole."""
    found = set()
    for sql in statements:
        if node := re.search(r'"node_id": "\w+\.\w+\.(\w+)', sql):
            found |= {(node[1], table) for table in whole_reads(sql)}
    return found


def documented() -> set[tuple[str, str]]:
    text = (PROJECT_ROOT / "docs" / "snowflake.md").read_text()
    return set(re.findall(r"^\| `(\w+)` \| `([\w.]+)` \|", text, re.MULTILINE))


@pytest.fixture(scope="module")
def night_without_news(account: SnowflakeAccount, target: object, second_build: str) -> list[str]:
    """What dbt sends when nothing has come since the second build."""
    before = len(account.statements())
    environment = account.dbt_environment | {"RUN_SCHEMA": RUN_SCHEMA, "TEST_SCOPE": "touched"}
    arguments = ("build", "--exclude-resource-type", "unit_test", "--exclude", "tag:first_load_only")
    done = run_dbt(environment, target, *arguments, "--target=snowflake")
    assert done.returncode == 0, done.stdout[-6000:]
    return account.statements()[before:]


def test_a_night_without_news_reads_as_a_whole_what_is_documented(night_without_news: list[str]) -> None:
    validations = set()
    with DAG("validation", schedule=None, template_searchpath=TEMPLATE_FOLDERS):
        operators = {mart: validation(mart) for mart in ["sources", *(mart.name for mart in load_catalog().marts)]}
    for mart, operator in operators.items():
        operator.resolve_template_files()
        operator.render_template_fields({"run_id": "run_1"})
        validations |= {(f"validate_{mart}", table) for table in whole_reads(operator.sql)}
    assert readers(night_without_news) | validations == documented()


@pytest.mark.parametrize(
    ("sql", "reads"),
    [
        ("select * from db.core.fct_transactions where 1 = 0", set()),
        ("select * from db.core.fct_transactions where a = 1", {"core.fct_transactions"}),
        ("with f as (select * from core.fct_transactions) select * from f where 1 = 0", set()),
        ("with f as (select * from core.fct_transactions) select * from f", {"core.fct_transactions"}),
        (
            "with f as (select * from raw.transactions) select a from f where 1 = 0 union all select a from f",
            {"raw.transactions"},
        ),
        ("select a from (select a from core.fct_transactions) as f where 1 = 0", set()),
        ("select a from core.fct_transactions where transaction_date >= cast('2026-01-01' as date)", set()),
        ("select a from core.fct_transactions where transaction_date >= b", {"core.fct_transactions"}),
        (
            "select a from core.fct_transactions where a = 1 or transaction_date > cast('2026-01-01' as date)",
            {"core.fct_transactions"},
        ),
    ],
)
def test_a_planted_scan_is_found(sql: str, reads: set[str]) -> None:
    assert whole_reads(sql) == reads
