"""The commands of the README and docs/, run as a person does: in order, in one shell, in one copy of the project."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import duckdb

from tests.project_copy import copy_project, files_of

QUERY = (
    """.venv/bin/python -c "import duckdb; duckdb.connect('data/published.duckdb', read_only=True)"""
    """.sql('select * from marts.customer_360_profile limit 5').show()\""""
)
BACKFILL = "backfill create --dag-id customer_360_refresh --from-date 2026-03-01 --to-date 2026-04-01"
ON_MAKE_UP = f'make airflow ARGS="{BACKFILL}"'
ADD_CONNECTIONS = (
    'make airflow ARGS="connections add alerts_smtp --conn-type smtp --conn-host smtp.example.com --conn-port 587 '
    r"""--conn-extra '{\"from_email\": \"airflow@example.com\", \"to\": \"data-engineering@example.com\", """
    r"""\"disable_ssl\": true}'"""
    '"',
    'make airflow ARGS="connections add alerts_slack --conn-type slackwebhook --conn-host '
    'https://hooks.slack.com/services --conn-password T0/B0/key"',
    'make airflow ARGS="connections add alerts_http --conn-type http --conn-host '
    'https://alerts.example.com/hooks/customer-360"',
)
ERASE = "make erase CUSTOMER=CUST00000001"
SUPPRESS = "make suppress FILE=suppressions.csv"
LOAD_FILES = "make load CUSTOMERS_FILE=customers.csv TRANSACTIONS_FILE=transactions.parquet"
BACKED_UP, RESTORED = (f"make {verb} FILE=data/backups/monday.duckdb" for verb in ("backup", "restore"))
COPIED_BY_HAND = (
    """python3 -c "import duckdb, shutil; c = duckdb.connect('data/warehouse.duckdb'); """
    """c.execute('force checkpoint'); shutil.copyfile('data/warehouse.duckdb', 'data/by_hand.duckdb')\""""
)
SCAFFOLDING = (
    "make new-metric NAME=recent_share",
    "make new-campaign NAME=winback",
    "make new-campaign NAME=everyone TEMPLATE=1",
)
# In this order.
COMMANDS = (
    "make help",
    "make snowflake-setup DRY_RUN=1",
    "make rooms",
    "make semantics",
    "make test-fast",
    *SCAFFOLDING,
    "CUSTOMERS=2000 make refresh",
    QUERY,
    "make up",
    ON_MAKE_UP,
    *ADD_CONNECTIONS,
    "make down",
    ERASE,
    LOAD_FILES,
    SUPPRESS,
    "AS_OF_DATE=2024-12-31 make refresh",
    BACKED_UP,
    RESTORED,
    "source .venv/bin/activate",
    COPIED_BY_HAND,
    "cd include/dbt",
    "mkdir -p ~/.customer-360 && chmod 700 ~/.customer-360",
    "openssl genrsa 2048 | openssl pkcs8 -topk8 -v2 aes-256-cbc -inform PEM -out ~/.customer-360/airflow.p8",
    "openssl rsa -in ~/.customer-360/airflow.p8 -pubout -out ~/.customer-360/airflow.pub",
    "openssl genrsa 2048 | openssl pkcs8 -topk8 -v2 aes-256-cbc -inform PEM -out ~/.customer-360/export.p8",
    "openssl rsa -in ~/.customer-360/export.p8 -pubout -out ~/.customer-360/export.pub",
    r"airflow_key=$(grep -v -e ----- ~/.customer-360/airflow.pub | tr -d '\n')",
    r"export_key=$(grep -v -e ----- ~/.customer-360/export.pub | tr -d '\n')",
    """echo "alter user customer_360_airflow set rsa_public_key = '$airflow_key';\"""",
    """echo "alter user customer_360_export set rsa_public_key = '$export_key';\"""",
    "openssl genrsa 2048 | openssl pkcs8 -topk8 -v2 aes-256-cbc -inform PEM -out customer_360_airflow.p8",
    "openssl rsa -in customer_360_airflow.p8 -pubout -out customer_360_airflow.pub",
    """export AIRFLOW__OPENLINEAGE__TRANSPORT='{"type": "http", "url": "https://lineage.example.com"}'""",
    r"grep -v 'PUBLIC KEY' customer_360_airflow.pub | tr -d '\n'",
)
# What a test needs besides: fewer months, tests that are listed and not run, an end of `make up`.
ADDED = {
    "make test-fast": "PYTEST_ADDOPTS='--collect-only -q' make test-fast",
    "CUSTOMERS=2000 make refresh": "CUSTOMERS=2000 MONTHS=9 make refresh",
    "make up": "UP_PORT= make up",
    # Which dates it would be; then `make up` again, and `make down` for another warehouse. Nothing is left running.
    ON_MAKE_UP: (
        f'(make airflow ARGS="{BACKFILL} --dry-run" && UP_PORT= make up && '
        "WAREHOUSE_FILE=data/other.duckdb make down) || (make down && false)"
    ),
}
PASSPHRASE = "of a test"


