"""Set up Snowflake for the marts: `make snowflake-setup`.

Runs the statements of deploy/snowflake, file after file: roles, warehouses, schemas, source tables, masking, grants
and Airflow's user. All of them can be repeated, so a set-up that stopped is simply started again. With DRY_RUN=1 they
are printed instead, as a script, and nothing is connected to. DEPLOYMENT names the database, and begins the names of
roles, warehouses, monitors and users, so that several deployments stand beside each other in one account.
SNOWFLAKE_EDITION says which edition the account has; without it the account is asked. With AFTER_PUBLICATION=1 the
files of after_publication/ are run instead: what is made of marts, which the first publication makes.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlparse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from include.customer_360.settings import PROJECT_ROOT, TEMPLATE_FOLDERS

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection

SETUP_SQL = Path(__file__).parent
AFTER_PUBLICATION = SETUP_SQL / "after_publication"
DEPLOYMENT = "customer_360"
"""The deployment that is set up when none is named."""
ENTERPRISE, STANDARD = "enterprise", "standard"
"""The editions that the set-up tells apart: those with masking policies, and the one without."""
_WITH = {
    ENTERPRISE: "a masking policy keeps personal data from readers",
    STANDARD: "there are no masking policies: readers read secure views without personal data, in schema marts_read",
}

_LOGIN_TIMEOUT_SECONDS = 120
_NEEDS = "the user is a person who may use role accountadmin. `make snowflake-setup DRY_RUN=1` needs none of them."


class SnowflakeSetupError(RuntimeError):
    """The set-up cannot run or stopped; the message says where, what Snowflake said, and what to do."""


@dataclass(frozen=True)
class Statement:
    """One statement of a file of deploy/snowflake, without comments and without its semicolon."""

    file: str
    number: int
    of: int
    sql: str

    @property
    def place(self) -> str:
        """Where it stands, for people."""
        return f"{self.file}, statement {self.number} of {self.of}"

    @property
    def first_line(self) -> str:
        """Its first line, which says what it is about."""
        return self.sql.splitlines()[0]


class SnowflakeLogin(BaseSettings):
    """How to log in, from the variables SNOWFLAKE_... of the environment and of .env."""

    model_config = SettingsConfigDict(
        env_prefix="SNOWFLAKE_", env_file=PROJECT_ROOT / ".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    account: str = ""
    user: str = ""
    private_key_path: str = ""
    private_key_passphrase: SecretStr | None = None
    authenticator: str = ""
    edition: str = ""

    def told_edition(self) -> str:
        """Return the edition that SNOWFLAKE_EDITION tells, empty when it tells none.

        :raises SnowflakeSetupError: when it is no edition.
        """
        return known_edition(self.edition, "SNOWFLAKE_EDITION") if self.edition else ""

    def connection_arguments(self, needs: str = _NEEDS) -> dict[str, Any]:
        """Return what snowflake.connector.connect takes.

        :param needs: what the login is for, told when a variable is missing.
        :raises SnowflakeSetupError: naming every variable that is missing, or the one that cannot be used.
        """
        authenticator = self.authenticator.lower()
        if authenticator not in ("", "externalbrowser"):
            raise SnowflakeSetupError(
                f"SNOWFLAKE_AUTHENTICATOR={self.authenticator!r} cannot be used: set it to externalbrowser, or leave "
                "it empty and set SNOWFLAKE_PRIVATE_KEY_PATH."
            )
        wanted = {"SNOWFLAKE_ACCOUNT": self.account, "SNOWFLAKE_USER": self.user}
        if not authenticator:
            wanted["SNOWFLAKE_PRIVATE_KEY_PATH (or SNOWFLAKE_AUTHENTICATOR=externalbrowser)"] = self.private_key_path
        missing = [name for name, value in wanted.items() if not value]
        if missing:
            raise SnowflakeSetupError(f"Not set: {', '.join(missing)}. Set them in the environment or in .env; {needs}")
        arguments = {"account": self.account, "user": self.user, "login_timeout": _LOGIN_TIMEOUT_SECONDS}
        if authenticator:
            return {**arguments, "authenticator": authenticator}
        key_file = PROJECT_ROOT / Path(self.private_key_path).expanduser()
        if not key_file.is_file():
            raise SnowflakeSetupError(
                f"SNOWFLAKE_PRIVATE_KEY_PATH={self.private_key_path}: no such file. Looked at {key_file}."
            )
        arguments["private_key_file"] = str(key_file)
        if self.private_key_passphrase:
            arguments["private_key_file_pwd"] = self.private_key_passphrase.get_secret_value()
        return arguments


def deployment_name() -> str:
    """Return the deployment to set up, from variable DEPLOYMENT.

    :raises SnowflakeSetupError: when it is no lower-case identifier.
    """
    name = os.environ.get("DEPLOYMENT", "") or DEPLOYMENT
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,199}", name):
        raise SnowflakeSetupError(
            f"DEPLOYMENT={name!r} cannot be used: it becomes the name of the database and the beginning of those of "
            "roles and warehouses. Give lower-case letters, digits and _, beginning with a letter, like "
            "customer_360_staging."
        )
    return name


def known_edition(edition: str, told_by: str) -> str:
    """Return ENTERPRISE or STANDARD for the name of an edition of Snowflake, which is above one or the other.

    :raises SnowflakeSetupError: when there is no such edition.
    """
    name = edition.strip().lower().replace(" ", "_")
    if name == STANDARD:
        return STANDARD
    if name in (ENTERPRISE, "business_critical", "virtual_private_snowflake"):
        return ENTERPRISE
    raise SnowflakeSetupError(
        f"{told_by} is {edition!r}, which is no edition of Snowflake: set SNOWFLAKE_EDITION to standard or enterprise "
        "(also for Business Critical)."
    )


def described_edition(edition: str, told_by: str) -> str:
    """Return, in one line, what the edition means for the set-up."""
    return f"Edition {edition} ({told_by}): {_WITH[edition]}."


def asked_edition(connection: SnowflakeConnection) -> str:
    """Return the edition of the account that is connected to.

    :raises SnowflakeSetupError: when it does not tell, which only a person with role orgadmin is told.
    """
    from snowflake.connector import Error

    try:
        with closing(connection.cursor()) as cursor:
            cursor.execute("select current_account_name()")
            ((account,),) = cursor.fetchall()
            cursor.execute("use role orgadmin")
            cursor.execute("show accounts")
            columns = [column[0].lower() for column in cursor.description]
            accounts = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
    except Error as error:
        raise SnowflakeSetupError(
            f"The account does not tell its edition, which decides how personal data is kept from readers: {error}\n"
            "Set SNOWFLAKE_EDITION to standard or enterprise (also for Business Critical); in Snowsight it stands in "
            "the account's details, below left. Or let SNOWFLAKE_USER use role orgadmin."
        ) from error
    (edition,) = (found["edition"] for found in accounts if found["account_name"] == account)
    return known_edition(edition, f"the edition of account {account}")


def split_statements(file: str, text: str, deployment: str = DEPLOYMENT, edition: str = ENTERPRISE) -> list[Statement]:
    """Return the statements of one file's text, a Jinja template that knows `deployment` and `edition`, in order.

    :raises jinja2.UndefinedError: when the text uses another name.
    """
    templates = Environment(
        undefined=StrictUndefined, keep_trailing_newline=True, loader=FileSystemLoader(TEMPLATE_FOLDERS)
    )
    rendered = templates.from_string(text)
    text = sqlparse.format(rendered.render(deployment=deployment, edition=edition), strip_comments=True)
    statements = sqlparse.split(text, strip_semicolon=True)
    return [Statement(file, number, len(statements), sql) for number, sql in enumerate(statements, start=1)]


def read_statements(
    deployment: str = DEPLOYMENT, edition: str = ENTERPRISE, folder: Path = SETUP_SQL
) -> list[Statement]:
    """Return the statements of a folder's files for one deployment on an edition, in the order in which they run."""
    return [
        statement
        for file in sorted(folder.glob("*.sql"))
        for statement in split_statements(file.name, file.read_text(encoding="utf-8"), deployment, edition)
    ]


