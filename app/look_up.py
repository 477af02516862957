"""Looking a customer up: by id, and, for who may see them, by name or address. Each look-up is written down first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from app.published import Warehouse, query
from app.reader import Reader
from app.screens_log import write_down

LISTED = 20
"""How many are listed at most."""

# How many parts of a name customer/by_name.sql looks for; what is behind them is one part with the last.
_PARTS = 4
By = Literal["id", "name", "address"]


@dataclass(frozen=True)
class Found:
    """Whom a text finds.

    :param by: what the text was taken for.
    :param hits: how many customers it finds.
    :param listed: the first LISTED of them: customer_id, full_name, city, state.
    """

    by: By
    hits: int
    listed: pd.DataFrame


@dataclass(frozen=True)
class View:
    """What a reader has looked up, for as long as they stay on the page.

    :param reader: their name and role.
    :param opened: who is shown; empty for nobody.
    :param found: whom they may choose from, where there are several.
    :param why_nobody: why nobody was found; empty when somebody was.
    """

    reader: tuple[str, str]
    opened: str = ""
    found: Found | None = None
    why_nobody: str = ""

    def is_of(self, reader: Reader) -> bool:
        """Tell whether this reader, in this role, looked it up."""
        return self.reader == (reader.name, reader.role_name)


def find(warehouse: Warehouse, text: str, personal_data: bool) -> Found:
    """Return the customers whose id is the text; else, with the right to personal data, by address or name.

    Neither case nor blanks around it matter. A name is found by each of its parts, in any order.
    """
    text = " ".join(text.split())
    found = _found("id", warehouse, text)
    if not found.hits:
        found = _found("id", warehouse, text, statement="id_in_any_case")
    if found.hits or not personal_data:
        return found
    if "@" in text:
        return _found("address", warehouse, text)
    parts = text.split(" ", _PARTS - 1)
    return _found("name", warehouse, *parts, *[parts[0]] * (_PARTS - len(parts)))


def look_up(warehouse: Warehouse, reader: Reader, text: str) -> View:
    """Look up who is meant by a text. What was searched for is not written down: it may be a name.

    :raises NotLogged: when it cannot be written down.
    """
    found = find(warehouse, text, reader.role.personal_data)
    return _written_down(warehouse, reader, found, found.by)


def follow(warehouse: Warehouse, reader: Reader, customer_id: str) -> View:
    """Look up whom the address of the page names, which is a look-up like any other.

    :raises NotLogged: when it cannot be written down.
    """
    return _written_down(warehouse, reader, find(warehouse, customer_id, personal_data=False), "link")


def choose(warehouse: Warehouse, reader: Reader, view: View, customer_id: str) -> View:
    """Look up one of those who were found.

    :raises NotLogged: when it cannot be written down.
    """
    write_down(reader, "look_up", customer_id, {"by": "list", "rows": 1}, warehouse)
    return replace(view, opened=customer_id)


def _written_down(warehouse: Warehouse, reader: Reader, found: Found, by: str) -> View:
    opened = str(found.listed.customer_id[0]) if found.hits == 1 else ""
    detail: dict[str, object] = {"by": by, "rows": found.hits}
    if found.hits > 1:
        # Their names are shown.
        detail["listed"] = list(found.listed.customer_id)
    write_down(reader, "look_up", opened or None, detail, warehouse)
    view = View((reader.name, reader.role_name), opened)
    if found.hits > 1:
        return replace(view, found=found)
    return view if opened else replace(view, why_nobody=_why_nobody(reader, found))


def _why_nobody(reader: Reader, found: Found) -> str:
    if not reader.role.personal_data:
        return (
            f"No customer has this id. Names and addresses are masked for role {reader.role.label}: it finds customers "
            "by id only."
        )
    if found.by == "address":
        return "No customer has this address."
    return "No customer has this id, or a name with all of these parts."


def _found(by: By, warehouse: Warehouse, *values: str, statement: str = "") -> Found:
    rows = warehouse.frame(query(f"customer/by_{statement or by}"), [*values, LISTED])
    return Found(by, 0 if rows.empty else int(rows.hits[0]), rows.drop(columns="hits"))
