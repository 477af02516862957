"""Which failures pass by themselves, which a person has to see to, and what is kept of one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from snowflake.connector.errors import DatabaseError, OperationalError, ProgrammingError, ServiceUnavailableError

from include.customer_360.failures import (
    LONGEST_REASON,
    WHY,
    comes_from_connection,
    is_transient,
    keep_reason,
    what_to_correct,
)
from include.customer_360.operators.base import WarehouseOperator

HOST = "ab12345.snowflakecomputing.com:443"
UNREACHABLE = OperationalError("Could not connect to Snowflake backend after 5 attempt(s).Aborting", errno=250001)
SERVICE = OperationalError(
    f"Failed to connect to DB. Service is unavailable: {HOST}. 503", errno=250001, sqlstate="08001"
)
NO_ANSWER = OperationalError("Failed to execute request: ('Connection aborted.')", errno=250003)
GONE = ProgrammingError("Session no longer exists. New login required.", errno=390111, sqlstate="08001")
EXPIRED = ProgrammingError("Authentication token has expired. Authenticate again.", errno=390114, sqlstate="08001")
CHUNK = OperationalError("Failed to fetch a result chunk", errno=252010)
PASSWORD = DatabaseError(
    f"Failed to connect to DB: {HOST}. Incorrect username or password was specified.", errno=250001, sqlstate="08001"
)
KEY = DatabaseError(f"Failed to connect to DB: {HOST}. JWT token is invalid. [0a1b]", errno=390144, sqlstate="08001")
ADDRESS = DatabaseError(
    f"Failed to connect to DB: {HOST}. IP 10.0.0.1 is not allowed to access Snowflake.", errno=390422, sqlstate="08001"
)
ACCOUNT = DatabaseError(
    f"Failed to connect to DB. Verify the account name is correct: {HOST}. 403", errno=250001, sqlstate="08001"
)
ROLE = DatabaseError(
    f"Failed to connect to DB: {HOST}. Role 'X' specified in the connect string does not exist or not authorized.",
    errno=390189,
    sqlstate="08001",
)
GRANT = ProgrammingError("Insufficient privileges to operate on schema 'CORE'.", errno=3001, sqlstate="42501")
MISSING = ProgrammingError("Object 'CORE.X' does not exist or not authorized.", errno=2003, sqlstate="42S02")
COLUMN = ProgrammingError("SQL compilation error: invalid identifier 'CHANNEL'", errno=904, sqlstate="42000")
VALUE = ProgrammingError("Numeric value '\n250003: Failed to execute request' is not recognized", errno=100038)
TIMED_OUT = ProgrammingError("Statement reached its statement timeout of 3600 second(s)", errno=630, sqlstate="57014")
LOCKED = 'IO Error: Could not set lock on file "/data/warehouse.duckdb": Conflicting lock is held in python (PID 42).'


@pytest.mark.parametrize(
    "error", [UNREACHABLE, SERVICE, NO_ANSWER, GONE, EXPIRED, CHUNK, ServiceUnavailableError(errno=503)]
)
def test_a_connection_to_snowflake_that_failed_is_transient(error: Exception) -> None:
    assert is_transient(str(error))
    assert is_transient(f"Database Error in model int_customers (models/intermediate/int_customers.sql)\n  {error}")
    assert is_transient(f"Runtime Error\n  Database Error\n    {error}")


@pytest.mark.parametrize(
    "error", [PASSWORD, KEY, ADDRESS, ACCOUNT, ROLE, GRANT, MISSING, COLUMN, VALUE, TIMED_OUT], ids=str
)
def test_a_refusal_and_what_rows_or_sql_are_to_blame_for_is_not(error: Exception) -> None:
    assert not is_transient(str(error))
    assert not is_transient(f"Database Error in model int_customers (models/intermediate/int_customers.sql)\n  {error}")
    assert not comes_from_connection(error)


@pytest.mark.parametrize(
    "message",
    [
        "Got 3 results, configured to fail if != 0",
        "Compilation Error in model x (models/x.sql)\n  Model 'x' depends on a node named 'y' which was not found",
        "Conversion Error: Could not convert string 'IO Error: Could not set lock on file' to DOUBLE",
        "IO Error: No space left on device",
        "IO Error: Corrupt database file: computed checksum 1 does not match stored checksum 2",
    ],
)
def test_a_failed_test_a_mistake_and_a_full_disk_are_not(message: str) -> None:
    assert not is_transient(message)


def test_a_locked_duckdb_file_is_transient() -> None:
    assert is_transient(LOCKED)
    assert is_transient(f"Runtime Error\n  {LOCKED}\n\nSee also https://duckdb.org/docs/stable/connect/concurrency")


@pytest.mark.parametrize(
    ("error", "step"),
    [
        (PASSWORD, "user and key"),
        (KEY, "user and key"),
        (ADDRESS, "network policy"),
        (ACCOUNT, "Correct the account"),
        (ROLE, "Correct the role"),
        (GRANT, "make snowflake-setup"),
        (MISSING, "make snowflake-doctor"),
    ],
    ids=str,
)
def test_a_refusal_says_what_a_person_has_to_do(error: Exception, step: str) -> None:
    assert step in (what_to_correct(str(error)) or "")


@pytest.mark.parametrize("error", [NO_ANSWER, GONE, COLUMN, VALUE, TIMED_OUT], ids=str)
def test_what_is_no_refusal_has_no_such_step(error: Exception) -> None:
    assert what_to_correct(str(error)) is None


def raised_from(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def test_the_cause_of_an_error_counts() -> None:
    assert comes_from_connection(raised_from(AirflowException("The validation SQL could not run"), NO_ANSWER))
    assert comes_from_connection(ConnectionResetError(104, "Connection reset by peer"))
    assert not comes_from_connection(AirflowException("The validation SQL could not run"))


def test_what_an_operator_fails_for_good_is_never_transient() -> None:
    assert not comes_from_connection(raised_from(AirflowFailException("Grants are lost"), NO_ANSWER))


class TaskInstance:
    task_id = "publish"

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: object) -> None:
        self.pushed[key] = value


def kept(exception: BaseException | None, **of_task: object) -> dict[str, Any]:
    """Return what is kept of a task that ended by this exception."""
    task_instance = TaskInstance()
    keep_reason({"exception": exception, "task": SimpleNamespace(**of_task), "ti": task_instance})  # type: ignore[arg-type]
    return task_instance.pushed.get(WHY, {})


def test_the_reason_is_kept_as_one_line() -> None:
    assert kept(AirflowFailException("2 checks failed.\n- a: observed 1")) == {
        "reason": "2 checks failed. - a: observed 1",
        "transient": False,
    }
    assert len(kept(AirflowException("x" * 2000))["reason"]) == LONGEST_REASON


def test_a_skip_is_kept_with_what_the_operator_says_of_it() -> None:
    """Airflow hands no exception on."""
    assert kept(None, skip_reason="Newer marts are published.") == {
        "reason": "Newer marts are published.",
        "transient": False,
    }
    assert kept(None) == {}


def of_node(error: Exception | str) -> str:
    return f"Database Error in model x (models/x.sql)\n  {error}"


def test_a_build_is_transient_when_all_its_failed_nodes_are() -> None:
    failed = AirflowException("dbt invocation completed with errors")
    blips = {"int_customers": of_node(NO_ANSWER), "dim_date": of_node(GONE)}
    assert kept(failed, node_failures=blips) == {
        # The connector words an error by the level of its logger.
        "reason": f"int_customers: {NO_ANSWER}; dim_date: {GONE}",
        "transient": True,
    }
    with_data = {**blips, "unique_dim_date": "Got 1 result, configured to fail if != 0"}
    assert kept(failed, node_failures=with_data)["transient"] is False


class RefusingHook:
    """Stands for SnowflakeHook with an account that refuses, or cannot be reached."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def get_conn(self) -> None:
        raise self.error


def opened(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an operator open the warehouse with this answer."""
    monkeypatch.setenv("WAREHOUSE", "snowflake")
    operator = WarehouseOperator(task_id="write_history", as_of_date="2026-03-30")
    monkeypatch.setattr(WarehouseOperator, "get_db_hook", lambda _: RefusingHook(error))
    with operator.warehouse_session():
        pass


def test_a_wrong_password_fails_at_the_first_try_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """AirflowFailException: Airflow tries no more, instead of twice for four minutes."""
    with pytest.raises(AirflowFailException) as refused:
        opened(PASSWORD, monkeypatch)
    assert str(refused.value) == (
        f"Connection 'warehouse' is refused: {PASSWORD}\n"
        "Correct user and key in the Airflow connection, or the user's public key: `make snowflake-setup`. "
        "Then start a new run."
    )


def test_a_connection_that_failed_stays_what_it_is_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OperationalError):
        opened(UNREACHABLE, monkeypatch)
