"""The screens of Customer 360. `make app` starts them; docs/screens.md is for who uses them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import streamlit as st

# Streamlit has this file's folder on the path; what the pages import is found from the project's.
if (PROJECT := str(Path(__file__).resolve().parents[1])) not in sys.path:
    sys.path.insert(0, PROJECT)

from app.page import READER
from app.reader import current_reader
from app.roles import Page


class Shown(NamedTuple):
    """How a page is called in the navigation, and its mark there."""

    title: str
    icon: str


PAGES: dict[Page, Shown] = {
    "executive": Shown("Executive", ":material/monitoring:"),
    "campaigns": Shown("Campaigns", ":material/campaign:"),
    "segments": Shown("Segments", ":material/group_work:"),
    "customer": Shown("Customer", ":material/person:"),
    "nights": Shown("Nights", ":material/bedtime:"),
    "ask": Shown("Ask", ":material/help:"),
}

st.set_page_config(page_title="Customer 360", page_icon=":material/account_balance:", layout="wide")
reader = current_reader()
st.session_state[READER] = reader
shown = [
    st.Page(f"screens/{name}.py", title=PAGES[name].title, icon=PAGES[name].icon, url_path=name)
    for name in reader.role.pages
]


def first() -> None:
    """Lead on to the role's first page: Streamlit knows its default page by no address but /."""
    st.switch_page(shown[0], query_params=st.query_params.to_dict())


st.navigation([st.Page(first, title="Customer 360", visibility="hidden", default=True), *shown]).run()
