"""What a campaign's audience holds, and what a reader finds while and after it is written."""

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
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import fsspec
import pytest
import structlog
from airflow.sdk import DAG, ObjectStoragePath
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from airflow.sdk.io import attach

from include.customer_360.catalog import MANIFEST, Campaign, load_catalog
from include.customer_360.operators.export import (
    MASKED,
    CheckExportRootOperator,
    ExportAudienceOperator,
    audience_csv,
    write_audience,
)
from include.customer_360.settings import PROJECT_ROOT, SQL_TEMPLATES, Settings
from local.sample import needs_sample
from local.sources import WarehouseError

CAMPAIGNS = load_catalog().campaigns
NAMED = {campaign.name: campaign for campaign in CAMPAIGNS}
RETENTION, ONBOARDING, PREMIUM = NAMED["retention"], NAMED["onboarding"], NAMED["premium"]
FIRST_THREE = (RETENTION, ONBOARDING, PREMIUM)
AS_OF_DATE = "2026-03-31"

PROFILE = json.loads(MANIFEST.read_text())["nodes"]["model.customer_analytics.customer_360_profile"]
PROFILE_COLUMNS = {name: column["data_type"] for name, column in PROFILE["columns"].items()}


def profile(customer_id: str, **values: object) -> dict[str, object]:
    """Return a customer who is eligible for every campaign, with `values` instead of the usual ones."""
    return {
        "customer_id": customer_id,
        "full_name": "Ada Byron",
        "email": f"{customer_id.lower()}@example.com",
        "tenure_months": 3,
        "lifetime_value": "60000.00",
        "spend_change_pct": "-40.0000",
        "avg_monthly_spend": "5000.0000",
        "travel_spend_pct": "30.0000",
        "eligible_for_retention_campaign": True,
        "eligible_for_onboarding_campaign": True,
        "eligible_for_premium_campaign": True,
        "as_of_date": AS_OF_DATE,
    } | values


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path for a DuckDB file, which is not there yet, behind the Airflow connection `warehouse`."""
    file = tmp_path / "warehouse.duckdb"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "duckdb", "host": str(file)}))
    return file


@pytest.fixture
def publish(warehouse: Path) -> Callable[..., None]:
    def replace_profiles(*profiles: dict[str, object]) -> None:
        with duckdb.connect(str(warehouse)) as connection:
            connection.execute("create schema if not exists marts")
            columns = ", ".join(f"{name} {data_type}" for name, data_type in PROFILE_COLUMNS.items())
            connection.execute(f"create or replace table marts.customer_360_profile ({columns})")
            for row in profiles:
                marks = ", ".join("?" for _ in row)
                into = f"insert into marts.customer_360_profile ({', '.join(row)})"
                connection.execute(f"{into} values ({marks})", list(row.values()))

    return replace_profiles


@pytest.fixture
def export_root(tmp_path: Path) -> Path:
    return tmp_path / "exports"


def rendered(campaign: Campaign, export_root: object, as_of_date: str = AS_OF_DATE) -> ExportAudienceOperator:
    with DAG("exports", schedule=None, template_searchpath=str(SQL_TEMPLATES)):
        operator = ExportAudienceOperator(
            task_id="export", campaign=campaign, export_root=str(export_root), as_of_date=as_of_date
        )
    operator.resolve_template_files()
    operator.render_template_fields({"run_id": "run_1"})
    return operator


def export(
    campaign: Campaign, export_root: object, as_of_date: str = AS_OF_DATE, run_id: str = "run_1"
) -> dict[str, Any]:
    return rendered(campaign, export_root, as_of_date).execute({"dag_run": SimpleNamespace(run_id=run_id)})


def folder_of(campaign: Campaign, export_root: Path, as_of_date: str = AS_OF_DATE) -> Path:
    return export_root / campaign.name / f"as_of_date={as_of_date}"


def audience(campaign: Campaign, export_root: Path) -> str:
    return (folder_of(campaign, export_root) / "audience.csv").read_bytes().decode()


def file_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def exported_ids(campaign: Campaign, export_root: Path) -> list[str]:
    return [row["customer_id"] for row in csv.DictReader(io.StringIO(audience(campaign, export_root)))]


# Who is in an audience, and in which order


def test_retention_takes_the_steepest_decline_first(publish: Callable[..., None], export_root: Path) -> None:
    publish(profile("C1", spend_change_pct="-35.5"), profile("C2", spend_change_pct="-80", lifetime_value="123456.7"))
    export(RETENTION, export_root)
    assert audience(RETENTION, export_root) == (
        "customer_id,full_name,email,lifetime_value,spend_change_pct\n"
        "C2,Ada Byron,c2@example.com,123456.70,-80.0000\n"
        "C1,Ada Byron,c1@example.com,60000.00,-35.5000\n"
    )


def test_onboarding_takes_the_fastest_growth_first(publish: Callable[..., None], export_root: Path) -> None:
    publish(profile("C1", spend_change_pct="50"), profile("C2", spend_change_pct="900.12345", tenure_months=6))
    export(ONBOARDING, export_root)
    assert audience(ONBOARDING, export_root) == (
        "customer_id,full_name,email,tenure_months,spend_change_pct,avg_monthly_spend\n"
        "C2,Ada Byron,c2@example.com,6,900.1235,5000.0000\n"
        "C1,Ada Byron,c1@example.com,3,50.0000,5000.0000\n"
    )


def test_premium_takes_the_highest_lifetime_value_first(publish: Callable[..., None], export_root: Path) -> None:
    publish(profile("C1", lifetime_value="9000"), profile("C2", lifetime_value="10000", travel_spend_pct="100"))
    export(PREMIUM, export_root)
    assert audience(PREMIUM, export_root) == (
        "customer_id,full_name,email,lifetime_value,travel_spend_pct\n"
        "C2,Ada Byron,c2@example.com,10000.00,100.0000\n"
        "C1,Ada Byron,c1@example.com,9000.00,30.0000\n"
    )


@pytest.mark.parametrize("campaign", FIRST_THREE, ids=lambda campaign: campaign.name)
def test_only_customers_eligible_for_the_campaign(
    campaign: Campaign, publish: Callable[..., None], export_root: Path
) -> None:
    flag = f"eligible_for_{campaign.name}_campaign"
    publish(profile("C1", **{flag: False}), profile("C2", **{flag: None}), profile("C3"))
    export(campaign, export_root)
    assert exported_ids(campaign, export_root) == ["C3"]


def test_retention_starts_at_a_lifetime_value_of_50000(publish: Callable[..., None], export_root: Path) -> None:
    publish(profile("C1", lifetime_value="49999.99"), profile("C2", lifetime_value="50000.00"))
    export(RETENTION, export_root)
    assert exported_ids(RETENTION, export_root) == ["C2"]


@pytest.mark.parametrize("campaign", [RETENTION, ONBOARDING], ids=lambda campaign: campaign.name)
def test_customers_without_a_change_come_last(
    campaign: Campaign, publish: Callable[..., None], export_root: Path
) -> None:
    publish(profile("C1", spend_change_pct=None), profile("C2", spend_change_pct="-50"))
    export(campaign, export_root)
    assert exported_ids(campaign, export_root) == ["C2", "C1"]


@pytest.mark.parametrize("campaign", CAMPAIGNS, ids=lambda campaign: campaign.name)
def test_every_campaign_can_be_exported(campaign: Campaign, publish: Callable[..., None], export_root: Path) -> None:
    publish(*(profile(f"C{n}") for n in range(3)))
    result = export(campaign, export_root)
    assert result["row_count"] <= 3
    assert result["owner"] == campaign.owner
    assert audience(campaign, export_root).startswith("customer_id,")


@pytest.mark.parametrize("campaign", FIRST_THREE, ids=lambda campaign: campaign.name)
def test_equal_customers_come_by_id(campaign: Campaign, publish: Callable[..., None], export_root: Path) -> None:
    publish(profile("C3"), profile("C1"), profile("C2"))
    export(campaign, export_root)
    assert exported_ids(campaign, export_root) == ["C1", "C2", "C3"]


def test_the_limit_keeps_the_first_in_order(publish: Callable[..., None], export_root: Path) -> None:
    publish(*(profile(f"C{n}", lifetime_value=n * 1000) for n in range(1, 6)))
    campaign = PREMIUM.model_copy(update={"limit": 2})
    result = export(campaign, export_root)
    assert exported_ids(campaign, export_root) == ["C5", "C4"]
    assert result["row_count"] == 2


def test_the_order_is_the_settings(publish: Callable[..., None], export_root: Path) -> None:
    publish(profile("C1", lifetime_value="9000"), profile("C2", lifetime_value="10000"))
    campaign = PREMIUM.model_copy(update={"order": "lifetime_value asc"})
    export(campaign, export_root)
    assert exported_ids(campaign, export_root) == ["C1", "C2"]


@pytest.mark.parametrize(
    ("campaign", "order_and_limit"),
    [
        (RETENTION, "order by spend_change_pct asc nulls last, customer_id\nlimit 1000"),
        (ONBOARDING, "order by spend_change_pct desc nulls last, customer_id\nlimit 2000"),
        (PREMIUM, "order by lifetime_value desc nulls last, customer_id\nlimit 5000"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_rendered_sql_is_what_the_interface_shows(campaign: Campaign, order_and_limit: str) -> None:
    operator = rendered(campaign, "anywhere")
    assert operator.sql.endswith(order_and_limit)
    assert "sql" in operator.template_fields


# The bytes of the CSV


def test_names_with_separators_quotes_line_breaks_and_letters_of_any_language(
    publish: Callable[..., None], export_root: Path
) -> None:
    publish(
        profile("C1", full_name="Byron, Ada"),
        profile("C2", full_name='Ada "the first" Byron'),
        profile("C3", full_name="Ada\nByron"),
        profile("C4", full_name="Ada\rByron"),
        profile("C5", full_name="Łucja Ångström 李"),
        profile("C6", full_name=None),
    )
    export(PREMIUM, export_root)
    assert (folder_of(PREMIUM, export_root) / "audience.csv").read_bytes() == (
        "customer_id,full_name,email,lifetime_value,travel_spend_pct\n"
        'C1,"Byron, Ada",c1@example.com,60000.00,30.0000\n'
        'C2,"Ada ""the first"" Byron",c2@example.com,60000.00,30.0000\n'
        'C3,"Ada\nByron",c3@example.com,60000.00,30.0000\n'
        'C4,"Ada\rByron",c4@example.com,60000.00,30.0000\n'
        "C5,Łucja Ångström 李,c5@example.com,60000.00,30.0000\n"
        "C6,,c6@example.com,60000.00,30.0000\n"
    ).encode()


def test_each_type_has_one_text_form() -> None:
    row = (True, False, None, Decimal("1E+3"), Decimal("0.0000000"), 7, datetime.date(2026, 3, 1))
    assert audience_csv(["a", "b", "c", "d", "e", "f", "g"], [row]) == (
        b"a,b,c,d,e,f,g\ntrue,false,,1000,0.0000000,7,2026-03-01\n"
    )


def test_column_names_are_lower_case_on_an_engine_that_answers_in_upper_case(
    publish: Callable[..., None], export_root: Path
) -> None:
    publish(profile("C1"))
    operator = rendered(PREMIUM, export_root)
    operator.sql = "select 'C1' as CUSTOMER_ID"
    operator.execute({"dag_run": SimpleNamespace(run_id="run_1")})
    assert audience(PREMIUM, export_root) == "customer_id\nC1\n"


def csv_text(*values: object) -> str:
    """Return the line of one row with these values, without its end."""
    return audience_csv(["c"] * len(values), [values]).decode().split("\n", 1)[1].removesuffix("\n")


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+15551234567", "'+15551234567"),
        ("-Anna", "'-Anna"),
        ("@sum(A1)", "'@sum(A1)"),
        ("\tAnna", "'\tAnna"),
        ("\rAnna", '"\'\rAnna"'),
        ("\nAnna", '"\'\nAnna"'),
        ("  =1+1", "'  =1+1"),
        ("\N{NO-BREAK SPACE}\N{ZERO WIDTH SPACE}\ufeff-1", "'\N{NO-BREAK SPACE}\N{ZERO WIDTH SPACE}\ufeff-1"),
        ("\x00=1", "'\x00=1"),
        ("\N{FULLWIDTH EQUALS SIGN}1+1", "'\N{FULLWIDTH EQUALS SIGN}1+1"),
        ("\N{FULLWIDTH PLUS SIGN}1", "'\N{FULLWIDTH PLUS SIGN}1"),
        ("\N{FULLWIDTH HYPHEN-MINUS}1", "'\N{FULLWIDTH HYPHEN-MINUS}1"),
        ("\N{FULLWIDTH COMMERCIAL AT}a", "'\N{FULLWIDTH COMMERCIAL AT}a"),
        ("\N{MINUS SIGN}1", "'\N{MINUS SIGN}1"),
        ('=HYPERLINK("http://example.com","Ada")', '"\'=HYPERLINK(""http://example.com"",""Ada"")"'),
        ("-12.50", "'-12.50"),
        ("'=1", "''=1"),
        ("'t Hart", "''t Hart"),
    ],
)
def test_a_text_that_a_spreadsheet_would_run_has_a_quote_before_it(text: str, cell: str) -> None:
    assert csv_text(text) == cell


@pytest.mark.parametrize(
    "text", ["Anna-Lena", "a@example.com", "O'Brien", "1+1=2", " Ada", "", "李", "*", "(Ada)", "#1"]
)
def test_any_other_text_stays_as_it_is(text: str) -> None:
    assert csv_text(text) == text


def test_numbers_keep_their_sign() -> None:
    assert csv_text(Decimal("-12.50"), -7, -0.5, None, datetime.date(2026, 3, 1)) == "-12.50,-7,-0.5,,2026-03-01"


def test_a_program_gets_each_text_back_by_taking_one_quote_off() -> None:
    texts = ["=1+1", "'=1+1", "''", "'", "\t-", "'t Hart", "-Anna, the first", "Ada", '"=1"', "\n=1", "O'Brien", "'\r"]
    content = audience_csv(["full_name"], [(text,) for text in texts])
    rows = list(csv.reader(io.StringIO(content.decode(), newline="")))[1:]
    assert [cell.removeprefix("'") for (cell,) in rows] == texts


def test_the_manifest_describes_the_bytes_with_the_quotes_on_each_run_the_same(
    publish: Callable[..., None], export_root: Path
) -> None:
    publish(profile("C1", full_name="=cmd|' /C calc'!A0", spend_change_pct="-35.5"))
    results = [export(RETENTION, export_root, run_id=run_id) for run_id in ("run_1", "run_2")]
    content = (folder_of(RETENTION, export_root) / "audience.csv").read_bytes()
    assert content.splitlines()[1] == b"C1,'=cmd|' /C calc'!A0,c1@example.com,60000.00,-35.5000"
    assert [result["sha256"] for result in results] == [hashlib.sha256(content).hexdigest()] * 2


# Whom it does not name


NOT_THEIRS = (
    "Nothing was written, and an earlier audience of that date stays. On Snowflake give connection 'warehouse_export' "
    "the role of the exports, which sees personal data, and run `make snowflake-setup`; where the values come from the "
    "sources, correct them there. Then clear this task."
)


def logged(campaign: Campaign, export_root: object, level: str) -> tuple[list[str], dict[str, Any]]:
    """Return what an export logs of its campaign at this level, and what it returns; nothing when it fails."""
    result = {}
    with structlog.testing.capture_logs() as logs, contextlib.suppress(AirflowException):
        result = export(campaign, export_root)
    lines = [log["event"] % log.get("positional_args", ()) for log in logs if log["log_level"] == level]
    return [line for line in lines if campaign.name in line], result


def refusal(campaign: Campaign, export_root: Path) -> str:
    """Return the message with which the export is refused, which no retry follows."""
    with pytest.raises(AirflowFailException) as refused:
        export(campaign, export_root)
    assert not isinstance(refused.value, AirflowSkipException)
    return str(refused.value)


def test_masked_values_are_what_the_masking_policy_writes() -> None:
    policy = (PROJECT_ROOT / "deploy" / "snowflake" / "06_masking.sql").read_text(encoding="utf-8")
    assert set(re.findall("then '([^']+)'", policy)) == {MASKED}


def test_an_audience_with_masked_values_is_refused_by_column(publish: Callable[..., None], export_root: Path) -> None:
    publish(
        profile("C1", full_name=MASKED, email=MASKED),
        profile("C2", full_name=MASKED, email=MASKED),
        profile("C3", full_name=None, email=MASKED),
    )
    assert refusal(RETENTION, export_root) == (
        "The audience 'retention' of 2026-03-31 is not exported: full_name is masked (*****) for 2 of its 3 customers; "
        f"email is masked (*****) for 3 of its 3 customers. {NOT_THEIRS}"
    )
    assert not export_root.exists()


def test_a_template_that_puts_a_masked_name_into_a_text_is_refused_too(
    publish: Callable[..., None], export_root: Path
) -> None:
    publish(profile("C1", full_name=MASKED))
    operator = rendered(PREMIUM, export_root)
    operator.sql = "select customer_id, 'Dear ' || full_name as salutation from marts.customer_360_profile"
    with pytest.raises(AirflowFailException, match=r"salutation is masked \(\*{5}\) for 1 of its 1 customers"):
        operator.execute({"dag_run": SimpleNamespace(run_id="run_1")})


def test_an_audience_whose_addresses_are_all_the_same_is_refused(
    publish: Callable[..., None], export_root: Path
) -> None:
    publish(profile("C1", email="x@example.com"), profile("C2", email=" X@Example.com"), profile("C3", email=None))
    assert "not exported: all 2 values in email are the same address." in refusal(RETENTION, export_root)


def test_an_audience_of_one_customer_has_one_address(publish: Callable[..., None], export_root: Path) -> None:
    publish(profile("C1"), profile("C2", email=None))
    export(RETENTION, export_root)
    assert exported_ids(RETENTION, export_root) == ["C1", "C2"]


def test_an_audience_without_an_address_is_refused(publish: Callable[..., None], export_root: Path) -> None:
    publish(profile("C1", email="n/a"), profile("C2", email="Ada Byron <>"), profile("C3", email=None))
    assert "not exported: none of the 2 values in email is an address." in refusal(RETENTION, export_root)


def test_one_address_among_others_that_are_none_is_enough(publish: Callable[..., None], export_root: Path) -> None:
    publish(profile("C1", email="n/a"), profile("C2"))
    export(RETENTION, export_root)
    assert exported_ids(RETENTION, export_root) == ["C1", "C2"]


def test_an_audience_of_customers_who_alone_have_no_address_is_refused(
    publish: Callable[..., None], export_root: Path
) -> None:
    publish(profile("C1", email=None), profile("C2", email=None), profile("C3", eligible_for_retention_campaign=False))
    assert "not exported: email is empty for all of its 2 customers." in refusal(RETENTION, export_root)


def test_where_the_sources_deliver_no_address_at_all_the_export_warns(
    publish: Callable[..., None], export_root: Path
) -> None:
    publish(profile("C1", email=None), profile("C2", email=None))
    (warning,), _ = logged(RETENTION, export_root, "warning")
    assert exported_ids(RETENTION, export_root) == ["C1", "C2"]
    assert warning == (
        "Nobody in marts.customer_360_profile has a value in email: the sources deliver none, or the role of "
        "connection 'warehouse' does not see them. The audience 'retention' has an empty column."
    )


def test_a_refused_audience_leaves_the_earlier_one_of_its_date(publish: Callable[..., None], export_root: Path) -> None:
    publish(profile("C1"))
    export(RETENTION, export_root)
    before = files_of(folder_of(RETENTION, export_root))
    publish(profile("C1", email=MASKED), profile("C2", email=MASKED))
    refusal(RETENTION, export_root)
    assert files_of(folder_of(RETENTION, export_root)) == before


# The manifest


def test_the_manifest_describes_the_audience(publish: Callable[..., None], warehouse: Path, export_root: Path) -> None:
    publish(profile("C1"), profile("C2"))
    become(warehouse, "w-1")
    export(RETENTION, export_root, run_id="manual__7")
    folder = folder_of(RETENTION, export_root)
    expected = {
        "as_of_date": "2026-03-31",
        "campaign": "retention",
        "columns": ["customer_id", "full_name", "email", "lifetime_value", "spend_change_pct"],
        "dag_run_id": "manual__7",
        "owner": "lifecycle-marketing",
        "row_count": 2,
        "sha256": hashlib.sha256((folder / "audience.csv").read_bytes()).hexdigest(),
        "warehouse_id": "w-1",
    }
    text = (folder / "manifest.json").read_text(encoding="utf-8")
    assert json.loads(text) == expected
    assert text.startswith('{\n  "as_of_date": "2026-03-31",\n  "campaign": "retention",\n')


def test_the_task_returns_path_and_manifest(publish: Callable[..., None], export_root: Path) -> None:
    publish(profile("C1"))
    result = export(RETENTION, export_root)
    folder = folder_of(RETENTION, export_root)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert result == {"path": str(folder / "audience.csv"), **manifest}


def test_the_log_has_campaign_date_and_customers_as_a_table(publish: Callable[..., None], export_root: Path) -> None:
    publish(*(profile(f"C{number}") for number in range(1200)))
    lines, _ = logged(PREMIUM, export_root, "info")
    assert lines[-1] == (
        f"{folder_of(PREMIUM, export_root)}/audience.csv\ncampaign  as_of_date  customers\npremium   2026-03-31  1,200"
    )


def test_an_empty_audience_is_a_header_and_a_count_of_zero(publish: Callable[..., None], export_root: Path) -> None:
    publish(profile("C1", eligible_for_retention_campaign=False))
    result = export(RETENTION, export_root)
    assert audience(RETENTION, export_root) == "customer_id,full_name,email,lifetime_value,spend_change_pct\n"
    assert result["row_count"] == 0


def test_a_warning_says_which_condition_leaves_nobody(publish: Callable[..., None], export_root: Path) -> None:
    publish(
        profile("C1", eligible_for_retention_campaign=False),
        profile("C2", eligible_for_retention_campaign=None),
        profile("C3", eligible_for_retention_campaign=False, lifetime_value="1.00"),
    )
    warnings, result = logged(RETENTION, export_root, "warning")
    assert warnings == [
        "The audience 'retention' of 2026-03-31 is empty: no customer meets eligible_for_retention_campaign = true: "
        "0 of 3"
    ]
    assert result["why_empty"] == "no customer meets eligible_for_retention_campaign = true: 0 of 3"
    assert "why_empty" not in json.loads((folder_of(RETENTION, export_root) / "manifest.json").read_text())


def test_or_that_only_all_conditions_together_do(publish: Callable[..., None], export_root: Path) -> None:
    publish(
        profile("C1", eligible_for_retention_campaign=False),
        profile("C2", lifetime_value="49999.99"),
        profile("C3", lifetime_value="1.00"),
    )
    _, result = logged(RETENTION, export_root, "warning")
    assert result["why_empty"] == (
        "customers meet each condition, and nobody all of them: eligible_for_retention_campaign = true: 2 of 3; "
        "lifetime_value >= 50000: 1 of 3"
    )


def test_or_that_the_template_of_the_campaign_does(publish: Callable[..., None], export_root: Path) -> None:
    publish(profile("C1"))
    operator = rendered(
        RETENTION.model_copy(update={"conditions": (), "template": "exports/_audience.sql"}), export_root
    )
    operator.sql = "select customer_id from marts.customer_360_profile where false"
    result = operator.execute({"dag_run": SimpleNamespace(run_id="run_1")})
    assert result["why_empty"] == "include/sql/exports/_audience.sql selects nobody"


# Exporting a date again


def test_the_same_marts_give_the_same_bytes(publish: Callable[..., None], export_root: Path) -> None:
    publish(profile("C2"), profile("C1"))
    export(RETENTION, export_root, run_id="run_1")
    first = audience(RETENTION, export_root)
    publish(profile("C1"), profile("C2"))
    export(RETENTION, export_root, run_id="run_2")
    assert audience(RETENTION, export_root) == first


def test_changed_marts_replace_audience_and_manifest(publish: Callable[..., None], export_root: Path) -> None:
    publish(profile("C1"))
    export(RETENTION, export_root, run_id="run_1")
    publish(profile("C1"), profile("C2"))
    export(RETENTION, export_root, run_id="run_2")
    folder = folder_of(RETENTION, export_root)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert exported_ids(RETENTION, export_root) == ["C1", "C2"]
    assert (manifest["row_count"], manifest["dag_run_id"]) == (2, "run_2")
    assert file_names(folder) == ["audience.csv", "manifest.json"]


def test_another_date_has_a_folder_of_its_own(publish: Callable[..., None], export_root: Path) -> None:
    publish(profile("C1"))
    export(RETENTION, export_root)
    publish(profile("C2", as_of_date="2026-04-01"))
    export(RETENTION, export_root, as_of_date="2026-04-01")
    assert exported_ids(RETENTION, export_root) == ["C1"]
    assert (folder_of(RETENTION, export_root, "2026-04-01") / "manifest.json").is_file()


# Which warehouse they are of


def become(file: Path, warehouse_id: str) -> None:
    """Give the warehouse this id, as a run does that finds none."""
    with duckdb.connect(str(file)) as connection:
        connection.execute("create schema if not exists ops")
        connection.execute("create or replace table ops.warehouse (warehouse_id varchar, made_at timestamp)")
        connection.execute("insert into ops.warehouse values (?, timestamp '2026-03-01')", [warehouse_id])


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_audience_of_another_warehouse_is_left(
    publish: Callable[..., None], warehouse: Path, export_root: Path
) -> None:
    publish(profile("C1"))
    become(warehouse, "w-1")
    export(RETENTION, export_root)
    folder = folder_of(RETENTION, export_root)
    before = files_of(folder)
    publish(profile("C2"))
    become(warehouse, "w-2")
    assert refusal(RETENTION, export_root) == (
        f"{folder}/manifest.json is of warehouse 'w-1', and this warehouse is 'w-2': the audience 'retention' is not "
        "exported, and that one stays. Where both should be one, for example after a warehouse was made anew, move "
        f"{folder} away; otherwise name another EXPORT_ROOT. Then clear this task."
    )
    assert files_of(folder) == before

    export(ONBOARDING, export_root)
    publish(profile("C2", as_of_date="2026-04-01"))
    export(RETENTION, export_root, as_of_date="2026-04-01")
    assert exported_ids(ONBOARDING, export_root) == ["C2"]


def test_an_audience_of_a_version_without_ids_is_replaced_with_a_word(
    publish: Callable[..., None], warehouse: Path, export_root: Path
) -> None:
    folder = folder_of(RETENTION, export_root)
    write_audience(ObjectStoragePath(str(folder)), OLD, manifest_of(OLD))
    publish(profile("C2"))
    become(warehouse, "w-2")
    lines, result = logged(RETENTION, export_root, "info")
    assert f"{folder}/manifest.json says nothing of its warehouse, as before there were ids: it is replaced." in lines
    assert result["warehouse_id"] == "w-2"
    assert json.loads((folder / "manifest.json").read_text())["warehouse_id"] == "w-2"


@pytest.mark.parametrize("content", [b"", b"[]", b'{"warehouse_id": nul', b"\xff"])
def test_what_is_no_manifest_is_replaced_with_a_word(
    publish: Callable[..., None], warehouse: Path, export_root: Path, content: bytes
) -> None:
    folder = folder_of(RETENTION, export_root)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_bytes(content)
    publish(profile("C2"))
    become(warehouse, "w-2")
    lines, _ = logged(RETENTION, export_root, "info")
    assert any("says nothing of its warehouse" in line for line in lines)
    assert json.loads((folder / "manifest.json").read_text())["warehouse_id"] == "w-2"


def test_a_warehouse_without_an_id_exports_but_replaces_no_audience_of_one_that_has_it(
    publish: Callable[..., None], warehouse: Path, export_root: Path
) -> None:
    publish(profile("C1"))
    assert export(RETENTION, export_root)["warehouse_id"] is None
    become(warehouse, "w-1")
    assert export(RETENTION, export_root)["warehouse_id"] == "w-1"
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("drop table ops.warehouse")
    message = refusal(RETENTION, export_root)
    assert "is of warehouse 'w-1', and this warehouse is without an id that this export can read" in message
    assert "Run customer_360_refresh, which gives the warehouse an id" in message


def test_the_sample_stays_out_of_the_way_of_what_the_exports_would_refuse_to_replace(
    publish: Callable[..., None], warehouse: Path, export_root: Path, tmp_path: Path
) -> None:
    publish(profile("C1"))
    become(warehouse, "w-1")
    export(RETENTION, export_root)
    second = {"warehouse_file": tmp_path / "second.duckdb", "sample": True, "as_of_date": AS_OF_DATE}
    manifest = folder_of(RETENTION, export_root) / "manifest.json"
    with pytest.raises(WarehouseError, match=re.escape(f"holds audiences of another warehouse ({manifest})")) as error:
        needs_sample(Settings(_env_file=None, export_root=str(export_root), **second), tmp_path / "home")
    named = re.search(r"EXPORT_ROOT=(\S+)\.$", str(error.value))[1]
    assert needs_sample(Settings(_env_file=None, export_root=named, **second), tmp_path / "home")

    become(warehouse, "w-2")
    assert str(manifest) in refusal(RETENTION, export_root)
    assert export(RETENTION, named)["warehouse_id"] == "w-2"


# Writes that do not reach their end

OLD, NEW = b"customer_id\nC1\n", b"customer_id\nC1\nC2\n"


def manifest_of(content: bytes) -> dict[str, Any]:
    return {"row_count": content.count(b"\n") - 1, "sha256": hashlib.sha256(content).hexdigest()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that holds the audience OLD with its manifest."""
    path = tmp_path / "retention" / "as_of_date=2026-03-31"
    write_audience(ObjectStoragePath(str(path)), OLD, manifest_of(OLD))
    return path


