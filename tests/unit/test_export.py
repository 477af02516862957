"""What the files of a campaign's audience hold, and what a reader finds while and after they are written."""

from __future__ import annotations

import contextlib
import csv
import datetime
import errno
import hashlib
import io
import json
import multiprocessing
import os
import re
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest
import s3fs
import structlog
from airflow.sdk import ObjectStoragePath
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from airflow.sdk.io import attach

from include.customer_360.catalog import Campaign, Destination
from include.customer_360.failures import WHY
from include.customer_360.operators import audiences
from include.customer_360.operators.audience_files import Attempt, remove_older
from include.customer_360.operators.audiences import MASKED
from include.customer_360.operators.export import CheckExportRootOperator, ExportAudienceOperator
from include.customer_360.operators.export_log import LogExportsOperator
from include.customer_360.operators.started import STARTED
from include.customer_360.settings import PROJECT_ROOT, Settings
from local.sample import needs_sample
from local.sources import WarehouseError
from tests.small_disk import no_larger_file
from tests.unit.audience_warehouse import AS_OF_DATE, CAMPAIGNS, AudienceWarehouse, campaign, profile, rendered
from tests.unit.s3_server import S3Server, s3_server

PREMIUM = campaign(columns=("customer_id", "full_name", "email", "lifetime_value", "spend_change_pct"))
HEADER = "customer_id,full_name,email,lifetime_value,spend_change_pct\n"


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AudienceWarehouse:
    file = tmp_path / "warehouse.duckdb"
    monkeypatch.setenv("WAREHOUSE_FILE", str(file))
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "duckdb", "host": str(file)}))
    monkeypatch.setattr(audiences, "today", lambda: datetime.date(2026, 4, 1))
    return AudienceWarehouse(file)


@pytest.fixture
def decide(warehouse: AudienceWarehouse) -> Callable[..., None]:
    """Publish these profiles, and decide for the premium campaign."""

    def publish_and_decide(*profiles: dict[str, object], of: Campaign = PREMIUM) -> None:
        warehouse.publish(*profiles)
        warehouse.decide(of)

    return publish_and_decide


@pytest.fixture
def export_root(tmp_path: Path) -> Path:
    return tmp_path / "exports"


def export(
    export_root: object, of: Campaign = PREMIUM, as_of_date: str = AS_OF_DATE, run_id: str = "run_1", **values: str
) -> dict[str, Any]:
    operator = rendered(ExportAudienceOperator, as_of_date, campaign=of, export_root=str(export_root), **values)
    return operator.execute({"dag_run": SimpleNamespace(run_id=run_id)})


def folder_of(export_root: Path, as_of_date: str = AS_OF_DATE, name: str = "premium") -> Path:
    return export_root / name / f"as_of_date={as_of_date}"


def audience(export_root: Path, name: str = "audience.csv") -> str:
    return (folder_of(export_root) / name).read_bytes().decode()


def file_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def ids(export_root: Path, name: str = "audience.csv", as_of_date: str = AS_OF_DATE) -> list[str]:
    content = (folder_of(export_root, as_of_date) / name).read_bytes().decode()
    return [row["customer_id"] for row in csv.DictReader(io.StringIO(content))]


FILES = ["audience.csv", "entered.csv", "left.csv", "manifest.json"]


# Who is in an audience, and in which order


def test_who_is_exported_stands_there_in_the_order_of_the_ranks(decide: Callable[..., None], export_root: Path) -> None:
    decide(
        profile("C1", lifetime_value="9000", spend_change_pct="-35.5"),
        profile("C2", lifetime_value="123456.7"),
        profile("C3", lifetime_value="10000", spend_change_pct="900.12345"),
    )
    export(export_root)
    assert audience(export_root) == (
        HEADER + "C2,Ada Byron,c2@example.com,123456.70,-40.0000\n"
        "C3,Ada Byron,c3@example.com,10000.00,900.1235\n"
        "C1,Ada Byron,c1@example.com,9000.00,-35.5000\n"
    )


@pytest.mark.parametrize("status", ["suppressed", "capped", "outranked", "over_limit", "held_out"])
def test_nobody_of_another_status_is_in_a_first_export(
    decide: Callable[..., None], warehouse: AudienceWarehouse, export_root: Path, status: str
) -> None:
    decide(profile("C1"), profile("C2"))
    with warehouse.connect() as connection:
        connection.execute("update ops.audience_memberships set status = ? where customer_id = 'C1'", [status])
    export(export_root)
    assert [ids(export_root, name) for name in FILES[:3]] == [["C2"], ["C2"], []]


@pytest.mark.parametrize("each", CAMPAIGNS.values(), ids=CAMPAIGNS)
def test_every_campaign_can_be_exported(decide: Callable[..., None], export_root: Path, each: Campaign) -> None:
    flags = {f"eligible_for_{name}_campaign": True for name in ("retention", "onboarding", "premium")}
    decide(*(profile(f"C{n}", **flags) for n in range(3)), of=each)
    result = export(export_root, of=each)
    # A campaign that somebody added may have none of them.
    assert result["row_count"] == result["decision"].get("exported", 0)
    assert result["owner"] == each.owner
    content = (folder_of(export_root, name=each.name) / "audience.csv").read_text()
    assert content.startswith(",".join(each.columns) + "\n")


def test_a_run_for_another_campaign_skips_it(decide: Callable[..., None], export_root: Path) -> None:
    decide(profile("C1"))
    with pytest.raises(AirflowSkipException, match="for campaign 'retention' only"):
        export(export_root, only="retention")
    assert not export_root.exists()


# Who enters and who leaves


def earlier_export(warehouse: AudienceWarehouse, *customers: str, on: str = "2026-03-30", **values: object) -> None:
    """Have an earlier date's audience of the premium campaign exported to these customers."""
    for customer_id in customers:
        warehouse.remember("premium", on, customer_id, **values)
    warehouse.exported("premium", on)


def test_in_a_first_export_everybody_enters_and_nobody_leaves(decide: Callable[..., None], export_root: Path) -> None:
    decide(profile("C1"), profile("C2"))
    result = export(export_root)
    assert audience(export_root, "entered.csv") == audience(export_root)
    assert audience(export_root, "left.csv") == HEADER
    assert {name: each["row_count"] for name, each in result["files"].items()} == {
        **{"audience.csv": 2, "entered.csv": 2, "left.csv": 0}
    }


def test_entered_and_left_are_against_the_previous_export(
    decide: Callable[..., None], warehouse: AudienceWarehouse, export_root: Path
) -> None:
    earlier_export(warehouse, "C0", on="2026-03-28")
    earlier_export(warehouse, "C1", "C2", "C9")
    warehouse.remember("premium", "2026-03-30", "C4", status="held_out")
    decide(profile("C1"), profile("C3"), profile("C2", eligible_for_premium_campaign=False), profile("C4"))
    export(export_root)
    assert ids(export_root) == ["C1", "C3", "C4"]
    assert ids(export_root, "entered.csv") == ["C3", "C4"]
    # C9 is in no mart any more: its id alone is left.
    assert audience(export_root, "left.csv") == HEADER + "C2,Ada Byron,c2@example.com,60000.00,-40.0000\nC9,,,,\n"


def test_an_audience_that_was_decided_and_not_exported_counts_for_nothing(
    decide: Callable[..., None], warehouse: AudienceWarehouse, export_root: Path
) -> None:
    earlier_export(warehouse, "C1", on="2026-03-29")
    for customer_id in ("C1", "C2"):
        warehouse.remember("premium", "2026-03-30", customer_id)
    decide(profile("C1"), profile("C2"))
    export(export_root)
    assert ids(export_root, "entered.csv") == ["C2"]


def test_each_destination_has_a_previous_export_of_its_own(
    decide: Callable[..., None], warehouse: AudienceWarehouse, export_root: Path
) -> None:
    premium = campaign(destinations=(Destination(), Destination(name="second")))
    earlier_export(warehouse, "C1")
    decide(profile("C1"), of=premium)
    export(export_root, of=premium)
    export(export_root, of=premium, destination="second")
    assert [ids(export_root, name) for name in ("entered.csv", "second/entered.csv")] == [[], ["C1"]]
    assert file_names(folder_of(export_root) / "second") == FILES


