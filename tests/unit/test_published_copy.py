"""The published copy: what is in which file, and that readers have the old one or the new one, whole."""

from __future__ import annotations

import datetime
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from include.customer_360.operators import published_copy
from include.customer_360.operators.published_copy import CopyNotRenewed, renew_copy
from include.customer_360.settings import PROJECT_ROOT, Settings, load_settings
from tests.small_disk import no_larger_file
from tests.unit.audience_warehouse import PROFILE_COLUMNS, AudienceWarehouse, profile

ADA = profile("C2", full_name="Ada Byron", first_name="Ada", last_name="Byron", email="ada@example.com", state="NY")
NAMELESS = profile("C1", full_name=None, email=None)
PERSONAL = ("full_name", "first_name", "last_name", "email")
OPS = (
    *("audience_memberships", "export_runs", "publications", "validation_results"),
    *("nights", "night_steps", "rejected_rows", "source_days"),
)


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AudienceWarehouse:
    """Two customers, published by a run, with history of a day before."""
    monkeypatch.setenv("WAREHOUSE_FILE", str(tmp_path / "warehouse.duckdb"))
    made = AudienceWarehouse(tmp_path / "warehouse.duckdb")
    made.publish(ADA, NAMELESS)
    made.keep(profile("C2", as_of_date="2026-03-30"))
    with made.connect() as connection:
        connection.execute("alter table marts.customer_360_history drop email")
        connection.execute("create table marts.metric_that_was as select 'C1' as customer_id")
        connection.execute("create table raw_names as select 'Ada Byron' as full_name")
        connection.execute(
            "insert into core.rejected_transactions values ('date missing'), ('unknown customer'), ('date missing')"
        )
        connection.execute("insert into ops.loaded_transaction_days values (date '2026-03-31', 12)")
    record(made, "run_1")
    return made


def record(warehouse: AudienceWarehouse, dag_run_id: str, published_at: str = "2026-04-01 07:00:00") -> None:
    """Record a publication of the date."""
    execute(
        warehouse,
        "insert into ops.publications (dag_run_id, as_of_date, mart, row_count, published_at) "
        f"values ('{dag_run_id}', date '2026-03-31', 'customer_360_profile', 2, timestamp '{published_at}')",
    )


def execute(warehouse: AudienceWarehouse, sql: str) -> None:
    with warehouse.connect() as connection:
        connection.execute(sql)


def renew(warehouse: AudienceWarehouse, changed: list[str] | None = None) -> list[str]:
    """Renew the copy as a task does; return what it said."""
    said: list[str] = []
    with warehouse.connect() as connection, connection.cursor() as cursor:
        renew_copy(cursor, load_settings(), said.append, changed)
    return said


def files() -> tuple[Path, Path]:
    settings: Settings = load_settings()
    return settings.published_file, settings.published_personal_file


@contextmanager
def reading(personal: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(files()[personal]), read_only=True) as connection:
        yield connection


def read(sql: str, personal: bool = False) -> list[tuple[Any, ...]]:
    with reading(personal) as connection:
        return connection.execute(sql).fetchall()


def ids() -> list[str]:
    """Return the publication_id of both files."""
    return [read("select publication_id from marts.publication_state", personal)[0][0] for personal in (False, True)]


def test_the_copy_has_the_marts_the_history_and_what_readers_see_of_ops_and_nothing_else(
    warehouse: AudienceWarehouse,
) -> None:
    renew(warehouse)
    tables = {f"{schema}.{name}" for schema, name in read("select schema_name, table_name from duckdb_tables()")}
    marts = ("customer_360_profile", "customer_360_history", "publication_state")
    assert tables == {f"marts.{name}" for name in (*marts, *OPS)}
    assert read("select customer_id, as_of_date from marts.customer_360_history") == [
        ("C2", datetime.date(2026, 3, 30))
    ]
    assert read("from marts.rejected_rows order by reason") == [("date missing", 2), ("unknown customer", 1)]
    assert read("from marts.source_days") == [(datetime.date(2026, 3, 31), 12)]
    assert read("select dag_run_id, mart, row_count from marts.publications") == [("run_1", "customer_360_profile", 2)]


def test_names_and_addresses_are_masked_where_there_are_any_and_in_no_byte_of_the_file(
    warehouse: AudienceWarehouse,
) -> None:
    renew(warehouse)
    masked = read(f"select customer_id, {', '.join(PERSONAL)}, state from marts.customer_360_profile")
    assert masked == [("C1", None, None, None, None, None), ("C2", *["*****"] * 4, "NY")]
    assert b"Byron" not in files()[0].read_bytes()


