"""What the Snowflake set-up gives to whom, and how `make snowflake-setup` runs it.

Each check of the SQL is a function that returns what it objects to: nothing in the set-up as it stands, and something
in the same set-up with one statement planted, changed or left out.
"""

from __future__ import annotations

import logging
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import snowflake.connector
import sqlglot
import sqlparse
from jinja2 import UndefinedError
from snowflake.connector.errors import DatabaseError, ProgrammingError
from sqlglot import exp

from deploy.snowflake import set_up
from deploy.snowflake.set_up import (
    AFTER_PUBLICATION,
    SETUP_SQL,
    SnowflakeLogin,
    Statement,
    as_script,
    read_statements,
    split_statements,
)
from include.customer_360.settings import PROJECT_ROOT
from local.sources import CUSTOMERS, TRANSACTIONS, SourceTable
from tests.snowflake.asked_by_screens import STATEMENTS, asked

LOADER = "customer_360_loader"
TRANSFORMER = "customer_360_transformer"
READER = "customer_360_reader"
EXPORTER = "customer_360_exporter"
SERVICE = "customer_360_service"
OPS_OF_EXPORTS = {
    "usage on schema customer_360.ops",
    "select on table customer_360.ops.warehouse",
    "select on table customer_360.ops.audience_memberships",
    "select on table customer_360.ops.suppressions",
    "select on table customer_360.ops.export_runs",
}
OPS_OF_SCREENS = {"usage on schema customer_360.ops", "insert on table customer_360.ops.screens_log"}
DEVELOPER = "customer_360_developer"
SCREENS = "customer_360_screens"

# The specification: every privilege of every role.
PRIVILEGES = {
    LOADER: {
        "usage on database customer_360",
        "usage on schema customer_360.raw",
        "create table on schema customer_360.raw",
        "select on all tables in schema customer_360.raw",
        "insert on all tables in schema customer_360.raw",
        "update on all tables in schema customer_360.raw",
        "delete on all tables in schema customer_360.raw",
        "truncate on all tables in schema customer_360.raw",
        "select on future tables in schema customer_360.raw",
        "insert on future tables in schema customer_360.raw",
        "update on future tables in schema customer_360.raw",
        "delete on future tables in schema customer_360.raw",
        "truncate on future tables in schema customer_360.raw",
        "usage on warehouse customer_360_transform",
    },
    TRANSFORMER: {
        "usage on database customer_360",
        "create schema on database customer_360",
        "usage on schema customer_360.raw",
        "select on all tables in schema customer_360.raw",
        "select on future tables in schema customer_360.raw",
        "usage on schema customer_360.staging",
        "create table on schema customer_360.staging",
        "create view on schema customer_360.staging",
        "usage on schema customer_360.core",
        "create table on schema customer_360.core",
        "create view on schema customer_360.core",
        "usage on schema customer_360.intermediate",
        "create table on schema customer_360.intermediate",
        "create view on schema customer_360.intermediate",
        "usage on schema customer_360.marts",
        "create table on schema customer_360.marts",
        "create view on schema customer_360.marts",
        "usage on schema customer_360.ops",
        "create table on schema customer_360.ops",
        "create view on schema customer_360.ops",
        "apply on masking policy customer_360.ops.mask_personal_data",
        "usage on warehouse customer_360_transform",
    },
    READER: {
        "usage on database customer_360",
        "usage on schema customer_360.marts",
        "select on all tables in schema customer_360.marts",
        "select on future tables in schema customer_360.marts",
        "select on all views in schema customer_360.marts",
        "select on future views in schema customer_360.marts",
        *OPS_OF_SCREENS,
        "usage on warehouse customer_360_read",
    },
    SERVICE: {
        "usage on database customer_360",
        "usage on schema customer_360.marts",
        "select on all tables in schema customer_360.marts",
        "select on future tables in schema customer_360.marts",
        "select on all views in schema customer_360.marts",
        "select on future views in schema customer_360.marts",
        *OPS_OF_SCREENS,
        "usage on warehouse customer_360_read",
    },
    EXPORTER: {
        "usage on database customer_360",
        "usage on schema customer_360.marts",
        "select on all tables in schema customer_360.marts",
        "select on future tables in schema customer_360.marts",
        *OPS_OF_EXPORTS,
        "usage on warehouse customer_360_read",
    },
    DEVELOPER: {
        "usage on database customer_360",
        "create schema on database customer_360",
        "usage on schema customer_360.raw",
        "select on all tables in schema customer_360.raw",
        "select on future tables in schema customer_360.raw",
        "select on all views in schema customer_360.raw",
        "select on future views in schema customer_360.raw",
        "usage on schema customer_360.core",
        "select on all tables in schema customer_360.core",
        "select on future tables in schema customer_360.core",
        "select on all views in schema customer_360.core",
        "select on future views in schema customer_360.core",
        "usage on warehouse customer_360_read",
    },
}
HOLDERS = {
    LOADER: {"role sysadmin"},
    TRANSFORMER: {"role sysadmin", "user customer_360_airflow"},
    READER: {"role sysadmin"},
    SERVICE: {"role sysadmin"},
    EXPORTER: {"role sysadmin", "user customer_360_export"},
    DEVELOPER: {"role sysadmin"},
}
SCHEMAS = {"raw", "staging", "core", "intermediate", "marts", "ops"}
WAREHOUSES = {"customer_360_transform", "customer_360_read"}
MONITORS = {
    "customer_360_transform": "customer_360_monthly",
    "customer_360_read": "customer_360_read_monthly",
}
MASKED = {
    "customer_360.raw.customers": {"first_name", "last_name", "email"},
    "customer_360.core.dim_customer": {"first_name", "last_name", "email"},
    "customer_360.core.customers_snapshot": {"first_name", "last_name", "email"},
    "customer_360.marts.customer_360_profile": {"first_name", "last_name", "full_name", "email"},
}
SNOWFLAKE_TYPES = {"timestamp": "timestampntz", "decimal(18,2)": "decimal(18, 2)", "integer": "int"}
"""What sqlglot writes for the types of sources.py."""

