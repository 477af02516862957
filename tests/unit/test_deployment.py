"""What goes into the image and into a deployment, read from its files: no Docker, no Astro."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatchcase
from importlib.metadata import packages_distributions
from pathlib import PurePosixPath
from typing import Any

import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag

from include.customer_360.settings import POOL, POOL_SLOTS, PROJECT_ROOT, Settings


def text(path: str) -> str:
    return (PROJECT_ROOT / path).read_text(encoding="utf-8")


def statements(path: str) -> list[str]:
    """Return the lines of a file that are neither empty nor a comment."""
    return [line.strip() for line in text(path).splitlines() if line.strip() and not line.lstrip().startswith("#")]


def left_out_of_the_image(path: str) -> bool:
    """Tell whether .dockerignore leaves a file out: a pattern for it or a folder above; `**/` also means no folder."""
    candidates = [PurePosixPath(path), *PurePosixPath(path).parents]
    return any(
        fnmatchcase(str(candidate), pattern)
        or (pattern.startswith("**/") and fnmatchcase(candidate.name, pattern.removeprefix("**/")))
        for pattern in statements(".dockerignore")
        for candidate in candidates
    )


def project_files() -> list[str]:
    """Return the project's files, those that are not committed yet included."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate"]
    listed = subprocess.run(command, cwd=PROJECT_ROOT, check=True, capture_output=True, text=True)
    return [path for path in listed.stdout.splitlines() if (PROJECT_ROOT / path).exists()]


def required_versions() -> dict[str, str]:
    """Return requirements.txt as package and exact version."""
    matches = [re.fullmatch(r"([a-z0-9-]+)(?:\[[a-z0-9,-]+\])?==([0-9][\w.]*)", line) for line in requirements()]
    return {match[1]: match[2] for match in matches if match}


def requirements() -> list[str]:
    return statements("requirements.txt")


def locked_versions() -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", text("requirements.lock"), flags=re.MULTILINE))


def example_settings(*, snowflake: bool = False) -> dict[str, Any]:
    """Return airflow_settings.example.yaml, on request with the connection that is commented out."""
    content = text("airflow_settings.example.yaml")
    if snowflake:
        content = re.sub(r"^    # (?=- conn_id|  )", "    ", content, flags=re.MULTILINE)
    return yaml.safe_load(content)["airflow"]


# The image


def test_the_image_is_pinned_to_a_runtime_whose_python_dbt_supports() -> None:
    assert statements("Dockerfile")[0] == "FROM astrocrpublic.azurecr.io/runtime:3.3-8-python-3.12"


def test_the_build_writes_the_manifest_without_credentials() -> None:
    build = " ".join(statements("Dockerfile")[1:])
    assert "WAREHOUSE=duckdb" in build
    assert "dbt parse" in build
    assert not re.search(r"SNOWFLAKE_|AIRFLOW_CONN|PASSWORD|--mount=type=secret", build)


@pytest.mark.parametrize(
    "path",
    [
        "data/warehouse.duckdb",
        "data/exports/retention/as_of_date=2026-03-31/audience.csv",
        ".env",
        "connection.env",
        "airflow_settings.yaml",
        "airflow.p8",
        "include/keys/airflow.p8",
        "include/keys/airflow.pem",
        ".airflow/airflow.db",
        ".venv/bin/python",
        ".git/config",
        "tests/conftest.py",
        "include/dbt/target/manifest.json",
        "include/dbt/logs/dbt.log",
        "plugins/__pycache__/customer_360_macros.cpython-312.pyc",
    ],
)
def test_secrets_data_and_development_files_stay_out_of_the_image(path: str) -> None:
    assert left_out_of_the_image(path)


def test_what_a_run_needs_is_in_the_image() -> None:
    files = [
        *PROJECT_ROOT.glob("dags/*.py"),
        *PROJECT_ROOT.glob("plugins/*.py"),
        *PROJECT_ROOT.glob("include/**/*.py"),
        *PROJECT_ROOT.glob("include/sql/**/*.sql"),
        *(PROJECT_ROOT / "include/dbt" / name for name in ("dbt_project.yml", "profiles.yml")),
        *PROJECT_ROOT.glob("include/dbt/models/**/*.*"),
        *PROJECT_ROOT.glob("include/dbt/macros/**/*.sql"),
        *PROJECT_ROOT.glob("include/dbt/seeds/**/*.*"),
        *PROJECT_ROOT.glob("include/dbt/snapshots/**/*.*"),
    ]
    assert len(files) > 50
    assert [file for file in files if left_out_of_the_image(file.relative_to(PROJECT_ROOT).as_posix())] == []