def test_the_second_file_has_names_and_addresses_and_is_its_users_alone(warehouse: AudienceWarehouse) -> None:
    renew(warehouse)
    contacts = read(f"select customer_id, {', '.join(PERSONAL)} from marts.customer_contacts", personal=True)
    assert contacts == [("C1", *[None] * 4), ("C2", "Ada Byron", "Ada", "Byron", "ada@example.com")]
    assert [file.stat().st_mode & 0o777 for file in files()] == [0o644, 0o600]


def test_a_column_that_no_yml_describes_is_not_copied(warehouse: AudienceWarehouse) -> None:
    execute(warehouse, "alter table marts.customer_360_profile add column phone varchar default '+1 212 555 0100'")
    renew(warehouse)
    columns = {name for (name,) in read("select column_name from (describe marts.customer_360_profile)")}
    assert columns == set(PROFILE_COLUMNS)


def test_both_files_name_the_publication_and_each_renewal_is_another(warehouse: AudienceWarehouse) -> None:
    renew(warehouse)
    first = ids()
    renew(warehouse)
    assert len(set(first)) == 1 == len(set(ids()))
    assert first != ids()
    for personal in (False, True):
        [(as_of_date, published_at, copied_at)] = read(
            "select as_of_date, published_at, copied_at from marts.publication_state", personal
        )
        assert (as_of_date, published_at) == (datetime.date(2026, 3, 31), datetime.datetime(2026, 4, 1, 7))
        assert copied_at > published_at


def test_nothing_lies_beside_the_two_files_afterwards(warehouse: AudienceWarehouse) -> None:
    renew(warehouse)
    assert {path.name for path in warehouse.file.parent.iterdir()} == {
        "warehouse.duckdb",
        "published.duckdb",
        "published_personal.duckdb",
    }


def test_before_the_first_publication_there_is_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAREHOUSE_FILE", str(tmp_path / "warehouse.duckdb"))
    renew(AudienceWarehouse(tmp_path / "warehouse.duckdb"))
    assert [file.exists() for file in files()] == [False, False]


def test_on_snowflake_there_is_none(tmp_path: Path) -> None:
    settings = Settings(warehouse="snowflake", warehouse_file=tmp_path / "warehouse.duckdb", _env_file=None)
    renew_copy(None, settings, print)
    assert not any(tmp_path.iterdir())


# Readers


def test_a_reader_who_has_it_open_reads_on_and_the_next_has_the_new_one(warehouse: AudienceWarehouse) -> None:
    """In one process a file that is connected to twice is opened once; what is attached is opened each time."""
    count = "select count(*) from copy.marts.customer_360_profile"
    renew(warehouse)
    with duckdb.connect() as earlier, duckdb.connect() as later:
        earlier.execute(f"attach '{files()[0]}' as copy (read_only)")
        warehouse.publish(ADA)
        renew(warehouse)
        later.execute(f"attach '{files()[0]}' as copy (read_only)")
        assert [each.execute(count).fetchall() for each in (earlier, later)] == [[(2,)], [(1,)]]


def test_readers_of_another_process_neither_wait_nor_keep_a_renewal_waiting(warehouse: AudienceWarehouse) -> None:
    renew(warehouse)
    code = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1], read_only=True); print('open', flush=True); "
        "sys.stdin.readline(); print(c.execute('select count(*) from marts.customer_360_profile').fetchone()[0])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(files()[0])], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "open\n"
        warehouse.publish(ADA)
        renew(warehouse)
        assert read("select count(*) from marts.customer_360_profile") == [(1,)]
        rest, _ = reader.communicate("\n", timeout=60)
    assert rest == "2\n"


def test_the_personal_file_has_its_place_first(warehouse: AudienceWarehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    placed: list[str] = []
    put = published_copy._put_into_place
    monkeypatch.setattr(
        published_copy, "_put_into_place", lambda made, place: (put(made, place), placed.append(place.name))
    )
    renew(warehouse)
    assert placed == ["published_personal.duckdb", "published.duckdb"]


# A part of it


def test_an_export_renews_what_is_seen_of_ops_and_leaves_the_marts_and_the_publication(
    warehouse: AudienceWarehouse,
) -> None:
    renew(warehouse)
    before, personal = ids(), files()[1].stat().st_ino
    warehouse.remember("premium", "2026-03-31", "C2")
    execute(warehouse, "delete from marts.customer_360_profile where customer_id = 'C1'")
    assert renew(warehouse, changed=[]) == []
    assert read("select campaign, customer_id from marts.audience_memberships") == [("premium", "C2")]
    assert read("select count(*) from marts.customer_360_profile") == [(2,)]
    assert ids() == before
    assert files()[1].stat().st_ino == personal


def test_a_date_of_history_is_renewed_without_the_marts(warehouse: AudienceWarehouse) -> None:
    renew(warehouse)
    before = ids()
    execute(warehouse, "insert into marts.customer_360_history (customer_id, as_of_date) values ('C1', '2026-03-29')")
    renew(warehouse, changed=["customer_360_history"])
    assert read("select customer_id, cast(as_of_date as varchar) from marts.customer_360_history order by all") == [
        ("C1", "2026-03-29"),
        ("C2", "2026-03-30"),
    ]
    assert ids() == before


def without_one(file: Path) -> None:
    file.unlink()


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])


