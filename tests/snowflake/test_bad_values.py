"""The bad amounts, dates and names of tests/bad_data end on Snowflake as on DuckDB, by the rendered staging model.

There no `make load` stands before raw.transactions: its columns are texts here, as an ingestion of CSV may write them.
"""

from __future__ import annotations

import csv
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from include.customer_360.dbt_seeds import dbt_seeds
from local import dbt_sql
from tests.integration.bad_data import FOLDER, GOOD, Kind, read_kinds
from tests.snowflake.conftest import emulator

COLUMNS = (
    "transaction_id",
    "customer_id",
    "transaction_date",
    "transaction_amount",
    "merchant_name",
    "merchant_category",
    "channel",
    "status",
    "ingested_at",
    "source_row",
)
OF_NAMES = ("status_other_case", "status_unknown", "status_blank", "category_other_case", "category_unknown")
JUDGED = ("transaction_amount", "transaction_date", "status", "merchant_category")
# What make load alone drops: spaces that are not ASCII.
OTHERWISE = {("amount_spaces_around", "6"): "amount not a number"}


@pytest.fixture(scope="module")
def kinds() -> list[Kind]:
    """The kinds of single values that make load takes."""
    of_values = [k for k in read_kinds().values() if k.section in ("Amounts", "Dates") or k.name in OF_NAMES]
    return [kind for kind in of_values if not kind.refused]


@pytest.fixture
def query(monkeypatch: pytest.MonkeyPatch) -> str:
    """The query of stg_transaction_rows in Snowflake's variant, for dates that are texts."""
    monkeypatch.setattr(
        dbt_sql._Adapter, "dispatch", staticmethod(lambda name: dbt_sql._macros()[f"snowflake__{name}"])
    )
    names = {name: f"bad.{name}" for name in ("transactions", "customers_snapshot", "merchant_categories")}
    return dbt_sql.transaction_rows_query(names, "text")


def delivered(kind: Kind) -> list[dict[str, str]]:
    """Return the rows of a kind's CSV."""
    [file] = FOLDER.glob(f"{kind.name}.*.csv")
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def test_single_values_end_on_snowflake_as_on_duckdb(
    kinds: list[Kind], query: str, sources: Path, tmp_path: Path
) -> None:
    assert "regexp_like" in query
    assert "convert_timezone" in query
    rows = [tuple(row.get(name) for name in COLUMNS) for kind in kinds for row in delivered(kind)]
    categories = [(row["merchant_category"],) for row in dbt_seeds()["merchant_categories"]]
    with GOOD["customers"].open(encoding="utf-8") as opened:
        customers = [(row["customer_id"],) for row in csv.DictReader(opened)]
    with (
        emulator(sources, tmp_path) as account,
        closing(account.connect(account.by_hand)) as connection,
        closing(connection.cursor()) as cursor,
    ):
        cursor.execute("create schema bad")
        for table, columns, values in (
            ("transactions", COLUMNS, rows),
            ("customers_snapshot", ("customer_id",), customers),
            ("merchant_categories", ("merchant_category",), categories),
        ):
            cursor.execute(f"create table bad.{table} ({', '.join(f'{name} text' for name in columns)})")
            cursor.executemany(f"insert into bad.{table} values ({', '.join(['%s'] * len(columns))})", values)
        ends = cursor.execute(
            "select transaction_id, reject_reason, transaction_amount, transaction_date, status, merchant_category "
            f"from ({query}) as judged"
        ).fetchall()

    observed = {row[0]: row[1] or dict(zip(JUDGED, row[2:], strict=True)) for row in ends}
    assert len(observed) == len(rows) > 200
    for kind in kinds:
        for row, reason in kind.rejected:
            assert observed.pop(f"{kind.name}-{row}") == reason, f"{kind.name}-{row}"
        for row, expected in kind.accepted.items():
            end = observed.pop(f"{kind.name}-{row}")
            if (kind.name, row) in OTHERWISE:
                assert end == OTHERWISE[kind.name, row]
                continue
            assert isinstance(end, dict), f"{kind.name}-{row}: {end}"
            for name, value in expected.items():
                wanted = Decimal(str(value)) if name == "transaction_amount" else value
                assert end[name] == wanted, f"{kind.name}-{row}, {name}: {end[name]!r}, expected {value!r}"
    assert observed == {}
