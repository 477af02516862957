"""When an audience is so unlike those before it that a person is asked, on a small DuckDB file."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import DownstreamTasksSkipped, TaskAwaitingInput

from include.customer_360.catalog import ApprovalLimits
from include.customer_360.operators.approval import ApproveAudienceOperator
from tests.unit.audience_warehouse import AS_OF_DATE, AudienceWarehouse, campaign, profile

LIMITS = ApprovalLimits(size_pct=50, entered_points=40, average_value_pct=50)
PREMIUM = campaign(approval=LIMITS)
DATE = datetime.date.fromisoformat(AS_OF_DATE)


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AudienceWarehouse:
    file = tmp_path / "warehouse.duckdb"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "duckdb", "host": str(file)}))
    return AudienceWarehouse(file)


def before(days: int) -> str:
    return str(DATE - datetime.timedelta(days=days))


def remember_audience(warehouse: AudienceWarehouse, days_before: int, size: int, **values: object) -> None:
    """Add an audience of an earlier date: customers C1 to C<size>, none of whom entered it, worth 100.00 each."""
    date, customers = before(days_before), [f"C{number}" for number in range(1, size + 1)]
    warehouse.remember("premium", date, *customers, **{"entered": False, "entered_on": before(60), **values})
    warehouse.keep(*(profile(customer, as_of_date=date, lifetime_value="100.00") for customer in customers))


def what_moved(
    warehouse: AudienceWarehouse, size: int, limits: ApprovalLimits = LIMITS, value: str = "100.00"
) -> list[str]:
    """Decide for customers C1 to C<size>, and return what moved."""
    warehouse.publish(*(profile(f"C{number}", lifetime_value=value) for number in range(1, size + 1)))
    moved: list[str] = warehouse.decide(campaign(approval=limits))["campaigns"]["premium"]["moved"]
    return moved


def test_an_audience_like_those_before_it_has_not_moved(warehouse: AudienceWarehouse) -> None:
    for days in (1, 2, 3):
        remember_audience(warehouse, days, 4)
    assert what_moved(warehouse, 4) == []


def test_a_smaller_audience_is_named_with_its_median_and_limit(warehouse: AudienceWarehouse) -> None:
    for days, size in ((1, 5), (2, 9), (3, 3)):
        remember_audience(warehouse, days, size)
    # The median of 5, 9, 3 is 5; 2 is 60 % below it.
    assert what_moved(warehouse, 2) == ["size: 2 customers; median of the 3 audiences before: 5; limit: 50 %"]


@pytest.mark.parametrize(("size", "moved"), [(2, False), (6, False), (1, True), (7, True)])
def test_what_lies_at_the_limit_has_not_moved(warehouse: AudienceWarehouse, size: int, moved: bool) -> None:
    for days in (1, 2, 3):
        remember_audience(warehouse, days, 4)
    only_size = ApprovalLimits(size_pct=50, entered_points=100, average_value_pct=50)
    assert bool(what_moved(warehouse, size, only_size)) is moved


def test_an_audience_that_is_empty_for_once_has_moved(warehouse: AudienceWarehouse) -> None:
    for days in (1, 2, 3):
        remember_audience(warehouse, days, 4)
    warehouse.publish(profile("C1", eligible_for_premium_campaign=False))
    assert warehouse.decide(PREMIUM)["campaigns"]["premium"]["moved"] == [
        "size: 0 customers; median of the 3 audiences before: 4; limit: 50 %"
    ]


def test_the_share_of_entrants_is_named_with_its_median_and_limit(warehouse: AudienceWarehouse) -> None:
    for days in (1, 2, 3):
        remember_audience(warehouse, days, 4)
    # C5 to C8 enter: 50 % of 8, and nobody entered before.
    limits = ApprovalLimits(size_pct=100, entered_points=49.9)
    assert what_moved(warehouse, 8, limits) == [
        "entered: 50.0 % of them; median of the 3 audiences before: 0.0 %; limit: 49.9 points"
    ]


def test_the_average_value_is_named_with_its_median_and_limit(warehouse: AudienceWarehouse) -> None:
    for days in (1, 2, 3):
        remember_audience(warehouse, days, 2)
    assert what_moved(warehouse, 2, value="151.00") == [
        "average lifetime value: 151.00; median of the 3 audiences before: 100.00; limit: 50 %"
    ]


def test_the_first_waves_never_wait(warehouse: AudienceWarehouse) -> None:
    for days in (1, 2):
        remember_audience(warehouse, days, 9)
    assert what_moved(warehouse, 1) == []


def test_an_audience_that_was_not_approved_does_not_count(warehouse: AudienceWarehouse) -> None:
    for days in (1, 2):
        remember_audience(warehouse, days, 9)
    remember_audience(warehouse, 3, 9, status="suppressed", reason="not approved")
    assert what_moved(warehouse, 1) == []


def test_audiences_further_back_than_audience_trailing_do_not_count(warehouse: AudienceWarehouse) -> None:
    for days in range(1, 15):
        remember_audience(warehouse, days, 2)
    for days in range(15, 32):
        remember_audience(warehouse, days, 9)
    assert what_moved(warehouse, 2) == []


def ask(decided: dict[str, Any], monkeypatch: pytest.MonkeyPatch, only: str = "") -> list[dict[str, Any]]:
    """Run the task; returns what it asks."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr("airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **it: asked.append(it))
    with DAG("approvals", schedule=None):
        operator = ApproveAudienceOperator(task_id="approve_premium", campaign=PREMIUM, only=only)
    ti = SimpleNamespace(id="1", xcom_pull=lambda task_ids: decided)
    if asks := bool(decided["campaigns"]["premium"]["moved"]) and only in ("", "premium"):
        with pytest.raises(TaskAwaitingInput):
            operator.execute({"ti": ti, "task_instance": ti})  # type: ignore[typeddict-item]
    else:
        assert operator.execute({"ti": ti}) is None  # type: ignore[typeddict-item]
    assert bool(asked) is asks
    return asked


