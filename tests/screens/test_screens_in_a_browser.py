"""All pages in a real browser, on the small copy: what stands there, for whom, and how it can be used.

With SCREENSHOTS=folder a picture of each page is kept there.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from benchmarks.pages import served
from include.customer_360.settings import PROJECT_ROOT
from local.local_airflow import free_port
from tests.screens.browser import (
    choose_role,
    chromium,
    keep_screenshot,
    open_page,
    wait_until_done,
)
from tests.screens.login_server import LoginServer, login_server
from tests.screens.small_copy import make_copy

# Each page as the first role that has it.
PAGES = {
    "Executive": "Executive",
    "Campaigns": "Marketing",
    "Segments": "Marketing",
    "Customer": "Service",
    "Nights": "Operations",
    "Ask": "Operations",
}
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of its own: a test renews it."""
    made = tmp_path_factory.mktemp("screens")
    make_copy(made)
    return made


@pytest.fixture(scope="module")
def screens(folder: Path) -> Iterator[str]:
    """The screens without a login, and their address."""
    with served({"WAREHOUSE_FILE": str(folder / "warehouse.duckdb")}, folder / "screens.log") as url:
        yield url


@pytest.fixture
def page(browser: Browser, screens: str) -> Iterator[Page]:
    """A reader who has just opened the screens."""
    opened = browser.new_page(viewport=DESK)
    opened.goto(screens)
    yield opened
    opened.close()


def go_to(page: Page, title: str) -> None:
    choose_role(page, PAGES[title])
    open_page(page, title)


@pytest.mark.parametrize("title", PAGES)
def test_a_page_stands_accessible_by_day_by_night_and_on_a_phone(page: Page, title: str) -> None:
    go_to(page, title)
    expect(page.get_by_test_id("stException")).to_have_count(0)
    keep_screenshot(page, title.lower())
    found = {"light": serious_findings(page)}
    page.emulate_media(color_scheme="dark")
    found["dark"] = serious_findings(page)
    keep_screenshot(page, f"{title.lower()}_dark")
    page.set_viewport_size(PHONE)
    keep_screenshot(page, f"{title.lower()}_phone")
    assert found == {"light": [], "dark": []}
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def serious_findings(page: Page) -> list[str]:
    """Return what axe-core finds serious or critical, each with the first element that it is about."""
    violations = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {each['help']}: {each['nodes'][0]['html'][:200]}"
        for each in violations
        if each["impact"] in ("serious", "critical")
    ]


def test_the_figures_are_those_of_the_marts(page: Page, folder: Path) -> None:
    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as warehouse:
        [(customers, total, average, per_transaction)] = warehouse.execute(
            "select count(*), sum(lifetime_value), avg(lifetime_value), sum(lifetime_value) / sum(total_transactions) "
            "from marts.customer_360_profile"
        ).fetchall()
    go_to(page, "Executive")
    shown = {
        each.get_by_test_id("stMetricLabel").inner_text(): each.get_by_test_id("stMetricValue").inner_text()
        for each in page.get_by_test_id("stMetric").all()
    }
    assert {name: shown[name] for name in list(shown)[:4]} == {
        "Customers": f"{customers:,}",
        "Total lifetime value": f"${total:,.2f}",
        "Average lifetime value": f"${average:,.2f}",
        "Average transaction value": f"${per_transaction:,.2f}",
    }


