"""A load whose INSERT fails after its DELETE leaves the fact as it was, whatever dbt sends afterwards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.snowflake.account import EmulatedAccount, SnowflakeAccount
from tests.snowflake.blocks import changes_of
from tests.snowflake.conftest import RUN_SCHEMA, dbt, run_dbt

CORRECTED = "CUST00000002"
LOAD = ("build", "--select", "staging", "core", "--exclude-resource-type", "unit_test")


def whole_fact(account: SnowflakeAccount) -> list[tuple]:
    return account.query("select * from core.fct_transactions order by transaction_id", account.by_hand)


@pytest.fixture(scope="module")
def correction(account: SnowflakeAccount, second_build: str) -> str:
    """The id of a transaction that is delivered again, now without a channel."""
    ((transaction_id,),) = account.query(
        f"select min(transaction_id) from core.fct_transactions where customer_id = '{CORRECTED}'", account.by_hand
    )
    account.query(
        "insert into raw.transactions select transaction_id, customer_id, transaction_date, '0.02', merchant_name, "
        "merchant_category, cast(null as varchar), status, cast('2026-04-03 10:00:00' as timestamp), null "
        f"from core.fct_transactions where transaction_id = '{transaction_id}'",
        account.by_hand,
    )
    return transaction_id


@pytest.fixture(scope="module")
def refusing_fact(account: SnowflakeAccount, correction: str) -> Iterator[None]:
    """The fact takes no row without a channel."""
    if not isinstance(account, EmulatedAccount):
        pytest.skip("the fact of a real account is not altered")
    account.query("alter table core.fct_transactions alter column channel set not null", account.by_hand)
    yield
    account.query("alter table core.fct_transactions alter column channel drop not null", account.by_hand)


@pytest.fixture(scope="module")
def failed_load(account: EmulatedAccount, target: Path, refusing_fact: None) -> tuple[list[tuple], list[str]]:
    """The fact as it was, and what dbt sent in a load that the fact refuses."""
    before, sent = whole_fact(account), len(account.sent())
    done = run_dbt(account.dbt_environment | {"RUN_SCHEMA": RUN_SCHEMA}, target, *LOAD, "--target=snowflake")
    assert done.returncode == 1
    assert "not null constraint failed: fct_transactions.channel" in done.stdout.lower()
    return before, [sql for _, sql in account.sent()[sent:]]


def test_the_fact_is_as_it_was(account: SnowflakeAccount, failed_load: tuple[list[tuple], list[str]]) -> None:
    before, _ = failed_load
    assert whole_fact(account) == before


def test_the_delete_is_sent_in_one_statement_with_what_undoes_it(
    failed_load: tuple[list[tuple], list[str]], account: SnowflakeAccount
) -> None:
    _, sent = failed_load
    delete = f"delete from {account.by_hand}.core.fct_transactions"
    with_delete = [sql for sql in sent if delete in " ".join(sql.split()).lower()]
    assert len(with_delete) == 1
    assert [change.split()[0] for change in changes_of(with_delete[0])] == ["delete", "insert"]
    block = " ".join(with_delete[0].split()).lower()
    assert re.search(
        r"^execute immediate \$\$ begin begin transaction; delete from .*; insert into .*; commit; ", block
    )
    assert "; commit; exception when other then rollback; raise; end; $$" in block


def test_a_transaction_that_dbt_begins_has_one_change_so_that_no_half_of_it_can_be_committed(
    failed_load: tuple[list[tuple], list[str]],
) -> None:
    _, sent = failed_load
    first_words = [sql.split()[0].lower() for sql in sent]
    begins = [number for number, word in enumerate(first_words) if word == "begin"]
    # Those of touched_customer_months, whose strategy is append.
    assert begins
    assert [first_words[number + 2] for number in begins] == ["commit"] * len(begins)


def test_the_next_load_takes_the_rows(
    account: SnowflakeAccount, target: Path, correction: str, failed_load: tuple[list[tuple], list[str]]
) -> None:
    account.query("alter table core.fct_transactions alter column channel drop not null", account.by_hand)
    dbt(account, target, *LOAD)
    of_transaction = (
        f"select transaction_amount, channel from core.fct_transactions where transaction_id = '{correction}'"
    )
    ((amount, channel),) = account.query(of_transaction, account.by_hand)
    assert (str(amount), channel) == ("0.02", None)


@pytest.mark.parametrize(
    "sql",
    [
        "delete from t where a = 1",
        "execute immediate $$ begin delete from t; end; $$",
        "execute immediate $$ begin begin transaction; delete from t; commit; end; $$",
        "execute immediate $$ begin begin transaction; delete from t; commit; exception when other then raise; end; $$",
    ],
)
def test_what_could_leave_a_transaction_open_is_no_such_statement(sql: str) -> None:
    assert changes_of(sql) == []
