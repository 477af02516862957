"""How a local Airflow is set up: its home, its environment, its secrets, and that there is one per warehouse."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import socket
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

from include.customer_360.settings import Settings, SettingsError
from local import local_airflow
from local.local_airflow import (
    LocalAirflow,
    LocalAirflowError,
    home_of,
    is_taken,
    kept_secrets,
    running_state,
    ui_port,
    up,
    warehouse_name,
)


@pytest.fixture(autouse=True)
def _state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_airflow, "STATE_FOLDER", tmp_path / "state")


def settings(tmp_path: Path, warehouse_file: str = "w.duckdb", screens_port: int = 1) -> Settings:
    """Return settings with screens on a port that nothing listens on, unless another is given."""
    return Settings(
        warehouse_file=tmp_path / warehouse_file,
        export_root=str(tmp_path / "out"),
        screens_port=screens_port,
        _env_file=None,
    )


def airflow_in(tmp_path: Path, **more: object) -> LocalAirflow:
    airflow = LocalAirflow(settings(tmp_path), **more)
    airflow.home.mkdir(parents=True)
    return airflow


def test_two_warehouses_have_two_homes_and_one_always_the_same(tmp_path: Path) -> None:
    assert home_of(settings(tmp_path)) == home_of(settings(tmp_path))
    assert home_of(settings(tmp_path)) != home_of(settings(tmp_path, "other.duckdb"))


def test_settings_reach_the_processes_as_absolute_paths(tmp_path: Path) -> None:
    environment = airflow_in(tmp_path).environment(port=1234)

    assert environment["WAREHOUSE_FILE"] == str(tmp_path / "w.duckdb")
    assert environment["EXPORT_ROOT"] == str(tmp_path / "out")
    assert json.loads(environment["AIRFLOW_CONN_WAREHOUSE"]) == {
        "conn_type": "duckdb",
        "host": str(tmp_path / "w.duckdb"),
    }
    assert environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:1234/execution/"


@pytest.mark.parametrize(
    "name", ["AS_OF_DATE", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD", "AIRFLOW__CORE__UNIT_TEST_MODE"]
)
def test_a_date_and_another_airflows_settings_do_not_reach_the_processes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "2026-03-31")

    assert name not in airflow_in(tmp_path).environment(port=1234)


def test_the_given_environment_wins(tmp_path: Path) -> None:
    airflow = airflow_in(tmp_path, environment={"AIRFLOW__CORE__PARALLELISM": "3"})

    assert airflow.environment(port=1234)["AIRFLOW__CORE__PARALLELISM"] == "3"


@pytest.mark.parametrize(("by_the_clock", "limit"), [(False, "0"), (True, None)])
def test_scheduled_runs_start_only_where_they_are_asked_for(
    by_the_clock: bool, limit: str | None, tmp_path: Path
) -> None:
    environment = airflow_in(tmp_path, by_the_clock=by_the_clock).environment(port=1234)

    assert environment.get("AIRFLOW__SCHEDULER__MAX_DAGRUNS_TO_CREATE_PER_LOOP") == limit


def test_dbt_writes_the_events_of_each_start_to_a_file_of_their_own(tmp_path: Path) -> None:
    airflow = airflow_in(tmp_path)
    airflow.started = datetime.datetime(2026, 4, 1, 7, 0, tzinfo=datetime.UTC)
    first = airflow.environment(port=1)
    airflow.started = datetime.datetime(2026, 4, 1, 7, 0, 0, 1, tzinfo=datetime.UTC)

    assert first["DBT_LOG_PATH"] == f"{airflow.home}/logs/dbt/20260401T070000.000000"
    assert str(airflow.dbt_log) == f"{airflow.home}/logs/dbt/20260401T070000.000001/dbt.log"


def test_secrets_are_made_once_and_only_their_owner_can_read_them(tmp_path: Path) -> None:
    airflow = airflow_in(tmp_path)
    first, again = airflow.environment(port=1), airflow.environment(port=2)

    assert first["AIRFLOW__API_AUTH__JWT_SECRET"] == again["AIRFLOW__API_AUTH__JWT_SECRET"]
    assert len(first["AIRFLOW__API_AUTH__JWT_SECRET"]) >= 64
    for name in ("password.json", "secrets.json"):
        assert stat.S_IMODE((airflow.home / name).stat().st_mode) == 0o600


@contextlib.contextmanager
def running(of: Settings) -> Iterator[Path]:
    """Have it look as if an Airflow ran on this warehouse, as process 4711; gives its home."""
    home = home_of(of)
    home.mkdir(parents=True, exist_ok=True)
    with (home / "running.json").open("w+") as state:
        json.dump({"pid": 4711, "url": "http://127.0.0.1:8099", "warehouse": warehouse_name(of)}, state)
        state.flush()
        fcntl.flock(state, fcntl.LOCK_EX)
        yield home


def test_a_second_start_on_the_same_warehouse_is_refused_with_the_way_out(tmp_path: Path) -> None:
    airflow = LocalAirflow(settings(tmp_path))

    with (
        running(airflow.settings),
        pytest.raises(LocalAirflowError, match=r"pid 4711, http://127.0.0.1:8099.*make down"),
    ):
        airflow.start()


def test_a_second_make_up_shows_again_how_to_log_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(settings(tmp_path)) as home:
        password = kept_secrets(home / "password.json", ("admin",), size=12)["admin"]
        up(settings(tmp_path))

    assert capsys.readouterr().out.splitlines() == [
        f"Airflow is up already, on {tmp_path}/w.duckdb (pid 4711). `make down` stops it.",
        "  UI        http://localhost:8099",
        "  user      admin",
        f"  password  {password}",
    ]
    assert not (tmp_path / "w.duckdb").exists()


class Listener(BaseHTTPRequestHandler):
    """Says `ok` where Streamlit's server does, and nothing elsewhere."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/_stcore/health" else 404)
        self.end_headers()
        self.wfile.write(self.server.said)  # type: ignore[attr-defined]

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""


