"""A person's dbt on Snowflake: it builds in schemas of that person, reads production, and cannot overwrite it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from include.customer_360.settings import DBT_PROJECT
from tests.snowflake.account import EmulatedAccount, SnowflakeAccount
from tests.snowflake.conftest import CUSTOMERS, run_dbt

WRITES = re.compile(
    r"(?:create (?:or replace )?(?:transient |temporary )?(?:table|view|schema)|insert into|delete from|merge into|"
    r"truncate table|drop (?:table|view|schema)|alter table)(?: if (?:not )?exists)? (\S+)"
)


def plain(sql: str) -> str:
    return " ".join(re.sub(r"/\*.*?\*/", " ", sql, flags=re.DOTALL).split()).lower()


def written(statements: list[str]) -> set[str]:
    """Return the schemas, with their databases, that the statements write to."""
    names = [match[1].replace('"', "") for sql in statements if (match := WRITES.match(plain(sql)))]
    return {".".join(name.split(".")[:2]) for name in names}


@pytest.fixture(scope="module")
def environment(account: SnowflakeAccount) -> dict[str, str]:
    """What a person has in the environment: account, user, database. Role and warehouse follow from the database."""
    if not isinstance(account, EmulatedAccount):
        return account.dbt_environment
    of_person = {
        name: value
        for name, value in account.dbt_environment.items()
        if name not in ("SNOWFLAKE_ROLE", "SNOWFLAKE_WAREHOUSE")
    }
    return of_person | {"SNOWFLAKE_USER": "Ada.Lovelace@example.com"}


@pytest.fixture(scope="module")
def dev(account: SnowflakeAccount) -> str:
    """What that person's schemas begin with."""
    if isinstance(account, EmulatedAccount):
        return "dev_ada_lovelace_example_com"
    return "dev_" + re.sub(r"\W", "_", account.parameters["user"].lower())


