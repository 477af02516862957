"""What the doctor tries out on tables of its own: publication, grants, policies, transactions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from deploy.snowflake.checks import READERS_VIEWS
from deploy.snowflake.session import SYSADMIN, Finding, NotAnswered, Scratch, Session, judged, value_of
from deploy.snowflake.set_up import ENTERPRISE, STANDARD, split_statements
from include.customer_360.catalog import PROFILE, Mart
from include.customer_360.settings import TEMPLATE_FOLDERS

COPY_GRANTS = " copy grants"
NO_NUMBER = "no number"


def publication(session: Session, told: str) -> Iterator[Finding]:
    """Whether who reads a mart may still select after a publication, the first as well as a later one.

    After the clone with copy grants and, where it lost them, after the one without, which a publication then makes and
    which future grants reach. The latter is asked for at the end in any case. On ENTERPRISE readers read the tables; on
    STANDARD exporters do, and readers the views on them.

    In schemas like marts: sysadmin's, with managed access and a future grant. They are the transformer's where the user
    does not hold sysadmin.
    """
    try:
        session.use(SYSADMIN)
        owner = SYSADMIN
    except NotAnswered:
        owner = session.transformer
        session.use(owner)
    role = session.reader if told == ENTERPRISE else session.exporter
    marts = _like_marts(session, owner, "marts", "table", role)
    views = _like_marts(session, owner, READERS_VIEWS, "view", session.reader) if told == STANDARD else None
    session.use(session.transformer)
    built = session.scratch(session.transformer)
    session.make_table(built, PROFILE, "customer_id varchar, first_name varchar")
    of_whom = "" if owner == SYSADMIN else f" ({owner}'s schema)"
    published = _published(told, marts, built, views)
    (clone,) = (sql for sql in published if sql.endswith(COPY_GRANTS))
    clone = clone.removesuffix(COPY_GRANTS)
    for time in ("first", "second"):
        for sql in published:
            session.ask(sql)
        yield _granted(session, f"grants after the {time} publication", marts, role, of_whom, clone)
        if views:
            roles = _roles_that_select(session, "view", f"{views.name}.{PROFILE}")
            yield _judged_grants(f"grants on the view, {time} time", roles, session.reader, of_whom)
    session.ask(clone)
    roles = _roles_that_select(session, "table", f"{marts.name}.{PROFILE}")
    yield _judged_grants("grants of a clone without copying", roles, role, of_whom)


def _like_marts(session: Session, owner: str, purpose: str, kind: str, role: str) -> Scratch:
    """Make, as its owner, a schema where the transformer makes tables or views that this role may select from."""
    schema = session.scratch(owner, purpose)
    if owner == SYSADMIN:
        session.ask(f"grant usage, create {kind} on schema {schema.name} to role {session.transformer}")
    session.ask(f"grant select on future {kind}s in schema {schema.name} to role {role}")
    return schema


def _granted(session: Session, check: str, marts: Scratch, role: str, of_whom: str, clone: str) -> Finding:
    """Return whether a role may select from the mart; where it may not, after the mart was cloned once more."""
    table = f"{marts.name}.{PROFILE}"
    kept = _roles_that_select(session, "table", table)
    if role in kept:
        return _judged_grants(check, kept, role, of_whom)
    session.ask(clone)
    roles = _roles_that_select(session, "table", table)
    finding = _judged_grants(check, roles, role, of_whom)
    observed = f"{_of(kept)}; cloned again without copying: {_of(roles)}{of_whom}"
    remark = "Every publication clones twice; readers miss a mart for a moment."
    return replace(finding, observed=observed, what_to_do=remark if finding.passed else finding.what_to_do)


def _judged_grants(check: str, roles: Sequence[str], role: str, of_whom: str) -> Finding:
    return judged(
        check,
        f"{_of(roles)}{of_whom}",
        f"select for {role}",
        role in roles,
        "A publication fails: it takes a mart from its readers. `make snowflake-setup` grants on what exists; have "
        "include/sql/publish/snowflake.sql changed.",
    )


def _of(roles: Sequence[str]) -> str:
    return f"select for {', '.join(roles) or 'nobody'}"


def managed_access(session: Session) -> Iterator[Finding]:
    """Whether the transformer cannot grant on a table that it owns in a schema of sysadmin's with managed access."""
    session.use(SYSADMIN)
    managed = session.scratch(SYSADMIN, "managed")
    session.ask(f"grant usage, create table on schema {managed.name} to role {session.transformer}")
    session.use(session.transformer)
    table = session.make_table(managed, "not_to_be_granted", "customer_id varchar")
    try:
        session.ask(f"grant select on table {table} to role {session.exporter}")
        said = "the grant went through"
    except NotAnswered as refused:
        said = refused.said
    # Not every refusal is an error.
    readers = _roles_that_select(session, "table", table)
    passed = session.exporter not in readers
    yield judged(
        "the transformer grants on a mart",
        said if passed else f"select for {session.exporter}",
        "refused",
        passed,
        f"See that the schemas have managed access: show schemas in database {session.deployment};",
    )


