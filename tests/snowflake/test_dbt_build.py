"""dbt-snowflake builds the project in Snowflake, again and again, as the Dag has it build."""

from __future__ import annotations

import re

import pytest

from include.customer_360.dbt_vars import dbt_vars
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


@pytest.mark.parametrize(
    ("table", "masked", "builds"),
    [
        # Made once; a later build changes its rows.
        ("table {database}.core.customers_snapshot (", ("first_name", "last_name", "email"), 1),
        ("table {database}.core.dim_customer (", ("first_name", "last_name", "email"), 2),
        (
            "transient table {database}.{run_schema}.customer_360_profile (",
            ("full_name", "first_name", "last_name", "email"),
            2,
        ),
    ],
)
def test_personal_data_is_masked_by_the_statement_that_makes_the_table(
    account: SnowflakeAccount, second_build: str, table: str, masked: tuple[str, ...], builds: int
) -> None:
    made = "create or replace " + table.format(database=account.by_hand, run_schema=RUN_SCHEMA)
    sent = [" ".join(sql.split()).lower() for sql in account.statements()]
    columns = [sql.split(" as ( ")[0] for sql in sent if sql.startswith(made)]
    assert len(columns) == builds
    policy = f"{account.by_hand}.ops.mask_personal_data"
    for of_build in columns:
        found = re.findall(r"(\w+) varchar with masking policy ([\w.]+)", of_build)
        assert found == [(column, policy) for column in masked]
    of_table = made.split()[-2]
    assert [sql for sql in sent if sql.startswith(f"alter table {of_table} modify column")] == []


def test_no_other_table_that_is_made_where_others_may_read_has_personal_data(
    account: SnowflakeAccount, second_build: str
) -> None:
    personal = {"first_name", "last_name", "full_name", "email"}
    holders = {
        f"{schema}.{table}".lower()
        for schema, table, column in account.query(
            "select table_schema, table_name, column_name from information_schema.columns", account.by_hand
        )
        # What dbt makes for a moment is temporary there: no other session has it.
        if column.lower() in personal and not table.lower().endswith("__dbt_tmp")
    }
    readable = {holder for holder in holders if holder.split(".")[0] in ("core", "marts")}
    assert readable == {"core.customers_snapshot", "core.dim_customer"}


def test_every_model_snapshot_and_test_runs_in_a_session_as_the_project_needs_it(
    account: SnowflakeAccount, second_build: str
) -> None:
    relied_on = ", ".join(
        f"{name} = " + (f"'{value}'" if isinstance(value, str) else str(value).lower())
        for name, value in dbt_vars()["snowflake_session"].items()
    )
    assert "timezone = 'UTC', timestamp_type_mapping = 'TIMESTAMP_NTZ', date_input_format = 'YYYY-MM-DD'" in relied_on
    nodes, prepared = set(), set()
    for tag, sql in account.tagged_statements():
        if node := tag.get("node"):
            if sql.startswith("alter session set query_tag = "):
                assert f", {relied_on}\n" in sql
                prepared.add(node)
            else:
                nodes.add(node)
    assert {"fct_transactions", "customers_snapshot", "raw_equals_accepted_plus_superseded_plus_rejected"} <= nodes
    assert nodes <= prepared


def test_a_date_of_the_source_is_not_read_as_text(account: SnowflakeAccount, second_build: str) -> None:
    view = next(sql for sql in account.statements() if "view" in sql and "staging.stg_transaction_rows" in sql)
    assert "customer_id, cast(transaction_date as date) as transaction_date, try_cast(" in " ".join(view.split())
