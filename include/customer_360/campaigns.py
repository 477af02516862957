"""The campaigns whose audiences are exported.

A campaign is one entry of CAMPAIGNS and one template, include/sql/exports/<name>.sql, which reads the entry's
order and limit as `campaign.order_by` and `campaign.limit`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from include.customer_360.settings import SQL_TEMPLATES


@dataclass(frozen=True)
class Campaign:
    """One campaign's settings.

    :param name: also the template's name, the task's and the folder's: lower-case letters, digits and underscores.
    :param description: who is in the audience, for people.
    :param owner: the team that uses the audience.
    :param order: an exported column and its direction, such as `lifetime_value desc`; decides who is within the limit.
    :param limit: the largest number of customers.
    :raises ValueError: naming the campaign and the entry that cannot be used.
    """

    name: str
    description: str
    owner: str
    order: str
    limit: int

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"Campaign {self.name!r}: a name takes lower-case letters, digits and underscores.")
        if not self.owner.strip():
            raise ValueError(f"Campaign {self.name!r} has no owner: name the team that uses its audience.")
        if not re.fullmatch(r"[a-z_][a-z0-9_]* (asc|desc)", self.order):
            raise ValueError(
                f"Campaign {self.name!r} has order {self.order!r}: give one column and asc or desc, "
                "for example 'lifetime_value desc'."
            )
        if type(self.limit) is not int or self.limit < 1:
            raise ValueError(f"Campaign {self.name!r} has limit {self.limit!r}: give a whole number of 1 or more.")
        if not (SQL_TEMPLATES / self.template).is_file():
            raise ValueError(f"Campaign {self.name!r} has no template: write {SQL_TEMPLATES / self.template}.")

    @property
    def template(self) -> str:
        """The template's path under include/sql."""
        return f"exports/{self.name}.sql"

    @property
    def order_by(self) -> str:
        """The order, complete: the same on every engine, and no two customers tie."""
        return f"{self.order} nulls last, customer_id"


CAMPAIGNS = (
    Campaign(
        name="retention",
        description="Declining customers with a lifetime value of 50,000 or more, steepest decline first",
        owner="lifecycle-marketing",
        order="spend_change_pct asc",
        limit=1000,
    ),
    Campaign(
        name="onboarding",
        description="New and growing customers, fastest growth first",
        owner="growth-marketing",
        order="spend_change_pct desc",
        limit=2000,
    ),
    Campaign(
        name="premium",
        description="High-value travelers, highest lifetime value first",
        owner="premium-marketing",
        order="lifetime_value desc",
        limit=5000,
    ),
)
