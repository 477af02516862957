"""What the catalog reads from dbt's manifest, and how it refuses an entry that cannot be used."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag

from include.customer_360 import catalog
from include.customer_360.catalog import MANIFEST, Catalog, CatalogError, DriftLimits, load_catalog
from include.customer_360.settings import PROJECT_ROOT, SQL_TEMPLATES

LTV = "model.customer_analytics.metric_customer_ltv"
PREMIUM = "exposure.customer_analytics.premium_campaign"
INFINITY, NAN = float("inf"), float("nan")
LIMITS = {"lowest_pct": -5, "highest_pct": 10}
EXPOSURE_FILE = "include/dbt/models/exposures/premium_campaign.yml"
LTV_FILE = "include/dbt/models/marts/marketing/metric_customer_ltv.yml"


@pytest.fixture(scope="module")
def parts_read() -> str:
    """The parts of the project's manifest that the catalog reads, a third of it."""
    manifest = json.loads(MANIFEST.read_text())
    return json.dumps({name: manifest[name] for name in ("metadata", "nodes", "exposures", "parent_map")})


@pytest.fixture
def manifest(parts_read: str) -> dict[str, Any]:
    """The project's manifest, to change."""
    return json.loads(parts_read)


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    """A copy of include/sql, to change."""
    return Path(shutil.copytree(SQL_TEMPLATES, tmp_path / "sql"))


def read(manifest: dict[str, Any], folder: Path, templates: Path = SQL_TEMPLATES) -> Catalog:
    """Write the manifest, and return the catalog with both its parts read."""
    file = folder / "manifest.json"
    file.write_text(json.dumps(manifest))
    read = load_catalog(file, templates)
    assert read.models
    assert read.campaigns
    return read


def names(models: tuple) -> list[str]:
    return [model.name for model in models]


# Marts


def test_the_marts_are_validated_and_published() -> None:
    assert set(names(load_catalog().marts)) >= {
        "customer_segments",
        "metric_customer_ltv",
        "metric_mom_spend_change",
        "metric_avg_transaction_value",
        "customer_360_profile",
        "customer_category_spend",
    }
    assert set(names(load_catalog().marts)) <= set(names(load_catalog().published))


def test_intermediate_models_are_published_without_a_validation() -> None:
    intermediate = [model for model in load_catalog().published if model.table_schema == "intermediate"]
    assert set(names(tuple(intermediate))) == {
        "int_customers",
        "int_customer_medians",
        "int_customer_transactions",
    }
    assert not any(model.validated for model in intermediate)


def test_a_model_is_published_after_all_that_it_is_made_of(manifest: dict[str, Any], tmp_path: Path) -> None:
    order = names(load_catalog().published)
    assert order.index("int_customers") < order.index("customer_segments") < order.index("metric_customer_ltv")
    assert order[-1] == "customer_360_profile"

    # The graph decides, not the names: the other way round when lifetime value is what segments are made of.
    manifest["parent_map"][LTV] = []
    manifest["parent_map"]["model.customer_analytics.customer_segments"] = [LTV]
    order = names(read(manifest, tmp_path).published)
    assert order.index("metric_customer_ltv") < order.index("customer_segments")


