"""Every statement that goes to Snowflake, read without executing it: would a real account take it, and at what cost?

Each check is a function that returns what it objects to: nothing in what is sent, and something in SQL with a planted
mistake. The statements are those that dbt sent, those of an Airflow if a test before this one ran it, and those that
each operator gives to a cursor here.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

import pytest
import sqlglot
import yaml
from airflow.sdk import DAG
from sqlfluff.core import FluffConfig, Linter
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokens import Token, TokenType

from deploy.snowflake import statements
from include.customer_360.catalog import load_catalog
from include.customer_360.operators.validate import ValidateMartOperator
from include.customer_360.semantics import Filter, load_semantics
from include.customer_360.settings import DBT_PROJECT, PROJECT_ROOT, TEMPLATE_FOLDERS
from tests.snowflake.account import SnowflakeAccount
from tests.snowflake.asked_by_screens import STATEMENTS, asked
from tests.snowflake.conftest import RUN_SCHEMA

AS_OF_DATE = "2026-03-30"
FACT = "fct_transactions"
CATALOG = load_catalog()
RUN = statements.Run(RUN_SCHEMA, AS_OF_DATE)

# Statements that the parser takes as they come, without reading them.
UNREAD = (
    r"create schema if not exists \w+\.\w+ with managed access$",
    r"use secondary roles none$",
    r"show grants on (table|view) \w+\.\w+$",
    r"create or replace transient table \w+\.\w+ clone \w+\.\w+ copy grants;?$",
    # A real account's history has the block beside what it consists of.
    r"execute immediate \$\$ begin begin transaction; .* end; \$\$$",
)

# PRAGMA is read, and Snowflake has none.
KINDS = (
    *(
        exp.Alter,
        exp.Command,
        exp.Commit,
        exp.Create,
        exp.Delete,
        exp.Describe,
        exp.Drop,
        exp.Insert,
        exp.Merge,
        exp.Update,
    ),
    *(exp.Query, exp.Rollback, exp.Show, exp.Transaction, exp.TruncateTable, exp.Use),
)

# As they are written, not as the parser names them: it reads DuckDB's date_diff as Snowflake's datediff.
FUNCTIONS = {
    "abs",
    "avg",
    "cast",
    "chr",
    "coalesce",
    "concat",
    "contains",
    "convert_timezone",
    "count",
    "covar_pop",
    "current_database",
    "current_timestamp",
    "date_trunc",
    "dateadd",
    "datediff",
    "extract",
    "floor",
    "greatest",
    "hash_agg",
    "lag",
    "lead",
    "least",
    "length",
    "lower",
    "max",
    "md5",
    "median",
    "min",
    "min_by",
    "nullif",
    "power",
    "regexp_like",
    "replace",
    "round",
    "row_number",
    "sha2",
    "split_part",
    "sqrt",
    "stddev_samp",
    "substr",
    "sum",
    "to_timestamp_ntz",
    "trim",
    "try_cast",
    "var_pop",
    "var_samp",
}
DATE_PART_FIRST = {"date_trunc", "dateadd", "datediff"}
DATE_PARTS = {"day", "month"}
# What else stands before a parenthesis: keywords, types and lists of columns.
NO_FUNCTIONS = {
    *(
        "all",
        "and",
        "as",
        "by",
        "else",
        "exists",
        "from",
        "in",
        "insert",
        "join",
        "not",
        "on",
        "or",
        "over",
        "select",
        "sets",
    ),
    *("then", "union", "using", "values", "when", "where", "decimal", "varchar"),
}
NOT_OURS = {
    TokenType.DCOLON: "a cast with ::",
    TokenType.ARROW: "a lambda",
    TokenType.L_BRACKET: "a list or an index",
    TokenType.L_BRACE: "a struct",
    TokenType.COLON_EQ: "a named argument with :=",
    TokenType.FILTER: "filter (where ...)",
}

# dbt quotes the relations and columns that it read from the catalog, in the catalog's upper case.
QUOTED_BY_DBT = (
    r'describe table "',
    r'truncate table "\w+"."CORE"."(MERCHANT_CATEGORIES|TRANSACTION_STATUSES)"',
    r'create or replace temporary table "\w+"."CORE"."CUSTOMERS_SNAPSHOT__dbt_tmp"',
    r"select \* from \( with snapshot_query as \(",
    r'merge into "\w+"."CORE"."CUSTOMERS_SNAPSHOT"',
    r'alter table "\w+"."CORE"."CUSTOMERS_SNAPSHOT"',
    r'insert into \w+\.core\.(fct_transactions|fct_customer_months|rejected_transactions) \("',
    r'insert into \w+\.ops\.touched_customer_months \("',
    r'insert into \w+\.\w+\.customer_360_history \("',
)

# Columns that leave no two rows of a partition in the same place; all columns where only equal rows may tie.
CURRENT_CUSTOMERS = {
    *("updated_at", "account_open_date", "email", "card_type", "credit_limit", "last_name", "first_name", "age"),
    *("state", "city", "employment_status", "marketing_opt_in"),
}
LATEST_INGESTED = {
    *("ingested_at", "source_row", "transaction_date", "transaction_amount", "customer_id", "status"),
    *("merchant_category", "merchant_name", "channel"),
}
KEYS: dict[frozenset[str], list[set[str]]] = {
    frozenset({"customer_id"}): [
        {"version_number"},
        {"dbt_scd_id"},
        {"transaction_id"},
        {"month"},
        {"valid_from", "valid_to"},
        CURRENT_CUSTOMERS,
        # Of the campaigns that a customer is in, or could be in.
        {"as_of_date", "campaign"},
        {"priority", "campaign"},
    ],
    # A date has one audience of a campaign; a customer has one place in it.
    frozenset({"campaign"}): [{"as_of_date"}, {"place"}],
    frozenset({"transaction_id"}): [LATEST_INGESTED],
    # Of unknown statuses, and of unknown categories.
    frozenset({"column_name", "is_known"}): [{"row_count", "delivered_name"}],
    # Of one mart.
    frozenset({"as_of_date"}): [{"published_at", "dag_run_id"}, {"finished_at", "dag_run_id"}],
    # Of the exports of one campaign: of each date, of each destination.
    frozenset({"destination"}): [{"finished_at", "dag_run_id"}],
    # Of one customer, each kind of what is kept of a date.
    frozenset({"kind"}): [{"as_of_date"}],
    frozenset(): [
        {"arrival_day"},
        # Of the runs that ended.
        {"ended_at", "dag_run_id"},
        {"customer_id"},
        {"transaction_id"},
        {"customer_id", "month"},
        {"published_at", "dag_run_id"},
        # Of rows that fail a check, of which nothing but the key is asked for.
        {"row_key"},
        # Of one mart's publications, one per date.
        {"as_of_date"},
        {"dag_run_id", "mart", "check_name"},
    ],
}
# dbt.date_spine numbers rows that are all alike.
NUMBERS_EQUAL_ROWS = "ROW_NUMBER() OVER (ORDER BY 1)"

CONTRACT_TYPES = {"varchar", "date", "timestamp", "boolean", "integer", "bigint", "decimal(18, 2)", "decimal(18, 4)"}
CONTRACT_TYPES |= {"decimal(38, 0)", "decimal(38, 2)"}


# The checks


def plain(sql: str) -> str:
    """Return the SQL in one line, without comments."""
    without_blocks = re.sub(r"/\*.*?\*/", " ", sql, flags=re.DOTALL)
    return " ".join(re.sub(r"--[^\n]*", " ", without_blocks).split())


@cache
def parsed(sql: str) -> list[exp.Expression]:
    trees = sqlglot.parse(sql, dialect="snowflake")
    return [tree for tree in trees if tree is not None and not isinstance(tree, exp.Semicolon)]


def read(sql: str) -> Iterable[exp.Expression]:
    """Return every part of the SQL; nothing when it cannot be parsed, which `unparsable` reports."""
    try:
        trees = parsed(sql)
    except SqlglotError:
        return
    for tree in trees:
        yield from tree.walk()


def unparsable(sql: str) -> list[str]:
    """Report what the parser of Snowflake's dialect refuses or does not read, and two statements sent as one."""
    try:
        trees = parsed(sql)
    except SqlglotError as error:
        return [f"not Snowflake's SQL: {str(error).splitlines()[0]}"]
    found = ["more than one statement, and Snowflake takes one at a time"] if len(trees) > 1 else []
    found += [f"statement of another kind: {tree.key}" for tree in trees if not isinstance(tree, KINDS)]
    if any(isinstance(part, exp.Command) for part in read(sql)):
        found += (
            [] if any(re.match(known, plain(sql), re.IGNORECASE) for known in UNREAD) else ["not read by the parser"]
        )
    return found