def test_who_was_suppressed_since_leaves(
    decide: Callable[..., None], warehouse: AudienceWarehouse, export_root: Path
) -> None:
    earlier_export(warehouse, "C1", "C2")
    warehouse.suppress(customer_id="C1")
    decide(profile("C1"), profile("C2"))
    export(export_root)
    assert (ids(export_root), ids(export_root, "left.csv")) == (["C2"], ["C1"])


def test_whoever_stays_is_not_capped_and_so_does_not_leave(
    decide: Callable[..., None], warehouse: AudienceWarehouse, export_root: Path
) -> None:
    earlier_export(warehouse, "C1")
    warehouse.remember("retention", "2026-03-30", "C1")
    warehouse.remember("retention", "2026-03-30", "C2")
    decide(profile("C1"), profile("C2"))
    export(export_root)
    assert warehouse.ends()[1] == ("C2", "capped", "retention entered on 2026-03-30")
    assert (ids(export_root), ids(export_root, "left.csv")) == (["C1"], [])


def test_who_was_suppressed_after_the_decision_is_in_no_file_but_left_and_nobody_takes_the_place(
    decide: Callable[..., None], warehouse: AudienceWarehouse, export_root: Path
) -> None:
    premium = campaign(limit=2)
    earlier_export(warehouse, "C1")
    decide(*(profile(f"C{number}", lifetime_value=10 - number) for number in range(1, 4)), of=premium)
    warehouse.suppress(customer_id="C1", valid_from="2026-04-01", recorded_at="2999-01-01")
    export(export_root, of=premium)
    assert [ids(export_root, name) for name in FILES[:3]] == [["C2"], ["C2"], ["C1"]]


def test_who_is_suppressed_between_two_exports_of_a_date_leaves_with_the_second(
    decide: Callable[..., None], warehouse: AudienceWarehouse, export_root: Path
) -> None:
    decide(profile("C1"), profile("C2"))
    export(export_root)
    warehouse.exported("premium", AS_OF_DATE)
    warehouse.suppress(customer_id="C1", recorded_at="2999-01-01")
    warehouse.decide(PREMIUM)
    export(export_root)
    assert [ids(export_root, name) for name in FILES[:3]] == [["C2"], ["C2"], ["C1"]]


def test_a_held_out_customer_who_is_suppressed_after_the_decision_was_never_there(
    decide: Callable[..., None], warehouse: AudienceWarehouse, export_root: Path
) -> None:
    decide(profile("C1"), profile("C2"))
    with warehouse.connect() as connection:
        connection.execute(
            "update ops.audience_memberships set status = 'suppressed', reason = 'after decision', "
            "split_group = 'control' where customer_id = 'C1'"
        )
    export(export_root)
    assert ids(export_root, "left.csv") == []


@pytest.mark.parametrize(
    ("entered_on", "previous", "sent_anew"),
    [
        ("2025-03-31", "2026-03-30", True),
        ("2025-04-01", "2026-03-30", False),
        ("2025-03-30", "2026-03-30", False),
        ("2025-03-30", "2026-03-29", True),
        ("2024-03-31", "2026-03-30", True),
    ],
    ids=["after 365 days", "after 364", "the day after", "the day it was missed", "a second time after 730"],
)
def test_who_is_forgotten_at_the_destination_is_sent_anew(
    decide: Callable[..., None],
    warehouse: AudienceWarehouse,
    export_root: Path,
    entered_on: str,
    previous: str,
    sent_anew: bool,
) -> None:
    premium = campaign(destinations=(Destination(lifetime_days=365),))
    earlier_export(warehouse, "C1", on=previous, entered=False, entered_on=entered_on)
    decide(profile("C1"), of=premium)
    export(export_root, of=premium)
    assert ids(export_root, "entered.csv") == (["C1"] if sent_anew else [])


# The bytes


def test_names_with_separators_quotes_line_breaks_and_letters_of_any_language(
    decide: Callable[..., None], export_root: Path
) -> None:
    decide(
        profile("C1", full_name="Byron, Ada"),
        profile("C2", full_name='Ada "the first" Byron'),
        profile("C3", full_name="Ada\nByron"),
        profile("C4", full_name="Ada\rByron"),
        profile("C5", full_name="Łucja Ångström 李"),
        profile("C6", full_name=None),
        profile("C7", full_name="=cmd|' /C calc'!A0"),
        profile("C8", full_name="李 Ada"),
    )
    export(export_root)
    assert (folder_of(export_root) / "audience.csv").read_bytes() == (
        HEADER + 'C1,"Byron, Ada",c1@example.com,60000.00,-40.0000\n'
        'C2,"Ada ""the first"" Byron",c2@example.com,60000.00,-40.0000\n'
        'C3,"Ada\nByron",c3@example.com,60000.00,-40.0000\n'
        'C4,"Ada\rByron",c4@example.com,60000.00,-40.0000\n'
        "C5,Łucja Ångström 李,c5@example.com,60000.00,-40.0000\n"
        "C6,,c6@example.com,60000.00,-40.0000\n"
        "C7,'=cmd|' /C calc'!A0,c7@example.com,60000.00,-40.0000\n"
        "C8,李 Ada,c8@example.com,60000.00,-40.0000\n"
    ).encode()


def test_the_same_decision_gives_the_same_bytes(
    decide: Callable[..., None], warehouse: AudienceWarehouse, export_root: Path
) -> None:
    earlier_export(warehouse, "C2", "C8")
    decide(*(profile(f"C{number}", full_name="=1") for number in range(5)))
    warehouse.suppress(customer_id="C4", valid_from="2026-04-01", recorded_at="2026-01-01")
    first = export(export_root, run_id="run_1")
    before = {name: content for name, content in files_of(folder_of(export_root)).items() if name != "manifest.json"}
    warehouse.exported("premium", AS_OF_DATE)
    decide(*(profile(f"C{number}", full_name="=1") for number in reversed(range(5))))
    second = export(export_root, run_id="run_2")
    after = {name: content for name, content in files_of(folder_of(export_root)).items() if name != "manifest.json"}
    assert after == before
    assert first["files"] == second["files"]
    for name, described in first["files"].items():
        assert described["sha256"] == hashlib.sha256(before[name]).hexdigest()


# What an ad platform takes

GOOGLE, META = (
    Destination(name="google", format="google_customer_match"),
    Destination(name="meta", format="meta_custom_audience"),
)
ADS = campaign(destinations=(Destination(), GOOGLE, META))


def hashed(*addresses: str) -> str:
    return "".join(f"{hashlib.sha256(address.encode()).hexdigest()}\n" for address in addresses)


def platform_file(export_root: Path, destination: str, name: str = "audience.csv") -> str:
    export(export_root, of=ADS, destination=destination)
    return audience(export_root, f"{destination}/{name}")


def test_an_upload_to_google_holds_the_hashes_of_its_own_form_of_the_address(
    decide: Callable[..., None], export_root: Path
) -> None:
    decide(
        profile("C1", email=" John.Smith+news@Gmail.com ", ads_opt_in=True),
        profile("C2", email="ada.byron+news@example.com", ads_opt_in=True),
        of=ADS,
    )
    assert platform_file(export_root, "google") == "Email\n" + hashed(
        "johnsmith@gmail.com", "ada.byron+news@example.com"
    )


def test_an_upload_to_meta_keeps_the_dots(decide: Callable[..., None], export_root: Path) -> None:
    decide(profile("C1", email=" John.Smith+news@Gmail.com ", ads_opt_in=True), of=ADS)
    assert platform_file(export_root, "meta") == "email\n" + hashed("john.smith+news@gmail.com")