def reader_sees(folder: Path) -> tuple[bytes, dict[str, Any] | None]:
    manifest = folder / "manifest.json"
    return (folder / "audience.csv").read_bytes(), json.loads(manifest.read_bytes()) if manifest.exists() else None


def in_another_process(prepare: Callable[[], None], folder: Path) -> int:
    """Write the audience NEW in a process of its own, after `prepare`; returns its exit code, -9 when killed."""

    def write() -> None:
        prepare()
        write_audience(ObjectStoragePath(str(folder)), NEW, manifest_of(NEW))

    process = multiprocessing.get_context("fork").Process(target=write)
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
        pytest.param(1, (OLD, manifest_of(OLD)), id="before the temporary audience"),
        pytest.param(2, (OLD, manifest_of(OLD)), id="before the temporary manifest"),
        pytest.param(3, (OLD, manifest_of(OLD)), id="before the old manifest is read"),
        pytest.param(4, (OLD, manifest_of(OLD)), id="before the old manifest is removed"),
        pytest.param(5, (OLD, None), id="before the audience is moved"),
        pytest.param(6, (NEW, None), id="before the manifest is moved"),
    ],
)
def test_a_killed_write_never_leaves_a_manifest_beside_another_audience(
    step: int, seen: tuple[bytes, dict[str, Any] | None], folder: Path
) -> None:
    assert in_another_process(kill_before_step(step, folder), folder) == -signal.SIGKILL
    assert reader_sees(folder) == seen

    write_audience(ObjectStoragePath(str(folder)), NEW, manifest_of(NEW))
    assert reader_sees(folder) == (NEW, manifest_of(NEW))
    assert file_names(folder) == ["audience.csv", "manifest.json"]


