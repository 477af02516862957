"""What the doctor asks an account without changing it: edition, parameters, users, warehouses, masking, pruning."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from deploy.snowflake.session import SYSADMIN, Finding, NotAnswered, Session, judged, named, value_of
from deploy.snowflake.set_up import ENTERPRISE, STANDARD, read_statements
from include.customer_360.catalog import PROFILE, load_catalog
from include.customer_360.dbt_vars import snowflake_session

READERS_VIEWS = "marts_read"
"""The schema that readers read on STANDARD."""
MASK = "*****"
SET_UP = "Run `make snowflake-setup`."
FEW_PARTITIONS = 100
"""Up to so many partitions of the fact, reading all of them is cheap: a month may stand in each."""
LONGEST_STATEMENT_SECONDS = 3600


def edition(session: Session, told: str) -> Iterator[Finding]:
    """Whether the account has masking policies, from Enterprise on: only a person with role orgadmin is told more."""
    session.use(session.transformer)
    schema = session.scratch(session.transformer)
    try:
        session.ask(f"create masking policy {schema.name}.mask as (value string) returns string -> '{MASK}'")
    except NotAnswered as refused:
        if "unsupported feature" not in refused.said.lower():
            raise
        yield judged(
            "edition",
            refused.said,
            f"SNOWFLAKE_EDITION={told}",
            told == STANDARD,
            "Set SNOWFLAKE_EDITION=standard, then run `make snowflake-setup`.",
        )
    else:
        yield Finding(
            "edition",
            "masking policies can be made",
            f"SNOWFLAKE_EDITION={told}",
            True,
            "" if told == ENTERPRISE else "SNOWFLAKE_EDITION=enterprise would mask columns for every role.",
        )


def protection(session: Session, told: str) -> Iterator[Finding]:
    """Whether what hides personal data is there: the set-up's policy or, on STANDARD, the views of a publication."""
    if told == ENTERPRISE:
        session.use(session.transformer)
        session.ask(f"describe masking policy {session.deployment}.ops.mask_personal_data")
        yield Finding("masking policy", "ops.mask_personal_data", "ops.mask_personal_data", True)
        return
    session.use(session.reader)
    check, expected = "views of the readers", "secure views"
    views = session.ask(f"show views in schema {session.deployment}.{READERS_VIEWS}")
    if not views:
        yield Finding(check, "no view for readers yet", expected, None, "Run customer_360_refresh.")
        return
    open_to_all = [value_of(view, "name").lower() for view in views if value_of(view, "is_secure").lower() != "true"]
    yield judged(
        check,
        f"not secure: {', '.join(open_to_all)}" if open_to_all else f"{len(views)} secure views",
        expected,
        not open_to_all,
        "Clear task publish, which makes them anew.",
    )


def session_parameters(session: Session) -> Iterator[Finding]:
    """Whether a session has what the project sets it to, and, for information, what it would have otherwise."""
    wanted = {name: _as_shown(value) for name, value in snowflake_session().items()}
    session.use(session.transformer)
    own = {value_of(row, "key").upper(): row for row in session.ask("show parameters for user")}
    # In one statement, as dbt's query_tag.sql sends it.
    settings = (f"{name} = {_literal(value)}" for name, value in snowflake_session().items())
    session.ask(f"alter session set {', '.join(settings)}")
    found = {value_of(row, "key").upper(): value_of(row, "value") for row in session.ask("show parameters in session")}
    wrong = [
        f"{name}={found.get(name)} (wanted {value})"
        for name, value in wanted.items()
        if found.get(name, "").lower() != value.lower()
    ]
    yield judged(
        "session parameters",
        ", ".join(wrong) or f"{len(wanted)} of {len(wanted)} as wanted",
        "var snowflake_session",
        not wrong,
        "See that the account lets a session set them; nothing may be built before.",
    )
    others = [
        f"{name}={value_of(own[name], 'value')} ({value_of(own[name], 'level').lower() or 'default'})"
        for name, value in wanted.items()
        if name in own and value_of(own[name], "value").lower() != value.lower()
    ]
    yield Finding("parameters of the user", ", ".join(others) or "the same", "any: a session sets its own", True)
    timeout = int(found.get("STATEMENT_TIMEOUT_IN_SECONDS", "0"))
    yield judged(
        "statement timeout of a session",
        f"{timeout} s",
        f"0 or at least {LONGEST_STATEMENT_SECONDS} s",
        timeout == 0 or timeout >= LONGEST_STATEMENT_SECONDS,
        "Raise STATEMENT_TIMEOUT_IN_SECONDS of the account or the user: a build would be stopped.",
    )


