"""Why a task failed, in a line for people, and whether the same run would do better a little later.

What is transient, and what the warehouse refuses for good, are the two tables below. Errors are read as text, for that
is all that dbt leaves of one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from include.customer_360.runbook import place_of, what_to_do

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

WHY = "why"
"""The XCom of a task that failed or was skipped: `reason`, one line, and `transient`; `checks` where those failed.

A check is its `mart`, `check` (the name), `observed`, `expected` and `examples`, keys of rows at fault.
"""
EXAMPLES_BY_CHECK = "failing_rows"
"""The XCom of keys of rows that failed data tests, some of them by the test's name: of who keeps them."""
KILLED = (
    "it was killed, or its worker was lost; if memory ran out, lower WAREHOUSE_MEMORY or give the worker more, else a "
    "new run does"
)
"""The reason of a task that ended without a word: a process that is killed has none left."""
FAILED = ("failed", "upstream_failed")
"""The states of a task by which its run has failed."""
LONGEST_REASON = 400
"""Characters of a reason."""
LONGEST_NOTE = 1000
"""Characters of a run's note, as Airflow keeps it."""

TRANSIENT: Mapping[str, str] = {
    r"250001.*(Could not connect to Snowflake backend|Service is unavailable)": "Snowflake could not be reached",
    r"250002\b": "the connection to Snowflake was closed",
    r"250003\b(?!.*\b(403|SSL|certificate)\b)": "Snowflake gave no answer",
    r"250005\b": "Snowflake's server failed",
    r"25101[12]\b": "Snowflake could not be reached in time",
    r"252007\b": "the session on Snowflake could not be renewed",
    r"252010\b": "a result could not be fetched from Snowflake",
    r"290(408|429|5\d\d)\b": "Snowflake answered with an HTTP error",
    r"39011[1234]\b": "the session on Snowflake was gone",
    r"IO Error: Could not set lock on file": "another process has the DuckDB file",
}
"""By pattern of a line that the warehouse's client says, what happened. Connections only, never what is in the rows."""

TRANSIENT_CLASSES = (
    "builtins.ConnectionError",
    "builtins.TimeoutError",
    "requests.exceptions.ConnectionError",
    "requests.exceptions.Timeout",
    "urllib3.exceptions.ProtocolError",
)
"""Exceptions of the network that reach a task as they are, and those derived from them."""

REFUSED: Mapping[str, str] = {
    r"(250001|390\d\d\d).*(Incorrect username or password|JWT token is invalid|user.* (locked|disabled))": (
        "Correct user and key in the Airflow connection, or the user's public key: `make snowflake-setup`."
    ),
    r"(250001|390\d\d\d).*is not allowed to access Snowflake": (
        "Allow the address of the workers in the account's network policy."
    ),
    r"(250001|250003|290403).*(\b403\b|Verify the account name)": (
        "Correct the account in the Airflow connection, or what stands between the workers and Snowflake."
    ),
    r"(250001|390\d\d\d).*\bRole '": "Correct the role in the Airflow connection, or grant it: `make snowflake-setup`.",
    r"00(3001|2043)\b": "Grant what is missing: `make snowflake-setup`, then `make snowflake-doctor`.",
    r"002003\b.*not authorized": (
        "See whether it is there, and grant what is missing: `make snowflake-setup`, then `make snowflake-doctor`."
    ),
}
"""By the same, what a person has to do: no other try helps."""

# dbt puts such lines before what the client says: `Database Error in model x (models/x.sql)`.
_HEADING = re.compile(r".*\b(Database|Runtime) Error( in .*)?")
# What stands before the client's own text in the line: the name of a node, or of an exception.
_NAMES = re.compile(r"([\w.]+: )*?(?=\d{6}\b|IO Error:)")


class LostSight(AirflowException):
    """Airflow lost sight of a task and started it again, though the task may not be: the same run does better anew."""


def said_by_client(text: str) -> str:
    """Return what the warehouse's client says in an error's text, from its number on, as one line.

    Only the beginning counts: further on, the text may hold what stood in a row.
    """
    lines = text.strip().splitlines()
    while len(lines) > 1 and _HEADING.fullmatch(lines[0]):
        del lines[0]
    said = " ".join(" ".join(lines).split())
    names = _NAMES.match(said)
    return said[names.end() :] if names else said


def what_to_correct(text: str) -> str | None:
    """Return what a person has to do about an error that the warehouse raises for good; None when it is no refusal."""
    said = said_by_client(text)
    return next((step for sign, step in REFUSED.items() if re.match(sign, said)), None)


def is_transient(text: str) -> bool:
    """Return whether an error's text is that of a connection which failed, and not of a refusal."""
    said = said_by_client(text)
    return not what_to_correct(text) and any(re.match(sign, said) for sign in TRANSIENT)


def causes_of(error: BaseException | None) -> Iterable[BaseException]:
    """Yield an exception and what it was raised from, the last first."""
    while error is not None:
        yield error
        error = error.__cause__


def comes_from_connection(error: BaseException) -> bool:
    """Return whether an exception, or what it was raised from, is that of a connection which failed."""
    causes = list(causes_of(error))
    if any(isinstance(cause, AirflowFailException) or what_to_correct(str(cause)) for cause in causes):
        return False
    names = {f"{kind.__module__}.{kind.__qualname__}" for cause in causes for kind in type(cause).__mro__}
    return bool(names.intersection(TRANSIENT_CLASSES)) or any(is_transient(str(cause)) for cause in causes)


def one_line(text: str) -> str:
    """Return the text as one line of at most LONGEST_REASON characters."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_REASON else f"{line[: LONGEST_REASON - 3]}..."


def keep_reason(context: Context) -> None:
    """Leave, as XCom WHY, why a task failed or was skipped: for the note of its run and for what follows a failure.

    A callback of every task. A dbt build says it by node (`node_failures`, by name), and is transient when all of them
    are; an operator that skips itself says it in `skip_reason`, one whose checks failed says which in `failed_checks`.
    The last line of a failed task's log says where the runbook has what to do.
    """
    error: Any = context.get("exception")
    nodes: Mapping[str, str] = getattr(context["task"], "node_failures", {})
    if error is None:
        reason, transient = getattr(context["task"], "skip_reason", ""), False
    elif nodes:
        reason = "; ".join(f"{name}: {said_by_client(message)}" for name, message in nodes.items())
        transient = all(is_transient(message) for message in nodes.values())
    else:
        reason = str(error) or type(error).__name__
        transient = isinstance(error, LostSight) or comes_from_connection(error)
    ti = context["ti"]
    if reason:
        why = {"reason": one_line(reason), "transient": transient}
        if checks := getattr(context["task"], "failed_checks", ()):
            why["checks"] = list(checks)
        ti.xcom_push(key=WHY, value=why)
    if error is not None and not isinstance(error, AirflowSkipException):
        log.error("What to do: %s", what_to_do(place_of(ti.task_id)))
