"""A list of customers to take away: for who may, of ids alone unless they may see names, and written down before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from app.formats import is_missing, written
from app.published import State, Warehouse, query
from app.reader import Reader
from app.screens_log import NotLogged, write_down
from include.customer_360.csv_cells import csv_line

PREPARED = "prepared_list"
IDS_ONLY = ("customer_id",)
WITH_NAMES = ("customer_id", "full_name", "email")


@dataclass(frozen=True)
class Prepared:
    """A list that has been written down and may be downloaded once.

    :param of: what it is of: it is not offered for anything else.
    """

    of: str
    content: bytes
    rows: int


def offer_list(
    warehouse: Warehouse,
    reader: Reader,
    state: State,
    page: str,
    filters: Mapping[str, object],
    conditions: str,
    bound: Sequence[object],
) -> None:
    """Show how to take away the customers whom the conditions on customer_360_profile choose, or why one may not.

    :param filters: what was chosen, for the log.
    """
    if not reader.role.export_lists:
        st.caption(f"Role {reader.role.label} does not download lists of customers (docs/screens.md, Roles).")
        return
    columns = WITH_NAMES if reader.role.personal_data else IDS_ONLY
    asked = {"page": page, "filters": dict(filters), "columns": list(columns)}
    of = json.dumps([state.publication_id, reader.name, reader.role_name, asked], default=str)
    st.caption(
        f"A list has {', '.join(columns)}. Who prepares one is written into ops.screens_log, with the filters and the "
        "number of rows."
    )
    if st.button("Prepare the list", key=f"prepare_{page}"):
        st.session_state.pop(PREPARED, None)
        found = warehouse.frame(query("chosen/list").format(conditions=conditions), bound)[list(columns)]
        try:
            write_down(reader, "list_export", None, {**asked, "rows": len(found)}, warehouse)
        except NotLogged as refused:
            st.error(str(refused))
            return
        rows = ([None if is_missing(cell) else cell for cell in row] for row in found.itertuples(index=False))
        content = csv_line(columns) + "".join(map(csv_line, rows))
        st.session_state[PREPARED] = Prepared(of, content.encode(), len(found))
    prepared: Prepared | None = st.session_state.get(PREPARED)
    if prepared is not None and prepared.of == of:
        st.download_button(
            f"Download {written(prepared.rows, 'count')} customers as CSV",
            prepared.content,
            file_name=f"customers_{page}_{state.as_of_date}.csv",
            mime="text/csv",
            # A second download is a second line of the log.
            on_click=_forget,
            type="primary",
        )


def _forget() -> None:
    st.session_state.pop(PREPARED, None)