def of_an_earlier_shape(file: Path) -> None:
    with duckdb.connect(str(file)) as connection:
        connection.execute("alter table marts.publication_state drop publication_id")


def of_another_renewal(file: Path) -> None:
    with duckdb.connect(str(file)) as connection:
        connection.execute("update marts.publication_state set publication_id = 'another'")


def of_another_publication(file: Path) -> None:
    for each in files():
        with duckdb.connect(str(each)) as connection:
            connection.execute("update marts.publication_state set published_at = '2026-03-31 07:00:00'")


@pytest.mark.parametrize("personal", [False, True])
@pytest.mark.parametrize(
    "fault", [without_one, cut_off, of_an_earlier_shape, of_another_renewal, of_another_publication]
)
def test_where_there_is_no_whole_copy_of_the_publication_a_part_is_not_enough(
    warehouse: AudienceWarehouse, fault: Callable[[Path], None], personal: bool
) -> None:
    renew(warehouse)
    before = ids()
    fault(files()[personal])
    renew(warehouse, changed=[])
    assert len(set(ids())) == 1
    assert ids() != before
    assert read("select count(*) from marts.customer_360_profile") == [(2,)]


# History, date by date


def history() -> list[tuple[Any, ...]]:
    """Return the rows of history in the order in which they lie in the file."""
    return read("select customer_id, cast(as_of_date as varchar), customer_segment from marts.customer_360_history")


@pytest.fixture
def three_dates(warehouse: AudienceWarehouse) -> AudienceWarehouse:
    """Two customers on each of three days, in the copy by customer."""
    execute(warehouse, "delete from marts.customer_360_history")
    for day in (28, 29, 30):
        execute(
            warehouse,
            "insert into marts.customer_360_history (customer_id, as_of_date, customer_segment) "
            f"values ('C1', '2026-03-{day}', 'NY'), ('C2', '2026-03-{day}', 'CA')",
        )
    renew(warehouse)
    assert [customer_id for customer_id, _, _ in history()] == ["C1"] * 3 + ["C2"] * 3
    return warehouse


@pytest.mark.parametrize("changed", [None, ["customer_360_history"]])
def test_only_dates_whose_rows_changed_are_written_anew(
    three_dates: AudienceWarehouse, changed: list[str] | None
) -> None:
    """The 28th is removed, the 29th restated, the 31st new; the 30th stays where it lay."""
    execute(three_dates, "delete from marts.customer_360_history where as_of_date = '2026-03-28'")
    execute(
        three_dates,
        "update marts.customer_360_history set customer_segment = 'TX' "
        "where as_of_date = '2026-03-29' and customer_id = 'C2'",
    )
    execute(
        three_dates,
        "insert into marts.customer_360_history (customer_id, as_of_date, customer_segment) "
        "values ('C1', '2026-03-31', 'NY')",
    )
    assert renew(three_dates, changed) == []
    assert history()[:2] == [("C1", "2026-03-30", "NY"), ("C2", "2026-03-30", "CA")]
    assert sorted(history()[2:]) == [
        ("C1", "2026-03-29", "NY"),
        ("C1", "2026-03-31", "NY"),
        ("C2", "2026-03-29", "TX"),
    ]


def test_a_value_that_two_rows_exchange_is_a_change(three_dates: AudienceWarehouse) -> None:
    execute(
        three_dates,
        "update marts.customer_360_history set customer_segment = if(customer_segment = 'NY', 'CA', 'NY') "
        "where as_of_date = '2026-03-29'",
    )
    renew(three_dates)
    assert sorted(row for row in history() if row[1] == "2026-03-29") == [
        ("C1", "2026-03-29", "CA"),
        ("C2", "2026-03-29", "NY"),
    ]


def test_a_column_that_history_gained_has_all_of_it_written_anew(three_dates: AudienceWarehouse) -> None:
    execute(three_dates, "alter table marts.customer_360_history drop customer_key")
    renew(three_dates)
    columns = "select column_name from (describe marts.customer_360_history)"
    assert ("customer_key",) not in read(columns)
    execute(three_dates, "alter table marts.customer_360_history add column customer_key varchar default 'k'")
    renew(three_dates)
    assert read("select distinct customer_key from marts.customer_360_history") == [("k",)]