def service_users(session: Session, told: str) -> Iterator[Finding]:
    """Whether the users that the set-up made have no secondary roles by default."""
    set_up = read_statements(session.deployment, told)
    made = (re.match(r"create user if not exists (\w+)", statement.sql) for statement in set_up)
    for user in [said[1] for said in made if said]:
        check = f"secondary roles of {user}"
        try:
            # A user may describe itself; others are useradmin's.
            rows = session.ask_as([session.transformer, "useradmin"], f"describe user {user}")
        except NotAnswered as refused:
            yield Finding(check, refused.said, "[] by default", False, refused.what_to_do)
            continue
        row = named(rows, "default_secondary_roles", "property")
        value = value_of(row, "value") if row else "not told"
        yield judged(check, value, "[] by default", value.strip() in ("[]", "()"), SET_UP)


def warehouses(session: Session, told: str) -> Iterator[Finding]:
    """Whether warehouses are as the set-up makes them, each under a resource monitor of its own, which has a quota."""
    monitors: list[str] = []
    for warehouse, wanted in _wanted_warehouses(session, told).items():
        check = f"warehouse {warehouse}"
        least = session.reader if warehouse.endswith("_read") else session.transformer
        expected = (
            f"{wanted['warehouse_size']}, suspends after {wanted['auto_suspend']} s at most, "
            f"{wanted['statement_timeout_in_seconds']} s a statement at most, a monitor of its own"
        )
        try:
            rows = session.ask_as(
                [least, SYSADMIN, "accountadmin"],
                f"show warehouses like '{warehouse}'",
                # Not every role is told the monitor.
                lambda rows, name=warehouse: _monitor_of(named(rows, name)) != "",  # type: ignore[misc]
            )
            row = named(rows, warehouse)
            if row is None:
                yield Finding(check, "not there, or not to be seen", expected, False, SET_UP)
                continue
            parameter = f"show parameters like 'statement_timeout_in_seconds' in warehouse {warehouse}"
            (timeout,) = (value_of(told, "value") for told in session.ask_as([least, SYSADMIN], parameter))
        except NotAnswered as refused:
            yield Finding(check, refused.said, expected, False, refused.what_to_do)
            continue
        size, suspends, monitor = value_of(row, "size"), value_of(row, "auto_suspend"), _monitor_of(row)
        shared = monitor.lower() in monitors
        # Where no role is told it, that of the set-up is looked for.
        monitors.append(monitor.lower() or wanted["resource_monitor"])
        as_set_up = (
            size.lower().replace("-", "") == wanted["warehouse_size"]
            and _between(suspends, 1, int(wanted["auto_suspend"]))
            and _between(timeout, 1, int(wanted["statement_timeout_in_seconds"]))
            and monitor != ""
            and not shared
        )
        yield judged(
            check,
            f"{size}, suspends after {suspends} s, {timeout} s a statement, "
            + (f"{monitor}, as another warehouse" if shared else monitor or "no monitor to be seen"),
            expected,
            as_set_up,
            f"{SET_UP} Only accountadmin sees every monitor.",
        )
    for monitor in dict.fromkeys(monitors):
        yield _quota(session, monitor)


def _quota(session: Session, monitor: str) -> Finding:
    check, expected = f"resource monitor {monitor}", "a quota"
    try:
        rows = session.ask_as(
            [session.transformer, SYSADMIN, "accountadmin"], f"show resource monitors like '{monitor}'"
        )
    except NotAnswered as refused:
        return Finding(check, refused.said, expected, False, refused.what_to_do)
    row = named(rows, monitor)
    if row is None:
        what_to_do = (
            f"As accountadmin: grant monitor on resource monitor {monitor} to role {session.transformer}; "
            "without the monitor: make snowflake-setup."
        )
        return Finding(check, "not there, or not to be seen", expected, False, what_to_do)
    quota = value_of(row, "credit_quota")
    return judged(
        check, f"{quota} credits", expected, bool(re.fullmatch(r"[\d.]+", quota)) and float(quota) > 0, SET_UP
    )