# On Standard Edition, without masking policies, readers have the views of marts_read, developers nothing of production,
# and nobody looks at screens.
OF_STANDARD = {
    "usage on schema customer_360.marts_read",
    "select on all views in schema customer_360.marts_read",
    "select on future views in schema customer_360.marts_read",
}
HOLDERS_ON_STANDARD = {role: holders for role, holders in HOLDERS.items() if role != SERVICE}
PRIVILEGES_ON_STANDARD = {role: given for role, given in PRIVILEGES.items() if role != SERVICE} | {
    TRANSFORMER: PRIVILEGES[TRANSFORMER] - {"apply on masking policy customer_360.ops.mask_personal_data"}
    | {"usage on schema customer_360.marts_read", "create view on schema customer_360.marts_read"},
    READER: {"usage on database customer_360", "usage on warehouse customer_360_read"} | OF_STANDARD,
    DEVELOPER: {
        "usage on database customer_360",
        "create schema on database customer_360",
        "usage on warehouse customer_360_read",
    },
}
OPENS_THE_APP = {
    "usage on schema customer_360.screens",
    "usage on future streamlits in schema customer_360.screens",
}
# What the screens add, after the first publication: their owner reads nothing, but with the rights of who looks.
PRIVILEGES_FOR_SCREENS = {
    SCREENS: {
        "usage on database customer_360",
        "usage on schema customer_360.screens",
        "create streamlit on schema customer_360.screens",
        "usage on warehouse customer_360_read",
        "usage on compute pool customer_360_screens",
        "caller usage on database customer_360",
        "caller usage on schema customer_360.marts",
        "caller usage on schema customer_360.ops",
        "caller usage on warehouse customer_360_read",
        "caller insert on table customer_360.ops.screens_log",
        "inherited caller select on all tables in schema customer_360.marts",
        "inherited caller select on all views in schema customer_360.marts",
        "inherited caller select on all semantic views in schema customer_360.marts",
    },
    READER: OPENS_THE_APP,
    SERVICE: OPENS_THE_APP,
}
SERVICE_USERS = {
    "customer_360_airflow": ("customer_360_transformer", "customer_360_transform"),
    "customer_360_export": ("customer_360_exporter", "customer_360_read"),
}

SETUP = read_statements()
STANDARD_SETUP = read_statements(edition="standard")
SCREENS_SQL = "screens.sql"
FOR_SCREENS = [statement for statement in read_statements(folder=AFTER_PUBLICATION) if statement.file == SCREENS_SQL]
SECRET = "a passphrase that nobody may see"


@pytest.fixture(autouse=True)
def quiet_sqlglot(caplog: pytest.LogCaptureFixture) -> None:
    """It warns of each statement that it knows no structure for, as this test knows."""
    caplog.set_level(logging.ERROR, logger="sqlglot")


@dataclass(frozen=True)
class Grant:
    """One privilege or, with privilege `role`, one role, given to a `role ...` or `user ...`."""

    privilege: str
    on: str
    to: str


def parsed(statement: Statement) -> exp.Expression:
    return sqlglot.parse_one(statement.sql, read="snowflake")


def text_of(statement: Statement) -> str:
    return " ".join(statement.sql.lower().split())


def grants(statements: Sequence[Statement]) -> list[Grant]:
    return [grant for statement in statements for grant in grants_of(statement)]


def grants_of(statement: Statement) -> Iterator[Grant]:
    tree = parsed(statement)
    if isinstance(tree, exp.Grant):
        on = f"{tree.args['kind']} {tree.args['securable'].sql('snowflake')}".lower()
        principals = [
            f"{principal.args['kind'] or ''} {principal.name}".lower() for principal in tree.args["principals"]
        ]
        for privilege in tree.args["privileges"]:
            yield from (Grant(privilege.sql("snowflake").lower(), on, to) for to in principals)
        assert not tree.args.get("grant_option"), f"a right to grant: {statement.sql}"
    elif isinstance(tree, exp.Command) and tree.name.lower() == "grant":
        # Bulk grants, policies and roles: sqlglot knows no structure for them.
        of_role = re.fullmatch(r"grant role (\w+) to ((?:role|user) \w+)", text_of(statement))
        of_privileges = re.fullmatch(r"grant ([\w, ]+?) on ([\w. ]+?) to (role \w+)", text_of(statement))
        if of_role:
            yield Grant("role", of_role[1], of_role[2])
        else:
            assert of_privileges, f"a grant that this test cannot read: {statement.sql}"
            yield from (Grant(name, of_privileges[2], of_privileges[3]) for name in of_privileges[1].split(", "))


def assignments(statement: Statement) -> dict[str, str]:
    return dict(re.findall(r"(\w+) = (\w+)", text_of(statement)))


def unspecified_privileges(statements: Sequence[Statement]) -> list[str]:
    given = {role: set() for role in PRIVILEGES}
    for grant in grants(statements):
        if grant.privilege != "role":
            given.setdefault(grant.to.removeprefix("role "), set()).add(f"{grant.privilege} on {grant.on}")
    return [f"{role}: {privilege}" for role in given for privilege in sorted(given[role] ^ PRIVILEGES.get(role, set()))]


def unspecified_holders(statements: Sequence[Statement], holders: Mapping[str, set[str]] = HOLDERS) -> list[str]:
    held = {role: set() for role in holders}
    for grant in grants(statements):
        if grant.privilege == "role":
            held.setdefault(grant.on, set()).add(grant.to)
    return [f"{role}: {holder}" for role in held for holder in sorted(held[role] ^ holders.get(role, set()))]


