"""The nightly job on Snowflake's own clients: the same Dags and sources as on DuckDB, with another WAREHOUSE."""

from __future__ import annotations

import json
import re
import shutil
from decimal import Decimal
from pathlib import Path

import pytest

from include.customer_360.catalog import load_catalog
from include.customer_360.settings import Settings
from tests.deployment import Deployment, deployed
from tests.end_to_end.backfills import create_by_form, runs_of
from tests.snowflake.account import EmulatedAccount
from tests.snowflake.conftest import CUSTOMERS, SnowflakeDeployment

AS_OF_DATE = "2026-03-30"
CATALOG = load_catalog()
MARTS = tuple(mart.name for mart in CATALOG.marts)
CAMPAIGNS = tuple(campaign.name for campaign in CATALOG.campaigns)


@pytest.fixture(scope="module")
def green(on_snowflake: SnowflakeDeployment) -> str:
    """A first run, which is expected to succeed; its id."""
    run_id, state = on_snowflake.run(as_of_date=AS_OF_DATE)
    assert state == "success", on_snowflake.failures(run_id)
    on_snowflake.wait_for_export(1)
    return run_id


@pytest.fixture(scope="module")
def on_duckdb(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """The same on DuckDB, on the same sources, as an Airflow that has ended left it: only the warehouse differs."""
    folder = tmp_path_factory.mktemp("duckdb")
    shutil.copyfile(sources, folder / "warehouse.duckdb")
    settings = Settings(warehouse_file=folder / "warehouse.duckdb", export_root=str(folder / "exports"), _env_file=None)
    with deployed(settings) as deployment:
        run_id, state = deployment.run(as_of_date=AS_OF_DATE)
        assert state == "success", deployment.failures(run_id)
        deployment.wait_for_export(1)
    return deployment


@pytest.mark.parametrize("mart", [*MARTS, "customer_360_history"])
def test_both_warehouses_hold_the_same_rows(
    on_duckdb: Deployment, on_snowflake: SnowflakeDeployment, green: str, mart: str
) -> None:
    described = on_duckdb.query(f"describe marts.{mart}")
    columns = [name for name, *_ in described]
    keys = [name for name in ("customer_id", "month", "campaign", "wave_date", "horizon_days") if name in columns]
    rows = f"select {', '.join(columns)} from marts.{mart} order by {', '.join(keys)}"
    published = on_snowflake.query(rows)
    # No wave is old enough for a result.
    assert len(published) >= CUSTOMERS or mart == "campaign_results"
    exact = isinstance(on_snowflake.account, EmulatedAccount)
    assert unlike(published, on_duckdb.query(rows), columns, Decimal(0) if exact else LAST_STORED_DIGIT) == []


LAST_STORED_DIGIT = Decimal("0.0001")
"""Of a decimal(18,4). The emulator computes as DuckDB does; an account's doubles may round it to the other side."""


def unlike(rows: list[tuple], others: list[tuple], columns: list[str], tolerance: Decimal) -> list[tuple]:
    """Return (key, column, value, other) wherever rows differ: exactly, and numbers with decimals by more than this."""
    assert len(rows) == len(others)
    return [
        (row[:2], column, value, other)
        for row, other_row in zip(rows, others, strict=True)
        for column, value, other in zip(columns, row, other_row, strict=True)
        if (
            abs(value - other) > tolerance
            if isinstance(value, Decimal) and isinstance(other, Decimal)
            else value != other
        )
    ]


@pytest.mark.parametrize(
    ("other", "tolerance", "differ"),
    [
        (Decimal("1.2345"), "0", False),
        (Decimal("1.2346"), "0", True),
        (Decimal("1.2346"), "0.0001", False),
        (Decimal("1.2347"), "0.0001", True),
        (None, "0.0001", True),
    ],
)
def test_only_the_last_stored_digit_may_differ_and_only_on_a_real_account(
    other: Decimal | None, tolerance: str, differ: bool
) -> None:
    found = unlike([("C1", Decimal("1.2345"))], [("C1", other)], ["customer_id", "spend"], Decimal(tolerance))
    assert bool(found) == differ


def test_both_warehouses_give_the_same_audiences(
    on_duckdb: Deployment, on_snowflake: SnowflakeDeployment, green: str
) -> None:
    audiences = on_snowflake.audiences()
    assert set(audiences) == {f"{campaign}/as_of_date={AS_OF_DATE}/audience.csv" for campaign in CAMPAIGNS}
    assert max(len(audience.splitlines()) for audience in audiences.values()) > 1
    assert audiences == on_duckdb.audiences()


def test_the_run_keeps_its_checks_and_leaves_no_schema(on_snowflake: SnowflakeDeployment, green: str) -> None:
    kept = f"from ops.validation_results where dag_run_id = '{green}'"
    assert on_snowflake.query(f"select count(*) {kept} and severity = 'error' and not passed") == [(0,)]
    assert on_snowflake.query(f"select count(distinct mart) {kept}") == [(len(MARTS) + 1,)]
    assert run_schemas(on_snowflake) == []


def run_schemas(deployment: SnowflakeDeployment) -> list[tuple]:
    return deployment.query(
        "select schema_name from information_schema.schemata where lower(schema_name) like 'marts_run_%' order by 1"
    )


def test_marts_are_published_as_clones_that_keep_their_grants(on_snowflake: SnowflakeDeployment, green: str) -> None:
    sent = [" ".join(sql.split()).lower() for sql in on_snowflake.account.statements()]
    for mart in MARTS:
        clone = re.compile(rf"create or replace transient table marts\.{mart} clone marts_run_\w+\.{mart} copy grants")
        assert [sql for sql in sent if clone.match(sql)]


def test_every_statement_of_a_run_is_tagged(on_snowflake: SnowflakeDeployment, green: str) -> None:
    of_run = [tag for tag, _ in on_snowflake.account.tagged_statements() if tag.get("run") == green]
    assert {tag["task"] for tag in of_run} == {
        "validate_sources",
        "dbt_build.dbt_producer_watcher",
        *(f"validate_marts.validate_{mart}" for mart in MARTS),
        "keep_validation_results",
        "write_history",
        "publish",
        "drop_run_schemas",
        "log_night",
    }
    assert {(tag["dag"], tag["as_of_date"]) for tag in of_run} == {("customer_360_refresh", AS_OF_DATE)}
    assert {tag["node"] for tag in of_run if "node" in tag} >= {*MARTS, "fct_transactions", "customers_snapshot"}


def test_every_statement_of_an_export_is_tagged(on_snowflake: SnowflakeDeployment, green: str) -> None:
    of_exports = [tag for tag, _ in on_snowflake.account.tagged_statements() if tag.get("dag") == "campaign_exports"]
    assert {tag["task"] for tag in of_exports} == {
        *("decide_audiences", "validate_audiences", "log_exports"),
        *(f"export_{campaign}" for campaign in CAMPAIGNS),
    }
    assert {tag["as_of_date"] for tag in of_exports} == {AS_OF_DATE}


def test_the_private_key_is_neither_rendered_nor_logged(on_snowflake: SnowflakeDeployment, green: str) -> None:
    key = on_snowflake.account.private_key_file.read_text().splitlines()[1]
    logs = Path(on_snowflake.airflow.home / "logs").rglob("*.log")
    assert not [log for log in logs if key in log.read_text(errors="replace")]
    rendered = on_snowflake.client.get(
        f"dags/customer_360_refresh/dagRuns/{green}/taskInstances/dbt_build.dbt_producer_watcher"
    ).json()["rendered_fields"]
    assert "SNOWFLAKE_ACCOUNT" not in json.dumps(rendered)


def test_a_failed_validation_publishes_nothing_and_says_why(on_snowflake: SnowflakeDeployment, green: str) -> None:
    published = on_snowflake.query("select * from marts.customer_360_profile order by customer_id")
    # Ten times the rows were published a day before: this run's look lost.
    on_snowflake.query(
        "insert into ops.publications (dag_run_id, as_of_date, mart, row_count, lifetime_value, published_at) "
        f"select 'planted', cast('{AS_OF_DATE}' as date), 'customer_360_profile', {10 * CUSTOMERS}, "
        "sum(lifetime_value), cast('2099-01-01' as timestamp) from marts.customer_360_profile"
    )
    run_id, state = on_snowflake.run(as_of_date="2026-03-31")
    on_snowflake.query("delete from ops.publications where dag_run_id = 'planted'")
    assert state == "failed"
    assert on_snowflake.tasks(run_id)["publish"] == "upstream_failed"
    log = on_snowflake.log(run_id, "validate_marts.validate_customer_360_profile")
    assert "profile_row_count_near_published" in log
    assert on_snowflake.attempts(run_id) == []
    assert on_snowflake.query("select * from marts.customer_360_profile order by customer_id") == published
    assert len(on_snowflake.exports()) == 1


def test_a_backfill_and_a_second_run_of_its_date_go_on_side_by_side(
    on_snowflake: SnowflakeDeployment, green: str
) -> None:
    create_by_form(on_snowflake, ["2026-03-10"])
    beside = on_snowflake.start(as_of_date="2026-03-10")
    for run_id in (runs_of(on_snowflake, ["2026-03-10"])["2026-03-10"]["dag_run_id"], beside):
        assert on_snowflake.state(run_id) == "success", on_snowflake.failures(run_id)
    history = on_snowflake.query(
        "select cast(as_of_date as varchar), count(*), count(distinct customer_id) from marts.customer_360_history "
        "group by 1 order by 1"
    )
    assert [as_of_date for as_of_date, _, _ in history] == ["2026-03-10", AS_OF_DATE]
    assert all(rows == customers for _, rows, customers in history)
    # The second run found what the first had written.
    assert on_snowflake.query("select count(*) from ops.restatements") == [(0,)]
    assert on_snowflake.query("select count(*) from ops.publishing") == [(0,)]
    # That of the run that failed is kept.
    assert {name[:18] for (name,) in run_schemas(on_snowflake)} <= {"marts_run_20260331", "MARTS_RUN_20260331"}
    assert on_snowflake.query("select distinct cast(as_of_date as varchar) from marts.customer_360_profile") == [
        (AS_OF_DATE,)
    ]
    assert [run["partition_key"] for run in on_snowflake.exports()] == [AS_OF_DATE]


def test_a_lost_connection_is_outlived_and_a_lost_session_ends_in_a_second_run_that_publishes(
    on_snowflake: SnowflakeDeployment, green: str
) -> None:
    account = on_snowflake.account
    if not isinstance(account, EmulatedAccount):
        pytest.skip("nobody can take an account's network away")
    exports = len(on_snowflake.exports())
    account.plant(
        # The connector sends it again under the same id, so that it is never done twice.
        {"pattern": r"create or replace .*table .*\bdim_merchant_category\b", "status": 503, "code": None},
        {"pattern": r"create or replace .*table .*\bint_customer_medians\b", "status": 200, "code": "390111"},
    )
    run_id, state = on_snowflake.run(as_of_date="2026-03-31")
    assert state == "failed"
    assert account.planted() == []
    note = on_snowflake.note(run_id)
    assert note.startswith("As of 2026-03-31: nothing published. dbt_build.dbt_producer_watcher failed: ")
    assert "failed: int_customer_medians: 390111 (08001)" in note
    assert "dim_merchant_category" not in note
    second = f"attempt_2__{run_id}"
    assert on_snowflake.attempts(run_id) == [second]
    assert on_snowflake.state(second) == "success", on_snowflake.failures(second)
    assert on_snowflake.wait_for_export(exports + 1)[-1]["partition_key"] == "2026-03-31"
    assert on_snowflake.query("select distinct cast(as_of_date as varchar) from marts.customer_360_profile") == [
        ("2026-03-31",)
    ]
