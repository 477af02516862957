"""Who is erased is in no table and in none of the file's bytes, and the night after is right without them."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest
from edge_customers import AS_OF_DATE
from independent_marts import Delivery, compute_marts
from mart_rows import assert_same_rows, read_rows, read_table
from warehouse_builds import BUILD, Build, DbtBuilds

from include.customer_360.settings import Settings
from local.erase import EraseError, erase

ERASED = "CUST00000007"
EMAIL = "a.person.of.the.test@example.com"
MARTS = ("metric_customer_ltv", "customer_segments", "metric_mom_spend_change", "customer_360_profile")


def tables_with_column(connection: duckdb.DuckDBPyConnection, column: str) -> list[str]:
    tables = connection.execute(
        "select 'warehouse.' || schema_name || '.' || table_name from duckdb_columns() "
        "inner join duckdb_tables() using (database_name, schema_name, table_name) "
        "where database_name = 'warehouse' and column_name = ? order by 1",
        [column],
    ).fetchall()
    return [table for (table,) in tables]


def tables_with(file: Path, customer_id: str) -> set[str]:
    with duckdb.connect() as connection:
        connection.execute(f"attach '{file}' as warehouse (read_only)")
        counted = {
            table: connection.execute(f"select count(*) from {table} where customer_id = ?", [customer_id]).fetchall()
            for table in tables_with_column(connection, "customer_id")
        }
    return {table.removeprefix("warehouse.") for table, count in counted.items() if count != [(0,)]}


def settings_of(file: Path) -> Settings:
    return Settings(warehouse_file=file, export_root=str(file.parent / "exports"), _env_file=None)


@pytest.fixture(scope="module")
def known(built: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The warehouse with an address of the person that is nobody else's, in each table that a build leaves it in."""
    file = tmp_path_factory.mktemp("known") / "warehouse.duckdb"
    shutil.copyfile(built.file, file)
    with duckdb.connect() as connection:
        connection.execute(f"attach '{file}' as warehouse")
        for table in tables_with_column(connection, "email"):
            connection.execute(f"update {table} set email = ? where customer_id = ?", [EMAIL, ERASED])
    return file


@pytest.fixture(scope="module")
def after(dbt_builds: DbtBuilds, known: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The warehouse as the erasure leaves it, and as the next build does, with all data tests."""
    file = tmp_path_factory.mktemp("erased") / "warehouse.duckdb"
    shutil.copyfile(known, file)
    erase(settings_of(file), ERASED)
    dbt_builds.run(file, [BUILD], AS_OF_DATE)
    built_again = file.with_name("built_again.duckdb")
    shutil.copyfile(dbt_builds.warehouse, built_again)
    return file, built_again


def test_the_person_is_in_no_table(known: Path, after: tuple[Path, Path]) -> None:
    assert {"raw.customers", "raw.transactions", "core.fct_transactions", "core.dim_customer"} <= tables_with(
        known, ERASED
    )
    assert [tables_with(file, ERASED) for file in after] == [set(), set()]


def test_nor_in_the_bytes_of_the_file(known: Path, after: tuple[Path, Path]) -> None:
    erased, _ = after
    assert EMAIL.encode() in known.read_bytes()
    for value in (EMAIL, ERASED):
        assert value.encode() not in erased.read_bytes()
    assert sorted(path.name for path in erased.parent.iterdir()) == ["built_again.duckdb", "warehouse.duckdb"]


@pytest.mark.parametrize("mart", MARTS)
def test_the_next_build_equals_an_independent_computation_without_the_person(
    after: tuple[Path, Path], mart: str
) -> None:
    _, built_again = after
    customers, transactions = (read_table(built_again, f"raw.{table}") for table in ("customers", "transactions"))
    expected = compute_marts([Delivery(AS_OF_DATE, customers)], transactions, AS_OF_DATE)
    assert_same_rows(mart, read_rows(built_again, mart), expected[mart])


def test_everybody_else_is_as_before(known: Path, after: tuple[Path, Path]) -> None:
    erased, _ = after
    sql = f"select * from raw.transactions where customer_id <> '{ERASED}' order by all"
    kept = []
    for file in (known, erased):
        with duckdb.connect(str(file), read_only=True) as connection:
            kept.append(connection.execute(sql).fetchall())
    assert kept[0] == kept[1]


def test_a_second_erasure_finds_nothing_and_an_unknown_id_is_refused(after: tuple[Path, Path], tmp_path: Path) -> None:
    file = tmp_path / "warehouse.duckdb"
    shutil.copyfile(after[0], file)
    assert erase(settings_of(file), ERASED).nothing
    with pytest.raises(EraseError, match="No customer 'CUST_NEVER'"):
        erase(settings_of(file), "CUST_NEVER")
