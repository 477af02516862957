"""A PostgreSQL server of its own, for the tests that restart Airflow's metadata database."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from local.local_airflow import free_port

PLACES = ("/usr/lib/postgresql", "/usr/local/lib/postgresql", "/opt/homebrew/opt")


def programs() -> Path | None:
    """Return the folder with initdb and pg_ctl; None where there is no PostgreSQL."""
    on_path = shutil.which("pg_ctl")
    found = [Path(on_path).parent] if on_path else []
    found += [file.parent for place in PLACES for file in sorted(Path(place).glob("*/bin/pg_ctl"), reverse=True)]
    return next((folder for folder in found if (folder / "initdb").exists()), None)


@dataclass(frozen=True)
class PostgresServer:
    """A server on a port of the loopback address, whose data lies in a folder."""

    programs: Path
    data: Path
    port: int

    @property
    def uri(self) -> str:
        """Return the URI of its database, as SQLAlchemy takes it."""
        return f"postgresql+psycopg2://airflow@127.0.0.1:{self.port}/postgres"

    def control(self, *arguments: str) -> None:
        """Run pg_ctl and wait until it has done what it was asked."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        command = [str(self.programs / "pg_ctl"), "-D", str(self.data), "-w", "-o", options]
        subprocess.run(
            [*command, "-l", str(self.data.with_suffix(".log")), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            user=_user(),
            cwd="/",
        )

    def crash_and_restart(self) -> None:
        """End it as a crash does, in the middle of all transactions, and start it again."""
        self.control("restart", "-m", "immediate")


def _user() -> str | None:
    """Return whose process it has to be: root it refuses."""
    return "postgres" if os.geteuid() == 0 else None


@contextmanager
def postgres_server(programs: Path) -> Iterator[PostgresServer]:
    """Run a server with an empty database, until the end of the body."""
    # Not below pytest's folder, which only its user may enter.
    with tempfile.TemporaryDirectory(prefix="postgres-of-tests-") as name:
        folder = Path(name)
        if user := _user():
            shutil.chown(folder, user)
        server = PostgresServer(programs, folder / "data", free_port())
        initdb = [str(programs / "initdb"), "-D", str(server.data), "-U", "airflow", "-A", "trust", "--no-sync"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, user=user, cwd="/")
        server.control("start")
        try:
            yield server
        finally:
            server.control("stop", "-m", "immediate")
