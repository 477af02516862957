"""The one form of Snowflake Scripting that the project sends: changes in one transaction, undone on any error."""

from __future__ import annotations

import re

import sqlparse

BLOCK = re.compile(
    r"\s*(?:/\*.*?\*/\s*)?execute\s+immediate\s+\$\$\s*"
    r"begin\s+begin\s+transaction\s*;(?P<changes>.*);\s*commit\s*;\s*"
    r"exception\s+when\s+other\s+then\s+rollback\s*;\s*raise\s*;\s*end\s*;\s*\$\$\s*(?:/\*.*\*/)?\s*;?\s*",
    re.IGNORECASE | re.DOTALL,
)


def changes_of(sql: str) -> list[str]:
    """Return the statements that such a block makes one transaction of; none when the SQL is no such block."""
    block = BLOCK.fullmatch(sql)
    return sqlparse.split(block["changes"], strip_semicolon=True) if block else []
