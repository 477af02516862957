"""Random deliveries to raw.transactions, loaded by dbt one after the other: each ends equal to a full refresh.

After each load dbt's own test that nothing is lost runs too, in turn over everything and over what the load touched.

Run by itself it loads as many sequences as asked for into a DuckDB file of its own, all in one process:

    .venv/bin/python -m tests.integration.random_loads --sequences 200
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
from dbt.artifacts.schemas.results import NodeStatus
from dbt.cli.main import dbtRunner
from dbt.contracts.graph.manifest import Manifest

from include.customer_360.settings import DBT_PROJECT
from local.sources import CUSTOMERS, TRANSACTIONS

SUMMARY, FACT = "stg_transaction_days", "fct_transactions"
LOAD = (
    "build --resource-type snapshot --resource-type model --resource-type test --indirect-selection empty "
    f"--select customers_snapshot {SUMMARY} {FACT}"
)
REST = (
    "fct_customer_months rejected_transactions raw_equals_accepted_plus_superseded_plus_rejected "
    "loaded_transaction_days"
)
TEST_SCOPES = ("everything", "touched")

# Two of the customers come while the sequence is under way, C7 never does.
KNOWN, LATER, NEVER = ["C1", "C2", "C3", "C4"], ["C5", "C6"], "C7"
ARRIVALS = [
    None,
    "0001-01-01 05:00:00",
    "1999-05-05 01:00:00",
    "2025-03-01 02:00:00",
    "2025-03-01 03:00:00",
    *(f"2026-01-{day:02} 03:00:00" for day in range(1, 9)),
    "2099-01-01 00:00:00",
    "9999-12-31 23:00:00",
]
DATES = ["1900-01-01", "2016-02-29", "2024-12-31", "2026-01-01", "2026-01-02", "2026-01-03", "2199-12-31"]
AMOUNTS = ["0.01", "1.00", "20.50", "999.99", "-1", "ten", "1_0", "1e9", "", None]
TEXTS = {
    "merchant_name": ["Shop", "Other shop", None],
    "merchant_category": ["Gas", " gas ", "Travel", "Nobody knows", None],
    "channel": ["Online", "In-Store", None],
    "status": ["approved", " Approved ", "Declined", "Settled", "", None],
}
SOURCE_ROWS = ["1", "2", "3", None]
RANGES = ["0001-01-02", "2000-01-01", "2026-01-03", "2026-01-05", "2026-01-08", "2100-01-01"]
AS_OF_DATES = ["2026-01-08", "2025-06-30", "2026-01-01", "2026-02-01"]

# Of the fact as a full refresh would have it.
CUSTOMER_MONTHS = """
    select
        customer_id,
        cast(date_trunc('month', transaction_date) as date) as month,
        count(*) as transaction_count,
        sum(transaction_amount) as spend,
        sum(cast(transaction_amount * 100 as bigint) * cast(transaction_amount * 100 as bigint)) as squared_cents,
        min(transaction_amount) as min_transaction_value,
        max(transaction_amount) as max_transaction_value,
        min(transaction_date) as first_transaction_date,
        max(transaction_date) as last_transaction_date,
        sum(case when merchant_category = 'Travel' then transaction_amount else 0 end) as travel_spend,
        sum(case when merchant_category = 'Gas' then transaction_amount else 0 end) as necessities_spend
    from staging.stg_transactions
    where status = 'approved'
    group by 1, 2
