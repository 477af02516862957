"""What the doctor finds on an account, by check: recorded answers, and the emulator where it can answer.

The answers have the columns that Snowflake documents. A statement is answered by its text, `as <role>: ` before it when
only that role is told; what a test did not record is done without an answer.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import snowflake.connector
from snowflake.connector.errors import ProgrammingError

from deploy.snowflake import checks, doctor, explain, probes, session, statements
from deploy.snowflake.session import Finding, NotAnswered, Session
from deploy.snowflake.set_up import SnowflakeLogin
from include.customer_360.catalog import MANIFEST, PROFILE
from include.customer_360.settings import PROJECT_ROOT
from tests.snowflake.account import EmulatedAccount, SnowflakeAccount
from tests.snowflake.blocks import changes_of

SECRET = "a passphrase that nobody may see"
SUFFIX = "ab12cd34"
SCRATCH = f"customer_360.doctor_{SUFFIX}"
TRANSFORMER, READER, EXPORTER = (f"customer_360_{role}" for role in ("transformer", "reader", "exporter"))

Answer = list[dict[str, Any]] | Exception


def refused(said: str) -> ProgrammingError:
    return ProgrammingError(f"SQL access control error:\n{said}", errno=3001, sqlstate="42501")


def not_held(role: str) -> ProgrammingError:
    said = f"Requested role '{role.upper()}' is not assigned to the executing user. Specify another role to activate."
    return ProgrammingError(said, errno=390189)


def said_of(error: ProgrammingError) -> str:
    return " ".join(str(error.raw_msg).split())


def what_it_ran(role: str, sql: str) -> str:
    return (
        f"It ran as {role}: {sql} - see that `make snowflake-setup` has run for customer_360, and that nothing was "
        "changed by hand since."
    )


class Recorded:
    """Stands for a connection: answers as recorded, and keeps what it was asked."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self.answers = dict(answers)
        self.asked: list[str] = []
        self.role = ""
        self.closed = False
        self.interrupts_at = ""

    def cursor(self) -> RecordedCursor:
        return RecordedCursor(self)

    def answer(self, sql: str) -> Answer:
        sql = " ".join(sql.split())
        self.asked.append(sql)
        if self.interrupts_at and self.interrupts_at in sql:
            raise KeyboardInterrupt
        if sql.startswith("use role "):
            self.role = sql.removeprefix("use role ")
        return self.answers.get(f"as {self.role}: {sql}", self.answers.get(sql, []))

    def close(self) -> None:
        self.closed = True


class RecordedCursor:
    def __init__(self, account: Recorded) -> None:
        self.account = account
        self.rows: list[dict[str, Any]] = []

    def execute(self, sql: str) -> None:
        answer = self.account.answer(sql)
        if isinstance(answer, Exception):
            raise answer
        self.rows = answer

    @property
    def description(self) -> list[tuple[str]]:
        return [(column,) for column in (self.rows[0] if self.rows else ["status"])]

    def fetchall(self) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in self.rows]

    def close(self) -> None:
        pass


# What Snowflake answers, with the columns that the checks read and some of the others


def parameter(key: str, value: str, level: str = "") -> dict[str, Any]:
    return {"key": key, "value": value, "default": "", "level": level, "description": "", "type": "STRING"}


def grant(privilege: str, role: str) -> dict[str, Any]:
    return {
        "created_on": "2026-03-31 03:00:00",
        "privilege": privilege,
        "granted_on": "TABLE",
        "name": "CUSTOMER_360.A.B",
        "granted_to": "ROLE",
        "grantee_name": role.upper(),
        "grant_option": "false",
        "granted_by": TRANSFORMER.upper(),
    }


def warehouse(name: str, size: str = "Small", auto_suspend: int = 60, monitor: str = "CUSTOMER_360_MONTHLY") -> Answer:
    return [
        {
            "name": name.upper(),
            "state": "SUSPENDED",
            "type": "STANDARD",
            "size": size,
            "auto_suspend": auto_suspend,
            "auto_resume": "true",
            "resource_monitor": monitor,
        }
    ]


def monitor(name: str = "CUSTOMER_360_MONTHLY", quota: object = "100.00") -> dict[str, Any]:
    return {"name": name, "credit_quota": quota, "used_credits": "1.50", "level": "WAREHOUSE", "frequency": "MONTHLY"}


def user_property(name: str, value: str) -> dict[str, Any]:
    return {"property": name, "value": value, "default": "null", "description": ""}


def table(schema: str, name: str) -> dict[str, Any]:
    return {"created_on": "", "name": name.upper(), "database_name": "CUSTOMER_360", "schema_name": schema.upper()}


def plan(total: int, assigned: int) -> Answer:
    statistics = {"partitionsTotal": total, "partitionsAssigned": assigned, "bytesAssigned": 4096}
    return [{"content": json.dumps({"GlobalStats": statistics, "Operations": []})}]