@contextlib.contextmanager
def listening(said: bytes) -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Listener) as server:
        server.said = said  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_make_up_says_where_the_screens_are_that_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with listening(b"ok") as port, running(settings(tmp_path, screens_port=port)):
        up(settings(tmp_path, screens_port=port))

    assert capsys.readouterr().out.splitlines()[-1] == f"  screens   http://localhost:{port}"


def test_make_up_does_not_take_something_else_on_that_port_for_the_screens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening(b"somebody else") as port, running(settings(tmp_path, screens_port=port)):
        up(settings(tmp_path, screens_port=port))

    assert "screens" not in capsys.readouterr().out


def run_command(monkeypatch: pytest.MonkeyPatch, of: Settings, *command: str) -> int:
    for name in ("warehouse", "warehouse_file", "export_root"):
        monkeypatch.setenv(name.upper(), str(getattr(of, name)))
    monkeypatch.setattr("sys.argv", ["local_airflow", *command])
    return local_airflow.main()


def test_make_down_names_the_airflow_that_runs_on_another_warehouse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(settings(tmp_path, "other.duckdb")):
        assert run_command(monkeypatch, settings(tmp_path), "down") == 0
    other = f"{tmp_path}/other.duckdb"

    assert capsys.readouterr().out == (
        f"No Airflow runs on {tmp_path}/w.duckdb. One runs on {other} (pid 4711, http://127.0.0.1:8099): "
        f"`WAREHOUSE_FILE={other} make down` stops it.\n"
    )
    assert run_command(monkeypatch, settings(tmp_path), "down") == 0
    assert capsys.readouterr().out == f"No Airflow runs on {tmp_path}/w.duckdb.\n"


def test_airflows_command_line_gets_the_environment_of_the_airflow_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executed: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr("os.execve", lambda _, command, environment: executed.append((command, environment)))
    monkeypatch.chdir(tmp_path)
    with running(settings(tmp_path)) as home:
        run_command(monkeypatch, settings(tmp_path), "airflow", "backfill", "create", "--dag-id", "x", "--dry-run")
        [(command, environment)] = executed
        expected = LocalAirflow(settings(tmp_path), by_the_clock=True).environment(8099)

    assert command[1:] == ["-m", "airflow", "backfill", "create", "--dag-id", "x", "--dry-run"]
    assert environment["AIRFLOW_HOME"] == str(home)
    changing = {"DBT_LOG_PATH"}
    assert {name: value for name, value in environment.items() if name not in changing} == {
        name: value for name, value in expected.items() if name not in changing
    }


def test_airflows_command_line_is_refused_where_no_airflow_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(settings(tmp_path, "other.duckdb")):
        assert run_command(monkeypatch, settings(tmp_path), "airflow", "dags", "list") == 1

    assert capsys.readouterr().err.startswith(
        f"No Airflow runs on {tmp_path}/w.duckdb: `make up` starts one, then run this again. One runs on "
        f"{tmp_path}/other.duckdb (pid 4711"
    )


