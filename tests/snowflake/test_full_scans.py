"""What a night without new rows reads of the large tables, as it is sent: docs/snowflake.md says why for each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import pytest
import sqlglot
from airflow.sdk import DAG
from sqlglot import exp

from include.customer_360.catalog import load_catalog
from include.customer_360.settings import PROJECT_ROOT, TEMPLATE_FOLDERS
from tests.snowflake.account import SnowflakeAccount
from tests.snowflake.conftest import run_dbt
from tests.snowflake.test_statements import RUN_SCHEMA, validation

FACT = "core.fct_transactions"
LARGE = {"raw.transactions", "core.fct_transactions", "staging.stg_transactions", "staging.stg_transaction_rows"}


def whole_reads(sql: str) -> Counter[str]:
    """Return the large tables that a statement reads without a literal by which most partitions are skipped.

    A table that is read in two places counts twice.
    """
    found: Counter[str] = Counter()
    for tree in sqlglot.parse(sql, dialect="snowflake"):
        if tree is None or (isinstance(tree, exp.Create) and tree.kind == "VIEW"):
            continue
        for table in tree.find_all(exp.Table):
            select = table.find_ancestor(exp.Select)
            name = f"{table.db}.{table.name}".lower()
            if name in LARGE and select is not None and not is_pruned(select, tree):
                found[name] += 1
    return found


def is_pruned(select: exp.Select, tree: exp.Expression) -> bool:
    """Whether a condition with literals holds for few partitions at most, here or in all that read this select."""
    where = select.args.get("where")
    if where is not None and any(skips(part) for part in conjuncts(where.this)):
        return True
    around = select.parent
    while isinstance(around, exp.SetOperation | exp.Subquery):
        around = around.parent
    if isinstance(around, exp.CTE):
        users = [table for table in tree.find_all(exp.Table) if table.name == around.alias and not table.db]
        selects = [user.find_ancestor(exp.Select) for user in users]
        return all(each is not None and is_pruned(each, tree) for each in selects)
    outer = select.parent.find_ancestor(exp.Select) if select.parent is not None else None
    return outer is not None and is_pruned(outer, tree)


def conjuncts(condition: exp.Expression) -> Iterable[exp.Expression]:
    unnested = condition.unnest()
    return (
        [part for each in unnested.flatten() for part in conjuncts(each)]
        if isinstance(unnested, exp.And)
        else [unnested]
    )


def skips(condition: exp.Expression) -> bool:
    """Whether Snowflake skips partitions by it: a comparison of a column with literals, alternatives of such, or false.

    A lower bound of a date, a range of ids or of arrivals. Not an upper bound, which the whole past is below.
    """
    condition = condition.unnest()
    if isinstance(condition, exp.Or):
        return all(skips(part) for part in condition.flatten())
    if isinstance(condition, exp.And):
        return any(skips(part) for part in conjuncts(condition))
    # The second is what dbt asks a contract's columns with.
    if condition.sql() in ("1 = 0", "FALSE"):
        return True
    if isinstance(condition, exp.Is):
        return condition.this.name.lower() == "ingested_at"
    literal = not any(condition.find_all(exp.Select)) and len(list(condition.find_all(exp.Column))) == 1
    column = condition.this.name.lower() if isinstance(condition.this, exp.Column) else ""
    if isinstance(condition, exp.Between):
        return literal and column in ("transaction_id", "raw_transaction_id", "transaction_date")
    if isinstance(condition, exp.GT | exp.GTE):
        return literal and column in ("transaction_date", "ingested_at")
    # What arrived in the year 1 and before.
    return isinstance(condition, exp.LT) and literal and column == "ingested_at" and "'0001-01-0" in condition.sql()


def readers(statements: Iterable[str]) -> Counter[tuple[str, str]]:
    """Return (dbt node, large table), with the number of times that statements of a node read it as a whole."""
    found: Counter[tuple[str, str]] = Counter()
    for sql in statements:
        if node := re.search(r'"node_id": "\w+\.\w+\.(\w+)', sql):
            found.update({(node[1], table): times for table, times in whole_reads(sql).items()})
    return found


def documented() -> Counter[tuple[str, str]]:
    """Return what the table of docs/snowflake.md says, each row of which has to have a reason."""
    page = (PROJECT_ROOT / "docs" / "snowflake.md").read_text()
    text = page.split("as a whole in a night without new rows", 1)[1].split("\n\n", 2)[1]
    rows = re.findall(r"^\| `(\w+)` \| `([\w.]+)` \| (\d+) \| (.{10,}) \|$", text, re.MULTILINE)
    assert len(rows) == len(text.splitlines()) - 2
    return Counter({(node, table): int(times) for node, table, times, _ in rows})


def sent_in_a_night(account: SnowflakeAccount, target: object) -> list[str]:
    """Build as the Dag does in a night, and return what dbt sent."""
    before = len(account.statements())
    environment = account.dbt_environment | {"RUN_SCHEMA": RUN_SCHEMA, "TEST_SCOPE": "touched"}
    arguments = ("build", "--exclude-resource-type", "unit_test", "--exclude", "tag:first_load_only")
    done = run_dbt(environment, target, *arguments, "--target=snowflake")
    assert done.returncode == 0, done.stdout[-6000:]
    return account.statements()[before:]


@pytest.fixture(scope="module")
def night_without_news(account: SnowflakeAccount, target: object, second_build: str) -> list[str]:
    """What dbt sends when nothing has come since the second build."""
    return sent_in_a_night(account, target)


@pytest.fixture(scope="module")
def night_with_news(account: SnowflakeAccount, target: object, night_without_news: list[str]) -> list[str]:
    """What dbt sends when a transaction was corrected, and a new one came."""
    copied = (
        "insert into raw.transactions select transaction_id || '{suffix}', customer_id, transaction_date, '3.21', "
        "merchant_name, merchant_category, channel, status, cast('2026-04-05 10:00:00' as timestamp), null "
        # Not of the customer whose correction the second build loaded.
        "from core.fct_transactions where customer_id <> 'CUST00000001' "
        "order by transaction_date, transaction_id limit 1"
    )
    for suffix in ("", "N"):
        account.query(copied.format(suffix=suffix), account.by_hand)
    return sent_in_a_night(account, target)


def of_validations() -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    with DAG("validation", schedule=None, template_searchpath=TEMPLATE_FOLDERS):
        operators = {mart: validation(mart) for mart in ["sources", *(mart.name for mart in load_catalog().marts)]}
    for mart, operator in operators.items():
        operator.resolve_template_files()
        operator.render_template_fields({"run_id": "run_1"})
        found.update({(f"validate_{mart}", table): times for table, times in whole_reads(operator.sql).items()})
    return found


def test_a_night_without_news_reads_as_a_whole_what_is_documented(night_without_news: list[str]) -> None:
    assert readers(night_without_news) + of_validations() == documented()


def test_a_night_with_news_reads_no_more_as_a_whole(night_with_news: list[str]) -> None:
    changed = [sql for sql in night_with_news if re.match(r"(?i)\s*(delete from|insert into) \w+\.core\.fct_tr", sql)]
    assert len(changed) == 2
    assert readers(night_with_news) - documented() == Counter()


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
        ("select * from (select a from core.fct_transactions) as f where false and now() = now() limit 0", set()),
        ("select a from core.fct_transactions where transaction_date >= cast('2026-01-01' as date)", set()),
        ("select a from core.fct_transactions where transaction_date >= b", {"core.fct_transactions"}),
        (
            "select a from core.fct_transactions where a = 1 or transaction_date > cast('2026-01-01' as date)",
            {"core.fct_transactions"},
        ),
        ("select a from core.fct_transactions where transaction_date <= cast('2026-01-01' as date)", {FACT}),
        ("select a from core.fct_transactions where transaction_date >= (select min(d) from t)", {FACT}),
        ("select a from core.fct_transactions where transaction_id in (select b from t)", {FACT}),
        (
            "select a from core.fct_transactions where transaction_id between 'T1' and 'T2' and a in (select b from t)",
            set(),
        ),
        ("select a from core.fct_transactions where transaction_id between 'T1' and (select max(b) from t)", {FACT}),
        (
            "select a from raw.transactions where (ingested_at is null or "
            "(ingested_at >= cast('2026-01-01' as timestamp) and ingested_at < cast('2026-01-02' as timestamp)))",
            set(),
        ),
        ("select a from raw.transactions where ingested_at is null or a = 1", {"raw.transactions"}),
        (
            "select a from raw.transactions where cast(ingested_at as date) >= cast('2026-01-01' as date)",
            {"raw.transactions"},
        ),
    ],
)
def test_a_planted_scan_is_found(sql: str, reads: set[str]) -> None:
    assert set(whole_reads(sql)) == reads


def test_a_table_that_is_read_twice_counts_twice() -> None:
    assert whole_reads("select a from core.fct_transactions union all select b from core.fct_transactions") == {FACT: 2}
