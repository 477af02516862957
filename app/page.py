"""How a page begins: with what is published, for the reader who looks."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from app.published import NotReadable, Warehouse, warehouse
from app.reader import Reader
from include.customer_360.semantics import SemanticsError

READER = "reader"


def show_page(show: Callable[[Warehouse, Reader], None]) -> None:
    """Run a page, or say why there is nothing to show. main.py has put the reader into the session."""
    reader: Reader = st.session_state[READER]
    try:
        show(warehouse(reader.role.personal_data), reader)
    except (NotReadable, SemanticsError) as nothing:
        st.error(str(nothing))
