"""On Snowflake one run at a time writes what all share; what a run that died had begun is completed first."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import duckdb
import pytest
from airflow.sdk.exceptions import AirflowSkipException
from jinja2 import Environment, FileSystemLoader

from include.customer_360.operators import turn as module
from include.customer_360.operators.turn import NotItsTurn, Turn, give_back, take, turn
from include.customer_360.settings import SQL_TEMPLATES


@pytest.fixture
def cursor() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        templates = Environment(loader=FileSystemLoader(SQL_TEMPLATES))
        connection.execute(templates.get_template("publish/ops_tables.sql").render(drift=()))
        yield connection


def of_run(dag_run_id: str, second: int = 0, task_id: str = "publish") -> Turn:
    day = datetime.date(2026, 3, 31)
    begun_at = datetime.datetime(2026, 4, 1, 7, 0, second, 123456)
    return Turn(task_id, dag_run_id, day, f"marts_run_20260331_{dag_run_id}", begun_at)


def holders(cursor: duckdb.DuckDBPyConnection) -> list[str]:
    return [run for (run,) in cursor.execute("select dag_run_id from ops.publishing order by 1").fetchall()]


class Run:
    """One run's turn, with what it was told and what it completed."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, own: Turn, alive: tuple[str, ...] = ()) -> None:
        self.said: list[str] = []
        self.completed: list[str] = []
        self.turn = turn(
            cursor,
            "?",
            own,
            is_alive=lambda holder: holder.dag_run_id in alive,
            complete=lambda holder: self.completed.append(holder.dag_run_id),
            log=self.said.append,
        )


def test_who_has_the_turn_is_on_record_and_gives_it_back(cursor: duckdb.DuckDBPyConnection) -> None:
    with Run(cursor, of_run("a")).turn:
        assert holders(cursor) == ["a"]
    assert holders(cursor) == []


def test_the_turn_is_taken_by_one_of_two(cursor: duckdb.DuckDBPyConnection) -> None:
    first, second = of_run("a"), of_run("b", second=1)
    assert take(cursor, "?", first) == first
    assert take(cursor, "?", second) == first
    give_back(cursor, "?", first)
    assert take(cursor, "?", second) == second


def test_of_two_that_took_it_at_once_the_earlier_has_it(cursor: duckdb.DuckDBPyConnection) -> None:
    earlier, later = of_run("z"), of_run("a", second=1)
    for row in (earlier, later):
        values = [row.task_id, row.dag_run_id, row.as_of_date, row.run_schema, row.begun_at]
        cursor.execute("insert into ops.publishing values (?, ?, ?, ?, ?)", values)
    assert take(cursor, "?", later) == earlier
    assert holders(cursor) == ["z"]


def test_a_turn_that_is_given_back_while_it_is_asked_for_is_taken(cursor: duckdb.DuckDBPyConnection) -> None:
    first, second = of_run("a"), of_run("b", second=1)
    take(cursor, "?", first)

    class GivingBack:
        """Has the first one give its turn back after the second one has asked once."""

        fetchall = cursor.fetchall

        def execute(self, sql: str, parameters: tuple) -> None:
            cursor.execute(sql, parameters)
            if sql.startswith("merge") and holders(cursor) == ["a"]:
                give_back(cursor, "?", first)

    assert take(GivingBack(), "?", second) == second


def test_history_does_not_wait_for_a_publication(cursor: duckdb.DuckDBPyConnection) -> None:
    with Run(cursor, of_run("a")).turn, Run(cursor, of_run("b", task_id="write_history"), alive=("a",)).turn:
        assert holders(cursor) == ["a", "b"]


def test_a_run_under_way_is_waited_for_and_named(
    cursor: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(module, "SECONDS_TO_WAIT", 0.05)
    take(cursor, "?", of_run("a"))
    waiting = Run(cursor, of_run("b", second=1), alive=("a",))
    with pytest.raises(NotItsTurn, match=r"a has been doing publish for 2026-03-31 since 2026-04-01 07:00:00"):
        waiting.turn.__enter__()
    assert waiting.said == ["Waiting for a, which does publish for 2026-03-31."]
    assert (waiting.completed, holders(cursor)) == ([], ["a"])


def test_what_a_dead_run_began_is_completed_first(cursor: duckdb.DuckDBPyConnection) -> None:
    take(cursor, "?", of_run("dead"))
    follower = Run(cursor, of_run("b", second=1))
    with follower.turn:
        assert (follower.completed, holders(cursor)) == (["dead"], ["b"])


def test_a_failure_leaves_the_turn_on_record(cursor: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(ValueError, match="cut off"), Run(cursor, of_run("a")).turn:
        raise ValueError("cut off")
    assert holders(cursor) == ["a"]


def test_a_skip_gives_it_back(cursor: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(AirflowSkipException), Run(cursor, of_run("a")).turn:
        raise AirflowSkipException("newer marts")
    assert holders(cursor) == []