def masking(session: Session, told: str) -> Iterator[Finding]:
    """Whether exporters see personal data, and readers do not; what they are is neither kept nor shown.

    Readers see them masked or, on STANDARD, views without these columns.
    """
    (personal,) = (mart.personal_columns for mart in load_catalog().published if mart.name == PROFILE)
    session.use(session.transformer)
    if not named(session.ask(f"show tables like '{PROFILE}' in schema {session.deployment}.marts"), PROFILE):
        yield Finding("masking", "nothing published yet", "a published profile", None, "Run customer_360_refresh.")
        return
    for role in (session.reader, session.exporter):
        without_columns = told == STANDARD and role == session.reader
        expected = "values" if role == session.exporter else "no such column" if without_columns else f"{MASK} or NULL"
        try:
            session.use(role)
            if without_columns:
                yield _columns_of_the_view(session, personal, expected)
            else:
                yield _values_seen(session, personal, role, expected)
        except NotAnswered as refused:
            yield Finding(f"personal data as {role}", refused.said, expected, False, refused.what_to_do)


def _values_seen(session: Session, personal: Sequence[str], role: str, expected: str) -> Finding:
    check = f"personal data as {role}"
    rows = session.ask(
        f"select {', '.join(personal)} from {session.deployment}.marts.{PROFILE} "
        "where email is not null order by customer_id limit 1"
    )
    if not rows:
        return Finding(check, "no customer with an e-mail", expected, None)
    shown = [column for column in personal if rows[0].get(column) not in (None, MASK)]
    return judged(
        check,
        f"values of {', '.join(shown)}" if shown else f"{MASK} or NULL",
        expected,
        not shown if role == session.reader else "email" in shown,
        SET_UP,
    )


def _columns_of_the_view(session: Session, personal: Sequence[str], expected: str) -> Finding:
    columns = session.ask(f"describe view {session.deployment}.{READERS_VIEWS}.{PROFILE}")
    there = [column for column in personal if named(columns, column)]
    return judged(
        f"personal data as {session.reader}",
        f"column {', '.join(there)}" if there else "no such column",
        expected,
        not there,
        "Clear task publish, which makes the view anew.",
    )


def pruning(session: Session) -> Iterator[Finding]:
    """Whether a literal date has Snowflake skip partitions of a large fact, as rows arrive nearly in that order."""
    check, fact = "pruning by transaction_date", f"{session.deployment}.core.fct_transactions"
    session.use(session.transformer)
    if not named(
        session.ask(f"show tables like 'fct_transactions' in schema {session.deployment}.core"), "fct_transactions"
    ):
        yield Finding(check, "nothing loaded yet", "a fact", None, "Run customer_360_refresh.")
        return
    # Of the partitions' metadata, so no partition is read.
    (latest,) = session.ask(f"select to_char(max(transaction_date), 'YYYY-MM-DD') as latest from {fact}")
    day = value_of(latest, "latest")
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", day):
        yield Finding(check, "no transaction yet", "a fact", None, "Run customer_360_refresh.")
        return
    (plan,) = session.ask(
        f"explain using json select transaction_id from {fact} where transaction_date >= cast('{day[:7]}-01' as date)"
    )
    statistics = json.loads(next(iter(plan.values())))["GlobalStats"]
    total, assigned = int(statistics["partitionsTotal"]), int(statistics["partitionsAssigned"])
    if total <= FEW_PARTITIONS:
        yield Finding(check, f"{total} partitions: too few to tell", "fewer than all", True)
        return
    yield judged(
        check,
        f"{assigned} of {total} partitions for the latest month",
        "fewer than all",
        assigned < total,
        "Rows are not in the order of their dates: docs/snowflake.md, Clustering, says when a key pays, and how.",
    )


def _wanted_warehouses(session: Session, told: str) -> dict[str, dict[str, str]]:
    """Return what the set-up sets each warehouse to."""
    wanted: dict[str, dict[str, str]] = {}
    for statement in read_statements(session.deployment, told):
        said = re.match(r"alter warehouse if exists (\w+) set\b", statement.sql)
        if said:
            wanted.setdefault(said[1], {}).update(re.findall(r"(\w+) = (\w+)", statement.sql))
    return wanted


def _monitor_of(row: Mapping[str, object] | None) -> str:
    monitor = str(row.get("resource_monitor") or "") if row else ""
    return "" if monitor.lower() in ("null", "none") else monitor


def _between(number: str, least: int, most: int) -> bool:
    return number.isdigit() and least <= int(number) <= most


def _as_shown(value: str | int | bool) -> str:
    """Return the value of a parameter as `show parameters` has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _literal(value: str | int | bool) -> str:
    return f"'{value}'" if isinstance(value, str) else _as_shown(value)
