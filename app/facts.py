"""What is known of one thing: names with their values."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import streamlit as st

# Columns as the width allows, one on a phone; the theme's own colours.
_LIST = "display:grid;grid-template-columns:repeat(auto-fill,minmax(13rem,1fr));gap:.75rem 1.5rem;margin:0;padding:0"
_NAME = "margin:0;padding:0;font-size:.875rem"
_VALUE = "margin:0;padding:0;font-weight:600;overflow-wrap:anywhere"


def show_facts(facts: Mapping[str, str]) -> None:
    """Show names with their values. A value is text, whoever wrote it: nothing in it is markup."""
    entries = "".join(
        f'<div><dt style="{_NAME}">{escape(name)}</dt><dd style="{_VALUE}">{escape(value)}</dd></div>'
        for name, value in facts.items()
    )
    st.html(f'<dl style="{_LIST}">{entries}</dl>')