class Shell:
    """One bash with a terminal of its own, as a person has it; it answers when a passphrase is asked for."""

    def __init__(self, folder: Path, home: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MAKE"))}
        environment |= {
            "HOME": str(home),
            "PS1": "",
            "TERM": "dumb",
            "VIRTUAL_ENV_DISABLE_PROMPT": "1",
            "CUSTOMERS": "200",
            "MONTHS": "9",
        }
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe("bash", ["bash", "--norc", "--noediting"], environment)
        self.run("stty -echo; set -o pipefail")

    def run(self, command: str, seconds: float = 200) -> str:
        """Run a command; return what it printed.

        :raises AssertionError: with what it printed, when it failed or did not end in time.
        """
        # In one line: the next one would be taken for a passphrase.
        os.write(self.terminal, f'{command}; echo "ended:$?:"\n'.encode())
        printed, answered, deadline = "", 0, time.monotonic() + seconds
        while not (ended := re.search(r"ended:(\d+):\r?\n", printed)):
            assert time.monotonic() < deadline, f"{command} did not end within {seconds} s:\n{printed[-3000:]}"
            if select.select([self.terminal], [], [], 1)[0]:
                printed += os.read(self.terminal, 65536).decode(errors="replace")
            if len(re.findall(r"(?i)(?:password|pass phrase)[^\n]*:", printed)) > answered:
                answered += 1
                os.write(self.terminal, f"{PASSPHRASE}\n".encode())
        assert ended[1] == "0", f"{command} ended with {ended[1]}:\n{printed[-3000:]}"
        return printed[: ended.start()].replace("\r\n", "\n")

    def close(self) -> None:
        """End the shell and what it started."""
        os.kill(self.pid, signal.SIGHUP)
        os.close(self.terminal)
        os.waitpid(self.pid, 0)


@dataclass(frozen=True)
class DocumentedRun:
    """What the commands left: their copy of the project, and what each printed.

    files_before and files_after are the hashes of the project's files around the scaffolding commands; first_data is
    what was in data/ after the first refresh, before the load of other files.
    """

    project: Path
    printed: dict[str, str]
    files_before: dict[str, str]
    files_after: dict[str, str]
    first_data: Path


def run_documented(folder: Path) -> DocumentedRun:
    """Run COMMANDS in a copy of the project, with the files that the pages load."""
    project = copy_project(folder / "project")
    home, first_data = folder / "home", folder / "first_data"
    home.mkdir()
    files_before = files_of(project)
    files_after: dict[str, str] = {}
    printed = {}
    shell = Shell(project, home)
    try:
        for command in COMMANDS:
            printed[command] = shell.run(ADDED.get(command, command))
            if command == SCAFFOLDING[-1]:
                files_after = files_of(project)
                write_files_to_load(project)
            elif command == "make down":
                shutil.copytree(project / "data", first_data)
    finally:
        shell.close()
    return DocumentedRun(project, printed, files_before, files_after, first_data)


def write_files_to_load(project: Path) -> None:
    """Write what `make load` and `make suppress` take."""
    (project / "customers.csv").write_text("customer_id,account_open_date\nC1,2020-01-01\nC2,2021-01-01\n")
    (project / "suppressions.csv").write_text("email,reason,from,until\nada@example.com,unsubscribed,2024-11-26,\n")
    duckdb.sql(
        "select * from (values ('T1', 'C1', date '2024-12-30', 10.50), ('T2', 'C2', date '2024-12-31', 20.00)) "
        "as transactions (transaction_id, customer_id, transaction_date, transaction_amount)"
    ).write_parquet(str(project / "transactions.parquet"))
