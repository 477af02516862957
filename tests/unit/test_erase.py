"""What `make erase` takes out of export files and schema ops, what it keeps and refuses; and the page's statements."""

from __future__ import annotations

import csv
import datetime
import hashlib
import json
import re
import uuid
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest
import sqlglot
from sqlglot import exp

from include.customer_360 import catalog
from include.customer_360.catalog import MANIFEST, Destination
from include.customer_360.operators import audiences, published_copy
from include.customer_360.operators.export import ExportAudienceOperator
from include.customer_360.operators.export_log import COLUMNS
from include.customer_360.operators.published_copy import CopyNotRenewed, renew_copy
from include.customer_360.ops_tables import ops_columns
from include.customer_360.settings import PROJECT_ROOT, Settings
from local import erase as erasing
from local.erase import Erased, EraseError, erase, report
from local.sources import WarehouseError
from tests.unit.audience_warehouse import AS_OF_DATE, AudienceWarehouse, campaign, profile, rendered

ADS = campaign(
    columns=("customer_id", "full_name", "email"),
    destinations=(
        Destination(),
        Destination(name="google", format="google_customer_match"),
        Destination(name="meta", format="meta_custom_audience"),
    ),
)
GONE = "C1@Example.com"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AudienceWarehouse:
    """Two customers, whose audience is exported to a file and to two ad platforms."""
    file = tmp_path / "warehouse.duckdb"
    monkeypatch.setenv("WAREHOUSE_FILE", str(file))
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "duckdb", "host": str(file)}))
    monkeypatch.setattr(audiences, "today", lambda: datetime.date(2026, 4, 1))
    monkeypatch.setattr(catalog, "load_catalog", lambda: SimpleNamespace(campaigns=[ADS]))
    made = AudienceWarehouse(file)
    made.publish(
        profile("C1", email=GONE, full_name='Ada\n"Byron", Lady', ads_opt_in=True),
        profile("C10", email="c10@example.com", ads_opt_in=True),
    )
    made.decide(ADS)
    for destination in ADS.destinations:
        operator = rendered(
            ExportAudienceOperator, campaign=ADS, export_root=str(tmp_path / "exports"), destination=destination.name
        )
        manifest = operator.execute({"dag_run": SimpleNamespace(run_id="run_1")})
        row = dict.fromkeys(COLUMNS) | {
            "campaign": "premium",
            "destination": destination.name,
            "file": manifest["path"],
            "sha256": manifest["sha256"],
            "exported": 2,
        }
        with made.connect() as connection:
            connection.execute(
                f"insert into ops.export_runs by name select {', '.join(f'? as {name}' for name in row)}",
                list(row.values()),
            )
    return made


def settings_of(warehouse: AudienceWarehouse) -> Settings:
    exports = warehouse.file.parent / "exports"
    return Settings(warehouse_file=warehouse.file, export_root=str(exports), warehouse_lock_wait=0, _env_file=None)


def folders(warehouse: AudienceWarehouse) -> list[Path]:
    top = warehouse.file.parent / "exports" / "premium" / f"as_of_date={AS_OF_DATE}"
    return [top, top / "google", top / "meta"]


def rows_of(file: Path) -> list[list[str]]:
    with file.open(newline="") as lines:
        return list(csv.reader(lines))[1:]


def query(warehouse: AudienceWarehouse, sql: str) -> list[tuple]:
    with warehouse.connect() as connection:
        return connection.execute(sql).fetchall()


