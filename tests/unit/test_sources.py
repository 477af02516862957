"""What sources.yml says of the source tables is what the README and a load say."""

from __future__ import annotations

import re

import pytest

from include.customer_360.settings import PROJECT_ROOT
from local.sources import CUSTOMERS, TRANSACTIONS, SourceTable


def required(table: SourceTable) -> list[str]:
    return [column.name for column in table.columns if column.required]


def test_a_file_must_have_the_keys_and_what_a_transaction_is_counted_by() -> None:
    assert required(CUSTOMERS) == ["customer_id"]
    assert required(TRANSACTIONS) == ["transaction_id", "customer_id", "transaction_date", "transaction_amount"]


@pytest.mark.parametrize("table", [CUSTOMERS, TRANSACTIONS], ids=lambda table: table.name)
def test_the_readme_names_every_column_of_a_file(table: SourceTable) -> None:
    [row] = re.findall(rf"^\| {table.name} \| (.*) \| (.*) \|$", (PROJECT_ROOT / "README.md").read_text(), flags=re.M)
    must, may = (re.sub(r" \(.*?\)", "", cell).split(", ") for cell in row)
    assert must == required(table)
    assert [*must, *may] == [column.name for column in table.columns]
