"""Asks a person before an audience goes out that is unlike those before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator

from include.customer_360.operators.audiences import shown

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.customer_360.catalog import Campaign


class ApproveAudienceOperator(ApprovalOperator):
    """Let an audience through that is like those before it; ask a person about any other.

    What moved is in what decide_audiences returned. A person sees it in the Airflow UI with the counts, and no personal
    data, and approves or rejects; while it waits it holds no slot. Rejected, or unanswered by the deadline, the exports
    of the campaign are skipped, and log_exports records it.
    Returns (XCom) what Airflow's own operator does: the answer, when and by whom; None when nobody was asked.

    :param campaign: its settings; `approval.answer_within_hours` is the deadline.
    :param only: the name of the campaign that the run is for; empty: all (templated).
    """

    template_fields: Sequence[str] = (*ApprovalOperator.template_fields, "only")

    def __init__(self, *, campaign: Campaign, only: str = "", **kwargs: Any) -> None:  # noqa: ANN401 - passed on
        super().__init__(
            subject=f"Export the audience {campaign.name!r}?",
            defaults=self.REJECT,
            response_timeout=timedelta(hours=campaign.approval.answer_within_hours),
            **kwargs,
        )
        self.campaign = campaign
        self.only = only

    def execute(self, context: Context) -> Any:  # noqa: ANN401 - as in HITLOperator
        """Ask, where there is something to ask."""
        decided = context["ti"].xcom_pull(task_ids="decide_audiences")
        counts = decided["campaigns"][self.campaign.name]
        if self.only not in ("", self.campaign.name):
            self.log.info("The run is for campaign %r only: nobody is asked.", self.only)
            return None
        if not counts["moved"]:
            self.log.info("The audience is like those before it, or one of the first: nobody is asked.")
            return None
        self.body = question(self.campaign, decided["as_of_date"], decided)
        self.log.info("%s", self.body)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:  # noqa: ANN401 - as in HITLOperator
        """Go on after the answer, which is kept first: Airflow's own keeps none of a rejection."""
        answer = {name: event.get(name) for name in ("chosen_options", "responded_by_user")}
        context["ti"].xcom_push(key="return_value", value=answer)
        return super().execute_complete(context, event)


def question(campaign: Campaign, as_of_date: str, decided: Mapping[str, Any]) -> str:
    """Return what a person is asked about an audience, in Markdown: what moved, and the counts."""
    moved = "\n".join(f"- {line}" for line in decided["campaigns"][campaign.name]["moved"])
    return (
        f"**{campaign.label}**, as of {as_of_date}, for {campaign.owner}: the audience is unlike those before it.\n\n"
        f"{moved}\n\n"
        f"{shown(decided, campaign.name)}\n\n"
        f"*Approve* exports it. *Reject*, or no answer within {campaign.approval.answer_within_hours:g} hours, exports "
        "nothing of this campaign for this date; the next date is decided as if this one had not been."
    )
