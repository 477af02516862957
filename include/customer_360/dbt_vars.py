"""The vars of the dbt project: the thresholds that its models and the validations share."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

import yaml

from include.customer_360.settings import DBT_PROJECT


@cache
def dbt_vars() -> Mapping[str, int | str]:
    """Return the vars of include/dbt/dbt_project.yml by name; their units stand in the comments there."""
    project = yaml.safe_load((DBT_PROJECT / "dbt_project.yml").read_text(encoding="utf-8"))
    return MappingProxyType(project["vars"])
