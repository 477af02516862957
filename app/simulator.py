"""What a campaign would bring and cost: the arithmetic of the simulator on page Campaigns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Lift:
    """What a customer spends more for being contacted, in dollars.

    :param low: with `high` the 95 % interval; None where there is none.
    """

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Plan:
    """Who would be contacted, at which cost.

    :param customers: who are contacted.
    :param contact_cost: of reaching one customer, in dollars.
    :param offer_cost: of what one customer is offered, in dollars.
    :param margin_pct: what is left of a dollar spent, in percent.
    """

    customers: int
    contact_cost: float
    offer_cost: float
    margin_pct: float

    @property
    def cost(self) -> float:
        """What the plan costs, in dollars."""
        return self.customers * (self.contact_cost + self.offer_cost)

    @property
    def break_even_lift(self) -> float | None:
        """The lift at which the margin pays the cost, in dollars per customer; None when no margin is left."""
        if self.margin_pct <= 0:
            return None
        return (self.contact_cost + self.offer_cost) * 100 / self.margin_pct


@dataclass(frozen=True)
class Outcome:
    """What a plan brings, in dollars.

    :param spend: what the customers spend more.
    :param margin: what is left of it.
    :param net: the margin less the cost.
    """

    spend: float
    margin: float
    net: float


def contacted(reachable: int, holdout_share: float, limit: int) -> int:
    """Return how many of those who can be reached are contacted, without the held out and who is over the limit."""
    return min(limit, reachable - round(reachable * holdout_share))


def outcome(plan: Plan, lift: float | None) -> Outcome | None:
    """Return what a plan brings at a lift in dollars per customer; None without one."""
    if lift is None:
        return None
    spend = plan.customers * lift
    margin = spend * plan.margin_pct / 100
    return Outcome(spend, margin, margin - plan.cost)


def verdict(plan: Plan, lift: Lift) -> str:
    """Return in words how a lift, with its interval, stands to the one at which the plan pays."""
    needed = plan.break_even_lift
    if needed is None:
        return "Without a margin no lift pays for it."
    if lift.low is not None and lift.low >= needed:
        return "It pays over the whole interval."
    if lift.high is not None and lift.high < needed:
        return "It does not pay anywhere in the interval."
    pays = "It pays" if lift.value >= needed else "It does not pay"
    if lift.low is None or lift.high is None:
        return f"{pays} at this lift, of which no interval is known."
    return f"{pays} at the expected lift, and the interval has both: whether it pays is not known."
