"""The arithmetic of the simulator, by hand."""

from __future__ import annotations

import pytest

from app.simulator import Lift, Outcome, Plan, contacted, outcome, verdict

# 100 customers at 1 + 9 dollars cost 1,000; at a margin of 20 % a lift of 50 dollars pays them.
PLAN = Plan(customers=100, contact_cost=1, offer_cost=9, margin_pct=20)
OPEN = ", and the interval has both: whether it pays is not known."


def test_cost_and_break_even() -> None:
    assert (PLAN.cost, PLAN.break_even_lift) == (1000, 50)


@pytest.mark.parametrize(
    ("lift", "brings"),
    [
        (60, Outcome(spend=6000, margin=1200, net=200)),
        (50, Outcome(spend=5000, margin=1000, net=0)),
        (0, Outcome(spend=0, margin=0, net=-1000)),
        (-5, Outcome(spend=-500, margin=-100, net=-1100)),
        (None, None),
    ],
)
def test_what_a_lift_brings(lift: float | None, brings: Outcome | None) -> None:
    assert outcome(PLAN, lift) == brings


def test_without_a_margin_nothing_breaks_even() -> None:
    plan = Plan(customers=100, contact_cost=1, offer_cost=9, margin_pct=0)
    assert plan.break_even_lift is None
    assert outcome(plan, 60) == Outcome(spend=6000, margin=0, net=-1000)
    assert verdict(plan, Lift(60, 50, 70)) == "Without a margin no lift pays for it."


@pytest.mark.parametrize(
    ("lift", "said"),
    [
        (Lift(60, 50, 70), "It pays over the whole interval."),
        (Lift(40, 30, 49.99), "It does not pay anywhere in the interval."),
        (Lift(60, 49, 71), "It pays at the expected lift, and the interval has both: whether it pays is not known."),
        (
            Lift(40, 20, 60),
            "It does not pay at the expected lift, and the interval has both: whether it pays is not known.",
        ),
        (Lift(50), "It pays at this lift, of which no interval is known."),
        (Lift(49), "It does not pay at this lift, of which no interval is known."),
    ],
)
def test_how_a_lift_stands_to_the_one_that_pays(lift: Lift, said: str) -> None:
    assert verdict(PLAN, lift) == said


@pytest.mark.parametrize(
    ("reachable", "holdout_share", "limit", "expected"),
    [
        (1000, 0.05, 5000, 950),
        (1000, 0.05, 900, 900),
        (1000, 0.0, 5000, 1000),
        (0, 0.05, 5000, 0),
        (7, 0.5, 5000, 3),  # 3.5 held out are 4
    ],
)
def test_who_is_contacted(reachable: int, holdout_share: float, limit: int, expected: int) -> None:
    assert contacted(reachable, holdout_share, limit) == expected
