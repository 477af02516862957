"""Whether Snowflake understands every statement that the project sends: it explains each, and executes none."""

from __future__ import annotations

import datetime
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.snowflake.session import Finding, NotAnswered, Session, value_of
from include.customer_360.catalog import PROFILE
from include.customer_360.settings import DBT_PROJECT

if TYPE_CHECKING:
    from deploy.snowflake.statements import Statement

GROUPS = {
    "models": "models of dbt",
    "tests": "data tests of dbt",
    "validations": "validations",
    "publish": "publication and history",
    "audiences": "audiences",
    "exports": "exports",
}
OPS_TABLE = re.compile(r"(?:create table if not exists|alter table) ops\.(\w+)")


def explained(
    session: Session, told: str, environment: Mapping[str, str], manifest: Path | None = None
) -> Iterator[Finding]:
    """Whether Snowflake explains the statements of dbt and of the operators: a row per group.

    Each runs on the tables that there are. For those of a run's schema, and for those that no run has built yet, stand
    empty ones in the doctor's schema, made from the columns that the models declare: a new deployment needs no run
    before.

    :param told: the edition of the account, STANDARD or ENTERPRISE.
    :param environment: the variables that dbt logs in with; empty when it cannot.
    :param manifest: one that dbt compiled already.
    """
    with tempfile.TemporaryDirectory(prefix="doctor-") as folder:
        # Airflow, whose operators render the SQL, wants a folder of its own and leaves nothing that is needed in it.
        os.environ.setdefault("AIRFLOW_HOME", folder)
        yield from _explained(session, told, environment, manifest, Path(folder))


def _explained(
    session: Session, told: str, environment: Mapping[str, str], compiled: Path | None, folder: Path
) -> Iterator[Finding]:
    from deploy.snowflake import statements

    yesterday = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=1)
    run = statements.Run(f"marts_run_doctor_{session.suffix}", yesterday.isoformat())
    groups: dict[str, list[Statement]] = {}
    try:
        compiled = compiled or statements.compile_project(environment, run, folder / "target")
        manifest, catalog = statements.read_manifest(compiled)
        groups |= statements.of_dbt(manifest)
    except statements.NotCompiled as failed:
        for group in ("models", "tests"):
            yield Finding(
                GROUPS[group],
                str(failed),
                "compiled and explained",
                False,
                "Set SNOWFLAKE_PRIVATE_KEY_PATH; then `dbt debug --target snowflake` in "
                f"{DBT_PROJECT.name}/ says more of what is wrong.",
            )
        manifest, catalog = statements.read_manifest()
    groups |= statements.of_operators(run, catalog, told)

    session.use(session.transformer)
    there = {
        (value_of(found, "schema_name").lower(), value_of(found, "name").lower())
        for found in session.ask(f"show objects in database {session.deployment}")
    }
    wanted = statements.tables_of(manifest, run)
    empty = _empty_tables(session, {key: wanted[key] for key in wanted if key not in there})
    for statement in groups["validations"]:
        # validate_sources makes the tables of schema ops.
        made = OPS_TABLE.match(statement.sql)
        if made and ("ops", made[1]) not in there:
            schema = session.scratch(session.transformer, "of_ops")
            empty.setdefault(("ops", made[1]), f"{schema.name}.{made[1]}")
            session.ask(statements.on_others(statement.sql, session.deployment, empty))
    for group, found in groups.items():
        # Exports are the exporter's, who sees nothing of the doctor's tables.
        role = session.exporter if group == "exports" and ("marts", PROFILE) in there else session.transformer
        try:
            session.use(role)
            session.ask(f"use database {session.deployment}")
        except NotAnswered as refused:
            yield Finding(GROUPS[group], refused.said, "explained", False, refused.what_to_do)
            continue
        yield _group(session, group, found, empty)


def _empty_tables(session: Session, wanted: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    """Make an empty table for each, given with its columns; return their names.

    A table keeps its name, by which a statement may call its columns, and stands in a schema for its schema.
    """
    made = {}
    for (of_schema, table), columns in wanted.items():
        purpose = "of_a_run" if of_schema.endswith(session.suffix) else f"of_{of_schema}"
        made[of_schema, table] = session.make_table(session.scratch(session.transformer, purpose), table, columns)
    return made


def _group(
    session: Session, group: str, statements_of_group: list[Statement], empty: Mapping[tuple[str, str], str]
) -> Finding:
    from deploy.snowflake.statements import as_explained, on_others

    # Each once: the exports begin alike.
    senders: dict[str, str] = {}
    for statement in statements_of_group:
        if sql := as_explained(statement.sql):
            senders.setdefault(sql, statement.sender)
    failing, count, on_empty = [], len(senders), 0
    for sql, sender in senders.items():
        placed = on_others(sql, session.deployment, empty)
        on_empty += placed != sql
        try:
            session.ask(f"explain using text {placed}")
        except NotAnswered as refused:
            failing.append(f"{sender}: {refused.said}")
    return Finding(
        GROUPS[group],
        f"{count - len(failing)} of {count} explained" + (f", {on_empty} on empty tables" if on_empty else ""),
        f"{count} explained",
        not failing and count > 0,
        "Correct what is named below; Snowflake would refuse it in a run." if failing else "",
        tuple(failing),
    )
