"""The test that nothing is lost, as dbt-snowflake sends it: what is planted on a touched day is named with the day."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.snowflake.account import SnowflakeAccount
from tests.snowflake.conftest import RUN_SCHEMA, run_dbt

NOTHING_LOST = "raw_equals_accepted_plus_superseded_plus_rejected"
# The second build loaded the correction to one cent, and nothing else arrived on its day.
DAY = "2026-04-02"
ALL, ACCEPTED, REJECTED = "delivered = accepted + superseded + rejected", "accepted", "rejected"
OF_DAY = f"cast(ingested_at as date) = cast('{DAY}' as date)"


@dataclass(frozen=True)
class NothingLost:
    """The test of the touched days, of which there is one, on database by_hand."""

    account: SnowflakeAccount
    sql: str

    def failures(self, *plants: str) -> list[tuple]:
        """Return what the test finds once something is planted, without its checksums. What was planted stays."""
        for plant in plants:
            self.account.query(plant, self.account.by_hand)
        rows = self.account.query(self.sql, self.account.by_hand)
        return [tuple(re.sub(r", checksum -?\d+", "", str(value)) for value in row) for row in rows]


@pytest.fixture(scope="module")
def nothing_lost(account: SnowflakeAccount, target: Path, second_build: str) -> Iterator[NothingLost]:
    """As between the load and its ledger. Fact and rejected rows are put back afterwards."""
    database = account.by_hand
    saved = {"fct_transactions": "core", "rejected_transactions": "core", "loaded_transaction_days": "ops"}
    for table, schema in saved.items():
        account.query(f"create table {schema}.{table}_saved as select * from {schema}.{table}", database)
    account.query(f"delete from ops.loaded_transaction_days where arrival_day = cast('{DAY}' as date)", database)
    environment = account.dbt_environment | {"RUN_SCHEMA": RUN_SCHEMA, "TEST_SCOPE": "touched"}
    done = run_dbt(environment, target, "compile", "--select", NOTHING_LOST, "--target=snowflake")
    assert done.returncode == 0, done.stdout
    compiled = target / "compiled" / "customer_analytics" / "tests" / f"{NOTHING_LOST}.sql"
    yield NothingLost(account, compiled.read_text())
    for table, schema in saved.items():
        account.query(f"delete from {schema}.{table}", database)
        account.query(f"insert into {schema}.{table} select * from {schema}.{table}_saved", database)
        account.query(f"drop table {schema}.{table}_saved", database)


def test_what_is_planted_on_a_touched_day_is_named(nothing_lost: NothingLost) -> None:
    assert (
        f"(ingested_at >= cast('{DAY}' as timestamp) and ingested_at < cast('2026-04-03' as timestamp))"
        in nothing_lost.sql
    )
    assert nothing_lost.failures() == []
    assert nothing_lost.failures(f"update core.fct_transactions set merchant_name = 'Planted' where {OF_DAY}") == [
        (DAY, ACCEPTED, "1 rows, 0.01 dollars", "1 rows, 0.01 dollars")
    ]
    rejected = (
        "insert into core.rejected_transactions (reject_reason, raw_transaction_amount, ingested_at) "
        f"values ('amount not a number', 'ten', cast('{DAY} 10:00:00' as timestamp))"
    )
    assert nothing_lost.failures(f"delete from core.fct_transactions where {OF_DAY}", rejected) == [
        (DAY, ACCEPTED, "1 rows, 0.01 dollars", "no rows"),
        (DAY, ALL, "1 rows, 0.01 dollars", "1 rows, 0.00 dollars"),
        (DAY, REJECTED, "no rows", "1 rows, 0.00 dollars"),
    ]
