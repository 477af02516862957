"""The tables of schema ops, as the template has them that makes them and has them gain columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, FileSystemLoader

from include.customer_360.settings import TEMPLATE_FOLDERS


def ops_columns() -> Mapping[str, Mapping[str, str]]:
    """Return the columns of each table, in order, with their types."""
    template = Environment(loader=FileSystemLoader(TEMPLATE_FOLDERS)).get_template("publish/ops_columns.jinja")
    module: Any = template.module
    columns: Mapping[str, Mapping[str, str]] = module.columns
    return columns