def test_a_write_has_no_step_after_the_manifest(folder: Path) -> None:
    assert in_another_process(kill_before_step(7, folder), folder) == 0
    assert reader_sees(folder) == (NEW, manifest_of(NEW))


def test_a_write_that_fails_midway_leaves_the_previous_pair(folder: Path) -> None:
    def allow_no_file_over_ten_bytes() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))

    assert in_another_process(allow_no_file_over_ten_bytes, folder) == 1
    assert [path.read_bytes() for path in folder.glob(".audience.csv.*.tmp")] == [NEW[:10]]
    assert reader_sees(folder) == (OLD, manifest_of(OLD))


def test_leftovers_of_killed_writes_go_with_the_next_export(publish: Callable[..., None], export_root: Path) -> None:
    folder = folder_of(RETENTION, export_root)
    folder.mkdir(parents=True)
    (folder / ".audience.csv.0123.tmp").write_bytes(b"customer_id,full_na")
    (folder / "notes.txt").write_bytes(b"not ours")
    publish(profile("C1"))
    export(RETENTION, export_root)
    assert file_names(folder) == ["audience.csv", "manifest.json", "notes.txt"]


def test_the_same_audience_keeps_its_manifest_until_the_new_one_is_there(folder: Path) -> None:
    def write_old_again() -> None:
        kill_before_step(5, folder)()
        write_audience(ObjectStoragePath(str(folder)), OLD, manifest_of(OLD) | {"dag_run_id": "run_2"})

    # Without a removal, the fifth step is the manifest's move.
    assert in_another_process(write_old_again, folder) == -signal.SIGKILL
    assert reader_sees(folder) == (OLD, manifest_of(OLD))


