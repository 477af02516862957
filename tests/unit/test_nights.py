"""What a run leaves in ops.nights and ops.night_steps, and how the log of the screens gets into the warehouse."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from airflow.sdk import DAG
from airflow.sdk.api.datamodels._generated import DagRunType
from airflow.sdk.exceptions import AirflowFailException

from include.customer_360.failures import WHY
from include.customer_360.operators import screens_log
from include.customer_360.operators.build import NODES
from include.customer_360.operators.nights import LogNightOperator
from include.customer_360.operators.started import STARTED, keep_start
from include.customer_360.operators.watch import DbtNodeWatcherOperator
from include.customer_360.settings import TEMPLATE_FOLDERS, load_settings
from tests.unit.audience_warehouse import AudienceWarehouse, profile

BUILD = "dbt_build.dbt_producer_watcher"
NODE = "model.customer_analytics.dim_date"
MIDNIGHT = datetime.datetime(2026, 4, 1, 7, tzinfo=datetime.UTC)
EVENT = "0b8f5d0e-6d0f-4b1c-9e0a-3f1f6a3c1d1"


@pytest.fixture(scope="module")
def with_ops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with the tables of ops, and one published profile."""
    made = AudienceWarehouse(tmp_path_factory.mktemp("made") / "warehouse.duckdb")
    made.publish(profile("C1"))
    return made.file


