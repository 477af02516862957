"""Questions over the semantic definitions: what can be filtered how, and which values there are to choose from."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from decimal import Decimal

import pandas as pd

from app.formats import is_missing
from app.published import Warehouse, query
from include.customer_360.semantics import Dimension, Filter, Semantics

PERSON = "customer_id"
"""A dimension that no figure is cut by here: single customers are looked up on page Customer, where it is logged."""

MOST_VALUES = 500
PERSONAL = (PERSON, "full_name", "first_name", "last_name", "email")
"""Columns by which an answer is about single customers."""

_NAMES_CUSTOMERS = re.compile(rf"\b({'|'.join(PERSONAL)})\b", re.IGNORECASE)
# A text in quotes, or between pairs of dollars; what stands in a comment, or is a name in quotes, is none.
_TEXT = re.compile(
    r"""--[^\n]*|/\*.*?\*/|"(?:[^"]|"")*"|'(?P<quoted>(?:[^']|'')*)'|\$\$(?P<dollars>.*?)\$\$""", re.DOTALL
)

OPERATORS = {
    "in": "is one of",
    "=": "is",
    "<>": "is not",
    ">=": "is at least",
    "<=": "is at most",
    "between": "is between",
    "is null": "is missing",
}


def dimensions_for(semantics: Semantics, metrics: Sequence[str]) -> dict[str, Dimension]:
    """Return what metrics may be cut by and filtered on, by name."""
    return {each.name: each for each in semantics.dimensions_of(metrics) if each.name != PERSON}


def operators_of(dimension: Dimension) -> Sequence[str]:
    """Return how a dimension can be filtered, the most usual first."""
    if dimension.type == "time":
        return ("between", "=", ">=", "<=")
    if dimension.data_type == "boolean":
        return ("=", "is null")
    if dimension.data_type.startswith(("decimal", "integer", "bigint", "double")):
        return ("=", ">=", "<=", "is null")
    return ("in", "<>", "is null")


def values_of(warehouse: Warehouse, semantics: Semantics, dimension: Dimension) -> Sequence[object]:
    """Return the values that a dimension has, sorted, MOST_VALUES at most; for dates the newest, newest first."""
    table = semantics.tables[dimension.table]
    newest_first = " desc" if dimension.type == "time" else ""
    found = warehouse.frame(
        f"select distinct {dimension.expression} as value\n"
        f"from marts.{table.relation} as {table.name}\n"
        f"where {dimension.expression} is not null\n"
        f"order by value{newest_first}\n"
        f"limit {MOST_VALUES}"
    )
    return [as_value(value, dimension) for value in found.value]


def as_value(value: object, dimension: Dimension) -> object:
    """Return a value of a frame as one that can be bound."""
    if dimension.type == "time":
        day: datetime.date = pd.Timestamp(value).date()
        return day
    if dimension.data_type == "boolean":
        return bool(value)
    if isinstance(value, str):
        return value
    number = Decimal(str(value))
    return int(number) if number == number.to_integral_value() else float(number)


def latest_date(
    warehouse: Warehouse, semantics: Semantics, metrics: Sequence[str], by: Sequence[str], where: Sequence[Filter]
) -> datetime.date | None:
    """Return the date that figures are of which are never added up over dates and are asked for without one, or None.

    It is the latest within the filters of the date, whatever else is filtered.
    """
    names = {semantics.metrics[name].latest_of for name in metrics} - {"", *by}
    if not names:
        return None
    [name] = names
    where = [each for each in where if each.dimension == name]
    if any(each.operator == "=" for each in where):
        return None
    table = semantics.tables[semantics.metrics[metrics[0]].table]
    [date] = [each for each in table.dimensions if each.name == name]
    sql = f"select max({date.expression}) as latest\nfrom marts.{table.relation} as {table.name}\nwhere true"
    bound: list[object] = []
    for condition in where:
        if condition.operator == "between" and isinstance(condition.value, Sequence):
            sql += f"\n    and {date.expression} between ? and ?"
            bound += condition.value
        else:
            sql += f"\n    and {date.expression} {condition.operator} ?"
            bound.append(condition.value)
    [latest] = warehouse.frame(sql, bound).latest
    if is_missing(latest):
        return None
    day: datetime.date = pd.Timestamp(latest).date()
    return day


def names_customers(sql: str, answer: pd.DataFrame) -> bool:
    """Tell whether an answer may be about single customers: then it is written down who asked."""
    return bool(_NAMES_CUSTOMERS.search(sql)) or any(str(column).lower() in PERSONAL for column in answer.columns)


def texts_in(sql: str) -> list[str]:
    """Return the texts that stand in a statement, each once."""
    found = (
        each["quoted"].replace("''", "'") if each["quoted"] is not None else each["dollars"]
        for each in _TEXT.finditer(sql)
    )
    return list(dict.fromkeys(text for text in found if text))


def customers_of(warehouse: Warehouse, sql: str, answer: pd.DataFrame) -> list[str]:
    """Return the ids of the customers whom an answer is about, sorted: those in it, and those that its SQL names."""
    found = {
        str(value)
        for place, column in enumerate(answer.columns)
        if str(column).lower() == PERSON
        for value in answer.iloc[:, place].dropna()
    }
    if texts := texts_in(sql):
        statement = query("ask/customers_named").format(texts=", ".join("?" * len(texts)))
        found |= set(warehouse.frame(statement, [text.lower() for text in texts]).customer_id)
    return sorted(found)