def test_a_mart_says_which_measures_are_watched() -> None:
    ltv = next(mart for mart in load_catalog().marts if mart.name == "metric_customer_ltv")
    assert ltv.drift == {
        "row_count": DriftLimits(lowest_pct=-5, highest_pct=10),
        "lifetime_value": DriftLimits(lowest_pct=-5, highest_pct=25),
    }
    assert ltv.measures == ("lifetime_value",)


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"published": True}, "config.meta.validated is not given"),
        ({"validated": True}, "config.meta.published is not given"),
        ({}, "config.meta.validated is not given"),
        ({"validated": "yes", "published": True}, "config.meta.validated is 'yes'"),
        ({"validated": False, "published": True}, "config.meta.validated is False: what is published has to be"),
        (
            {"validated": True, "published": True, "drfit": {}},
            "config.meta.drfit is {}, but there is no such key: the keys here are validated, published, drift",
        ),
        (
            {"validated": True, "published": True, "drift": {"spend": {"lowest_pct": -1, "highest_pct": 1}}},
            "config.meta.drift is 'spend': name row_count or a column of metric_customer_ltv",
        ),
        (
            {"validated": True, "published": True, "drift": {"row_count": {"lowest_pct": "low", "highest_pct": 1}}},
            "config.meta.drift.row_count.lowest_pct is 'low'",
        ),
        (
            {"validated": True, "published": True, "drift": {"row_count": {"lowest_pct": True, "highest_pct": 1}}},
            "config.meta.drift.row_count.lowest_pct is True",
        ),
        (
            {"validated": True, "published": True, "drift": {"row_count": {"lowest_pct": 10, "highest_pct": -5}}},
            "config.meta.drift.row_count is {'lowest_pct': 10, 'highest_pct': -5}: lowest_pct 10 is above highest_pct "
            "-5: exchange them.",
        ),
        (
            {"validated": True, "published": True, "drift": {"row_count": {"lowest_pct": -5, "highest_pct": INFINITY}}},
            "config.meta.drift.row_count.highest_pct is inf: Input should be a finite number.",
        ),
        (
            {"validated": True, "published": True, "drift": {"row_count": {"lowest_pct": NAN, "highest_pct": 5}}},
            "config.meta.drift.row_count.lowest_pct is nan: Input should be a finite number.",
        ),
        (
            {"validated": True, "published": True, "drift": {"customer_id": LIMITS}},
            "config.meta.drift is 'customer_id': the column is varchar, and what is watched is a sum, so name a "
            "number.",
        ),
        (
            {"validated": True, "published": True, "drift": {"first_transaction_date": LIMITS}},
            "config.meta.drift is 'first_transaction_date': the column is date, and what is watched is a sum",
        ),
        (
            {"validated": False, "published": False, "drift": {"row_count": LIMITS}},
            "config.meta.drift is given, but validated is False: only a mart that is validated is watched.",
        ),
    ],
)
def test_a_mart_that_cannot_be_used_is_named_with_file_key_and_value(
    manifest: dict[str, Any], tmp_path: Path, meta: dict[str, Any], message: str
) -> None:
    manifest["nodes"][LTV]["config"]["meta"] = meta
    with pytest.raises(CatalogError) as refused:
        read(manifest, tmp_path)
    assert f"{LTV_FILE}: mart metric_customer_ltv, {message}" in str(refused.value)


def test_a_validated_mart_without_a_template_is_named(
    manifest: dict[str, Any], templates: Path, tmp_path: Path
) -> None:
    (templates / "validations" / "metric_customer_ltv.sql").unlink()
    with pytest.raises(CatalogError, match=r"mart metric_customer_ltv.* write .*validations/metric_customer_ltv\.sql"):
        read(manifest, tmp_path, templates)


def test_drift_that_the_validation_does_not_look_at_is_named(
    manifest: dict[str, Any], templates: Path, tmp_path: Path
) -> None:
    template = templates / "validations" / "metric_customer_ltv.sql"
    template.write_text("{#- validation.drift_checks('ltv') is left out -#}\nselect 1")
    with pytest.raises(CatalogError) as refused:
        read(manifest, tmp_path, templates)
    assert str(refused.value) == (
        f"{LTV_FILE}: mart metric_customer_ltv, config.meta.drift is given, but {template} has no drift_checks, so "
        "that nothing would be watched: add drift_of_measures and drift_checks of checks.jinja, or leave drift out."
    )
    manifest["nodes"][LTV]["config"]["meta"].pop("drift")
    assert read(manifest, tmp_path, templates)


def test_limits_may_be_equal_so_that_a_measure_must_not_move() -> None:
    assert DriftLimits(lowest_pct=0, highest_pct=0).highest_pct == 0


# Campaigns


def campaign(manifest: dict[str, Any], **changes: object) -> dict[str, Any]:
    """Return the manifest with these keys of the premium campaign changed; None leaves one out."""
    settings = manifest["exposures"][PREMIUM]["config"]["meta"]["campaign"]
    settings |= changes
    manifest["exposures"][PREMIUM]["config"]["meta"]["campaign"] = {
        key: value for key, value in settings.items() if value is not None
    }
    return manifest


def premium(catalog: Catalog) -> catalog.Campaign:
    return next(campaign for campaign in catalog.campaigns if campaign.label == "Premium campaign")


def test_a_campaign_has_owner_and_description_of_its_exposure() -> None:
    described = premium(load_catalog())
    assert (described.name, described.owner, described.limit) == ("premium", "premium-marketing", 5000)
    assert described.description == "High-value travelers, highest lifetime value first"
    assert described.order_by == "lifetime_value desc nulls last, customer_id"


def test_dashboards_are_no_campaigns() -> None:
    assert set(names(load_catalog().campaigns)) >= {"onboarding", "premium", "retention"}
    assert not any("dashboard" in name for name in names(load_catalog().campaigns))


