"""The four processes of a local Airflow under one parent, which ends them together.

A component on its own spends most of its start on imports, so Airflow is imported once, here, and every component is a
fork. What tasks import, dbt and Cosmos first of all, is imported before the scheduler is forked: tasks are its forks.
Started by local_airflow.py, which decides the environment. Ends on SIGTERM, or with the process that started it.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import gc
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn, TextIO

import psutil

# In the environment of everything started here, with the home as its value: how left-overs are told from others.
HOME_MARKER = "CUSTOMER_360_AIRFLOW_HOME"
DATABASE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
ADDRESS_IN_USE = 75
SECONDS_TO_END = 2.0
RESTARTS = 30
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
START_SCHEDULER = signal.SIGUSR1

ARGUMENTS = {
    "api-server": ["api-server"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
FIRST_IMPORTS = ("airflow.__main__", "airflow.api_fastapi.app")
LATER_IMPORTS = (
    "airflow.cli.commands.scheduler_command",
    "airflow.cli.commands.dag_processor_command",
    "airflow.cli.commands.triggerer_command",
    "airflow.executors.local_executor",
    "airflow.sdk.execution_time.task_runner",
    "airflow.sdk.execution_time.timeout",
    "airflow.providers.common.io.assets.file",
    "airflow.providers.duckdb.hooks.duckdb",
    "airflow.providers.standard.operators.trigger_dagrun",
    "airflow.providers.standard.sensors.external_task",
    "cosmos.airflow.task_group",
    "cosmos.operators.watcher",
    "cosmos.profiles",
    "dbt.cli.main",
    "dbt.adapters.duckdb",
    "duckdb",
    "upath.implementations.local",
)


def last_lines(log: Path, count: int = 15) -> str:
    """Return the last lines of a log file, indented; empty when there is none."""
    if not log.is_file():
        return ""
    with log.open(errors="replace") as lines:
        return "".join(f"    {line}" for line in deque(lines, count))


def end_with(parent: int) -> None:
    """Have Linux send this process SIGTERM when the one that started it is gone; elsewhere the next start clears up."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1: PR_SET_PDEATHSIG
        if os.getppid() != parent:
            sys.exit("The process that started this one has ended.")


def processes_of(home: Path) -> list[psutil.Process]:
    """Return the other processes that carry this home's mark."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(HOME_MARKER) == str(home):
                found.append(process)
    return found


def kill(processes: Iterable[psutil.Process]) -> None:
    """Kill these processes, as far as they still run."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def kill_all_of(home: Path) -> None:
    """Kill the processes of this home, whichever of them started which, and wait until they are gone."""
    while left := processes_of(home):
        kill(left)
        time.sleep(0.05)


def migrate(database: str) -> None:
    """Create this metadata database, or bring it to Airflow's version.

    :param database: its URI, as SQLAlchemy takes it.
    :raises RuntimeError: with the last of what Airflow printed, when it cannot.
    """
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        env=os.environ | {DATABASE: database},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"airflow db migrate failed on {database}, status {done.returncode}:\n{done.stdout[-3000:]}")


def sqlite_uri(file: Path) -> str:
    """Return the URI of a metadata database that is a file."""
    return f"sqlite:///{file}?timeout=60"


def prepare_database(home: Path, template: Path) -> None:
    """Give a new home a copy of an empty metadata database, and bring an older home's to Airflow's version.

    Creating a database takes seconds, copying one nothing. A database on a server is created there, or upgraded.

    :param template: the empty database; its name holds Airflow's version. Made here when it is not there.
    :raises RuntimeError: when a database cannot be made or upgraded.
    """
    elsewhere = os.environ.get(DATABASE, "")
    if elsewhere and not elsewhere.startswith("sqlite:"):
        migrate(elsewhere)
        return
    if not template.is_file():
        part = template.with_suffix(f".{os.getpid()}")
        migrate(sqlite_uri(part))
        part.rename(template)
    database = home / "airflow.db"
    migrated = home / f"{template.stem}.migrated"
    if not database.exists():
        part = database.with_suffix(".part")
        shutil.copyfile(template, part)
        part.rename(database)
    elif not migrated.exists():
        migrate(sqlite_uri(database))
    migrated.touch()


