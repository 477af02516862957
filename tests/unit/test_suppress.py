"""What `make suppress` puts on the suppression list, and what it refuses."""

from __future__ import annotations

import datetime
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from include.customer_360.settings import PROJECT_ROOT, Settings
from local.sources import WarehouseError
from local.suppress import Suppressed, SuppressionError, suppress

ADA = hashlib.sha256(b"ada@example.com").hexdigest()
COLUMNS = "customer_id, email_hash, reason, valid_from, valid_until"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    file = tmp_path / "raw.duckdb"
    duckdb.connect(str(file)).close()
    return Settings(_env_file=None, warehouse_file=file)


def load(settings: Settings, text: str) -> Suppressed:
    file = settings.warehouse_file.with_name("list.csv")
    file.write_text(text, encoding="utf-8")
    return suppress(settings, file)


def listed(settings: Settings, columns: str = COLUMNS) -> list[tuple[object, ...]]:
    with duckdb.connect() as connection:
        connection.execute(f"attach '{settings.warehouse_file}' as warehouse (read_only)")
        return connection.execute(f"select {columns} from warehouse.ops.suppressions order by all").fetchall()


def test_a_customer_an_address_and_a_hash_are_listed_with_reason_and_days(settings: Settings) -> None:
    done = load(
        settings,
        "customer_id,email,email_hash,reason,from,until\n"
        "C1,,,asked,2026-03-01,\n"
        'C2," ADA@Example.com\t",,complaint,,2026-12-31\n'
        f",,{ADA.upper()},bounced,,\n",
    )
    assert done == Suppressed(rows=3, added=3)
    assert listed(settings) == [
        ("C1", None, "asked", datetime.date(2026, 3, 1), None),
        ("C2", ADA, "complaint", None, datetime.date(2026, 12, 31)),
        (None, ADA, "bounced", None, None),
    ]


def test_no_address_is_kept(settings: Settings) -> None:
    load(settings, "email,reason\nada@example.com,asked\n")
    assert b"ada@example.com" not in settings.warehouse_file.read_bytes()


def test_it_is_recorded_when_it_is_loaded(settings: Settings) -> None:
    before = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    load(settings, "customer_id,reason\nC1,asked\n")
    [(recorded_at,)] = listed(settings, "recorded_at")
    assert before <= recorded_at <= datetime.datetime.now(datetime.UTC).replace(tzinfo=None)  # type: ignore[operator]


def test_the_same_file_again_adds_nothing(settings: Settings) -> None:
    text = "customer_id,email,reason,from\nC1,ada@example.com,asked,2026-03-01\nC2,,asked,\nC2,,asked,\n"
    assert load(settings, text) == Suppressed(rows=3, added=2)
    there = listed(settings)
    assert load(settings, text) == Suppressed(rows=3, added=0)
    assert listed(settings) == there


def test_the_columns_of_the_table_are_taken_too_in_any_case_and_order(settings: Settings) -> None:
    load(settings, "\ufeffReason,VALID_UNTIL,valid_from,Customer_ID\nasked,2026-04-30,2026-04-01,C1\n")
    assert listed(settings) == [("C1", None, "asked", datetime.date(2026, 4, 1), datetime.date(2026, 4, 30))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("customer_id,reason\nC1,asked\n,asked\n", "row 2: it names nobody: give customer_id or email or email_hash"),
        ("customer_id,reason\nC1,\n", "row 1, column reason: it is blank"),
        ("customer_id,reason,from\nC1,asked,1.3.2026\n", "row 1, column from: '1.3.2026' is no date: give it as YYYY"),
        ("customer_id,reason,from\nC1,asked,2026-02-30\n", "column from: '2026-02-30' is no date"),
        ("customer_id,reason,until\nC1,asked,a@b.com\n", "column until: its value is no date"),
        ("customer_id,reason,from,until\nC1,a,2026-03-02,2026-03-01\n", "until 2026-03-01 is before from 2026-03-02"),
        ("email,reason\nC1,asked\n", "row 1, column email: it is no address: an id belongs into customer_id"),
        ("email_hash,reason\nada@example.com,asked\n", "column email_hash: it is no SHA-256"),
        (f"email,email_hash,reason\na@b.com,{ADA},asked\n", "it has both email and email_hash: give one of them"),
        ("customer_id,reason\nC1,asked,later\n", "row 1: it has more or fewer values than the first line"),
        ("customer_id,reason\nC1\n", "row 1: it has more or fewer values than the first line"),
        ("customer_id\nC1\n", "it says not whom, or not why. It takes reason, one or more of customer_id, email"),
        ("reason\nasked\n", "it says not whom, or not why"),
        ("customer_id,reason,phone\nC1,asked,1\n", "1 of its 3 columns have another name"),
        ("customer_id,reason,reason\nC1,asked,1\n", "a column stands there twice"),
        ("ada@example.com\n", "1 of its 1 columns have another name"),
        ("", "it says not whom, or not why"),
    ],
)
def test_what_cannot_be_used_is_named_and_nothing_is_written(settings: Settings, text: str, message: str) -> None:
    load(settings, "customer_id,reason\nC0,asked\n")
    with pytest.raises(SuppressionError) as refused:
        load(settings, text)
    assert message in str(refused.value)
    assert "list.csv" in str(refused.value)
    assert "@" not in str(refused.value)
    assert listed(settings) == [("C0", None, "asked", None, None)]


def test_a_file_that_is_not_there_is_named(settings: Settings) -> None:
    with pytest.raises(SuppressionError, match=r"none\.csv is not there: say which file"):
        suppress(settings, settings.warehouse_file.with_name("none.csv"))


def test_text_that_is_not_utf_8_is_named(settings: Settings) -> None:
    file = settings.warehouse_file.with_name("list.csv")
    file.write_bytes("customer_id,reason\nC1,möchte nicht\n".encode("latin-1"))
    with pytest.raises(SuppressionError, match=r"list\.csv: it is no text in UTF-8"):
        suppress(settings, file)


def test_without_a_warehouse_nothing_is_made(settings: Settings) -> None:
    settings.warehouse_file.unlink()
    with pytest.raises(WarehouseError, match=r"raw\.duckdb is not there: run `make refresh` or `make load` first"):
        load(settings, "customer_id,reason\nC1,asked\n")
    assert not settings.warehouse_file.exists()


def test_on_snowflake_it_says_where_to_write(settings: Settings) -> None:
    on_snowflake = settings.model_copy(update={"warehouse": "snowflake"})
    with pytest.raises(SuppressionError, match=r"insert into ops\.suppressions there, as docs/campaigns\.md says"):
        load(on_snowflake, "customer_id,reason\nC1,asked\n")


def test_the_command_says_how_many_are_new(settings: Settings) -> None:
    file = settings.warehouse_file.with_name("list.csv")
    file.write_text("customer_id,reason\nC1,asked\nC1,asked\n")
    done = subprocess.run(
        [sys.executable, "-m", "local.suppress"],
        cwd=PROJECT_ROOT,
        env=os.environ | {"FILE": str(file), "WAREHOUSE_FILE": str(settings.warehouse_file)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"2 rows, 1 new on the suppression list of {settings.warehouse_file}, 1 there already." in done.stdout
