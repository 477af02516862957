import datetime
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from include.customer_360.settings import Settings
from local.sample import SampleCounts, make_sample, needs_sample, write_sample
from local.sources import CUSTOMERS, TRANSACTIONS, SourceTable, WarehouseError
from tests.held_file import held

AS_OF_DATE = datetime.date(2026, 3, 31)
SEED = 42
Row = tuple[object, ...]


def rows(warehouse_file: Path, query: str) -> list[Row]:
    with duckdb.connect(warehouse_file, read_only=True) as connection:
        return connection.execute(query).fetchall()


def value(warehouse_file: Path, query: str) -> object:
    ((only,),) = rows(warehouse_file, query)
    return only


def source_rows(warehouse_file: Path) -> list[list[Row]]:
    return [rows(warehouse_file, f"from raw.{table} order by all") for table in ("customers", "transactions")]


def sample_rows(warehouse_file: Path, *, seed: int = SEED, threads: int | None = None) -> list[list[Row]]:
    write_sample(warehouse_file, customers=100, months=6, seed=seed, as_of_date=AS_OF_DATE, threads=threads)
    return source_rows(warehouse_file)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with the sample of 1,000 customers and 18 months."""
    warehouse_file = tmp_path_factory.mktemp("sample") / "w.duckdb"
    write_sample(warehouse_file, customers=1000, months=18, seed=SEED, as_of_date=AS_OF_DATE)
    return warehouse_file


@pytest.fixture(scope="module")
def spending(sample: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with `spending`: the sample's usable transactions, one row each, and the group planned for them."""
    with duckdb.connect() as connection:
        connection.execute(f"attach '{sample}' as warehouse (read_only)")
        connection.execute(
            f"""
            create table spending as
            with planned as (
                select customer_id, (cast(substr(customer_id, 5) as integer) * 37 + {SEED}) % 100 as slot
                from warehouse.raw.customers
            )
            select
                transaction_id,
                customer_id,
                any_value(case
                    when slot < 15 then 'travel' when slot < 55 then 'stable' when slot < 80 then 'budget'
                    when slot < 90 then 'declining' else 'growing'
                end) as planned,
                max(transaction_date) as transaction_date,
                max(try_cast(transaction_amount as decimal(18,2))) as amount,
                max(merchant_category) as category,
            from planned inner join warehouse.raw.transactions using (customer_id)
            where
                transaction_id is not null
                and transaction_date is not null
                and try_cast(transaction_amount as decimal(18,2)) > 0
            group by all
            """
        )
        yield connection


@pytest.mark.parametrize("table", [CUSTOMERS, TRANSACTIONS], ids=lambda table: table.name)
def test_source_tables_have_the_defined_columns_and_types(sample: Path, table: SourceTable) -> None:
    described = rows(sample, f"describe raw.{table.name}")
    assert [(name, kind.lower()) for name, kind, *_ in described] == [
        (column.name, column.type) for column in table.columns
    ]


def test_same_arguments_give_the_same_rows_on_any_number_of_threads(tmp_path: Path) -> None:
    once = sample_rows(tmp_path / "one.duckdb", threads=1)
    assert sample_rows(tmp_path / "four.duckdb", threads=4) == once
    assert sample_rows(tmp_path / "again.duckdb") == once


def test_another_seed_gives_other_rows(tmp_path: Path) -> None:
    customers, transactions = sample_rows(tmp_path / "one.duckdb")
    other_customers, other_transactions = sample_rows(tmp_path / "other.duckdb", seed=SEED + 1)
    assert other_customers != customers
    assert other_transactions != transactions


def test_size_scales_to_13_and_a_half_million_for_50_000_customers(sample: Path) -> None:
    assert value(sample, "select count(*) from raw.customers") == 1000
    assert 0.97 < value(sample, "select count(*) from raw.transactions") / (13_500_000 / 50) < 1.03


def test_transactions_cover_the_months_that_end_on_as_of_date(sample: Path) -> None:
    assert rows(sample, "select min(transaction_date), max(transaction_date) from raw.transactions") == [
        (datetime.date(2024, 10, 1), AS_OF_DATE)
    ]