def unknown_functions(sql: str) -> list[str]:
    """Report functions outside FUNCTIONS, syntax that one engine lacks, and date functions with DuckDB's arguments."""
    tokens = sqlglot.tokenize(sql, dialect="snowflake")
    words = [token.text.lower() for token in tokens]
    found = [NOT_OURS[token.token_type] for token in tokens if token.token_type in NOT_OURS]
    for number, (token, word, following) in enumerate(zip(tokens, words, [*words[1:], ""], strict=True)):
        if token.token_type in (TokenType.GROUP_BY, TokenType.ORDER_BY) and following == "all":
            found.append(f"{word} all")
        if token.token_type == TokenType.STAR and following in ("exclude", "replace", "rename"):
            found.append(f"* {following}")
        if following != "(" or not is_called(tokens, number):
            continue
        if word not in FUNCTIONS:
            found.append(f"function {word}")
        elif word in DATE_PART_FIRST and words[number + 2] not in DATE_PARTS:
            found.append(f"function {word} without a date part first")
    return found


def is_called(tokens: Sequence[Token], number: int) -> bool:
    """Whether the token before a parenthesis names a function, not a keyword, a CTE or a table with its columns."""
    word = tokens[number].text.lower()
    if tokens[number].token_type == TokenType.STRING or not re.fullmatch(r"[a-z_]\w*", word) or word in NO_FUNCTIONS:
        return False
    while number >= 2 and tokens[number - 1].token_type == TokenType.DOT:
        number -= 2
    return tokens[number - 1].text.lower() not in ("into", "table", "view", "exists") if number else True


