"""The sources that a real account is given are those of the DuckDB file."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from local.sample import write_sample
from tests.snowflake.account import SOURCES, SnowflakeAccount, load_sources
from tests.snowflake.conftest import LAST_DAY


@pytest.mark.parametrize("table", SOURCES)
def test_the_loaded_sources_have_the_rows_and_types_of_the_file(
    account: SnowflakeAccount, loaded: str, few_sources: Path, table: str
) -> None:
    with duckdb.connect(str(few_sources), read_only=True) as file:
        expected = file.execute(f"select * from raw.{table} order by all").fetchall()
    columns = ", ".join(str(number) for number in range(1, len(expected[0]) + 1))
    assert account.query(f"select * from raw.{table} order by {columns}", loaded) == expected


@pytest.fixture(scope="module")
def few_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("few") / "sources.duckdb"
    write_sample(file, customers=10, months=2, seed=42, as_of_date=LAST_DAY)
    return file


@pytest.fixture(scope="module")
def loaded(account: SnowflakeAccount, few_sources: Path) -> str:
    """A database of its own with the sources; its name."""
    database = account.loaded
    with closing(account.connect()) as connection:
        connection.cursor().execute(f"create database {database}")
        with closing(account.connect(database)) as of_database:
            load_sources(of_database, few_sources)
    return database
