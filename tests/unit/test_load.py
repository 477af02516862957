import datetime
import gzip
import os
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from include.customer_360.settings import PROJECT_ROOT, Settings
from local.load import LoadError, describe, load_sources
from local.sample import write_sample
from local.sources import WarehouseError

CUSTOMERS_CSV = """\
customer_id,first_name,last_name,email,age,state,city,employment_status,card_type,credit_limit,account_open_date,\
marketing_opt_in,ads_opt_in,account_closed_date,deceased_date,updated_at
C1,Ann,Lee,ann@example.com,41,NY,Buffalo,Employed,Premium,20000.50,2011-05-17,true,false,2012-01-01,2011-12-31,\
2012-01-02 03:04:05
C2,"Ben ""B"" J.","Ray, Jr.",,,,,,,,,,,,,
"""
TRANSACTIONS_CSV = """\
transaction_id,customer_id,transaction_date,transaction_amount,merchant_name,merchant_category,channel,status,ingested_at
T1,C1,2012-02-29,12.50,Grocery 001,Grocery,Online,approved,2012-03-01 01:00:00
T2,C2,2012-03-01,7.00,"Café, am Eck",Dining,In-Store,declined,2012-03-02 01:00:00
"""
CUSTOMERS = [
    (
        *("C1", "Ann", "Lee", "ann@example.com", 41, "NY", "Buffalo", "Employed", "Premium", Decimal("20000.50")),
        *(datetime.date(2011, 5, 17), True, False, datetime.date(2012, 1, 1), datetime.date(2011, 12, 31)),
        datetime.datetime(2012, 1, 2, 3, 4, 5),
    ),
    ("C2", 'Ben "B" J.', "Ray, Jr.", *[None] * 13),
]
TRANSACTIONS = [
    (
        *("T1", "C1", datetime.date(2012, 2, 29), "12.50", "Grocery 001", "Grocery", "Online", "approved"),
        *(datetime.datetime(2012, 3, 1, 1), 1),
    ),
    (
        *("T2", "C2", datetime.date(2012, 3, 1), "7.00", "Café, am Eck", "Dining", "In-Store", "declined"),
        *(datetime.datetime(2012, 3, 2, 1), 2),
    ),
]
Content = dict[tuple[str, str], list[tuple[object, ...]]]


class Shop:
    """A warehouse, and a folder with one file of customers and one of transactions to load into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.warehouse_file = folder / "w.duckdb"
        self.settings = Settings(_env_file=None, warehouse_file=self.warehouse_file)
        self.customers = self.write("customers.csv", CUSTOMERS_CSV)
        self.transactions = self.write("transactions.csv", TRANSACTIONS_CSV)

    def write(self, name: str, content: str | bytes) -> str:
        (self.folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return str(self.folder / name)

    def write_parquet(self, name: str, query: str) -> str:
        duckdb.sql(query).write_parquet(str(self.folder / name))
        return str(self.folder / name)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with duckdb.connect(self.warehouse_file, read_only=True) as connection:
            return connection.execute(query).fetchall()

    def content(self) -> Content:
        """Every row of every table of the warehouse."""
        with duckdb.connect(self.warehouse_file, read_only=True) as connection:
            tables = connection.execute("select table_schema, table_name from information_schema.tables").fetchall()
            return {name: connection.execute(f"from {'.'.join(name)} order by all").fetchall() for name in tables}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.fixture(scope="module")
def used_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with a sample, what refreshes have made from it, and a schema of somebody else."""
    warehouse_file = tmp_path_factory.mktemp("used") / "w.duckdb"
    write_sample(warehouse_file, customers=5, months=1, seed=1, as_of_date=datetime.date(2026, 3, 31))
    with duckdb.connect(warehouse_file) as connection:
        for schema in ("staging", "core", "intermediate", "marts", "marts_run_20260331", "snapshots", "analysts"):
            connection.execute(f"create schema {schema}; create table {schema}.things as select 1 as thing")
        connection.execute("create view staging.seen as from raw.transactions")
        connection.execute("create table ops.publications as select 1 as thing")
    return warehouse_file


@pytest.fixture
def used_shop(shop: Shop, used_warehouse: Path) -> Shop:
    """A shop with a copy of the used warehouse."""
    shutil.copy(used_warehouse, shop.warehouse_file)
    return shop


def test_csv_files_become_the_source_tables(shop: Shop) -> None:
    load_sources(shop.settings, shop.customers, shop.transactions)
    assert shop.rows("from raw.customers order by 1") == CUSTOMERS
    assert shop.rows("from raw.transactions order by 1") == TRANSACTIONS


def test_csv_gz_files_give_the_same_rows(shop: Shop) -> None:
    load_sources(
        shop.settings,
        shop.write("c.csv.gz", gzip.compress(CUSTOMERS_CSV.encode())),
        shop.write("t.CSV.GZ", gzip.compress(TRANSACTIONS_CSV.encode())),
    )
    assert shop.rows("from raw.customers order by 1") == CUSTOMERS
    assert shop.rows("from raw.transactions order by 1") == TRANSACTIONS


def test_parquet_files_give_the_same_rows(shop: Shop) -> None:
    load_sources(
        shop.settings,
        shop.write_parquet("c.parquet", f"from read_csv('{shop.customers}', types={{credit_limit: 'decimal(9,2)'}})"),
        shop.write_parquet(
            "t.parquet", f"from read_csv('{shop.transactions}', types={{transaction_amount: 'decimal(9,2)'}})"
        ),
    )
    assert shop.rows("from raw.customers order by 1") == CUSTOMERS
    assert shop.rows("from raw.transactions order by 1") == TRANSACTIONS


