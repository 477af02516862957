"""The screens in a headless Chromium: started, opened, waited for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from include.customer_360.settings import PROJECT_ROOT
from local.local_airflow import free_port

REQUIRED = "BROWSER_TESTS_REQUIRED"
SCREENSHOTS = "SCREENSHOTS"
# Without these Chromium asks for hosts of its maker when it starts.
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
PATIENCE_SECONDS = 30


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run the machine's Chromium; the tests are skipped where there is none, but never where REQUIRED is set."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        why = "No chromium was found: these tests need Debian's package of that name."
        if os.environ.get(REQUIRED):
            pytest.fail(f"{why} {REQUIRED} is set.")
        pytest.skip(why)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def served(variables: Mapping[str, str], log: Path, port: int | None = None) -> Iterator[str]:
    """Start the screens as `make app` does, on a free port; gives their address."""
    port = port or free_port()
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.serve"],
            cwd=PROJECT_ROOT,
            env={**os.environ, **variables, "SCREENS_PORT": str(port)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            url = f"http://localhost:{port}"
            wait_until_healthy(url, process, log)
            yield url
        finally:
            process.terminate()
            process.wait(timeout=20)


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the screens answer."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"{url}/_stcore/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(f"The screens did not answer within {PATIENCE_SECONDS} s:\n{log.read_text()}")


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