def reach_beyond_marts(statements: Sequence[Statement]) -> list[str]:
    within = {
        "usage on database customer_360",
        "usage on schema customer_360.marts",
        "select on all tables in schema customer_360.marts",
        "select on future tables in schema customer_360.marts",
        "select on all views in schema customer_360.marts",
        "select on future views in schema customer_360.marts",
        "usage on warehouse customer_360_read",
    }
    of_ops = {
        f"role {READER}": OPS_OF_SCREENS,
        f"role {SERVICE}": OPS_OF_SCREENS,
        f"role {EXPORTER}": OPS_OF_EXPORTS,
    }
    return [
        f"{grant.to}: {grant.privilege} on {grant.on}"
        for grant in grants(statements)
        if grant.to in of_ops and f"{grant.privilege} on {grant.on}" not in within | of_ops[grant.to]
    ]


def too_broad_grants(statements: Sequence[Statement]) -> list[str]:
    return [
        f"{grant.to}: {grant.privilege} on {grant.on}"
        for grant in grants(statements)
        if grant.privilege in ("ownership", "all", "all privileges")
    ]


def grants_to_public(statements: Sequence[Statement]) -> list[str]:
    return [f"{grant.privilege} on {grant.on}" for grant in grants(statements) if grant.to == "role public"]


def not_repeatable(statements: Sequence[Statement]) -> list[str]:
    """Also what replaces or drops: it can be repeated, and takes rows or grants with it."""
    repeatable = (
        r"use role \w+",
        r"create (role|warehouse|resource monitor|database|schema|table|masking policy|user|compute pool) "
        r"if not exists .*",
        r"alter (warehouse|resource monitor|masking policy|user) if exists .* set .*",
        r"alter table \S+ add column if not exists .*",
        r"alter table if exists \S+ modify column \w+ set masking policy \S+ force",
        r"grant .*",
    )
    return [
        statement.first_line
        for statement in statements
        if not any(re.fullmatch(pattern, text_of(statement)) for pattern in repeatable)
    ]


def wrong_warehouses(statements: Sequence[Statement]) -> list[str]:
    wanted = {"warehouse_size": "small", "auto_suspend": "60", "auto_resume": "true"}
    problems = []
    seen = set()
    for statement in statements:
        said = re.match(r"(create warehouse if not exists|alter warehouse if exists) (\w+)", text_of(statement))
        if said and "resource_monitor" not in assignments(statement):
            seen.add((said[1].split()[0], said[2]))
            found = assignments(statement)
            expected = wanted | ({"initially_suspended": "true"} if said[1].startswith("create") else {})
            problems += [f"{said[2]}: {key} = {found.get(key)}" for key in expected if found.get(key) != expected[key]]
            if int(found.get("statement_timeout_in_seconds", 0)) not in range(1, 3601):
                problems.append(f"{said[2]}: a statement may run longer than an hour")
    expected_seen = {(verb, warehouse) for verb in ("create", "alter") for warehouse in WAREHOUSES}
    return problems + [f"{warehouse}: {verb}" for verb, warehouse in sorted(seen ^ expected_seen)]


def unmonitored_warehouses(statements: Sequence[Statement]) -> list[str]:
    """A warehouse without a monitor of its own: what stands under another's is suspended with it."""
    said = [
        re.fullmatch(r"alter warehouse if exists (\w+) set resource_monitor = (\w+)", text_of(statement))
        for statement in statements
    ]
    monitors = {found[1]: found[2] for found in said if found}
    return [
        f"{warehouse}: {monitors.get(warehouse)}"
        for warehouse in sorted(WAREHOUSES | monitors.keys())
        if monitors.get(warehouse) != MONITORS.get(warehouse)
    ]


def wrong_monitors(statements: Sequence[Statement]) -> list[str]:
    """A monitor warns before its quota, and suspends at it."""
    monitors = [text_of(statement) for statement in statements if " resource monitor " in text_of(statement)]
    return [
        monitor
        for monitor in monitors
        if not re.search(r"credit_quota = [1-9]\d*\b", monitor)
        or re.findall(r"on (\d+) percent do (\w+)", monitor)
        != [("75", "notify"), ("90", "notify"), ("100", "suspend"), ("110", "suspend_immediate")]
    ] + ([] if len(monitors) == 4 else [f"{len(monitors)} statements on monitors"])


def wrong_policies(statements: Sequence[Statement]) -> list[str]:
    """The policy, as made and as set again, shows a value to exporter, service and transformer only, and keeps null."""
    problems = []
    verbs = set()
    for statement in statements:
        said = re.match(r"(create|alter) masking policy if (?:not )?exists (\S+)", text_of(statement))
        if said is None:
            continue
        verbs.add(said[1])
        if said[2] != "customer_360.ops.mask_personal_data":
            problems.append(f"name {said[2]}")
        body = sqlglot.parse_one(statement.sql.split("->")[1], read="snowflake")
        shown_to = {
            argument.name
            for function in body.find_all(exp.Anonymous)
            if function.name.lower() == "is_role_in_session"
            for argument in function.expressions
        }
        if shown_to != {EXPORTER.upper(), SERVICE.upper(), TRANSFORMER.upper()}:
            problems.append(f"{said[1]}: shown to {sorted(shown_to)}")
        conditions = [case.this.sql().lower() for case in body.args["ifs"]]
        if any("is_role_in_session" not in condition for condition in conditions[:-1]):
            problems.append(f"{said[1]}: shown without a role: {conditions}")
        results = [case.args["true"].sql().lower() for case in body.args["ifs"]]
        if results != ["value", "'*****'"] or conditions[-1] != "not value is null" or body.args.get("default"):
            problems.append(f"{said[1]}: {body.sql()}")
    return problems + [f"no {verb}" for verb in sorted({"create", "alter"} - verbs)]


def wrongly_masked_columns(statements: Sequence[Statement]) -> list[str]:
    masked = {
        (said[1], said[2])
        for statement in statements
        if (
            said := re.fullmatch(
                r"alter table if exists (\S+) modify column (\w+) set masking policy "
                r"customer_360\.ops\.mask_personal_data force",
                text_of(statement),
            )
        )
    }
    specified = {(table, column) for table, columns in MASKED.items() for column in columns}
    return [f"{table}.{column}" for table, column in sorted(masked ^ specified)]