@pytest.fixture
def file(tmp_path: Path, with_ops: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, of this test alone."""
    file = tmp_path / "warehouse.duckdb"
    monkeypatch.setenv("WAREHOUSE_FILE", str(file))
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "duckdb", "host": str(file)}))
    shutil.copyfile(with_ops, file)
    return file


class Run:
    """A run whose tasks have ended: what Airflow tells of them, and what they left."""

    def __init__(self, *crumbs: tuple[str, str, float | None], run_id: str = "scheduled__1") -> None:
        self.run_id = run_id
        self.crumbs = [
            {"task_id": task_id, "map_index": -1, "state": state, "operator": "any", "duration": seconds}
            for task_id, state, seconds in crumbs or [("publish", "success", 1.0)]
        ]
        self.xcoms: dict[tuple[str, str], Any] = {}

    def began(self, task_id: str, seconds: float) -> Run:
        """Have a task begin so many seconds after the run."""
        self.xcoms[task_id, STARTED] = (MIDNIGHT + datetime.timedelta(seconds=seconds)).isoformat()
        return self

    def left(self, task_id: str, key: str, value: object) -> Run:
        """Have a task leave an XCom."""
        self.xcoms[task_id, key] = value
        return self

    def log(self, as_of_date: str = "2026-03-31") -> int:
        """Log it, as its task log_night does."""
        with DAG("customer_360_refresh", schedule=None, template_searchpath=TEMPLATE_FOLDERS):
            DbtNodeWatcherOperator(task_id="dbt_build.dim_date", unique_id=NODE, producer_task_id=BUILD)
            operator = LogNightOperator(task_id="log_night", as_of_date=as_of_date, dag_run_id=self.run_id)
        ti = SimpleNamespace(
            get_task_breadcrumbs=lambda dag_id, run_id: self.crumbs,
            xcom_pull=lambda task_ids, key: self.xcoms.get((task_ids, key)),
        )
        dag_run = SimpleNamespace(run_type=DagRunType.SCHEDULED, start_date=MIDNIGHT)
        return operator.execute({"ti": ti, "dag_run": dag_run, "refuse": refuse})


def refuse() -> None:
    raise AirflowFailException("as_of_date 2099-01-01 is not over yet")


def read(file: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(file)) as connection:
        return connection.execute(sql).fetchall()


NIGHT = "select as_of_date::varchar, run_type, state, started_at, published, failed_task, reason from ops.nights"


def test_a_night_that_went_well_is_a_row(file: Path) -> None:
    Run(("publish", "success", 1.0), ("run_again", "skipped", None)).log()
    began = datetime.datetime(2026, 4, 1, 7)
    assert read(file, NIGHT) == [("2026-03-31", "scheduled", "success", began, False, None, None)]
    assert read(file, "select dag_id, dag_run_id, ended_at > started_at from ops.nights") == [
        ("customer_360_refresh", "scheduled__1", True)
    ]


def test_it_published_when_there_is_a_publication_of_it_whatever_became_of_the_task(file: Path) -> None:
    Run(("publish", "failed", 1.0)).log()
    read(file, "insert into ops.publications (dag_run_id) values ('scheduled__1')")
    Run(("publish", "failed", 1.0)).log()
    assert read(file, "select state, published from ops.nights") == [("failed", True)]


def test_a_failed_night_names_the_task_that_failed_first_and_its_reason(file: Path) -> None:
    run = Run(
        (BUILD, "failed", 30.0),
        ("dbt_build.dim_date", "failed", 29.0),
        ("keep_validation_results", "failed", 2.0),
        ("publish", "upstream_failed", None),
    )
    run.began(BUILD, 10).began("keep_validation_results", 45)
    run.left(BUILD, WHY, {"reason": "dim_date: 250003: no answer"}).log()
    assert [row[2:] for row in read(file, NIGHT)] == [
        ("failed", datetime.datetime(2026, 4, 1, 7), False, BUILD, "dim_date: 250003: no answer")
    ]


def test_a_run_that_failed_before_there_was_a_table_is_a_night(file: Path) -> None:
    file.unlink()
    duckdb.connect(str(file)).close()
    Run(("check_export_root", "failed", 1.0)).log()
    assert read(file, "select state, failed_task from ops.nights") == [("failed", "check_export_root")]


def test_a_killed_task_has_a_reason_too(file: Path) -> None:
    Run(("publish", "failed", None)).log()
    [(task, reason)] = read(file, "select failed_task, reason from ops.nights")
    assert (task, reason.split(",")[0]) == ("publish", "it was killed")


def test_what_a_warehouse_quotes_of_a_row_is_no_part_of_the_reason(file: Path) -> None:
    said = "Conversion Error: Could not convert string 'ada@example.com' to INT32"
    Run(("publish", "failed", 1.0)).left("publish", WHY, {"reason": said}).log()
    assert read(file, "select reason from ops.nights") == [
        ("Conversion Error: Could not convert string '...' to INT32",)
    ]


def test_each_task_that_ended_is_a_step_a_node_of_the_build_with_the_seconds_of_dbt(file: Path) -> None:
    run = Run(
        ("publish", "success", 1.5),
        ("run_again", "skipped", None),
        ("dbt_build.dim_date", "success", 29.0),
        ("log_night", "success", 0.5),
    ).began("publish", 60)
    node = {"status": "success", "message": "OK", "started_at": "2026-04-01T07:00:05.500000", "seconds": 0.2}
    run.left(BUILD, NODES, {NODE: node}).log()
    assert read(
        file, "select * exclude (dag_run_id) replace (seconds::double as seconds) from ops.night_steps order by task_id"
    ) == [
        (
            datetime.date(2026, 3, 31),
            "dbt_build.dim_date",
            "success",
            datetime.datetime(2026, 4, 1, 7, 0, 5, 500000),
            0.2,
        ),
        (datetime.date(2026, 3, 31), "publish", "success", datetime.datetime(2026, 4, 1, 7, 1), 1.5),
        (datetime.date(2026, 3, 31), "run_again", "skipped", None, None),
    ]


def test_a_run_that_is_cleared_and_ends_again_is_one_row(file: Path) -> None:
    Run(("publish", "failed", 1.0)).log()
    Run(("publish", "success", 1.0)).log()
    assert read(file, "select state from ops.nights") == [("success",)]
    assert read(file, "select state from ops.night_steps") == [("success",)]


def test_a_run_that_asked_for_a_date_that_cannot_be_built_is_a_night_without_one(file: Path) -> None:
    Run(("validate_sources", "failed", 1.0)).log(as_of_date="{{ refuse() }}")
    assert read(file, "select as_of_date, state from ops.nights") == [(None, "failed")]
    assert read(file, "select as_of_date, task_id from ops.night_steps") == [(None, "validate_sources")]


def test_nights_and_entries_of_the_log_are_removed_after_their_days(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Run(("publish", "success", 1.0), run_id="old").log()
    read(file, "update ops.nights set ended_at = ended_at - interval 401 day")
    read(file, "insert into ops.screens_log (event_id, happened_at) values ('old', now()::timestamp - interval 8 day)")
    monkeypatch.setenv("KEEP_SCREENS_LOG_DAYS", "0")
    Run(("publish", "success", 1.0)).log()
    assert read(file, "select dag_run_id from ops.nights") == [("scheduled__1",)]
    assert read(file, "select dag_run_id from ops.night_steps") == [("scheduled__1",)]
    assert read(file, "select event_id from ops.screens_log") == [("old",)]
    monkeypatch.setenv("KEEP_SCREENS_LOG_DAYS", "7")
    Run(("publish", "success", 1.0)).log()
    assert read(file, "from ops.screens_log") == []


def test_when_a_task_began_is_left_for_the_log_of_the_night() -> None:
    pushed: dict[str, str] = {}
    keep_start({"ti": SimpleNamespace(start_date=MIDNIGHT, xcom_push=lambda key, value: pushed.update({key: value}))})
    assert pushed == {STARTED: "2026-04-01T07:00:00+00:00"}


# The copy


def test_readers_of_the_copy_see_a_failed_night_beside_the_marts_of_the_one_before(
    file: Path,
) -> None:
    Run(("publish", "upstream_failed", None), ("validate_sources", "failed", 1.0)).log("2026-04-01")
    with duckdb.connect() as connection:
        connection.execute(f"attach '{load_settings().published_file}' as copy (read_only)")
        assert connection.execute("select as_of_date::varchar, state from copy.marts.nights").fetchall() == [
            ("2026-04-01", "failed")
        ]
        assert connection.execute("select count(*) from copy.marts.night_steps").fetchall() == [(2,)]
        assert connection.execute("select customer_id from copy.marts.customer_360_profile").fetchall() == [("C1",)]


def test_a_copy_that_cannot_be_written_fails_no_night(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (file.parent / "readers").touch()
    monkeypatch.setenv("PUBLISHED_FILE", str(file.parent / "readers" / "published.duckdb"))
    Run(("publish", "success", 1.0)).log()
    assert read(file, "select state from ops.nights") == [("success",)]
    assert "[warning  ] The marts of 2026-03-31 are published in the warehouse, but " in capsys.readouterr().out


# The log of the screens


def entry(number: int = 1, **values: object) -> dict[str, object]:
    """Return an entry as the screens write it, with `values` instead of its own."""
    return {
        "event_id": f"{EVENT}{number}",
        "happened_at": "2026-04-01 12:00:00.500000",
        "reader": "ada@bank.example",
        "role": "marketing",
        "event": "look_up",
        "customer_id": "C1",
        "detail": json.dumps({"rows": 1}),
    } | values


def write(*lines: object) -> Path:
    """Append entries, or texts, to the log."""
    file = load_settings().screens_log_file
    with file.open("a") as log:
        log.writelines(line + "\n" if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    return file


def events(file: Path) -> Sequence[str]:
    return [event for (event,) in read(file, "select event_id from ops.screens_log order by 1")]


def test_a_night_takes_the_entries_and_empties_the_file(file: Path) -> None:
    log = write(entry(1), entry(2, event="list_export", customer_id=None, happened_at="2026-04-01T08:00:00-04:00"))
    assert Run().log() == 2
    assert read(file, "from ops.screens_log order by event_id") == [
        (
            *(f"{EVENT}1", datetime.datetime(2026, 4, 1, 12, 0, 0, 500000), "ada@bank.example", "marketing"),
            *("look_up", "C1", '{"rows": 1}'),
        ),
        (
            *(f"{EVENT}2", datetime.datetime(2026, 4, 1, 12), "ada@bank.example", "marketing"),
            *("list_export", None, '{"rows": 1}'),
        ),
    ]
    assert log.read_text() == ""
    write(entry(3))
    assert Run().log() == 1
    assert len(events(file)) == 3


def test_a_night_that_is_killed_between_the_commit_and_the_emptying_doubles_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = write(entry(1), "no entry")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(screens_log, "_empty", killed)
        with pytest.raises(KeyboardInterrupt):
            Run().log()
    assert events(file) == [f"{EVENT}1"]
    assert log.read_text() != ""
    write(entry(2))
    assert Run().log() == 1
    assert events(file) == [f"{EVENT}1", f"{EVENT}2"]
    assert log.with_name("screens_log.rejected.jsonl").read_text() == "no entry\n"


def test_a_row_without_an_id_keeps_no_entry_out_of_the_table(file: Path) -> None:
    read(file, "insert into ops.screens_log (event_id, reader) values (null, 'by hand')")
    log = write(entry(1))
    assert Run().log() == 1
    assert events(file) == [f"{EVENT}1", None]
    assert log.read_text() == ""


def test_a_log_whose_entries_did_not_all_reach_the_table_stays_and_is_named(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write(entry(1), entry(2))
    before = log.read_text()
    insert = screens_log._insert
    monkeypatch.setattr(screens_log, "_insert", lambda cursor, entries: insert(cursor, entries[:1]))
    assert Run().log() == 0
    assert log.read_text() == before
    assert read(file, "select state from ops.nights") == [("success",)]
    said = " ".join(capsys.readouterr().out.split())
    assert (
        f"[warning ] 1 of 2 entries of {log} are not in ops.screens_log, for example {EVENT}2: the file stays" in said
    )


BROKEN = [
    '{"event_id": ',
    "[]",
    json.dumps({key: value for key, value in entry().items() if key != "reader"}),
    json.dumps(entry(note="more than there is")),
    json.dumps(entry(event_id="1")),
    json.dumps(entry(event="deleted")),
    json.dumps(entry(happened_at="yesterday")),
    json.dumps(entry(detail="{")),
    json.dumps(entry(customer_id=1)),
]


def test_lines_that_are_no_entries_are_kept_beside_it_and_named(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write(entry(1), *BROKEN, entry(2))
    assert Run().log() == 2
    rejected = log.with_name("screens_log.rejected.jsonl")
    assert rejected.read_text().splitlines() == BROKEN
    assert rejected.stat().st_mode & 0o777 == 0o600
    said = capsys.readouterr().out
    assert f"[warning  ] {len(BROKEN)} of {len(BROKEN) + 2} lines of {log} are no entries" in said
    assert f"they are kept in {rejected}." in said


def test_a_log_that_cannot_be_read_waits_and_fails_no_night(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_settings().screens_log_file.mkdir()
    assert Run().log() == 0
    assert read(file, "select state from ops.nights") == [("success",)]
    assert "cannot be taken into ops.screens_log" in capsys.readouterr().out


def test_nobody_else_reads_the_log_in_the_copy(file: Path) -> None:
    write(entry())
    Run().log()
    with duckdb.connect() as connection:
        connection.execute(f"attach '{load_settings().published_file}' as copy (read_only)")
        found = connection.execute("select table_name from duckdb_tables() where database_name = 'copy'").fetchall()
    assert ("nights",) in found
    assert ("screens_log",) not in found


def test_on_snowflake_the_file_is_none_of_ours(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    log = write(entry())
    monkeypatch.setenv("WAREHOUSE", "snowflake")
    assert screens_log.take_screens_log(None, load_settings(), print) == 0
    assert log.read_text() != ""
