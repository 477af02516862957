"""What the screens ask, by the names of the statements in app/sql: each with its places filled in, and its values."""

from __future__ import annotations

import datetime

from app.published import QUERIES, query

AS_OF = datetime.date(2026, 3, 31)
RUN = "scheduled__2026-04-01"
PERSON = "CUST00000003"

# What a page puts into a statement by format(): names of the model, never what somebody typed.
PLACES = {
    "conditions": "customer_360_profile.lifetime_value >= 10000",
    "columns": "count(*) as customers",
    "reachable": "customer_360_profile.marketing_opt_in",
    "texts": "?, ?",
}
# What is bound to the `?` of each statement.
VALUES: dict[str, tuple[object, ...]] = {
    "ask/customers_named": (PERSON.lower(), "premium"),
    "campaigns/decided": ("retention",),
    "campaigns/entered_and_left": ("retention", "csv"),
    "campaigns/exports_of_date": ("retention", AS_OF),
    "campaigns/left_out": ("retention", AS_OF),
    "campaigns/preview": ("retention", AS_OF),
    "campaigns/results": ("retention",),
    "chosen/bins": (20_000,),
    "chosen/customers": (1000,),
    "customer/by_address": ("Ada@example.com", 10),
    "customer/by_id": (PERSON, 10),
    "customer/by_id_in_any_case": (PERSON.lower(), 10),
    "customer/by_name": ("a%", "o\u2019n", "e", "", 10),
    "customer/categories": (PERSON,),
    "customer/memberships": (PERSON, 10),
    "customer/months": (PERSON,),
    "customer/periods": (PERSON,),
    "customer/profile": (PERSON,),
    "executive/date_before": (datetime.date(2026, 3, 1),),
    "nights/checks": (RUN,),
    "nights/last": (AS_OF,),
    "nights/publications": (RUN,),
    "nights/runs": (10,),
    "nights/source_days": (10,),
    "nights/steps": (RUN,),
}
OF_THE_COPY = ("all/copy_state",)
"""What only the copy on DuckDB has."""
WRITES = ("all/write_down",)
STATEMENTS = sorted(str(file.relative_to(QUERIES).with_suffix("")) for file in QUERIES.glob("*/*.sql"))
SELECTS = [name for name in STATEMENTS if name not in (*OF_THE_COPY, *WRITES)]


def asked(name: str) -> str:
    """Return a statement as it is sent."""
    return query(name).format_map(PLACES)