"""

NOT_AS_A_FULL_REFRESH = {
    "fct_transactions": ("from core.fct_transactions", "from staging.stg_transactions"),
    "rejected_transactions": (
        "from core.rejected_transactions",
        "from staging.stg_transaction_rows where reject_reason is not null",
    ),
    "fct_customer_months": ("from core.fct_customer_months", f"from ({CUSTOMER_MONTHS}) as months"),
}
COLUMNS = {
    "fct_transactions": "transaction_id, customer_id, transaction_date, transaction_amount, merchant_name, "
    "merchant_category, channel, status, ingested_at",
    "rejected_transactions": "transaction_id, reject_reason, customer_id, raw_transaction_date, "
    "raw_transaction_amount, merchant_name, raw_merchant_category, channel, status, ingested_at",
    "fct_customer_months": "customer_id, month, transaction_count, spend, squared_cents, min_transaction_value, "
    "max_transaction_value, first_transaction_date, last_transaction_date, travel_spend, necessities_spend",
}


def literal(value: str | None) -> str:
    return "null" if value is None else f"'{value}'"


class Feed:
    """Makes SQL, the same on both engines, that changes the sources at random."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.waiting = list(LATER)

    def transactions(self, rows: int) -> str:
        """Return an insert of that many rows: new ones, corrections, repeats, and such as cannot be used."""
        choose = self.random.choice
        values = []
        for _ in range(rows):
            amount = choose(AMOUNTS[:4]) if self.random.random() < 0.8 else choose(AMOUNTS)
            date = choose(DATES) if self.random.random() < 0.95 else None
            transaction_id = f"T{self.random.randrange(25)}" if self.random.random() < 0.97 else choose(["", None])
            customer = choose([*KNOWN, *KNOWN, *LATER, NEVER])
            texts = [choose(of_column) for of_column in TEXTS.values()]
            row = [transaction_id, customer, date, amount, *texts, choose(ARRIVALS), choose(SOURCE_ROWS)]
            values.append(f"({', '.join(map(literal, row))})")
        return f"insert into raw.transactions values {', '.join(values)}"

    def customer(self) -> str:
        """Return an insert of a customer, who may have transactions from long ago; one of the later ones first."""
        customer = self.waiting.pop() if self.waiting else "C8"
        return new_customers([customer])

    def changed_in_place(self) -> str:
        column = self.random.choice(
            ["transaction_amount", "transaction_date", "ingested_at", *TEXTS, "customer_id", "source_row"]
        )
        values = {
            "transaction_amount": AMOUNTS,
            "transaction_date": DATES,
            "ingested_at": ARRIVALS,
            "customer_id": KNOWN,
            "source_row": SOURCE_ROWS,
        }
        value = self.random.choice({**values, **TEXTS}[column])
        return f"update raw.transactions set {column} = {literal(value)} where {self.some_rows()}"

    def deleted(self) -> str:
        return f"delete from raw.transactions where {self.some_rows()}"

    def refilled(self) -> list[str]:
        rows = self.random.randrange(12)
        return ["delete from raw.transactions", *([self.transactions(rows)] if rows else [])]

    def some_rows(self) -> str:
        """Return a condition on rows of one transaction, or of one day of arrival."""
        arrival = self.random.choice(ARRIVALS)
        return self.random.choice(
            [
                f"transaction_id = 'T{self.random.randrange(25)}'",
                "ingested_at is null" if arrival is None else f"ingested_at = '{arrival}'",
                f"transaction_id in ('T{self.random.randrange(25)}', 'T{self.random.randrange(25)}')",
            ]
        )

    def changes(self) -> list[str]:
        """Return what happens between two loads, which may be nothing."""
        makers: list[Callable[[], str | list[str]]] = [
            lambda: self.transactions(self.random.randrange(1, 6)),
            lambda: self.transactions(1),
            self.changed_in_place,
            self.deleted,
            self.customer,
        ]
        if self.random.random() < 0.05:
            return self.refilled()
        made = [self.random.choice(makers)() for _ in range(self.random.choice([0, 1, 1, 2, 3]))]
        return [sql for each in made for sql in ([each] if isinstance(each, str) else each)]


def new_customers(ids: list[str]) -> str:
    rows = [
        f"('{each}', 'Ada', 'Byron', null, 40, 'NY', 'Albany', 'Employed', 'Standard', 9000, '2020-01-01', true, null)"
        for each in ids
    ]
    return (
        "insert into raw.customers (customer_id, first_name, last_name, email, age, state, city, employment_status, "
        f"card_type, credit_limit, account_open_date, marketing_opt_in, updated_at) values {', '.join(rows)}"
    )


def sequence(seed: int, loads: int) -> Iterator[tuple[list[str], str, bool]]:
    """Yield for each load the SQL that goes before it, its as_of_date, and whether it ends half done."""
    feed = Feed(seed)
    yield ["delete from raw.customers", new_customers(KNOWN), *feed.refilled()], AS_OF_DATES[0], False
    for _ in range(loads - 2):
        yield feed.changes(), feed.random.choice(AS_OF_DATES), feed.random.random() < 0.2
    yield feed.changes(), feed.random.choice(AS_OF_DATES), False


def difference(table: str) -> str:
    """Return a query of the rows that the table lacks or has too many, compared with what a full refresh reads."""
    columns = COLUMNS[table]
    loaded, complete = (f"select {columns} {source}" for source in NOT_AS_A_FULL_REFRESH[table])
    loaded, complete = (
        f"select {columns}, count(*) as copies from ({each}) as rows_of group by {columns}"
        for each in (loaded, complete)
    )
    return (
        f"select 'too many' as what, a.* from ({loaded} except {complete}) as a "
        f"union all select 'missing' as what, b.* from ({complete} except {loaded}) as b"
    )