def test_what_the_sample_wrote_survives_a_way_through_files(shop: Shop) -> None:
    write_sample(shop.warehouse_file, customers=50, months=3, seed=1, as_of_date=datetime.date(2026, 3, 31))
    before = shop.content()
    with duckdb.connect(shop.warehouse_file) as connection:
        connection.execute(f"copy raw.customers to '{shop.folder}/c.csv'")
        connection.execute(f"copy raw.transactions to '{shop.folder}/t.parquet'")
    load_sources(shop.settings, f"{shop.folder}/c.csv", f"{shop.folder}/t.parquet")
    after = shop.content()
    assert after["raw", "customers"] == before["raw", "customers"]
    assert after["raw", "transactions"] == before["raw", "transactions"]


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_uri_of_object_storage_is_loaded(shop: Shop, scheme: str) -> None:
    from airflow.sdk import ObjectStoragePath
    from airflow.sdk.io import attach

    # Any file system of fsspec can be a storage; Airflow registers this one for nobody.
    attach("memory", fs=MemoryFileSystem())
    remote = ObjectStoragePath(f"{scheme}://{shop.folder}/remote.csv")
    remote.write_text(TRANSACTIONS_CSV)
    load_sources(shop.settings, shop.customers, str(remote))
    assert shop.rows("from raw.transactions order by 1") == TRANSACTIONS


def test_columns_that_a_file_may_lack_come_out_null(shop: Shop) -> None:
    summary = load_sources(shop.settings, shop.write("c.csv", "customer_id\nC1\nC2\n"), shop.transactions)
    assert shop.rows("from raw.customers order by 1") == [("C1", *[None] * 15), ("C2", *[None] * 15)]
    assert len(summary.customers.absent) == 15


def test_transactions_without_status_are_approved_and_without_ingested_at_came_now(shop: Shop) -> None:
    transactions = shop.write(
        "t.csv", "transaction_id,customer_id,transaction_date,transaction_amount\nT1,C1,2012-02-29,5\n"
    )
    before = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    load_sources(shop.settings, shop.customers, transactions)
    ((*values, ingested_at, _),) = shop.rows("from raw.transactions")
    assert values == ["T1", "C1", datetime.date(2012, 2, 29), "5", None, None, None, "approved"]
    assert before <= ingested_at <= datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


def test_blank_ingested_at_is_the_load_time_and_blank_status_stays_null(shop: Shop) -> None:
    lines = TRANSACTIONS_CSV.replace("approved,2012-03-01 01:00:00", ",")
    load_sources(shop.settings, shop.customers, shop.write("t.csv", lines))
    ((status, ingested_at),) = shop.rows(
        """
        select status, ingested_at = loaded_at from raw.transactions cross join ops.source_loads
        where transaction_id = 'T1'
        """
    )
    assert (status, ingested_at) == (None, True)


def test_header_may_have_a_byte_order_mark_capitals_and_blanks(shop: Shop) -> None:
    customers = shop.write("c.csv", b"\xef\xbb\xbf Customer_ID ,AGE\r\nC1,41\r\nC2,\r\n")
    load_sources(shop.settings, customers, shop.transactions)
    assert shop.rows("select customer_id, age from raw.customers order by 1") == [("C1", 41), ("C2", None)]


def test_columns_without_a_use_or_a_name_are_ignored_however_often_they_come(shop: Shop) -> None:
    summary = load_sources(shop.settings, shop.write("c.csv", "customer_id,x,x,,\nC1,1,2,3,4\n"), shop.transactions)
    assert summary.customers.ignored == ("x",)
    assert shop.rows("from raw.customers") == [("C1", *[None] * 15)]


def test_blanks_around_values_are_dropped(shop: Shop) -> None:
    load_sources(shop.settings, shop.write("c.csv", "customer_id,age,city\n C1 , 41 ,  \n"), shop.transactions)
    assert shop.rows("select customer_id, age, city from raw.customers") == [("C1", 41, None)]


DAYS = {
    "2026-03-31": (2026, 3, 31),
    "2026-03-31 23:59:59": (2026, 3, 31),
    "2026-03-31T23:30:00-04:00": (2026, 3, 31),
    "2026-04-01T03:30Z": (2026, 3, 31),
    "2026-04-01T04:00:00Z": (2026, 4, 1),
    "2026-04-01 05:29:59.5 +0130": (2026, 3, 31),
    # Winter: five hours behind UTC.
    "2026-01-01T04:59:59+00": (2025, 12, 31),
}