def as_script(statements: Iterable[Statement]) -> str:
    """Return the statements as SQL to read or to run by hand, each under the place where it stands."""
    return "\n\n".join(f"-- {statement.place}\n{statement.sql};" for statement in statements)


def run_statements(connection: SnowflakeConnection, statements: Sequence[Statement]) -> None:
    """Run one statement after the other, and print the first line and the result of each.

    :raises SnowflakeSetupError: when one fails; those before it stay, those after it do not run.
    """
    from snowflake.connector import Error

    role = "the user's default role"
    for statement in statements:
        try:
            with closing(connection.cursor()) as cursor:
                cursor.execute(statement.sql)
                rows = cursor.fetchall()
        except Error as error:
            raise SnowflakeSetupError(
                f"{statement.place}, failed:\n{statement.sql}\n\n"
                f"Snowflake says: {error}\n\n"
                f"It ran as {role}. Check that SNOWFLAKE_USER may use that role, and that what the statement changes "
                "belongs to it or to a role under it; a masking policy needs another edition than Standard "
                "(SNOWFLAKE_EDITION=standard). Then run `make snowflake-setup` again: what ran before this statement "
                "stays and is repeated without harm."
            ) from error
        if statement.sql.startswith("use role "):
            role = statement.sql.removeprefix("use ")
        print(f"{statement.place}: {statement.first_line}\n    {rows[0][0] if rows else 'done'}")


