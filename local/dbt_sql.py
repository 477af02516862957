"""SQL of the dbt project as DuckDB runs it, rendered without dbt.

What `make load` foretells is thereby judged by the very text that a build runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from functools import cache
from typing import Any

from jinja2 import Environment, StrictUndefined

from include.customer_360.dbt_vars import dbt_vars
from include.customer_360.settings import DBT_PROJECT

# What judges and converts a delivered value; they call each other.
_MACRO_FILES = ("normalised.sql", "amount_of.sql", "date_of.sql")


class _Adapter:
    """What a macro asks for the variant of its warehouse: always DuckDB's, which is the default one."""

    @staticmethod
    def dispatch(name: str) -> Callable[..., str]:
        return _macros()[f"default__{name}"]


@cache
def _environment() -> Environment:
    environment = Environment(undefined=StrictUndefined)
    # dbt's return: here the value is printed where the macro is called, which is the same for SQL.
    environment.globals.update({"adapter": _Adapter, "return": lambda value: value, "var": dbt_vars().__getitem__})
    return environment


@cache
def _macros() -> MutableMapping[str, Callable[..., str]]:
    text = "".join((DBT_PROJECT / "macros" / name).read_text(encoding="utf-8") for name in _MACRO_FILES)
    module = _environment().from_string(text).module
    return {name: macro for name, macro in vars(module).items() if callable(macro)}


def expression(macro: str, *arguments: str) -> str:
    """Return the SQL of a macro that converts or compares a value, such as amount_of, date_of_text or normalised.

    :raises KeyError: when it stands in none of the files that are read.
    """
    return str(_macros()[macro](*arguments))


def transaction_rows_query(tables: Mapping[str, str], transaction_date_type: str) -> str:
    """Return the query of the model stg_transaction_rows.

    :param tables: the table to read for each of transactions, customers_snapshot and merchant_categories.
    :param transaction_date_type: the DuckDB type of transaction_date in the first of them.
    """
    model = DBT_PROJECT / "models" / "staging" / "stg_transaction_rows.sql"
    given: dict[str, Any] = {
        "source": lambda _, name: tables[name],
        "ref": lambda name: tables[name],
        "transaction_date_type": lambda: transaction_date_type,
        "has_source_row": lambda: True,
    }
    return _environment().from_string(model.read_text(encoding="utf-8"), globals=_macros()).render(given)