def test_nothing_is_ingested_before_its_date_or_after_the_night_that_follows_as_of_date(sample: Path) -> None:
    early, latest = rows(
        sample,
        "select count(*) filter (ingested_at < transaction_date + 1), max(ingested_at) from raw.transactions",
    )[0]
    assert early == 0
    assert latest < datetime.datetime(2026, 4, 1, 3)


def test_ids_have_their_fixed_form_and_customers_are_numbered_from_1(sample: Path) -> None:
    assert rows(sample, "select customer_id from raw.customers order by 1") == [
        (f"CUST{number:08}",) for number in range(1, 1001)
    ]
    assert (
        value(
            sample,
            r"select count(*) from raw.transactions where not regexp_full_match(transaction_id, 'TXN\d{11}')",
        )
        == 0
    )


def test_customers_have_values_in_the_ranges_of_the_design(sample: Path) -> None:
    assert rows(sample, "select distinct card_type from raw.customers order by 1") == [("Premium",), ("Standard",)]
    assert (
        value(
            sample,
            """
            select count(*) from raw.customers
            where credit_limit not between 5000 and 50000 or age not between 18 and 84
                or account_open_date >= date '2026-03-31'
                or updated_at not between account_open_date and timestamp '2026-04-01 00:00:00'
            """,
        )
        == 0
    )
    assert 0.85 < value(sample, "select avg(cast(marketing_opt_in as integer)) from raw.customers") < 0.99
    assert 0.98 < value(sample, "select avg(cast(ends_with(email, '@example.com') as integer)) from raw.customers") < 1


def test_97_percent_of_the_transactions_are_approved(sample: Path) -> None:
    shares = dict(rows(sample, "select status, count(*) / sum(count(*)) over () from raw.transactions group by 1"))
    assert set(shares) == {"approved", "declined", "pending", "reversed"}
    assert shares["approved"] == pytest.approx(0.97, abs=0.005)


@pytest.mark.parametrize(
    ("planned", "lowest", "highest"),
    [("travel", 20, 40), ("stable", 10, 20), ("budget", 7.5, 15), ("declining", 10, 20)],
)
def test_a_group_makes_its_monthly_number_of_transactions(
    spending: duckdb.DuckDBPyConnection, planned: str, lowest: float, highest: float
) -> None:
    """Half of the design's numbers, which 13.5 million transactions need; the middle half of the customers shows it."""
    (low, high) = spending.execute(
        """
        select quantile_cont(monthly, 0.25), quantile_cont(monthly, 0.75)
        from (select count(*) / 18 as monthly from spending where planned = ? group by customer_id)
        """,
        [planned],
    ).fetchone()
    assert lowest < low < high < highest


@pytest.mark.parametrize(
    ("planned", "lowest", "highest"), [("travel", 50, 500), ("stable", 30, 150), ("budget", 10, 80)]
)
def test_a_group_spends_amounts_in_its_range(
    spending: duckdb.DuckDBPyConnection, planned: str, lowest: int, highest: int
) -> None:
    smallest, mean, largest = spending.execute(
        "select min(amount), avg(amount), max(amount) from spending where planned = ?", [planned]
    ).fetchone()
    assert lowest <= smallest < largest <= highest
    assert mean == pytest.approx((lowest + highest) / 2, rel=0.02)


@pytest.mark.parametrize(
    ("planned", "categories", "at_least", "at_most"),
    [
        ("travel", "'Travel', 'Airlines', 'Hotels'", 0.25, 1),
        ("stable", "'Travel', 'Airlines', 'Hotels'", 0, 0.25),
        ("stable", "'Grocery', 'Gas', 'Utilities'", 0, 0.6),
        ("budget", "'Grocery', 'Gas', 'Utilities'", 0.6, 1),
    ],
)
def test_every_customer_of_a_group_spends_where_the_group_does(
    spending: duckdb.DuckDBPyConnection, planned: str, categories: str, at_least: float, at_most: float
) -> None:
    shares = spending.execute(
        f"""
        select coalesce(sum(amount) filter (category in ({categories})), 0) / sum(amount)
        from spending where planned = ? group by customer_id having count(*) >= 50
        """,
        [planned],
    ).fetchall()
    assert len(shares) > 100
    assert all(at_least <= share <= at_most for (share,) in shares)