# Whose rows they are


def test_without_a_date_the_published_one_is_exported(publish: Callable[..., None], export_root: Path) -> None:
    publish(profile("C1", as_of_date="2025-12-31"))
    result = export(RETENTION, export_root, as_of_date="")
    assert result["as_of_date"] == "2025-12-31"
    assert (folder_of(RETENTION, export_root, "2025-12-31") / "manifest.json").is_file()


def test_newer_published_marts_skip_the_export(publish: Callable[..., None], export_root: Path) -> None:
    publish(profile("C1", as_of_date="2026-04-02"))
    with pytest.raises(
        AirflowSkipException, match=r"published marts are of 2026-04-02, newer than 2026-03-31: nothing exported"
    ):
        export(RETENTION, export_root)
    assert not export_root.exists()


def test_older_published_marts_fail_the_export(publish: Callable[..., None], export_root: Path) -> None:
    publish(profile("C1", as_of_date="2026-03-30"))
    with pytest.raises(
        AirflowFailException,
        match=r"published marts are of 2026-03-30, older than 2026-03-31: run customer_360_refresh for 2026-03-31",
    ):
        export(RETENTION, export_root)
    assert not export_root.exists()


def test_missing_marts_name_the_next_step(warehouse: Path, export_root: Path) -> None:
    duckdb.connect(str(warehouse)).close()
    with pytest.raises(
        AirflowFailException,
        match=r"needs marts.customer_360_profile, which connection 'warehouse' does not have: "
        r"run customer_360_refresh for 2026-03-31 first",
    ):
        export(RETENTION, export_root)


