"""Tells people that a run failed, that it goes well again, or that marts are late: one message for each.

Airflow calls the first two where a run ends, in the Dag processor, whatever ended it: a failed check, a killed task, a
timeout. They are sent by Airflow's own notifiers, to all of ALERT_CONNECTIONS that there are. What was told of and is
not over yet is kept as an Airflow Variable per Dag and date, so that a recovery is told where its failure was.
"""

from __future__ import annotations

import datetime
import html
import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import Connection, Variable
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowNotFoundException
from asgiref.sync import sync_to_async

from include.customer_360.as_of_date import decide_as_of_date
from include.customer_360.failures import EXAMPLES_BY_CHECK, KILLED, WHY, one_line
from include.customer_360.runbook import DEADLINE, place_of, what_to_do
from include.customer_360.settings import ALERT_CONNECTIONS, load_settings

if TYPE_CHECKING:
    from airflow.sdk import DAG, Context

log = logging.getLogger(__name__)

OPEN = "customer_360_alerts"
"""How the Variables begin of what was told of and is not over: `customer_360_alerts.<dag_id>.<as_of_date>`."""
PUBLISHED = "customer_360_published"
"""The Variable with the latest date that was published, YYYY-MM-DD."""
MOST_FAILURES = 10
MOST_EXAMPLES = 5
TRIES = 2
SECONDS_BETWEEN_TRIES = 1.0
SECONDS_FOR_AN_ANSWER = 5
ONE_OF_A_BACKFILL = datetime.timedelta(hours=12)
"""How long the same failure of further dates of a backfill is not told again."""

_ADDRESS = re.compile(r"[^\s<>'\"(),;:]+@[^\s<>'\"(),;:]+")
# What a warehouse says of an error may quote what stood in a row.
_OF_THE_WAREHOUSE = re.compile(r"\b(?:[A-Z][a-z]+ )+Error\b|\b\d{6} \(\w{5}\)|\bcould not run on schema\b")
_QUOTED = re.compile(r"'[^']*'?|\"[^\"]*\"?")


@dataclass(frozen=True)
class Failure:
    """A task that failed: why, which checks (mart, check, observed, expected, examples), where to look."""

    task: str
    reason: str
    log: str
    runbook: str
    checks: Sequence[Mapping[str, Any]] = ()

    def lines(self) -> Iterator[str]:
        """Yield it as people read it."""
        yield f"Task {self.task}"
        if not self.checks:
            yield f"  {self.reason}"
        for check in self.checks:
            yield f"  mart {check['mart']}, check {check['check']}"
            yield f"    observed: {check['observed']}"
            yield f"    expected: {check['expected']}"
            if check["examples"]:
                yield f"    for example: {', '.join(check['examples'])}"
        yield f"  log: {self.log}"
        yield f"  what to do: {self.runbook}"


@dataclass(frozen=True)
class Message:
    """What people are told: `event` is failure, recovery or late."""

    event: str
    subject: str
    text: str
    dag_id: str
    as_of_date: str
    run_id: str
    run: str
    failures: Sequence[Failure] = field(default=())


def without_values(text: str) -> str:
    """Return a line without what may have stood in a row: any address, and what a warehouse's error quotes."""
    line = _ADDRESS.sub("(an address)", one_line(text))
    if found := _OF_THE_WAREHOUSE.search(line):
        said, _, _ = line[found.start() :].partition(" LINE ")
        line = line[: found.start()] + _QUOTED.sub("'...'", said)
    return line


def failure_message(dag_id: str, as_of_date: str, run_id: str, failures: Sequence[Failure], ended: str = "") -> Message:
    """Return what is told of a failed run.

    :param ended: Airflow's word for why the run ended, when no task of it failed.
    """
    first = failures[0].task.rpartition(".")[2] if failures else ended
    others = f" and {len(failures) - 1} more" if len(failures) > 1 else ""
    still = (
        "Readers keep what was published before."
        if dag_id == "customer_360_refresh"
        else "The audiences of its date are not all there."
    )
    lines = [f"{dag_id} failed for {as_of_date}. {still}", ""]
    if not failures:
        lines += [f"The run was ended by Airflow: {ended}.", f"  what to do: {what_to_do(DEADLINE)}"]
    for failure in failures[:MOST_FAILURES]:
        lines += failure.lines()
    if len(failures) > MOST_FAILURES:
        lines.append(f"{len(failures) - MOST_FAILURES} more tasks failed: the run has them.")
    lines += ["", f"Run: {address_of_run(dag_id, run_id)}"]
    return Message(
        event="failure",
        subject=f"{dag_id} failed for {as_of_date}: {first}{others}",
        text="\n".join(lines),
        dag_id=dag_id,
        as_of_date=as_of_date,
        run_id=run_id,
        run=address_of_run(dag_id, run_id),
        failures=tuple(failures[:MOST_FAILURES]),
    )