@pytest.mark.parametrize(
    ("eligibility", "conditions"),
    [
        ("eligible_for_premium_campaign", ("eligible_for_premium_campaign = true",)),
        (
            "eligible_for_premium_campaign and lifetime_value >= 50000",
            ("eligible_for_premium_campaign = true", "lifetime_value >= 50000"),
        ),
        (
            ["state in ('NY', 'NJ')", "card_type = 'Premium'", "last_transaction_date is not null"],
            ("state in ('NY', 'NJ')", "card_type = 'Premium'", "last_transaction_date is not null"),
        ),
        (
            "city = 'Salt and Pepper' and first_transaction_date < date '2026-01-31'",
            ("city = 'Salt and Pepper'", "first_transaction_date < date '2026-01-31'"),
        ),
    ],
)
def test_eligibility_is_a_boolean_column_or_a_comparison(
    manifest: dict[str, Any], tmp_path: Path, eligibility: object, conditions: tuple[str, ...]
) -> None:
    assert premium(read(campaign(manifest, eligibility=eligibility), tmp_path)).conditions == conditions


def test_a_template_of_its_own_is_used_where_there_is_one(
    manifest: dict[str, Any], templates: Path, tmp_path: Path
) -> None:
    assert premium(load_catalog()).template == "exports/_eligible.sql"
    (templates / "exports" / "premium.sql").write_text("select 1")
    described = premium(read(campaign(manifest, eligibility=None), tmp_path, templates))
    assert (described.template, described.conditions) == ("exports/premium.sql", ())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"limit": 0}, "limit is 0: Input should be greater than or equal to 1"),
        ({"limit": "5000"}, "limit is '5000': Input should be a valid integer"),
        ({"limit": True}, "limit is True: Input should be a valid integer"),
        ({"limit": None}, "limit is not given"),
        ({"order": "lifetime_value"}, "order is 'lifetime_value'"),
        ({"order": "lifetime_value desc; drop table x"}, "order is 'lifetime_value desc; drop table x'"),
        ({"order": "worth desc"}, "order is 'worth desc': customer_360_profile has no such column"),
        ({"name": "Premium 2"}, "name is 'Premium 2'"),
        (
            {"holdout": 0.1},
            "holdout is 0.1, but there is no such key: the keys here are name, eligibility, order, limit, columns",
        ),
        ({"columns": ["customer_id", "shoe_size"]}, "columns is 'shoe_size': customer_360_profile has no such column"),
        (
            {"columns": ["customer_id", "deceased_date"]},
            "columns is 'deceased_date': no audience may hold it. Those that it may are customer_id, ",
        ),
        ({"priority": 0}, "priority is 0: Input should be greater than or equal to 1"),
        ({"holdout_share": 0.6}, "holdout_share is 0.6: Input should be less than or equal to 0.5"),
        ({"holdout_salt": "a'b"}, 'holdout_salt is "a\'b"'),
        ({"cap_days": -1}, "cap_days is -1: Input should be greater than or equal to 0"),
        ({"cap_days": "7"}, "cap_days is '7': Input should be a valid integer"),
        ({"purpose": "post"}, "purpose is 'post': Input should be 'email' or 'ads'"),
        ({"approval": {"size_pct": -1}}, "approval.size_pct is -1: Input should be greater than or equal to 0"),
        ({"approval": {"size": 1}}, "approval.size is 1, but there is no such key"),
        ({"destinations": []}, "destinations is []: Tuple should have at least 1 item"),
        ({"destinations": [{"name": "Ads"}]}, "destinations.0.name is 'Ads'"),
        (
            {"destinations": [{"place": "exports/ads"}]},
            "destinations.0.place is 'exports/ads': hangs on the folder that a task happens to run in",
        ),
        (
            {"destinations": [{"format": "google_customer_match"}]},
            "has format google_customer_match and the name of plain files: give it a name of its own",
        ),
        ({"destinations": [{"format": "xlsx"}]}, "destinations.0.format is 'xlsx': Input should be 'csv', "),
        ({"destinations": [{"lifetime_days": 0}]}, "destinations.0.lifetime_days is 0: Input should be greater"),
        (
            {"destinations": [{"name": "ads"}, {"name": "ads"}]},
            "ads is there twice: give each destination a name of its own",
        ),
        ({"columns": ["email"]}, "columns is ['email']: customer_id is missing"),
        ({"eligibility": None}, "eligibility is not given: say who is eligible, or write"),
        ({"eligibility": "shoe_size > 40"}, "eligibility is 'shoe_size > 40': customer_360_profile has no column"),
        ({"eligibility": "lifetime_value"}, "eligibility is 'lifetime_value': the column is decimal(18, 2), so"),
        ({"eligibility": "1 = 1; drop table x"}, "'1 = 1; drop table x' is no condition"),
        ({"eligibility": "lifetime_value > 1 or true"}, "'lifetime_value > 1 or true' is no condition"),
    ],
)
def test_a_campaign_that_cannot_be_used_is_named_with_file_key_and_value(
    manifest: dict[str, Any], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CatalogError) as refused:
        read(campaign(manifest, **changes), tmp_path)
    assert f"{EXPOSURE_FILE}: campaign premium_campaign, config.meta.campaign." in str(refused.value)
    assert message in str(refused.value)