def test_empty_marts_name_the_next_step(publish: Callable[..., None], export_root: Path) -> None:
    publish()
    with pytest.raises(
        AirflowFailException, match=r"as of 2026-03-31 needs .* but it holds no customer: run customer_360_refresh"
    ):
        export(RETENTION, export_root)


def test_marts_of_two_dates_are_refused(publish: Callable[..., None], export_root: Path) -> None:
    publish(profile("C1"), profile("C2", as_of_date="2026-03-30"))
    with pytest.raises(AirflowFailException, match=r"of one date, but it holds 2026-03-30 and 2026-03-31"):
        export(RETENTION, export_root)


def test_a_publication_while_the_audience_is_read_exports_nothing(
    warehouse: Path, tmp_path: Path, export_root: Path
) -> None:
    published = tmp_path / "published.csv"
    published.write_text("as_of_date\n2026-03-31\n", encoding="utf-8")
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("create schema marts")
        connection.execute(f"create view marts.customer_360_profile as select * from read_csv('{published}')")
    operator = rendered(RETENTION, export_root)
    operator.sql = f"copy (select date '2026-04-01' as as_of_date) to '{published}'"
    with pytest.raises(AirflowException, match="was published anew while it was read"):
        operator.execute({"dag_run": SimpleNamespace(run_id="run_1")})
    assert not export_root.exists()