def recovery_message(dag_id: str, as_of_date: str, run_id: str, over: Mapping[str, Mapping[str, Any]]) -> Message:
    """Return what is told of a run that went well after failures that were told.

    :param over: by date, what was kept of each.
    """
    lines = [f"{dag_id} went well for {as_of_date}."]
    for date, told in sorted(over.items()):
        lines.append(f"It had failed for {date} ({told['run_id']}).")
        if date != as_of_date and dag_id == "customer_360_refresh":
            lines.append(
                f"  {date} itself: marts.customer_360_history has no row of it until a run for it goes well; start one "
                "by the form, or backfill it."
            )
    lines += ["", f"Run: {address_of_run(dag_id, run_id)}"]
    return Message(
        event="recovery",
        subject=f"{dag_id} recovered: {as_of_date} went well",
        text="\n".join(lines),
        dag_id=dag_id,
        as_of_date=as_of_date,
        run_id=run_id,
        run=address_of_run(dag_id, run_id),
    )


def late_message(dag_id: str, as_of_date: str, run_id: str, hour: str, states: Mapping[str, str | None]) -> Message:
    """Return what is told when the marts of a date are not published by the hour.

    :param states: of the run's tasks.
    """
    by_state = {
        wanted: sorted(task for task, state in states.items() if state == wanted)
        for wanted in ("failed", "running", "deferred", "up_for_retry", "scheduled", "queued")
    }
    what = [f"  {state}: {', '.join(tasks)}" for state, tasks in by_state.items() if tasks]
    lines = [
        f"The marts of {as_of_date} are not published at {hour} in New York. Readers keep what was published before.",
        "",
        f"Of run {run_id}:",
        *(what or ["  no task is under way"]),
        f"  what to do: {what_to_do(DEADLINE)}",
        "",
        f"Run: {address_of_run(dag_id, run_id)}",
    ]
    return Message(
        event="late",
        subject=f"The marts of {as_of_date} are not published",
        text="\n".join(lines),
        dag_id=dag_id,
        as_of_date=as_of_date,
        run_id=run_id,
        run=address_of_run(dag_id, run_id),
    )


def tell(message: Message) -> bool:
    """Send a message by each connection that there is; one that fails does not keep the others from it.

    Return whether anybody has it.
    """
    told = False
    for conn_id in ALERT_CONNECTIONS:
        try:
            connection = Connection.get(conn_id)
        except AirflowNotFoundException:
            continue
        for attempt in range(1, TRIES + 1):
            try:
                _SENDERS[conn_id](message, connection)
            except Exception as error:
                # Of any kind: it comes from one of three libraries, and the next connection is to be tried.
                if attempt == TRIES:
                    log.exception(
                        "%r was not told by connection %s, in %d tries: %s. Correct the connection, as docs/alerts.md "
                        "says, and see the run yourself: %s",
                        message.subject,
                        conn_id,
                        TRIES,
                        type(error).__name__,
                        message.run,
                    )
                else:
                    time.sleep(SECONDS_BETWEEN_TRIES)
            else:
                log.info("%r was told by connection %s.", message.subject, conn_id)
                told = True
                break
    return told


def _send_by_http(message: Message, connection: Connection) -> None:
    from airflow.providers.http.notifications.http import HttpNotifier

    HttpNotifier(
        http_conn_id=connection.conn_id,
        json=asdict(message),
        headers={"Content-Type": "application/json"},
        extra_options={"timeout": SECONDS_FOR_AN_ANSWER},
    ).notify({})


def _send_by_slack(message: Message, connection: Connection) -> None:
    from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier

    SlackWebhookNotifier(
        slack_webhook_conn_id=connection.conn_id,
        text=f"*{message.subject}*\n```\n{message.text}\n```",
        unfurl_links=False,
        timeout=SECONDS_FOR_AN_ANSWER,
    ).notify({})  # type: ignore[no-untyped-call]


