"""A small published copy for all tests of the screens, and the screens on it, in one process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit as st
from streamlit import config
from streamlit.testing.v1 import AppTest

from app.reader import CHOSEN
from include.customer_360.settings import PROJECT_ROOT, Settings
from tests.screens.small_copy import make_copy

MAIN = PROJECT_ROOT / "app" / "main.py"
Screen = Callable[..., AppTest]


@pytest.fixture(scope="session")
def small_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the published copy."""
    folder = tmp_path_factory.mktemp("published")
    make_copy(folder)
    return folder


@pytest.fixture
def settings(small_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of screens on that copy, with a log of their own."""
    for file in small_copy.glob("published*.duckdb"):
        (tmp_path / file.name).hardlink_to(file)
    monkeypatch.setenv("WAREHOUSE_FILE", str(tmp_path / "warehouse.duckdb"))
    # `make app` has it from app/.streamlit/config.toml.
    config.set_option("server.address", "127.0.0.1")
    st.cache_data.clear()
    # AppTest looks through all that is installed for components, which takes longer than a page; there is none here.
    monkeypatch.setattr("streamlit.components.v2.manifest_scanner.scan_component_manifests", list)
    return Settings()


@pytest.fixture
def screen(settings: Settings) -> Screen:
    """Open a page as a role: `screen("executive", "marketing")`; the role's first page without a name."""

    def opened(page: str = "", role: str = "") -> AppTest:
        app = AppTest.from_file(str(MAIN), default_timeout=30)
        if role:
            app.session_state[CHOSEN] = role
        if page:
            app.switch_page(f"screens/{page}.py")
        app.run()
        assert not app.exception, app.exception
        return app

    return opened
