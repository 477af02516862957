"""The screens in a headless Chromium: opened, waited for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from benchmarks.pages import ARGUMENTS, PATIENCE_SECONDS, chromium_program

REQUIRED = "BROWSER_TESTS_REQUIRED"
SCREENSHOTS = "SCREENSHOTS"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run the machine's Chromium; the tests are skipped where there is none, but never where REQUIRED is set."""
    found = chromium_program()
    if found is None:
        why = "No chromium was found: these tests need Debian's package of that name."
        if os.environ.get(REQUIRED):
            pytest.fail(f"{why} {REQUIRED} is set.")
        pytest.skip(why)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


def wait_until_done(page: Page) -> None:
    """Wait until the page stands: Streamlit has run it, and what it draws is there."""
    expect(page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]')).to_be_visible(
        timeout=PATIENCE_SECONDS * 1000
    )
    expect(page.locator('[data-testid="stSkeleton"]')).to_have_count(0, timeout=PATIENCE_SECONDS * 1000)


def choose_role(page: Page, role: str) -> None:
    """Choose a role in the sidebar, and wait for its first page."""
    expect(page.locator("h1")).to_be_visible(timeout=PATIENCE_SECONDS * 1000)
    wait_until_done(page)
    choice = page.get_by_test_id("stSidebar").get_by_role("combobox")
    choice.click()
    page.get_by_role("option", name=role, exact=True).click()
    expect(choice).to_have_value(role)
    wait_until_done(page)


def open_page(page: Page, title: str) -> None:
    """Go to a page by its link in the sidebar; a role of one page is on it, and has no links."""
    heading = page.get_by_role("heading", level=1, name=title)
    link = page.get_by_test_id("stSidebarNavLink").filter(has_text=title)
    expect(heading.or_(link).first).to_be_visible(timeout=PATIENCE_SECONDS * 1000)
    if not heading.is_visible():
        link.click()
    expect(heading).to_be_visible(timeout=PATIENCE_SECONDS * 1000)
    wait_until_done(page)


def keep_screenshot(page: Page, name: str) -> None:
    """Keep a picture of the page in the folder that SCREENSHOTS names, if it names one."""
    if folder := os.environ.get(SCREENSHOTS):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
