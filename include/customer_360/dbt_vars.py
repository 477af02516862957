"""The vars of the dbt project: thresholds of models and validations, and what a session on Snowflake is set to."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import yaml

from include.customer_360.settings import DBT_PROJECT


@cache
def dbt_vars() -> Mapping[str, Any]:
    """Return the vars of include/dbt/dbt_project.yml by name; their units stand in the comments there."""
    project = yaml.safe_load((DBT_PROJECT / "dbt_project.yml").read_text(encoding="utf-8"))
    return MappingProxyType(project["vars"])


def snowflake_session() -> dict[str, str | int | bool]:
    """Return the session parameters that every statement on Snowflake relies on, by their names in upper case."""
    return {name.upper(): value for name, value in dbt_vars()["snowflake_session"].items()}