def run_component(name: str, log: Path, supervisor: int) -> NoReturn:
    """Be the component `name`, in a process just forked, with its output in `log`; never returns."""
    status = 1
    try:
        for number in (*ENDING_SIGNALS, START_SCHEDULER):
            signal.signal(number, signal.SIG_DFL)
        end_with(supervisor)
        with log.open("ab") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        if name == "api-server":
            importlib.import_module("airflow.api_fastapi.main")
        gc.freeze()
        gc.enable()
        sys.argv = ["airflow", *ARGUMENTS[name]]
        sys.modules["airflow.__main__"].main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        # The top of a process: the traceback is the component's last word in its log.
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def fork_component(name: str, logs: Path) -> int:
    """Start the component `name` and return its process id."""
    if threading.active_count() > 1:
        raise RuntimeError(f"{name} cannot be forked: threads run already: {threading.enumerate()}")
    supervisor = os.getpid()
    return os.fork() or run_component(name, logs / f"{name}.log", supervisor)


def supervise(home: Path, template: Path, parent: int | None, as_a_service: bool) -> int:
    """Start the components and wait until one of them, the parent or a signal ends it; return the exit status.

    The scheduler waits for START_SCHEDULER: it would go on with whatever the API has not closed yet.

    :param as_a_service: a component that ended is started again after a second, as a service manager does, until that
        was tried RESTARTS times.
    """
    asked_to_end: list[int] = []
    asked_to_schedule: list[int] = []
    for number in ENDING_SIGNALS:
        signal.signal(number, lambda signum, _: asked_to_end.append(signum))
    signal.signal(START_SCHEDULER, lambda signum, _: asked_to_schedule.append(signum))
    if parent is not None:
        end_with(parent)
    kill_all_of(home)
    logs = home / "logs" / "components"
    logs.mkdir(parents=True, exist_ok=True)
    for log in logs.glob("*.log"):
        log.unlink()

    gc.disable()
    prepare_database(home, template)
    for module in FIRST_IMPORTS:
        importlib.import_module(module)
    sys.modules["airflow.providers_manager"].ProvidersManager().initialize_providers_configuration()
    running: dict[int, str] = {}
    restarts = 0
    ended: tuple[str, int] | None = None
    try:
        # The API server is the slowest to start, and goes first.
        for name in ("api-server", "dag-processor", "triggerer"):
            if asked_to_end:
                break
            running[fork_component(name, logs)] = name
            if name == "api-server":
                for module in LATER_IMPORTS:
                    importlib.import_module(module)
        while not asked_to_end and ended is None:
            if asked_to_schedule and "scheduler" not in running.values():
                running[fork_component("scheduler", logs)] = "scheduler"
                gc.enable()
            time.sleep(0.1)
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid in running:
                name, code = running.pop(pid), os.waitstatus_to_exitcode(status)
                if as_a_service and not asked_to_end and restarts < RESTARTS:
                    restarts += 1
                    time.sleep(1 if code >= 0 else 0)
                    running[fork_component(name, logs)] = name
                else:
                    ended = name, code
    finally:
        end_all(home, running)
    if ended is None:
        return 0
    name, status = ended
    tail = last_lines(logs / f"{name}.log")
    (home / "failure.txt").write_text(f"{name} ended by itself with status {status}. Its last lines:\n{tail}")
    return ADDRESS_IN_USE if name == "api-server" and "address already in use" in tail else 1


def end_all(home: Path, running: dict[int, str]) -> None:
    """Ask the components to end, wait a little, then kill what is left."""
    for pid, name in running.items():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if name == "scheduler":
                # It would wait for its tasks to finish.
                kill(psutil.Process(pid).children(recursive=True))
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + SECONDS_TO_END
    while running and time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            running.pop(os.waitpid(-1, os.WNOHANG)[0], None)
        time.sleep(0.05)
    kill_all_of(home)


def take_lock(file: TextIO) -> None:
    """Lock the file for as long as this process lives.

    :raises BlockingIOError: when another process has it, for longer than it takes to look whether one has.
    """
    for _ in range(10):
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.1)
    return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def main() -> NoReturn:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--template", type=Path, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--warehouse", required=True)
    parser.add_argument("--parent", type=int)
    parser.add_argument("--as-a-service", action="store_true")
    options = parser.parse_args()
    with (options.home / "running.json").open("a+") as running:
        take_lock(running)
        running.truncate(0)
        json.dump({"pid": os.getpid(), "url": options.url, "warehouse": options.warehouse}, running)
        running.flush()
        status = 1
        try:
            status = supervise(options.home, options.template, options.parent, options.as_a_service)
        except Exception:
            (options.home / "failure.txt").write_text(traceback.format_exc())
        finally:
            # Taking all that was imported apart would take seconds.
            os._exit(status)


if __name__ == "__main__":
    main()