def test_amounts_fall_for_declining_and_rise_for_growing_customers(spending: duckdb.DuckDBPyConnection) -> None:
    by_month = """
        select avg(amount) from spending where planned = ? and transaction_date > date '2025-11-30'
        group by date_trunc('month', transaction_date) order by date_trunc('month', transaction_date)
    """
    declining = spending.execute(by_month, ["declining"]).fetchall()
    growing = spending.execute(by_month, ["growing"]).fetchall()
    assert len(declining) == len(growing) == 4
    assert declining == sorted(declining, reverse=True)
    assert growing == sorted(growing)


def test_growing_customers_started_in_the_last_six_months(spending: duckdb.DuckDBPyConnection) -> None:
    (first,) = spending.execute("select min(transaction_date) from spending where planned = 'growing'").fetchone()
    assert datetime.date(2025, 10, 1) <= first


def test_some_declining_customers_have_spent_50_000_and_some_less(spending: duckdb.DuckDBPyConnection) -> None:
    more, fewer = spending.execute(
        """
        select count(*) filter (spent >= 50000), count(*) filter (spent < 50000)
        from (select sum(amount) as spent from spending where planned = 'declining' group by customer_id)
        """
    ).fetchone()
    assert more >= 20
    assert fewer >= 20


def test_some_customers_have_no_transaction(sample: Path) -> None:
    without = value(sample, "select count(*) from raw.customers anti join raw.transactions using (customer_id)")
    assert 1 <= without <= 30


def test_some_customers_have_months_without_spend(spending: duckdb.DuckDBPyConnection) -> None:
    followed_by_a_gap = spending.execute(
        """
        select customer_id, month
        from (select distinct customer_id, date_trunc('month', transaction_date) as month from spending)
        qualify lead(month) over (partition by customer_id order by month) > month + interval 1 month
        """
    ).fetchall()
    assert len(followed_by_a_gap) > 10


FEED_FAULTS = {
    "late rows": "ingested_at >= transaction_date + interval 3 days",
    "no category": "merchant_category is null",
    "unknown category": "merchant_category = 'Subscriptions'",
    "no id": "transaction_id is null",
    "unknown customer": "customer_id not in (select customer_id from raw.customers)",
    "no amount": "transaction_amount is null",
    "amount no number": "transaction_amount is not null and try_cast(transaction_amount as double) is null",
    "amount zero": "try_cast(transaction_amount as double) = 0",
    "amount negative": "try_cast(transaction_amount as double) < 0",
    "no date": "transaction_date is null",
}


@pytest.mark.parametrize("condition", FEED_FAULTS.values(), ids=FEED_FAULTS.keys())
def test_feed_has_each_fault_in_a_few_rows(sample: Path, condition: str) -> None:
    share = value(sample, f"select count(*) filter ({condition}) / count(*) from raw.transactions")
    assert 0 < share < 0.02


REPEATS = {
    "byte-identical": "count(distinct sent) = 1",
    "sent again later": "count(distinct ingested_at) = 2 and count(distinct transaction_amount) = 1",
    "corrected later": "count(distinct ingested_at) = 2 and count(distinct transaction_amount) = 2",
}


@pytest.mark.parametrize("condition", REPEATS.values(), ids=REPEATS.keys())
def test_feed_repeats_some_transactions(sample: Path, condition: str) -> None:
    repeated = rows(
        sample,
        f"""
        select transaction_id from raw.transactions as sent where transaction_id is not null
        group by transaction_id having count(*) = 2 and {condition}
        """,
    )
    assert len(repeated) > 100


def test_one_customer_and_one_month_make_a_sample(tmp_path: Path) -> None:
    counts = write_sample(tmp_path / "w.duckdb", customers=1, months=1, seed=0, as_of_date=AS_OF_DATE)
    assert counts.customers == 1
    assert counts.transactions >= 14


