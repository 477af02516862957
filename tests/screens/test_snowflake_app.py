"""The files that make the screens an app of a Snowflake account, as far as they can be checked without one."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path
from typing import Literal

import grimp
import pytest
import yaml
from packaging.requirements import Requirement
from pydantic import BaseModel, ConfigDict

from app.published import QUERIES
from app.verified_queries import VERIFIED_QUERIES
from deploy.snowflake.set_up import AFTER_PUBLICATION, read_statements
from include.customer_360.semantics import MANIFEST
from include.customer_360.settings import DBT_PROJECT, PROJECT_ROOT, SQL_TEMPLATES, Settings

SCREENS = PROJECT_ROOT / "deploy" / "snowflake" / "screens"
OLDEST_STREAMLIT = (1, 53, 1)
"""The first with st.connection("snowflake-callers-rights")."""
STAGING = {"deployment": "customer_360_staging"}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Identifier(_Strict):
    """Where the app is made."""

    name: str
    schema: str  # type: ignore[assignment]
    database: str


class Artifact(_Strict):
    """A file, or several, and where they lie beside the others; without `dest` where they lie in the project."""

    src: str
    dest: str = ""


class App(_Strict):
    """What Snowflake's command line takes for an entity `streamlit`; of its fields those that are used."""

    type: Literal["streamlit"]
    identifier: Identifier
    title: str
    runtime_name: Literal["SYSTEM$ST_CONTAINER_RUNTIME_PY3_11"]
    compute_pool: str
    query_warehouse: str
    external_access_integrations: list[str]
    main_file: str
    artifacts: list[Artifact | str]

    def files(self) -> dict[str, Path]:
        """Return the files of the app by the place where they lie in it."""
        found = {}
        for each in self.artifacts:
            artifact = Artifact(src=each) if isinstance(each, str) else each
            for source in sorted(PROJECT_ROOT.glob(artifact.src)):
                for file in [source] if source.is_file() else sorted(filter(Path.is_file, source.rglob("*"))):
                    found[artifact.dest or str(file.relative_to(PROJECT_ROOT))] = file
        return found


class Entities(_Strict):
    """The one entity of the project."""

    screens: App


class Project(_Strict):
    """snowflake.yml."""

    definition_version: Literal[2]
    env: dict[str, str]
    entities: Entities


def app_of(**env: str) -> App:
    """Return the app as the command line reads it with these variables."""
    text = (PROJECT_ROOT / "snowflake.yml").read_text(encoding="utf-8")
    given = {**yaml.safe_load(text)["env"], **env}
    return Project.model_validate(
        yaml.safe_load(re.sub(r"<% ctx\.env\.(\w+) %>", lambda name: given[name[1]], text))
    ).entities.screens


@pytest.fixture(scope="module")
def app() -> App:
    return app_of()


def modules_of_the_app() -> dict[str, set[str]]:
    """Return each module of the project that the app imports, however far away, with what it imports from outside."""
    graph = grimp.build_graph("app", "include", include_external_packages=True, cache_dir=None)
    screens = {"app", *graph.find_descendants("app")}
    imported = screens.union(*map(graph.find_upstream_modules, screens))
    ours = {module for module in imported if module.split(".")[0] in ("app", "include")}
    return {module: graph.find_modules_directly_imported_by(module) - ours for module in ours}


def test_every_module_and_file_that_the_screens_read_is_among_the_artifacts(app: App) -> None:
    modules = [PROJECT_ROOT / module.replace(".", "/") for module in modules_of_the_app()]
    packages = {folder / "__init__.py" for module in modules for folder in [module, *module.parents]}
    needed = {file for module in modules for file in (module.with_suffix(".py"), *packages) if file.is_file()}
    needed |= {*QUERIES.glob("*/*.sql"), *(SQL_TEMPLATES / "exports").glob("*.sql")}
    needed |= {MANIFEST, DBT_PROJECT / "dbt_project.yml", Settings().screens_roles, VERIFIED_QUERIES}
    there = {PROJECT_ROOT / place for place in app.files()}
    assert {file for file in needed if PROJECT_ROOT in file.parents} - there == set()