def connect(login: SnowflakeLogin, needs: str = _NEEDS) -> SnowflakeConnection:
    """Return a connection, which the caller closes.

    :param needs: what the login is for, told when a variable is missing.
    :raises SnowflakeSetupError: when the login is incomplete or refused.
    """
    arguments = login.connection_arguments(needs)
    print(f"Connecting to account {login.account} as {login.user} ...")
    # Imported here: it takes seconds, and a dry run needs none of it.
    import snowflake.connector

    try:
        return snowflake.connector.connect(**arguments)
    # A key file that is no key, or its passphrase, is refused with ValueError or TypeError.
    except (snowflake.connector.Error, ValueError, TypeError, OSError) as error:
        raise SnowflakeSetupError(
            f"Snowflake account {login.account} cannot be connected to as {login.user}: {error}\n"
            "Check SNOWFLAKE_ACCOUNT (like myorg-myaccount), SNOWFLAKE_USER, and that the public key of "
            "SNOWFLAKE_PRIVATE_KEY_PATH is that user's, with SNOWFLAKE_PRIVATE_KEY_PASSPHRASE if the key has one."
        ) from error


def set_up(login: SnowflakeLogin, deployment: str, folder: Path = SETUP_SQL) -> int:
    """Connect, ask for the edition where none is told, and run a folder's statements; return how many there are.

    :raises SnowflakeSetupError: when the login is incomplete or refused, or a statement fails.
    """
    edition, told_by = login.told_edition(), "SNOWFLAKE_EDITION"
    with closing(connect(login)) as connection:
        if not edition:
            edition, told_by = asked_edition(connection), "as the account says"
        print(described_edition(edition, told_by))
        statements = read_statements(deployment, edition, folder)
        run_statements(connection, statements)
    return len(statements)


def main() -> int:
    """Set up, or with DRY_RUN print the statements; return the exit code."""
    try:
        deployment, login = deployment_name(), SnowflakeLogin()
        after = os.environ.get("AFTER_PUBLICATION", "") not in ("", "0")
        folder = AFTER_PUBLICATION if after else SETUP_SQL
        if os.environ.get("DRY_RUN", "") not in ("", "0"):
            edition = login.told_edition() or ENTERPRISE
            print(f"-- {described_edition(edition, 'SNOWFLAKE_EDITION' if login.edition else 'unless it is set')}\n")
            print(as_script(read_statements(deployment, edition, folder)))
            return 0
        count = set_up(login, deployment, folder)
    except SnowflakeSetupError as error:
        print(error, file=sys.stderr)
        return 1
    if after:
        print(f"What is made of the marts of {deployment} is there: {count} statements.")
        return 0
    print(
        f"Snowflake is set up for {deployment}: {count} statements. "
        f"Next: the keys of {deployment}_airflow and {deployment}_export, docs/snowflake.md."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
