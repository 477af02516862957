"""What sources.yml says of the source tables is what the README and a load say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from include.customer_360.settings import PROJECT_ROOT
from local.sources import CUSTOMERS, TRANSACTIONS, SourceTable, what_no_room_asks_for


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


@pytest.mark.parametrize(
    "message",
    [
        'IO Error: Could not write file "/data/w.duckdb": No space left on device',
        'fct_transactions: Runtime Error\n  IO Error: Could not write file "/data/w.duckdb.tmp/x": File too large',
        "Out of Memory Error: failed to offload data block of size 64.0 KiB (95.3 MiB/95.3 MiB used).",
        "Out of Memory Error: failed to allocate data of size 32.0 KiB (8.0 KiB/0 bytes used)",
    ],
)
def test_disk_and_memory_that_run_out_are_told_with_what_to_do(message: str) -> None:
    asked = what_no_room_asks_for(message, Path("/data/w.duckdb"))
    assert asked.startswith(
        "\nFree space in /data: w.duckdb needs it, and w.duckdb.tmp, where DuckDB puts what does not"
    )
    assert "WAREHOUSE_FILE" in asked
    assert "WAREHOUSE_MEMORY" in asked


def test_another_error_asks_for_no_room() -> None:
    assert what_no_room_asks_for("Catalog Error: Table with name x does not exist!", Path("/data/w.duckdb")) == ""