# The columns that the yml of the profile calls personal data, in its order.
PERSON = {"full_name": "Ada Lovelace", "first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}
MASKED = dict.fromkeys(PERSON, "*****") | {"last_name": None}
PROFILES = f"select full_name, first_name, last_name, email from customer_360.marts.{PROFILE} "
PROFILES += "where email is not null order by customer_id limit 1"
PUBLISHED = f"show tables like '{PROFILE}' in schema customer_360.marts"
LOADED = "show tables like 'fct_transactions' in schema customer_360.core"
LATEST = "select to_char(max(transaction_date), 'YYYY-MM-DD') as latest from customer_360.core.fct_transactions"
PLAN = (
    "explain using json select transaction_id from customer_360.core.fct_transactions "
    "where transaction_date >= cast('2026-03-01' as date)"
)
MART_GRANTS = f"show grants on table {SCRATCH}_marts.{PROFILE}"
TABLE_GRANTS = f"show grants on table {SCRATCH}_managed.not_to_be_granted"
GRANTED = f"grant select on table {SCRATCH}_managed.not_to_be_granted to role {EXPORTER}"
POLICY = f"create masking policy {SCRATCH}.mask as (value string) returns string -> '*****'"
DROP_RUN = f"drop schema if exists {SCRATCH}_run cascade"
CHANGES = (
    f"delete from {SCRATCH}.loaded where amount = 1; "
    f"insert into {SCRATCH}.loaded select cast(note as integer), note from {SCRATCH}.loaded"
)
BLOCK = (
    f"execute immediate $$ begin begin transaction; {CHANGES}; commit; exception when other then rollback; raise; "
    "end; $$"
)
KEPT = f"select count(*) as kept, current_transaction() as still_open from {SCRATCH}.loaded"
NO_NUMBER = ProgrammingError("Numeric value 'no number' is not recognized", errno=100038, sqlstate="22018")
TIMEOUT = "show parameters like 'statement_timeout_in_seconds' in warehouse customer_360"
SET_SESSION = (
    "alter session set TIMEZONE = 'UTC', TIMESTAMP_TYPE_MAPPING = 'TIMESTAMP_NTZ', DATE_INPUT_FORMAT = 'YYYY-MM-DD', "
    "DATE_OUTPUT_FORMAT = 'YYYY-MM-DD', TIMESTAMP_INPUT_FORMAT = 'AUTO', "
    "TIMESTAMP_NTZ_OUTPUT_FORMAT = 'YYYY-MM-DD HH24:MI:SS.FF6', WEEK_START = 1, WEEK_OF_YEAR_POLICY = 0, "
    "AUTOCOMMIT = true, QUOTED_IDENTIFIERS_IGNORE_CASE = false"
)
SESSION = {
    "AUTOCOMMIT": "true",
    "DATE_INPUT_FORMAT": "YYYY-MM-DD",
    "DATE_OUTPUT_FORMAT": "YYYY-MM-DD",
    "QUOTED_IDENTIFIERS_IGNORE_CASE": "false",
    "STATEMENT_TIMEOUT_IN_SECONDS": "172800",
    "TIMESTAMP_INPUT_FORMAT": "AUTO",
    "TIMESTAMP_NTZ_OUTPUT_FORMAT": "YYYY-MM-DD HH24:MI:SS.FF6",
    "TIMESTAMP_TYPE_MAPPING": "TIMESTAMP_NTZ",
    "TIMEZONE": "UTC",
    "WEEK_OF_YEAR_POLICY": "0",
    "WEEK_START": "1",
}


def parameters(**changed: tuple[str, str]) -> list[dict[str, Any]]:
    """The parameters of a session or a user; of those that are changed value and level."""
    return [parameter(name, *changed.get(name, (value, ""))) for name, value in SESSION.items()]


HEALTHY: dict[str, Answer] = {
    "describe masking policy customer_360.ops.mask_personal_data": [{"name": "MASK_PERSONAL_DATA", "body": "case ..."}],
    "show parameters for user": parameters(),
    "show parameters in session": parameters(),
    "describe user customer_360_airflow": [user_property("DEFAULT_SECONDARY_ROLES", "[]")],
    "describe user customer_360_export": [user_property("DEFAULT_SECONDARY_ROLES", "[]")],
    MART_GRANTS: [grant("OWNERSHIP", TRANSFORMER), grant("SELECT", READER)],
    GRANTED: refused("Insufficient privileges."),
    TABLE_GRANTS: [grant("OWNERSHIP", TRANSFORMER)],
    PUBLISHED: [table("marts", PROFILE)],
    f"as {READER}: {PROFILES}": [MASKED],
    f"as {EXPORTER}: {PROFILES}": [PERSON],
    BLOCK: NO_NUMBER,
    KEPT: [{"KEPT": 2, "STILL_OPEN": None}],
    "show warehouses like 'customer_360_transform'": warehouse("customer_360_transform"),
    "show warehouses like 'customer_360_read'": warehouse("customer_360_read", monitor="CUSTOMER_360_READ_MONTHLY"),
    f"{TIMEOUT}_transform": [parameter("STATEMENT_TIMEOUT_IN_SECONDS", "3600", "WAREHOUSE")],
    f"{TIMEOUT}_read": [parameter("STATEMENT_TIMEOUT_IN_SECONDS", "600", "WAREHOUSE")],
    "as sysadmin: show resource monitors like 'customer_360_monthly'": [monitor()],
    "as sysadmin: show resource monitors like 'customer_360_read_monthly'": [monitor("CUSTOMER_360_READ_MONTHLY")],
    LOADED: [table("core", "fct_transactions")],
    LATEST: [{"LATEST": "2026-03-30"}],
    PLAN: plan(total=400, assigned=2),
}


@pytest.fixture(autouse=True)
def one_suffix(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "emulated" not in request.fixturenames:
        monkeypatch.setattr(session.secrets, "token_hex", lambda _: SUFFIX)


def ask(
    check: Callable[..., Iterator[Finding]], *arguments: object, answers: Mapping[str, Answer] = HEALTHY, **more: Answer
) -> list[Finding]:
    """Return what a check finds on an account with these answers."""
    return list(check(Session(Recorded({**answers, **more}), "customer_360", "an_admin"), *arguments))


def with_answers(changes: Mapping[str, Answer]) -> dict[str, Answer]:
    return {**HEALTHY, **changes}


# Edition


@pytest.mark.parametrize(
    ("told", "answer", "finding"),
    [
        (
            "enterprise",
            [],
            Finding("edition", "masking policies can be made", "SNOWFLAKE_EDITION=enterprise", True),
        ),
        (
            "standard",
            [],
            Finding(
                "edition",
                "masking policies can be made",
                "SNOWFLAKE_EDITION=standard",
                True,
                "SNOWFLAKE_EDITION=enterprise would mask columns for every role.",
            ),
        ),
        (
            "standard",
            ProgrammingError("Unsupported feature 'CREATE MASKING POLICY'.", errno=2, sqlstate="0A000"),
            Finding("edition", "Unsupported feature 'CREATE MASKING POLICY'.", "SNOWFLAKE_EDITION=standard", True),
        ),
        (
            "enterprise",
            ProgrammingError("Unsupported feature 'CREATE MASKING POLICY'.", errno=2, sqlstate="0A000"),
            Finding(
                "edition",
                "Unsupported feature 'CREATE MASKING POLICY'.",
                "SNOWFLAKE_EDITION=enterprise",
                False,
                "Set SNOWFLAKE_EDITION=standard, then run `make snowflake-setup`.",
            ),
        ),
    ],
)
def test_the_edition_is_told_by_a_policy(told: str, answer: Answer, finding: Finding) -> None:
    assert ask(checks.edition, told, answers=with_answers({POLICY: answer})) == [finding]


def test_a_policy_that_is_refused_for_another_reason_tells_no_edition() -> None:
    with pytest.raises(NotAnswered, match="Insufficient privileges to operate on schema"):
        ask(checks.edition, "enterprise", answers={POLICY: refused("Insufficient privileges to operate on schema")})


def test_the_policy_of_the_set_up_is_there() -> None:
    assert ask(checks.protection, "enterprise") == [
        Finding("masking policy", "ops.mask_personal_data", "ops.mask_personal_data", True)
    ]


def test_a_policy_that_is_not_there_is_a_row_with_what_snowflake_said() -> None:
    described = "describe masking policy customer_360.ops.mask_personal_data"
    missing = refused("Masking policy 'CUSTOMER_360.OPS.MASK_PERSONAL_DATA' does not exist or not authorized.")
    check = doctor.Check("masking policy", lambda asked: checks.protection(asked, "enterprise"))
    asked = Session(Recorded({described: missing}), "customer_360", "an_admin")
    assert list(doctor.findings_of(check, asked)) == [
        Finding("masking policy", said_of(missing), "an answer", False, what_it_ran(TRANSFORMER, described))
    ]


@pytest.mark.parametrize(
    ("views", "finding"),
    [
        (
            [{"name": "CUSTOMER_360_PROFILE", "is_secure": "true"}],
            Finding("views of the readers", "1 secure views", "secure views", True),
        ),
        (
            [{"name": "CUSTOMER_360_PROFILE", "is_secure": "false"}],
            Finding(
                "views of the readers",
                "not secure: customer_360_profile",
                "secure views",
                False,
                "Clear task publish, which makes them anew.",
            ),
        ),
        (
            [],
            Finding(
                "views of the readers", "no view for readers yet", "secure views", None, "Run customer_360_refresh."
            ),
        ),
    ],
)
def test_on_standard_readers_have_secure_views(views: Answer, finding: Finding) -> None:
    answers = {f"as {READER}: show views in schema customer_360.marts_read": views}
    assert ask(checks.protection, "standard", answers=answers) == [finding]


# Parameters and users


def test_a_session_has_what_the_project_sets_it_to() -> None:
    assert ask(checks.session_parameters) == [
        Finding("session parameters", "10 of 10 as wanted", "var snowflake_session", True),
        Finding("parameters of the user", "the same", "any: a session sets its own", True),
        Finding("statement timeout of a session", "172800 s", "0 or at least 3600 s", True),
    ]


def test_they_are_set_in_one_statement_before_they_are_looked_at() -> None:
    account = Recorded(HEALTHY)
    list(checks.session_parameters(Session(account, "customer_360", "an_admin")))
    assert account.asked[-3:] == ["show parameters for user", SET_SESSION, "show parameters in session"]


def test_a_parameter_that_cannot_be_set_is_named() -> None:
    stays = parameters(WEEK_START=("0", "ACCOUNT"))
    assert ask(checks.session_parameters, answers=with_answers({"show parameters in session": stays}))[0] == (
        Finding(
            "session parameters",
            "WEEK_START=0 (wanted 1)",
            "var snowflake_session",
            False,
            "See that the account lets a session set them; nothing may be built before.",
        )
    )


def test_other_values_of_the_account_are_information() -> None:
    own = parameters(
        TIMEZONE=("America/Los_Angeles", ""),
        WEEK_START=("0", "ACCOUNT"),
        TIMESTAMP_NTZ_OUTPUT_FORMAT=("YYYY-MM-DD HH24:MI:SS.FF3", "USER"),
    )
    assert ask(checks.session_parameters, answers=with_answers({"show parameters for user": own}))[1] == (
        Finding(
            "parameters of the user",
            "TIMEZONE=America/Los_Angeles (default), TIMESTAMP_NTZ_OUTPUT_FORMAT=YYYY-MM-DD HH24:MI:SS.FF3 (user), "
            "WEEK_START=0 (account)",
            "any: a session sets its own",
            True,
        )
    )


def test_a_timeout_that_would_stop_a_build_fails() -> None:
    short = parameters(STATEMENT_TIMEOUT_IN_SECONDS=("300", "ACCOUNT"))
    assert ask(checks.session_parameters, answers=with_answers({"show parameters in session": short}))[2] == (
        Finding(
            "statement timeout of a session",
            "300 s",
            "0 or at least 3600 s",
            False,
            "Raise STATEMENT_TIMEOUT_IN_SECONDS of the account or the user: a build would be stopped.",
        )
    )


EXPORT_USER = Finding("secondary roles of customer_360_export", "[]", "[] by default", True)


@pytest.mark.parametrize("edition", ["enterprise", "standard"])
@pytest.mark.parametrize("value", ["[]", "()"])
def test_the_service_users_have_no_secondary_roles(value: str, edition: str) -> None:
    answers = with_answers({"describe user customer_360_airflow": [user_property("DEFAULT_SECONDARY_ROLES", value)]})
    assert ask(checks.service_users, edition, answers=answers) == [
        Finding("secondary roles of customer_360_airflow", value, "[] by default", True),
        EXPORT_USER,
    ]


def test_secondary_roles_of_a_service_user_fail() -> None:
    answers = with_answers(
        {"describe user customer_360_airflow": [user_property("DEFAULT_SECONDARY_ROLES", '["ALL"]')]}
    )
    assert ask(checks.service_users, "enterprise", answers=answers) == [
        Finding(
            "secondary roles of customer_360_airflow",
            '["ALL"]',
            "[] by default",
            False,
            "Run `make snowflake-setup`.",
        ),
        EXPORT_USER,
    ]


def test_a_user_that_no_role_may_describe_is_a_row_that_says_which_role_to_grant() -> None:
    answers = with_answers(
        {
            "describe user customer_360_airflow": refused("User does not exist or not authorized."),
            "use role useradmin": not_held("useradmin"),
        }
    )
    assert ask(checks.service_users, "enterprise", answers=answers) == [
        Finding(
            "secondary roles of customer_360_airflow",
            said_of(not_held("useradmin")),
            "[] by default",
            False,
            "As accountadmin: grant role useradmin to user an_admin;",
        ),
        EXPORT_USER,
    ]


def test_an_administrator_of_users_is_asked_without_a_warehouse() -> None:
    account = Recorded(
        with_answers(
            {f"as {TRANSFORMER}: describe user customer_360_export": refused("User does not exist or not authorized.")}
        )
    )
    found = checks.service_users(Session(account, "customer_360", "an_admin"), "enterprise")
    assert [finding.passed for finding in found] == [True, True]
    assert account.asked[-3:] == [
        "use role useradmin",
        "use secondary roles none",
        "describe user customer_360_export",
    ]


# Publication, grants, policies, transactions

KEEPS_GRANTS = [
    Finding("grants after the first publication", f"select for {READER}", f"select for {READER}", True),
    Finding("grants after the second publication", f"select for {READER}", f"select for {READER}", True),
    Finding("grants of a clone without copying", f"select for {READER}", f"select for {READER}", True),
]
CLONE = f"create or replace transient table {SCRATCH}_marts.{PROFILE} clone {SCRATCH}.{PROFILE}"
GRANTS_LOST = (
    "A publication fails: it takes a mart from its readers. `make snowflake-setup` grants on what exists; have "
    "include/sql/publish/snowflake.sql changed."
)


def test_a_publication_keeps_grants() -> None:
    assert ask(probes.publication, "enterprise") == KEEPS_GRANTS


def test_the_probe_publishes_as_the_template_does_in_a_schema_like_marts() -> None:
    account = Recorded(HEALTHY)
    list(probes.publication(Session(account, "customer_360", "an_admin"), "enterprise"))
    marts, mart, built = f"{SCRATCH}_marts", f"{SCRATCH}_marts.{PROFILE}", f"{SCRATCH}.{PROFILE}"
    publish = [
        f"create transient table if not exists {mart} like {built}",
        f"create or replace transient table {mart} clone {built} copy grants",
        f"show grants on table {mart}",
    ]
    ask_as = {
        role: [f"use role {role}", "use secondary roles none", "use warehouse customer_360_transform"]
        for role in ("sysadmin", TRANSFORMER)
    }
    assert account.asked == [
        *ask_as["sysadmin"],
        f"create schema {marts} with managed access",
        f"grant usage, create table on schema {marts} to role {TRANSFORMER}",
        f"grant select on future tables in schema {marts} to role {READER}",
        *ask_as[TRANSFORMER],
        f"create schema {SCRATCH} with managed access",
        f"create transient table {built} (customer_id varchar, first_name varchar)",
        *publish,
        *publish,
        f"create or replace transient table {mart} clone {built}",
        f"show grants on table {mart}",
    ]


class KeepsGrants(Recorded):
    """A schema like marts where grants are kept by the clones with these endings only."""

    def __init__(self, *endings: str) -> None:
        super().__init__(HEALTHY)
        self.endings = endings

    def answer(self, sql: str) -> Answer:
        given = super().answer(sql)
        clones = [asked for asked in self.asked if f" clone {SCRATCH}." in asked]
        if sql == MART_GRANTS and not clones[-1].endswith(self.endings):
            return [grant("OWNERSHIP", TRANSFORMER)]
        return given


def test_what_copying_grants_loses_a_second_clone_restores() -> None:
    account = KeepsGrants(f" clone {SCRATCH}.{PROFILE}")
    restored = f"select for nobody; cloned again without copying: select for {READER}"
    remark = "Every publication clones twice; readers miss a mart for a moment."
    assert list(probes.publication(Session(account, "customer_360", "an_admin"), "enterprise")) == [
        Finding("grants after the first publication", restored, f"select for {READER}", True, remark),
        Finding("grants after the second publication", restored, f"select for {READER}", True, remark),
        KEEPS_GRANTS[2],
    ]
    assert account.asked.count(CLONE) == 3


def test_a_clone_that_future_grants_do_not_reach_fails() -> None:
    """A publication would then have no repair, though it needs none yet."""
    account = KeepsGrants(" copy grants")
    assert list(probes.publication(Session(account, "customer_360", "an_admin"), "enterprise")) == [
        *KEEPS_GRANTS[:2],
        Finding("grants of a clone without copying", "select for nobody", f"select for {READER}", False, GRANTS_LOST),
    ]


def test_a_publication_that_loses_grants_for_good_fails() -> None:
    found = ask(
        probes.publication, "enterprise", answers=with_answers({MART_GRANTS: [grant("OWNERSHIP", TRANSFORMER)]})
    )
    assert found[0] == Finding(
        "grants after the first publication",
        "select for nobody; cloned again without copying: select for nobody",
        f"select for {READER}",
        False,
        GRANTS_LOST,
    )
    assert [finding.passed for finding in found] == [False, False, False]


ON_STANDARD = with_answers(
    {
        MART_GRANTS: [grant("OWNERSHIP", TRANSFORMER), grant("SELECT", EXPORTER)],
        f"show grants on view {SCRATCH}_marts_read.{PROFILE}": [grant("SELECT", READER)],
    }
)


def test_on_standard_exporters_keep_the_tables_and_readers_the_views() -> None:
    of_exporter = (f"select for {EXPORTER}", f"select for {EXPORTER}", True)
    of_reader = (f"select for {READER}", f"select for {READER}", True)
    assert ask(probes.publication, "standard", answers=ON_STANDARD) == [
        Finding("grants after the first publication", *of_exporter),
        Finding("grants on the view, first time", *of_reader),
        Finding("grants after the second publication", *of_exporter),
        Finding("grants on the view, second time", *of_reader),
        Finding("grants of a clone without copying", *of_exporter),
    ]


def test_on_standard_the_probe_makes_the_view_as_a_publication_does() -> None:
    account = Recorded(ON_STANDARD)
    list(probes.publication(Session(account, "customer_360", "an_admin"), "standard"))
    views = f"{SCRATCH}_marts_read"
    assert f"grant usage, create view on schema {views} to role {TRANSFORMER}" in account.asked
    assert f"grant select on future views in schema {views} to role {READER}" in account.asked
    made = f"create or replace secure view {views}.{PROFILE} copy grants as "
    assert account.asked.count(f"{made}select customer_id from {SCRATCH}_marts.{PROFILE}") == 2


def test_a_view_that_its_readers_lose_fails() -> None:
    lost = {f"show grants on view {SCRATCH}_marts_read.{PROFILE}": [grant("OWNERSHIP", TRANSFORMER)]}
    assert ask(probes.publication, "standard", answers=ON_STANDARD | lost)[1] == Finding(
        "grants on the view, first time", "select for nobody", f"select for {READER}", False, GRANTS_LOST
    )


def test_without_sysadmin_the_probe_publishes_in_the_transformers_own_schema() -> None:
    found = ask(probes.publication, "enterprise", answers=with_answers({"use role sysadmin": not_held("sysadmin")}))
    assert [finding.observed for finding in found] == [f"select for {READER} ({TRANSFORMER}'s schema)"] * 3
    assert [finding.passed for finding in found] == [True, True, True]


def test_the_transformer_cannot_grant_on_a_mart() -> None:
    assert ask(probes.managed_access) == [
        Finding(
            "the transformer grants on a mart",
            "SQL access control error: Insufficient privileges.",
            "refused",
            True,
        )
    ]


def test_a_grant_of_the_transformer_that_goes_through_fails() -> None:
    answers = with_answers(
        {
            GRANTED: [],
            TABLE_GRANTS: [grant("SELECT", EXPORTER)],
        }
    )
    assert ask(probes.managed_access, answers=answers) == [
        Finding(
            "the transformer grants on a mart",
            f"select for {EXPORTER}",
            "refused",
            False,
            "See that the schemas have managed access: show schemas in database customer_360;",
        )
    ]


def test_the_schema_of_a_run_is_dropped_after_a_masked_table() -> None:
    account = Recorded(HEALTHY)
    assert list(probes.dropped_schemas(Session(account, "customer_360", "an_admin"), "enterprise")) == [
        Finding("drop of a run's schema", "dropped after its tables", "dropped after its tables", True)
    ]
    assert account.asked[-3:] == [
        f"create transient table {SCRATCH}_run.{PROFILE} (customer_id varchar, first_name varchar with masking policy "
        "customer_360.ops.mask_personal_data) as (select '1' as customer_id, 'A' as name)",
        f"drop table if exists {SCRATCH}_run.{PROFILE}",
        DROP_RUN,
    ]


KEEPS = ProgrammingError("Cannot drop schema: policy MASK_PERSONAL_DATA is associated with its entities.")


def test_a_run_schema_that_stays_fails() -> None:
    check = doctor.Check("drop of a run's schema", lambda asked: probes.dropped_schemas(asked, "enterprise"))
    account = Recorded(with_answers({DROP_RUN: KEEPS}))
    assert list(doctor.findings_of(check, Session(account, "customer_360", "an_admin"))) == [
        Finding("drop of a run's schema", said_of(KEEPS), "an answer", False, what_it_ran(TRANSFORMER, DROP_RUN))
    ]


def test_on_standard_no_table_has_a_policy() -> None:
    assert ask(probes.dropped_schemas, "standard") == [
        Finding("drop of a run's schema", "no table has a policy", "SNOWFLAKE_EDITION=standard", None)
    ]


def test_the_probe_sends_the_block_that_dbt_sends() -> None:
    assert changes_of(probes.in_one_transaction("delete from a where b = 1; insert into a select 2")) == [
        "delete from a where b = 1",
        "insert into a select 2",
    ]


def test_a_load_that_fails_half_way_leaves_the_rows() -> None:
    assert ask(probes.transaction) == [
        Finding(
            "a load that fails half way",
            "2 of 2 rows left, no transaction open; Numeric value 'no number' is not recognized",
            "2 rows, none open, an error about 'no number'",
            True,
        )
    ]


@pytest.mark.parametrize(
    ("changes", "observed"),
    [
        (
            {KEPT: [{"KEPT": 1, "STILL_OPEN": None}]},
            "1 of 2 rows left, no transaction open; Numeric value 'no number' is not recognized",
        ),
        (
            {KEPT: [{"KEPT": 2, "STILL_OPEN": "1774926000000000000"}]},
            "2 of 2 rows left, a transaction open; Numeric value 'no number' is not recognized",
        ),
        ({BLOCK: []}, "2 of 2 rows left, no transaction open; nothing raised"),
        (
            {BLOCK: ProgrammingError("syntax error line 2 at position 8 unexpected 'begin'.")},
            "2 of 2 rows left, no transaction open; syntax error line 2 at position 8 unexpected 'begin'.",
        ),
    ],
    ids=["rows-lost", "left-open", "silent", "not-run"],
)
def test_a_load_that_does_not_go_back_fails(changes: Mapping[str, Answer], observed: str) -> None:
    assert ask(probes.transaction, answers=with_answers(changes)) == [
        Finding(
            "a load that fails half way",
            observed,
            "2 rows, none open, an error about 'no number'",
            False,
            "Do not load: a failed load would lose rows. See macros/in_one_transaction.sql.",
        )
    ]


# Masking

READER_SEES = Finding(f"personal data as {READER}", "***** or NULL", "***** or NULL", True)
EXPORTER_SEES = Finding(
    f"personal data as {EXPORTER}", "values of full_name, first_name, last_name, email", "values", True
)


def test_readers_see_masks_and_exporters_values() -> None:
    assert ask(checks.masking, "enterprise") == [READER_SEES, EXPORTER_SEES]


@pytest.mark.parametrize(
    ("columns", "finding"),
    [
        (
            ["CUSTOMER_ID", "CARD_TYPE"],
            Finding(f"personal data as {READER}", "no such column", "no such column", True),
        ),
        (
            ["CUSTOMER_ID", "FULL_NAME", "EMAIL"],
            Finding(
                f"personal data as {READER}",
                "column full_name, email",
                "no such column",
                False,
                "Clear task publish, which makes the view anew.",
            ),
        ),
    ],
)
def test_on_standard_the_view_of_readers_has_no_personal_data(columns: list[str], finding: Finding) -> None:
    described = f"as {READER}: describe view customer_360.marts_read.{PROFILE}"
    answers = with_answers({described: [{"name": name, "type": "VARCHAR", "kind": "COLUMN"} for name in columns]})
    assert ask(checks.masking, "standard", answers=answers) == [finding, EXPORTER_SEES]


def test_a_reader_who_sees_a_value_fails_and_the_value_is_not_told() -> None:
    seen = MASKED | {"email": PERSON["email"]}
    assert ask(checks.masking, "enterprise", answers=with_answers({f"as {READER}: {PROFILES}": [seen]})) == [
        Finding(f"personal data as {READER}", "values of email", "***** or NULL", False, "Run `make snowflake-setup`."),
        EXPORTER_SEES,
    ]


def test_an_exporter_who_sees_masks_fails() -> None:
    assert ask(checks.masking, "enterprise", answers=with_answers({f"as {EXPORTER}: {PROFILES}": [MASKED]})) == [
        READER_SEES,
        Finding(f"personal data as {EXPORTER}", "***** or NULL", "values", False, "Run `make snowflake-setup`."),
    ]


def test_a_role_that_is_not_held_is_named_and_the_other_is_asked() -> None:
    answers = with_answers({f"use role {READER}": not_held(READER)})
    assert ask(checks.masking, "enterprise", answers=answers) == [
        Finding(
            f"personal data as {READER}",
            said_of(not_held(READER)),
            "***** or NULL",
            False,
            f"As useradmin: grant role {READER} to user an_admin;",
        ),
        EXPORTER_SEES,
    ]


def test_before_the_first_publication_masking_is_not_looked_at() -> None:
    assert ask(checks.masking, "enterprise", answers=with_answers({PUBLISHED: []})) == [
        Finding("masking", "nothing published yet", "a published profile", None, "Run customer_360_refresh.")
    ]


# Warehouses, monitors, pruning

AS_SET_UP = "small, suspends after 60 s at most, 3600 s a statement at most, a monitor of its own"
WAREHOUSES = [
    Finding(
        "warehouse customer_360_transform",
        "Small, suspends after 60 s, 3600 s a statement, CUSTOMER_360_MONTHLY",
        AS_SET_UP,
        True,
    ),
    Finding(
        "warehouse customer_360_read",
        "Small, suspends after 60 s, 600 s a statement, CUSTOMER_360_READ_MONTHLY",
        AS_SET_UP.replace("3600", "600"),
        True,
    ),
    Finding("resource monitor customer_360_monthly", "100.00 credits", "a quota", True),
    Finding("resource monitor customer_360_read_monthly", "100.00 credits", "a quota", True),
]


def test_warehouses_are_as_the_set_up_makes_them() -> None:
    assert ask(checks.warehouses, "enterprise") == WAREHOUSES


@pytest.mark.parametrize(
    ("changes", "observed"),
    [
        (
            {"show warehouses like 'customer_360_transform'": warehouse("customer_360_transform", size="Large")},
            "Large, suspends after 60 s, 3600 s a statement, CUSTOMER_360_MONTHLY",
        ),
        (
            {"show warehouses like 'customer_360_transform'": warehouse("customer_360_transform", auto_suspend=600)},
            "Small, suspends after 600 s, 3600 s a statement, CUSTOMER_360_MONTHLY",
        ),
        (
            {"show warehouses like 'customer_360_transform'": warehouse("customer_360_transform", auto_suspend=0)},
            "Small, suspends after 0 s, 3600 s a statement, CUSTOMER_360_MONTHLY",
        ),
        (
            {f"{TIMEOUT}_transform": [parameter("STATEMENT_TIMEOUT_IN_SECONDS", "172800")]},
            "Small, suspends after 60 s, 172800 s a statement, CUSTOMER_360_MONTHLY",
        ),
        (
            {"show warehouses like 'customer_360_transform'": warehouse("customer_360_transform", monitor="null")},
            "Small, suspends after 60 s, 3600 s a statement, no monitor to be seen",
        ),
    ],
    ids=["size", "suspend", "never-suspends", "timeout", "monitor"],
)
def test_a_warehouse_that_was_changed_fails(changes: Mapping[str, Answer], observed: str) -> None:
    assert ask(checks.warehouses, "enterprise", answers=with_answers(changes)) == [
        Finding(
            "warehouse customer_360_transform",
            observed,
            AS_SET_UP,
            False,
            "Run `make snowflake-setup`. Only accountadmin sees every monitor.",
        ),
        *WAREHOUSES[1:],
    ]


def test_what_readers_use_up_must_not_suspend_the_night() -> None:
    shared = {"show warehouses like 'customer_360_read'": warehouse("customer_360_read")}
    assert ask(checks.warehouses, "enterprise", answers=with_answers(shared)) == [
        WAREHOUSES[0],
        Finding(
            "warehouse customer_360_read",
            "Small, suspends after 60 s, 600 s a statement, CUSTOMER_360_MONTHLY, as another warehouse",
            AS_SET_UP.replace("3600", "600"),
            False,
            "Run `make snowflake-setup`. Only accountadmin sees every monitor.",
        ),
        WAREHOUSES[2],
    ]


def test_a_warehouse_whose_name_only_looks_alike_is_not_it() -> None:
    answers = with_answers({"show warehouses like 'customer_360_read'": warehouse("customer-360-read")})
    assert ask(checks.warehouses, "enterprise", answers=answers)[1] == Finding(
        "warehouse customer_360_read",
        "not there, or not to be seen",
        AS_SET_UP.replace("3600", "600"),
        False,
        "Run `make snowflake-setup`.",
    )


def test_a_monitor_that_only_accountadmin_is_told_is_asked_for_as_accountadmin() -> None:
    hidden = warehouse("customer_360_transform", monitor="null")
    asked = "show warehouses like 'customer_360_transform'"
    answers = with_answers({asked: hidden, f"as accountadmin: {asked}": warehouse("customer_360_transform")})
    assert ask(checks.warehouses, "enterprise", answers=answers) == WAREHOUSES


def test_a_monitor_without_a_quota_fails() -> None:
    answers = with_answers({"as sysadmin: show resource monitors like 'customer_360_monthly'": [monitor(quota=None)]})
    assert ask(checks.warehouses, "enterprise", answers=answers)[2] == Finding(
        "resource monitor customer_360_monthly", "None credits", "a quota", False, "Run `make snowflake-setup`."
    )


def test_a_monitor_that_no_role_sees_says_who_has_to_grant_what() -> None:
    answers = with_answers({"as sysadmin: show resource monitors like 'customer_360_monthly'": []})
    assert ask(checks.warehouses, "enterprise", answers=answers)[2] == Finding(
        "resource monitor customer_360_monthly",
        "not there, or not to be seen",
        "a quota",
        False,
        f"As accountadmin: grant monitor on resource monitor customer_360_monthly to role {TRANSFORMER}; without the "
        "monitor: make snowflake-setup.",
    )


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        (
            {},
            Finding("pruning by transaction_date", "2 of 400 partitions for the latest month", "fewer than all", True),
        ),
        (
            {PLAN: plan(total=400, assigned=400)},
            Finding(
                "pruning by transaction_date",
                "400 of 400 partitions for the latest month",
                "fewer than all",
                False,
                "Rows are not in the order of their dates: docs/snowflake.md, Clustering, says when a key pays, and "
                "how.",
            ),
        ),
        (
            {PLAN: plan(total=100, assigned=100)},
            Finding("pruning by transaction_date", "100 partitions: too few to tell", "fewer than all", True),
        ),
        (
            {LOADED: []},
            Finding("pruning by transaction_date", "nothing loaded yet", "a fact", None, "Run customer_360_refresh."),
        ),
        (
            {LATEST: [{"LATEST": None}]},
            Finding("pruning by transaction_date", "no transaction yet", "a fact", None, "Run customer_360_refresh."),
        ),
    ],
    ids=["skips", "reads-all", "few", "no-table", "empty"],
)
def test_a_literal_date_skips_partitions_of_the_fact(changes: Mapping[str, Answer], finding: Finding) -> None:
    assert ask(checks.pruning, answers=with_answers(changes)) == [finding]