def test_the_person_is_taken_out_of_each_file_and_manifest_and_log_say_so(warehouse: AudienceWarehouse) -> None:
    erased = erase(settings_of(warehouse), "C1")

    digest = sha256("c10@example.com")
    assert [rows_of(folder / "audience.csv") for folder in folders(warehouse)] == [
        [["C10", "Ada Byron", "c10@example.com"]],
        [[digest]],
        [[digest]],
    ]
    for folder in folders(warehouse):
        manifest = json.loads((folder / "manifest.json").read_text())
        assert (manifest["row_count"], manifest["sha256"]) == (1, manifest["files"]["audience.csv"]["sha256"])
        for name, described in manifest["files"].items():
            assert described["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
            assert described["row_count"] == len(rows_of(folder / name))
        assert sorted(path.name for path in folder.iterdir() if path.is_file()) == [
            *("audience.csv", "entered.csv", "left.csv", "manifest.json")
        ]
        logged = query(warehouse, f"select exported, sha256 from ops.export_runs where file = '{folder}/audience.csv'")
        assert logged == [(1, manifest["sha256"])]
    # Of each destination, audience and who entered.
    assert sorted(erased.files.values()) == [1] * 6


def test_the_person_is_in_no_row_of_marts_and_ops_and_in_no_text_there(warehouse: AudienceWarehouse) -> None:
    with warehouse.connect() as connection:
        connection.execute("insert into ops.restatements (customer_id, before) values ('C1', 'Ada'), ('C10', 'Bob')")
        connection.execute("insert into ops.failing_rows (row_key) values ('C1 2026-03-01'), ('C10 2026-03-01')")
        connection.execute(
            "insert into ops.validation_results (observed) values ('1 customers differ, for example C1'), "
            "('1 customers differ, for example C10'), ('rows of C1, and C1 again')"
        )
    erased = erase(settings_of(warehouse), "C1")
    assert erased.tables == {
        "marts.customer_360_profile": 1,
        "ops.audience_memberships": 1,
        "ops.failing_rows": 1,
        "ops.restatements": 1,
        "ops.validation_results": 2,
    }
    assert query(warehouse, "select customer_id from marts.customer_360_profile") == [("C10",)]
    assert query(warehouse, "select customer_id from ops.audience_memberships") == [("C10",)]
    assert query(warehouse, "select row_key from ops.failing_rows") == [("C10 2026-03-01",)]
    assert query(warehouse, "select observed from ops.validation_results order by 1") == [
        ("1 customers differ, for example (erased)",),
        ("1 customers differ, for example C10",),
        ("rows of (erased), and (erased) again",),
    ]


def test_who_was_erased_stays_suppressed_by_id_and_by_each_address(warehouse: AudienceWarehouse) -> None:
    warehouse.suppress(customer_id="C1")
    erase(settings_of(warehouse), "C1")
    assert query(
        warehouse,
        "select customer_id, customer_id_hash, email_hash, reason, valid_until from ops.suppressions order by all",
    ) == [
        (None, sha256("C1"), None, "erased", None),
        (None, None, sha256("c1@example.com"), "erased", None),
    ]
    warehouse.publish(
        profile("C1", email="another@example.com", as_of_date="2026-04-01"),
        profile("C2", email=" c1@example.com ", as_of_date="2026-04-01"),
        profile("C10", as_of_date="2026-04-01"),
    )
    rendered(audiences.DecideAudiencesOperator, "2026-04-01", campaigns=[ADS]).execute(
        {"ti": SimpleNamespace(xcom_push=lambda **_: None)}
    )
    assert warehouse.ends(as_of_date="2026-04-01") == [
        ("C1", "suppressed", "suppression list"),
        ("C10", "exported", None),
        ("C2", "suppressed", "suppression list"),
    ]


def test_once_more_finds_nothing_and_says_so(warehouse: AudienceWarehouse) -> None:
    first = erase(settings_of(warehouse), "C1")
    again = erase(settings_of(warehouse), "C1")
    assert "rows taken out of" in report("C1", first, settings_of(warehouse))
    assert again.nothing
    assert "Nothing is left of customer C1" in report("C1", again, settings_of(warehouse))
    assert query(warehouse, "select count(*) from ops.suppressions") == [(2,)]


def test_an_id_that_is_not_there_is_refused_and_changes_nothing(warehouse: AudienceWarehouse) -> None:
    before = warehouse.file.read_bytes()
    with pytest.raises(EraseError, match=r"No customer 'c1' is in .*the case in which the sources have it"):
        erase(settings_of(warehouse), "c1")
    assert warehouse.file.read_bytes() == before


def test_beside_a_running_airflow_it_is_refused(warehouse: AudienceWarehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "running_state", lambda _: {"pid": 1, "url": "http://127.0.0.1:8080"})
    with pytest.raises(WarehouseError, match="stop it first, with `make down`"):
        erase(settings_of(warehouse), "C1")


def test_without_room_for_the_new_file_the_person_is_deleted_and_it_says_what_is_left_to_do(
    warehouse: AudienceWarehouse,
) -> None:
    warehouse.file.with_name(f".{warehouse.file.name}.part").mkdir()
    with pytest.raises((WarehouseError, OSError)):
        erase(settings_of(warehouse), "C1")
    assert query(warehouse, "select customer_id from marts.customer_360_profile") == [("C10",)]


def test_on_snowflake_the_page_is_named() -> None:
    with pytest.raises(EraseError, match=r"docs/erasure\.md has the statements"):
        erase(Settings(warehouse="snowflake", _env_file=None), "C1")


def test_without_a_customer_it_says_whom(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("CUSTOMER", raising=False)
    assert erasing.main() == 1
    assert "Say whom: make erase CUSTOMER=CUST00000001." in capsys.readouterr().err
    assert Erased().nothing


def page_statements() -> list[exp.Expression]:
    page = (PROJECT_ROOT / "docs" / "erasure.md").read_text()
    blocks = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    return [statement for block in blocks for statement in sqlglot.parse(block, dialect="snowflake") if statement]


def test_the_pages_statements_delete_from_every_table_that_has_a_customer_id() -> None:
    nodes = json.loads(MANIFEST.read_text())["nodes"].values()
    stored = {"table", "incremental", "snapshot"}
    tables = {
        f"{node['schema']}.{node['name']}"
        for node in nodes
        if node["config"].get("materialized") in stored and "customer_id" in node["columns"]
    }
    tables |= {f"ops.{table}" for table, columns in ops_columns().items() if "customer_id" in columns}
    deleted = {f"{each.this.db}.{each.this.name}" for each in page_statements() if isinstance(each, exp.Delete)}
    assert deleted == {*tables, "raw.customers", "raw.transactions", "ops.failing_rows"}


# The copies that readers open, and the log of the screens


def with_copies(warehouse: AudienceWarehouse) -> list[Path]:
    """Write the copies as a publication does, and return them."""
    settings = settings_of(warehouse)
    with warehouse.connect() as connection, connection.cursor() as cursor:
        renew_copy(cursor, settings, print)
    return [settings.published_file, settings.published_personal_file]


def customers_of(copy: Path, table: str) -> list[tuple]:
    with duckdb.connect() as connection:
        connection.execute(f"attach '{copy}' as copy (read_only)")
        return connection.execute(f"select customer_id from copy.marts.{table}").fetchall()


def test_the_copies_are_written_anew_without_the_person(warehouse: AudienceWarehouse) -> None:
    everybody, personal = with_copies(warehouse)
    assert GONE.encode() in personal.read_bytes()
    erased = erase(settings_of(warehouse), "C1")
    assert erased.copies == [everybody, personal]
    assert customers_of(everybody, "customer_360_profile") == [("C10",)]
    assert customers_of(everybody, "audience_memberships") == [("C10",)]
    assert customers_of(personal, "customer_contacts") == [("C10",)]
    assert GONE.encode() not in personal.read_bytes()
    assert str(personal) in report("C1", erased, settings_of(warehouse))


def test_where_they_cannot_be_written_anew_readers_have_none_and_the_error_says_so(
    warehouse: AudienceWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = with_copies(warehouse)

    def no_room(*_: object) -> None:
        raise CopyNotRenewed("the disk is full.")

    monkeypatch.setattr(published_copy, "renew_copy", no_room)
    with pytest.raises(WarehouseError, match=r"The person is erased, .* removed, .* the disk is full\. .*have none"):
        erase(settings_of(warehouse), "C1")
    assert [copy.exists() for copy in copies] == [False, False]
    assert query(warehouse, "select customer_id from marts.customer_360_profile") == [("C10",)]


def test_where_there_are_none_none_are_made(warehouse: AudienceWarehouse) -> None:
    erase(settings_of(warehouse), "C1")
    assert not settings_of(warehouse).published_file.exists()


def test_who_looked_the_person_up_is_gone_from_the_log_and_what_waits_for_the_night(
    warehouse: AudienceWarehouse,
) -> None:
    log = settings_of(warehouse).screens_log_file
    asked = [("C1", "{}"), ("C10", "{}"), (None, json.dumps({"asked": GONE.lower()})), (None, json.dumps({"rows": 3}))]
    entry = {"happened_at": "2026-04-01 12:00:00", "reader": "r", "role": "service", "event": "look_up"}
    log.write_text(
        "".join(
            json.dumps({"event_id": str(uuid.UUID(int=number)), **entry, "customer_id": customer, "detail": detail})
            + "\n"
            for number, (customer, detail) in enumerate(asked)
        )
        + "C1 is in no entry\nC10 neither\n"
    )
    erased = erase(settings_of(warehouse), "C1")
    assert erased.tables["ops.screens_log"] == 2
    assert query(warehouse, "select customer_id, detail from ops.screens_log order by event_id") == [
        ("C10", "{}"),
        (None, '{"asked": "(erased)"}'),
        (None, '{"rows": 3}'),
    ]
    assert log.read_text() == ""
    rejected = log.with_name("screens_log.rejected.jsonl")
    assert rejected.read_text() == "C10 neither\n"
    assert erased.files[str(rejected)] == 1


@pytest.mark.parametrize(
    ("table", "column"), [("nights", "reason"), ("export_runs", "reason"), ("validation_results", "observed")]
)
def test_id_and_address_are_gone_from_why_something_failed(
    warehouse: AudienceWarehouse, table: str, column: str
) -> None:
    with warehouse.connect() as connection:
        connection.execute(
            f"insert into ops.{table} ({column}) values ('1 customers differ, for example C1'), ('C10'), (?)",
            [f"Could not convert string '{GONE.upper()}'"],
        )
    erase(settings_of(warehouse), "C1")
    assert query(warehouse, f"select {column} from ops.{table} where {column} is not null order by 1") == [
        ("1 customers differ, for example (erased)",),
        ("C10",),
        ("Could not convert string '(erased)'",),
    ]