def quoted_identifiers(sql: str) -> list[str]:
    """Report quoted names: what was created without quotes is not found under a quoted lower-case name."""
    quoted = [part.name for part in read(sql) if isinstance(part, exp.Identifier) and part.quoted]
    if any(re.match(beginning, plain(sql)) for beginning in QUOTED_BY_DBT):
        quoted = [name for name in quoted if not re.fullmatch(r"[A-Z0-9_]+(__dbt_tmp)?", name)]
    return [f'quoted name "{name}"' for name in dict.fromkeys(quoted)]


def stored_doubles(sql: str) -> list[str]:
    """Report columns of a created table or view that are double: sums of cents would no longer be exact."""
    found = []
    for tree in (part for part in read(sql) if isinstance(part, exp.Create)):
        declared = list(tree.this.find_all(exp.ColumnDef))
        found += [f"column {column.name} is double" for column in declared if is_double_type(column.args.get("kind"))]
        if isinstance(tree.expression, exp.Query) and not declared:
            found += [f"column {name} is double" for name in sorted(double_columns(tree.expression, {}))]
    return found


def is_double_type(data_type: exp.DataType | None) -> bool:
    return data_type is not None and data_type.this in exp.DataType.FLOAT_TYPES


def double_columns(query: exp.Expression, known: dict[str, set[str]]) -> set[str]:
    """Return the columns of a query that are double, given those of the CTEs in its reach."""
    known = dict(known)
    for cte in getattr(query, "ctes", []):
        known[cte.alias.lower()] = double_columns(cte.this, known)
    if isinstance(query, exp.Subquery):
        return double_columns(query.this, known)
    if isinstance(query, exp.SetOperation):
        return double_columns(query.left, known) | double_columns(query.right, known)
    clauses = [query.args.get("from_"), *(query.args.get("joins") or [])]
    sources: dict[str, set[str]] = {}
    for source in [clause.this for clause in clauses if clause is not None]:
        is_cte = isinstance(source, exp.Table) and not source.db
        of_source = known.get(source.name.lower(), set()) if is_cte else set()
        sources[source.alias_or_name.lower()] = (
            double_columns(source, known) if isinstance(source, exp.Subquery) else of_source
        )
    found: set[str] = set()
    for projection in query.expressions:
        if projection.is_star:
            table = projection.text("table").lower()
            found |= sources.get(table, set()) if table else set().union(*sources.values())
        elif is_double(projection, sources):
            found.add(projection.alias_or_name.lower())
    return found