# Statements

# What explain takes of what the operators send, each statement once.
VALIDATIONS = 20
PUBLICATION = 45
AUDIENCES = 21
EXPORTS = 22


OPS_TABLES = (
    *("publications", "validation_results", "restatements", "warehouse", "publishing"),
    *("audience_memberships", "suppressions", "export_runs", "failing_rows"),
    *("nights", "night_steps", "screens_log"),
)


def compiled(folder: Path, model: str = "select 1 as customer_id") -> Path:
    """A manifest of the project in which dbt has compiled dim_customer, as given, and one test."""
    manifest = json.loads(MANIFEST.read_text(encoding="utf-8"))
    manifest["nodes"]["model.customer_analytics.dim_customer"]["compiled_code"] = model
    test = next(node for node in manifest["nodes"].values() if node["resource_type"] == "test")
    test["compiled_code"] = "-- rows that fail\nselect customer_id from customer_360.core.dim_customer where 1 = 0"
    file = folder / "manifest.json"
    file.write_text(json.dumps(manifest))
    return file


def counted(group: str, count: int, on_empty: int) -> Finding:
    return Finding(
        explain.GROUPS[group], f"{count} of {count} explained, {on_empty} on empty tables", f"{count} explained", True
    )


def test_every_statement_is_explained_in_groups_on_tables_made_from_the_contracts(tmp_path: Path) -> None:
    account = Recorded(HEALTHY)
    asked = Session(account, "customer_360", "an_admin")
    assert list(explain.explained(asked, "enterprise", {}, compiled(tmp_path))) == [
        Finding("models of dbt", "1 of 1 explained", "1 explained", True),
        counted("tests", 1, 1),
        counted("validations", VALIDATIONS, 18),
        counted("publish", PUBLICATION, 39),
        counted("audiences", AUDIENCES, 19),
        counted("exports", EXPORTS, 20),
    ]
    assert "explain using text select 1 as customer_id" in account.asked
    assert f"explain using text select customer_id from {SCRATCH}_of_core.dim_customer where 1 = 0" in account.asked
    assert (
        f"create transient table {SCRATCH}_of_a_run.int_customer_medians "
        "(customer_id varchar, median_transaction_value decimal(18, 4))"
    ) in account.asked


