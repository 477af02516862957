"""Check a Snowflake account: `make snowflake-doctor`.

Asks what only an account can answer: whether it understands every statement of the project, keeps grants and masks as
the project counts on, and is still as the set-up left it. Each check runs as the least role that can answer it, on
tables of the doctor's own where it needs some, which are dropped at the end. One that fails stops no other. The exit
code is 1 when one failed.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from deploy.snowflake import checks, explain, probes
from deploy.snowflake.session import Finding, NotAnswered, Session
from deploy.snowflake.set_up import ENTERPRISE, SnowflakeLogin, SnowflakeSetupError, connect, deployment_name
from include.customer_360.settings import PROJECT_ROOT

WIDTH = 160
COLUMNS = {"check": 34, "observed": 42, "expected": 30, "passed": 6, "what to do": 40}
"""The columns of the table with their widths; two spaces stand between them."""
INTERRUPTED = 130
NEEDS = (
    "the user holds the roles <deployment>_transformer, _exporter and _reader, and, for what docs/snowflake.md says, "
    "sysadmin."
)


@dataclass(frozen=True)
class Check:
    """A check: what it is called while nothing of it could be asked, and what asks it."""

    name: str
    ask: Callable[[Session], Iterable[Finding]]


def dbt_environment(login: SnowflakeLogin, deployment: str, edition: str) -> dict[str, str]:
    """Return the variables with which dbt logs in as the doctor does; none with a browser, which it would not open."""
    if not login.private_key_path:
        return {}
    passphrase = login.private_key_passphrase
    return {
        "SNOWFLAKE_ACCOUNT": login.account,
        "SNOWFLAKE_USER": login.user,
        "SNOWFLAKE_PRIVATE_KEY_PATH": str(PROJECT_ROOT / Path(login.private_key_path).expanduser()),
        "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE": passphrase.get_secret_value() if passphrase else "",
        "SNOWFLAKE_PRIVATE_KEY": "",
        "SNOWFLAKE_PASSWORD": "",
        "SNOWFLAKE_DATABASE": deployment,
        "SNOWFLAKE_ROLE": f"{deployment}_transformer",
        "SNOWFLAKE_WAREHOUSE": f"{deployment}_transform",
        "SNOWFLAKE_EDITION": edition,
    }


def all_checks(edition: str, environment: dict[str, str], manifest: Path | None = None) -> tuple[Check, ...]:
    """Return the checks, in the order in which they are asked.

    :param edition: STANDARD or ENTERPRISE.
    :param environment: the variables that dbt logs in with.
    :param manifest: one that dbt compiled already.
    """
    return (
        Check("edition", lambda session: checks.edition(session, edition)),
        Check("masking policy", lambda session: checks.protection(session, edition)),
        Check("session parameters", checks.session_parameters),
        Check("secondary roles of service users", lambda session: checks.service_users(session, edition)),
        Check("statements", lambda session: explain.explained(session, edition, environment, manifest)),
        Check("publication", lambda session: probes.publication(session, edition)),
        Check("managed access", probes.managed_access),
        Check("drop of a run's schema", lambda session: probes.dropped_schemas(session, edition)),
        Check("personal data", lambda session: checks.masking(session, edition)),
        Check("a load that fails half way", probes.transaction),
        Check("warehouses", lambda session: checks.warehouses(session, edition)),
        Check("pruning by transaction_date", checks.pruning),
    )


def findings_of(check: Check, session: Session) -> Iterator[Finding]:
    """Yield the findings of a check; where the account does not answer, one that says what it said instead."""
    try:
        yield from check.ask(session)
    except NotAnswered as refused:
        yield Finding(check.name, refused.said, "an answer", False, refused.what_to_do)
    # What an account answers that nobody foresaw: the other checks are worth asking all the same.
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        yield Finding(check.name, said, "an answer", False, "Report it: the doctor did not expect this.")


def as_rows(finding: Finding) -> str:
    """Return the lines of a finding, wrapped into the columns; what of a group failed stands below."""
    passed = {True: "yes", False: "no", None: "-"}[finding.passed]
    cells = (finding.check, finding.observed, finding.expected, passed, finding.what_to_do)
    below = [
        line
        for failing in finding.failing
        for line in textwrap.wrap(failing, WIDTH, initial_indent="    ", subsequent_indent="        ")
    ]
    return "\n".join([*_lines(cells), *below])


def _lines(cells: Iterable[str]) -> list[str]:
    wrapped = [textwrap.wrap(cell, width) for cell, width in zip(cells, COLUMNS.values(), strict=True)]
    return [
        "  ".join(
            (column[number] if number < len(column) else "").ljust(width)
            for column, width in zip(wrapped, COLUMNS.values(), strict=True)
        ).rstrip()
        for number in range(max(map(len, wrapped)))
    ]


def examine(session: Session, all_of: Iterable[Check]) -> list[Finding]:
    """Ask every check, print each finding as it comes, drop what was made, also after an interruption."""
    findings: list[Finding] = []

    def note(finding: Finding) -> None:
        findings.append(finding)
        print(as_rows(finding), flush=True)

    print("\n".join([*_lines(COLUMNS), "  ".join("-" * width for width in COLUMNS.values())]), flush=True)
    try:
        for check in all_of:
            for finding in findings_of(check, session):
                note(finding)
    finally:
        left = session.clean_up()
        note(
            Finding(
                "clean-up",
                f"{len(left)} of {session.made} schemas left" if left else f"{session.made} schemas dropped",
                "nothing left",
                not left,
                "Drop by hand what is named below." if left else "",
                tuple(left),
            )
        )
    return findings


def main(manifest: Path | None = None) -> int:
    """Examine the account; return the exit code.

    :param manifest: one that dbt compiled already, for tests; otherwise dbt compiles.
    """
    try:
        deployment, login = deployment_name(), SnowflakeLogin()
        # As Dags and dbt take it where it is not told.
        edition = login.told_edition() or ENTERPRISE
        connection = connect(login, NEEDS)
    except SnowflakeSetupError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Deployment {deployment}, edition {edition}\n")
    with closing(connection):
        try:
            session = Session(connection, deployment, login.user)
            environment = dbt_environment(login, deployment, edition)
            findings = examine(session, all_checks(edition, environment, manifest))
        except KeyboardInterrupt:
            print("\nInterrupted: the checks that are not listed were not asked.", file=sys.stderr)
            return INTERRUPTED
    failed = sum(finding.passed is False for finding in findings)
    print(f"\n{len(findings)} checks, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