RECENCY = "'Active (30 days)', 'Recent (60 days)', 'At Risk (90 days)', 'Inactive (90+ days)'"


@pytest.mark.parametrize(
    ("eligibility", "remark"),
    [
        (
            "recency_status = 'Inactive'",
            f"recency_status is never 'Inactive'; its accepted values are {RECENCY}; the nearest is "
            "'Inactive (90+ days)'. A new one belongs into accepted_values of recency_status in "
            "customer_360_profile.yml.",
        ),
        (
            "recency_status <> 'active (30 days)'",
            f"recency_status is never 'active (30 days)'; its accepted values are {RECENCY}; the nearest is "
            "'Active (30 days)'.",
        ),
        (
            "customer_segment in ('Declining', 'New and Growing')",
            "customer_segment is never 'New and Growing'; its accepted values are 'High-Value Travelers', 'Declining', "
            "'New & Growing', 'Budget-Conscious', 'Stable Mid-Spenders'; the nearest is 'New & Growing'.",
        ),
        ("spending_profile = 'Travel Focused'", "the nearest is 'Travel-Focused'."),
        ("spending_consistency = 'Varying'", "the nearest is 'Variable'."),
        ("card_type = 'premium'", "the nearest is 'Premium'."),
        ("employment_status = 'Self employed'", "the nearest is 'Self-Employed'."),
        ("churn_risk_category = 'Very high'", "the nearest is 'Very High'."),
        ("state = 5", "5 is of another type than state, which is varchar: give a text such as 'NY'."),
        ("state in ('NY', true)", "true is of another type than state, which is varchar: give a text such as 'NY'."),
        (
            "lifetime_value >= '50000'",
            "'50000' is of another type than lifetime_value, which is decimal(18, 2): give a number such as 50000.",
        ),
        ("tenure_months = date '2026-03-31'", "is of another type than tenure_months, which is integer: give a number"),
        (
            "marketing_opt_in = 'true'",
            "'true' is of another type than marketing_opt_in, which is boolean: give true or false.",
        ),
        ("marketing_opt_in = 1", "1 is of another type than marketing_opt_in, which is boolean: give true or false."),
        (
            "first_transaction_date < '2026-01-31'",
            "'2026-01-31' is of another type than first_transaction_date, which is date: give a day such as "
            "date '2026-03-31'.",
        ),
        ("first_transaction_date > 20260131", "20260131 is of another type than first_transaction_date, which is date"),
        ("first_transaction_date = date '2026-02-30'", "date '2026-02-30' is no day of the calendar."),
    ],
)
def test_a_literal_that_no_customer_can_have_is_refused(
    manifest: dict[str, Any], tmp_path: Path, eligibility: str, remark: str
) -> None:
    with pytest.raises(CatalogError) as refused:
        read(campaign(manifest, eligibility=eligibility), tmp_path)
    (line,) = str(refused.value).splitlines()
    assert line.startswith(
        f"{EXPOSURE_FILE}: campaign premium_campaign, config.meta.campaign.eligibility is {eligibility!r}: "
    )
    assert remark in line


@pytest.mark.parametrize(
    "eligibility",
    [
        "recency_status in ('Inactive (90+ days)', 'At Risk (90 days)')",
        "recency_status < 'B'",
        "customer_segment is null",
        "city = 'Anywhere'",
        "lifetime_value > -12.50",
        "marketing_opt_in = false",
        "first_transaction_date >= date '2024-02-29'",
    ],
)
def test_a_literal_that_a_customer_can_have_is_taken(
    manifest: dict[str, Any], tmp_path: Path, eligibility: str
) -> None:
    assert premium(read(campaign(manifest, eligibility=eligibility), tmp_path)).conditions == (eligibility,)