def dropped_schemas(session: Session, told: str) -> Iterator[Finding]:
    """Whether a run's schema can be dropped as DropRunSchemasOperator does: after a table masked by a policy of ops."""
    check = "drop of a run's schema"
    if told != ENTERPRISE:
        yield Finding(check, "no table has a policy", f"SNOWFLAKE_EDITION={told}", None)
        return
    session.use(session.transformer)
    run = session.scratch(session.transformer, "run")
    masked = f"first_name varchar with masking policy {session.deployment}.ops.mask_personal_data"
    table = session.make_table(run, PROFILE, f"customer_id varchar, {masked}", "select '1' as customer_id, 'A' as name")
    session.ask(f"drop table if exists {table}")
    session.ask(f"drop schema if exists {run.name} cascade")
    yield Finding(check, "dropped after its tables", "dropped after its tables", True)


def transaction(session: Session) -> Iterator[Finding]:
    """Whether a load that fails half way leaves the table as it was, and no transaction open."""
    session.use(session.transformer)
    table = session.make_table(session.scratch(session.transformer), "loaded", "amount integer, note varchar")
    session.ask(f"insert into {table} values (1, '1'), (2, '{NO_NUMBER}')")
    changes = (
        f"delete from {table} where amount = 1; insert into {table} select cast(note as integer), note from {table}"
    )
    try:
        session.ask(in_one_transaction(changes))
        said = "nothing raised"
    except NotAnswered as refused:
        said = refused.said
    (left,) = session.ask(f"select count(*) as kept, current_transaction() as still_open from {table}")
    kept, still_open = value_of(left, "kept"), value_of(left, "still_open")
    yield judged(
        "a load that fails half way",
        f"{kept} of 2 rows left, {'no' if still_open == 'None' else 'a'} transaction open; {said}",
        f"2 rows, none open, an error about '{NO_NUMBER}'",
        # Another error means that the block did not run as far as the failing statement.
        kept == "2" and still_open == "None" and NO_NUMBER in said,
        "Do not load: a failed load would lose rows. See macros/in_one_transaction.sql.",
    )


def in_one_transaction(changes: str) -> str:
    """Return the block in which dbt sends changes of a load, as macros/in_one_transaction.sql renders it."""
    macros = Environment(loader=FileSystemLoader(TEMPLATE_FOLDERS), undefined=StrictUndefined)
    # Of Jinja's, which has no types.
    block: Any = macros.get_template("in_one_transaction.sql").module
    return str(block.snowflake__in_one_transaction(changes)).strip()


def _published(told: str, marts: Scratch, built: Scratch, views: Scratch | None) -> list[str]:
    """Return the statements with which publish/snowflake.sql puts one mart of `built` before its readers."""
    environment = Environment(loader=FileSystemLoader(TEMPLATE_FOLDERS), undefined=StrictUndefined)
    mart = Mart(
        name=PROFILE,
        table_schema="marts",
        validated=True,
        published=True,
        drift={},
        columns=("customer_id", "first_name"),
        personal_columns=("first_name",),
    )
    rendered = environment.get_template("publish/snowflake.sql").render(
        published=[mart],
        run_schema=built.name,
        edition=told,
        dag_run_literal="'doctor'",
        as_of_date="2000-01-01",
        published_at="2000-01-01",
    )
    places = {"marts": marts.name, READERS_VIEWS: views.name if views else ""}
    marts.tables.append(f"{marts.name}.{PROFILE}")
    return [
        re.sub(rf"(?<![\w.])({'|'.join(places)})(?=\.{PROFILE}\b)", lambda found: places[found[1]], statement.sql)
        for statement in split_statements("publish/snowflake.sql", rendered)
        if statement.sql.startswith("create ") and f".{PROFILE}" in statement.sql
    ]


def _roles_that_select(session: Session, kind: str, name: str) -> list[str]:
    """Return the roles that were granted select on a table or view, in lower case."""
    return [
        value_of(grant, "grantee_name").lower()
        for grant in session.ask(f"show grants on {kind} {name}")
        if value_of(grant, "privilege") == "SELECT"
    ]
