"""The seeds of the dbt project, as their files have them: on a first night the warehouse does not have them yet."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from include.customer_360.settings import DBT_PROJECT


@cache
def dbt_seeds() -> Mapping[str, tuple[Mapping[str, str], ...]]:
    """Return the rows of each include/dbt/seeds/<name>.csv by its name, each row its values by column."""
    seeds = {}
    for file in sorted((DBT_PROJECT / "seeds").glob("*.csv")):
        with file.open(encoding="utf-8", newline="") as rows:
            seeds[file.stem] = tuple(MappingProxyType(row) for row in csv.DictReader(rows))
    return MappingProxyType(seeds)