def test_every_label_of_the_profile_has_its_accepted_values(manifest: dict[str, Any]) -> None:
    tests = [
        node for node in manifest["nodes"].values() if node.get("test_metadata", {}).get("name") == "accepted_values"
    ]
    of_profile = {
        node["column_name"]: node["config"]["severity"].lower()
        for node in tests
        if node["attached_node"] == "model.customer_analytics.customer_360_profile"
    }
    # What comes from the sources may hold more than is known here.
    assert of_profile == {
        "card_type": "warn",
        "employment_status": "warn",
        "customer_segment": "error",
        "spending_consistency": "error",
        "recency_status": "error",
        "spending_profile": "error",
        "churn_risk_category": "error",
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("campain", {"name": "premium"}),
        ("Campaign", {"name": "premium"}),
        ("campaigns", []),
        ("audience", {"name": "premium", "order": "lifetime_value desc", "limit": 5}),
    ],
)
def test_a_misspelt_campaign_is_named(manifest: dict[str, Any], tmp_path: Path, key: str, value: object) -> None:
    manifest["exposures"][PREMIUM]["config"]["meta"] = {key: value}
    with pytest.raises(CatalogError) as refused:
        read(manifest, tmp_path)
    assert str(refused.value) == (
        f"{EXPOSURE_FILE}: exposure premium_campaign, config.meta.{key} is given, but a campaign stands under "
        "config.meta.campaign: correct the key."
    )


def test_other_meta_of_an_exposure_is_nobodys_campaign(manifest: dict[str, Any], tmp_path: Path) -> None:
    manifest["exposures"][PREMIUM]["config"]["meta"] |= {"channel": "e-mail", "slack": {"limit": 5}}
    assert premium(read(manifest, tmp_path)).limit == 5000


def test_two_campaigns_of_one_name_are_refused(manifest: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"name is 'retention': campaign premium_campaign has it"):
        read(campaign(manifest, name="retention"), tmp_path)


def test_a_campaign_without_an_owner_is_named(manifest: dict[str, Any], tmp_path: Path) -> None:
    manifest["exposures"][PREMIUM]["owner"] = {"email": "premium@example.com", "name": None}
    with pytest.raises(CatalogError, match=r"campaign premium_campaign, owner\.name is '': name the team"):
        read(manifest, tmp_path)


def test_every_entry_that_cannot_be_used_is_named_at_once(manifest: dict[str, Any], tmp_path: Path) -> None:
    manifest["nodes"][LTV]["config"]["meta"] = {}
    with pytest.raises(CatalogError) as refused:
        read(manifest, tmp_path)
    assert len(str(refused.value).splitlines()) == 2


def test_a_campaign_that_cannot_be_used_does_not_cost_the_night(manifest: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps(campaign(manifest, limit=0)))
    broken = load_catalog(file)
    assert broken.published == load_catalog().published
    with pytest.raises(CatalogError, match="limit is 0"):
        _ = broken.campaigns


def test_a_missing_manifest_says_how_to_write_it(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="dbt parse"):
        load_catalog(tmp_path / "manifest.json")


def import_errors(manifest: dict[str, Any], folder: Path, patch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the import errors that the Dags have with this manifest, by file name."""
    file = folder / "manifest.json"
    file.write_text(json.dumps(manifest))
    patch.setattr(load_catalog, "__defaults__", (file, SQL_TEMPLATES))
    return {Path(path).name: error for path, error in DagBag(PROJECT_ROOT / "dags").import_errors.items()}


def test_a_campaign_that_cannot_be_used_is_an_import_error_of_the_exports(
    manifest: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = import_errors(campaign(manifest, limit=0), tmp_path, monkeypatch)
    assert errors.keys() == {"campaign_exports.py"}
    refused = f"{EXPOSURE_FILE}: campaign premium_campaign, config.meta.campaign.limit is 0"
    assert refused in errors["campaign_exports.py"]


def test_a_mart_that_cannot_be_used_is_an_import_error_of_the_refresh(
    manifest: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest["nodes"][LTV]["config"]["meta"] = {"validated": "yes", "published": True}
    errors = import_errors(manifest, tmp_path, monkeypatch)
    assert errors.keys() == {"customer_360_refresh.py"}
    refused = f"{LTV_FILE}: mart metric_customer_ltv, config.meta.validated is 'yes'"
    assert refused in errors["customer_360_refresh.py"]


def test_reading_it_opens_no_warehouse_and_imports_neither_dbt_nor_a_provider() -> None:
    code = (
        "import sys; from include.customer_360.catalog import load_catalog; read = load_catalog(); "
        "assert read.models and read.campaigns; "
        "assert not {'airflow', 'cosmos', 'dbt', 'duckdb'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT_ROOT)