def test_a_date_that_is_none_is_refused(publish: Callable[..., None], export_root: Path) -> None:
    publish(profile("C1"))
    with pytest.raises(AirflowFailException, match=r"as_of_date '31\.03\.2026' is no date: .*, for example 2026-03-31"):
        export(RETENTION, export_root, as_of_date="31.03.2026")


def test_a_missing_warehouse_is_named_and_not_created(warehouse: Path, export_root: Path) -> None:
    with pytest.raises(AirflowFailException, match=r"The warehouse .*warehouse\.duckdb is not there"):
        export(RETENTION, export_root)
    assert not warehouse.exists()


# Where audiences go


def test_the_root_may_be_a_file_uri(publish: Callable[..., None], export_root: Path) -> None:
    publish(profile("C1"))
    result = export(RETENTION, export_root.as_uri())
    assert exported_ids(RETENTION, export_root) == ["C1"]
    assert result["path"] == f"{export_root.as_uri()}/retention/as_of_date=2026-03-31/audience.csv"


@pytest.fixture
def bucket() -> Iterator[fsspec.AbstractFileSystem]:
    """fsspec's storage in memory, which moves by copying as buckets do, attached as Airflow attaches a bucket's."""
    storage = attach("memory", fs=fsspec.filesystem("memory")).fs
    yield storage
    storage.rm("/audiences", recursive=True)