def test_a_mart_that_is_gone_is_gone_from_a_copy_that_is_gone_on_with(three_dates: AudienceWarehouse) -> None:
    with duckdb.connect(str(files()[0])) as connection:
        connection.execute("create table marts.metric_that_was as select 1 as one")
    renew(three_dates)
    assert read("select count(*) from duckdb_tables() where table_name = 'metric_that_was'") == [(0,)]


def test_where_the_history_that_is_there_cannot_be_read_all_of_it_is_written(
    three_dates: AudienceWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published_copy, "_tables_to_go_on_with", lambda *_: ["customer_360_history"])
    with duckdb.connect(str(files()[0])) as connection:
        connection.execute("drop table marts.customer_360_history")
    [said] = renew(three_dates)
    assert "is written anew with all of customer_360_history, for it could not be from what is there: " in said
    assert len(history()) == 6


# What goes wrong


def test_a_renewal_that_is_killed_before_the_rename_leaves_the_old_copy_and_the_next_is_whole(
    warehouse: AudienceWarehouse,
) -> None:
    renew(warehouse)
    before = ids()
    warehouse.publish(ADA)
    code = (
        "import os, signal\n"
        "from include.customer_360.operators import published_copy\n"
        "from include.customer_360.settings import load_settings\n"
        "import duckdb\n"
        "published_copy._put_into_place = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "settings = load_settings()\n"
        "with duckdb.connect(str(settings.warehouse_file)) as connection:\n"
        "    published_copy.renew_copy(connection.cursor(), settings, print)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    left = {path.name.rpartition(".duckdb")[2].rsplit(".", 1)[-1] for path in warehouse.file.parent.glob("*.new")}
    assert left == {"new"}
    assert ids() == before
    assert read("select count(*) from marts.customer_360_profile") == [(2,)]
    said = renew(warehouse)
    assert [line.endswith("which a killed task had left.") for line in said] == [True, True]
    assert not list(warehouse.file.parent.glob("*.new*"))
    assert read("select count(*) from marts.customer_360_profile") == [(1,)]


def test_a_kill_between_the_renames_is_seen_by_the_ids_and_repaired_by_whoever_renews_next(
    warehouse: AudienceWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    renew(warehouse)
    put = published_copy._put_into_place

    def only_personal(made: Path, place: Path) -> None:
        if place == files()[0]:
            raise KeyboardInterrupt
        put(made, place)

    with monkeypatch.context() as patch:
        patch.setattr(published_copy, "_put_into_place", only_personal)
        with pytest.raises(KeyboardInterrupt):
            renew(warehouse)
    assert len(set(ids())) == 2
    renew(warehouse, changed=[])
    assert len(set(ids())) == 1


@pytest.mark.parametrize("changed", [None, []])
def test_without_room_the_old_copy_stays_and_the_error_says_what_is_published_and_what_to_do(
    warehouse: AudienceWarehouse, changed: list[str] | None
) -> None:
    renew(warehouse)
    before = ids()
    execute(
        warehouse,
        "insert into ops.audience_memberships (campaign, customer_id) select 'premium', md5(cast(n as varchar)) "
        "from range(50000) as numbers (n)",
    )
    with no_larger_file(400_000), pytest.raises(CopyNotRenewed) as failure:
        renew(warehouse, changed)
    message = str(failure.value)
    assert message.startswith("The marts of 2026-03-31 are published in the warehouse, but ")
    assert str(files()[0]) in message
    assert f"See that there is room in {warehouse.file.parent}" in message
    assert ids() == before
    assert not list(warehouse.file.parent.glob("*.new*"))
    renew(warehouse, changed)
    assert read("select count(*) from marts.audience_memberships") == [(50_000,)]


def test_a_place_that_cannot_be_written_is_named(warehouse: AudienceWarehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    (warehouse.file.parent / "file").touch()
    monkeypatch.setenv("PUBLISHED_FILE", str(warehouse.file.parent / "file" / "published.duckdb"))
    with pytest.raises(CopyNotRenewed, match=r"file/published\.duckdb, .* \(PUBLISHED_FILE names the place\)"):
        renew(warehouse)


def test_a_file_that_somebody_opened_to_write_is_replaced_with_what_lies_beside_it(
    warehouse: AudienceWarehouse,
) -> None:
    renew(warehouse)
    code = (
        "import duckdb, os, sys; c = duckdb.connect(sys.argv[1]); c.execute('create table mine as select 1'); "
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(files()[0])], check=True)
    assert files()[0].with_name("published.duckdb.wal").exists()
    renew(warehouse, changed=[])
    assert not files()[0].with_name("published.duckdb.wal").exists()
    assert read("select count(*) from marts.customer_360_profile") == [(2,)]
    assert read("select count(*) from duckdb_tables() where table_name = 'mine'") == [(0,)]
