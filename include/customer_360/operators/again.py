"""Starts a run anew, for the same date and with the same form, when nothing but its connections failed."""

from __future__ import annotations

import datetime
import re
import time
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunLink, TriggerDagRunOperator
from airflow.sdk.exceptions import AirflowSkipException

from include.customer_360.failures import KILLED, LONGEST_NOTE, WHY
from include.customer_360.operators.watch import DbtNodeWatcherOperator
from include.customer_360.settings import load_settings

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

ATTEMPTS = 3
"""The runs of one date that one trigger may come to, the first among them."""
ENDED = ("success", "failed", "skipped", "upstream_failed", "removed")
SECONDS_BETWEEN_LOOKS = 5.0
_LATER_ATTEMPT = re.compile(r"attempt_(\d+)__(.+)")


def attempt_of(run_id: str) -> tuple[int, str]:
    """Return which attempt a run is, counted from 1, and the id of the first."""
    later = _LATER_ATTEMPT.fullmatch(run_id)
    return (int(later[1]), later[2]) if later else (1, run_id)


class ReplacedByLink(TriggerDagRunLink):
    """Leads to the run that replaces this one; nowhere without one."""

    name = "Replaced by"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ANN401 - as in TriggerDagRunLink
        return super().get_link(operator, ti_key=ti_key) if getattr(operator, "trigger_run_id", None) else ""


class RunAgainOperator(TriggerDagRunOperator):
    """Trigger this Dag again when every task of the run that failed did so for a transient reason.

    Stands after all that may fail so, and beside the last task, which keeps the run failed. Starts when one has failed
    and waits for the others, so that it knows all reasons; a good run skips it without a process. Skips itself, saying
    why, when a task failed for another reason; in a backfill, whose starter repeats it; when somebody cleared the run,
    for then a person is there; when the Dag is paused; after ATTEMPTS runs.

    The new run waits RUN_AGAIN_AFTER_MINUTES. Its id says which attempt it is, and of which run, so that no two
    can come of one.

    :param as_of_date: a template of the run's business date; it is rendered only for a run that is replaced.
    :param test_scope: the same of what the run's data tests look at, `touched` or `everything`.
    """

    operator_extra_links = [ReplacedByLink()]  # noqa: RUF012 - as in TriggerDagRunOperator
    ui_color = "#f6e3c5"

    def __init__(self, *, as_of_date: str, test_scope: str, **kwargs: Any) -> None:  # noqa: ANN401 - passed on
        super().__init__(
            trigger_dag_id="{{ dag.dag_id }}",
            logical_date=None,
            skip_when_already_exists=True,
            trigger_rule="one_failed",
            # A second try is a clear.
            retries=0,
            **kwargs,
        )
        self.as_of_date = as_of_date
        self.test_scope = test_scope

    def execute(self, context: Context) -> None:
        """Trigger the run.

        :raises AirflowSkipException: saying why there is none.
        :raises DagRunTriggerException: for Airflow to create the run.
        """
        try:
            reasons = self._transient_reasons(context)
        except AirflowSkipException as skip:
            # Airflow logs it too, in a group that the UI shows closed.
            self.log.info("Skipped: %s", skip)
            raise
        run_id = context["dag_run"].run_id
        attempt, first = attempt_of(run_id)
        pause = datetime.timedelta(minutes=load_settings().run_again_after_minutes)
        self.trigger_run_id = f"attempt_{attempt + 1}__{first}"
        self.run_after = datetime.datetime.now(datetime.UTC) + pause
        self.note = f"Attempt {attempt + 1} of {ATTEMPTS}, in place of {run_id}, which failed: {reasons}"[:LONGEST_NOTE]
        self.conf = {
            **context["params"],
            "as_of_date": self.render_template(self.as_of_date, context),
            "test_everything": self.render_template(self.test_scope, context) == "everything",
        }
        self.log.info("%s, after %s: attempt %d of %d. %s", self.trigger_run_id, pause, attempt + 1, ATTEMPTS, reasons)
        super().execute(context)

    def _transient_reasons(self, context: Context) -> str:
        """Return which tasks failed and why, when the run is one to replace; else raise AirflowSkipException."""
        ti, dag_run = context["ti"], context["dag_run"]
        # A watcher says no more than its build.
        watched = {task.task_id for task in self.dag.tasks if isinstance(task, DbtNodeWatcherOperator)}
        states = self._final_states(context)
        failed = sorted(task_id for task_id, state in states.items() if state == "failed" and task_id not in watched)
        if not failed:
            raise AirflowSkipException("The dbt build was ended by somebody: the run is not tried again.")
        said = {task_id: ti.xcom_pull(task_ids=task_id, key=WHY) for task_id in failed}
        for task_id, why in said.items():
            if why and not why["transient"]:
                raise AirflowSkipException(f"Not tried again: {task_id} would fail again. {why['reason']}")
        # Not by the number of tries: a scheduler that comes up takes tasks up again that another had begun.
        if dag_run.clear_number:
            raise AirflowSkipException("Somebody cleared this run: trigger a new one for the date when it is needed.")
        if dag_run.run_type == "backfill":
            raise AirflowSkipException("A backfill is repeated by hand: `--reprocess-behavior failed`.")
        if ti.get_dag(self.dag_id).is_paused:
            raise AirflowSkipException("The Dag is paused: the run is not tried again.")
        reasons = "; ".join(f"{task_id}: {why['reason'] if why else KILLED}" for task_id, why in said.items())
        attempt, _ = attempt_of(dag_run.run_id)
        if attempt >= ATTEMPTS:
            raise AirflowSkipException(f"Attempt {attempt} of {ATTEMPTS}: the date is not tried again. {reasons}")
        return reasons

    def _final_states(self, context: Context) -> dict[str, str]:
        """Return the state of each task of the run, by task_id, once all that stand before this have ended."""
        run_id = context["dag_run"].run_id
        while True:
            states: dict[str, str] = context["ti"].get_task_states(self.dag_id, run_ids=[run_id])[run_id]
            if all(states.get(task_id) in ENDED for task_id in self.upstream_task_ids):
                return states
            time.sleep(SECONDS_BETWEEN_LOOKS)
