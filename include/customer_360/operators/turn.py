"""One run at a time: on Snowflake whose turn it is to write what all runs share, as the warehouse itself records it."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowSkipException

SECONDS_TO_WAIT = 600.0
SECONDS_BETWEEN_LOOKS = 5.0


class NotItsTurn(AirflowException):
    """Another run has been writing for too long; a later try may find it done."""


@dataclass(frozen=True)
class Turn:
    """A row of ops.publishing: which run writes, or died while it did."""

    task_id: str
    dag_run_id: str
    as_of_date: datetime.date
    run_schema: str
    begun_at: datetime.datetime


@contextmanager
def turn(
    cursor: Any,  # noqa: ANN401 - DB-API
    placeholder: str,
    own: Turn,
    is_alive: Callable[[Turn], bool],
    complete: Callable[[Turn], None],
    log: Callable[[str], None],
) -> Iterator[None]:
    """Take the turn of a task, wait for whoever has it, and give it back at the end.

    After an error the turn stays on record, and who comes next completes what was begun; a task that skips itself has
    begun nothing. Snowflake has no lock of its own that outlives a clone, which commits.

    :param own: the turn that is asked for.
    :param is_alive: whether the run that has the turn still works.
    :param complete: finishes what a run that is not alive began, and raises when it cannot.
    :raises NotItsTurn: when another run has had it for SECONDS_TO_WAIT.
    """
    deadline = time.monotonic() + SECONDS_TO_WAIT
    said = False
    while (holder := take(cursor, placeholder, own)) != own:
        if not is_alive(holder):
            log(f"{holder.dag_run_id} ended while it did {holder.task_id} for {holder.as_of_date}: completed first.")
            complete(holder)
            give_back(cursor, placeholder, holder)
            continue
        if time.monotonic() > deadline:
            raise NotItsTurn(
                f"{holder.dag_run_id} has been doing {holder.task_id} for {holder.as_of_date} since {holder.begun_at} "
                f"UTC, and is under way. Waited {SECONDS_TO_WAIT:.0f} s; see what keeps it, then clear this task."
            )
        if not said:
            log(f"Waiting for {holder.dag_run_id}, which does {holder.task_id} for {holder.as_of_date}.")
            said = True
        time.sleep(SECONDS_BETWEEN_LOOKS)
    try:
        yield
    except AirflowSkipException:
        give_back(cursor, placeholder, own)
        raise
    give_back(cursor, placeholder, own)


def take(cursor: Any, placeholder: str, own: Turn) -> Turn:  # noqa: ANN401 - DB-API
    """Take the turn where it is free; return whose it is. Of two that took it at once the earlier has it."""
    holders: list[Turn] = []
    while not holders:  # Whoever had it may give it back between the two statements.
        cursor.execute(
            f"merge into ops.publishing as taken using (select {placeholder} as task_id, {placeholder} as dag_run_id, "
            f"cast({placeholder} as date) as as_of_date, {placeholder} as run_schema, "
            f"cast({placeholder} as timestamp) as begun_at) as wanted on taken.task_id = wanted.task_id "
            f"when not matched then insert ({', '.join(_COLUMNS)}) "
            f"values ({', '.join(f'wanted.{name}' for name in _COLUMNS)})",
            (own.task_id, own.dag_run_id, own.as_of_date.isoformat(), own.run_schema, own.begun_at.isoformat(sep=" ")),
        )
        cursor.execute(
            f"select {', '.join(_COLUMNS)} from ops.publishing where task_id = {placeholder} "
            "order by begun_at, dag_run_id",
            (own.task_id,),
        )
        holders = [Turn(*row) for row in cursor.fetchall()]
    if own in holders[1:]:
        give_back(cursor, placeholder, own)
    return holders[0]


def give_back(cursor: Any, placeholder: str, given: Turn) -> None:  # noqa: ANN401 - DB-API
    """Let others have the turn."""
    cursor.execute(
        f"delete from ops.publishing where task_id = {placeholder} and dag_run_id = {placeholder} "
        f"and begun_at = cast({placeholder} as timestamp)",
        (given.task_id, given.dag_run_id, given.begun_at.isoformat(sep=" ")),
    )


_COLUMNS = ("task_id", "dag_run_id", "as_of_date", "run_schema", "begun_at")