def _send_by_smtp(message: Message, connection: Connection) -> None:
    from airflow.providers.smtp.notifications.smtp import SmtpNotifier

    to = connection.extra_dejson.get("to")
    if not to:
        raise ValueError("the connection's extra names no recipients: give it `to`, addresses with commas between them")
    SmtpNotifier(
        smtp_conn_id=connection.conn_id,
        to=to,
        subject=message.subject,
        html_content=f"<pre>{html.escape(message.text)}</pre>",
    ).notify({})


_SENDERS: Mapping[str, Callable[[Message, Connection], None]] = {
    "alerts_http": _send_by_http,
    "alerts_slack": _send_by_slack,
    "alerts_smtp": _send_by_smtp,
}


def tell_failure(context: Context) -> None:
    """Tell of a run that failed, once: a callback of a Dag.

    Not of one that another run takes the place of: its last attempt tells. Nor of one date more of a backfill that
    fails as another did.
    """
    run = _Run(context)
    if "run_again" in run.dag.task_ids and run.xcom("run_again", "trigger_run_id"):
        log.info("%s is replaced by another run: nobody is told.", run.run_id)
        return
    failures = run.failures()
    kept = {
        "run_id": run.run_id,
        "task": failures[0].task if failures else "",
        "backfill": run.is_backfill,
        "told_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    if run.is_backfill and any(_is_same_of_backfill(kept, told) for told in open_failures(run.dag_id).values()):
        log.info("Another date of the backfill failed at %s too, which was told.", kept["task"])
        return
    if tell(failure_message(run.dag_id, run.as_of_date, run.run_id, failures, ended=str(context.get("reason", "")))):
        Variable.set(f"{OPEN}.{run.dag_id}.{run.as_of_date}", json.dumps(kept))


def _is_same_of_backfill(failed: Mapping[str, Any], told: Mapping[str, Any]) -> bool:
    age = datetime.datetime.fromisoformat(failed["told_at"]) - datetime.datetime.fromisoformat(told["told_at"])
    return told["backfill"] and told["task"] == failed["task"] and age < ONE_OF_A_BACKFILL


def tell_success(context: Context) -> None:
    """Tell of a run that went well when a failure was told that is over by it: a callback of a Dag.

    Over is the failure of the run's own date and, by a run that is none of a backfill, those of earlier nights.
    """
    run = _Run(context)
    if run.states().get("publish") == "success" and run.as_of_date > Variable.get(PUBLISHED, default=""):
        Variable.set(PUBLISHED, run.as_of_date)
    over = {
        date: told
        for date, told in open_failures(run.dag_id).items()
        if date == run.as_of_date or (date < run.as_of_date and not run.is_backfill and not told["backfill"])
    }
    if over and tell(recovery_message(run.dag_id, run.as_of_date, run.run_id, over)):
        for date in over:
            Variable.delete(f"{OPEN}.{run.dag_id}.{date}")


def open_failures(dag_id: str) -> dict[str, dict[str, Any]]:
    """Return, by date, what is kept of the failures of a Dag that were told and are not over."""
    prefix = f"{OPEN}.{dag_id}."
    return {key.removeprefix(prefix): Variable.get(key, deserialize_json=True) for key in Variable.keys(prefix=prefix)}


async def tell_late(context: Mapping[str, Any]) -> None:
    """Tell that the marts of a scheduled run are not published in time: the callback of the Dag's deadline."""
    await sync_to_async(_tell_late)(context)


def _tell_late(context: Mapping[str, Any]) -> None:
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    dag_run = context["dag_run"]
    dag_id, run_id, as_of_date = dag_run["dag_id"], dag_run["dag_run_id"], dag_run["partition_key"]
    if as_of_date <= Variable.get(PUBLISHED, default=""):
        log.info("The marts of %s, or later ones, were published by another run: nobody is told.", as_of_date)
        return
    states = RuntimeTaskInstance.get_task_states(dag_id=dag_id, run_ids=[run_id]).get(run_id, {})
    hour = load_settings().published_by
    tell(late_message(dag_id, as_of_date, run_id, f"{hour:%H:%M}" if hour else "", states))


def address_of_run(dag_id: str, run_id: str) -> str:
    """Return where the Airflow UI shows a run."""
    return f"{conf.get('api', 'base_url', fallback='').rstrip('/')}/dags/{dag_id}/runs/{quote(run_id)}"


class _Run:
    """A run that has ended, as the context of a Dag's callback and the metadata database have it."""

    def __init__(self, context: Context) -> None:
        self.dag: DAG = context["dag"]
        self.dag_id = self.dag.dag_id
        self.dag_run: Any = context.get("dag_run")
        self.run_id: str = self.dag_run.run_id if self.dag_run else context["run_id"]
        self.is_backfill = getattr(self.dag_run, "run_type", "") == "backfill"

    @property
    def as_of_date(self) -> str:
        """YYYY-MM-DD; what the run asked for, where that is no date that can be built."""
        if "decide_audiences" in self.dag.task_ids and (decided := self.xcom("decide_audiences", "return_value")):
            return str(decided["as_of_date"])
        if self.dag_run is None:
            return "an unknown date"
        requested = (self.dag_run.conf or {}).get("as_of_date")
        moments = (self.dag_run.run_after, self.dag_run.start_date)
        try:
            return decide_as_of_date(self.dag_run.partition_key, requested, *moments).isoformat()
        except ValueError:
            return one_line(str(self.dag_run.partition_key or requested))

    def states(self) -> dict[str, str]:
        """Return the state of each task, that of a mapped one as `<task_id>_<number>`."""
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        states: dict[str, dict[str, str]] = RuntimeTaskInstance.get_task_states(
            dag_id=self.dag_id, run_ids=[self.run_id]
        )
        return states.get(self.run_id, {})

    def xcom(self, task_id: str, key: str, map_index: int = -1) -> Any:  # noqa: ANN401 - whatever was pushed
        """Return what a task of the run left, None without it."""
        from airflow.sdk.execution_time.xcom import XCom

        return XCom.get_one(key=key, dag_id=self.dag_id, task_id=task_id, run_id=self.run_id, map_index=map_index)

    def failures(self) -> list[Failure]:
        """Return what failed by itself: not what only watches another task, nor what failed because another had."""
        failed = dict(self._failed())
        return [
            self._failure(name, *failed[name])
            for name in sorted(failed, key=self._place)
            if not self.dag.get_task(failed[name][0]).get_flat_relative_ids(upstream=True)
            & {task_id for task_id, _ in failed.values()}
        ]

    def _failed(self) -> Iterator[tuple[str, tuple[str, int]]]:
        for name, state in self.states().items():
            if state != "failed":
                continue
            task_id, map_index = name, -1
            if name not in self.dag.task_ids:
                task_id, _, number = name.rpartition("_")
                map_index = int(number)
            if self.dag.get_task(task_id).task_type != "DbtNodeWatcherOperator":
                yield name, (task_id, map_index)

    def _place(self, name: str) -> tuple[int, str]:
        """Return where a task comes in the run: after how many others."""
        task_id = name if name in self.dag.task_ids else name.rpartition("_")[0]
        return len(self.dag.get_task(task_id).get_flat_relative_ids(upstream=True)), name

    def _failure(self, name: str, task_id: str, map_index: int) -> Failure:
        why = self.xcom(task_id, WHY, map_index) or {}
        kept = self.xcom("keep_validation_results", EXAMPLES_BY_CHECK) if why.get("checks") else {}
        mapped = f"/mapped/{map_index}" if map_index >= 0 else ""
        return Failure(
            task=name,
            reason=without_values(why.get("reason", KILLED)),
            log=f"{address_of_run(self.dag_id, self.run_id)}/tasks/{task_id}{mapped}",
            runbook=what_to_do(place_of(task_id)),
            checks=[_check(check, (kept or {}).get(check["check"], ())) for check in why.get("checks", ())],
        )


def _check(check: Mapping[str, Any], kept: Sequence[str]) -> dict[str, Any]:
    """Return a failed check as people are told of it.

    :param kept: keys of rows at fault that were found after it failed.
    """
    told: dict[str, Any] = {
        name: without_values(str(check[name])) for name in ("mart", "check", "observed", "expected")
    }
    told["examples"] = [without_values(str(key)) for key in check["examples"] or kept][:MOST_EXAMPLES]
    return told
