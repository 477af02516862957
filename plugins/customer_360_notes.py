"""The note of each finished run: its date, what was published or why not, what failed first and why.

Airflow calls the listener where a run ends, in the scheduler as a rule, before it saves the run: no login is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

from include.customer_360.as_of_date import decide_as_of_date
from include.customer_360.failures import KILLED, LONGEST_NOTE, WHY, one_line

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy.orm import Session

DAG_IDS = ("customer_360_refresh", "campaign_exports")
RETURNED = "return_value"
TRIGGERED = "trigger_run_id"
OWN_LINES = ("As of ", "Checks: ", "Replaced by ")
"""How the lines begin that are written here; the others of a note are somebody else's, and stay."""


def note_of(
    as_of_date: str, states: dict[str, str | None], xcoms: dict[tuple[str, str], Any], ended: list[str], msg: str
) -> list[str]:
    """Return the lines of a run's note.

    :param states: of the run's tasks, by name: the task_id and, of a mapped one, what it was mapped to.
    :param xcoms: what its tasks left, by name and key.
    :param ended: those of its tasks that count, in the order in which they ended.
    :param msg: Airflow's word for why the run ended.
    """
    failed = [task_id for task_id in ended if states[task_id] == "failed"]
    outcome, *checks = _what_came_of_it(states, xcoms)
    # The reason first: of a long note the UI shows the beginning.
    lines = [f"As of {as_of_date}: {outcome}."]
    if failed:
        reason = xcoms.get((failed[0], WHY), {}).get("reason", KILLED)
        others = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        lines[0] += f" {failed[0]} failed{others}: {reason}"
    elif msg not in ("success", "task_failure"):
        lines[0] += f" The run was ended: {msg}."
    lines += [f"Checks: {each}." for each in checks]
    if replaced_by := xcoms.get(("run_again", TRIGGERED)):
        lines.append(f"Replaced by {replaced_by}.")
    return lines


def _what_came_of_it(states: dict[str, str | None], xcoms: dict[tuple[str, str], Any]) -> list[str]:
    """Return what readers have of a run and, when there were checks, how many it passed; without their stop."""
    returned = {task_id: value for (task_id, key), value in xcoms.items() if key == RETURNED}
    audiences = [value for task_id, value in returned.items() if task_id.startswith("export_")]
    left_out = [
        why["reason"].rstrip(".")
        for (task_id, key), why in xcoms.items()
        if key == WHY and states.get(task_id) == "skipped" and task_id.startswith(("publish", "decide_", "export_"))
    ]
    not_approved = [
        f"{task_id.removeprefix('approve_')} was not approved"
        for task_id, value in returned.items()
        if task_id.startswith("approve_") and value and "Reject" in value["chosen_options"]
    ]
    if states.get("publish") == "success":
        sentences = ["published " + ", ".join(f"{mart} {rows:,}" for mart, rows in returned["publish"].items())]
    elif audiences:
        sentences = ["exported " + ", ".join(f"{_called(each)} {each['row_count']:,}" for each in audiences)]
    else:
        sentences = [f"nothing {'published' if 'publish' in states else 'exported'}"]
    if left_out and not (audiences or not_approved):
        sentences[0] += f": {left_out[0]}"
    sentences[0] += "".join(f"; {each}" for each in not_approved)
    checks = [
        value for task_id, value in returned.items() if task_id.rpartition(".")[2].startswith("validate_") and value
    ]
    if checks:
        passed, warned = (sum(counts[name] for counts in checks) for name in ("passed", "warned"))
        sentences.append(f"{passed} passed" + (f", {warned} warned" if warned else ""))
    return sentences


def _called(exported: dict[str, Any]) -> str:
    """Return the name of a campaign and, of a further destination, which one."""
    destination: str = exported["destination"]
    campaign: str = exported["campaign"]
    return campaign + ("" if destination == "csv" else f" to {destination}")


def write_note(dag_run: DagRun, msg: str) -> None:
    """Put the lines of this run into its note, in place of those that an earlier end left."""
    # Here: every process imports this file, and few need the models of the database.
    from sqlalchemy.orm import object_session

    session = object_session(dag_run)
    if dag_run.dag_id not in DAG_IDS or session is None:
        return
    tasks = sorted(dag_run.get_task_instances(session=session), key=lambda ti: str(ti.end_date or ""))
    lines = note_of(
        _date_of(dag_run),
        {_name_of(ti): ti.state for ti in tasks},
        _xcoms_of(dag_run, {(ti.task_id, ti.map_index): _name_of(ti) for ti in tasks}, session),
        # What only watches the build fails with it, and says no more.
        [_name_of(ti) for ti in tasks if ti.end_date and ti.operator != "DbtNodeWatcherOperator"],
        msg,
    )
    others = [line for line in (dag_run.note or "").splitlines() if not line.startswith(OWN_LINES)]
    dag_run.note = "\n".join([*others, *lines])[:LONGEST_NOTE]


def _name_of(ti: TaskInstance) -> str:
    return ti.task_id if ti.map_index < 0 else f"{ti.task_id} {ti.rendered_map_index or ti.map_index}"


def _xcoms_of(dag_run: DagRun, names: dict[tuple[str, int], str], session: Session) -> dict[tuple[str, str], Any]:
    from airflow.models.xcom import XComModel
    from sqlalchemy import select

    wanted = select(XComModel).where(
        XComModel.dag_id == dag_run.dag_id,
        XComModel.run_id == dag_run.run_id,
        XComModel.key.in_([WHY, RETURNED, TRIGGERED]),
    )
    found = session.scalars(wanted)
    return {(names[xcom.task_id, xcom.map_index], xcom.key): XComModel.deserialize_value(xcom) for xcom in found}


def _date_of(dag_run: DagRun) -> str:
    requested = (dag_run.conf or {}).get("as_of_date")
    try:
        return decide_as_of_date(dag_run.partition_key, requested, dag_run.run_after, dag_run.start_date).isoformat()
    except ValueError:
        return one_line(str(dag_run.partition_key or requested))


class RunNotes:
    """Airflow's listener."""

    @hookimpl
    def on_dag_run_success(self, dag_run: DagRun, msg: str) -> None:
        """Write the note of a run that succeeded."""
        write_note(dag_run, msg)

    @hookimpl
    def on_dag_run_failed(self, dag_run: DagRun, msg: str) -> None:
        """Write the note of a run that failed."""
        write_note(dag_run, msg)


class Customer360Notes(AirflowPlugin):
    """Registers the listener."""

    name = "customer_360_notes"
    listeners = [RunNotes()]  # noqa: RUF012 - as in AirflowPlugin
