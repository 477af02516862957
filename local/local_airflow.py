"""A real Airflow on this machine: scheduler, dag-processor, triggerer and API server on loopback.

Its state is kept under .airflow/, in one home per warehouse, so that what was left over of a run on another warehouse
never goes on against this one. `up` leaves it running with the UI, `down` stops it, `airflow` runs Airflow's command
line against it; a refresh starts and stops its own.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import fcntl
import hashlib
import importlib.metadata
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import httpx

from include.customer_360.settings import (
    ALERT_CONNECTIONS,
    NOBODY_IS_TOLD,
    POOL,
    POOL_SLOTS,
    PROJECT_ROOT,
    Settings,
    SettingsError,
    load_settings,
)
from local.airflow_components import ADDRESS_IN_USE, HOME_MARKER, START_SCHEDULER, kill_all_of, last_lines, sqlite_uri
from local.sample import make_sample, needs_sample
from local.sources import WarehouseError

STATE_FOLDER = PROJECT_ROOT / ".airflow"
USER = "admin"
DAG_IDS = ("customer_360_refresh", "campaign_exports")
# What to do about a run that was cut off.
MADE_UP_BY = {
    "customer_360_refresh": "start a new run for that date.",
    "campaign_exports": "its audiences may be missing. A new run of it exports what is published.",
}
SECONDS_TO_START = 300
SECONDS_TO_STOP = 20
UI_PORT = 8080
# A run's date is the run's own, and without bytecode on disk every import takes twice as long.
NOT_INHERITED = ("AIRFLOW_HOME", "AS_OF_DATE", "PYTHONDONTWRITEBYTECODE")


class LocalAirflowError(RuntimeError):
    """The local Airflow did not start, did not stay up, or runs already; the message says what to do."""


def home_of(settings: Settings) -> Path:
    """Return the folder with the state of the Airflow that works on this warehouse."""
    file_or_connection = os.environ.get("AIRFLOW_CONN_WAREHOUSE", "")
    if settings.warehouse == "duckdb":
        file_or_connection = str(settings.warehouse_file)
    return STATE_FOLDER / hashlib.sha256(f"{settings.warehouse} {file_or_connection}".encode()).hexdigest()[:10]


def warehouse_name(settings: Settings) -> str:
    """Return how the warehouse is called: the DuckDB file, or snowflake."""
    return str(settings.warehouse_file) if settings.warehouse == "duckdb" else settings.warehouse


def free_port() -> int:
    """Return a port of the loopback address that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_taken(port: int) -> bool:
    """Tell whether something listens on this port of the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False


def kept_secrets(file: Path, names: tuple[str, ...], size: int) -> dict[str, str]:
    """Return the secrets in a file that only its owner can read; made up, `size` random bytes each, when not there."""
    if not file.exists():
        made_up = {name: secrets.token_urlsafe(size) for name in names}
        part = file.with_suffix(".part")
        part.touch(mode=0o600)
        part.write_text(json.dumps(made_up))
        part.rename(file)
    return json.loads(file.read_text())


def running_state(home: Path) -> dict | None:
    """Return pid, url and warehouse of the Airflow that runs in this home, or None."""
    with contextlib.suppress(FileNotFoundError), (home / "running.json").open() as running:
        # What is left in the file counts only while the process that wrote it has it locked.
        try:
            fcntl.flock(running, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return json.load(running)
    return None


def elsewhere(home: Path) -> str:
    """Return the Airflows that run in other homes than this one, and how to reach each, as sentences; else nothing."""
    found = ""
    for other in sorted(STATE_FOLDER.glob("*/")):
        if other != home and (running := running_state(other)):
            warehouse = running["warehouse"]
            name = "WAREHOUSE" if warehouse == "snowflake" else "WAREHOUSE_FILE"
            found += (
                f" One runs on {warehouse} (pid {running['pid']}, {running['url']}): "
                f"`{name}={warehouse} make down` stops it."
            )
    return found


def refuse_second(home: Path) -> None:
    """Do nothing while no Airflow runs in this home.

    :raises LocalAirflowError: when one does.
    """
    if running := running_state(home):
        raise LocalAirflowError(
            f"Airflow runs already on {running['warehouse']} (pid {running['pid']}, {running['url']}). "
            "`make down` stops it."
        )


class LocalAirflow:
    """One Airflow, on one warehouse; used as a context manager, it is stopped at the end, however that comes.

    :param port: of the API server and the UI; None takes a free one.
    :param detached: it outlives the process that started it, until `make down`.
    :param by_the_clock: scheduled runs start when they are due.
    :param as_a_service: as where a service manager keeps it: a component that ended is started again, and the
        runs that an earlier start left under way go on.
    :param environment: more variables for its processes, which win over those decided here.
    :param say: is told what people should know of its start.
    """

    def __init__(
        self,
        settings: Settings,
        port: int | None = None,
        detached: bool = False,
        by_the_clock: bool = False,
        as_a_service: bool = False,
        environment: Mapping[str, str] | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.settings = settings
        self.home = home_of(settings)
        self.port = port
        self.detached = detached
        self.by_the_clock = by_the_clock
        self.as_a_service = as_a_service
        self.extra_environment = dict(environment or {})
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.warehouse = warehouse_name(settings)
        self.say = say
        self.password = ""
        self.started = datetime.datetime.now(datetime.UTC)

    def __enter__(self) -> LocalAirflow:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def dbt_log(self) -> Path:
        """Return the file to which the dbt builds of this start write their events, one JSON object per line."""
        return self.home / "logs" / "dbt" / f"{self.started:%Y%m%dT%H%M%S.%f}" / "dbt.log"

    def environment(self, port: int) -> dict[str, str]:
        """Return the whole environment of its processes."""
        # Another Airflow's settings on this machine are not ours: its metadata database least of all.
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("AIRFLOW__") and name not in NOT_INHERITED
        }
        keys = kept_secrets(self.home / "secrets.json", ("api", "jwt"), size=64)
        self.password = kept_secrets(self.home / "password.json", (USER,), size=12)[USER]
        url = f"http://127.0.0.1:{port}"
        sections: dict[str, dict[str, object]] = {
            "core": {
                "dags_folder": PROJECT_ROOT / "dags",
                "plugins_folder": PROJECT_ROOT / "plugins",
                "load_examples": False,
                "executor": "LocalExecutor",
                "parallelism": 16,
                "dags_are_paused_at_creation": False,
                "simple_auth_manager_users": f"{USER}:admin",
                "simple_auth_manager_passwords_file": self.home / "password.json",
                "execution_api_server_url": f"{url}/execution/",
                "hostname_callable": "socket.gethostname",
                "fernet_key": "",
            },
            "api": {
                "host": "127.0.0.1",
                "port": port,
                "base_url": f"http://localhost:{port}",
                "secret_key": keys["api"],
                "workers": 1,
                "maximum_page_limit": 1000,
            },
            "api_auth": {"jwt_secret": keys["jwt"]},
            "database": {
                "sql_alchemy_conn": sqlite_uri(self.home / "airflow.db"),
                # Done once, before they start, instead of by each component.
                "check_migrations": False,
            },
            "logging": {"base_log_folder": self.home / "logs", "colored_console_log": False},
            "scheduler": {
                # Of one core, its idle loop takes 22 % at 0.1 s and 6 % at 0.5 s.
                "scheduler_idle_sleep_time": 0.5,
                # None by the clock, which leaves those that an asset starts.
                **({} if self.by_the_clock else {"max_dagruns_to_create_per_loop": 0}),
            },
            "dag_processor": {"min_file_process_interval": 86400, "refresh_interval": 86400},
            "cosmos": {
                "enable_watcher_reliable_retry": False,
                "enable_telemetry": False,
                "cache_dir": self.home / "cosmos",
            },
        }
        own: dict[str, object] = {
            f"AIRFLOW__{section}__{option}".upper(): value
            for section, options in sections.items()
            for option, value in options.items()
        }
        own |= {
            "AIRFLOW_HOME": self.home,
            HOME_MARKER: self.home,
            "PYTHONPATH": os.pathsep.join([str(PROJECT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "NO_PROXY": ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1,localhost"])),
            # Process titles must not overwrite the environment, by which left-over processes are found.
            "SPT_NOENV": 1,
            "DO_NOT_TRACK": 1,
            "DBT_LOG_PATH": self.dbt_log.parent,
            "DBT_LOG_FORMAT_FILE": "json",
            "DBT_LOG_LEVEL_FILE": "info",
            "WAREHOUSE": self.settings.warehouse,
            "WAREHOUSE_FILE": self.settings.warehouse_file,
            "PUBLISHED_FILE": self.settings.published_file,
            "WAREHOUSE_MEMORY": self.settings.warehouse_memory,
            "WAREHOUSE_LOCK_WAIT": self.settings.warehouse_lock_wait,
            "EXPORT_ROOT": self.settings.export_root,
        }
        if self.settings.warehouse == "duckdb":
            connection = {"conn_type": "duckdb", "host": str(self.settings.warehouse_file)}
            own["AIRFLOW_CONN_WAREHOUSE"] = json.dumps(connection)
        return inherited | {name: str(value) for name, value in own.items()} | self.extra_environment

    def start(self) -> None:
        """Start the processes, without waiting for them.

        :raises LocalAirflowError: when one runs already on this warehouse.
        """
        refuse_second(self.home)
        (self.home / "logs").mkdir(parents=True, exist_ok=True)
        (self.home / "failure.txt").unlink(missing_ok=True)
        self.started = datetime.datetime.now(datetime.UTC)
        port = self.port or free_port()
        self.url = f"http://127.0.0.1:{port}"
        version = importlib.metadata.version("apache-airflow-core")
        command = [sys.executable, "-m", "local.airflow_components"]
        command += ["--home", str(self.home), "--template", str(STATE_FOLDER / f"empty-{version}.db")]
        command += ["--url", self.url, "--warehouse", self.warehouse]
        if not self.detached:
            command += ["--parent", str(os.getpid())]
        if self.as_a_service:
            command.append("--as-a-service")
        with (self.home / "logs" / "supervisor.log").open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=PROJECT_ROOT,
                env=self.environment(port),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def check(self) -> None:
        """Do nothing while it runs.

        :raises LocalAirflowError: with the last lines of the component that ended, when it runs no more.
        """
        if self.process is None or self.process.poll() is None:
            return
        failure = self.home / "failure.txt"
        last = failure.read_text() if failure.exists() else last_lines(self.home / "logs" / "supervisor.log")
        raise LocalAirflowError(
            f"Airflow ended (status {self.process.returncode}). {last}\nIts logs are in {self.home / 'logs'}"
        )

    def wait_until_healthy(self) -> None:
        """Wait until every component works and the Dags are parsed.

        The scheduler is started last: it finds the pools set, the Dags as they are now, and no run of an earlier start.

        :raises LocalAirflowError: naming what does not work, when a component ends or the time is up.
        """
        self.wait_for("metadatabase")
        with self.client() as client:
            self.set_pools(client)
            if not self.as_a_service:
                for cut_off in self.fail_cut_off_runs(client):
                    self.say(cut_off)
            if not self.tells_somebody(client):
                self.say(NOBODY_IS_TOLD)
            self.wait_until_parsed(client)
        self.check()
        if self.process:
            self.process.send_signal(START_SCHEDULER)
        self.wait_for("metadatabase", "dag_processor", "triggerer", "scheduler")

    def wait_for(self, *parts: str) -> None:
        """Wait until the API server answers and reports that these parts of Airflow work.

        :param parts: as /monitor/health names them.
        :raises LocalAirflowError: naming what does not work, when a component ends or the time is up.
        """
        deadline = time.monotonic() + SECONDS_TO_START
        clashes = 0
        unhealthy = ["api-server"]
        with httpx.Client(trust_env=False, timeout=60) as client:
            while time.monotonic() < deadline:
                if self.process and self.process.poll() == ADDRESS_IN_USE and not self.port and clashes < 3:
                    clashes += 1
                    self.start()
                self.check()
                with contextlib.suppress(httpx.HTTPError):
                    health = client.get(f"{self.url}/api/v2/monitor/health").json()
                    unhealthy = [part for part in parts if not self.is_healthy(part, health[part])]
                    if not unhealthy:
                        # The first call makes the API server build this part, for seconds: not while a task waits.
                        client.get(f"{self.url}/execution/health/ping")
                        return
                time.sleep(0.3)
        name = unhealthy[0].replace("_", "-")
        log = self.home / "logs" / "components" / f"{name}.log"
        raise LocalAirflowError(
            f"Airflow's {name} did not start within {SECONDS_TO_START} s. Its last lines, of {log}:\n{last_lines(log)}"
        )

    def is_news(self, timestamp: str | None) -> bool:
        """Tell whether what the API reports for this moment is of this start."""
        return timestamp is not None and datetime.datetime.fromisoformat(timestamp) >= self.started

    def is_healthy(self, part: str, health: dict[str, str | None]) -> bool:
        """Tell whether a part of Airflow works, by /monitor/health and in this start.

        For half a minute the API reports a component that was killed as healthy.
        """
        heard = part == "metadatabase" or self.is_news(health[f"latest_{part}_heartbeat"])
        return health["status"] == "healthy" and heard

    def set_pools(self, client: httpx.Client) -> None:
        """Give the pools that the Dags name their slots, whatever they had.

        :raises LocalAirflowError: when Airflow refuses one.
        """
        pools: list[dict[str, Any]] = [
            {"name": name, "slots": slots, "description": description, "include_deferred": False}
            for name, slots, description in (
                (POOL, POOL_SLOTS, "Tasks that open the warehouse"),
                ("core_load", 1, "The load of core: one at a time"),
            )
        ]
        actions = [{"action": "create", "entities": pools, "action_on_existence": "overwrite"}]
        refused = client.patch("pools", json={"actions": actions}).raise_for_status().json()["create"]["errors"]
        if refused:
            raise LocalAirflowError(f"Airflow did not set the pools {', '.join(p['name'] for p in pools)}: {refused}")

    def fail_cut_off_runs(self, client: httpx.Client) -> list[str]:
        """End, as failed, the runs that were under way when an earlier Airflow of this home ended.

        :return: for each of them what was cut off, and what makes up for it.
        """
        states: dict[str, Any] = {"state": ["queued", "running"], "limit": 1000}
        cut_off = []
        for run in client.get("dags/~/dagRuns", params=states).raise_for_status().json()["dag_runs"]:
            path = f"dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}"
            client.patch(path, json={"state": "failed"}).raise_for_status()
            date = run["partition_key"] or (run["conf"] or {}).get("as_of_date")
            cut_off.append(
                f"{run['dag_id']}{f' of {date}' if date else ''} ({run['dag_run_id']}) was {run['state']} when the "
                f"Airflow before this one ended, and is failed now: {MADE_UP_BY.get(run['dag_id'], 'start it again.')}"
            )
        return cut_off

    def tells_somebody(self, client: httpx.Client) -> bool:
        """Tell whether there is a connection by which people are told of failures: a variable, or in the database."""
        given = os.environ | self.extra_environment
        return any(
            f"AIRFLOW_CONN_{name.upper()}" in given or client.get(f"connections/{name}").is_success
            for name in ALERT_CONNECTIONS
        )

    def client(self) -> httpx.Client:
        """Return a client of the REST API, logged in; paths count from /api/v2/."""
        with httpx.Client(base_url=self.url, trust_env=False, timeout=30) as login:
            answer = login.post("/auth/token", json={"username": USER, "password": self.password}).raise_for_status()
        token = answer.json()["access_token"]
        return httpx.Client(
            base_url=f"{self.url}/api/v2/",
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
            timeout=60,
        )

    def check_imports(self, client: httpx.Client) -> None:
        """Do nothing while every Dag file can be imported.

        :raises LocalAirflowError: with the errors, when one cannot.
        """
        errors = client.get("importErrors").raise_for_status().json()["import_errors"]
        # Those of an earlier start stay until their file is parsed again.
        errors = [error for error in errors if self.is_news(error["timestamp"])]
        if errors:
            shown = "\n".join(f"{error['filename']}:\n{error['stack_trace']}" for error in errors)
            raise LocalAirflowError(f"Airflow cannot import the Dags:\n{shown}")

    def wait_until_parsed(self, client: httpx.Client) -> None:
        """Wait until the Dags are parsed as they are now, and have them not paused.

        :raises LocalAirflowError: with the import errors, or when a Dag did not come.
        """
        deadline = time.monotonic() + SECONDS_TO_START
        while time.monotonic() < deadline:
            self.check()
            self.check_imports(client)
            answers = [client.get(f"dags/{dag_id}") for dag_id in DAG_IDS]
            if all(answer.is_success and self.is_news(answer.json()["last_parsed_time"]) for answer in answers):
                for dag_id in DAG_IDS:
                    client.patch(f"dags/{dag_id}", json={"is_paused": False}).raise_for_status()
                return
            time.sleep(0.3)
        log = self.home / "logs" / "components" / "dag-processor.log"
        raise LocalAirflowError(
            f"The Dags {', '.join(DAG_IDS)} did not appear within {SECONDS_TO_START} s; last lines of {log}:\n"
            f"{last_lines(log)}"
        )

    def stop(self) -> None:
        """Stop every process of it, tasks included; Ctrl-C does not cut this short."""
        if self.process is None:
            return
        with interrupts_ignored():
            self.process.terminate()
            try:
                self.process.wait(SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            kill_all_of(self.home)
        self.process = None


@contextlib.contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Ignore Ctrl-C for as long as it takes to clear up."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def ui_port() -> int:
    """Return the port for `make up`: UP_PORT, else 8080, else a free one.

    :raises SettingsError: when UP_PORT is no port, or taken.
    """
    asked = os.environ.get("UP_PORT", "")
    if not asked:
        if not is_taken(UI_PORT):
            return UI_PORT
        other = free_port()
        print(f"Port {UI_PORT} is taken: using {other}. UP_PORT=... make up chooses another.")
        return other
    if not asked.isdecimal() or not 0 < int(asked) < 65536:
        raise SettingsError(f"UP_PORT={asked!r} is no port: give a number from 1 to 65535.")
    if is_taken(int(asked)):
        raise SettingsError(f"UP_PORT={asked} is taken on 127.0.0.1: choose another.")
    return int(asked)


def up(settings: Settings) -> None:
    """Start Airflow, leave it running, and print how to log in; a new warehouse gets the sample.

    Where one runs already, only how to log in to it is printed.
    """
    home = home_of(settings)
    if running := running_state(home):
        print(f"Airflow is up already, on {running['warehouse']} (pid {running['pid']}). `make down` stops it.")
        print_log_in(home, running["url"])
        print_screens(settings)
        return
    without_sources = needs_sample(settings, home)
    airflow = LocalAirflow(settings, port=ui_port(), detached=True, by_the_clock=True)
    print("Starting Airflow ...", flush=True)
    airflow.start()
    try:
        if without_sources:
            sample = make_sample(settings)
            print(f"Sample data: {sample.customers:,} customers, {sample.transactions:,} transactions", flush=True)
        airflow.wait_until_healthy()
    except BaseException:
        airflow.stop()
        raise
    print(f"Airflow is up, on {airflow.warehouse}. `make down` stops it.")
    print_log_in(home, airflow.url)
    print_screens(settings)


def print_log_in(home: Path, url: str) -> None:
    """Print address, user and password of the Airflow that runs in this home."""
    print(f"  UI        {url.replace('127.0.0.1', 'localhost')}")
    print(f"  user      {USER}")
    print(f"  password  {kept_secrets(home / 'password.json', (USER,), size=12)[USER]}")


def print_screens(settings: Settings) -> None:
    """Print where the screens are, when `make app` has them running on this machine."""
    port = settings.screens_port
    # What else listens there does not say so.
    with contextlib.suppress(httpx.HTTPError):
        if httpx.get(f"http://127.0.0.1:{port}/_stcore/health", timeout=2, trust_env=False).text == "ok":
            print(f"  screens   http://localhost:{port}")


def run_airflow(settings: Settings, arguments: Sequence[str]) -> NoReturn:
    """Become Airflow's command line, in the environment of the Airflow that runs on this warehouse.

    :raises LocalAirflowError: when none runs: what the command would ask for, nobody would carry out.
    """
    home = home_of(settings)
    running = running_state(home)
    if running is None:
        raise LocalAirflowError(
            f"No Airflow runs on {warehouse_name(settings)}: `make up` starts one, then run this again."
            f"{elsewhere(home)}"
        )
    environment = LocalAirflow(settings, by_the_clock=True).environment(int(running["url"].rsplit(":", 1)[1]))
    os.chdir(PROJECT_ROOT)
    os.execve(sys.executable, [sys.executable, "-m", "airflow", *arguments], environment)


def down(home: Path) -> bool:
    """Stop the Airflow of this home and wait until it has ended; False when none is running.

    :raises LocalAirflowError: when it does not end.
    """
    running = running_state(home)
    if running is None:
        return False
    os.kill(running["pid"], signal.SIGTERM)
    deadline = time.monotonic() + SECONDS_TO_STOP
    while running_state(home):
        if time.monotonic() > deadline:
            raise LocalAirflowError(f"Airflow (pid {running['pid']}) did not end within {SECONDS_TO_STOP} s.")
        time.sleep(0.1)
    print(f"Airflow on {running['warehouse']} is stopped.")
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="leave Airflow running")
    of_down = commands.add_parser("down", help="stop it")
    of_down.add_argument("--all", action="store_true", help="stop those on other warehouses too")
    of_airflow = commands.add_parser("airflow", help="run Airflow's command line", add_help=False)
    of_airflow.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    try:
        settings = load_settings()
        if options.command == "up":
            up(settings)
        elif options.command == "airflow":
            run_airflow(settings, options.arguments)
        elif options.all:
            if not sum(down(home) for home in STATE_FOLDER.glob("*/")):
                print("No Airflow is running.")
        elif not down(home := home_of(settings)):
            print(f"No Airflow runs on {warehouse_name(settings)}.{elsewhere(home)}")
    except (SettingsError, LocalAirflowError, WarehouseError, ValueError) as problem:
        print(problem, file=sys.stderr)
        return 1
    except httpx.HTTPError as problem:
        print(f"Airflow's API server did not do what was asked: {problem!r}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted: everything that was started is stopped.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