def is_double(expression: exp.Expression, sources: dict[str, set[str]]) -> bool:
    if isinstance(expression, exp.Cast):
        return is_double_type(expression.to)
    if isinstance(expression, exp.Column):
        tables = [sources.get(expression.table.lower(), set())] if expression.table else sources.values()
        return any(expression.name.lower() in columns for columns in tables)
    if isinstance(expression, exp.Stddev | exp.StddevSamp):
        return True
    if isinstance(expression, exp.Predicate | exp.Connector | exp.DPipe | exp.Concat | exp.Count | exp.DateDiff):
        return False
    if isinstance(expression, exp.If):
        return any(is_double(value, sources) for key in ("true", "false") if (value := expression.args.get(key)))
    if isinstance(expression, exp.Case):
        values = [*expression.args["ifs"], expression.args.get("default")]
        return any(is_double(value, sources) for value in values if value is not None)
    if isinstance(expression, exp.Window):
        return is_double(expression.this, sources)
    return any(is_double(child, sources) for child in expression.iter_expressions())


def doubles_in_contracts(models: str) -> list[str]:
    """Report columns of a models' yml, contract or not, whose type is none that the project stores."""
    return [
        f"{model['name']}.{column['name']} is {column['data_type']}"
        for model in yaml.safe_load(models).get("models", [])
        for column in model.get("columns", [])
        if column.get("data_type", "varchar") not in CONTRACT_TYPES
    ]


def ties(sql: str) -> list[str]:
    """Report orderings that leave the place of rows open: the engine would choose, and each one differently."""
    found = []
    for part in read(sql):
        if isinstance(part, exp.Window):
            function = part.this.this if isinstance(part.this, exp.IgnoreNulls | exp.RespectNulls) else part.this
            # A row's place within an aggregate's frame does not change what a maximum or a sum up to it is.
            if isinstance(function, exp.Max | exp.Min | exp.Sum | exp.Count | exp.Avg):
                continue
            if part.sql(dialect="snowflake") == NUMBERS_EQUAL_ROWS:
                continue
            partition = frozenset(columns_of(part.args.get("partition_by") or []))
        elif isinstance(part, exp.Query) and part.args.get("limit") and part.args["limit"].expression.name != "0":
            partition = frozenset()
        else:
            continue
        order = columns_of([part.args["order"]] if part.args.get("order") else [])
        if not any(key <= order for key in KEYS.get(partition, [])):
            kind = "window" if isinstance(part, exp.Window) else "limit"
            found.append(f"{kind} ordered by {sorted(order)} within {sorted(partition)}")
    return found


def columns_of(expressions: Iterable[exp.Expression]) -> set[str]:
    return {column.name.lower() for expression in expressions for column in expression.find_all(exp.Column)}


def repeated_scans(sql: str) -> list[str]:
    """Report a statement that reads the fact more than once, but for what arrived on named days.

    A validation may, for a CTE of it would be kept whole.
    """
    if plain(sql).startswith("with mart as"):
        return []
    scans = sum(reads_fact(part) and not of_days_of_arrival(part) for part in read(sql))
    return [f"reads {FACT} {scans} times"] if scans > 1 else []


def of_days_of_arrival(part: exp.Expression) -> bool:
    """Tell whether the query that a table stands in takes rows by ingested_at alone."""
    query = part.find_ancestor(exp.Select)
    where = query.args.get("where") if query else None
    return where is not None and {column.name.lower() for column in where.find_all(exp.Column)} == {"ingested_at"}


