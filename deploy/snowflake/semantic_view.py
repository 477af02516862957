"""Snowflake's semantic view, for Cortex Analyst, written from the project's metrics and dimensions.

    python -m deploy.snowflake.semantic_view            whether the committed file is what they give
    WRITE=1 python -m deploy.snowflake.semantic_view    write it, as `make semantics` does

The file, after_publication/semantic_view.sql, is a template like those of the set-up, which
`make snowflake-setup AFTER_PUBLICATION=1` runs: the view is made of marts, which the first publication makes. Personal
data is in no semantic model, and so not in the view.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from deploy.snowflake.set_up import AFTER_PUBLICATION
from include.customer_360.semantics import Dimension, Metric, Semantics, SemanticsError, Table, load_semantics

SEMANTIC_VIEW_SQL = AFTER_PUBLICATION / "semantic_view.sql"
VERIFIED_QUERIES = AFTER_PUBLICATION / "verified_queries.yml"
SCHEMA = "{{ deployment }}.{{ readable }}"
NAME = f"{SCHEMA}.customer_360"
_UNITS = {"usd": "in dollars", "percent": "in percent", "count": "a number", "days": "in days"}
_HEAD = """-- Written by `make semantics` from the dbt semantic models: change those.
-- On Standard Edition it is made of what readers select from there, the views of marts_read.
{%- set readable = 'marts_read' if edition == 'standard' else 'marts' %}
use role sysadmin;
"""
_GRANT = f"""-- Who may select from a semantic view needs no privilege on the tables below it.
use role securityadmin;

grant select on semantic view {NAME} to role {{{{ deployment }}}}_reader;
"""
_COMMENT = "Customers, their spend by month and by date, and campaigns: audiences and results. Without personal data"
_INSTRUCTIONS = (
    "Answer with a metric where there is one; never average a column that is an average or a percentage itself. Money "
    "is in dollars, percentages are 0 to 100.",
    "Count dates from as_of_date, never from the current date: it is the last business day that the data has.",
    "Figures of campaign_results are of one horizon: group by horizon_days, or filter it to one value.",
    "Figures of customer_360_history and audience_memberships are of one date: the latest, unless dates are asked for.",
    "End the order of customers with customer_id, and put NULL last.",
)


@dataclass(frozen=True)
class VerifiedQuery:
    """A question and the SQL that answers it.

    :param guide: the example of the guide that it is, by heading and place.
    :param metrics: the columns that are metrics, where the guide averages averages.
    """

    name: str
    guide: str
    question: str
    sql: str
    metrics: dict[str, str]


def verified_queries(file: Path = VERIFIED_QUERIES) -> tuple[VerifiedQuery, ...]:
    """Return the questions that the view knows the answer of."""
    entries = yaml.safe_load(file.read_text(encoding="utf-8"))
    return tuple(VerifiedQuery(**{"metrics": {}, **entry, "sql": entry["sql"].strip()}) for entry in entries)


def semantic_view(semantics: Semantics, queries: Sequence[VerifiedQuery]) -> str:
    """Return the file: a template that knows `deployment` and `edition`."""
    tables = semantics.tables.values()
    clauses = [
        _clause("tables", [_table(table) for table in tables]),
        _clause("relationships", [_relationship(table, other) for table in tables for other in table.joins]),
        _clause("facts", [_fact(table, fact.name, fact.description) for table in tables for fact in table.facts]),
        _clause("dimensions", [_dimension(each) for table in tables for each in table.dimensions]),
        _clause("metrics", [_metric(each, semantics) for table in tables for each in _metrics_of(table, semantics)]),
        f"    comment = {_text(_COMMENT)}",
        f"    ai_sql_generation {_text(' '.join(_INSTRUCTIONS))}",
        _clause("ai_verified_queries", [_verified(query) for query in queries]),
        "    copy grants",
    ]
    created = f"create or replace semantic view {NAME}\n" + "\n".join(clauses) + ";\n"
    return f"{_HEAD}\n{created}\n{_GRANT}"


def name_in_view(dimension: Dimension) -> str:
    """Return what a dimension is called in the view: as its column, if it is one, so that queries fit the marts."""
    column = dimension.expression.removeprefix(f"{dimension.table}.")
    return column if re.fullmatch(r"\w+", column) else dimension.name


def _metrics_of(table: Table, semantics: Semantics) -> Iterable[Metric]:
    return (metric for metric in semantics.metrics.values() if metric.table == table.name)


def _clause(name: str, entries: Iterable[str]) -> str:
    listed = ",\n".join("\n".join(f"        {line}" if line else "" for line in entry.split("\n")) for entry in entries)
    return f"    {name} (\n{listed}\n    )"


def _table(table: Table) -> str:
    return "\n".join(
        (
            f"{table.name} as {SCHEMA}.{table.relation}",
            f"    primary key ({', '.join(table.key)})",
            *_told(table.synonyms, f"{table.label}: {table.description}"),
        )
    )


def _relationship(table: Table, other: str) -> str:
    column = table.joins[other]
    return f"{table.name}_of_{other} as {table.name} ({column}) references {other} ({column})"


def _fact(table: Table, name: str, description: str) -> str:
    return "\n".join((f"{table.name}.{name} as {name}", *_told((), description)))


def _dimension(dimension: Dimension) -> str:
    name = name_in_view(dimension)
    # A column of the same name stands alone: with its table before it, it would be the dimension itself.
    column = name if dimension.expression == f"{dimension.table}.{name}" else dimension.expression
    first = f"{dimension.table}.{name} as {column}"
    return "\n".join((first, *_told(dimension.synonyms, f"{dimension.label}: {dimension.description}")))


def _metric(metric: Metric, semantics: Semantics) -> str:
    latest = ""
    if metric.latest_of and metric.aggregate:
        (over,) = (each for each in semantics.tables[metric.table].dimensions if each.name == metric.latest_of)
        # Sorted by it, the last rows count.
        latest = f" non additive by ({metric.table}.{name_in_view(over)})"
    sql = metric.sql(lambda name: f"{metric.table}.{name}")
    first = f"{metric.table}.{metric.name}{latest} as {sql}"
    return "\n".join((first, *_told(metric.synonyms, f"{metric.label}, {_UNITS[metric.unit]}: {metric.description}")))


def _verified(query: VerifiedQuery) -> str:
    sql = _text("\n" + textwrap.indent(query.sql, 8 * " ") + "\n    ")
    return f"{query.name} as (\n    question {_text(query.question)}\n    sql {sql}\n)"


def _told(synonyms: Sequence[str], comment: str) -> Iterable[str]:
    if synonyms:
        yield f"    with synonyms = ({', '.join(map(_text, synonyms))})"
    yield f"    comment = {_text(comment)}"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def main() -> int:
    """Write the file, or say whether it is what the semantic models give; return the exit code."""
    try:
        written = semantic_view(load_semantics(), verified_queries())
    except SemanticsError as error:
        print(error, file=sys.stderr)
        return 1
    if os.environ.get("WRITE", "") not in ("", "0"):
        SEMANTIC_VIEW_SQL.write_text(written, encoding="utf-8")
        print(f"Written: {SEMANTIC_VIEW_SQL}")
        return 0
    if not SEMANTIC_VIEW_SQL.is_file() or SEMANTIC_VIEW_SQL.read_text(encoding="utf-8") != written:
        print(
            f"{SEMANTIC_VIEW_SQL} is not what the semantic models give: write it with `make semantics`.",
            file=sys.stderr,
        )
        return 1
    print(f"{SEMANTIC_VIEW_SQL} is what the semantic models give.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