def decided(*moved: str) -> dict[str, Any]:
    ends = {"suppressed": 3, "capped": 1, "outranked": 0, "held_out": 1, "over_limit": 0, "exported": 2}
    return {
        "as_of_date": AS_OF_DATE,
        "campaigns": {"premium": {"eligible": 7, **ends, "entered": 1, "reasons": {}, "moved": [*moved]}},
    }


def test_a_person_is_asked_what_moved_with_the_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    [asked] = ask(decided("size: 2 customers; median of the 3 audiences before: 5; limit: 50 %"), monkeypatch)
    assert asked["subject"] == "Export the audience 'premium'?"
    assert asked["options"] == ["Approve", "Reject"]
    assert asked["defaults"] == ["Reject"]
    assert asked["body"] == (
        "**Premium campaign**, as of 2026-03-31, for premium-marketing: the audience is unlike those before it.\n\n"
        "- size: 2 customers; median of the 3 audiences before: 5; limit: 50 %\n\n"
        "premium: 7 eligible = 3 suppressed + 1 capped + 0 outranked + 1 held out + 0 over limit + 2 exported; "
        "1 entered.\n\n"
        "*Approve* exports it. *Reject*, or no answer within 12 hours, exports nothing of this campaign for this date; "
        "the next date is decided as if this one had not been."
    )


def test_nobody_is_asked_on_a_normal_day(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(decided(), monkeypatch) == []


def test_nobody_is_asked_for_a_campaign_that_the_run_is_not_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(decided("size: 2"), monkeypatch, only="retention") == []


def test_the_deadline_is_the_campaigns() -> None:
    with DAG("approvals", schedule=None):
        operator = ApproveAudienceOperator(
            task_id="approve_premium", campaign=campaign(approval=ApprovalLimits(answer_within_hours=2.5))
        )
    assert operator.response_timeout == datetime.timedelta(hours=2.5)
    assert ApproveAudienceOperator.REJECT in operator.options


def test_a_rejection_is_kept_for_the_log_and_skips_the_exports() -> None:
    with DAG("approvals", schedule=None):
        operator = ApproveAudienceOperator(task_id="approve_premium", campaign=PREMIUM)
        operator >> EmptyOperator(task_id="export_premium")
    kept: dict[str, Any] = {}
    ti = SimpleNamespace(map_index=-1, xcom_push=lambda key, value: kept.update({key: value}))
    event = {
        "chosen_options": ["Reject"],
        "params_input": {},
        "responded_at": datetime.datetime(2026, 4, 1, 9, tzinfo=datetime.UTC),
        "responded_by_user": {"id": "1", "name": "ada"},
    }
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        operator.execute_complete({"ti": ti, "task": operator}, event)  # type: ignore[typeddict-item]
    assert skipped.value.tasks == ["export_premium"]
    assert kept["return_value"] == {"chosen_options": ["Reject"], "responded_by_user": {"id": "1", "name": "ada"}}