@pytest.mark.parametrize("ads_opt_in", [False, None])
def test_an_upload_holds_only_who_agreed_to_ads(
    decide: Callable[..., None], export_root: Path, ads_opt_in: bool | None
) -> None:
    decide(profile("C1", ads_opt_in=ads_opt_in), profile("C2", ads_opt_in=True), of=ADS)
    assert platform_file(export_root, "google") == "Email\n" + hashed("c2@example.com")
    manifest = json.loads(audience(export_root, "google/manifest.json"))
    assert {name: manifest[name] for name in ("format", "purpose", "columns", "row_count")} == {
        **{"format": "google_customer_match", "purpose": "ads", "columns": ["Email"], "row_count": 1}
    }
    export(export_root, of=ADS)
    assert ids(export_root) == ["C1", "C2"]


def test_who_takes_back_the_consent_for_ads_leaves_the_platform(
    decide: Callable[..., None], warehouse: AudienceWarehouse, export_root: Path
) -> None:
    warehouse.remember("premium", "2026-03-30", "C1", ads_consent=True)
    warehouse.exported("premium", "2026-03-30", "meta")
    decide(profile("C1", ads_opt_in=False), of=ADS)
    assert platform_file(export_root, "meta") == "email\n"
    assert audience(export_root, "meta/left.csv") == "email\n" + hashed("c1@example.com")


def test_an_empty_address_is_never_hashed(
    decide: Callable[..., None], warehouse: AudienceWarehouse, export_root: Path
) -> None:
    for customer_id in ("C1", "C8", "C9"):
        warehouse.remember("premium", "2026-03-30", customer_id, ads_consent=True)
    warehouse.exported("premium", "2026-03-30", "meta")
    decide(profile("C1", ads_opt_in=True), profile("C8", email=" ", ads_opt_in=True), of=ADS)
    assert platform_file(export_root, "meta", "left.csv") == "email\n"


def test_an_address_that_another_customer_has_in_the_audience_does_not_leave(
    decide: Callable[..., None], warehouse: AudienceWarehouse, export_root: Path
) -> None:
    warehouse.remember("premium", "2026-03-30", "C1", ads_consent=True)
    warehouse.exported("premium", "2026-03-30", "google")
    decide(
        profile("C1", email="ada.byron@gmail.com", ads_opt_in=True, marketing_opt_in=False),
        profile("C2", email="adabyron@gmail.com", ads_opt_in=True),
        profile("C3", email="AdaByron+3@googlemail.com", ads_opt_in=True),
        profile("C4", email="adabyron+4@gmail.com", ads_opt_in=True),
        of=ADS,
    )
    assert platform_file(export_root, "google") == "Email\n" + hashed("adabyron@gmail.com", "adabyron@googlemail.com")
    assert audience(export_root, "google/left.csv") == "Email\n"


# Whom it does not name


NOT_THEIRS = (
    "Nothing was written, and an earlier audience of that date stays. On Snowflake give connection 'warehouse_export' "
    "the role of the exports, which sees personal data, and run `make snowflake-setup`; where the values come from the "
    "sources, correct them there. Then clear this task."
)


def logged(export_root: object, level: str, of: Campaign = PREMIUM) -> tuple[list[str], dict[str, Any]]:
    """Return what an export logs of its campaign at this level, and what it returns; nothing when it fails."""
    result = {}
    with structlog.testing.capture_logs() as logs, contextlib.suppress(AirflowException):
        result = export(export_root, of=of)
    lines = [log["event"] % log.get("positional_args", ()) for log in logs if log["log_level"] == level]
    return [line for line in lines if of.name in line], result


def refusal(export_root: Path) -> str:
    """Return the message with which the export is refused, which no retry follows."""
    with pytest.raises(AirflowFailException) as refused:
        export(export_root)
    assert not isinstance(refused.value, AirflowSkipException)
    return str(refused.value)


def change(warehouse: AudienceWarehouse, **values: object) -> None:
    """Show the role that exports other values of the profile than the one that decided saw."""
    with warehouse.connect() as connection:
        for name, value in values.items():
            connection.execute(f"update marts.customer_360_profile set {name} = ?", [value])


def test_masked_values_are_what_the_masking_policy_writes() -> None:
    policy = (PROJECT_ROOT / "deploy" / "snowflake" / "06_masking.sql").read_text(encoding="utf-8")
    assert set(re.findall("then '([^']+)'", policy)) == {MASKED}


def test_an_audience_with_masked_values_is_refused_by_column(
    decide: Callable[..., None], warehouse: AudienceWarehouse, export_root: Path
) -> None:
    decide(profile("C1"), profile("C2"), profile("C3"))
    with warehouse.connect() as connection:
        connection.execute("update marts.customer_360_profile set full_name = '*****' where customer_id <> 'C2'")
    assert refusal(export_root) == (
        "The audience 'premium' of 2026-03-31 is not exported: full_name is masked (*****) for 2 of its 3 customers. "
        f"{NOT_THEIRS}"
    )
    assert file_names(folder_of(export_root)) == []


def test_masked_names_of_who_leaves_are_refused_too(
    decide: Callable[..., None], warehouse: AudienceWarehouse, export_root: Path
) -> None:
    earlier_export(warehouse, "C2")
    decide(profile("C1"), profile("C2", full_name=MASKED, eligible_for_premium_campaign=False))
    assert "full_name is masked (*****) for 1 of its 1 customers" in refusal(export_root)


def test_masked_addresses_are_not_addresses(
    decide: Callable[..., None], warehouse: AudienceWarehouse, export_root: Path
) -> None:
    decide(profile("C1"), profile("C2"))
    change(warehouse, email=MASKED)
    assert "not exported: none of the 2 values in email is an address." in refusal(export_root)


def test_an_upload_hashes_no_masked_address(
    decide: Callable[..., None], warehouse: AudienceWarehouse, export_root: Path
) -> None:
    decide(profile("C1", ads_opt_in=True), profile("C2", ads_opt_in=True), of=ADS)
    with warehouse.connect() as connection:
        connection.execute("update marts.customer_360_profile set email = '*****' where customer_id = 'C1'")
    with pytest.raises(AirflowFailException, match=r"email is masked \(\*{5}\) for 1 of its 2 customers"):
        export(export_root, of=ADS, destination="google")


def test_an_audience_whose_addresses_are_all_the_same_is_refused(
    decide: Callable[..., None], warehouse: AudienceWarehouse, export_root: Path
) -> None:
    decide(profile("C1"), profile("C2"))
    change(warehouse, email=" X@Example.com")
    assert "not exported: all 2 values in email are the same address." in refusal(export_root)


def test_an_audience_of_one_customer_has_one_address(decide: Callable[..., None], export_root: Path) -> None:
    decide(profile("C1"), profile("C2", email=None))
    export(export_root)
    assert ids(export_root) == ["C1"]


def test_an_audience_of_eligible_customers_none_of_whom_has_an_address_is_refused(
    decide: Callable[..., None], export_root: Path
) -> None:
    decide(profile("C1", email="n/a"), profile("C2", email="Ada Byron <>"), profile("C3", email=None))
    assert "not exported: none of the 2 values in email is an address." in refusal(export_root)


def test_one_address_among_others_that_are_none_is_enough(decide: Callable[..., None], export_root: Path) -> None:
    decide(profile("C1", email="n/a"), profile("C2"))
    export(export_root)
    assert ids(export_root) == ["C2"]


def test_an_audience_of_customers_who_alone_have_no_address_is_refused(
    decide: Callable[..., None], export_root: Path
) -> None:
    decide(profile("C1", email=None), profile("C2", email=None), profile("C3", eligible_for_premium_campaign=False))
    assert "not exported: email is empty for all of its 2 customers." in refusal(export_root)


def test_where_the_sources_deliver_no_address_at_all_the_export_warns(
    decide: Callable[..., None], export_root: Path
) -> None:
    decide(profile("C1", email=None), profile("C2", email=None))
    (first, second), result = logged(export_root, "warning")
    assert ids(export_root) == []
    assert first == (
        "Nobody in marts.customer_360_profile has a value in email: the sources deliver none, or the role of "
        "connection 'warehouse' does not see them. The audience 'premium' is empty."
    )
    assert second.endswith("is empty: of 2 eligible customers 2 suppressed")
    assert result["why_empty"] == "of 2 eligible customers 2 suppressed"