def reads_fact(part: exp.Expression) -> bool:
    # The table that a statement writes to stands in neither from, join nor using.
    read_here = isinstance(part.parent, exp.From | exp.Join) or part.arg_key == "using"
    return isinstance(part, exp.Table) and part.name.lower() == FACT and bool(part.db) and read_here


def fact_readers(statements: Iterable[str]) -> dict[str, int]:
    """Return the tables of schemas that depend on as_of_date, each with how often its creation reads the fact."""
    readers: dict[str, int] = {}
    for sql in statements:
        for part in read(sql):
            if not isinstance(part, exp.Create) or not re.match(r"intermediate|marts", table_created(part).db.lower()):
                continue
            if scans := sum(map(reads_fact, part.walk())):
                readers[table_created(part).name.lower()] = scans
    return readers


def table_created(create: exp.Create) -> exp.Table:
    found = create.this.find(exp.Table)
    return found if found is not None else exp.Table()


def whole_table_deletes(sql: str) -> list[str]:
    """Report a delete from the fact without a literal date, for which Snowflake opens every partition."""
    found = []
    for delete in (part for part in read(sql) if isinstance(part, exp.Delete)):
        where = delete.args.get("where")
        conditions = list(where.this.flatten()) if where and isinstance(where.this, exp.And) else [where and where.this]
        since = [condition.sql() for condition in conditions if isinstance(condition, exp.GTE)]
        literal = re.compile(r"transaction_date >= CAST\('\d{4}-\d{2}-\d{2}' AS DATE\)")
        if delete.this.name.lower() == FACT and not any(map(literal.fullmatch, since)):
            found.append(f"deletes from {FACT} without a literal date")
    return found


@cache
def linter() -> Linter:
    logging.getLogger("sqlfluff").setLevel(logging.ERROR)
    overrides = {
        "dialect": "snowflake",
        # What is linted is rendered: nothing is ignored for templating, and the layout is that of loops and macros.
        "templater": "raw",
        "ignore": "",
        # AL10: Snowflake takes a derived table without an alias.
        "exclude_rules": "structure.column_order,layout,capitalisation,AL10",
    }
    config = FluffConfig.from_path(str(PROJECT_ROOT / "pyproject.toml"), overrides=overrides)
    # Words with a meaning elsewhere (create user, show transactions), which Snowflake does not reserve.
    config.set_value(
        ["rules", "references.keywords", "ignore_words"], "month,first_name,last_name,email,transactions,before,after"
    )
    # The columns of a scalar subquery with one table are that table's.
    config.set_value(["rules", "references.qualification", "subqueries_ignore_external_references"], True)
    return Linter(config=config)


def lint(sql: str, without: Sequence[str] = ()) -> list[str]:
    """Report what sqlfluff objects to in Snowflake's dialect with the project's rules; PRS is what it cannot parse."""
    violations = linter().lint_string(sql.rstrip() + "\n").get_violations()
    return [
        f"{found.rule_code()} line {found.line_no}: {found.desc()}"
        for found in violations
        if found.rule_code() not in without
    ]


# What is checked


def validation(mart: str) -> ValidateMartOperator:
    return statements.validation(mart, RUN, CATALOG)


@pytest.fixture(scope="module")
def of_operators() -> list[str]:
    """What the operators execute, each validating, publishing, writing or dropping something."""
    return [
        sent.sql
        for edition in ("enterprise", "standard")
        for group in statements.of_operators(RUN, CATALOG, edition).values()
        for sent in group
    ]


@pytest.fixture(scope="module")
def of_dbt(account: SnowflakeAccount, second_build: str) -> list[str]:
    """What dbt sent in two builds on the command line, and an Airflow if one ran before. Not what the tests asked."""
    return [sql for tag, sql in account.tagged_statements() if "dag" in tag or '"app": "dbt"' in sql]


@pytest.fixture(scope="module", name="statements")
def all_statements(of_dbt: list[str], of_operators: list[str]) -> list[str]:
    """Each statement once, whichever run it is from and without the comment that dbt adds."""
    without_comments = [re.sub(r"/\* \{.*?\} \*/", "", sql, flags=re.DOTALL) for sql in of_dbt] + of_operators
    return list(dict.fromkeys(re.sub(r"marts_run_\d{8}_\w{8}", RUN_SCHEMA, sql) for sql in without_comments))