def test_the_root_may_be_a_bucket(publish: Callable[..., None], bucket: fsspec.AbstractFileSystem) -> None:
    publish(profile("C1"))
    export(RETENTION, "memory://audiences", run_id="run_1")
    publish(profile("C2"))
    export(RETENTION, "memory://audiences", run_id="run_2")
    folder = "/audiences/retention/as_of_date=2026-03-31"
    assert sorted(bucket.ls(folder, detail=False)) == [f"{folder}/audience.csv", f"{folder}/manifest.json"]
    content = bucket.cat(f"{folder}/audience.csv")
    assert content.splitlines()[1].startswith(b"C2,")
    assert json.loads(bucket.cat(f"{folder}/manifest.json"))["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_root_that_cannot_be_written_is_named(publish: Callable[..., None], tmp_path: Path) -> None:
    publish(profile("C1"))
    root = tmp_path / "file"
    root.write_bytes(b"")
    with pytest.raises(
        AirflowException, match=rf"'retention' cannot be written under the export root '{root}'"
    ) as error:
        export(RETENTION, root)
    assert not isinstance(error.value, AirflowFailException)


def test_a_root_of_an_unknown_kind_is_named(publish: Callable[..., None]) -> None:
    publish(profile("C1"))
    with pytest.raises(AirflowException, match=r"under the export root 'nowhere://audiences': .*Correct EXPORT_ROOT"):
        export(RETENTION, "nowhere://audiences")


def test_each_try_that_cannot_write_logs_its_reason(publish: Callable[..., None], tmp_path: Path) -> None:
    publish(profile("C1"))
    (tmp_path / "file").write_bytes(b"")
    (line,), _ = logged(RETENTION, tmp_path / "file", "error")
    assert line.startswith(f"The audience 'retention' cannot be written under the export root '{tmp_path}/file': ")
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
        ("s3://bucket/audiences", "Install s3fs"),
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


def test_on_snowflake_exports_read_as_a_user_of_their_own_and_tag_their_statements(on_staging: None) -> None:
    operator = rendered(RETENTION, "anywhere")
    hook = operator.get_db_hook()
    connection = hook.get_connection(hook.get_conn_id())
    assert connection.login == "customer_360_staging_export"
    assert connection.extra_dejson["role"] == "customer_360_staging_exporter"
    tag = operator.hook_params["session_parameters"].pop("QUERY_TAG")
    assert json.loads(tag) == {"dag": "exports", "run": "run_1", "task": "export", "as_of_date": AS_OF_DATE}


def test_without_that_connection_the_export_says_which_is_missing(
    on_staging: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_WAREHOUSE_EXPORT")
    with pytest.raises(
        AirflowFailException, match="no Airflow connection 'warehouse_export', which WAREHOUSE=snowflake"
    ):
        rendered(RETENTION, "anywhere").get_db_hook()


def test_on_duckdb_exports_read_with_the_one_connection(warehouse: Path) -> None:
    assert rendered(RETENTION, "anywhere").conn_id == "warehouse"
