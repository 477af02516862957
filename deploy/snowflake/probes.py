"""What the doctor tries out on tables of its own: publication, grants, policies, transactions."""

from __future__ import annotations

from collections.abc import Iterator

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from deploy.snowflake.checks import ENTERPRISE, PROFILE
from deploy.snowflake.session import SYSADMIN, Finding, NotAnswered, Scratch, Session, judged, value_of
from deploy.snowflake.set_up import split_statements
from include.customer_360.settings import TEMPLATE_FOLDERS

IN_ONE_TRANSACTION = """execute immediate $$
    begin
        begin transaction;
        {changes};
        commit;
    exception
        when other then
            rollback;
            raise;
    end;
    $$"""
"""The block in which dbt sends a load."""
NO_NUMBER = "no number"


def publication(session: Session) -> Iterator[Finding]:
    """Whether a table has its readers' grants after a publication, the first as well as a later one.

    In a schema like marts: sysadmin's, with managed access and a future grant. It is one of the transformer's where the
    user does not hold sysadmin.
    """
    try:
        session.use(SYSADMIN)
        owner = SYSADMIN
    except NotAnswered:
        owner = session.transformer
        session.use(owner)
    marts = session.scratch(owner, "marts")
    if owner == SYSADMIN:
        session.ask(f"grant usage, create table on schema {marts.name} to role {session.transformer}")
    session.ask(f"grant select on future tables in schema {marts.name} to role {session.reader}")
    session.use(session.transformer)
    built = session.scratch(session.transformer)
    session.make_table(built, PROFILE, "customer_id varchar, first_name varchar")
    for time in ("first", "second"):
        for statement in _published(session, marts, built):
            session.ask(statement)
        readers = _readers(session, marts)
        yield judged(
            f"grants after the {time} publication",
            f"select for {', '.join(readers) or 'nobody'}" + ("" if owner == SYSADMIN else f" ({owner}'s schema)"),
            f"select for {session.reader}",
            session.reader in readers,
            "A publication takes the marts from their readers; `make snowflake-setup` grants on the tables that exist. "
            "Have include/sql/publish/snowflake.sql changed.",
        )


def managed_access(session: Session) -> Iterator[Finding]:
    """Whether the transformer cannot grant on a table that it owns in a schema of sysadmin's with managed access."""
    session.use(SYSADMIN)
    marts = session.scratch(SYSADMIN, "marts")
    session.ask(f"grant usage, create table on schema {marts.name} to role {session.transformer}")
    session.use(session.transformer)
    table = session.make_table(marts, "not_to_be_granted", "customer_id varchar")
    try:
        session.ask(f"grant select on table {table} to role {session.exporter}")
        said = "the grant went through"
    except NotAnswered as refused:
        said = refused.said
    # Not every refusal is an error.
    readers = _grantees(session, table)
    passed = session.exporter not in readers
    yield judged(
        "the transformer grants on a mart",
        said if passed else f"select for {session.exporter}",
        "refused",
        passed,
        f"See that the schemas have managed access: show schemas in database {session.deployment};",
    )


def dropped_schemas(session: Session, told: str) -> Iterator[Finding]:
    """Whether a run's schema can be dropped, at once or after its tables, one of which is masked by a policy of ops."""
    check = "drop of a run's schema"
    if told != ENTERPRISE:
        yield Finding(check, "no table has a policy", f"SNOWFLAKE_EDITION={told}", None)
        return
    session.use(session.transformer)
    run = session.scratch(session.transformer, "run")
    table = session.make_table(run, PROFILE, "customer_id varchar, first_name varchar")
    session.ask(
        f"alter table {table} modify column first_name set masking policy "
        f"{session.deployment}.ops.mask_personal_data force"
    )
    drop = f"drop schema if exists {run.name} cascade"
    try:
        session.ask(drop)
        said = "dropped at once"
    except NotAnswered as refused:
        session.ask(f"drop table if exists {table}")
        session.ask(drop)
        said = f"dropped after its tables, before: {refused.said}"
    yield Finding(check, said, "dropped, after its tables at the latest", True)


def transaction(session: Session) -> Iterator[Finding]:
    """Whether a load that fails half way leaves the table as it was, and no transaction open."""
    session.use(session.transformer)
    table = session.make_table(session.scratch(session.transformer), "loaded", "amount integer, note varchar")
    session.ask(f"insert into {table} values (1, '1'), (2, '{NO_NUMBER}')")
    changes = (
        f"delete from {table} where amount = 1; insert into {table} select cast(note as integer), note from {table}"
    )
    try:
        session.ask(IN_ONE_TRANSACTION.format(changes=changes))
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


def _published(session: Session, marts: Scratch, built: Scratch) -> list[str]:
    """Return the statements with which publish/snowflake.sql puts one mart of `built` into `marts`."""
    environment = Environment(loader=FileSystemLoader(TEMPLATE_FOLDERS), undefined=StrictUndefined)
    mart = {"name": PROFILE, "table_schema": marts.name, "validated": True, "measures": []}
    rendered = environment.get_template("publish/snowflake.sql").render(
        published=[mart],
        run_schema=built.name,
        edition=ENTERPRISE,
        dag_run_id="doctor",
        as_of_date="2000-01-01",
        published_at="2000-01-01",
    )
    statements = split_statements("publish/snowflake.sql", rendered, session.deployment)
    table = f"{marts.name}.{PROFILE}"
    if table not in marts.tables:
        marts.tables.append(table)
    return [statement.sql for statement in statements if f" {table}" in statement.sql]


def _readers(session: Session, marts: Scratch) -> list[str]:
    return _grantees(session, f"{marts.name}.{PROFILE}")


def _grantees(session: Session, table: str) -> list[str]:
    """Return the roles with select on a table, in lower case."""
    return [
        value_of(grant, "grantee_name").lower()
        for grant in session.ask(f"show grants on table {table}")
        if value_of(grant, "privilege") == "SELECT"
    ]