class Loads(ABC):
    """dbt on a warehouse with empty sources, all loads in this process and from one manifest.

    It changes the working folder and the environment of the process for good.
    """

    def __init__(self, environment: dict[str, str], options: list[str]) -> None:
        self.options = options
        os.chdir(DBT_PROJECT)
        os.environ |= environment | {"AS_OF_DATE": AS_OF_DATES[0], "TEST_SCOPE": ""}
        self.manifest: Manifest | None = None
        self.dbt("parse")
        self.dbt("build --exclude-resource-type unit_test --exclude-resource-type test --select staging core +core")

    @abstractmethod
    def query(self, statements: list[str]) -> list[tuple]:
        """Execute SQL and return the rows of the last statement."""

    def dbt(self, command: str) -> None:
        outcome = dbtRunner(manifest=self.manifest).invoke([*command.split(), "--quiet", *self.options])
        if not outcome.success:
            failures = (NodeStatus.Error, NodeStatus.Fail)
            failed = [f"{each.node.name}: {each.message}" for each in outcome.result or [] if each.status in failures]
            raise RuntimeError(f"dbt {command}: {outcome.exception or failed}")
        if isinstance(outcome.result, Manifest):
            self.manifest = outcome.result

    def run(self, seed: int, loads: int) -> str | None:
        """Load one sequence; return what differed after one of its loads, with how to see it again.

        In every fourth the first load, and some of those that follow, come after some of LOAD_ARRIVED_BEFORE.
        """
        feed = Feed(-seed)
        # The snapshot keeps every customer that it has seen.
        self.query(["delete from core.customers_snapshot"])
        full_refresh = " --full-refresh"
        for number, (changes, as_of_date, half_done) in enumerate(sequence(seed, loads)):
            os.environ |= {"AS_OF_DATE": as_of_date, "TEST_SCOPE": TEST_SCOPES[number % 2]}
            in_ranges = seed % 4 == 0 and (number == 0 or feed.random.random() < 0.3)
            self.query(changes)
            if in_ranges:
                self.load_in_ranges(feed.random, full_refresh)
                full_refresh = ""
            self.dbt(LOAD + ("" if half_done else f" {REST}") + full_refresh)
            full_refresh = ""
            if not half_done and (found := self.differences()):
                return f"sequence {seed}, load {number}, after {changes}: {found}"
        columns = COLUMNS["fct_transactions"]
        rows_of_fact = [f"select {columns} from core.fct_transactions order by {columns}"]
        before = self.query(rows_of_fact)
        self.dbt(f"{LOAD} {REST} --full-refresh")
        return None if before == self.query(rows_of_fact) else f"sequence {seed}: the full refresh of dbt differs"

    def load_in_ranges(self, random: random.Random, full_refresh: str) -> None:
        """Load up to some days, in order, and some of it half."""
        for day in sorted(random.sample(RANGES, 2)):
            os.environ["LOAD_ARRIVED_BEFORE"] = day
            half_done = not full_refresh and random.random() < 0.2
            self.dbt(LOAD + ("" if half_done else f" {REST}") + full_refresh)
            full_refresh = ""
        os.environ["LOAD_ARRIVED_BEFORE"] = ""

    def differences(self) -> str:
        found = {table: rows for table in COLUMNS if (rows := self.query([difference(table)]))}
        return "; ".join(f"{table}: {rows[:3]}" for table, rows in found.items())


class DuckDBLoads(Loads):
    """On a DuckDB file of its own."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "warehouse.duckdb"
        with duckdb.connect(str(self.file)) as connection:
            connection.execute("create schema raw")
            for table in (CUSTOMERS, TRANSACTIONS):
                connection.execute(f"create table raw.{table.name} ({table.column_definitions})")
        super().__init__(
            {"WAREHOUSE": "duckdb", "WAREHOUSE_FILE": str(self.file), "RUN_SCHEMA": ""},
            ["--profiles-dir", ".", f"--target-path={folder / 'target'}", f"--log-path={folder / 'logs'}"],
        )

    def query(self, statements: list[str]) -> list[tuple]:
        rows: list[tuple] = []
        with duckdb.connect(str(self.file)) as connection:
            for sql in statements:
                rows = connection.execute(sql).fetchall()
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=int, default=20)
    parser.add_argument("--loads", type=int, default=6)
    parser.add_argument("--first-seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        loads = DuckDBLoads(Path(folder))
        seeds = range(options.first_seed, options.first_seed + options.sequences)
        failed = [found for seed in seeds if (found := loads.run(seed, options.loads))]
    print(f"{options.sequences} sequences of {options.loads} loads, {len(failed)} unlike a full refresh")
    if failed:
        sys.exit("\n".join(failed[:5]))


if __name__ == "__main__":
    main()
