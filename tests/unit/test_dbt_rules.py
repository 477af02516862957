"""What dbt-bouncer.yml asks of the dbt project: a fault planted in a copy of the manifest is found, by its model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.customer_360.settings import DBT_PROJECT, PROJECT_ROOT

Manifest = dict[str, Any]


def model(manifest: Manifest, name: str) -> dict[str, Any]:
    return manifest["nodes"][f"model.customer_analytics.{name}"]


def undescribed_model(manifest: Manifest) -> None:
    model(manifest, "metric_customer_ltv")["description"] = ""


def undescribed_column(manifest: Manifest) -> None:
    model(manifest, "int_customers")["columns"]["email"]["description"] = ""


def no_owner(manifest: Manifest) -> None:
    model(manifest, "dim_date")["config"]["group"] = None


def no_contract(manifest: Manifest) -> None:
    model(manifest, "customer_segments")["contract"]["enforced"] = False


def mart_reads_staging(manifest: Manifest) -> None:
    model(manifest, "customer_segments")["depends_on"]["nodes"].append("model.customer_analytics.stg_customers")


def mart_reads_source(manifest: Manifest) -> None:
    model(manifest, "customer_segments")["depends_on"]["nodes"].append("source.customer_analytics.raw.customers")


def name_of_another_layer(manifest: Manifest) -> None:
    model(manifest, "metric_customer_ltv")["name"] = "int_customer_ltv"


def key_untested(manifest: Manifest) -> None:
    for unique_id, node in [*manifest["nodes"].items()]:
        if node["resource_type"] == "test" and node.get("attached_node") == "model.customer_analytics.dim_date":
            del manifest["nodes"][unique_id]


def exposure_without_owner(manifest: Manifest) -> None:
    manifest["exposures"]["exposure.customer_analytics.premium_campaign"]["owner"]["name"] = ""


def failures(manifest: Manifest, folder: Path) -> set[tuple[str, str]]:
    """Run dbt-bouncer on this manifest; return the checks that failed, each with the id of what it failed for."""
    (folder / "manifest.json").write_text(json.dumps(manifest))
    config = yaml.safe_load((PROJECT_ROOT / "dbt-bouncer.yml").read_text())
    config["dbt_artifacts_dir"] = str(folder)
    config["custom_checks_dir"] = str(PROJECT_ROOT / config["custom_checks_dir"])
    (folder / "dbt-bouncer.yml").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("dbt-bouncer")), "run"),
            *("--config-file", str(folder / "dbt-bouncer.yml"), "--output-file", str(folder / "results.json")),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (folder / "results.json").is_file(), done.stdout + done.stderr
    failed = {
        (result["check_run_id"].split(":")[0], result["unique_id"].rsplit(".", 1)[-1])
        for result in json.loads((folder / "results.json").read_text())
        if result["outcome"] != "success"
    }
    assert done.returncode == bool(failed)
    return failed


@pytest.mark.parametrize(
    ("plant", "check", "name"),
    [
        (undescribed_model, "check_model_description_populated", "metric_customer_ltv"),
        (undescribed_column, "check_model_column_description_populated", "int_customers"),
        (no_owner, "check_model_has_group", "dim_date"),
        (no_contract, "check_model_has_contracts_enforced", "customer_segments"),
        (mart_reads_staging, "check_lineage_permitted_upstream_models", "customer_segments"),
        (mart_reads_source, "check_lineage_source_cannot_be_used", "customer_segments"),
        (name_of_another_layer, "check_model_names", "metric_customer_ltv"),
        (key_untested, "check_model_has_unique_test", "dim_date"),
        (exposure_without_owner, "check_exposure_has_owner", "premium_campaign"),
    ],
)
def test_a_fault_is_found(plant: Callable[[Manifest], None], check: str, name: str, tmp_path: Path) -> None:
    manifest = json.loads((DBT_PROJECT / "target" / "manifest.json").read_text())
    before = failures(manifest, tmp_path)
    plant(manifest)
    assert (check, name) not in before
    assert (check, name) in failures(manifest, tmp_path)