def test_tables_that_are_there_are_read_and_exports_are_the_exporters(tmp_path: Path) -> None:
    run = statements.Run(f"marts_run_doctor_{SUFFIX}", "2026-03-30")
    tables = [name for name in statements.tables_of(json.loads(MANIFEST.read_text()), run) if name[0] != run.run_schema]
    tables += [("ops", name) for name in OPS_TABLES]
    answers = {"show objects in database customer_360": [table(*name) for name in tables]}
    account = Recorded(answers)
    found = list(explain.explained(Session(account, "customer_360", "an_admin"), "enterprise", {}, compiled(tmp_path)))
    assert [finding.observed for finding in found] == [
        "1 of 1 explained",
        "1 of 1 explained",
        f"{VALIDATIONS} of {VALIDATIONS} explained, 14 on empty tables",
        f"{PUBLICATION} of {PUBLICATION} explained, 11 on empty tables",
        f"{AUDIENCES} of {AUDIENCES} explained",
        f"{EXPORTS} of {EXPORTS} explained",
    ]
    role = account.asked[
        : account.asked.index(next(sql for sql in account.asked if "explain using text select status" in sql))
    ]
    assert [sql for sql in role if sql.startswith("use role ")][-1] == f"use role {EXPORTER}"


def test_a_statement_that_snowflake_does_not_understand_is_named_below_its_group(tmp_path: Path) -> None:
    broken = "explain using text select no_such_column from raw.customers"
    error = ProgrammingError("SQL compilation error: error line 1 at position 7\ninvalid identifier 'NO_SUCH_COLUMN'")
    file = compiled(tmp_path, model="select no_such_column from raw.customers")
    found = ask(explain.explained, "enterprise", {}, file, answers={broken: error})
    assert found[0] == Finding(
        "models of dbt",
        "0 of 1 explained",
        "1 explained",
        False,
        "Correct what is named below; Snowflake would refuse it in a run.",
        ("dim_customer: SQL compilation error: error line 1 at position 7 invalid identifier 'NO_SUCH_COLUMN'",),
    )
    assert [finding.passed for finding in found[1:]] == [True] * 5


