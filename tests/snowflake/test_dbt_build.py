"""dbt-snowflake builds the project in Snowflake, again and again, as the Dag has it build."""

from __future__ import annotations

import re

from tests.snowflake.account import SnowflakeAccount
from tests.snowflake.conftest import CUSTOMERS, RUN_SCHEMA


def test_a_first_build_makes_a_profile_for_every_customer(account: SnowflakeAccount, first_build: str) -> None:
    counted = f"select count(*), count(distinct customer_id) from {RUN_SCHEMA}.customer_360_profile"
    assert account.query(counted, account.by_hand) == [(CUSTOMERS, CUSTOMERS)]


def test_a_second_build_keeps_both_versions_of_a_changed_customer(account: SnowflakeAccount, second_build: str) -> None:
    versions = (
        "select version_number, is_current, cast(valid_to as varchar) from core.dim_customer "
        "where customer_id = 'CUST00000001' order by version_number"
    )
    assert account.query(versions, account.by_hand) == [(1, False, "2026-03-29"), (2, True, "9999-12-31")]


def test_a_second_build_takes_the_correction_in_place_of_the_transaction(
    account: SnowflakeAccount, second_build: str
) -> None:
    corrected = "select count(*) from core.fct_transactions where transaction_amount = 0.01"
    assert account.query(corrected, account.by_hand) == [(1,)]
    repeated = "select count(*) - count(distinct transaction_id) from core.fct_transactions"
    assert account.query(repeated, account.by_hand) == [(0,)]


def test_the_fact_is_searched_from_a_literal_date_on(account: SnowflakeAccount, second_build: str) -> None:
    deletes = [
        sql
        for sql in account.statements()
        if sql.strip().lower().startswith(f"delete from {account.by_hand}.core.fct_tr")
    ]
    assert len(deletes) == 1
    assert "and transaction_date >= cast('20" in " ".join(deletes[0].split())


def test_the_profile_and_the_snapshot_are_masked_column_by_column_after_every_build(
    account: SnowflakeAccount, second_build: str
) -> None:
    policy = f"{account.by_hand}.ops.mask_personal_data"
    sent = [" ".join(sql.split()).lower() for sql in account.statements()]
    for table, columns in (
        (f"{RUN_SCHEMA}.customer_360_profile", ("first_name", "last_name", "full_name", "email")),
        ("core.customers_snapshot", ("first_name", "last_name", "email")),
    ):
        for column in columns:
            statement = (
                f"alter table {account.by_hand}.{table} modify column {column} set masking policy {policy} force"
            )
            assert len([sql for sql in sent if sql.startswith(statement)]) == 2


def test_dim_customer_is_masked_by_the_statement_that_makes_it(account: SnowflakeAccount, second_build: str) -> None:
    made = f"create or replace table {account.by_hand}.core.dim_customer ("
    sent = [" ".join(sql.split()).lower() for sql in account.statements()]
    columns = [sql.split(" as ")[0] for sql in sent if made in sql]
    assert len(columns) == 2
    for of_build in columns:
        assert re.findall(r"(\w+) varchar with masking policy (\S+?),?\s", of_build) == [
            (column, f"{account.by_hand}.ops.mask_personal_data") for column in ("first_name", "last_name", "email")
        ]