def too_mighty_roles(statements: Sequence[Statement]) -> list[str]:
    """Users and roles are useradmin's, privileges securityadmin's, monitors accountadmin's, all else sysadmin's.

    But a table of ops is the transformer's, whose runs change it.
    """
    problems = []
    running_as = None
    for statement in statements:
        text = text_of(statement)
        if text.startswith("use role "):
            running_as = text.removeprefix("use role ")
            continue
        if re.match(r"create (role|user)|alter user|grant role", text):
            least = "useradmin"
        elif re.match(r"create compute pool|grant (inherited )?caller ", text):
            least = "accountadmin"
        elif text.startswith("grant "):
            least = "securityadmin"
        elif " resource monitor " in text or "resource_monitor" in text:
            least = "accountadmin"
        elif text.startswith("create table if not exists customer_360.ops."):
            least = TRANSFORMER
        else:
            least = "sysadmin"
        if running_as != least:
            problems.append(f"as {running_as}: {statement.first_line}")
    return problems


def unlike_the_style(statements: Sequence[Statement]) -> list[str]:
    """Keywords and names are lower-case and never quoted; upper-case stands in strings only."""
    problems = []
    for statement in statements:
        for token in sqlglot.tokenize(statement.sql, read="snowflake"):
            written = statement.sql[token.start : token.end + 1]
            if not written.startswith("'") and (written.startswith('"') or written != written.lower()):
                problems.append(f"{statement.place}: {written}")
    return problems


def planted(sql: str) -> list[Statement]:
    return [*SETUP, *split_statements("99_planted.sql", sql)]


def without(words: str) -> list[Statement]:
    left = [statement for statement in SETUP if words not in text_of(statement)]
    assert len(left) < len(SETUP), f"nothing to leave out: {words}"
    return left


def changed(before: str, after: str) -> list[Statement]:
    statements = [replace(statement, sql=statement.sql.replace(before, after)) for statement in SETUP]
    assert statements != SETUP, f"nothing to change: {before}"
    return statements