def test_the_image_holds_what_astro_and_a_run_need_and_nothing_else() -> None:
    held = [PurePosixPath(path) for path in project_files() if not left_out_of_the_image(path)]
    assert {path.parts[0] for path in held} == {
        ".astro",
        "Dockerfile",
        "dags",
        "include",
        "packages.txt",
        "plugins",
        "requirements.txt",
    }
    assert {path.name for path in held if path.name.startswith(".")} == set()


def test_nothing_shadows_an_installed_package() -> None:
    """The project's folder, dags/ and plugins/ come before the installed packages on sys.path."""
    files = [PurePosixPath(path) for path in project_files()]
    names = {path.parts[0] for path in files if len(path.parts) > 1}
    names |= {path.parts[1].removesuffix(".py") for path in files if path.parts[0] in ("dags", "plugins")}
    assert {"dags", "include", "local", "campaign_exports", "customer_360_macros"} <= names
    assert names.isdisjoint(sys.stdlib_module_names | packages_distributions().keys())


def test_dockerignore_has_no_exceptions() -> None:
    """An exception (!) could let a file in that the patterns above it leave out."""
    assert [pattern for pattern in statements(".dockerignore") if pattern.startswith("!")] == []


# Packages


def test_the_image_installs_exact_versions_only() -> None:
    assert len(required_versions()) == len(requirements())


def test_the_image_installs_what_was_tested() -> None:
    locked = locked_versions()
    assert required_versions() == {name: locked.get(name) for name in required_versions()}


def test_the_image_installs_no_development_dependency() -> None:
    development = tomllib.loads(text("pyproject.toml"))["dependency-groups"]["dev"]
    names = {re.split(r"[\[=<>~! ]", requirement)[0] for requirement in development}
    assert "pytest" in names
    assert names.isdisjoint(required_versions())


# Settings, connection and pools


def example_variables() -> set[str]:
    return {line.split("=")[0] for line in statements(".env.example")}


def test_every_setting_stands_in_the_example() -> None:
    assert {name.upper() for name in Settings.model_fields} <= example_variables()


def test_every_variable_of_the_example_is_a_setting_or_documented() -> None:
    settings = {name.upper() for name in Settings.model_fields}
    documented = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", text("docs/deploy.md")))
    assert example_variables() - settings - documented == set()


def test_the_example_connection_is_for_duckdb() -> None:
    assert example_settings()["connections"] == [
        {"conn_id": "warehouse", "conn_type": "duckdb", "conn_host": "/usr/local/airflow/data/warehouse.duckdb"}
    ]


def test_the_connection_that_is_commented_out_is_for_snowflake_and_holds_no_secret() -> None:
    connection = example_settings(snowflake=True)["connections"][1]
    extra = connection.pop("conn_extra")
    assert connection == {
        "conn_id": "warehouse",
        "conn_type": "snowflake",
        "conn_login": "customer_360_airflow",
        "conn_password": "<passphrase>",
    }
    assert re.fullmatch(r"<[^>]*>", extra.pop("private_key_content"))
    assert extra == {
        "account": "<organization>-<account>",
        "database": "customer_360",
        "warehouse": "customer_360_transform",
        "role": "customer_360_transformer",
    }


@pytest.mark.parametrize("warehouse", ["duckdb", "snowflake"])
def test_the_example_names_every_pool_that_the_dags_use(monkeypatch: pytest.MonkeyPatch, warehouse: str) -> None:
    monkeypatch.setenv("WAREHOUSE", warehouse)
    bag = DagBag(PROJECT_ROOT / "dags")
    assert bag.import_errors == {}
    used = {task.pool for dag in bag.dags.values() for task in dag.tasks} - {"default_pool"}
    assert "warehouse" in used
    assert used <= {pool["pool_name"] for pool in example_settings()["pools"]}


def test_the_example_gives_pool_warehouse_what_a_writer_takes() -> None:
    slots = {pool["pool_name"]: pool["pool_slot"] for pool in example_settings()["pools"]}
    assert slots == {POOL: POOL_SLOTS, "core_load": 1}
