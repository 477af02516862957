"""Imports run one way: a forbidden one, planted in a copy of the project's Python files, is refused by its name."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

from include.customer_360.settings import PROJECT_ROOT

PACKAGES = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the Python files and of pyproject.toml, whose imports are in order."""
    for package in PACKAGES:
        for file in (PROJECT_ROOT / package).rglob("*.py"):
            target = tmp_path / file.relative_to(PROJECT_ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    shutil.copy(PROJECT_ROOT / "pyproject.toml", tmp_path)
    linted = lint_imports(tmp_path)
    assert linted.returncode == 0, linted.stdout + linted.stderr
    return tmp_path


@pytest.mark.parametrize(
    ("file", "imported"),
    [
        ("include/customer_360/operators/build.py", "local.sample"),
        ("include/customer_360/connection.py", "deploy.snowflake.set_up"),
        ("dags/campaign_exports.py", "benchmarks.run"),
        ("plugins/customer_360_macros.py", "tests.deployment"),
        ("include/customer_360/settings.py", "app"),
        ("include/customer_360/settings.py", "include.customer_360.connection"),
        ("include/customer_360/connection.py", "include.customer_360.operators.base"),
        ("include/customer_360/assets.py", "include.customer_360.connection"),
        ("include/customer_360/operators/build.py", "dags.campaign_exports"),
        ("dags/campaign_exports.py", "plugins.customer_360_macros"),
        ("plugins/customer_360_macros.py", "include.customer_360.operators.build"),
        ("local/sample.py", "tests.deployment"),
        ("local/sample.py", "deploy.snowflake.set_up"),
        ("deploy/snowflake/set_up.py", "include.customer_360.connection"),
        ("deploy/snowflake/set_up.py", "local.sources"),
        ("deploy/snowflake/set_up.py", "include.customer_360.catalog"),
        ("deploy/snowflake/statements.py", "include.customer_360.connection"),
        ("tests/deployment.py", "dags.campaign_exports"),
    ],
)
def test_a_forbidden_import_is_named(copy: Path, file: str, imported: str) -> None:
    with (copy / file).open("a", encoding="utf-8") as planted:
        planted.write(f"\nimport {imported}\n")
    importer = file.removesuffix(".py").replace("/", ".")
    linted = lint_imports(copy)
    assert linted.returncode == 1
    assert f"{importer} -> {imported}" in " ".join(linted.stdout.split())


def test_a_new_module_of_production_needs_a_layer(copy: Path) -> None:
    (copy / "include" / "customer_360" / "ledger.py").touch()
    linted = lint_imports(copy)
    assert linted.returncode == 1
    assert "ledger" in linted.stdout


def test_no_module_imports_what_airflow_puts_on_the_path() -> None:
    """Airflow puts dags/ and plugins/ on sys.path: their files can be imported without a folder, but must not be."""
    graph = grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)
    assert "airflow" in graph.modules
    files = {file.stem for folder in ("dags", "plugins") for file in (PROJECT_ROOT / folder).glob("*.py")}
    assert graph.modules & files == set()