CHECKS = (
    unspecified_privileges,
    unspecified_holders,
    reach_beyond_marts,
    too_broad_grants,
    grants_to_public,
    not_repeatable,
    wrong_warehouses,
    unmonitored_warehouses,
    wrong_monitors,
    wrong_policies,
    wrongly_masked_columns,
    too_mighty_roles,
    unlike_the_style,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_set_up_holds(check: Callable[[Sequence[Statement]], list[str]]) -> None:
    assert check(SETUP) == []


@pytest.mark.parametrize(
    ("check", "statements", "objection"),
    [
        (
            unspecified_privileges,
            planted(f"grant select on all tables in schema customer_360.raw to role {READER};"),
            f"{READER}: select on all tables in schema customer_360.raw",
        ),
        (
            unspecified_privileges,
            without(f"grant select on future tables in schema customer_360.marts to role {READER}"),
            f"{READER}: select on future tables in schema customer_360.marts",
        ),
        (
            unspecified_privileges,
            planted("grant usage on database customer_360 to role somebody_else;"),
            "somebody_else: usage on database customer_360",
        ),
        (
            unspecified_privileges,
            planted(f"grant select on all tables in schema customer_360.intermediate to role {DEVELOPER};"),
            f"{DEVELOPER}: select on all tables in schema customer_360.intermediate",
        ),
        (
            unspecified_privileges,
            planted(f"grant select on table customer_360.ops.screens_log to role {SERVICE};"),
            f"{SERVICE}: select on table customer_360.ops.screens_log",
        ),
        (unspecified_holders, planted(f"grant role {EXPORTER} to role {READER};"), f"{EXPORTER}: role {READER}"),
        (unspecified_holders, without(f"grant role {LOADER} to role sysadmin"), f"{LOADER}: role sysadmin"),
        (
            reach_beyond_marts,
            planted(f"grant select on table customer_360.core.dim_customer to role {EXPORTER};"),
            f"role {EXPORTER}: select on table customer_360.core.dim_customer",
        ),
        (
            reach_beyond_marts,
            planted(f"grant insert on future tables in schema customer_360.marts to role {READER};"),
            f"role {READER}: insert on future tables in schema customer_360.marts",
        ),
        (
            reach_beyond_marts,
            planted(f"grant usage on warehouse customer_360_transform to role {READER};"),
            f"role {READER}: usage on warehouse customer_360_transform",
        ),
        (
            too_broad_grants,
            planted(f"grant ownership on database customer_360 to role {TRANSFORMER};"),
            f"role {TRANSFORMER}: ownership on database customer_360",
        ),
        (
            too_broad_grants,
            planted(f"grant all privileges on database customer_360 to role {LOADER};"),
            f"role {LOADER}: all privileges on database customer_360",
        ),
        (
            too_broad_grants,
            planted(f"grant all on schema customer_360.marts to role {LOADER};"),
            f"role {LOADER}: all on schema customer_360.marts",
        ),
        (
            grants_to_public,
            planted("grant select on all tables in schema customer_360.marts to role public;"),
            "select on all tables in schema customer_360.marts",
        ),
        (not_repeatable, planted("create schema customer_360.more;"), "create schema customer_360.more"),
        (
            not_repeatable,
            planted("create or replace table customer_360.raw.customers (customer_id varchar);"),
            "create or replace table customer_360.raw.customers (customer_id varchar)",
        ),
        (
            not_repeatable,
            planted("drop table if exists customer_360.raw.x;"),
            "drop table if exists customer_360.raw.x",
        ),
        (wrong_warehouses, changed("warehouse_size = small", "warehouse_size = large"), "warehouse_size = large"),
        (wrong_warehouses, changed("auto_suspend = 60", "auto_suspend = 600"), "auto_suspend = 600"),
        (wrong_warehouses, changed("initially_suspended = true", ""), "initially_suspended = None"),
        (wrong_warehouses, changed("statement_timeout_in_seconds = 3600", ""), "longer than an hour"),
        (
            unmonitored_warehouses,
            without("alter warehouse if exists customer_360_read set resource_monitor"),
            "customer_360_read: None",
        ),
        (
            unmonitored_warehouses,
            changed("resource_monitor = customer_360_read_monthly", "resource_monitor = customer_360_monthly"),
            "customer_360_read: customer_360_monthly",
        ),
        (wrong_monitors, changed("on 100 percent do suspend", "on 100 percent do notify"), "on 100 percent do notify"),
        (wrong_monitors, changed("credit_quota = 100", ""), "resource monitor"),
        (
            wrong_policies,
            changed("is_role_in_session('CUSTOMER_360_EXPORTER')", "is_role_in_session('CUSTOMER_360_READER')"),
            "create: shown to ['CUSTOMER_360_READER', 'CUSTOMER_360_SERVICE', 'CUSTOMER_360_TRANSFORMER']",
        ),
        (wrong_policies, changed(" or is_role_in_session('CUSTOMER_360_EXPORTER')", ""), "create: shown to"),
        (wrong_policies, changed("when value is not null then '*****'", "else value"), "create:"),
        (wrong_policies, changed("ops.mask_personal_data", "ops.other"), "name customer_360.ops.other"),
        (wrong_policies, without("alter masking policy"), "no alter"),
        (
            wrongly_masked_columns,
            without("modify column full_name"),
            "customer_360.marts.customer_360_profile.full_name",
        ),
        (
            wrongly_masked_columns,
            without("alter table if exists customer_360.core.customers_snapshot modify column email"),
            "customer_360.core.customers_snapshot.email",
        ),
        (
            wrongly_masked_columns,
            changed("modify column email set", "modify column state set"),
            "customer_360.raw.customers.email",
        ),
        (too_mighty_roles, changed("use role sysadmin", "use role accountadmin"), "as accountadmin: create database"),
        (unlike_the_style, planted("create schema if not exists customer_360.RAW;"), "RAW"),
        (unlike_the_style, planted('create schema if not exists customer_360."raw";'), '"raw"'),
    ],
)
def test_a_violation_is_caught(
    check: Callable[[Sequence[Statement]], list[str]], statements: list[Statement], objection: str
) -> None:
    assert any(objection in problem for problem in check(statements))


def test_a_grant_that_may_be_passed_on_is_refused() -> None:
    with pytest.raises(AssertionError, match="a right to grant"):
        grants(planted(f"grant usage on database customer_360 to role {READER} with grant option;"))


def test_every_schema_is_made_with_managed_access() -> None:
    made = [text_of(statement) for statement in SETUP if text_of(statement).startswith("create schema")]
    assert {re.sub(r"create schema if not exists customer_360\.", "", text) for text in made} == {
        f"{schema} with managed access" for schema in SCHEMAS
    }


@pytest.mark.parametrize("table", [CUSTOMERS, TRANSACTIONS], ids=lambda table: table.name)
def test_source_tables_have_the_columns_that_the_models_read(table: SourceTable) -> None:
    (made,) = (
        tree
        for tree in map(parsed, SETUP)
        if isinstance(tree, exp.Create) and tree.kind == "TABLE" and tree.this.this.name == table.name
    )
    assert [(column.name, column.kind.sql("snowflake").lower()) for column in made.this.expressions] == [
        (column.name, SNOWFLAKE_TYPES.get(column.type, column.type)) for column in table.columns
    ]


def test_nothing_is_clustered_for_it_is_billed_outside_of_the_monitors() -> None:
    assert [statement.first_line for statement in SETUP if "cluster by" in text_of(statement)] == []


def test_the_policy_and_the_masked_columns_come_before_any_grant_on_tables() -> None:
    last_masked = max(place for place, statement in enumerate(SETUP) if "set masking policy" in text_of(statement))
    first_grant = min(place for place, statement in enumerate(SETUP) if "tables in schema" in text_of(statement))
    assert last_masked < first_grant


def wrong_service_users(statements: Sequence[Statement]) -> list[str]:
    """Each is a service without secondary roles, with the one role that it is for, as made and as set again."""
    problems, seen = [], []
    for statement in statements:
        said = re.match(r"(create user if not exists|alter user if exists) (\w+)", text_of(statement))
        if said is None:
            continue
        role, warehouse = SERVICE_USERS.get(said[2], ("", ""))
        seen.append((said[1].split()[0], said[2]))
        wanted = (
            "type = service",
            f"default_role = {role} default_warehouse = {warehouse} ",
            "default_secondary_roles = ()",
        )
        problems += [f"{said[2]}: not {part}" for part in wanted if part not in text_of(statement)]
    expected = {(verb, user) for verb in ("create", "alter") for user in SERVICE_USERS}
    return problems + [f"{user}: {verb}" for verb, user in sorted(set(seen) ^ expected)]


@pytest.mark.parametrize("statements", [SETUP, STANDARD_SETUP], ids=["enterprise", "standard"])
def test_nightly_run_and_exports_have_a_service_user_each(statements: list[Statement]) -> None:
    assert wrong_service_users(statements) == []


@pytest.mark.parametrize(
    ("statements", "objection"),
    [
        (changed("default_secondary_roles = ()", "default_secondary_roles = ('ALL')"), "not default_secondary_roles"),
        (changed("type = service", "type = person"), "customer_360_airflow: not type = service"),
        (
            changed("default_role = customer_360_exporter", "default_role = customer_360_transformer"),
            "customer_360_export: not default_role = customer_360_exporter",
        ),
        (without("alter user if exists customer_360_export"), "customer_360_export: alter"),
    ],
)
def test_a_service_user_of_another_kind_is_caught(statements: list[Statement], objection: str) -> None:
    assert any(objection in problem for problem in wrong_service_users(statements))


def test_on_standard_edition_nothing_is_masked_and_readers_reach_no_table_with_personal_data() -> None:
    assert [statement.first_line for statement in STANDARD_SETUP if "masking policy" in text_of(statement)] == []
    given: dict[str, set[str]] = {role: set() for role in PRIVILEGES_ON_STANDARD}
    for grant in grants(STANDARD_SETUP):
        if grant.privilege != "role":
            given[grant.to.removeprefix("role ")].add(f"{grant.privilege} on {grant.on}")
    assert given == PRIVILEGES_ON_STANDARD
    assert unspecified_holders(STANDARD_SETUP, HOLDERS_ON_STANDARD) == []
    assert [statement.first_line for statement in STANDARD_SETUP if SERVICE in text_of(statement)] == []


def test_on_standard_edition_there_is_a_schema_for_what_readers_read() -> None:
    made = "create schema if not exists customer_360.marts_read with managed access"
    assert made in map(text_of, STANDARD_SETUP)
    assert made not in map(text_of, SETUP)


def unspecified_for_screens(statements: Sequence[Statement]) -> list[str]:
    given: dict[str, set[str]] = {role: set() for role in PRIVILEGES_FOR_SCREENS}
    for grant in grants(statements):
        if grant.privilege != "role":
            given.setdefault(grant.to.removeprefix("role "), set()).add(f"{grant.privilege} on {grant.on}")
    return [
        f"{role}: {privilege}"
        for role in given
        for privilege in sorted(given[role] ^ PRIVILEGES_FOR_SCREENS.get(role, set()))
    ]


def rights_of_the_screens_owner(statements: Sequence[Statement]) -> list[str]:
    """What everybody who may open the app would see, did it run with its owner's rights."""
    return [
        f"{grant.privilege} on {grant.on}"
        for grant in grants(statements)
        if grant.to == f"role {SCREENS}"
        and "caller" not in grant.privilege.split()
        and grant.privilege not in ("usage", "create streamlit")
    ]


CHECKS_OF_SCREENS = (
    unspecified_for_screens,
    rights_of_the_screens_owner,
    too_broad_grants,
    grants_to_public,
    not_repeatable,
    too_mighty_roles,
    unlike_the_style,
)


@pytest.mark.parametrize("check", CHECKS_OF_SCREENS, ids=lambda check: check.__name__)
def test_what_the_screens_need_holds(check: Callable[[Sequence[Statement]], list[str]]) -> None:
    assert FOR_SCREENS
    assert check(FOR_SCREENS) == []


def for_screens(planted_sql: str) -> list[Statement]:
    return [*FOR_SCREENS, *split_statements(SCREENS_SQL, planted_sql)]


@pytest.mark.parametrize(
    ("check", "statements", "objection"),
    [
        (
            rights_of_the_screens_owner,
            for_screens(f"grant select on all tables in schema customer_360.marts to role {SCREENS};"),
            "select on all tables in schema customer_360.marts",
        ),
        (
            unspecified_for_screens,
            for_screens(
                f"grant all inherited caller privileges on all tables in schema customer_360.raw to role {SCREENS};"
            ),
            f"{SCREENS}: all inherited caller privileges on all tables in schema customer_360.raw",
        ),
        (
            unspecified_for_screens,
            for_screens(f"grant select on table customer_360.ops.screens_log to role {READER};"),
            f"{READER}: select on table customer_360.ops.screens_log",
        ),
        (
            too_mighty_roles,
            for_screens(f"use role sysadmin; grant caller select on table customer_360.marts.m to role {SCREENS};"),
            "as sysadmin: grant caller select",
        ),
    ],
)
def test_a_violation_for_the_screens_is_caught(
    check: Callable[[Sequence[Statement]], list[str]], statements: list[Statement], objection: str
) -> None:
    assert any(objection in problem for problem in check(statements))


def test_the_app_may_do_on_behalf_of_its_viewer_what_its_statements_do() -> None:
    written = [sqlglot.parse_one(asked(name), read="snowflake") for name in STATEMENTS]
    tables = {
        (type(statement) is exp.Insert, table.db, table.name if table.db == "ops" else "")
        for statement in written
        for table in statement.find_all(exp.Table)
        # Without a schema it is one of the statement's own.
        if table.db
    }
    assert tables == {(False, "marts", ""), (True, "ops", "screens_log")}


def test_on_standard_edition_nothing_is_made_for_the_screens() -> None:
    made = read_statements(edition="standard", folder=AFTER_PUBLICATION)
    assert [statement.place for statement in made if statement.file == SCREENS_SQL] == []


def test_no_credential_stands_in_the_files() -> None:
    assert not [
        file.name for file in SETUP_SQL.glob("*.sql") if re.search("password =|rsa_public_key", file.read_text())
    ]


class FakeSnowflake:
    """Stands for a connection and its cursor: keeps what it is told to run, and fails where a test says so."""

    def __init__(self) -> None:
        self.arguments: dict[str, object] = {}
        self.ran: list[str] = []
        self.fails_at = ""
        self.edition = "ENTERPRISE"
        self.closed = False

    def connect(self, **arguments: object) -> FakeSnowflake:
        self.arguments = arguments
        return self

    def cursor(self) -> FakeSnowflake:
        return self

    def execute(self, sql: str) -> None:
        if self.fails_at and self.fails_at in sql:
            raise ProgrammingError("Insufficient privileges to operate on account", errno=3001)
        self.ran.append(sql)

    @property
    def description(self) -> list[tuple[str]]:
        # As the documentation of `show accounts` begins.
        return [("organization_name",), ("account_name",), ("snowflake_region",), ("edition",)]

    def fetchall(self) -> list[tuple[str, ...]]:
        if self.ran[-1] == "show accounts":
            return [
                ("MYORG", "ANOTHER", "AWS_EU_CENTRAL_1", "BUSINESS_CRITICAL"),
                ("MYORG", "MYACCOUNT", "AWS_EU_CENTRAL_1", self.edition),
            ]
        if self.ran[-1] == "select current_account_name()":
            return [("MYACCOUNT",)]
        return [("Statement executed successfully.",)]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def fake_snowflake(monkeypatch: pytest.MonkeyPatch) -> FakeSnowflake:
    """Neither this machine's settings nor a network: what the command connects to is this."""
    monkeypatch.setitem(SnowflakeLogin.model_config, "env_file", None)
    for name in (*(f"SNOWFLAKE_{field.upper()}" for field in SnowflakeLogin.model_fields), "DRY_RUN", "DEPLOYMENT"):
        monkeypatch.delenv(name, raising=False)
    fake = FakeSnowflake()
    monkeypatch.setattr(snowflake.connector, "connect", fake.connect)
    return fake


@pytest.fixture
def key_login(monkeypatch: pytest.MonkeyPatch, fake_snowflake: FakeSnowflake, tmp_path: Path) -> Path:
    """A complete login by key pair; the path of its key."""
    key = tmp_path / "admin.p8"
    key.write_text("the content of a key")
    monkeypatch.setenv("SNOWFLAKE_ACCOUNT", "myorg-myaccount")
    monkeypatch.setenv("SNOWFLAKE_USER", "an_admin")
    monkeypatch.setenv("SNOWFLAKE_PRIVATE_KEY_PATH", str(key))
    monkeypatch.setenv("SNOWFLAKE_PRIVATE_KEY_PASSPHRASE", SECRET)
    monkeypatch.setenv("SNOWFLAKE_EDITION", "enterprise")
    return key


ASKED = ["select current_account_name()", "use role orgadmin", "show accounts"]


@pytest.mark.parametrize(
    ("edition", "set_up_as"),
    [("STANDARD", STANDARD_SETUP), ("ENTERPRISE", SETUP), ("BUSINESS_CRITICAL", SETUP)],
)
def test_an_edition_that_is_not_told_is_asked_for_first_and_said_in_a_line(
    edition: str,
    set_up_as: list[Statement],
    key_login: Path,
    fake_snowflake: FakeSnowflake,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("SNOWFLAKE_EDITION")
    fake_snowflake.edition = edition
    assert set_up.main() == 0
    assert fake_snowflake.ran == [*ASKED, *(statement.sql for statement in set_up_as)]
    means = "standard" if edition == "STANDARD" else "enterprise"
    assert f"\nEdition {means} (as the account says): " in capsys.readouterr().out


def test_a_told_edition_is_not_asked_for(
    key_login: Path, fake_snowflake: FakeSnowflake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNOWFLAKE_EDITION", "Standard")
    assert set_up.main() == 0
    assert fake_snowflake.ran == [statement.sql for statement in STANDARD_SETUP]
    assert (
        "Edition standard (SNOWFLAKE_EDITION): there are no masking policies: readers read secure views without "
        "personal data, in schema marts_read.\n"
    ) in capsys.readouterr().out


def test_an_account_that_does_not_tell_its_edition_is_set_up_no_further(
    key_login: Path, fake_snowflake: FakeSnowflake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SNOWFLAKE_EDITION")
    fake_snowflake.fails_at = "orgadmin"
    assert set_up.main() == 1
    assert fake_snowflake.ran == ASKED[:1]
    assert "Set SNOWFLAKE_EDITION to standard or enterprise" in capsys.readouterr().err


def test_an_unknown_edition_is_refused_before_anything_runs(
    key_login: Path, fake_snowflake: FakeSnowflake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNOWFLAKE_EDITION", "premium")
    assert set_up.main() == 1
    assert "SNOWFLAKE_EDITION is 'premium', which is no edition of Snowflake" in capsys.readouterr().err
    assert fake_snowflake.arguments == {}


@pytest.mark.parametrize("edition", ["enterprise", "standard"])
def test_a_dry_run_can_be_pasted_into_a_worksheet(
    edition: str, fake_snowflake: FakeSnowflake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRY_RUN", "1")
    monkeypatch.setenv("SNOWFLAKE_EDITION", edition)
    assert set_up.main() == 0
    printed = capsys.readouterr().out
    assert "{" not in printed
    # A worksheet splits at semicolons: what is split off is what a run executes, each with its semicolon.
    split = [" ".join(re.sub(r"(?m)^--.*$", "", part).split()) for part in sqlparse.split(printed)]
    expected = [" ".join(statement.sql.split()) + ";" for statement in read_statements(edition=edition)]
    assert split == expected
    assert [line for line in printed.splitlines() if line and "--" in line and not line.startswith("-- ")] == []


def test_a_dry_run_prints_every_statement_in_the_order_of_the_files_each_with_its_place(
    fake_snowflake: FakeSnowflake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRY_RUN", "1")
    assert set_up.main() == 0
    edition, script = capsys.readouterr().out.split("\n\n", 1)
    assert edition == ("-- Edition enterprise (unless it is set): a masking policy keeps personal data from readers.")
    assert script == as_script(SETUP) + "\n"
    places = re.findall(r"^-- (\S+), statement (\d+) of (\d+)$", script, flags=re.MULTILINE)
    files = sorted(file.name for file in SETUP_SQL.glob("*.sql"))
    counts = {file: sum(place[0] == file for place in places) for file in files}
    assert places == [(file, str(number), str(counts[file])) for file in files for number in range(1, counts[file] + 1)]


def test_a_dry_run_connects_to_nothing_even_with_a_login(
    fake_snowflake: FakeSnowflake, key_login: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRY_RUN", "1")
    assert set_up.main() == 0
    assert (fake_snowflake.arguments, fake_snowflake.ran) == ({}, [])


def test_another_deployment_has_the_same_statements_under_its_own_name(
    fake_snowflake: FakeSnowflake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRY_RUN", "1")
    monkeypatch.setenv("DEPLOYMENT", "card_staging")
    assert set_up.main() == 0
    script = capsys.readouterr().out
    # What is called customer_360 on every deployment: a mart, and a Dag in a comment.
    everywhere = ("marts.customer_360_profile", "customer_360_refresh")
    for name in everywhere:
        assert name in script
        script = script.replace(name, "")
    assert "customer_360" not in script.lower()
    renamed = as_script(SETUP)
    for name in everywhere:
        renamed = renamed.replace(name, "")
    assert script.split("\n\n", 1)[1].strip() == renamed.replace("customer_360", "card_staging").replace(
        "CUSTOMER_360", "CARD_STAGING"
    )


@pytest.mark.parametrize("name", ["Staging", "customer-360", "360", "a b", "x;drop database y", "staging.raw", "_x"])
def test_a_deployment_that_is_no_identifier_is_refused_before_anything_runs(
    name: str,
    key_login: Path,
    fake_snowflake: FakeSnowflake,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DEPLOYMENT", name)
    assert set_up.main() == 1
    assert f"DEPLOYMENT={name!r} cannot be used: it becomes the name of the database" in capsys.readouterr().err
    assert (fake_snowflake.arguments, fake_snowflake.ran) == ({}, [])


def test_a_name_that_no_template_may_use_is_refused() -> None:
    with pytest.raises(UndefinedError, match="'deploymnet' is undefined"):
        split_statements("99_planted.sql", "create schema if not exists {{ deploymnet }}.raw;")


def test_missing_variables_are_named_all_at_once_before_anything_runs(
    fake_snowflake: FakeSnowflake, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set_up.main() == 1
    assert capsys.readouterr().err.startswith(
        "Not set: SNOWFLAKE_ACCOUNT, SNOWFLAKE_USER, SNOWFLAKE_PRIVATE_KEY_PATH "
        "(or SNOWFLAKE_AUTHENTICATOR=externalbrowser). "
    )
    assert fake_snowflake.arguments == {}


def test_a_key_that_is_not_there_is_named(
    key_login: Path, fake_snowflake: FakeSnowflake, capsys: pytest.CaptureFixture[str]
) -> None:
    key_login.unlink()
    assert set_up.main() == 1
    assert f"SNOWFLAKE_PRIVATE_KEY_PATH={key_login}: no such file." in capsys.readouterr().err
    assert fake_snowflake.arguments == {}


def test_an_unknown_authenticator_is_refused(
    key_login: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNOWFLAKE_AUTHENTICATOR", "oauth")
    assert set_up.main() == 1
    assert "SNOWFLAKE_AUTHENTICATOR='oauth' cannot be used: set it to externalbrowser" in capsys.readouterr().err


def test_a_key_pair_logs_in_with_its_passphrase(key_login: Path, fake_snowflake: FakeSnowflake) -> None:
    assert set_up.main() == 0
    assert fake_snowflake.arguments == {
        "account": "myorg-myaccount",
        "user": "an_admin",
        "login_timeout": 120,
        "private_key_file": str(key_login),
        "private_key_file_pwd": SECRET,
    }


def test_a_browser_login_needs_no_key(
    key_login: Path, fake_snowflake: FakeSnowflake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SNOWFLAKE_PRIVATE_KEY_PATH")
    monkeypatch.setenv("SNOWFLAKE_AUTHENTICATOR", "externalbrowser")
    assert set_up.main() == 0
    assert fake_snowflake.arguments == {
        "account": "myorg-myaccount",
        "user": "an_admin",
        "login_timeout": 120,
        "authenticator": "externalbrowser",
    }


def test_every_statement_is_run_and_reported_with_its_result(
    key_login: Path, fake_snowflake: FakeSnowflake, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set_up.main() == 0
    assert fake_snowflake.ran == [statement.sql for statement in SETUP]
    assert fake_snowflake.closed
    assert (
        "02_warehouses.sql, statement 2 of 5: create warehouse if not exists customer_360_transform with\n"
        "    Statement executed successfully.\n"
    ) in capsys.readouterr().out


def test_a_failing_statement_stops_the_set_up_and_says_where_why_and_what_to_do(
    key_login: Path, fake_snowflake: FakeSnowflake, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_snowflake.fails_at = "create resource monitor"
    assert set_up.main() == 1
    error = capsys.readouterr().err
    assert error.startswith("03_resource_monitor.sql, statement 2 of 7, failed:\ncreate resource monitor if not exists")
    assert "Insufficient privileges to operate on account" in error
    assert "It ran as role accountadmin." in error
    assert "run `make snowflake-setup` again" in error
    assert fake_snowflake.ran[-1] == "use role accountadmin"
    assert fake_snowflake.closed


@pytest.mark.parametrize(
    "refusal", [DatabaseError("JWT token is invalid."), ValueError("Incorrect password, could not decrypt key")]
)
def test_a_refused_login_names_account_and_user(
    refusal: Exception, key_login: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**_: object) -> None:
        raise refusal

    monkeypatch.setattr(snowflake.connector, "connect", refuse)
    assert set_up.main() == 1
    error = capsys.readouterr().err
    assert error.startswith("Snowflake account myorg-myaccount cannot be connected to as an_admin: ")
    assert str(refusal) in error


@pytest.mark.parametrize("fails_at", ["", "create database"])
def test_no_secret_is_printed(
    fails_at: str, key_login: Path, fake_snowflake: FakeSnowflake, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_snowflake.fails_at = fails_at
    set_up.main()
    printed = "".join(capsys.readouterr())
    assert SECRET not in printed
    assert "the content of a key" not in printed
    assert SECRET not in repr(SnowflakeLogin())


def test_make_help_lists_the_command() -> None:
    listed = subprocess.run(["make", "--silent", "help"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert "  make snowflake-setup  Set up Snowflake" in listed.stdout