def test_the_navigation_works_by_keyboard(page: Page) -> None:
    expect(page.get_by_role("heading", level=1, name="Executive")).to_be_visible()
    wait_until_done(page)
    link = page.get_by_test_id("stSidebarNavLink").filter(has_text="Ask")
    for _ in range(20):
        page.keyboard.press("Tab")
        if link.evaluate("link => link === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name="Ask")).to_be_visible()


def test_a_role_sees_its_pages_only(page: Page, screens: str) -> None:
    choose_role(page, "Service")
    expect(page.get_by_role("heading", level=1, name="Customer")).to_be_visible()
    expect(page.get_by_test_id("stSidebarNavLink")).to_have_count(0)
    page.goto(f"{screens}/nights")
    expect(page.get_by_role("heading", level=1)).not_to_have_text("Nights")


def test_pages_answer_while_the_warehouse_is_written_and_the_copy_renewed(page: Page, folder: Path) -> None:
    """Another process holds the file, which nobody else could open, and swaps the copy again and again."""
    program = (
        "import sys, duckdb\n"
        "from include.customer_360.operators.published_copy import renew_copy\n"
        "from include.customer_360.settings import load_settings\n"
        "settings = load_settings()\n"
        "cursor = duckdb.connect(str(settings.warehouse_file)).cursor()\n"
        "while True:\n"
        "    renew_copy(cursor, settings, print)\n"
        "    print('renewed', flush=True)\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=PROJECT_ROOT,
        env={"PATH": "", "WAREHOUSE_FILE": str(folder / "warehouse.duckdb"), "PYTHONPATH": str(PROJECT_ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert writer.stdout is not None
        assert "renewed\n" in iter(writer.stdout.readline, "")
        choose_role(page, "Marketing")
        for title in ("Segments", "Campaigns", "Segments", "Executive"):
            open_page(page, title)
            expect(page.get_by_test_id("stException")).to_have_count(0)
            expect(page.get_by_test_id("stAlertContentError")).to_have_count(0)
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.wait()


@pytest.fixture(scope="module")
def log_in() -> Iterator[LoginServer]:
    with login_server() as server:
        yield server


@pytest.fixture(scope="module")
def screens_with_login(folder: Path, log_in: LoginServer) -> Iterator[str]:
    """The screens with a login, whose file of roles knows one reader."""
    port = free_port()
    secrets, roles = folder / "secrets.toml", folder / "roles.yml"
    secrets.write_text(log_in.secrets_toml(f"http://localhost:{port}"))
    text = (PROJECT_ROOT / "app" / "roles.yml").read_text()
    service = text.index("  service:")
    roles.write_text(text[:service] + text[service:].replace("readers: []", "readers: [ann@mail.example.com]", 1))
    variables = {
        "WAREHOUSE_FILE": str(folder / "warehouse.duckdb"),
        "SCREENS_SECRETS": str(secrets),
        "SCREENS_ROLES": str(roles),
    }
    with served(variables, folder / "screens_with_login.log", port) as url:
        yield url


@pytest.mark.parametrize(
    ("address", "verified", "shown"),
    [
        ("ann@mail.example.com", True, "Customer"),
        ("eve@mail.example.com", True, "eve@mail.example.com has no role on these screens."),
        ("ann@mail.example.com", False, "Your login has no role on these screens."),
    ],
)
def test_a_login_decides_who_sees_what(
    browser: Browser, screens_with_login: str, log_in: LoginServer, address: str, verified: bool, shown: str
) -> None:
    log_in.address, log_in.verified = address, verified
    context = browser.new_context()
    opened = context.new_page()
    opened.goto(f"{screens_with_login}/customer")
    opened.get_by_role("button", name="Log in").click()
    expect(opened.get_by_text(shown).first).to_be_visible(timeout=20_000)
    keep_screenshot(opened, f"login_{shown[:4].strip().lower()}")
    assert opened.get_by_role("combobox", name="Role").count() == 0
    context.close()


def test_an_open_address_without_a_login_is_refused(
    browser: Browser, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started past `make app`, by Streamlit's own command, which listens everywhere."""
    port = free_port()
    started = subprocess.Popen(
        [
            *(sys.executable, "-m", "streamlit", "run", str(PROJECT_ROOT / "app" / "main.py")),
            *("--server.address", "0.0.0.0", "--server.port", str(port), "--server.headless", "true"),
            *("--browser.gatherUsageStats", "false"),
        ],
        cwd=folder,
        env={"PATH": "", "WAREHOUSE_FILE": str(folder / "warehouse.duckdb"), "PYTHONPATH": str(PROJECT_ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    opened = browser.new_page()
    try:
        expect_to_answer(opened, f"http://localhost:{port}")
        expect(opened.get_by_text("no login is configured: anyone who reaches this machine")).to_be_visible(
            timeout=20_000
        )
        assert opened.get_by_role("heading", level=1).count() == 0
        keep_screenshot(opened, "refused")
    finally:
        opened.close()
        started.kill()
        started.wait()


def expect_to_answer(page: Page, url: str) -> None:
    """Open a page as soon as somebody listens there."""
    for _ in range(100):
        try:
            page.goto(url)
        except Exception as error:
            if "ERR_CONNECTION_REFUSED" not in str(error):
                raise
            page.wait_for_timeout(200)
        else:
            return
    pytest.fail(f"{url} did not answer")