def test_a_refused_audience_leaves_the_earlier_one_of_its_date(
    decide: Callable[..., None], warehouse: AudienceWarehouse, export_root: Path
) -> None:
    decide(profile("C1"))
    export(export_root)
    before = files_of(folder_of(export_root))
    change(warehouse, full_name=MASKED)
    refusal(export_root)
    assert files_of(folder_of(export_root)) == before


# The manifest


def test_the_manifest_describes_the_files(
    decide: Callable[..., None], warehouse: AudienceWarehouse, export_root: Path
) -> None:
    earlier_export(warehouse, "C2", "C8")
    decide(profile("C1"), profile("C2"), profile("C3", marketing_opt_in=False))
    become(warehouse, "w-1")
    export(export_root, run_id="manual__7")
    folder = folder_of(export_root)
    sha256 = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES[:3]}
    expected = {
        "as_of_date": "2026-03-31",
        "campaign": "premium",
        "columns": ["customer_id", "full_name", "email", "lifetime_value", "spend_change_pct"],
        "dag_run_id": "manual__7",
        "decision": {"exported": 2, "suppressed": 1},
        "destination": "csv",
        "files": {
            "audience.csv": {"row_count": 2, "sha256": sha256["audience.csv"]},
            "entered.csv": {"row_count": 1, "sha256": sha256["entered.csv"]},
            "left.csv": {"row_count": 1, "sha256": sha256["left.csv"]},
        },
        "format": "csv",
        "owner": "premium-marketing",
        "purpose": "email",
        "row_count": 2,
        "sha256": sha256["audience.csv"],
        "warehouse_id": "w-1",
    }
    text = (folder / "manifest.json").read_text(encoding="utf-8")
    assert json.loads(text) == expected
    assert text.startswith('{\n  "as_of_date": "2026-03-31",\n  "campaign": "premium",\n')


def test_the_task_returns_path_manifest_and_times(decide: Callable[..., None], export_root: Path) -> None:
    decide(profile("C1"))
    result = export(export_root)
    folder = folder_of(export_root)
    times = [datetime.datetime.fromisoformat(result.pop(name)) for name in ("started_at", "finished_at")]
    assert times == sorted(times)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert result == {"path": str(folder / "audience.csv"), **manifest}


def test_the_log_has_campaign_date_and_customers_as_a_table_and_nothing_of_a_person(
    decide: Callable[..., None], export_root: Path
) -> None:
    decide(*(profile(f"C{number}") for number in range(1000)))
    lines, result = logged(export_root, "info")
    assert lines[-1] == (
        f"{folder_of(export_root)}/audience.csv\n"
        "campaign  as_of_date  customers  entered  left\n"
        "premium   2026-03-31  1,000      1,000    0"
    )
    assert not re.search("@example.com|Ada Byron", "\n".join(lines) + json.dumps(result))


def test_an_empty_audience_is_a_header_and_a_count_of_zero(decide: Callable[..., None], export_root: Path) -> None:
    decide(profile("C1", eligible_for_premium_campaign=False))
    result = export(export_root)
    assert audience(export_root) == HEADER
    assert result["row_count"] == 0


def test_a_warning_says_which_condition_leaves_nobody(decide: Callable[..., None], export_root: Path) -> None:
    decide(
        profile("C1", eligible_for_premium_campaign=False),
        profile("C2", eligible_for_premium_campaign=None),
    )
    warnings, result = logged(export_root, "warning")
    why = "no customer meets eligible_for_premium_campaign = true: 0 of 2"
    assert warnings == [f"The audience 'premium' of 2026-03-31 is empty: {why}"]
    assert result["why_empty"] == why
    assert "why_empty" not in json.loads((folder_of(export_root) / "manifest.json").read_text())


def test_or_that_only_all_conditions_together_do(decide: Callable[..., None], export_root: Path) -> None:
    retention = CAMPAIGNS["retention"]
    decide(
        profile("C2", eligible_for_retention_campaign=True, lifetime_value="49999.99"),
        profile("C3", eligible_for_retention_campaign=True, lifetime_value="1.00"),
        profile("C4", lifetime_value="50000.00"),
        of=retention,
    )
    _, result = logged(export_root, "warning", of=retention)
    assert result["why_empty"] == (
        "customers meet each condition, and nobody all of them: eligible_for_retention_campaign = true: 2 of 3; "
        "lifetime_value >= 50000: 1 of 3"
    )


def test_or_that_the_template_of_the_campaign_does(decide: Callable[..., None], export_root: Path) -> None:
    decide(profile("C1", eligible_for_premium_campaign=False))
    result = export(export_root, of=campaign(conditions=(), template="exports/_eligible.sql"))
    assert result["why_empty"] == "include/sql/exports/_eligible.sql selects nobody"


# Exporting a date again


def test_changed_marts_replace_files_and_manifest(decide: Callable[..., None], export_root: Path) -> None:
    decide(profile("C1"))
    export(export_root, run_id="run_1")
    decide(profile("C1"), profile("C2"))
    export(export_root, run_id="run_2")
    folder = folder_of(export_root)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert ids(export_root) == ["C1", "C2"]
    assert (manifest["row_count"], manifest["dag_run_id"]) == (2, "run_2")
    assert file_names(folder) == FILES


def test_another_date_has_a_folder_of_its_own(
    decide: Callable[..., None], warehouse: AudienceWarehouse, export_root: Path
) -> None:
    decide(profile("C1"))
    export(export_root)
    warehouse.publish(profile("C2", as_of_date="2026-04-01"))
    warehouse.remember("premium", "2026-04-01", "C2")
    export(export_root, as_of_date="2026-04-01")
    assert ids(export_root) == ["C1"]
    assert ids(export_root, as_of_date="2026-04-01") == ["C2"]


# Which warehouse they are of


def become(warehouse: AudienceWarehouse, warehouse_id: str) -> None:
    """Give the warehouse this id, as a run does that finds none."""
    with warehouse.connect() as connection:
        connection.execute("delete from ops.warehouse")
        connection.execute("insert into ops.warehouse values (?, timestamp '2026-03-01')", [warehouse_id])


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_the_audience_of_another_warehouse_is_left(
    decide: Callable[..., None], warehouse: AudienceWarehouse, export_root: Path
) -> None:
    decide(profile("C1"))
    become(warehouse, "w-1")
    export(export_root)
    folder = folder_of(export_root)
    before = files_of(folder)
    decide(profile("C2"))
    become(warehouse, "w-2")
    assert refusal(export_root) == (
        f"{folder}/manifest.json is of warehouse 'w-1', and this warehouse is 'w-2': the audience 'premium' is not "
        "exported, and that one stays. Where both should be one, for example after a warehouse was made anew, move "
        f"{folder} away; otherwise name another EXPORT_ROOT. Then clear this task."
    )
    assert files_of(folder) == before

    warehouse.publish(profile("C2", as_of_date="2026-04-01"))
    warehouse.remember("premium", "2026-04-01", "C2")
    export(export_root, as_of_date="2026-04-01")
    assert ids(export_root, as_of_date="2026-04-01") == ["C2"]


@pytest.mark.parametrize("content", [b'{"row_count": 1}', b"", b"[]", b'{"warehouse_id": nul', b"\xff"])
def test_what_names_no_warehouse_is_replaced_with_a_word(
    decide: Callable[..., None], warehouse: AudienceWarehouse, export_root: Path, content: bytes
) -> None:
    folder = folder_of(export_root)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_bytes(content)
    decide(profile("C2"))
    become(warehouse, "w-2")
    lines, _ = logged(export_root, "info")
    assert f"{folder}/manifest.json says nothing of its warehouse, as before there were ids: it is replaced." in lines
    assert json.loads((folder / "manifest.json").read_text())["warehouse_id"] == "w-2"


