"""What a customer is in for next, as the campaigns have decided it. No model recommends anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from app.formats import day, is_missing

CAMPAIGNS = ("retention", "onboarding", "premium")
"""Those that the profile has a column `eligible_for_<campaign>_campaign` of."""

_DECIDED = {
    "exported": "Campaign {campaign} writes to them: they are in its audience of {date}.",
    "held_out": "Do not write to them for campaign {campaign}: held out since {since}, to measure what it changes.",
    "suppressed": "Campaign {campaign} may not write to them: {reason}.",
    "capped": "Campaign {campaign} does not write to them: they entered an audience too short a time ago.",
    "outranked": "Campaign {campaign} does not write to them: they are in the audience of one that comes first.",
    "over_limit": "Campaign {campaign} does not write to them: its audience was full before them.",
}
_ORDER = list(_DECIDED)


def has_come(profile: Mapping[str, object], column: str) -> bool:
    """Tell whether a date of a profile has come by the profile's own, as include/sql/audiences/decision.sql asks."""
    date = profile[column]
    return not is_missing(date) and pd.Timestamp(date) <= pd.Timestamp(profile["as_of_date"])


def next_actions(profile: Mapping[str, object], memberships: pd.DataFrame) -> Sequence[str]:
    """Return what to do, most important first, from the state of the account and the decisions of the profile's date.

    :param profile: a row of customer_360_profile.
    :param memberships: the customer's rows of audience_memberships: campaign, as_of_date, status, reason, entered_on.
    """
    if has_come(profile, "deceased_date"):
        return ["None. The customer has died: no campaign writes to them."]
    if has_come(profile, "account_closed_date"):
        return ["None. The account is closed: no campaign writes to them."]
    today = memberships[pd.to_datetime(memberships.as_of_date) == pd.Timestamp(profile["as_of_date"])]
    decided = [
        (
            _ORDER.index(row.status) if row.status in _DECIDED else len(_ORDER),
            _DECIDED.get(row.status, "Campaign {campaign}: {status}.").format(
                campaign=row.campaign,
                status=row.status,
                date=day(pd.Timestamp(row.as_of_date).date()),
                since=day(None if is_missing(row.entered_on) else pd.Timestamp(row.entered_on).date()),
                reason="no reason is recorded" if is_missing(row.reason) else row.reason,
            ),
        )
        for row in today.itertuples()
    ]
    waiting = [
        f"Eligible for campaign {campaign}, which has decided nothing about them for this date."
        for campaign in CAMPAIGNS
        if profile[f"eligible_for_{campaign}_campaign"] is True and campaign not in set(today.campaign)
    ]
    told = [text for _, text in sorted(decided)] + waiting
    return told or ["None. The customer is eligible for no campaign."]