@pytest.fixture(scope="module")
def deferring(
    environment: dict[str, str], first_build: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The same with production's manifest, as docs/snowflake.md has it made; production is built."""
    state = tmp_path_factory.mktemp("production")
    parsed = run_dbt(environment, state, "parse", "--target=snowflake")
    assert parsed.returncode == 0, parsed.stdout
    return environment | {"DBT_DEFER": "true", "DBT_STATE": str(state)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dev")


def refusal(environment: dict[str, str], folder: Path, *arguments: str, project: Path = DBT_PROJECT) -> str:
    done = run_dbt(environment, folder, *arguments, project=project)
    assert done.returncode == 1, done.stdout[-3000:]
    return " ".join(done.stdout.split())


def test_marts_of_another_date_are_not_mixed_in(
    account: SnowflakeAccount, deferring: dict[str, str], folder: Path
) -> None:
    """Production's intermediate tables are of the date that was published, and not the developer's to read."""
    if not isinstance(account, EmulatedAccount):
        pytest.skip("needs a person who has built nothing yet")
    of_another = deferring | {"SNOWFLAKE_USER": "grace"}
    said = refusal(of_another, folder, "run", "--select", "int_customers")
    assert (
        "int_customers reads int_customer_transactions, which is not in by_hand.dev_grace_intermediate: "
        "target dev reads raw and core of production, and builds all else itself, for one as_of_date. Select it too: "
        "--select int_customer_transactions int_customers"
    ) in said.replace(of_another["SNOWFLAKE_DATABASE"], "by_hand")


@pytest.fixture(scope="module")
def built(account: SnowflakeAccount, deferring: dict[str, str], folder: Path) -> list[str]:
    """What dbt sends when a person builds intermediate and marts, and then the marts once more."""
    before = len(account.statements())
    for selected in (["intermediate", "marts"], ["marts"]):
        done = run_dbt(deferring, folder, "run", "--select", *selected)
        assert done.returncode == 0, done.stdout[-6000:]
    return [sql for sql in account.statements()[before:] if '"app": "dbt"' in sql]


def test_a_person_writes_to_schemas_of_that_person_only(account: SnowflakeAccount, dev: str, built: list[str]) -> None:
    assert written(built) == {f"{account.by_hand}.{dev}_{schema}" for schema in ("intermediate", "marts")}


def test_a_person_reads_core_of_production(account: SnowflakeAccount, dev: str, built: list[str]) -> None:
    fact = [plain(sql) for sql in built if f"{account.by_hand}.core.fct_transactions" in plain(sql)]
    assert sorted(match[1] for sql in fact if (match := WRITES.match(sql))) == [
        f"{account.by_hand}.{dev}_intermediate.int_customer_medians",
        f"{account.by_hand}.{dev}_intermediate.int_customer_transactions",
        # The marts are built twice.
        *[f"{account.by_hand}.{dev}_marts.campaign_results"] * 2,
        *[f"{account.by_hand}.{dev}_marts.customer_category_spend"] * 2,
    ]
    counted = f"select count(*) from {dev}_marts.customer_360_profile"
    assert account.query(counted, account.by_hand) == [(CUSTOMERS,)]


def test_a_person_sets_no_masking_policy(built: list[str]) -> None:
    assert [sql for sql in built if "masking policy" in sql] == []


def test_a_person_is_told_where_production_is_to_be_found(environment: dict[str, str], folder: Path) -> None:
    said = refusal(environment, folder, "run", "--select", "int_customer_transactions")
    assert (
        f"int_customer_transactions reads fct_transactions, which is not in {environment['SNOWFLAKE_DATABASE']}" in said
    )
    assert "dbt does not know production's. Give it production's manifest: docs/snowflake.md" in said


def test_a_run_schema_set_by_hand_changes_nothing_about_that(
    environment: dict[str, str], dev: str, tmp_path: Path
) -> None:
    parsed = run_dbt(environment | {"RUN_SCHEMA": "marts"}, tmp_path, "parse")
    assert parsed.returncode == 0, parsed.stdout
    nodes = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))["nodes"].values()
    schemas = {node["schema"] for node in nodes if node["resource_type"] in ("model", "seed", "snapshot")}
    assert schemas == {f"{dev}_{schema}" for schema in ("staging", "core", "ops", "marts")}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the dbt project, to change."""
    return Path(shutil.copytree(DBT_PROJECT, tmp_path / "dbt", ignore=shutil.ignore_patterns("target", "logs")))


@pytest.mark.parametrize(
    ("file", "before", "after", "where"),
    [
        ("macros/generate_schema_name.sql", "target.name == 'dev'", "false", "{database}.core"),
        (
            "models/core/dim_date.sql",
            "with ",
            "{{{{ config(database='{other}') }}}}\nwith ",
            "{other}.{dev}_core",
        ),
    ],
    ids=["schema", "database"],
)
def test_what_would_land_in_production_is_refused_by_name(
    account: SnowflakeAccount,
    dev: str,
    deferring: dict[str, str],
    project: Path,
    tmp_path: Path,
    file: str,
    before: str,
    after: str,
    where: str,
) -> None:
    text = (project / file).read_text(encoding="utf-8")
    assert before in text
    (project / file).write_text(text.replace(before, after.format(other=account.database), 1), encoding="utf-8")
    landing = where.format(database=account.by_hand, other=account.database, dev=dev)
    sent = len(account.statements())
    said = refusal(deferring, tmp_path / "target", "run", "--select", "dim_date", project=project)
    assert f"dim_date would be built in {landing}: target dev builds in" in said
    assert not [sql for sql in account.statements()[sent:] if "dim_date" in plain(sql) and WRITES.match(plain(sql))]


@pytest.mark.parametrize("run_schema", ["", "marts"])
def test_the_dags_target_is_refused_to_a_person_by_name(
    account: SnowflakeAccount, deferring: dict[str, str], folder: Path, run_schema: str
) -> None:
    sent = len(account.statements())
    said = refusal(
        {**deferring, "DBT_DEFER": "false", "RUN_SCHEMA": run_schema},
        folder,
        *("build", "--target=snowflake", "--exclude-resource-type", "unit_test"),
    )
    for node, schema in (("customers_snapshot", "core"), ("merchant_categories", "core"), ("stg_customers", "staging")):
        assert (
            f"{node} would be built in {account.by_hand}.{schema}: target snowflake is the Dag's, which builds in a "
            f"schema of each run (RUN_SCHEMA=marts_run_..., here '{run_schema}'), validates and publishes. "
            "Use target dev"
        ) in said
    # dbt makes the schemas that are missing before it comes to a node; nothing is put into them.
    changes = {WRITES.match(plain(sql)) for sql in account.statements()[sent:]} - {None}
    assert [change[0] for change in changes if not change[0].startswith("create schema if not exists")] == []
