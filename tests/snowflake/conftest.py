"""The same small sources in Snowflake, which is an emulator or a real account, and in DuckDB; an Airflow on each."""

from __future__ import annotations

import datetime
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import jinja2
import pytest
from airflow.providers.common.sql.hooks.sql import DbApiHook

from include.customer_360.ops_tables import ops_columns
from include.customer_360.settings import DBT_PROJECT, PROJECT_ROOT, SQL_TEMPLATES, Settings
from local.local_airflow import free_port
from local.sample import write_sample
from tests import forked_dbt
from tests.deployment import Deployment, deployed
from tests.snowflake.account import REAL_ACCOUNT, EmulatedAccount, SnowflakeAccount, real_account
from tests.snowflake.certificates import write_certificates

CUSTOMERS = 200
MONTHS = 8
LAST_DAY = datetime.date(2026, 3, 31)
DATABASE = "customer_360"
BY_HAND = "by_hand"
RUN_SCHEMA = "marts_run_20260330_0a1b2c3d"
SECONDS_TO_START = 60


class SnowflakeDeployment(Deployment):
    """An Airflow whose warehouse is Snowflake."""

    account: SnowflakeAccount

    def query(self, sql: str) -> list[tuple]:
        """Run SQL there."""
        return self.account.query(sql)


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DuckDB file with nothing but the sample in schema raw."""
    file = tmp_path_factory.mktemp("sources") / "sources.duckdb"
    write_sample(file, customers=CUSTOMERS, months=MONTHS, seed=42, as_of_date=LAST_DAY)
    return file


@pytest.fixture(scope="session")
def account(
    request: pytest.FixtureRequest, sources: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SnowflakeAccount]:
    """Snowflake, with the sources in two databases: an emulator, or a real account with --real-account."""
    if not request.config.getoption("--real-account", default=False):
        with emulator(sources, tmp_path_factory.mktemp("emulator")) as emulated:
            yield emulated
        return
    real = real_account()
    if real is None:
        pytest.skip(f"--real-account needs {', '.join(REAL_ACCOUNT)}")
    try:
        real.create_databases(sources)
        yield real
    finally:
        real.drop_databases()


@pytest.fixture
def ops_tables(account: SnowflakeAccount) -> Iterator[None]:
    """The tables of schema ops in database by_hand, empty, and gone afterwards."""
    templates = jinja2.Environment(loader=jinja2.FileSystemLoader(SQL_TEMPLATES))
    for sql in DbApiHook.split_sql_string(templates.get_template("publish/ops_tables.sql").render(drift=())):
        account.query(sql, account.by_hand)
    yield
    for table in ops_columns():
        account.query(f"drop table ops.{table}", account.by_hand)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--real-account", action="store_true", help="use the account of the SNOWFLAKE_ variables")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse more than one process on a real account: each would make databases of its own there."""
    if config.getoption("--real-account", default=False) and config.getoption("dist", default="no") != "no":
        raise pytest.UsageError("--real-account runs in one process: leave out -n and --dist")


@contextmanager
def emulator(sources: Path, folder: Path) -> Iterator[EmulatedAccount]:
    """Start an emulator with everything of it in `folder`, and end it."""
    databases = folder / "databases"
    databases.mkdir()
    for database in (DATABASE, BY_HAND):
        copy_as_snowflake_names_it(sources, databases / f"{database.upper()}.db")
    write_certificates(folder)
    port, statements = free_port(), folder / "statements.jsonl"
    parameters = {
        "account": "fakesnow",
        "user": "customer_360_airflow",
        "private_key_file": str(folder / "user.p8"),
        "role": "customer_360_transformer",
        "warehouse": "customer_360_transform",
        "host": "127.0.0.1",
        "port": port,
        "session_parameters": {"CLIENT_OUT_OF_BAND_TELEMETRY_ENABLED": False},
    }
    command = [sys.executable, "-m", "tests.snowflake.emulator", "--folder", str(databases), "--port", str(port)]
    command += ["--certificates", str(folder), "--statements", str(statements)]
    log = folder / "emulator.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + SECONDS_TO_START
        while not listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The emulator did not start:\n{log.read_text()}")
            time.sleep(0.1)
        yield EmulatedAccount(parameters, DATABASE, BY_HAND, folder, statements)
    finally:
        # Asked to end it would wait for the connections that clients keep open.
        process.kill()
        process.wait()


def copy_as_snowflake_names_it(sources: Path, database: Path) -> None:
    """Copy schema raw into a new DuckDB file with its names in upper case, as Snowflake keeps what is not quoted."""
    with duckdb.connect() as connection:
        connection.execute(f"attach '{sources}' as sources (read_only)")
        connection.execute(f"attach '{database}' as copy")
        connection.execute("create schema copy.RAW")
        for table in ("customers", "transactions"):
            described = connection.execute(f"describe sources.raw.{table}").fetchall()
            columns = ", ".join(f"{name} as {name.upper()}" for name, *_ in described)
            connection.execute(f"create table copy.RAW.{table.upper()} as select {columns} from sources.raw.{table}")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def on_snowflake(account: SnowflakeAccount, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SnowflakeDeployment]:
    """An Airflow on Snowflake."""
    settings = Settings(warehouse="snowflake", export_root=str(tmp_path_factory.mktemp("exports")), _env_file=None)
    with deployed(settings, account.environment, SnowflakeDeployment) as deployment:
        deployment.account = account
        yield deployment


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where dbt on the command line leaves what it compiles."""
    return tmp_path_factory.mktemp("target")


def dbt(account: SnowflakeAccount, target: Path, *arguments: str) -> str:
    """Run dbt as the Dag does, in a run schema; it has to succeed. Return what it printed."""
    environment = account.dbt_environment | {"RUN_SCHEMA": RUN_SCHEMA}
    done = run_dbt(environment, target, *arguments, "--target=snowflake")
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def run_dbt(
    environment: dict[str, str], target: Path, *arguments: str, project: Path = DBT_PROJECT
) -> subprocess.CompletedProcess[str]:
    """Run dbt for a date of the sources, with everything that it writes to disk in `target`."""
    return forked_dbt.run_dbt(
        *(*arguments, f"--target-path={target}", f"--log-path={target}"),
        environment={"AS_OF_DATE": "2026-03-30", "RUN_SCHEMA": "", "NO_COLOR": "1", **environment},
        project=project,
    )


@pytest.fixture(scope="session")
def first_build(account: SnowflakeAccount, target: Path) -> str:
    """A build of everything from nothing."""
    return dbt(account, target, "build", "--exclude-resource-type", "unit_test")


@pytest.fixture(scope="session")
def second_build(account: SnowflakeAccount, target: Path, first_build: str) -> str:
    """A build after one customer's limit was raised and one transaction was corrected downwards to one cent."""
    account.query(
        "update raw.customers set credit_limit = credit_limit + 1000, updated_at = '2026-03-29 10:00:00' "
        "where customer_id = 'CUST00000001'",
        account.by_hand,
    )
    account.query(
        "insert into raw.transactions "
        "select transaction_id, customer_id, transaction_date, '0.01', merchant_name, merchant_category, channel, "
        "status, cast('2026-04-02 10:00:00' as timestamp), null from core.fct_transactions "
        "where customer_id = 'CUST00000001' and status = 'approved' order by transaction_date, transaction_id limit 1",
        account.by_hand,
    )
    return dbt(account, target, "build", "--exclude-resource-type", "unit_test")
