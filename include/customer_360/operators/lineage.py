"""What a publication tells OpenLineage, where that is configured: what it reads, what it writes, and its checks.

Datasets are named by the warehouse (the DuckDB file, or the Snowflake account) and, within it, schema and table, as
https://openlineage.io/docs/spec/naming has it. The checks are assertions on the datasets that they are about. Nothing
of a row is told, but for what a check observed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from include.customer_360.alerts import without_values
from include.customer_360.connection import warehouse_connection
from include.customer_360.settings import load_settings

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors.base import OperatorLineage

    from include.customer_360.catalog import Mart

SOURCES = ("raw.customers", "raw.transactions")
CHECKED_AS = {"sources": "raw.transactions"}
"""The dataset that checks are about which are kept under another name than a mart's."""
CHECKS = "select mart, check_name, severity, observed, expected, passed from ops.validation_results where dag_run_id = "
"""The SQL for the checks of one run, but for its placeholder."""

Check = tuple[str, str, str, str, str, bool]


def is_told() -> bool:
    """Return whether OpenLineage is configured."""
    from airflow.providers.openlineage.conf import is_disabled

    return not is_disabled()


def checks_of(cursor: Any, placeholder: str, dag_run_id: str) -> list[Check]:  # noqa: ANN401 - DB-API
    """Return mart, check_name, severity, observed, expected and passed of each check of a run."""
    cursor.execute(f"{CHECKS}{placeholder} order by mart, check_name", (dag_run_id,))
    return [tuple(row) for row in cursor.fetchall()]


def lineage_of(published: Sequence[Mart], checks: Sequence[Check]) -> OperatorLineage[Any, Any]:
    """Return the datasets of a publication: the sources and the marts that were checked, and the marts it wrote."""
    from airflow.providers.openlineage.extractors.base import OperatorLineage
    from openlineage.client.event_v2 import InputDataset, OutputDataset
    from openlineage.client.facet_v2 import data_quality_assertions_dataset

    by_dataset: dict[str, list[Check]] = {source: [] for source in SOURCES}
    marts = [f"{mart.table_schema}.{mart.name}" for mart in published]
    names = {mart.name: name for mart, name in zip(published, marts, strict=True)} | CHECKED_AS
    for check in checks:
        by_dataset.setdefault(names.get(check[0], f"marts.{check[0]}"), []).append(check)

    def assertions(of_dataset: Sequence[Check]) -> Mapping[str, Any]:
        if not of_dataset:
            return {}
        return {
            "dataQualityAssertions": data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
                assertions=[
                    data_quality_assertions_dataset.Assertion(
                        assertion=name,
                        success=bool(passed),
                        severity="warn" if severity == "warn" else "error",
                        expected=expected,
                        actual=without_values(observed),
                    )
                    for _, name, severity, observed, expected, passed in of_dataset
                ]
            )
        }

    namespace, whole = _names()
    inputs = [
        InputDataset(namespace=namespace, name=whole(name), inputFacets=dict(assertions(of_dataset)))
        for name, of_dataset in by_dataset.items()
    ]
    outputs = [OutputDataset(namespace=namespace, name=whole(name)) for name in marts]
    return OperatorLineage(inputs=inputs, outputs=outputs)


def _names() -> tuple[str, Callable[[str], str]]:
    """Return the warehouse's namespace, and what gives a table its whole name there."""
    settings = load_settings()
    if settings.warehouse == "duckdb":
        return f"duckdb://{settings.warehouse_file}", str
    from airflow.providers.snowflake.utils.openlineage import fix_account_name

    extra = warehouse_connection().extra_dejson
    database = str(extra["database"]).upper()
    return f"snowflake://{fix_account_name(extra['account'])}", lambda name: f"{database}.{name.upper()}"