def test_nothing_else_is_among_them(app: App) -> None:
    kinds = (r"app/(\w+/)?\w+\.py", r"app/sql/\w+/\w+\.sql", r"app/roles\.yml", r"include/(customer_360/)?\w+\.py")
    # The campaigns that have SQL of their own.
    kinds += (r"include/sql/exports/\w+\.sql",)
    beside = {"include/dbt/dbt_project.yml", "include/dbt/target/manifest.json"}
    beside.add("deploy/snowflake/after_publication/verified_queries.yml")
    beside |= {".env", "requirements.txt", ".streamlit/config.toml"}
    others = {place for place in app.files() if not any(re.fullmatch(kind, place) for kind in kinds)}
    assert others == beside
    imported = {module.replace(".", "/") for module in modules_of_the_app()}
    of_include = [place for place in app.files() if re.fullmatch(r"include/customer_360/\w+\.py", place)]
    assert [each for each in of_include if each.removesuffix(".py") not in imported and "__init__" not in each] == []


def test_the_entry_is_the_one_of_make_app(app: App) -> None:
    assert app.files()[app.main_file] == PROJECT_ROOT / "app" / "main.py"


def test_another_file_of_the_roles_takes_the_place_of_the_projects() -> None:
    assert app_of(roles="app/.streamlit/config.toml").files()["app/roles.yml"].name == "config.toml"


@pytest.mark.parametrize("env", [{}, STAGING], ids=["customer_360", "staging"])
def test_what_the_app_names_the_set_up_makes(env: dict[str, str]) -> None:
    named = app_of(**env)
    deployment = env.get("deployment", "customer_360")
    [after] = ["\n".join(statement.sql for statement in read_statements(deployment, folder=AFTER_PUBLICATION))]
    set_up = "\n".join(statement.sql for statement in read_statements(deployment)) + "\n" + after
    for made in (
        f"create database if not exists {named.identifier.database}\n",
        f"create schema if not exists {named.identifier.database}.{named.identifier.schema} with managed access",
        f"create warehouse if not exists {named.query_warehouse} with",
        f"create compute pool if not exists {named.compute_pool}",
    ):
        assert made in set_up
    assert f"usage on future streamlits in schema {named.identifier.database}.{named.identifier.schema}" in after


def test_the_integration_that_the_app_names_is_the_one_that_the_page_has_made_by_hand(app: App) -> None:
    page = (PROJECT_ROOT / "docs" / "snowflake.md").read_text(encoding="utf-8")
    [integration] = app.external_access_integrations
    assert f"create external access integration {integration}\n" in page
    assert f"grant usage on integration {integration} to role customer_360_screens;" in page


def names_and_versions(file: Path) -> dict[str, str]:
    """Return what a file of requirements pins, by name; of a package with several versions that of Python 3.11."""
    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    environment = {"python_version": "3.11", "python_full_version": "3.11.9"}
    return {
        each.name.lower(): str(each.specifier)
        for each in wanted
        if each.marker is None or each.marker.evaluate(environment)
    }


def test_the_packages_have_the_versions_of_the_lock() -> None:
    locked = names_and_versions(PROJECT_ROOT / "requirements.lock")
    pinned = names_and_versions(SCREENS / "requirements.txt")
    assert {name: version for name, version in pinned.items() if locked.get(name) != version} == {}
    assert all(version.startswith("==") for version in pinned.values())
    assert tuple(map(int, pinned["streamlit"].removeprefix("==").split("."))) >= OLDEST_STREAMLIT


def test_every_package_that_is_imported_is_pinned_and_none_is_asked_for_in_vain() -> None:
    distributions = importlib.metadata.packages_distributions()
    imported = {name.split(".")[0] for outside in modules_of_the_app().values() for name in outside}
    needed = {distributions[name][0].lower().replace("_", "-") for name in imported if name in distributions}
    # Imported where a statement is sent, and by Streamlit's connection.
    needed.add("snowflake-connector-python")
    asked = set((SCREENS / "requirements.in").read_text(encoding="utf-8").split())
    assert (needed - names_and_versions(SCREENS / "requirements.txt").keys(), asked - needed) == (set(), set())


def test_what_the_packages_need_is_pinned_too() -> None:
    pinned = names_and_versions(SCREENS / "requirements.txt")
    needed = {
        Requirement(each).name.lower().replace("_", "-")
        for name in pinned
        for each in importlib.metadata.requires(name) or ()
        if (marker := Requirement(each).marker) is None or marker.evaluate({"extra": ""})
    }
    assert needed - pinned.keys() == set()


def test_the_app_looks_there_as_everywhere_and_its_server_is_snowflakes() -> None:
    there, here = (
        tomllib.loads(file.read_text(encoding="utf-8"))
        for file in (SCREENS / "config.toml", PROJECT_ROOT / "app" / ".streamlit" / "config.toml")
    )
    assert there == {section: values for section, values in here.items() if section != "server"}, "copy it there too"


def test_its_settings_say_that_the_marts_are_in_snowflake() -> None:
    assert Settings(_env_file=SCREENS / "settings.env").warehouse == "snowflake"
