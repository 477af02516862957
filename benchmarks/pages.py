"""The screens as a reader has them: how long a page takes in a browser, from the click until it stands."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import duckdb
import httpx
from jinja2 import Environment, FileSystemLoader
from playwright.sync_api import Page, sync_playwright

from include.customer_360.operators.published_copy import renew_copy
from include.customer_360.settings import PROJECT_ROOT, TEMPLATE_FOLDERS, Settings
from local.local_airflow import free_port

# Each page with the role that it is opened as, and one more of that role to come from.
PAGES = {
    "Executive": ("Marketing", "Ask"),
    "Campaigns": ("Marketing", "Ask"),
    "Segments": ("Marketing", "Ask"),
    "Nights": ("Operations", "Ask"),
    "Ask": ("Operations", "Nights"),
}
DAYS_OF_HISTORY = 31
PATIENCE_SECONDS = 30
STANDS = """title => {
    const app = document.querySelector('[data-testid="stApp"]');
    const heading = document.querySelector('h1');
    return app && app.dataset.testScriptState === 'notRunning' && heading && heading.innerText.trim() === title
        && !document.querySelector('[data-stale="true"]');
}"""
ANSWERED = """answer => {
    const app = document.querySelector('[data-testid="stApp"]');
    return app.dataset.testScriptState === 'notRunning' && app.innerText.includes(answer)
        && !document.querySelector('[data-stale="true"]');
}"""
# Without these Chromium asks for hosts of its maker when it starts.
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def publish(warehouse: Path, times: int) -> None:
    """Write the published copy of a warehouse that dbt built: so many times its customers, a month of history."""
    templates = Environment(loader=FileSystemLoader(TEMPLATE_FOLDERS))
    with duckdb.connect(str(warehouse)) as connection:
        # A night makes these, and dbt alone does not.
        connection.execute(templates.get_template("publish/ops_tables.sql").render(drift=()))
        renew_copy(connection.cursor(), Settings(warehouse_file=warehouse), print)
    settings = Settings(warehouse_file=warehouse)
    for file in (settings.published_file, settings.published_personal_file):
        multiply(file, times)


def multiply(file: Path, times: int) -> None:
    """Give each customer of a file so many copies under other ids, and history a month of days."""
    with duckdb.connect(str(file)) as connection:
        tables = connection.execute(
            "select table_name from duckdb_columns() where schema_name = 'marts' and column_name = 'customer_id'"
        ).fetchall()
        for (table,) in tables:
            copies = f"(select range as nth from range({times}))"
            dated, day = "", ""
            if table == "customer_360_history":
                dated = f", (select range as days_ago from range({DAYS_OF_HISTORY}))"
                day = ", as_of_date - cast(days_ago as integer) as as_of_date"
            connection.execute(
                f"create or replace table marts.{table} as select * exclude (nth{', days_ago' if dated else ''}) "
                f"replace (customer_id || case when nth = 0 then '' else '-' || nth end as customer_id{day}) "
                f"from marts.{table}, {copies}{dated} order by customer_id"
            )


@contextmanager
def served(variables: Mapping[str, str], log: Path, port: int | None = None) -> Iterator[str]:
    """Start the screens as `make app` does, on a free port; gives their address.

    :raises RuntimeError: with what they said, when they end or do not answer.
    """
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
    """Wait until the screens answer.

    :raises RuntimeError: with what they said, when they end or do not answer.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"The screens ended:\n{log.read_text()}")
        try:
            if httpx.get(f"{url}/_stcore/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"The screens did not answer within {PATIENCE_SECONDS} s:\n{log.read_text()}")


def chromium_program() -> str | None:
    """Return the machine's Chromium; None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def seconds_per_page(warehouse: Path, rounds: int) -> dict[str, float]:
    """Return the median seconds from the click on a page's link until the page stands, the first look left out."""
    chromium = chromium_program()
    if chromium is None:
        raise RuntimeError("No chromium was found: install Debian's package of that name.")
    variables = {"WAREHOUSE_FILE": str(warehouse)}
    with served(variables, warehouse.with_suffix(".screens.log")) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(url)
        page.wait_for_function(STANDS, arg="Executive", timeout=60_000)
        taken = {}
        for title, (role, other) in PAGES.items():
            as_role(page, role)
            go_to(page, other)
            taken[title] = statistics.median([look(page, title, other) for _ in range(rounds + 1)][1:])
        as_role(page, "Service")
        # In turn, so that each answer is another one than that before it.
        by_id, by_name = [], []
        for number in range(1, rounds + 2):
            customer_id = f"CUST{number:08d}"
            by_id.append(look_up(page, customer_id, f", {customer_id}"))
            by_name.append(look_up(page, "rosa a", " customers were found"))
        taken |= {
            "Customer by id": statistics.median(by_id[1:]),
            "Customer by name": statistics.median(by_name[1:]),
        }
        browser.close()
    return taken


def as_role(page: Page, role: str) -> None:
    """Choose a role, and wait until it is taken."""
    choice = page.get_by_test_id("stSidebar").get_by_role("combobox")
    if choice.input_value() != role:
        choice.click()
        page.get_by_role("option", name=role, exact=True).click()
        page.wait_for_timeout(3000)


def look(page: Page, title: str, other: str) -> float:
    """Go to a page and back; return how long the way there took."""
    began = time.perf_counter()
    go_to(page, title)
    taken = time.perf_counter() - began
    go_to(page, other)
    return taken


def look_up(page: Page, text: str, answer: str) -> float:
    """Look somebody up on page Customer; return how long it took until the answer stood."""
    page.get_by_label("Id, name or e-mail address of the customer").fill(text)
    began = time.perf_counter()
    page.get_by_role("button", name="Look up").click()
    page.wait_for_function(ANSWERED, arg=answer, timeout=60_000, polling="raf")
    taken = time.perf_counter() - began
    page.wait_for_timeout(300)
    return taken


def go_to(page: Page, title: str) -> None:
    """Click a page's link and wait until it stands."""
    page.get_by_test_id("stSidebarNavLink").filter(has_text=title).click()
    page.wait_for_function(STANDS, arg=title, timeout=60_000, polling="raf")