@pytest.mark.parametrize("zone", ["America/New_York", "UTC", "Asia/Tokyo"])
def test_a_date_is_the_day_in_new_york_of_a_time_with_a_zone(
    shop: Shop, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the machine is; a time without a zone gives the day that it is written with."""
    monkeypatch.setenv("TZ", zone)
    lines = [f"T{number},C1,{written},1" for number, written in enumerate(DAYS, 1)]
    load_sources(shop.settings, shop.customers, shop.write("t.csv", "\n".join((REQUIRED, *lines))))
    assert shop.rows("select transaction_date from raw.transactions order by source_row") == [
        (datetime.date(*day),) for day in DAYS.values()
    ]


def test_a_parquet_column_of_times_with_a_zone_becomes_days_in_new_york(shop: Shop) -> None:
    transactions = shop.write_parquet(
        "t.parquet",
        """
        select 'T' || number as transaction_id, 'C1' as customer_id, 1 as transaction_amount,
            unnest([timestamptz '2026-04-01 03:30:00+00', timestamptz '2026-04-01 04:00:00+00']) as transaction_date
        from (values (1)) as numbers (number)
        """,
    )
    load_sources(shop.settings, shop.customers, transactions)
    assert shop.rows("select transaction_date from raw.transactions order by source_row") == [
        (datetime.date(2026, 3, 31),),
        (datetime.date(2026, 4, 1),),
    ]


def test_rows_are_numbered_as_they_stand_in_the_file(shop: Shop) -> None:
    lines = "\n".join((REQUIRED, *(f"T{9 - row},C1,2026-03-01,1" for row in range(3))))
    load_sources(shop.settings, shop.customers, shop.write("t.csv", lines))
    assert shop.rows("select transaction_id, source_row from raw.transactions order by source_row") == [
        ("T9", 1),
        ("T8", 2),
        ("T7", 3),
    ]


def test_numbers_of_rows_that_a_file_has_are_kept(shop: Shop) -> None:
    transactions = shop.write("t.csv", f"{REQUIRED},source_row\nT1,C1,2026-03-01,1,70\nT2,C1,2026-03-01,1,\n")
    summary = load_sources(shop.settings, shop.customers, transactions)
    assert shop.rows("select source_row from raw.transactions order by transaction_id") == [(70,), (None,)]
    assert "source_row" not in summary.transactions.absent


def test_one_bad_date_is_loaded_as_delivered_and_foretold_as_rejected(shop: Shop) -> None:
    """The column is a text then, in which the other days stand as days, those with a zone too."""
    assert foretold(
        shop,
        "T1,C1,2026-03-31T23:30:00-04:00,1",
        "T2,C1,31/03/2026,1",
        "T3,C1,2026-04-01 10:00,1",
        "T4,C1,,1",
    )[:2] == [
        "of which a refresh makes 2 accepted + 0 duplicates + 2 rejected (1 date missing, 1 date not a date)",
        "Transaction dates: 2026-03-31 to 2026-04-01",
    ]
    assert shop.rows("select transaction_date from raw.transactions order by source_row") == [
        ("2026-03-31",),
        ("31/03/2026",),
        ("2026-04-01",),
        (None,),
    ]


def test_dates_that_are_mostly_none_are_a_wrong_type(used_shop: Shop) -> None:
    """Two of three; the blank one is not asked."""
    lines = ("T1,C1,2026-03-01,1", "T2,C1,03/02/2026,1", "T3,C1,,1", "T4,C1,20260303,1")
    before = used_shop.content()
    message = r"transaction_date: 2 of 3 values are not a date, the first in row 2 .*'03/02/2026'.*YYYY-MM-DD"
    with pytest.raises(LoadError, match=message):
        load_sources(used_shop.settings, used_shop.customers, used_shop.write("t.csv", "\n".join((REQUIRED, *lines))))
    assert used_shop.content() == before


def test_parquet_types_of_other_tools_are_understood(shop: Shop) -> None:
    """Whole numbers as doubles, as pandas writes a column with gaps, and times with a zone, as Spark does."""
    customers = shop.write_parquet(
        "c.parquet", "select 'C1' as customer_id, 41.0::double as age, 5000::bigint as credit_limit"
    )
    transactions = shop.write_parquet(
        "t.parquet",
        """
        select 'T1' as transaction_id, 'C1' as customer_id, timestamp_ns '2012-02-29 00:00:00' as transaction_date,
            7.25::double as transaction_amount, timestamptz '2012-03-01 01:00:00+00' as ingested_at
        """,
    )
    load_sources(shop.settings, customers, transactions)
    assert shop.rows("select age, credit_limit from raw.customers") == [(41, Decimal(5000))]
    assert shop.rows("select transaction_date, transaction_amount, ingested_at from raw.transactions") == [
        (datetime.date(2012, 2, 29), "7.25", datetime.datetime(2012, 3, 1, 1))
    ]


def test_rows_that_a_refresh_rejects_are_loaded_as_delivered(shop: Shop) -> None:
    lines = (
        "transaction_id,customer_id,transaction_date,transaction_amount",
        ",C1,2012-03-01,1",
        "T4,nobody,2012-03-01,1",
        "T5,C1,,1",
        "T6,C1,2012-03-01,",
        "T7,C1,2012-03-01,n/a",
        "T8,C1,2012-03-01,-3",
    )
    load_sources(shop.settings, shop.customers, shop.write("t.csv", "\n".join(lines)))
    day = datetime.date(2012, 3, 1)
    assert shop.rows("select columns('transaction_.*|customer_id') from raw.transactions order by 1 nulls first") == [
        (None, "C1", day, "1"),
        ("T4", "nobody", day, "1"),
        ("T5", "C1", None, "1"),
        ("T6", "C1", day, None),
        ("T7", "C1", day, "n/a"),
        ("T8", "C1", day, "-3"),
    ]


def test_half_of_the_amounts_may_be_no_numbers(shop: Shop) -> None:
    load_sources(shop.settings, shop.customers, shop.write("t.csv", TRANSACTIONS_CSV.replace("7.00", "n/a")))
    assert shop.rows("select transaction_amount from raw.transactions order by 1") == [("12.50",), ("n/a",)]


def test_a_load_drops_what_was_made_from_the_earlier_sources_and_nothing_else(used_shop: Shop) -> None:
    summary = load_sources(used_shop.settings, used_shop.customers, used_shop.transactions)
    assert summary.dropped == (
        *("core", "intermediate", "marts", "marts_run_20260331", "snapshots", "staging", "ops.publications"),
    )
    assert sorted(used_shop.content()) == [
        ("analysts", "things"),
        ("ops", "source_loads"),
        ("raw", "customers"),
        ("raw", "transactions"),
    ]
    assert used_shop.rows("from raw.customers order by 1") == CUSTOMERS


def test_a_load_drops_the_copy_that_readers_have_of_the_earlier_sources(used_shop: Shop) -> None:
    copies = [used_shop.settings.published_file, used_shop.settings.published_personal_file]
    for copy in copies:
        copy.touch()
    summary = load_sources(used_shop.settings, used_shop.customers, used_shop.transactions)
    assert summary.dropped[-2:] == tuple(map(str, copies))
    assert [copy.exists() for copy in copies] == [False, False]


def test_a_load_keeps_who_looked_whom_up(used_shop: Shop) -> None:
    with duckdb.connect(str(used_shop.settings.warehouse_file)) as connection:
        connection.execute("create table ops.screens_log as select 'C1' as customer_id")
    load_sources(used_shop.settings, used_shop.customers, used_shop.transactions)
    assert used_shop.rows("from ops.screens_log") == [("C1",)]


def test_a_load_remembers_its_files(used_shop: Shop) -> None:
    load_sources(used_shop.settings, used_shop.customers, used_shop.transactions)
    assert used_shop.rows("select * exclude (loaded_at) from ops.source_loads order by loaded_at")[1:] == [
        ("files", used_shop.customers, used_shop.transactions, 2, 2)
    ]


def test_summary_says_what_was_loaded_and_what_to_run_next(used_shop: Shop) -> None:
    customers = used_shop.write("c.csv", "customer_id,Shoe Size,age\nC1,43,41\nC2,38,\n")
    transactions = used_shop.write(
        "t.csv",
        "transaction_id,customer_id,transaction_date,transaction_amount,channel\n"
        "T1,C1,2012-02-29,5,Online\nT2,C2,2012-04-05,6,Online\n",
    )
    summary = load_sources(used_shop.settings, customers, transactions)
    moment = datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.UTC)
    assert describe(summary, used_shop.warehouse_file, moment).splitlines() == [
        f"Loaded into {used_shop.warehouse_file}:",
        f"  customers: 2 rows from {customers}",
        "    not in the file, so NULL: first_name, last_name, email, state, city, employment_status, card_type, "
        "credit_limit, account_open_date, marketing_opt_in, ads_opt_in, account_closed_date, deceased_date, updated_at",
        "    ignored columns: shoe size",
        f"  transactions: 2 rows from {transactions}",
        "    not in the file, so NULL: merchant_name, merchant_category",
        "    not in the file, so filled in: status (approved), ingested_at (now), source_row (the row's number)",
        "    of which a refresh makes 2 accepted + 0 duplicates + 0 rejected",
        "Dropped, made from the earlier sources: core, intermediate, marts, marts_run_20260331, snapshots, staging, "
        "ops.publications",
        "Transaction dates: 2012-02-29 to 2012-04-05",
        "Next: AS_OF_DATE=2012-04-05 make refresh",
    ]


def test_next_refresh_is_for_the_last_day_that_is_over_and_has_transactions(shop: Shop) -> None:
    lines = TRANSACTIONS_CSV.replace("2012-02-29", "2026-11-20").replace("C2,2012-03-01", "C2,2026-11-21")
    summary = load_sources(shop.settings, shop.customers, shop.write("t.csv", lines))
    moment = datetime.datetime(2026, 11, 22, 4, 59, tzinfo=datetime.UTC)  # 23:59 on the 21st in New York
    assert describe(summary, shop.warehouse_file, moment).splitlines()[-4:] == [
        "    dates after 2026-11-20, which count from their day on: 1 rows, 2026-11-21",
        "Dropped, made from the earlier sources: nothing",
        "Transaction dates: 2026-11-20 to 2026-11-20",
        "Next: AS_OF_DATE=2026-11-20 make refresh",
    ]


def test_next_refresh_is_for_yesterday_when_all_transactions_are_dated_later(shop: Shop) -> None:
    lines = TRANSACTIONS_CSV.replace("2012-02-29", "2027-01-01").replace("C2,2012-03-01", "C2,2027-01-02")
    summary = load_sources(shop.settings, shop.customers, shop.write("t.csv", lines))
    moment = datetime.datetime(2026, 11, 22, 4, 59, tzinfo=datetime.UTC)
    assert describe(summary, shop.warehouse_file, moment).splitlines()[-2:] == [
        "No usable transaction is dated 2026-11-20 or earlier, which is the last day that is over.",
        "Next: AS_OF_DATE=2026-11-20 make refresh",
    ]


NOON = datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.UTC)
REQUIRED = "transaction_id,customer_id,transaction_date,transaction_amount"


def foretold(shop: Shop, *lines: str, columns: str = REQUIRED) -> list[str]:
    """Load transactions of customers C1 and C2; return what the summary says between its counts of rows and the end."""
    summary = load_sources(shop.settings, shop.customers, shop.write("t.csv", "\n".join((columns, *lines))))
    report = summary.report
    rejected = sum(rows for _, rows in report.rejected)
    assert report.accepted + report.duplicates + rejected == summary.transactions.rows == len(lines)
    printed = describe(summary, shop.warehouse_file, NOON).splitlines()
    [first] = [number for number, line in enumerate(printed) if line.startswith("    of which")]
    return [line.strip() for line in printed[first:] if not line.startswith("Dropped")]


def test_rows_are_foretold_as_accepted_duplicates_or_rejected_by_reason(shop: Shop) -> None:
    assert foretold(
        shop,
        "T1,C1,2026-03-01,5",
        "T1,C1,2026-03-02,6",
        "T1,C1,2026-03-02,6",
        "T2,C2,2026-03-02,1e3",
        "T2,C2,2026-03-02,-1",
        ",C1,2026-03-02,1",
        "T4,nobody,2026-03-02,1",
        "T5,C1,,1",
        "T6,C1,2026-03-02,",
        "T7,C1,2026-03-02,1_000",
        "T8,C1,2026-03-02,0.004",
        "T9,C1,2026-03-02,1000000.01",
        "T10,C1,2026-02-29,1",
        "T11,C1,1899-12-31,1",
    ) == [
        "of which a refresh makes 2 accepted + 2 duplicates + 10 rejected (2 amount not positive, "
        "1 amount above limit, 1 amount missing, 1 amount not a number, 1 date missing, 1 date not a date, "
        "1 date out of range, 1 no transaction_id, 1 unknown customer)",
        "Transaction dates: 2026-03-01 to 2026-03-02",
        "Next: AS_OF_DATE=2026-03-02 make refresh",
    ]


def test_rounded_amounts_of_usable_rows_are_counted(shop: Shop) -> None:
    """12.340 has a third decimal and loses nothing by it; two are rejected, whatever their decimals."""
    assert foretold(
        shop,
        "T1,C1,2026-03-01,12.345",
        "T2,C1,2026-03-01,12.340",
        "T3,nobody,2026-03-01,1.001",
        "T4,C1,2026-03-01,0.001",
        "T5,C1,2026-03-01,123456e-4",
        "T6,C1,2026-03-01,1.5e2",
    )[:2] == [
        "of which a refresh makes 4 accepted + 0 duplicates + 2 rejected (1 amount not positive, 1 unknown customer)",
        "amounts with more than two decimals, which are rounded to cents: 2",
    ]


def test_unknown_statuses_and_categories_are_named_as_delivered_with_their_rows(shop: Shop) -> None:
    """Of 40 rows 2 have an unknown status, which is no more than 5 %, and all but one an unknown category."""
    lines = [f"T{number},C1,2026-03-01,1, Approved,pets" for number in range(36)]
    lines += ["A,C1,2026-03-01,1,Settled,PETS ", "B,C1,2026-03-01,1,,Pet Food"]
    lines += ["C,C1,2026-03-01,1,REVERSED,pets", "D,C1,2026-03-01,1,declined,"]
    assert foretold(shop, *lines, columns=f"{REQUIRED},status,merchant_category")[1:4] == [
        "unknown statuses, which do not count: 2 of 40 rows: Settled (1), (blank) (1)",
        "unknown categories, which count as Uncategorized: 39 of 40 rows: pets (38), Pet Food (1)",
        "A refresh stops at more than 50 % of the rows (unknown_category_error_pct in include/dbt/dbt_project.yml).",
    ]


def test_of_many_unknown_names_the_five_most_frequent_are_told(shop: Shop) -> None:
    lines = [f"T{number},C1,2026-03-01,1,new{min(number, 6)}" for number in range(9)]
    assert foretold(shop, *lines, columns=f"{REQUIRED},status")[1:3] == [
        "unknown statuses, which do not count: 9 of 9 rows: new6 (3), new0 (1), new1 (1), new2 (1), new3 (1), "
        "and 2 more",
        "A refresh stops at more than 5 % of the rows (unknown_status_error_pct in include/dbt/dbt_project.yml).",
    ]


@pytest.mark.parametrize("far_off", ["1999-01-01", "2099-01-01"])
def test_one_date_far_from_the_rest_does_not_decide_the_next_refresh(shop: Shop, far_off: str) -> None:
    lines = [f"T{day},C1,2026-03-{day:02},1" for day in range(1, 11)]
    said = (
        "dates far from the rest, which count"
        if far_off < "2026"
        else "dates after 2026-11-21, which count from their day on"
    )
    assert foretold(shop, *lines, f"T11,C1,{far_off},1") == [
        "of which a refresh makes 11 accepted + 0 duplicates + 0 rejected",
        f"{said}: 1 rows, {far_off}",
        "Transaction dates: 2026-03-01 to 2026-03-10",
        "Next: AS_OF_DATE=2026-03-10 make refresh",
    ]


def test_a_far_date_that_is_over_does_not_decide_either(shop: Shop) -> None:
    lines = [f"T{day},C1,2012-03-{day:02},1" for day in range(1, 11)]
    assert foretold(shop, *lines, "T11,C1,2021-03-10,1")[1:] == [
        "dates far from the rest, which count: 1 rows, 2021-03-10",
        "Transaction dates: 2012-03-01 to 2012-03-10",
        "Next: AS_OF_DATE=2012-03-10 make refresh",
    ]


def test_a_pause_between_many_transactions_is_no_reason_to_take_the_earlier_ones(shop: Shop) -> None:
    """Two of twelve rows, half a year after the others."""
    lines = [f"T{day},C1,2026-03-{day:02},1" for day in range(1, 11)]
    assert foretold(shop, *lines, "T11,C1,2026-09-01,1", "T12,C1,2026-09-02,1")[-1] == (
        "Next: AS_OF_DATE=2026-09-02 make refresh"
    )


def test_transactions_that_are_all_rejected_suggest_no_date(shop: Shop) -> None:
    assert foretold(shop, "T1,nobody,2026-03-01,5") == [
        "of which a refresh makes 0 accepted + 0 duplicates + 1 rejected (1 unknown customer)",
        "No transaction can be used, so every one will be rejected.",
    ]


def test_the_report_in_the_docs_is_what_is_printed(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    days = [f"T{day},C{day % 2 + 1},2026-10-{day:02},10,approved,GROCERY,x" for day in range(1, 32)]
    lines = [
        *(f"{REQUIRED},status,merchant_category,Terminal", *days),
        "T31,C2,2026-10-31,11,approved,Grocery,x",
        "T32,C1,2026-10-31,12.345,approved,Pet Food,x",
        "T33,C1,2026-10-31,12,Settled,Gas,x",
        "T34,C1,31/10/2026,12,approved,Gas,x",
        "T35,C1,2026-10-31,1_000,approved,Gas,x",
        "T36,C9,2026-10-31,12,approved,Gas,x",
        "T37,C1,2099-12-31,12,approved,Gas,x",
        "T38,C1,1999-12-31,12,approved,Gas,x",
    ]
    shop.write("transactions.csv", "\n".join(lines))
    # The page has the names of files as the README's command gives them.
    monkeypatch.chdir(shop.folder)
    summary = load_sources(shop.settings, "customers.csv", "transactions.csv")
    printed = describe(summary, Path("data/warehouse.duckdb"), NOON)
    page = (PROJECT_ROOT / "docs" / "own_data.md").read_text(encoding="utf-8")
    assert "\n".join(f"    {line}" for line in printed.splitlines()) in page, printed


CUSTOMER_FILE_ERRORS = {
    "missing file": ("none.csv", None, "none.csv: no such file"),
    "unsupported kind": ("c.xlsx", "customer_id\nC1\n", "c.xlsx: unsupported kind of file.*csv, .csv.gz, .parquet"),
    "0 bytes": ("c.csv", "", "c.csv: the file is empty"),
    "header only": ("c.csv", "customer_id,age\n", "c.csv: the file is empty: it has a header and no rows"),
    "blank header": ("c.csv", "\nC1\n", "c.csv: the file is empty: its first line holds no column names"),
    "missing column": (
        "c.csv",
        "name,age\nC1,3\n",
        "c.csv: column customer_id is missing. Columns found: name, age.",
    ),
    "misnamed required column": (
        "c.csv",
        "CustomerId,age\nC1,3\n",
        "customer_id is missing. Is it customerid\\? Rename that column to customer_id. Columns found: CustomerId",
    ),
    "misnamed optional column": (
        "c.csv",
        "customer_id,credit limit\nC1,3\n",
        "c.csv: column credit limit looks like a misspelt credit_limit: rename or remove it",
    ),
    "column twice": ("c.csv", "customer_id,age,AGE\nC1,3,4\n", "column age stands there twice, in positions 2 and 3"),
    "age": ("c.csv", "customer_id,age\nC1,41\nC2,forty\nC3,x\n", "column age, row 2 .*: 'forty' is not a whole number"),
    "fraction of a year": ("c.csv", "customer_id,age\nC1,41.5\n", "column age, row 1 .*: '41.5' is not a whole number"),
    "credit_limit": ("c.csv", 'customer_id,credit_limit\nC1,"5,000"\n', "limit, row 1 .*: '5,000' is not a number"),
    "account_open_date": (
        "c.csv",
        "customer_id,account_open_date\nC1,2012-01-31\nC2,31/01/2012\n",
        "column account_open_date, row 2 .*: '31/01/2012' is not a date \\(YYYY-MM-DD\\)",
    ),
    "no such day": ("c.csv", "customer_id,account_open_date\nC1,2011-02-29\n", "row 1 .*: '2011-02-29' is not a date"),
    "marketing_opt_in": (
        "c.csv",
        "customer_id,marketing_opt_in\nC1,maybe\n",
        "column marketing_opt_in, row 1 .*: 'maybe' is not true or false",
    ),
    "ads_opt_in": ("c.csv", "customer_id,ads_opt_in\nC1,2\n", "column ads_opt_in, row 1 .*: '2' is not true or false"),
    "account_closed_date": (
        "c.csv",
        "customer_id,account_closed_date\nC1,soon\n",
        "column account_closed_date, row 1 .*: 'soon' is not a date",
    ),
    "deceased_date": ("c.csv", "customer_id,deceased_date\nC1,0\n", "deceased_date, row 1 .*: '0' is not a date"),
    "updated_at": ("c.csv", "customer_id,updated_at\nC1,noon\n", "updated_at, row 1 .*: 'noon' is not a timestamp"),
    "blank customer_id": ("c.csv", "customer_id,age\nC1,3\n ,4\n", "c.csv: column customer_id, row 2 .*: it is blank"),
    "repeated customer_id": (
        "c.csv",
        "customer_id\nC1\nC2\nC3\nC2 \nC3\n",
        "c.csv: column customer_id: 'C2' stands in rows 2 and 4",
    ),
    "semicolons": ("c.csv", "customer_id;age\nC1;3\n", "delimiter is not the comma.*semicolons .*customer_id;age"),
    "semicolons around quotes": ("c.csv", '"customer_id";"age"\n"C1";"3"\n', "separated by semicolons"),
    "tabs": ("c.csv", "customer_id\tage\nC1\t3\n", "delimiter is not the comma.*separated by tabs"),
    "pipes": ("c.csv", "customer_id|age\nC1|3\n", "delimiter is not the comma.*separated by pipes"),
    "UTF-16": (
        "c.csv",
        "customer_id,age\nC1,3\n".encode("utf-16"),
        "not UTF-8 text: it is UTF-16 text. Save it as UTF-8",
    ),
    "UTF-16 without a mark": ("c.csv", "customer_id,age\nC1,3\n".encode("utf-16-le"), "looks like UTF-16"),
    "UTF-32": ("c.csv", "customer_id,age\nC1,3\n".encode("utf-32"), "not UTF-8 text: it is UTF-32 text"),
    "Latin-1 header": (
        "c.csv",
        "customer_id,café\nC1,3\n".encode("latin-1"),
        "line 1 is not UTF-8 .*'customer_id,café'",
    ),
    "Latin-1 late": (
        "c.csv",
        b"customer_id,city\n" + b"".join(b"C%d,Paris\n" % number for number in range(30_000)) + b"X,Orl\xe9ans\n",
        "line 30,002 is not UTF-8 text.*Latin-1 .*'X,Orléans'. Save the file as UTF-8",
    ),
    "NUL byte": ("c.csv", "customer_id,city\nC1,Rome\nC\x002,Rome\n", "column customer_id, row 2 .*holds a NUL byte"),
    "zip": ("c.csv", b"PK\x03\x04" + b"x" * 99, "it is a zip file or a spreadsheet, no text. Export it as CSV"),
    "gzip": ("c.csv", gzip.compress(b"customer_id\nC1\n"), "it is compressed by gzip. Name it .csv.gz"),
    "Parquet as CSV": ("c.csv", b"PAR1" + b"x" * 99, "it is Parquet. Name it .parquet"),
    "gzip that breaks off": ("c.csv.gz", gzip.compress(b"customer_id\nC1\n")[:-6], "c.csv.gz: cannot be read: "),
    "too few values": (
        "c.csv",
        "customer_id,age\nC1,3\nC2\n",
        "cannot be read as csv: line 3: it has 1 values, and the first line 2 names",
    ),
    "too many values": ("c.csv", "customer_id,age\nC1,3,4\n", "line 2: it has 3 values, and the first line 2 names"),
    "quote that is not closed": (
        "c.csv",
        'customer_id,city\nC1,Rome\nC2,"Rome\nC3,Rome\n',
        r'cannot be read as csv: line 3: a quote \("\) is not closed',
    ),
    "text behind a quote": (
        "c.csv",
        "customer_id,city\n" + "".join(f"C{number},Paris\n" for number in range(30_000)) + 'X,"Rome" (east)\n',
        "line 30,002: a quote .*or text stands behind the closing one",
    ),
    "two kinds of line end": (
        "c.csv",
        "customer_id,age\r\nC1,3\nC2,4\r\n",
        "line 2: it ends in another way than line 1",
    ),
    "line of 3 MB": ("c.csv", f"customer_id,city\nC1,{'x' * 3_000_000}\n", "line 2: it is too long"),
    "not gzip": ("c.csv.gz", "customer_id\nC1\n", "c.csv.gz: cannot be read: Not a gzipped file"),
    "not Parquet": ("c.parquet", "customer_id\nC1\n" * 9, "c.parquet: cannot be read as parquet"),
}


@pytest.mark.parametrize(("name", "content", "message"), CUSTOMER_FILE_ERRORS.values(), ids=CUSTOMER_FILE_ERRORS.keys())
def test_a_customers_file_that_does_not_fit_is_refused_and_the_warehouse_kept(
    used_shop: Shop, name: str, content: str | bytes | None, message: str
) -> None:
    customers = str(used_shop.folder / name) if content is None else used_shop.write(name, content)
    before = used_shop.content()
    with pytest.raises(LoadError, match=message):
        load_sources(used_shop.settings, customers, used_shop.transactions)
    assert used_shop.content() == before


TRANSACTION_FILE_ERRORS = {
    "missing column": ("transaction_amount", "amount", "column transaction_amount is missing. Is it amount\\?"),
    "misnamed optional column": ("merchant_category", "merchant_catgory", "merchant_catgory looks like a misspelt"),
    "misspelt status": ("status", "statis", "column statis looks like a misspelt status: rename or remove it"),
    "status by another name": ("status", "txn_status", "column txn_status looks like a misspelt status"),
    "source_row": (
        "ingested_at\n",
        "source_row\n",
        "source_row, row 1 .*: '2012-03-01 01:00:00' is not a whole number",
    ),
    "ingested_at": (
        "2012-03-02 01:00:00",
        "2012-03-02 25:00",
        "ingested_at, row 2 .*: '2012-03-02 25:00' is not a timestamp",
    ),
}


@pytest.mark.parametrize(
    ("old", "new", "message"), TRANSACTION_FILE_ERRORS.values(), ids=TRANSACTION_FILE_ERRORS.keys()
)
def test_a_transactions_file_that_does_not_fit_is_refused_and_the_warehouse_kept(
    used_shop: Shop, old: str, new: str, message: str
) -> None:
    transactions = used_shop.write("t.csv", TRANSACTIONS_CSV.replace(old, new))
    before = used_shop.content()
    with pytest.raises(LoadError, match=f"t.csv: .*{message}"):
        load_sources(used_shop.settings, used_shop.customers, transactions)
    assert used_shop.content() == before


def test_a_column_that_only_resembles_one_of_ours_is_ignored(shop: Shop) -> None:
    customers = shop.write("c.csv", "customer_id,account_type,wage\nC1,current,3\n")
    assert load_sources(shop.settings, customers, shop.transactions).customers.ignored == ("account_type", "wage")


def test_errors_quote_no_megabytes(shop: Shop) -> None:
    with pytest.raises(LoadError) as refused:
        load_sources(shop.settings, shop.write("c.csv", f"customer_id,age\nC1,{'x' * 1_000_000}\n"), shop.transactions)
    assert "(1,000,000 characters)' is not a whole number" in str(refused.value)
    assert len(str(refused.value)) < 1_000


@pytest.mark.parametrize(
    ("column", "value", "data_type"),
    [
        ("transaction_amount", "{'dollars': 5}", r"STRUCT\(dollars INTEGER\)"),
        ("transaction_date", "[date '2026-03-01']", r"DATE\[\]"),
        ("merchant_name", "map {'en': 'Shop'}", r"MAP\(VARCHAR, VARCHAR\)"),
    ],
)
def test_a_nested_parquet_column_is_refused_with_its_type(
    used_shop: Shop, column: str, value: str, data_type: str
) -> None:
    columns = {
        "transaction_id": "'T1'",
        "customer_id": "'C1'",
        "transaction_date": "date '2026-03-01'",
        "transaction_amount": "5",
    } | {column: value}
    query = "select " + ", ".join(f"{value} as {name}" for name, value in columns.items())
    transactions = used_shop.write_parquet("t.parquet", query)
    before = used_shop.content()
    with pytest.raises(LoadError, match=f"t.parquet: column {column} is nested, of type {data_type}. Write one plain"):
        load_sources(used_shop.settings, used_shop.customers, transactions)
    assert used_shop.content() == before


def test_a_nested_column_that_nobody_asks_for_is_ignored(shop: Shop) -> None:
    customers = shop.write_parquet("c.parquet", "select 'C1' as customer_id, {'a': 1} as extra")
    assert load_sources(shop.settings, customers, shop.transactions).customers.ignored == ("extra",)


def test_amounts_that_are_mostly_no_numbers_are_a_wrong_type(used_shop: Shop) -> None:
    lines = TRANSACTIONS_CSV.replace("12.50", "USD 12.50") + "T3,C1,2012-03-01,free,,,,,\nT4,C1,2012-03-01,,,,,,\n"
    before = used_shop.content()
    with pytest.raises(LoadError, match=r"_amount: 2 of 3 values are not a number, the first in row 1 .*'USD 12.50'"):
        load_sources(used_shop.settings, used_shop.customers, used_shop.write("t.csv", lines))
    assert used_shop.content() == before


def test_a_uri_that_cannot_be_fetched_is_refused(used_shop: Shop) -> None:
    before = used_shop.content()
    with pytest.raises(LoadError, match=r"nowhere\.csv: no such file"):
        load_sources(used_shop.settings, used_shop.customers, f"file://{used_shop.folder}/nowhere.csv")
    with pytest.raises(LoadError, match=r"unknown://bucket/t\.csv: cannot be fetched.*unknown"):
        load_sources(used_shop.settings, used_shop.customers, "unknown://bucket/t.csv")
    assert used_shop.content() == before


def test_an_error_makes_no_warehouse(shop: Shop) -> None:
    with pytest.raises(LoadError):
        load_sources(shop.settings, shop.customers, shop.write("t.csv", ""))
    assert not shop.warehouse_file.exists()


def test_a_failed_write_leaves_the_warehouse_as_it_was(used_shop: Shop) -> None:
    with duckdb.connect(used_shop.warehouse_file) as connection:
        connection.execute("drop table raw.transactions; create view raw.transactions as select 1 as mine")
    before = used_shop.content()
    with pytest.raises(WarehouseError, match="left as it was"):
        load_sources(used_shop.settings, used_shop.customers, used_shop.transactions)
    assert used_shop.content() == before


def test_files_are_not_loaded_into_snowflake(shop: Shop) -> None:
    snowflake = Settings(_env_file=None, warehouse="snowflake", warehouse_file=shop.warehouse_file)
    with pytest.raises(LoadError, match="embedded warehouse only, and WAREHOUSE is snowflake"):
        load_sources(snowflake, shop.customers, shop.transactions)


def run_load(shop: Shop, **files: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "WAREHOUSE_FILE": str(shop.warehouse_file), "WAREHOUSE": "duckdb", **files}
    command = [sys.executable, "-m", "local.load"]
    return subprocess.run(command, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, check=False)


def test_command_loads_the_files_and_says_what_to_run_next(shop: Shop) -> None:
    done = run_load(shop, CUSTOMERS_FILE=shop.customers, TRANSACTIONS_FILE=shop.transactions)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("Next: AS_OF_DATE=2012-03-01 make refresh\n")
    assert shop.rows("from raw.transactions order by 1") == TRANSACTIONS


def test_command_prints_one_message_and_fails(shop: Shop) -> None:
    done = run_load(shop, CUSTOMERS_FILE=shop.customers, TRANSACTIONS_FILE=f"{shop.folder}/none.csv")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{shop.folder}/none.csv: no such file. Looked at {shop.folder}/none.csv.\n"


def test_command_without_files_says_how_to_call_it(shop: Shop) -> None:
    done = run_load(shop, CUSTOMERS_FILE=shop.customers, TRANSACTIONS_FILE="")
    assert done.returncode == 1
    assert done.stderr.startswith("Say which files: make load CUSTOMERS_FILE=customers.csv")