def test_write_sample_never_replaces_sources(tmp_path: Path) -> None:
    warehouse_file = tmp_path / "w.duckdb"
    before = sample_rows(warehouse_file)
    with pytest.raises(WarehouseError, match=r"left as it was.*already exists"):
        sample_rows(warehouse_file, seed=7)
    assert source_rows(warehouse_file) == before
    assert value(warehouse_file, "select count(*) from ops.source_loads") == 1


def settings_for(warehouse_file: Path, **changed: object) -> Settings:
    fields = {
        "warehouse_file": warehouse_file,
        "export_root": str(warehouse_file.parent / "exports"),
        "customers": 20,
        "months": 2,
        "seed": 7,
        "as_of_date": AS_OF_DATE,
    }
    return Settings(_env_file=None, **(fields | changed))


def home_with_run(folder: Path, dag_id: str = "customer_360_refresh") -> Path:
    """Return an Airflow home on whose record is one run."""
    home = folder / "home"
    home.mkdir()
    with closing(sqlite3.connect(home / "airflow.db")) as connection:
        connection.execute("create table dag_run (id integer primary key, dag_id text, run_id text)")
        connection.execute("insert into dag_run (dag_id, run_id) values (?, 'refresh__2026-03-30')", [dag_id])
        connection.commit()
    return home


def exported(root: Path) -> Path:
    """Return the manifest of an audience below this export root."""
    manifest = root / "retention" / "as_of_date=2026-03-30" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    return manifest


def with_sources(warehouse_file: Path) -> Path:
    with duckdb.connect(warehouse_file) as connection:
        connection.execute("create schema raw")
        connection.execute("create table raw.customers as select 'mine' as customer_id")
        connection.execute("create table raw.transactions as select 'mine' as transaction_id")
    return warehouse_file


def test_the_sample_fills_a_new_warehouse_and_remembers_where_the_rows_came_from(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "new folder" / "raw.duckdb")
    assert needs_sample(settings, tmp_path / "home")
    assert not settings.warehouse_file.parent.exists()
    counts = make_sample(settings)
    with duckdb.connect() as connection:
        connection.execute(f"attach '{settings.warehouse_file}' as w (read_only)")
        (transactions,) = connection.execute("select count(*) from w.raw.transactions").fetchone()
        (loaded_at, *remembered) = connection.execute("from w.ops.source_loads").fetchone()
    described = "customers=20, months=2, seed=7, as_of_date=2026-03-31"
    assert counts == SampleCounts(20, transactions)
    assert remembered == ["sample", described, described, 20, transactions]
    assert abs(datetime.datetime.now(datetime.UTC).replace(tzinfo=None) - loaded_at) < datetime.timedelta(minutes=5)
    assert not needs_sample(settings, tmp_path / "home")


def test_sources_never_get_the_sample_whatever_was_built_with_them(tmp_path: Path) -> None:
    exported(tmp_path / "exports")
    assert not needs_sample(settings_for(with_sources(tmp_path / "w.duckdb")), home_with_run(tmp_path))


def test_sources_never_get_the_sample_that_is_asked_for(tmp_path: Path) -> None:
    file = with_sources(tmp_path / "w.duckdb")
    with pytest.raises(WarehouseError, match=rf"SAMPLE=1 asks for the sample, but {file} has sources.*WAREHOUSE_FILE"):
        needs_sample(settings_for(file, sample=True), tmp_path / "home")
    assert rows(file, "from raw.customers") == [("mine",)]


@pytest.mark.parametrize("there", [False, True], ids=["lost", "without sources"])
def test_a_warehouse_whose_audiences_were_exported_gets_no_sample(there: bool, tmp_path: Path) -> None:
    file = tmp_path / "w.duckdb"
    if there:
        duckdb.connect(file).close()
    manifest = exported(tmp_path / "exports")
    with pytest.raises(WarehouseError) as raised:
        needs_sample(settings_for(file), tmp_path / "home")
    assert str(raised.value) == (
        f"The warehouse {file} {'has no sources' if there else 'is not there'}, but something was built here before: "
        f"audiences were exported ({manifest}). The sample is not made in its place. Where the file was moved, renamed "
        "or deleted, put it back or name it (WAREHOUSE_FILE=...); docs/backup.md says how to restore a backup. "
        "`make load CUSTOMERS_FILE=... TRANSACTIONS_FILE=...` fills it with data of your own, and SAMPLE=1 "
        f"EXPORT_ROOT={tmp_path}/exports_w with the sample."
    )
    assert file.exists() == there