def test_a_warehouse_without_an_id_exports_but_replaces_no_audience_of_one_that_has_it(
    decide: Callable[..., None], warehouse: AudienceWarehouse, export_root: Path
) -> None:
    decide(profile("C1"))
    assert export(export_root)["warehouse_id"] is None
    become(warehouse, "w-1")
    assert export(export_root)["warehouse_id"] == "w-1"
    with warehouse.connect() as connection:
        connection.execute("drop table ops.warehouse")
    message = refusal(export_root)
    assert "is of warehouse 'w-1', and this warehouse is without an id that this export can read" in message
    assert "Run customer_360_refresh, which gives the warehouse an id" in message


def test_the_sample_stays_out_of_the_way_of_what_the_exports_would_refuse_to_replace(
    decide: Callable[..., None], warehouse: AudienceWarehouse, export_root: Path, tmp_path: Path
) -> None:
    decide(profile("C1"))
    become(warehouse, "w-1")
    export(export_root)
    second = {"warehouse_file": tmp_path / "second.duckdb", "sample": True, "as_of_date": AS_OF_DATE}
    manifest = folder_of(export_root) / "manifest.json"
    with pytest.raises(WarehouseError, match=re.escape(f"holds audiences of another warehouse ({manifest})")) as error:
        needs_sample(Settings(_env_file=None, export_root=str(export_root), **second), tmp_path / "home")
    named = re.search(r"EXPORT_ROOT=(\S+)\.$", str(error.value))[1]
    assert needs_sample(Settings(_env_file=None, export_root=named, **second), tmp_path / "home")

    become(warehouse, "w-2")
    assert str(manifest) in refusal(export_root)
    assert export(named)["warehouse_id"] == "w-2"


# Writes that do not reach their end

OLD, NEW = b"customer_id\nC1\n", b"customer_id\nC1\nC2\n"
FIRST_TWO = ("audience.csv", "entered.csv")


def write(folder: Path, content: bytes, **also: str) -> None:
    """Write two files with this content and their manifest, as an export does."""
    header, rows = content.split(b"\n", 1)
    with Attempt(ObjectStoragePath(str(folder))) as attempt:
        for name in FIRST_TWO:
            attempt.begin(name, [header.decode()]).write(rows, rows.count(b"\n"))
        attempt.finish(manifest_of(content) | also)


