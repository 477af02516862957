"""Who comes into an audience and why the others do not, one behaviour a test, on a small DuckDB file."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from include.customer_360.operators import audiences
from include.customer_360.operators.audiences import AudienceRefused
from include.customer_360.operators.validate import ValidationFailed
from tests.unit.audience_warehouse import AS_OF_DATE, AudienceWarehouse, campaign, profile

PREMIUM = campaign()
RETENTION = campaign("retention")


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AudienceWarehouse:
    file = tmp_path / "warehouse.duckdb"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "duckdb", "host": str(file)}))
    monkeypatch.setattr(audiences, "today", lambda: datetime.date(2026, 4, 1))
    return AudienceWarehouse(file)


def hashed(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()


# Who may be contacted


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"marketing_opt_in": False}, "no consent"),
        ({"marketing_opt_in": None}, "no consent"),
        ({"account_closed_date": "2026-03-31"}, "account closed"),
        ({"deceased_date": "2026-03-31"}, "deceased"),
        ({"deceased_date": "2026-03-31", "account_closed_date": "2026-03-31", "marketing_opt_in": False}, "deceased"),
        ({"email": None}, "no address"),
        ({"email": "  "}, "no address"),
        ({"email": "ada"}, "no valid address"),
        ({"email": "ada@example"}, "no valid address"),
        ({"email": "ada@@example.com"}, "no valid address"),
        ({"email": "ada byron@example.com"}, "no valid address"),
        ({"email": "ada@example..com"}, "no valid address"),
        ({"email": "ada@-example.com"}, "no valid address"),
        ({"email": ".ada@example.com"}, "no valid address"),
        ({"email": "ada.@example.com"}, "no valid address"),
        ({"email": "ada..byron@example.com"}, "no valid address"),
        ({"email": f"{'a' * 65}@example.com"}, "no valid address"),
        ({"email": f"ada@{'example.' * 32}com"}, "no valid address"),
        ({"email": "info@example.com"}, "role address"),
        ({"email": " No-Reply+offers@Example.com"}, "role address"),
        ({"email": "ada@mailinator.com"}, "test domain"),
        ({"email": "ada@mail.test"}, "test domain"),
    ],
)
def test_who_may_not_be_contacted_is_suppressed_with_the_reason(
    warehouse: AudienceWarehouse, values: dict[str, object], reason: str
) -> None:
    warehouse.publish(profile("C1", **values), profile("C2"))
    warehouse.decide()
    assert warehouse.ends() == [("C1", "suppressed", reason), ("C2", "exported", None)]
    warehouse.validate()


@pytest.mark.parametrize(
    "values",
    [
        {"account_closed_date": "2026-04-01"},
        {"deceased_date": "2026-04-01"},
        {"email": "ada.o'byron+offers@sub.example.com"},
        {"email": f"{'a' * 64}@example.com"},
        {"email": "information@example.com"},
        {"email": "ada@nottest.com"},
    ],
)
def test_who_may_be_contacted_is_exported(warehouse: AudienceWarehouse, values: dict[str, object]) -> None:
    warehouse.publish(profile("C1", **values))
    warehouse.decide()
    assert warehouse.ends() == [("C1", "exported", None)]
    warehouse.validate()


def test_a_campaign_for_ad_platforms_takes_their_consent(warehouse: AudienceWarehouse) -> None:
    warehouse.publish(
        profile("C1", ads_opt_in=True, marketing_opt_in=False),
        profile("C2", ads_opt_in=False),
        profile("C3", ads_opt_in=None),
    )
    warehouse.decide(campaign(purpose="ads"))
    assert warehouse.ends() == [
        ("C1", "exported", None),
        ("C2", "suppressed", "no consent"),
        ("C3", "suppressed", "no consent"),
    ]


def test_of_customers_with_one_address_the_first_in_order_keeps_it(warehouse: AudienceWarehouse) -> None:
    warehouse.publish(
        profile("C1", email="ada@example.com", lifetime_value=1),
        profile("C2", email=" ADA@example.com ", lifetime_value=2),
        profile("C3", email="ada@example.com", lifetime_value=3, marketing_opt_in=False),
        profile("C4"),
    )
    warehouse.decide()
    assert warehouse.ends() == [
        ("C1", "suppressed", "address twice"),
        ("C2", "exported", None),
        ("C3", "suppressed", "no consent"),
        ("C4", "exported", None),
    ]
    warehouse.validate()


# The suppression list


@pytest.mark.parametrize(
    ("row", "is_suppressed"),
    [
        ({"customer_id": "C1"}, True),
        ({"email_hash": hashed("c1@example.com")}, True),
        ({"email_hash": hashed("c1@example.com").upper()}, True),
        ({"email_hash": hashed("C1@example.com")}, False),
        ({"customer_id": "C2"}, False),
        ({"customer_id": "C1", "valid_from": "2026-03-31"}, True),
        ({"customer_id": "C1", "valid_until": "2026-03-31"}, True),
        ({"customer_id": "C1", "valid_until": "2026-03-30"}, False),
    ],
)
def test_the_suppression_list_holds_by_id_or_hashed_address_from_day_to_day(
    warehouse: AudienceWarehouse, row: dict[str, object], is_suppressed: bool
) -> None:
    warehouse.publish(profile("C1"))
    warehouse.suppress(**row)
    warehouse.decide()
    assert warehouse.ends() == [("C1", "suppressed", "suppression list") if is_suppressed else ("C1", "exported", None)]
    warehouse.validate()


@pytest.mark.parametrize("valid_from", ["2026-04-01", None])
def test_who_is_suppressed_after_the_decision_is_taken_out_and_not_replaced(
    warehouse: AudienceWarehouse, valid_from: str | None
) -> None:
    premium = campaign(limit=2)
    warehouse.publish(*(profile(f"C{number}", lifetime_value=10 - number) for number in range(1, 4)))
    warehouse.decide(premium)
    warehouse.suppress(customer_id="C1", valid_from=valid_from, recorded_at="2999-01-01")
    counts = warehouse.decide(premium)
    assert warehouse.ends() == [
        ("C1", "suppressed", "after decision"),
        ("C2", "exported", None),
        ("C3", "over_limit", None),
    ]
    assert counts["campaigns"]["premium"]["reasons"] == {"after decision": 1}
    warehouse.validate(premium)


def test_a_suppression_of_later_days_does_not_hold_yet(warehouse: AudienceWarehouse) -> None:
    warehouse.publish(profile("C1"))
    warehouse.suppress(customer_id="C1", valid_from="2026-04-02")
    warehouse.decide()
    assert warehouse.ends() == [("C1", "exported", None)]


# Not too often


@pytest.mark.parametrize(
    ("entered", "end"),
    [
        ("2026-03-24", ("C1", "exported", None)),
        ("2026-03-25", ("C1", "capped", "retention entered on 2026-03-25")),
        ("2026-03-30", ("C1", "capped", "retention entered on 2026-03-30")),
    ],
)
def test_to_enter_takes_seven_days_since_the_last_entry(
    warehouse: AudienceWarehouse, entered: str, end: tuple[object, ...]
) -> None:
    warehouse.publish(profile("C1"))
    warehouse.remember("retention", entered, "C1")
    warehouse.decide()
    assert warehouse.ends() == [end]
    warehouse.validate()


def test_a_campaign_may_have_a_cap_of_its_own(warehouse: AudienceWarehouse) -> None:
    warehouse.publish(profile("C1"))
    warehouse.remember("retention", "2026-03-30", "C1")
    warehouse.decide(campaign(cap_days=1))
    assert warehouse.ends() == [("C1", "exported", None)]


def test_an_entry_of_the_same_campaign_counts_too_once_the_customer_has_left(warehouse: AudienceWarehouse) -> None:
    warehouse.publish(profile("C1"))
    warehouse.remember("premium", "2026-03-28", "C1")
    warehouse.remember("premium", "2026-03-29", "C2")
    warehouse.decide()
    assert warehouse.ends() == [("C1", "capped", "premium entered on 2026-03-28")]


@pytest.mark.parametrize("status", ["exported", "held_out"])
def test_who_was_in_the_previous_audience_stays_and_is_not_capped(warehouse: AudienceWarehouse, status: str) -> None:
    warehouse.publish(profile("C1"))
    warehouse.remember("premium", "2026-03-30", "C1", status=status, entered=False, entered_on="2026-03-20")
    warehouse.remember("retention", "2026-03-29", "C1")
    warehouse.decide()
    assert warehouse.ends("customer_id, status, entered, entered_on") == [
        ("C1", "exported", False, datetime.date(2026, 3, 20))
    ]


def test_a_held_out_customer_counts_as_entered(warehouse: AudienceWarehouse) -> None:
    warehouse.publish(profile("C1"))
    warehouse.remember("retention", "2026-03-30", "C1", status="held_out", split_group="control")
    warehouse.decide()
    assert warehouse.ends() == [("C1", "capped", "retention entered on 2026-03-30")]


@pytest.mark.parametrize("status", ["over_limit", "capped", "suppressed", "outranked"])
def test_who_was_not_in_an_audience_did_not_enter_it(warehouse: AudienceWarehouse, status: str) -> None:
    warehouse.publish(profile("C1"))
    warehouse.remember("premium", "2026-03-30", "C1", status=status, entered=False, entered_on=None)
    warehouse.decide()
    assert warehouse.ends("status, entered, entered_on") == [("exported", True, datetime.date(2026, 3, 31))]


def test_an_audience_that_was_not_approved_contacted_nobody(warehouse: AudienceWarehouse) -> None:
    warehouse.publish(profile("C1"), profile("C2"))
    warehouse.remember("premium", "2026-03-20", "C1", entered_on="2026-03-20")
    for customer in ("C1", "C2"):
        warehouse.remember("premium", "2026-03-30", customer, status="suppressed", reason="not approved", entered=False)
    warehouse.decide()
    assert warehouse.ends("customer_id, status, entered") == [("C1", "exported", False), ("C2", "exported", True)]


def test_later_dates_are_not_looked_at(warehouse: AudienceWarehouse) -> None:
    warehouse.publish(profile("C1"))
    warehouse.remember("retention", "2026-04-01", "C1")
    warehouse.decide()
    assert warehouse.ends() == [("C1", "exported", None)]


# One campaign per customer


def test_the_campaign_with_the_lowest_priority_number_has_the_customer(warehouse: AudienceWarehouse) -> None:
    first, second = campaign("retention", priority=1), campaign(priority=2)
    warehouse.publish(profile("C1", eligible_for_retention_campaign=True), profile("C2"))
    warehouse.decide(second, first)
    assert warehouse.ends("campaign, customer_id, status, reason") == [
        ("premium", "C1", "outranked", "retention"),
        ("premium", "C2", "exported", None),
        ("retention", "C1", "exported", None),
    ]
    warehouse.validate(first, second)


def test_of_equal_priorities_the_first_name_has(warehouse: AudienceWarehouse) -> None:
    both = campaign("retention", priority=1), campaign(priority=1)
    warehouse.publish(profile("C1", eligible_for_retention_campaign=True))
    warehouse.decide(*both)
    assert warehouse.ends("campaign, status") == [("premium", "exported"), ("retention", "outranked")]


def test_a_campaign_that_cannot_have_the_customer_outranks_nobody(warehouse: AudienceWarehouse) -> None:
    first, second = campaign("retention", priority=1, purpose="ads"), campaign(priority=2)
    warehouse.publish(profile("C1", eligible_for_retention_campaign=True))
    warehouse.decide(first, second)
    assert warehouse.ends("campaign, status") == [("premium", "exported"), ("retention", "suppressed")]


# Limits and groups


def test_the_limit_applies_last_and_to_the_exported_only(warehouse: AudienceWarehouse) -> None:
    premium = campaign(limit=2, holdout_share=0.5)
    control, treated = in_groups(3)
    in_order = [control[0], treated[0], control[1], treated[1], control[2], treated[2]]
    warehouse.publish(
        profile("C1", lifetime_value=100, marketing_opt_in=False),
        *(profile(customer_id, lifetime_value=50 - place) for place, customer_id in enumerate(in_order)),
    )
    warehouse.decide(premium)
    ends = {customer_id: end for customer_id, *end in warehouse.ends("customer_id, status, rank")}
    assert [ends[customer_id] for customer_id in ("C1", *in_order)] == [
        ["suppressed", None],
        ["held_out", 1],
        ["exported", 2],
        ["held_out", 3],
        ["exported", 4],
        ["over_limit", 5],
        ["over_limit", 6],
    ]
    warehouse.validate(premium)


def in_groups(number: int) -> tuple[list[str], list[str]]:
    """Return so many customers of the control group, and so many of the treated."""
    ids = [f"H{each:03}" for each in range(100)]
    control = [customer_id for customer_id in ids if group_of(customer_id) == "control"]
    return control[:number], [customer_id for customer_id in ids if customer_id not in control][:number]


def group_of(customer_id: str, name: str = "premium", salt: str = "", share: float = 0.5) -> str:
    """Return the group, by another way than the SQL: the hash as a number between 0 and 1."""
    digest = hashlib.md5(f"{name}|{salt}|{customer_id}".encode(), usedforsecurity=False).hexdigest()
    return "control" if int(digest[:8], 16) / 2**32 < share else "treated"


def test_a_held_out_customer_behind_the_last_exported_is_over_the_limit(warehouse: AudienceWarehouse) -> None:
    [control], [treated] = in_groups(1)
    warehouse.publish(profile(treated, lifetime_value=2), profile(control, lifetime_value=1))
    warehouse.decide(campaign(holdout_share=0.5))
    assert dict(warehouse.ends("customer_id, status")) == {treated: "exported", control: "over_limit"}


def test_the_groups_are_a_hash_of_campaign_salt_and_customer(warehouse: AudienceWarehouse) -> None:
    ids = [f"C{number:04}" for number in range(2000)]
    warehouse.publish(*(profile(customer_id) for customer_id in ids))
    warehouse.decide(campaign(holdout_share=0.05, holdout_salt="spring"))
    groups = dict(warehouse.ends("customer_id, split_group"))
    assert groups == {customer_id: group_of(customer_id, salt="spring", share=0.05) for customer_id in ids}
    assert 70 <= list(groups.values()).count("control") <= 130


def test_ties_go_by_customer_id(warehouse: AudienceWarehouse) -> None:
    warehouse.publish(profile("C3"), profile("C1"), profile("C2"))
    warehouse.decide(campaign(limit=2))
    assert warehouse.ends("customer_id, rank, status") == [
        ("C1", 1, "exported"),
        ("C2", 2, "exported"),
        ("C3", 3, "over_limit"),
    ]


# The task


def test_counts_add_up_for_each_campaign(warehouse: AudienceWarehouse) -> None:
    warehouse.publish(profile("C1"), profile("C2", marketing_opt_in=False), profile("C3"), profile("C4", email=None))
    warehouse.remember("retention", "2026-03-30", "C3")
    counts = warehouse.decide(PREMIUM, RETENTION)
    assert counts == {
        "as_of_date": AS_OF_DATE,
        "campaigns": {
            "premium": {
                **{"eligible": 4, "suppressed": 2, "capped": 1, "outranked": 0, "held_out": 0, "over_limit": 0},
                **{"exported": 1, "entered": 1, "reasons": {"no address": 1, "no consent": 1}, "moved": []},
            },
            "retention": {
                **{"eligible": 0, "suppressed": 0, "capped": 0, "outranked": 0, "held_out": 0, "over_limit": 0},
                **{"exported": 0, "entered": 0, "reasons": {}, "moved": []},
            },
        },
    }


def test_a_date_is_decided_the_same_again(warehouse: AudienceWarehouse) -> None:
    premium = campaign(limit=3, holdout_share=0.3)
    warehouse.publish(*(profile(f"C{number}") for number in range(20)))
    warehouse.remember("retention", "2026-03-30", "C3")
    warehouse.decide(premium)
    first = warehouse.ends("*")
    warehouse.decide(premium)
    assert warehouse.ends("*") == first


def test_a_dry_run_counts_and_writes_nothing(warehouse: AudienceWarehouse) -> None:
    warehouse.publish(profile("C1"))
    with pytest.raises(
        AirflowSkipException, match=r"dry run, nothing is written or exported\. premium: 1 eligible = 0 "
    ):
        warehouse.decide(counts_only="True")
    assert warehouse.ends() == []


def test_newer_marts_skip_and_older_ones_fail(warehouse: AudienceWarehouse) -> None:
    warehouse.publish(profile("C1", as_of_date="2026-04-01"))
    with pytest.raises(AirflowSkipException, match="newer than 2026-03-31: nothing exported"):
        warehouse.decide()
    warehouse.publish(profile("C1", as_of_date="2026-03-30"))
    with pytest.raises(AirflowFailException, match="older than 2026-03-31: run customer_360_refresh"):
        warehouse.decide()


def test_masked_addresses_stop_the_decision(warehouse: AudienceWarehouse) -> None:
    warehouse.publish(profile("C1", email="*****"), profile("C2"))
    with pytest.raises(AudienceRefused, match=r"email is masked \(\*\*\*\*\*\) for 1 customers"):
        warehouse.decide()


def test_marts_of_an_earlier_version_are_named(warehouse: AudienceWarehouse) -> None:
    warehouse.publish(profile("C1"))
    with warehouse.connect() as connection:
        connection.execute("alter table marts.customer_360_profile drop column deceased_date")
    with pytest.raises(AirflowFailException, match=r"lacks deceased_date.*Run customer_360_refresh for 2026-03-31"):
        warehouse.decide()


# The validation: each fault is planted into a decision that is right, and named


FAULTS = {
    "audiences_known": [
        "update {} set status = 'mailed' where customer_id = 'C1'",
        "update {} set campaign = 'of_old' where customer_id = 'C1'",
        "update {} set reason = null where customer_id = 'C4'",
        "update {} set split_group = null where customer_id = 'C1'",
    ],
    "audiences_of_eligible_only": [
        "update {} set customer_id = 'C9' where customer_id = 'C2'",
        "insert into {} select * from {} where customer_id = 'C4'",
    ],
    "audiences_hold_nobody_twice": [
        "update {} set status = 'exported', reason = null where campaign = 'retention' and customer_id = 'C1'"
    ],
    "audiences_groups_kept_apart": ["update {} set split_group = 'control' where customer_id = 'C1'"],
    "audiences_consented": [
        "update marts.customer_360_profile set marketing_opt_in = null where customer_id = 'C1'",
        "update marts.customer_360_profile set account_closed_date = '2026-03-31' where customer_id = 'C1'",
        "update marts.customer_360_profile set deceased_date = '2026-03-31' where customer_id = 'C1'",
    ],
    "audiences_without_suppressed": [
        "insert into ops.suppressions (customer_id, recorded_at) values ('C1', '2026-01-01')"
    ],
    "audiences_addresses_valid": [
        "update marts.customer_360_profile set email = 'info@example.com' where customer_id = 'C1'",
        "update marts.customer_360_profile set email = 'c2@example.com' where customer_id = 'C1'",
    ],
    "audiences_within_ranks": [
        "update {} set rank = 9 where customer_id = 'C3'; update {} set rank = 1 where customer_id = 'C5'",
        "update {} set rank = null where customer_id = 'C5'",
        "update {} set rank = 7 where customer_id = 'C4'",
    ],
    "audiences_caps_kept": [
        "insert into {} select * replace ('2026-03-30'::date as as_of_date) from {} where customer_id = 'C1'"
    ],
    "audiences_entries_dated": [
        "update {} set entered_on = null where customer_id = 'C1' and status = 'exported'",
        "update {} set entered = false where customer_id = 'C1' and status = 'exported'",
        "update {} set entered = true where customer_id = 'C4'",
    ],
    "audiences_add_up": ["delete from {} where customer_id = 'C4'"],
    "audiences_limits_kept": [
        "update {} set status = 'exported' where customer_id = 'C5'",
        "update {} set status = 'over_limit' where customer_id = 'C3'",
    ],
}


@pytest.fixture
def decided(warehouse: AudienceWarehouse) -> Iterator[AudienceWarehouse]:
    """Premium exports C1, C2 and C3, its limit; C4 does not consent, C5 is over it; retention is outranked for C1."""
    warehouse.publish(
        profile("C1", lifetime_value=60009, eligible_for_retention_campaign=True),
        profile("C2", lifetime_value=8),
        profile("C3", lifetime_value=7),
        profile("C4", lifetime_value=6, marketing_opt_in=False),
        profile("C5", lifetime_value=5),
    )
    warehouse.decide(*OF_FAULTS)
    return warehouse


OF_FAULTS = (campaign(limit=3, priority=1), campaign("retention", priority=2))


def test_a_right_decision_passes_every_check(decided: AudienceWarehouse) -> None:
    assert decided.validate(*OF_FAULTS) == {"passed": len(FAULTS), "warned": 0, "failed": 0}


@pytest.mark.parametrize(("check", "fault"), [(check, fault) for check, faults in FAULTS.items() for fault in faults])
def test_a_planted_fault_is_named_by_its_check(decided: AudienceWarehouse, check: str, fault: str) -> None:
    with duckdb.connect(str(decided.file)) as connection:
        connection.execute(fault.replace("{}", "ops.audience_memberships"))
    with pytest.raises(ValidationFailed, match=f"nothing is exported(.|\n)*- {check}: "):
        decided.validate(*OF_FAULTS)