def test_what_dbt_objects_to_is_told_without_the_passphrase(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 2, stdout=f"Encountered an error:\nno key for {SECRET}", stderr="")

    monkeypatch.setattr(statements.subprocess, "run", fails)
    environment = {"SNOWFLAKE_PRIVATE_KEY_PASSPHRASE": SECRET}
    with pytest.raises(statements.NotCompiled, match=r"^Encountered an error: no key for \*\*\*$"):
        statements.compile_project(environment, statements.Run("marts_run_doctor_1", "2026-03-30"), tmp_path)


def test_a_compile_without_end_is_ended_and_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def hangs(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        raise subprocess.TimeoutExpired("dbt", 600)

    monkeypatch.setattr(statements.subprocess, "run", hangs)
    with pytest.raises(statements.NotCompiled, match=r"^dbt compile took longer than 600 s\.$"):
        statements.compile_project({"a": "b"}, statements.Run("marts_run_doctor_1", "2026-03-30"), tmp_path)


def test_a_browser_login_leaves_dbt_out_and_the_operators_in() -> None:
    found = ask(explain.explained, "enterprise", {})
    assert found[0] == Finding(
        "models of dbt",
        "not asked: dbt's target snowflake logs in with a key only",
        "compiled and explained",
        False,
        "Set SNOWFLAKE_PRIVATE_KEY_PATH; then `dbt debug --target snowflake` in dbt/ says more of what is wrong.",
    )
    assert [(finding.check, finding.passed) for finding in found[1:]] == [
        ("data tests of dbt", False),
        ("validations", True),
        ("publication and history", True),
        ("audiences", True),
        ("exports", True),
    ]


@pytest.mark.parametrize(
    ("sql", "explained"),
    [
        ("-- why\nselect 1;", "select 1"),
        ("/* {} */ with a as (select 1) select * from a", "with a as (select 1) select * from a"),
        ("select 1 -- one\nfrom a", "select 1 \nfrom a"),
        ("select '-- no comment'", "select '-- no comment'"),
        (f"select 1{' ' * 20_000}", "select 1"),
        ("insert into a values (1)", "insert into a values (1)"),
        ("create table if not exists a.b as select 1", "create table if not exists a.b as select 1"),
        ("create or replace transient table a.b as (select 1)", "create or replace transient table a.b as (select 1)"),
        ("create or replace transient table a.b clone c.d copy grants", ""),
        ("create transient table if not exists a.b like c.d", ""),
        ("create table if not exists a.b (as_of_date date)", ""),
        ("drop schema if exists a cascade", ""),
        ("begin transaction", ""),
    ],
)
def test_only_what_explain_takes_is_explained(sql: str, explained: str) -> None:
    assert statements.as_explained(sql) == explained


@pytest.mark.parametrize(
    ("sql", "placed"),
    [
        ("select a from core.fct", "select a from db.x.fct"),
        ("select a from db.core.fct as fct", "select a from db.x.fct as fct"),
        ("select a from DB.CORE.FCT", "select a from db.x.fct"),
        ("select a from core.fct_more", "select a from core.fct_more"),
        ("select a from score.fct", "select a from score.fct"),
        ("select a from other.core.fct", "select a from other.core.fct"),
        ("select 'core.fct' as name", "select 'core.fct' as name"),
        ("select a from marts.fct", "select a from marts.fct"),
    ],
)
def test_only_the_tables_that_are_not_there_are_read_elsewhere(sql: str, placed: str) -> None:
    others = {("core", "fct"): "db.x.fct", ("marts", "profile"): "db.y.profile"}
    assert statements.on_others(sql, "db", others) == placed


# The program


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A complete login by key pair, and none of this machine's settings."""
    monkeypatch.setitem(SnowflakeLogin.model_config, "env_file", None)
    for name in ("AUTHENTICATOR", "EDITION"):
        monkeypatch.delenv(f"SNOWFLAKE_{name}", raising=False)
    monkeypatch.delenv("DEPLOYMENT", raising=False)
    key = tmp_path / "person.p8"
    key.write_text("the content of a key")
    monkeypatch.setenv("SNOWFLAKE_ACCOUNT", "myorg-myaccount")
    monkeypatch.setenv("SNOWFLAKE_USER", "an_admin")
    monkeypatch.setenv("SNOWFLAKE_PRIVATE_KEY_PATH", str(key))
    monkeypatch.setenv("SNOWFLAKE_PRIVATE_KEY_PASSPHRASE", SECRET)


@pytest.fixture
def healthy(login: None, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """An account on which every check passes."""
    account = Recorded(HEALTHY)
    monkeypatch.setattr(snowflake.connector, "connect", lambda **_: account)
    return account


def rows(printed: str) -> list[str]:
    """The lines of the table's rows that begin one."""
    return [line for line in printed.splitlines() if re.match(r"\S.{111}(yes|no|-)( |$)", line)]


def test_an_account_without_fault_ends_with_0(
    healthy: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor.main(compiled(tmp_path)) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(
        "Connecting to account myorg-myaccount as an_admin ...\nDeployment customer_360, edition enterprise\n\ncheck"
    )
    assert printed.endswith("\n27 checks, 0 failed\n")
    assert len(rows(printed)) == 27
    assert healthy.closed


def test_one_failure_ends_with_1_and_stops_no_other_check(
    healthy: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    healthy.answers["show warehouses like 'customer_360_read'"] = warehouse(
        "customer_360_read", size="X-Large", monitor="CUSTOMER_360_READ_MONTHLY"
    )
    assert doctor.main(compiled(tmp_path)) == 1
    printed = capsys.readouterr().out
    assert printed.endswith("\n27 checks, 1 failed\n")
    (row,) = (line for line in rows(printed) if line.startswith("warehouse customer_360_read"))
    assert row == (
        "warehouse customer_360_read         X-Large, suspends after 60 s, 600 s a       small, suspends after 60 s at"
        "   no      Run `make snowflake-setup`. Only"
    )


@pytest.mark.parametrize("told", ["standard", "Standard"])
def test_an_account_of_standard_edition_without_fault_ends_with_0(
    told: str,
    healthy: Recorded,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SNOWFLAKE_EDITION", told)
    healthy.answers |= ON_STANDARD | {
        POLICY: ProgrammingError("Unsupported feature 'CREATE MASKING POLICY'.", errno=2, sqlstate="0A000"),
        f"as {READER}: show views in schema customer_360.marts_read": [{"name": PROFILE, "is_secure": "true"}],
        f"as {READER}: describe view customer_360.marts_read.{PROFILE}": [{"name": "CUSTOMER_ID"}],
    }
    assert doctor.main(compiled(tmp_path)) == 0
    printed = capsys.readouterr().out
    assert "\nDeployment customer_360, edition standard\n" in printed
    assert printed.endswith("\n29 checks, 0 failed\n")
    assert [sql for sql in healthy.asked if "mask_personal_data" in sql] == []


@pytest.mark.parametrize(
    "error", [refused("Insufficient privileges."), ProgrammingError("Session no longer exists.", errno=390111)]
)
def test_a_check_whose_statement_is_refused_is_a_row(
    error: ProgrammingError, healthy: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    healthy.answers[LATEST] = error
    assert doctor.main(compiled(tmp_path)) == 1
    printed = capsys.readouterr().out
    assert printed.endswith("\n27 checks, 1 failed\n")
    assert f"pruning by transaction_date         {said_of(error)[:30]}" in printed


def test_an_answer_that_nobody_foresaw_is_a_row() -> None:
    check = doctor.Check("pruning by transaction_date", checks.pruning)
    account = Recorded(with_answers({PLAN: [{"content": "no plan"}]}))
    assert list(doctor.findings_of(check, Session(account, "customer_360", "an_admin"))) == [
        Finding(
            "pruning by transaction_date",
            "JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
            "an answer",
            False,
            "Report it: the doctor did not expect this.",
        )
    ]


def test_an_answer_without_the_column_names_those_it_has() -> None:
    check = doctor.Check("warehouses", lambda asked: checks.warehouses(asked, "enterprise"))
    account = Recorded(with_answers({"show warehouses like 'customer_360_read'": [{"label": "CUSTOMER_360_READ"}]}))
    found = list(doctor.findings_of(check, Session(account, "customer_360", "an_admin")))
    assert found[1].observed == "The answer has no column name, but label."
    assert found[1].what_to_do == "Snowflake has changed it: adapt deploy/snowflake to it."


def dropped(account: Recorded) -> set[str]:
    return {sql.split()[4] for sql in account.asked if sql.startswith("drop schema if exists ")}


def made(account: Recorded) -> set[str]:
    return {sql.split()[2] for sql in account.asked if sql.startswith("create schema ")}


def test_everything_that_was_made_is_dropped(healthy: Recorded, tmp_path: Path) -> None:
    doctor.main(compiled(tmp_path))
    assert made(healthy) == dropped(healthy)
    assert {f"{SCRATCH}{purpose}" for purpose in ("", "_marts", "_run", "_of_core", "_of_a_run")} <= made(healthy)


@pytest.mark.parametrize(
    "interrupts_at", ["copy grants", "explain using text with memberships", f"create schema {SCRATCH}"]
)
def test_an_interruption_drops_what_was_made(
    interrupts_at: str, healthy: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    healthy.interrupts_at = interrupts_at
    assert doctor.main(compiled(tmp_path)) == 130
    assert made(healthy) == dropped(healthy) != set()
    assert healthy.closed
    printed = capsys.readouterr()
    assert re.search(r"^clean-up +\d schemas dropped +nothing left +yes$", printed.out, re.MULTILINE)
    assert printed.err == "\nInterrupted: the checks that are not listed were not asked.\n"


def test_what_cannot_be_dropped_is_named_and_fails(
    healthy: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    healthy.answers[f"drop schema if exists {SCRATCH}_marts cascade"] = refused("Insufficient privileges.")
    assert doctor.main(compiled(tmp_path)) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        f"{SCRATCH}_marts: SQL access control error: Insufficient privileges. As sysadmin: drop schema if exists "
        f"{SCRATCH}_marts cascade;" in printed
    )
    assert printed.endswith("27 checks, 1 failed")


class RefusesOnce(dict[str, Answer]):
    """Answers that refuse one statement the first time."""

    def __init__(self, answers: Mapping[str, Answer], statement: str, error: Exception) -> None:
        super().__init__(answers)
        self.statement, self.error = statement, error

    def get(self, sql: str, default: Any = None) -> Any:  # noqa: ANN401 - as in dict
        if sql == self.statement and self.error:
            error, self.error = self.error, None
            return error
        return super().get(sql, default)


def test_a_schema_that_its_tables_keep_is_cleaned_up_after_them() -> None:
    account = Recorded({})
    account.answers = RefusesOnce({}, DROP_RUN, KEEPS)
    asked = Session(account, "customer_360", "an_admin")
    asked.use(TRANSFORMER)
    asked.make_table(asked.scratch(TRANSFORMER, "run"), PROFILE, "customer_id varchar")
    assert asked.clean_up() == []
    assert account.asked[-3:] == [DROP_RUN, f"drop table if exists {SCRATCH}_run.{PROFILE}", DROP_RUN]


def test_two_doctors_at_once_make_schemas_of_other_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    first, second = (Session(Recorded({}), "customer_360", "an_admin") for _ in range(2))
    assert re.fullmatch("[0-9a-f]{8}", first.suffix)
    assert first.suffix != second.suffix


def test_the_table_fits_160_columns(healthy: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    healthy.answers[LATEST] = refused(f"{'very long ' * 60}{'x' * 200}")
    healthy.answers["explain using text select 1 as customer_id"] = refused("compilation error " * 30)
    doctor.main(compiled(tmp_path))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 160
    assert lines[3] == (
        "check                               observed                                    expected"
        "                        passed  what to do"
    )


@pytest.mark.parametrize("lost", ["", LATEST, POLICY])
def test_no_secret_and_no_personal_data_are_printed(
    lost: str, healthy: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if lost:
        healthy.answers[lost] = refused("Insufficient privileges.")
    healthy.answers[f"as {READER}: {PROFILES}"] = [PERSON]
    doctor.main(compiled(tmp_path))
    printed = "".join(capsys.readouterr())
    for hidden in (SECRET, "the content of a key", *PERSON.values()):
        assert hidden not in printed


def test_missing_variables_are_named_before_anything_is_asked(
    healthy: Recorded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ACCOUNT", "USER", "PRIVATE_KEY_PATH"):
        monkeypatch.delenv(f"SNOWFLAKE_{name}")
    assert doctor.main() == 1
    assert capsys.readouterr().err == (
        "Not set: SNOWFLAKE_ACCOUNT, SNOWFLAKE_USER, SNOWFLAKE_PRIVATE_KEY_PATH "
        "(or SNOWFLAKE_AUTHENTICATOR=externalbrowser). Set them in the environment or in .env; the user holds the "
        "roles <deployment>_transformer, _exporter and _reader, and, for what docs/snowflake.md says, sysadmin.\n"
    )
    assert healthy.asked == []


def test_an_edition_that_does_not_exist_is_refused(
    healthy: Recorded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNOWFLAKE_EDITION", "business")
    assert doctor.main() == 1
    assert capsys.readouterr().err == (
        "SNOWFLAKE_EDITION is 'business', which is no edition of Snowflake: set SNOWFLAKE_EDITION to standard or "
        "enterprise (also for Business Critical).\n"
    )
    assert healthy.asked == []


def test_another_deployment_is_asked_under_its_own_names(
    healthy: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPLOYMENT", "card_staging")
    doctor.main(compiled(tmp_path, model="select 1"))
    here = "explain using text select customer_id from customer_360.core.dim_customer where 1 = 0"
    # What is called customer_360 on every deployment: a mart, and the manifest that was compiled for another database.
    others = [sql.replace("customer_360_profile", "").replace("customer_360_history", "") for sql in healthy.asked]
    assert [sql for sql in others if "customer_360" in sql.lower() and sql != here] == []


def test_the_least_role_asks(healthy: Recorded, tmp_path: Path) -> None:
    """sysadmin for what it owns, useradmin and accountadmin not at all where a lesser role is answered."""
    doctor.main(compiled(tmp_path))
    roles = {sql.removeprefix("use role ") for sql in healthy.asked if sql.startswith("use role ")}
    assert roles == {TRANSFORMER, READER, EXPORTER, "sysadmin"}
    after = [healthy.asked[number + 1] for number, sql in enumerate(healthy.asked) if sql.startswith("use role ")]
    assert set(after) == {"use secondary roles none"}


def test_dbt_logs_in_as_the_doctor_does(login: None, tmp_path: Path) -> None:
    assert doctor.dbt_environment(SnowflakeLogin(), "card_staging", "standard") == {
        "SNOWFLAKE_ACCOUNT": "myorg-myaccount",
        "SNOWFLAKE_USER": "an_admin",
        "SNOWFLAKE_PRIVATE_KEY_PATH": str(tmp_path / "person.p8"),
        "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE": SECRET,
        "SNOWFLAKE_PRIVATE_KEY": "",
        "SNOWFLAKE_PASSWORD": "",
        "SNOWFLAKE_DATABASE": "card_staging",
        "SNOWFLAKE_ROLE": "card_staging_transformer",
        "SNOWFLAKE_WAREHOUSE": "card_staging_transform",
        "SNOWFLAKE_EDITION": "standard",
    }


def test_make_calls_it() -> None:
    makefile = (PROJECT_ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^snowflake-doctor: .*\n\t@exec \$\(PY\) -m deploy\.snowflake\.doctor$", makefile, re.MULTILINE)


# On the emulator


@pytest.fixture
def emulated(account: SnowflakeAccount, monkeypatch: pytest.MonkeyPatch, login: None) -> EmulatedAccount:
    """The emulator, as what the doctor and its dbt log in to."""
    if not isinstance(account, EmulatedAccount):
        pytest.skip("a real account is checked by make snowflake-doctor")
    for name, value in account.dbt_environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SNOWFLAKE_PRIVATE_KEY_PASSPHRASE")
    connection = account.connect()
    monkeypatch.setattr(snowflake.connector, "connect", lambda **_: connection)
    return account


def test_the_emulator_explains_every_statement_and_keeps_nothing(
    emulated: EmulatedAccount, capsys: pytest.CaptureFixture[str]
) -> None:
    # What it cannot answer fails: it has no users, policies, grants and monitors.
    assert doctor.main() == 1
    printed = capsys.readouterr().out
    explained = dict(re.findall(r"^(\S.*\S) +(\d+) of \2 explained.* yes$", printed, flags=re.MULTILINE))
    nodes = json.loads(MANIFEST.read_text(encoding="utf-8"))["nodes"].values()
    assert {group: int(count) for group, count in explained.items()} == {
        "models of dbt": sum(node["resource_type"] in ("model", "snapshot") for node in nodes),
        "data tests of dbt": sum(node["resource_type"] == "test" for node in nodes),
        "validations": VALIDATIONS,
        "publication and history": PUBLICATION,
        "audiences": AUDIENCES,
        "exports": EXPORTS,
    }
    assert re.search(r"^drop of a run's schema +dropped after its tables +.* yes$", printed, flags=re.MULTILINE)
    assert re.search(r"^clean-up +\d+ schemas dropped +nothing left +yes$", printed, flags=re.MULTILINE)
    schemas = emulated.query("select schema_name from information_schema.schemata")
    assert [name for (name,) in schemas if "doctor" in name.lower()] == []


def test_the_emulator_refuses_a_column_that_is_not_there(emulated: EmulatedAccount, tmp_path: Path) -> None:
    file = compiled(tmp_path, model="select no_such_column from customer_360.raw.customers")
    asked = Session(emulated.connect(), emulated.database, "an_admin")
    try:
        models, *others = explain.explained(asked, "enterprise", {}, file)
    finally:
        assert asked.clean_up() == []
    assert (models.observed, models.passed) == ("0 of 1 explained", False)
    assert re.match(r"dim_customer: .*no_such_column", models.failing[0], re.IGNORECASE)
    assert [finding for finding in others if not finding.passed] == []