def test_a_warehouse_on_which_an_airflow_ran_gets_no_sample_but_when_it_is_asked_for(tmp_path: Path) -> None:
    file, home = tmp_path / "w.duckdb", home_with_run(tmp_path)
    wanted = rf"{file} is not there.*its Airflow ran refresh__2026-03-30 \({home}\).*SAMPLE=1 with the sample"
    with pytest.raises(WarehouseError, match=wanted):
        needs_sample(settings_for(file), home)
    assert not file.exists()
    assert needs_sample(settings_for(file, sample=True), home)


def test_a_start_that_was_cut_off_before_its_first_run_built_nothing(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "w.duckdb")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "airflow.db").touch()
    assert needs_sample(settings, tmp_path / "empty")
    assert needs_sample(settings, home_with_run(tmp_path, dag_id="campaign_exports"))


def test_the_sample_that_is_asked_for_beside_another_warehouse_needs_an_export_root_of_its_own(tmp_path: Path) -> None:
    exported(tmp_path / "exports")
    settings = settings_for(tmp_path / "second.duckdb", sample=True)
    own = tmp_path / "exports_second"
    with pytest.raises(WarehouseError, match=rf"holds audiences of another warehouse.*EXPORT_ROOT={own}\.$"):
        needs_sample(settings, tmp_path / "home")
    assert needs_sample(settings_for(settings.warehouse_file, sample=True, export_root=str(own)), tmp_path / "home")


def test_half_of_the_sources_is_refused(tmp_path: Path) -> None:
    warehouse_file = tmp_path / "w.duckdb"
    with duckdb.connect(warehouse_file) as connection:
        connection.execute("create schema raw; create table raw.customers as select 'mine' as customer_id")
    with pytest.raises(WarehouseError, match=r"holds raw\.customers but not the other"):
        needs_sample(settings_for(warehouse_file), tmp_path / "home")


def test_a_date_that_is_not_over_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="as_of_date 2999-01-01 is not over yet"):
        needs_sample(settings_for(tmp_path / "w.duckdb", as_of_date=datetime.date(2999, 1, 1)), tmp_path / "home")
    assert not (tmp_path / "w.duckdb").exists()


def test_snowflake_is_left_to_its_ingestion(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "w.duckdb", warehouse="snowflake")
    assert not needs_sample(settings, tmp_path / "home")
    with pytest.raises(WarehouseError, match="SAMPLE=1 is for DuckDB, and WAREHOUSE is snowflake"):
        needs_sample(settings.model_copy(update={"sample": True}), tmp_path / "home")
    assert not (tmp_path / "w.duckdb").exists()


def test_a_file_that_is_no_warehouse_is_named_and_kept(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a warehouse" * 100)
    with pytest.raises(WarehouseError, match=r"notes\.txt is not a DuckDB file"):
        needs_sample(settings_for(tmp_path / "notes.txt"), tmp_path / "home")
    assert (tmp_path / "notes.txt").read_text() == "not a warehouse" * 100


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(WarehouseError, match=r"The folder of the warehouse, .*taken.*, cannot be made"):
        make_sample(settings_for(tmp_path / "taken" / "w.duckdb"))


def test_a_warehouse_that_another_process_holds_is_waited_for_and_then_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warehouse_file = tmp_path / "w.duckdb"
    with held(warehouse_file, seconds=1.5):
        make_sample(settings_for(warehouse_file))
    assert value(warehouse_file, "select count(*) from raw.customers") == 20
    with held(warehouse_file) as pid, pytest.raises(WarehouseError, match=rf"in use by \S+ \(PID {pid}\), and still"):
        needs_sample(settings_for(warehouse_file, warehouse_lock_wait=0), tmp_path / "home")
    assert capsys.readouterr().err.count("waiting until it is free") == 1
