"""Every page of the screens is an exposure of the dbt project, so that whoever changes a mart sees who looks at it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment, FileSystemLoader

from app.published import QUERIES
from include.customer_360.catalog import MANIFEST
from include.customer_360.semantics import load_semantics
from include.customer_360.settings import PROJECT_ROOT, TEMPLATE_FOLDERS

SCREENS = PROJECT_ROOT / "app" / "screens"
PAGES = {file.stem for file in SCREENS.glob("[!_]*.py")}
PROJECT = json.loads(MANIFEST.read_text(encoding="utf-8"))
ASKS = {"figures", "figures_of", "show_figure"}
EXPOSURES = PROJECT["exposures"].values()
PAGE_OF = {
    exposure["name"]: exposure["config"]["meta"].get("page")
    for exposure in EXPOSURES
    if exposure["type"] == "dashboard"
}


def test_each_page_is_one_dashboard_and_each_dashboard_a_page() -> None:
    assert PAGES
    assert sorted(PAGE_OF.values()) == sorted(PAGES), PAGE_OF


def test_nothing_else_names_a_page() -> None:
    named = {exposure["name"] for exposure in EXPOSURES if (exposure["config"]["meta"] or {}).get("page")}
    assert named == PAGE_OF.keys()


def modules_of(file: Path, seen: dict[Path, ast.Module]) -> dict[Path, ast.Module]:
    """Return a module and what it imports of the app, also through others."""
    if file not in seen:
        seen[file] = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(seen[file]):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("app."):
                modules_of(PROJECT_ROOT / f"{str(node.module).replace('.', '/')}.py", seen)
    return seen


def texts_of(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def metrics_of(page: ast.Module) -> set[str]:
    """Return what is asked of `figures` and its like: the names there, and those in the constants that stand there."""
    constants = {
        target.id: node.value
        for node in page.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    names = set()
    for call in ast.walk(page):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in ASKS:
            found = [node for argument in call.args for node in ast.walk(argument)]
            found += [constants[node.id] for node in found if isinstance(node, ast.Name) and node.id in constants]
            names |= {text for node in found for text in texts_of(node)}
    return names | {f"{name}_on_date" for name in names if "_on_date" in names}


def relations_of(page: str) -> set[str]:
    """Return what a page reads of schema marts: in its statements, and for the metrics that it names."""
    file = SCREENS / f"{page}.py"
    trees = modules_of(file, {})
    named = {text for tree in trees.values() for text in texts_of(tree)}
    statements = {*(QUERIES / page).glob("*.sql"), *(QUERIES / f"{name}.sql" for name in named if "/" in name)}
    read = {
        relation
        for statement in statements
        if statement.is_file()
        for relation in re.findall(r"\bmarts\.(\w+)", statement.read_text(encoding="utf-8"))
    }
    semantics = load_semantics()
    metrics = metrics_of(trees[file])
    # Page Ask offers all of them.
    tables = {metric.table for metric in semantics.metrics.values() if page == "ask" or metric.name in metrics}
    return read | {semantics.tables[table].relation for table in tables}


def models_of(relation: str) -> set[str]:
    """Return the models that a table of schema marts is, or that a view of readers is made of; none of ops alone."""
    published_as = {
        model["config"]["meta"]["published_as"]: model["depends_on"]["nodes"][0].rpartition(".")[2]
        for model in PROJECT["semantic_models"].values()
        if model["config"]["meta"].get("published_as")
    }
    if relation in published_as:
        return {published_as[relation]}
    models = {node["name"] for node in PROJECT["nodes"].values() if node["resource_type"] == "model"}
    if relation in models:
        return {relation}
    views: Any = Environment(loader=FileSystemLoader(TEMPLATE_FOLDERS)).get_template("publish/ops_views.jinja").module
    return set(re.findall(r"\bfrom \w+\.(\w+)", views.select_of(relation))) & models


@pytest.mark.parametrize("page", sorted(PAGES))
def test_an_exposure_names_what_its_page_reads(page: str) -> None:
    [exposure] = [each for each in EXPOSURES if (each["config"]["meta"] or {}).get("page") == page]
    declared = {node.rpartition(".")[2] for node in exposure["depends_on"]["nodes"]}
    expected = {model for relation in relations_of(page) for model in models_of(relation)}
    assert declared == expected