def manifest_of(content: bytes) -> dict[str, Any]:
    described = {"row_count": content.count(b"\n") - 1, "sha256": hashlib.sha256(content).hexdigest()}
    return {"files": dict.fromkeys(FIRST_TWO, described)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that holds the audience OLD with its manifest."""
    path = tmp_path / "retention" / "as_of_date=2026-03-31"
    write(path, OLD)
    return path


def reader_sees(folder: Path) -> tuple[bytes, bytes, dict[str, Any] | None]:
    manifest = folder / "manifest.json"
    contents = [(folder / name).read_bytes() for name in FIRST_TWO]
    return (*contents, json.loads(manifest.read_bytes()) if manifest.exists() else None)


def in_another_process(prepare: Callable[[], None], folder: Path) -> int:
    """Write the audience NEW in a process of its own, after `prepare`; returns its exit code, -9 when killed."""

    def prepare_and_write() -> None:
        prepare()
        write(folder, NEW)

    process = multiprocessing.get_context("fork").Process(target=prepare_and_write)
    process.start()
    process.join()
    return process.exitcode


def kill_before_step(number: int, folder: Path) -> Callable[[], None]:
    """Return what makes a process kill itself before it opens, removes or renames its `number`-th file in `folder`."""
    steps = iter(range(1, 100))

    def kill(event: str, arguments: tuple[object, ...]) -> None:
        if (
            event in {"open", "os.remove", "os.rename"}
            and str(arguments[0]).startswith(str(folder))
            and next(steps) == number
        ):
            os.kill(os.getpid(), signal.SIGKILL)

    return lambda: sys.addaudithook(kill)


@pytest.mark.parametrize(
    ("step", "seen"),
    [
        pytest.param(1, (OLD, OLD, manifest_of(OLD)), id="before the first temporary file"),
        pytest.param(2, (OLD, OLD, manifest_of(OLD)), id="before the second temporary file"),
        pytest.param(3, (OLD, OLD, manifest_of(OLD)), id="before the temporary manifest"),
        pytest.param(4, (OLD, OLD, manifest_of(OLD)), id="before the old manifest is read"),
        pytest.param(5, (OLD, OLD, manifest_of(OLD)), id="before the old manifest is removed"),
        pytest.param(6, (OLD, OLD, None), id="before the first file is moved"),
        pytest.param(7, (NEW, OLD, None), id="before the second file is moved"),
        pytest.param(8, (NEW, NEW, None), id="before the manifest is moved"),
    ],
)
def test_a_killed_write_never_leaves_a_manifest_beside_other_files(
    step: int, seen: tuple[bytes, bytes, dict[str, Any] | None], folder: Path
) -> None:
    assert in_another_process(kill_before_step(step, folder), folder) == -signal.SIGKILL
    assert reader_sees(folder) == seen

    write(folder, NEW)
    assert reader_sees(folder) == (NEW, NEW, manifest_of(NEW))
    assert file_names(folder) == [*FIRST_TWO, "manifest.json"]


def test_a_write_has_no_step_after_the_manifest(folder: Path) -> None:
    assert in_another_process(kill_before_step(9, folder), folder) == 0
    assert reader_sees(folder) == (NEW, NEW, manifest_of(NEW))


def test_a_write_that_fails_midway_leaves_what_was_there_and_nothing_else(folder: Path) -> None:
    def allow_no_file_over_ten_bytes() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))

    assert in_another_process(allow_no_file_over_ten_bytes, folder) == 1
    assert reader_sees(folder) == (OLD, OLD, manifest_of(OLD))
    assert file_names(folder) == [*FIRST_TWO, "manifest.json"]


def test_an_export_without_room_says_so_leaves_what_was_there_and_succeeds_with_room(
    decide: Callable[..., None], export_root: Path
) -> None:
    decide(profile("C1"))
    export(export_root)
    before = {file: (folder_of(export_root) / file).read_bytes() for file in FILES}
    # 170 kB.
    decide(*(profile(f"C{number:04}") for number in range(3000)))

    with no_larger_file(100_000), pytest.raises(AirflowException) as full:
        export(export_root)

    reason = f"The audience 'premium' cannot be written under the export root {str(export_root)!r}: [Errno 27]"
    assert str(full.value).startswith(reason), full.value
    assert file_names(folder_of(export_root)) == FILES
    assert {file: (folder_of(export_root) / file).read_bytes() for file in FILES} == before
    assert export(export_root)["row_count"] == 3000


def test_leftovers_of_killed_writes_go_with_the_next_export(decide: Callable[..., None], export_root: Path) -> None:
    folder = folder_of(export_root)
    folder.mkdir(parents=True)
    (folder / ".audience.csv.0123.tmp").write_bytes(b"customer_id,full_na")
    (folder / "notes.txt").write_bytes(b"not ours")
    decide(profile("C1"))
    export(export_root)
    assert file_names(folder) == [*FILES, "notes.txt"]


def test_the_same_audience_keeps_its_manifest_until_the_new_one_is_there(folder: Path) -> None:
    def write_old_again() -> None:
        kill_before_step(7, folder)()
        write(folder, OLD, dag_run_id="run_2")

    # Without a removal, the seventh step is the manifest's move.
    assert in_another_process(write_old_again, folder) == -signal.SIGKILL
    assert reader_sees(folder) == (OLD, OLD, manifest_of(OLD))


# Whose rows they are


def test_without_a_date_the_published_one_is_exported(warehouse: AudienceWarehouse, export_root: Path) -> None:
    warehouse.publish(profile("C1", as_of_date="2025-12-31"))
    warehouse.remember("premium", "2025-12-31", "C1")
    result = export(export_root, as_of_date="")
    assert result["as_of_date"] == "2025-12-31"
    assert ids(export_root, as_of_date="2025-12-31") == ["C1"]


@pytest.mark.parametrize(
    ("dates", "raised", "message"),
    [
        (["2026-04-02"], AirflowSkipException, "are of 2026-04-02, newer than 2026-03-31: nothing exported"),
        (["2026-03-30"], AirflowFailException, "older than 2026-03-31: run customer_360_refresh for 2026-03-31"),
        ([], AirflowFailException, "as of 2026-03-31 needs .* but it holds no customer: run customer_360_refresh"),
        (["2026-03-30", AS_OF_DATE], AirflowFailException, "of one date, but it holds 2026-03-30 and 2026-03-31"),
    ],
)
def test_marts_of_another_date_are_not_exported(
    warehouse: AudienceWarehouse, export_root: Path, dates: list[str], raised: type[Exception], message: str
) -> None:
    warehouse.publish(*(profile(f"C{number}", as_of_date=date) for number, date in enumerate(dates)))
    with pytest.raises(raised, match=message):
        export(export_root)
    assert not export_root.exists()


def test_missing_marts_name_the_next_step(warehouse: AudienceWarehouse, export_root: Path) -> None:
    with pytest.raises(
        AirflowFailException,
        match=r"needs marts.customer_360_profile, which connection 'warehouse' does not have: "
        r"run customer_360_refresh for 2026-03-31 first",
    ):
        export(export_root)


def test_a_publication_while_the_audience_is_read_exports_nothing(
    decide: Callable[..., None], export_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide(profile("C1"))
    dates = iter([datetime.date(2026, 3, 31), datetime.date(2026, 4, 1)])
    monkeypatch.setattr(ExportAudienceOperator, "published_as_of_date", lambda *_: next(dates))
    with pytest.raises(AirflowException, match="was published anew while it was read"):
        export(export_root)
    assert file_names(folder_of(export_root)) == []


def test_a_date_that_is_none_is_refused(warehouse: AudienceWarehouse, export_root: Path) -> None:
    warehouse.publish(profile("C1"))
    with pytest.raises(AirflowFailException, match=r"as_of_date '31\.03\.2026' is no date: .*, for example 2026-03-31"):
        export(export_root, as_of_date="31.03.2026")


def test_a_missing_warehouse_is_named_and_not_created(warehouse: AudienceWarehouse, export_root: Path) -> None:
    warehouse.file.unlink()
    with pytest.raises(AirflowFailException, match=r"The warehouse .*warehouse\.duckdb is not there"):
        export(export_root)
    assert not warehouse.file.exists()


# Where audiences go


def test_the_root_may_be_a_file_uri(decide: Callable[..., None], export_root: Path) -> None:
    decide(profile("C1"))
    result = export(export_root.as_uri())
    assert ids(export_root) == ["C1"]
    assert result["path"] == f"{export_root.as_uri()}/premium/as_of_date=2026-03-31/audience.csv"


def test_a_destination_may_have_a_place_of_its_own(
    decide: Callable[..., None], export_root: Path, tmp_path: Path
) -> None:
    premium = campaign(destinations=(Destination(name="agency", place=str(tmp_path / "agency")),))
    decide(profile("C1"), of=premium)
    export(export_root, of=premium, destination="agency")
    assert file_names(folder_of(tmp_path / "agency") / "agency") == FILES
    assert not export_root.exists()


def test_on_a_disk_only_the_user_of_the_task_reads_them(decide: Callable[..., None], export_root: Path) -> None:
    decide(profile("C1"))
    before = os.umask(0o022)
    try:
        check(export_root)
        export(export_root)
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
    modes = {path.relative_to(export_root.parent): path.stat().st_mode & 0o777 for path in export_root.rglob("*")}
    modes[export_root.relative_to(export_root.parent)] = export_root.stat().st_mode & 0o777
    assert len(modes) == 7
    for path, mode in modes.items():
        assert mode == (0o600 if path.suffix in (".csv", ".json") else 0o700), path


@pytest.fixture
def bucket() -> Iterator[fsspec.AbstractFileSystem]:
    """fsspec's storage in memory, which moves by copying as buckets do, attached as Airflow attaches a bucket's."""
    storage = attach("memory", fs=fsspec.filesystem("memory")).fs
    yield storage
    storage.rm("/audiences", recursive=True)


def test_the_root_may_be_a_bucket(decide: Callable[..., None], bucket: fsspec.AbstractFileSystem) -> None:
    decide(profile("C1"))
    export("memory://audiences", run_id="run_1")
    decide(profile("C2"))
    export("memory://audiences", run_id="run_2")
    folder = "/audiences/premium/as_of_date=2026-03-31"
    assert sorted(bucket.ls(folder, detail=False)) == [f"{folder}/{name}" for name in FILES]
    content = bucket.cat(f"{folder}/audience.csv")
    assert content.splitlines()[1].startswith(b"C2,")
    assert json.loads(bucket.cat(f"{folder}/manifest.json"))["sha256"] == hashlib.sha256(content).hexdigest()


@pytest.fixture
def s3() -> Iterator[S3Server]:
    """S3 on loopback, behind an Airflow connection of its own, as the provider attaches one."""
    with s3_server() as server:
        storage = s3fs.S3FileSystem(
            key="key", secret="secret", endpoint_url=server.url, skip_instance_cache=True, default_block_size=5 * 2**20
        )
        attach("s3", conn_id=f"loopback_{server.server_port}", fs=storage)
        yield server


S3_FOLDER = "bucket/audiences/premium/as_of_date=2026-03-31"


def root_on(s3: S3Server) -> str:
    return f"s3://loopback_{s3.server_port}@bucket/audiences"


def test_on_s3_the_manifest_comes_last_and_a_second_export_replaces_all(
    decide: Callable[..., None], s3: S3Server
) -> None:
    decide(profile("C1"))
    export(root_on(s3), run_id="run_1")
    decide(profile("C2"))
    export(root_on(s3), run_id="run_2")
    assert sorted(s3.objects) == [f"{S3_FOLDER}/{name}" for name in FILES]
    manifest = json.loads(s3.objects[f"{S3_FOLDER}/manifest.json"])
    assert manifest["dag_run_id"] == "run_2"
    for name, described in manifest["files"].items():
        assert described["sha256"] == hashlib.sha256(s3.objects[f"{S3_FOLDER}/{name}"]).hexdigest()
    moved = [key for method, key, _ in s3.requests if method == "PUT" and not key.endswith(".tmp")]
    assert [key.rpartition("/")[2] for key in moved] == FILES * 2


def test_a_large_file_goes_to_s3_in_parts(s3: S3Server) -> None:
    line = b"x" * (2**20 - 1) + b"\n"
    with Attempt(ObjectStoragePath(f"{root_on(s3)}/large")) as attempt:
        outgoing = attempt.begin("audience.csv", ["a"])
        for _ in range(12):
            outgoing.write(line, 1)
        attempt.finish({})
    assert s3.objects["bucket/audiences/large/audience.csv"] == b"a\n" + line * 12
    assert sum("partNumber" in asked for _, _, asked in s3.requests) == 3


@pytest.mark.parametrize("writes", [0, 3, 4, 5, 7])
def test_s3_that_fails_at_any_write_never_shows_a_manifest_without_its_files(
    decide: Callable[..., None], s3: S3Server, writes: int
) -> None:
    decide(profile("C1"))
    s3.failing = writes
    with pytest.raises(AirflowException, match=f"'premium' cannot be written under the export root '{root_on(s3)}'"):
        export(root_on(s3))
    assert f"{S3_FOLDER}/manifest.json" not in s3.objects
    s3.failing = None
    export(root_on(s3))
    assert sorted(s3.objects) == [f"{S3_FOLDER}/{name}" for name in FILES]


def test_a_place_that_fails_for_a_while_gets_the_same_decision_with_the_next_try(
    decide: Callable[..., None],
    warehouse: AudienceWarehouse,
    bucket: fsspec.AbstractFileSystem,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decide(profile("C1"), profile("C2"))
    before = warehouse.ends("*")
    move, moves = bucket.mv, []

    def fail_at_the_second(*arguments: object, **options: object) -> None:
        moves.append(arguments)
        if len(moves) == 2:
            raise ConnectionResetError("the place hung up")
        move(*arguments, **options)

    monkeypatch.setattr(bucket, "mv", fail_at_the_second)
    with pytest.raises(AirflowException, match=r"'premium' cannot be written .*: the place hung up") as error:
        export("memory://audiences")
    assert not isinstance(error.value, AirflowFailException)
    folder = "/audiences/premium/as_of_date=2026-03-31"
    assert [path.rpartition("/")[2] for path in bucket.ls(folder, detail=False)] == ["audience.csv"]

    export("memory://audiences")
    assert sorted(path.rpartition("/")[2] for path in bucket.ls(folder, detail=False)) == FILES
    assert warehouse.ends("*") == before


def test_a_root_that_cannot_be_written_is_named(decide: Callable[..., None], tmp_path: Path) -> None:
    decide(profile("C1"))
    root = tmp_path / "file"
    root.write_bytes(b"")
    with pytest.raises(AirflowException, match=rf"'premium' cannot be written under the export root '{root}'") as error:
        export(root)
    assert not isinstance(error.value, AirflowFailException)


def test_a_root_of_an_unknown_kind_is_named(decide: Callable[..., None]) -> None:
    decide(profile("C1"))
    with pytest.raises(AirflowException, match=r"under the export root 'nowhere://audiences': .*Correct EXPORT_ROOT"):
        export("nowhere://audiences")


def test_each_try_that_cannot_write_logs_its_reason(decide: Callable[..., None], tmp_path: Path) -> None:
    decide(profile("C1"))
    (tmp_path / "file").write_bytes(b"")
    (line,), _ = logged(tmp_path / "file", "error")
    assert line.startswith(f"The audience 'premium' cannot be written under the export root '{tmp_path}/file': ")
    assert "Not a directory" in line
    assert line.endswith("Correct EXPORT_ROOT or the rights on it, then clear this task.")


# Whether the export root can be written, before anything is built


def check(export_root: object, run_type: str = "scheduled") -> None:
    operator = CheckExportRootOperator(task_id="check_export_root", export_root=str(export_root))
    operator.execute({"dag_run": SimpleNamespace(run_type=run_type)})


def test_a_root_that_can_be_written_is_made_and_left_empty(tmp_path: Path) -> None:
    check(tmp_path / "data" / "exports")
    assert file_names(tmp_path / "data" / "exports") == []


def test_a_bucket_that_can_be_written_is_left_as_it_was() -> None:
    storage = attach("memory", fs=fsspec.filesystem("memory")).fs
    check("memory://audiences/of/customers")
    assert storage.find("/audiences") == []


def test_a_root_that_cannot_be_written_ends_the_run_at_once_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with structlog.testing.capture_logs() as logs, pytest.raises(AirflowFailException) as refused:
        check(tmp_path / "file" / "exports")
    assert str(refused.value) == (
        f"The audiences of this run cannot be written under the export root '{tmp_path}/file/exports': [Errno 20] Not "
        f"a directory: '{tmp_path}/file/exports'. Correct EXPORT_ROOT or the rights on it, then start a new run."
    )
    assert any("Not a directory" in str(log) for log in logs if log["log_level"] == "error")


@pytest.mark.parametrize(
    ("export_root", "reason"),
    [
        ("nowhere://audiences", "Unsupported filesystem: 'nowhere'"),
        ("gs://bucket/audiences", "[Ii]nstall gcsfs"),
        ("/proc/exports", "No such file|Permission|not permitted"),
    ],
    ids=["unknown scheme", "missing provider", "forbidden"],
)
def test_what_another_try_cannot_cure_is_not_tried_again(export_root: str, reason: str) -> None:
    with pytest.raises(AirflowFailException, match=reason):
        check(export_root)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.ETIMEDOUT])
def test_what_another_try_may_cure_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(_: ObjectStoragePath, __: bytes) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(ObjectStoragePath, "write_bytes", fail)
    with pytest.raises(AirflowException, match=os.strerror(number)) as error:
        check(tmp_path)
    assert not isinstance(error.value, AirflowFailException)


def test_a_backfill_needs_no_export_root(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    check(tmp_path / "file" / "exports", run_type="backfill")


@pytest.fixture
def on_staging(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connections of a deployment that is called customer_360_staging."""
    monkeypatch.setenv("WAREHOUSE", "snowflake")
    for name, user, role, warehouse in (
        ("WAREHOUSE", "airflow", "transformer", "transform"),
        ("WAREHOUSE_EXPORT", "export", "exporter", "read"),
    ):
        extra = {
            "account": "org-account",
            "database": "customer_360_staging",
            "warehouse": f"customer_360_staging_{warehouse}",
            "role": f"customer_360_staging_{role}",
            "private_key_file": "k",
        }
        connection = {"conn_type": "snowflake", "login": f"customer_360_staging_{user}", "extra": extra}
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(connection))


