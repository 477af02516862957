"""Random deliveries through dbt-snowflake: each load ends equal to a full refresh. The sequences are DuckDB's."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path

from tests.forked_dbt import FORKS
from tests.integration.random_loads import Loads
from tests.snowflake.account import EmulatedAccount
from tests.snowflake.conftest import RUN_SCHEMA, emulator

# The second takes some of its loads in ranges.
SEEDS = (3, 4)
LOADS = 3


class SnowflakeLoads(Loads):
    """On database by_hand of an emulator of its own."""

    def __init__(self, account: EmulatedAccount, target: Path) -> None:
        self.account = account
        super().__init__(
            account.dbt_environment | {"RUN_SCHEMA": RUN_SCHEMA},
            ["--target=snowflake", f"--target-path={target}", f"--log-path={target}"],
        )

    def query(self, statements: list[str]) -> list[tuple]:
        rows: list[tuple] = []
        with closing(self.account.connect(self.account.by_hand)) as connection, closing(connection.cursor()) as cursor:
            for sql in statements:
                rows = cursor.execute(sql).fetchall()
        return rows


def run_sequences(account: EmulatedAccount, target: Path) -> list[str | None]:
    """Load the sequences one after the other; return for each what differed, None where nothing did."""
    loads = SnowflakeLoads(account, target)
    return [loads.run(seed, LOADS) for seed in SEEDS]


def test_random_loads_end_equal_to_a_full_refresh(sources: Path, tmp_path: Path) -> None:
    # dbt changes the process that it runs in, and another test reads what is sent to the emulator of the session.
    with (
        emulator(sources, tmp_path) as account,
        ProcessPoolExecutor(1, mp_context=FORKS) as process,
    ):
        assert process.submit(run_sequences, account, tmp_path / "target").result() == [None] * len(SEEDS)
        sent = [" ".join(sql.split()).lower() for sql in account.statements()]
    # What changed was loaded by the strategy, not by filling the fact anew.
    fact = f"{account.by_hand}.core.fct_transactions"
    assert [sql for sql in sent if sql.startswith(f"delete from {fact} where ") and "transaction_id in (select" in sql]
    # A range ends with a literal, by which partitions are skipped.
    days = f"create or replace transient table {account.by_hand}.staging.stg_transaction_days"
    ends = [sql for sql in sent if days in sql and "where (ingested_at is null or ingested_at < cast('2" in sql]
    assert len(ends) >= 2
