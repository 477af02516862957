"""A session of the doctor on an account: which role asks, what Snowflake says, and what has to be dropped again."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection

SYSADMIN = "sysadmin"
_LONGEST_MESSAGE = 400

Row = dict[str, Any]
"""One row of an answer, by column in lower case."""


@dataclass(frozen=True)
class Finding:
    """One row of the doctor's table.

    :param passed: None for what there is nothing of to look at yet; that fails nothing.
    :param what_to_do: what makes it pass; also a remark on what passed.
    :param failing: what of a group failed, a line each.
    """

    check: str
    observed: str
    expected: str
    passed: bool | None
    what_to_do: str = ""
    failing: tuple[str, ...] = ()


def judged(check: str, observed: str, expected: str, passed: bool, what_to_do: str) -> Finding:
    """Return a finding that says what to do only when it did not pass."""
    return Finding(check, observed, expected, passed, "" if passed else what_to_do)


class NotAnswered(RuntimeError):
    """The account did not answer a check: what was said instead, and what to do."""

    def __init__(self, said: str, what_to_do: str) -> None:
        super().__init__(said)
        self.said = said
        self.what_to_do = what_to_do


@dataclass
class Scratch:
    """A schema of the doctor's own, with the role that owns it and the tables in it."""

    name: str
    role: str
    tables: list[str] = field(default_factory=list)


class Session:
    """A connection, on which one role at a time asks about one deployment.

    :param connection: open; whoever opened it closes it.
    :param deployment: its database, with which the names of its roles and warehouses begin.
    :param user: who is logged in, for what to do.
    """

    def __init__(self, connection: SnowflakeConnection, deployment: str, user: str) -> None:
        self._connection = connection
        self.deployment = deployment
        self.user = user
        self.transformer = f"{deployment}_transformer"
        self.exporter = f"{deployment}_exporter"
        self.reader = f"{deployment}_reader"
        read, transform = f"{deployment}_read", f"{deployment}_transform"
        self._warehouses = {self.transformer: transform, SYSADMIN: transform, self.reader: read, self.exporter: read}
        # Two doctors at once do not meet.
        self.suffix = secrets.token_hex(4)
        self._role = "the user's default role"
        self._scratch: list[Scratch] = []

    def use(self, role: str) -> None:
        """Ask as this role and no other, on the warehouse that it may use; an administrator of users needs none.

        :raises NotAnswered: when the user does not hold the role, or the role may not use the warehouse.
        """
        grants = "useradmin" if role.startswith(self.deployment) else "accountadmin"
        self._execute(f"use role {role}", f"As {grants}: grant role {role} to user {self.user};")
        self._role = role
        self.ask("use secondary roles none")
        if role in self._warehouses:
            self.ask(f"use warehouse {self._warehouses[role]}")

    def ask(self, sql: str) -> list[Row]:
        """Execute a statement and return its rows; none when it has no result.

        :raises NotAnswered: when Snowflake refuses it.
        """
        return self._execute(
            sql,
            f"It ran as {self._role}: {_shortened(sql, 80)} - see that `make snowflake-setup` has run for "
            f"{self.deployment}, and that nothing was changed by hand since.",
        )

    def ask_as(self, roles: Sequence[str], sql: str, enough: Callable[[list[Row]], bool] = bool) -> list[Row]:
        """Return the answer of the first of these roles that has enough to say; else the last answer.

        :param roles: the least comes first.
        :raises NotAnswered: when Snowflake refuses it to all of them; it says how the last of them would get on.
        """
        answer, refusal = None, NotAnswered("", "")
        for role in roles:
            try:
                self.use(role)
                answer = self.ask(sql)
            except NotAnswered as refused:
                refusal = refused
                continue
            if enough(answer):
                return answer
        if answer is None:
            raise refusal
        return answer

    def scratch(self, role: str, purpose: str = "") -> Scratch:
        """Return the doctor's schema that this role owns, for this purpose; make it when it is not there yet.

        It has managed access, as all schemas of a deployment.

        :raises NotAnswered: when the role may not make one.
        """
        name = f"{self.deployment}.doctor_{self.suffix}{purpose and '_'}{purpose}"
        for made in self._scratch:
            if made.name == name:
                return made
        # Known before it is made: an interruption in between leaves nothing behind.
        schema = Scratch(name, role)
        self._scratch.append(schema)
        try:
            self.ask(f"create schema {name} with managed access")
        except NotAnswered:
            self._scratch.remove(schema)
            raise
        return schema

    def make_table(self, schema: Scratch, table: str, columns: str, query: str = "") -> str:
        """Make a transient table in a schema of the doctor's, empty or from a query, and return its full name.

        :raises NotAnswered: when the role may not.
        """
        name = f"{schema.name}.{table}"
        schema.tables.append(name)
        self.ask(f"create transient table {name} ({columns})" + (f" as ({query})" if query else ""))
        return name

    def clean_up(self) -> list[str]:
        """Drop all schemas of the doctor's; return for each that is left what Snowflake said and what to do."""
        return [left for schema in reversed(self._scratch) for left in self._drop(schema)]

    @property
    def made(self) -> int:
        """The number of schemas that were made."""
        return len(self._scratch)

    def _drop(self, schema: Scratch) -> list[str]:
        drop = f"drop schema if exists {schema.name} cascade"
        try:
            self.use(schema.role)
            try:
                self.ask(drop)
            except NotAnswered:
                # A table with a masking policy may keep its schema.
                for table in schema.tables:
                    self.ask(f"drop table if exists {table}")
                self.ask(drop)
        except NotAnswered as refused:
            return [f"{schema.name}: {refused.said} As {schema.role}: {drop};"]
        return []

    def _execute(self, sql: str, what_to_do: str) -> list[Row]:
        from snowflake.connector import Error

        try:
            with closing(self._connection.cursor()) as cursor:
                cursor.execute(sql)
                columns = [column[0].lower() for column in cursor.description or ()]
                return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
        except Error as error:
            raise NotAnswered(_shortened(str(error.raw_msg or error), _LONGEST_MESSAGE), what_to_do) from error


def value_of(row: Row, column: str) -> str:
    """Return a column of an answer as text.

    :raises NotAnswered: when the answer has no such column.
    """
    if column not in row:
        raise NotAnswered(
            f"The answer has no column {column}, but {', '.join(row)}.",
            "Snowflake has changed it: adapt deploy/snowflake to it.",
        )
    return str(row[column])


def named(rows: Sequence[Row], name: str, column: str = "name") -> Row | None:
    """Return the row whose name it is, in any case; None without one. `like` takes _ for any character."""
    return next((row for row in rows if value_of(row, column).lower() == name.lower()), None)


def _shortened(text: str, longest: int) -> str:
    """Return the text in one line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 3]}..."