def anywhere() -> ExportAudienceOperator:
    return rendered(ExportAudienceOperator, campaign=PREMIUM, export_root="anywhere")


def test_on_snowflake_exports_read_as_a_user_of_their_own_and_tag_their_statements(on_staging: None) -> None:
    operator = anywhere()
    hook = operator.get_db_hook()
    connection = hook.get_connection(hook.get_conn_id())
    assert connection.login == "customer_360_staging_export"
    assert connection.extra_dejson["role"] == "customer_360_staging_exporter"
    tag = operator.hook_params["session_parameters"].pop("QUERY_TAG")
    assert json.loads(tag) == {"dag": "audiences", "run": "run_1", "task": "task", "as_of_date": AS_OF_DATE}


def test_without_that_connection_the_export_says_which_is_missing(
    on_staging: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_WAREHOUSE_EXPORT")
    with pytest.raises(
        AirflowFailException, match="no Airflow connection 'warehouse_export', which WAREHOUSE=snowflake"
    ):
        anywhere().get_db_hook()


def test_on_duckdb_exports_read_with_the_one_connection(warehouse: AudienceWarehouse) -> None:
    assert anywhere().conn_id == "warehouse"


# The log: ops.export_runs


def log_exports(
    of: Campaign,
    results: dict[int, dict[str, Any] | str],
    counts: dict[str, Any],
    export_root: object = "",
    **run: object,
) -> dict[str, int]:
    """Record what the mapped tasks of a campaign left: by their number a manifest, or the reason of a failure.

    :param run: what is another run than run_1: `dag_run_id`; when its tasks `started`, as a text; its `answer`.
    """
    started = run.pop("started", None)
    answer = run.pop("answer", None)

    def pull(task_ids: str, map_indexes: int = -1, key: str = "return_value") -> object:
        if task_ids == "decide_audiences":
            return counts
        if task_ids.startswith("approve_"):
            return answer
        result = results[map_indexes]
        return {"return_value": result, WHY: {"reason": result}, STARTED: started}[key]

    states = {
        f"export_{of.name}_{number}": "failed" if isinstance(each, str) else "success"
        for number, each in results.items()
    }
    crumbs = [{"task_id": f"export_{of.name}", "map_index": number, "duration": 90.5} for number in results]
    ti = SimpleNamespace(
        xcom_pull=pull,
        get_task_states=lambda dag_id, run_ids: {run_ids[0]: states},
        get_task_breadcrumbs=lambda dag_id, run_id: crumbs,
    )
    return rendered(LogExportsOperator, campaigns=[of], export_root=export_root, **run).execute({"ti": ti})


def export_runs(
    warehouse: AudienceWarehouse, columns: str, by: str = "as_of_date, destination"
) -> list[tuple[Any, ...]]:
    with warehouse.connect() as connection:
        return connection.execute(f"select {columns} from ops.export_runs order by {by}").fetchall()


def test_a_row_for_each_destination_says_what_went_there(warehouse: AudienceWarehouse, export_root: Path) -> None:
    earlier_export(warehouse, "C2", "C8")
    warehouse.publish(
        profile("C1", ads_opt_in=True), profile("C2"), profile("C3", marketing_opt_in=False), profile("C4", email=None)
    )
    counts = warehouse.decide(ADS)
    results = {
        number: export(export_root, of=ADS, destination=each.name) for number, each in enumerate(ADS.destinations)
    }
    for _ in range(2):
        assert log_exports(ADS, results, counts) == {"exported": 3}
    columns = (
        "destination, state, eligible, suppressed, capped, held_out, exported, entered, left_audience, sha256, file"
    )
    folder = folder_of(export_root)
    assert export_runs(warehouse, columns)[1:] == [
        ("csv", "exported", 4, 2, 0, 0, 2, 1, 1, results[0]["sha256"], f"{folder}/audience.csv"),
        ("google", "exported", 4, 2, 0, 0, 1, 1, 0, results[1]["sha256"], f"{folder}/google/audience.csv"),
        ("meta", "exported", 4, 2, 0, 0, 1, 1, 0, results[2]["sha256"], f"{folder}/meta/audience.csv"),
    ]
    times = export_runs(warehouse, "started_at, finished_at, dag_run_id, as_of_date")[1:]
    assert all(started <= finished for started, finished, _, _ in times)
    assert {row[2:] for row in times} == {("run_1", datetime.date(2026, 3, 31))}


def test_a_destination_that_failed_has_a_row_with_the_reason_and_is_no_previous_export(
    warehouse: AudienceWarehouse, export_root: Path
) -> None:
    warehouse.publish(profile("C1", ads_opt_in=True))
    counts = warehouse.decide(ADS)
    results = {0: export(export_root, of=ADS), 1: "the place hung up"}
    with pytest.raises(AirflowFailException, match="export_premium_1 failed"):
        log_exports(ADS, results, counts)
    assert export_runs(warehouse, "destination, state, reason, exported, file is null") == [
        ("csv", "exported", None, 1, False),
        ("google", "failed", "the place hung up", 0, True),
    ]
    warehouse.publish(profile("C1", ads_opt_in=True, as_of_date="2026-04-01"))
    warehouse.remember("premium", "2026-04-01", "C1", ads_consent=True)
    for destination, entered in (("csv", 0), ("google", 1)):
        result = export(export_root, of=ADS, as_of_date="2026-04-01", destination=destination)
        assert result["files"]["entered.csv"]["row_count"] == entered


def test_what_a_warehouse_quotes_of_a_row_is_no_part_of_the_reason(
    warehouse: AudienceWarehouse, export_root: Path
) -> None:
    warehouse.publish(profile("C1"))
    counts = warehouse.decide(PREMIUM)
    with pytest.raises(AirflowFailException, match="export_premium_0 failed"):
        log_exports(PREMIUM, {0: "Conversion Error: Could not convert string 'ada@example.com' to INT32"}, counts)
    assert export_runs(warehouse, "reason") == [("Conversion Error: Could not convert string '...' to INT32",)]


def test_a_second_try_that_fails_or_is_not_approved_comes_after_the_first(
    warehouse: AudienceWarehouse, export_root: Path
) -> None:
    warehouse.publish(profile("C1"))
    counts = warehouse.decide(PREMIUM)
    exported = export(export_root) | {"started_at": "2026-04-01T08:00:00", "finished_at": "2026-04-01T08:01:00"}
    log_exports(PREMIUM, {0: exported}, counts)
    with pytest.raises(AirflowFailException):
        log_exports(PREMIUM, {0: "hung up"}, counts, dag_run_id="run_2", started="2026-04-01T10:00:00+02:00")
    answer = {"chosen_options": ["Reject"], "responded_by_user": None}
    log_exports(PREMIUM, {}, counts, dag_run_id="run_3", answer=answer)
    *earlier, (_, third, began, ended) = export_runs(
        warehouse, "dag_run_id, state, started_at::varchar, finished_at::varchar", by="dag_run_id"
    )
    assert earlier == [
        ("run_1", "exported", "2026-04-01 08:00:00", "2026-04-01 08:01:00"),
        ("run_2", "failed", "2026-04-01 08:00:00", "2026-04-01 08:01:30.5"),
    ]
    assert (third, began) == ("not approved", None)
    assert ended > "2026-04-01 08:01:30.5"


def old_export(root: Path, date: str, below: str = "") -> Path:
    """Leave the four files of an export under a root, and return their folder."""
    folder = root / "premium" / f"as_of_date={date}" / below
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (folder / name).write_text("x")
    return folder


def test_exports_of_more_than_400_days_go_with_their_folders_and_of_others_nothing(
    warehouse: AudienceWarehouse, export_root: Path
) -> None:
    # 2026-03-31 less 400 days is 2025-02-24.
    kept, old = old_export(export_root, "2025-02-24"), old_export(export_root, "2025-02-23")
    somebodys = old_export(export_root, "2025-02-22")
    (somebodys / "notes.txt").write_text("x")
    google = old_export(export_root, "2025-02-23", "google")
    not_ours = export_root / "premium" / "as_of_date=latest"
    not_ours.mkdir()
    warehouse.publish(profile("C1", ads_opt_in=True))
    counts = warehouse.decide(ADS)
    results = {
        number: export(export_root, of=ADS, destination=each.name) for number, each in enumerate(ADS.destinations)
    }

    log_exports(ADS, results, counts, export_root)

    assert not old.exists()
    assert not google.exists()
    assert sorted(path.name for path in kept.iterdir()) == sorted(FILES)
    assert [path.name for path in somebodys.iterdir()] == ["notes.txt"]
    assert not_ours.exists()
    assert sorted(path.name for path in folder_of(export_root).iterdir()) == sorted((*FILES, "google", "meta"))


def test_the_newest_export_stays_however_old_it_is(warehouse: AudienceWarehouse, export_root: Path) -> None:
    old_export(export_root, "2020-01-01")
    newest = old_export(export_root, "2021-01-01")
    assert remove_older(ObjectStoragePath(str(export_root / "premium")), "", datetime.date(2026, 1, 1)) == [
        str(export_root / "premium" / "as_of_date=2020-01-01")
    ]
    assert sorted(path.name for path in newest.iterdir()) == sorted(FILES)


def test_an_export_that_is_being_written_has_no_manifest_and_stays(export_root: Path) -> None:
    writing = old_export(export_root, "2020-01-01")
    (writing / "manifest.json").unlink()
    old_export(export_root, "2021-01-01")
    assert remove_older(ObjectStoragePath(str(export_root / "premium")), "", datetime.date(2026, 1, 1)) == []
    assert len(list(writing.iterdir())) == 3


def test_what_cannot_be_removed_is_said_and_fails_nothing(
    warehouse: AudienceWarehouse, export_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warehouse.publish(profile("C1"))
    counts = warehouse.decide(PREMIUM)
    (old_export(export_root, "2020-01-01") / "manifest.json").unlink()
    (export_root / "premium" / "as_of_date=2020-01-01" / "manifest.json").mkdir()
    assert log_exports(PREMIUM, {0: export(export_root)}, counts, export_root) == {"exported": 1}
    assert "Exports of premium under" in capsys.readouterr().out


def test_who_was_suppressed_while_the_files_were_written_is_taken_out_of_the_memberships(
    warehouse: AudienceWarehouse, export_root: Path
) -> None:
    warehouse.publish(profile("C1"), profile("C2"))
    counts = warehouse.decide(PREMIUM)
    warehouse.suppress(customer_id="C1", recorded_at="2999-01-01")
    log_exports(PREMIUM, {0: export(export_root)}, counts)
    assert warehouse.ends() == [("C1", "suppressed", "after decision"), ("C2", "exported", None)]


def test_a_dry_run_or_one_that_exported_nothing_leaves_no_row(warehouse: AudienceWarehouse) -> None:
    warehouse.publish(profile("C1"))
    with pytest.raises(AirflowSkipException, match="dry run"):
        warehouse.decide(PREMIUM, counts_only="True")
    with pytest.raises(AirflowSkipException, match="nothing to record"):
        log_exports(PREMIUM, {}, {"as_of_date": AS_OF_DATE, "campaigns": {"premium": {}}})
    assert export_runs(warehouse, "*") == []
