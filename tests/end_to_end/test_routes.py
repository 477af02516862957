"""What a running Airflow answers to who has not logged in: no route has data for them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from airflow.api_fastapi.core_api.routes.ui import ui_router

from include.customer_360.settings import load_settings
from tests.deployment import Deployment

pytestmark = pytest.mark.airflow

PUBLIC = {
    "GET /api/v2/monitor/health": "whether each component is alive, for load balancers",
    "GET /api/v2/version": "Airflow's version",
    "GET /api/v2/auth/login": "leads to the login page",
    "GET /api/v2/auth/logout": "leads to the login page",
    "GET /execution/health": "whether it is alive",
    "GET /execution/health/ping": "whether it is alive",
}
PAGES = ("/", "/docs", "/redoc", "/auth/login", "/dags/customer_360_refresh", "/assets/1", "/plugin/anything")
"""Empty pages: what they show, they ask the routes for. The documents of the routes are among them."""
METHODS = ("get", "head", "post", "put", "patch", "delete")
WRONG_LOGIN = {"username": "nobody", "password": "nothing"}

Route = tuple[str, str, dict[str, str]]
"""Method, path with {parameters}, and the headers that it takes."""


def described(client: httpx.Client, prefix: str, query: str = "", headers: dict[str, str] | None = None) -> list[Route]:
    """Return the routes of one OpenAPI document."""
    document = client.get(f"{prefix}/openapi.json{query}").raise_for_status().json()
    return [
        (method.upper(), prefix + path, headers or {})
        for path, methods in document["paths"].items()
        for method in methods
        if method in METHODS
    ]


def routes(client: httpx.Client, prefixes: list[str]) -> Iterator[Route]:
    """Return every route: of Airflow's API, of its UI, of what plugins mount, of each version of the workers' API."""
    for prefix in ("", "/auth", *prefixes):
        yield from described(client, prefix)
    # The UI's own are in no document.
    for route in ui_router.routes:
        yield from ((method, route.path, {}) for method in route.methods)
    versions = set(re.findall(r"version=(\d{4}-\d{2}-\d{2})", client.get("/execution/docs").text))
    assert versions
    for version in sorted(versions):
        yield from described(client, "/execution", f"?version={version}", {"Airflow-API-Version": version})


def plugins(deployment: Deployment) -> list[dict]:
    """Return Airflow's plugins."""
    return deployment.client.get("plugins").raise_for_status().json()["plugins"]


@pytest.fixture(scope="module")
def mounted(deployment: Deployment) -> list[str]:
    """Where plugins mount an application of their own."""
    return [app["url_prefix"] for plugin in plugins(deployment) for app in plugin["fastapi_apps"]]


@pytest.fixture(scope="module")
def answers(deployment: Deployment, first_run: tuple[str, object], mounted: list[str]) -> dict[str, int]:
    """What each route answers without a token, of a run that there is, by method and path."""
    known = {"dag_id": "customer_360_refresh", "dag_run_id": first_run[0], "run_id": first_run[0], "task_id": "publish"}
    found: dict[str, int] = {}
    with httpx.Client(base_url=deployment.airflow.url, timeout=60) as anybody:
        for method, path, headers in routes(anybody, mounted):
            place = re.sub(r"\{(\w+)(:\w+)?\}", lambda name: known.get(name[1], "1"), path)
            body = {} if method in ("GET", "HEAD") else {"json": WRONG_LOGIN}
            answer = anybody.request(method, place, headers=headers, **body)  # type: ignore[arg-type]
            found[f"{method} {path}"] = min(answer.status_code, found.get(f"{method} {path}", 999))
    return found


def test_every_route_but_the_public_ones_asks_for_a_login(answers: dict[str, int]) -> None:
    open_to_all = {route: status for route, status in answers.items() if status not in (401, 403)}
    assert open_to_all.keys() == PUBLIC.keys(), open_to_all


def test_all_kinds_of_routes_are_among_those_asked(answers: dict[str, int]) -> None:
    asked = {
        "GET /api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}/xcomEntries/{xcom_key}",
        "GET /api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}/logs/{try_number}",
        "POST /api/v2/dags/{dag_id}/dagRuns",
        "GET /ui/grid/runs/{dag_id}",
        "POST /auth/token",
        "GET /execution/variables/{variable_key}",
        "GET /execution/xcoms/{dag_id}/{run_id}/{task_id}/{key}",
    }
    assert asked - answers.keys() == set()


def test_public_answers_name_neither_dag_nor_run(deployment: Deployment, first_run: tuple[str, object]) -> None:
    places = [*PAGES, *(route.partition(" ")[2] for route in PUBLIC)]
    with httpx.Client(base_url=deployment.airflow.url, timeout=60, follow_redirects=True) as anybody:
        texts = {place: anybody.get(place).text for place in places}
    # The page of a Dag has its address in it and nothing else.
    named = [place for place, text in texts.items() if first_run[0] in text or "data-engineering" in text]
    assert named == []


def test_no_plugin_serves_anything(deployment: Deployment, mounted: list[str]) -> None:
    # Cosmos mounts an application, which is empty while it is given no dbt docs to show.
    assert mounted == ["/cosmos"]
    assert described(deployment.client, f"{deployment.airflow.url}/cosmos") == []


def test_the_ui_leads_to_the_screens(deployment: Deployment, first_run: tuple[str, object]) -> None:
    screens = load_settings().screens_url
    [plugin] = [each for each in plugins(deployment) if each["name"] == "customer_360_screens"]
    assert [(view["name"], view["href"], view["destination"]) for view in plugin["external_views"]] == [
        ("Screens", screens, "nav")
    ]
    links = f"dags/customer_360_refresh/dagRuns/{first_run[0]}/taskInstances"
    assert deployment.client.get(f"{links}/publish/links").json()["extra_links"]["Screens"] == screens
    assert not deployment.client.get(f"{links}/write_history/links").json()["extra_links"]["Screens"]
    [asset] = deployment.client.get("assets", params={"name_pattern": "customer_360/published"}).json()["assets"]
    assert asset["extra"]["screens"] == screens
