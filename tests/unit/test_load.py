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
marketing_opt_in,updated_at
C1,Ann,Lee,ann@example.com,41,NY,Buffalo,Employed,Premium,20000.50,2011-05-17,true,2012-01-02 03:04:05
C2,"Ben ""B"" J.","Ray, Jr.",,,,,,,,,,
"""
TRANSACTIONS_CSV = """\
transaction_id,customer_id,transaction_date,transaction_amount,merchant_name,merchant_category,channel,status,ingested_at
T1,C1,2012-02-29,12.50,Grocery 001,Grocery,Online,approved,2012-03-01 01:00:00
T2,C2,2012-03-01,7.00,"Café, am Eck",Dining,In-Store,declined,2012-03-02 01:00:00
"""
CUSTOMERS = [
    (
        *("C1", "Ann", "Lee", "ann@example.com", 41, "NY", "Buffalo", "Employed", "Premium", Decimal("20000.50")),
        *(datetime.date(2011, 5, 17), True, datetime.datetime(2012, 1, 2, 3, 4, 5)),
    ),
    ("C2", 'Ben "B" J.', "Ray, Jr.", *[None] * 10),
]
TRANSACTIONS = [
    (
        *("T1", "C1", datetime.date(2012, 2, 29), "12.50", "Grocery 001", "Grocery", "Online", "approved"),
        datetime.datetime(2012, 3, 1, 1),
    ),
    (
        *("T2", "C2", datetime.date(2012, 3, 1), "7.00", "Café, am Eck", "Dining", "In-Store", "declined"),
        datetime.datetime(2012, 3, 2, 1),
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
    assert shop.rows("from raw.customers order by 1") == [("C1", *[None] * 12), ("C2", *[None] * 12)]
    assert len(summary.customers.absent) == 12


def test_transactions_without_status_are_approved_and_without_ingested_at_came_now(shop: Shop) -> None:
    transactions = shop.write(
        "t.csv", "transaction_id,customer_id,transaction_date,transaction_amount\nT1,C1,2012-02-29,5\n"
    )
    before = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    load_sources(shop.settings, shop.customers, transactions)
    ((*values, ingested_at),) = shop.rows("from raw.transactions")
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
    assert shop.rows("from raw.customers") == [("C1", *[None] * 12)]


def test_blanks_around_values_are_dropped(shop: Shop) -> None:
    load_sources(shop.settings, shop.write("c.csv", "customer_id,age,city\n C1 , 41 ,  \n"), shop.transactions)
    assert shop.rows("select customer_id, age, city from raw.customers") == [("C1", 41, None)]


def test_a_time_gives_the_date_it_is_written_with(shop: Shop) -> None:
    lines = TRANSACTIONS_CSV.replace("2012-02-29", "2012-02-29T23:59:59-05:00").replace(
        "C2,2012-03-01", "C2,2012-03-01 10:00"
    )
    load_sources(shop.settings, shop.customers, shop.write("t.csv", lines))
    assert shop.rows("select transaction_date from raw.transactions order by transaction_id") == [
        (datetime.date(2012, 2, 29),),
        (datetime.date(2012, 3, 1),),
    ]


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


def test_a_load_remembers_its_files(used_shop: Shop) -> None:
    load_sources(used_shop.settings, used_shop.customers, used_shop.transactions)
    assert used_shop.rows("select * exclude (loaded_at) from ops.source_loads order by loaded_at")[1:] == [
        ("files", used_shop.customers, used_shop.transactions, 2, 2)
    ]


def test_summary_says_what_was_loaded_and_what_to_run_next(used_shop: Shop) -> None:
    customers = used_shop.write("c.csv", "customer_id,Shoe Size,age\nC1,43,41\n")
    transactions = used_shop.write(
        "t.csv",
        "transaction_id,customer_id,transaction_date,transaction_amount,channel\n"
        "T1,C1,2012-02-29,5,Online\nT2,C2,2012-04-05,6,Online\n",
    )
    summary = load_sources(used_shop.settings, customers, transactions)
    moment = datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.UTC)
    assert describe(summary, used_shop.warehouse_file, moment).splitlines() == [
        f"Loaded into {used_shop.warehouse_file}:",
        f"  customers: 1 rows from {customers}",
        "    not in the file, so NULL: first_name, last_name, email, state, city, employment_status, card_type, "
        "credit_limit, account_open_date, marketing_opt_in, updated_at",
        "    ignored columns: shoe size",
        f"  transactions: 2 rows from {transactions}",
        "    not in the file, so NULL: merchant_name, merchant_category",
        "    not in the file, so filled in: status (approved), ingested_at (now)",
        "Dropped, made from the earlier sources: core, intermediate, marts, marts_run_20260331, snapshots, staging, "
        "ops.publications",
        "Transaction dates: 2012-02-29 to 2012-04-05",
        "Next: AS_OF_DATE=2012-04-05 make refresh",
    ]


def test_next_refresh_is_for_yesterday_when_transactions_are_dated_later(shop: Shop) -> None:
    summary = load_sources(
        shop.settings, shop.customers, shop.write("t.csv", TRANSACTIONS_CSV.replace("C2,2012-03-01", "C2,2027-01-01"))
    )
    moment = datetime.datetime(2026, 11, 22, 4, 59, tzinfo=datetime.UTC)  # 23:59 on the 21st in New York
    assert describe(summary, shop.warehouse_file, moment).endswith("Next: AS_OF_DATE=2026-11-20 make refresh")


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
    "updated_at": ("c.csv", "customer_id,updated_at\nC1,noon\n", "updated_at, row 1 .*: 'noon' is not a timestamp"),
    "blank customer_id": ("c.csv", "customer_id,age\nC1,3\n ,4\n", "c.csv: column customer_id, row 2 .*: it is blank"),
    "repeated customer_id": (
        "c.csv",
        "customer_id\nC1\nC2\nC3\nC2 \nC3\n",
        "c.csv: column customer_id: 'C2' stands in rows 2 and 4",
    ),
    "ragged row": ("c.csv", "customer_id,age\nC1,3\nC2\n", "c.csv: cannot be read as csv.*Line: 3.*Expected"),
    "not UTF-8": ("c.csv", "customer_id,city\nC1,Orléans\n".encode("latin-1"), "c.csv: .*UTF-8"),
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
    "transaction_date": ("2012-03-01,7", "03/01/2012,7", "transaction_date, row 2 .*: '03/01/2012' is not a date"),
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