CHECKS = (unparsable, unknown_functions, quoted_identifiers, stored_doubles, ties, repeated_scans, whole_table_deletes)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_nothing_that_is_sent_is_objected_to(statements: list[str], check: Callable[[str], list[str]]) -> None:
    assert {plain(sql)[:200]: found for sql in statements if (found := check(sql))} == {}


@pytest.fixture(scope="module")
def of_screens() -> dict[str, str]:
    """What the screens ask: their own statements by name, and all figures of each table, by each of its dimensions."""
    sent = {name: asked(name) for name in STATEMENTS}
    semantics = load_semantics()
    for table in semantics.tables.values():
        metrics = [metric.name for metric in semantics.metrics.values() if metric.table == table.name]
        by = [dimension.name for dimension in table.dimensions]
        sent[table.name] = semantics.query(metrics, by=by, where=[Filter(by[0], "is null", None)]).sql
    return sent


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_nothing_that_the_screens_ask_is_objected_to(
    of_screens: dict[str, str], check: Callable[[str], list[str]]
) -> None:
    assert {name: found for name, sql in of_screens.items() if (found := check(sql))} == {}


def test_every_kind_of_statement_is_among_what_is_checked(statements: list[str], account: SnowflakeAccount) -> None:
    beginnings = (
        "create or replace view by_hand.staging.stg_transaction_rows",
        "create or replace table by_hand.core.fct_transactions",
        f"create or replace transient table by_hand.{RUN_SCHEMA}.customer_360_profile (",
        "create or replace transient table marts.customer_360_profile clone",
        "create or replace secure view marts_read.customer_360_profile copy grants as",
        "create or replace temporary table by_hand.core.fct_transactions__dbt_tmp",
        "create table if not exists ops.validation_results",
        "delete from by_hand.core.fct_transactions",
        "delete from marts.customer_360_history",
        "insert into by_hand.core.fct_transactions",
        "insert into ops.publications",
        "insert into ops.restatements",
        "insert into ops.validation_results",
        "merge into",
        "alter session set query_tag",
        "use secondary roles none",
        "show grants on table marts.customer_360_profile",
        f"drop table if exists {RUN_SCHEMA}.customer_360_profile",
        f"drop view if exists {RUN_SCHEMA}.a_view",
        f"drop schema if exists {RUN_SCHEMA}",
        "select distinct as_of_date from marts.customer_360_profile",
        "with memberships as",
        "with mart as",
    )
    sent = [plain(sql).lower().replace(f"{account.by_hand}.", "by_hand.") for sql in statements]
    assert [beginning for beginning in beginnings if not any(sql.startswith(beginning) for sql in sent)] == []


def test_only_four_models_of_a_date_read_the_fact_and_each_once(of_dbt: list[str]) -> None:
    assert fact_readers(of_dbt) == {
        "campaign_results": 1,
        "customer_category_spend": 1,
        "int_customer_medians": 1,
        "int_customer_transactions": 1,
    }


def test_the_incremental_load_searches_the_fact_from_a_literal_date_on(statements: list[str]) -> None:
    assert [sql for sql in statements if re.match(rf"delete from \w+\.core\.{FACT}\b", plain(sql))]


def test_every_model_says_its_types_and_none_is_double() -> None:
    files = sorted((DBT_PROJECT / "models").rglob("*.yml"))
    assert {file.name: found for file in files if (found := doubles_in_contracts(file.read_text()))} == {}


def test_sqlfluff_takes_every_compiled_model(target: Path, second_build: str) -> None:
    compiled = target / "compiled" / "customer_analytics"
    # A folder named like a yml holds its generic tests, most of which are dbt's own.
    files = [*sorted(compiled.glob("models/**/*.sql")), *sorted(compiled.glob("tests/*.sql"))]
    ours = [file for file in files if file.parent.suffix != ".yml"]
    models = {file.stem for file in (DBT_PROJECT / "models").rglob("*.sql")}
    assert models <= {file.stem for file in ours}
    assert {file.name: found for file in ours if (found := lint(file.read_text()))} == {}