def test_runs_that_an_earlier_end_cut_off_are_failed_and_named(tmp_path: Path) -> None:
    runs = [
        {
            "dag_id": "campaign_exports",
            "dag_run_id": "asset__1",
            "state": "queued",
            "partition_key": "2026-03-30",
            "conf": None,
        },
        {
            "dag_id": "customer_360_refresh",
            "dag_run_id": "manual__2",
            "state": "running",
            "partition_key": None,
            "conf": {"as_of_date": "2026-03-31"},
        },
    ]
    path = "dags/campaign_exports/dagRuns/asset__1", "dags/customer_360_refresh/dagRuns/manual__2"
    api = answering({"dags/~/dagRuns": {"dag_runs": runs}, path[0]: {}, path[1]: {}})

    assert airflow_in(tmp_path).fail_cut_off_runs(api) == [
        "campaign_exports of 2026-03-30 (asset__1) was queued when the Airflow before this one ended, and is failed "
        "now: its audiences may be missing. A new run of it exports what is published.",
        "customer_360_refresh of 2026-03-31 (manual__2) was running when the Airflow before this one ended, and is "
        "failed now: start a new run for that date.",
    ]


def test_what_a_killed_airflow_left_behind_is_not_taken_for_a_running_one(tmp_path: Path) -> None:
    airflow = airflow_in(tmp_path)
    (airflow.home / "running.json").write_text(json.dumps({"pid": 1, "url": "http://127.0.0.1:8080"}))

    assert running_state(airflow.home) is None


@pytest.mark.parametrize("value", ["abc", "0", "65536"])
def test_a_port_that_is_none_is_refused_by_name(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UP_PORT", value)

    with pytest.raises(SettingsError, match=f"UP_PORT='{value}'"):
        ui_port()


def test_a_port_in_use_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("UP_PORT", str(port))

        assert is_taken(port)
        with pytest.raises(SettingsError, match=f"UP_PORT={port} is taken"):
            ui_port()


STARTED = datetime.datetime(2026, 4, 1, 7, 0, tzinfo=datetime.UTC)
EARLIER, LATER = "2026-04-01T06:59:59.900000Z", "2026-04-01T07:00:00.100000Z"


@pytest.mark.parametrize(
    ("status", "heartbeat", "healthy"),
    [
        ("healthy", "2026-04-01T07:00:00.100000+00:00", True),
        ("healthy", "2026-04-01T06:59:59.900000+00:00", False),
        ("unhealthy", "2026-04-01T07:00:00.100000+00:00", False),
        ("unhealthy", None, False),
    ],
)
def test_a_scheduler_that_was_killed_is_not_taken_for_the_one_that_starts(
    status: str, heartbeat: str | None, healthy: bool, tmp_path: Path
) -> None:
    airflow = airflow_in(tmp_path)
    airflow.started = STARTED

    assert airflow.is_healthy("scheduler", {"status": status, "latest_scheduler_heartbeat": heartbeat}) is healthy


def test_an_import_error_of_an_earlier_start_is_not_reported_and_one_of_this_start_is(tmp_path: Path) -> None:
    airflow = airflow_in(tmp_path)
    airflow.started = STARTED
    errors = [{"filename": "old.py", "stack_trace": "mended", "timestamp": EARLIER}]
    api = answering({"importErrors": {"import_errors": errors}})

    airflow.check_imports(api)
    errors.append({"filename": "new.py", "stack_trace": "NameError: x", "timestamp": LATER})

    with pytest.raises(LocalAirflowError, match=r"^Airflow cannot import the Dags:\nnew.py:\nNameError: x$"):
        airflow.check_imports(api)


def test_dags_of_an_earlier_start_are_not_taken_for_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_airflow, "SECONDS_TO_START", 0.1)
    airflow = airflow_in(tmp_path)
    airflow.started = STARTED
    answers = {
        "importErrors": {"import_errors": []},
        "dags/customer_360_refresh": {"last_parsed_time": LATER},
        "dags/campaign_exports": {"last_parsed_time": EARLIER},
    }

    with pytest.raises(LocalAirflowError, match="did not appear within"):
        airflow.wait_until_parsed(answering(answers))
    answers["dags/campaign_exports"] = {"last_parsed_time": LATER}
    airflow.wait_until_parsed(answering(answers))


def answering(answers: dict[str, object]) -> httpx.Client:
    """Return a client of an API that gives these answers, by path."""
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=answers[request.url.path.lstrip("/")]))
    return httpx.Client(transport=transport, base_url="http://airflow/")
