"""The commands that the README gives, for the tests that do what it says."""

from __future__ import annotations

import re
import shlex

from include.customer_360.settings import PROJECT_ROOT


def commands_under(heading: str, file: str = "README.md") -> list[list[str]]:
    """Return the indented commands that begin with `make` under a heading of level 2, as words.

    :raises AssertionError: when the file has no such heading.
    """
    text = (PROJECT_ROOT / file).read_text(encoding="utf-8")
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert section, f"{file} has no section {heading!r}"
    return [shlex.split(line) for line in re.findall(r"^    (make .*)$", section[1], flags=re.MULTILINE)]