@pytest.mark.parametrize("mart", ["sources", *(mart.name for mart in CATALOG.marts)])
def test_sqlfluff_takes_every_rendered_validation(mart: str) -> None:
    with DAG("validation", schedule=None, template_searchpath=TEMPLATE_FOLDERS):
        operator = validation(mart)
    operator.resolve_template_files()
    operator.render_template_fields({"run_id": "run_1"})
    assert lint(operator.sql) == []


def test_sqlfluff_takes_what_else_the_operators_execute(of_operators: list[str]) -> None:
    others = [sql for sql in dict.fromkeys(of_operators) if not re.match(r"\s*with (mart|customers) as", sql)]
    # Columns taken by their place need no alias, a whole table is copied with *, and asc is left out as everywhere; a
    # campaign's order names its columns alone, and a file is called file.
    rules = ("AL03", "AM03", "AM04", "RF03", "RF04")
    assert {sql: found for sql in others if (found := lint(sql, without=rules))} == {}


# A mistake of each kind is found


@pytest.mark.parametrize(
    ("check", "planted", "message"),
    [
        pytest.param(unparsable, "select from where", "not Snowflake's SQL", id="no-sql"),
        pytest.param(unparsable, "create schema a; create schema b", "more than one statement", id="two-statements"),
        pytest.param(unparsable, "pragma table_info('t')", "another kind: pragma", id="pragma"),
        pytest.param(unparsable, "vacuum t", "not read by the parser", id="unread"),
        pytest.param(unparsable, "create or replace table a.b clone c.d copy grants now", "not read", id="lookalike"),
        pytest.param(unknown_functions, "select list(a) from t", "function list", id="list"),
        pytest.param(unknown_functions, "select struct_pack(a) from t", "function struct_pack", id="struct_pack"),
        pytest.param(unknown_functions, "select epoch_ms(a) from t", "function epoch_ms", id="epoch_ms"),
        pytest.param(unknown_functions, "select strftime(a, '%Y') from t", "function strftime", id="strftime"),
        pytest.param(unknown_functions, "select date_diff('day', a, b) from t", "function date_diff", id="date_diff"),
        pytest.param(unknown_functions, "select regexp_matches(a, 'x') from t", "function regexp", id="regexp_matches"),
        pytest.param(unknown_functions, "select my.own(a) from t", "function own", id="function-of-a-schema"),
        pytest.param(unknown_functions, "select datediff(a, b, day) from t", "without a date part", id="part-last"),
        pytest.param(unknown_functions, "select date_trunc(a, 'month') from t", "without a date part", id="trunc"),
        pytest.param(unknown_functions, "select count(*) filter (where a > 1) from t", "filter", id="filter"),
        pytest.param(unknown_functions, "select a, count(*) from t group by all", "group by all", id="group-by-all"),
        pytest.param(unknown_functions, "select a from t order by all", "order by all", id="order-by-all"),
        pytest.param(unknown_functions, "select * exclude (a) from t", "* exclude", id="exclude"),
        pytest.param(unknown_functions, "select a::integer from t", "::", id="double-colon"),
        pytest.param(unknown_functions, "select sum(x -> x + 1) from t", "a lambda", id="lambda"),
        pytest.param(unknown_functions, "select [x for x in a] from t", "a list", id="list-comprehension"),
        pytest.param(unknown_functions, "select {'a': 1} from t", "a struct", id="struct"),
        pytest.param(quoted_identifiers, 'select "month" from marts.t', 'quoted name "month"', id="quoted-column"),
        pytest.param(quoted_identifiers, 'describe table "Core"."T"', 'quoted name "Core"', id="quoted-by-dbt"),
        pytest.param(
            stored_doubles,
            "create table t as (with a as (select avg(cast(x as double)) as spend from r) select * from a)",
            "column spend is double",
            id="average-not-cast-back",
        ),
        pytest.param(
            stored_doubles,
            "create view v as select coalesce(case when a.b then cast(a.x as float) end, 0) as limit_pct from r as a",
            "column limit_pct is double",
            id="float-in-a-view",
        ),
        pytest.param(
            stored_doubles, "create table t (amount float) as (select 1)", "column amount is double", id="declared"
        ),
        pytest.param(
            ties,
            "select row_number() over (partition by customer_id order by updated_at desc) from t",
            "window ordered by ['updated_at'] within ['customer_id']",
            id="row-number",
        ),
        pytest.param(
            ties,
            "select row_number() over (partition by customer_id order by customer_id) from t",
            "window ordered by ['customer_id']",
            id="ordered-by-its-partition",
        ),
        pytest.param(
            ties,
            "select lag(a) over (partition by transaction_id order by ingested_at, customer_id) from t",
            "within ['transaction_id']",
            id="lag-with-half-of-the-columns",
        ),
        pytest.param(ties, "select row_number() over (partition by month order by a) from t", "window", id="partition"),
        pytest.param(ties, "select * from t order by lifetime_value desc limit 5", "limit ordered by", id="limit"),
        pytest.param(ties, "select * from t limit 5", "limit ordered by []", id="limit-without-order"),
        pytest.param(
            repeated_scans,
            "select 1 from core.fct_transactions as a join core.fct_transactions as b on a.x = b.x",
            "reads fct_transactions 2 times",
            id="self-join",
        ),
        pytest.param(
            repeated_scans,
            "insert into core.fct_transactions select x from core.fct_transactions "
            "where x in (select x from core.fct_transactions)",
            "reads fct_transactions 2 times",
            id="subquery",
        ),
        pytest.param(
            whole_table_deletes,
            "delete from core.fct_transactions where transaction_id in (select x from t)",
            "without a literal date",
            id="no-date",
        ),
        pytest.param(
            whole_table_deletes,
            "delete from core.fct_transactions where transaction_date >= (select min(d) from t) and a = 1",
            "without a literal date",
            id="date-of-a-subquery",
        ),
        pytest.param(
            whole_table_deletes,
            "delete from core.fct_transactions where a = 1 or transaction_date >= cast('2026-01-01' as date)",
            "without a literal date",
            id="date-as-an-alternative",
        ),
        pytest.param(whole_table_deletes, "delete from core.fct_transactions", "without a literal date", id="all"),
        pytest.param(
            doubles_in_contracts,
            "models: [{name: m, columns: [{name: spend, data_type: double}]}]",
            "m.spend is double",
            id="contract",
        ),
        pytest.param(lint, "select a from t order by a nulls somewhere", "PRS", id="sqlfluff-parse"),
        pytest.param(lint, "select a.b, c from t as a inner join u as d on a.x = d.x", "RF02", id="sqlfluff-rule"),
    ],
)
def test_a_planted_mistake_is_found(check: Callable[[str], list[str]], planted: str, message: str) -> None:
    found = check(planted)
    assert found
    assert message in found[0]


@pytest.mark.parametrize(
    ("check", "harmless"),
    [
        pytest.param(
            stored_doubles,
            "create table t as (with a as (select median(cast(x as double)) as m from r) "
            "select cast(round(m, 4) as decimal(18, 4)) as m, m > 1 as is_high from a)",
            id="rounded-and-cast-back",
        ),
        pytest.param(ties, "select * from (select 1 as a) as s where false limit 0", id="no-rows"),
        pytest.param(
            ties,
            "select max(a) over (partition by b order by c rows between unbounded preceding and current row) from t",
            id="running-maximum",
        ),
        pytest.param(
            repeated_scans, "insert into core.fct_transactions select 1 from core.fct_transactions", id="once"
        ),
        pytest.param(quoted_identifiers, 'describe table "CORE"."T"', id="quoted-by-dbt"),
    ],
)
def test_what_is_harmless_is_not_objected_to(check: Callable[[str], list[str]], harmless: str) -> None:
    assert check(harmless) == []


def test_a_third_reader_of_the_fact_is_found() -> None:
    planted = "create or replace transient table by_hand.marts.m as (select 1 as a from by_hand.core.fct_transactions)"
    assert fact_readers([planted]) == {"m": 1}
