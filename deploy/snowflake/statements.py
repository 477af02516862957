"""What the project sends to Snowflake, without sending it: what dbt compiles, what the operators give to a cursor."""

from __future__ import annotations

import datetime
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow.providers.common.sql.hooks.sql import DbApiHook
from airflow.sdk import DAG
from sqlparse import lexer, tokens

from deploy.snowflake.set_up import ENTERPRISE
from include.customer_360.assets import PUBLISHED
from include.customer_360.catalog import MANIFEST, PROFILE, Catalog, load_catalog
from include.customer_360.operators.audiences import (
    MASKED,
    NEEDED,
    DecideAudiencesOperator,
    ValidateAudiencesOperator,
)
from include.customer_360.operators.base import WarehouseOperator
from include.customer_360.operators.build import FAILED_TESTS
from include.customer_360.operators.export import ExportAudienceOperator
from include.customer_360.operators.export_log import COLUMNS, LogExportsOperator
from include.customer_360.operators.lineage import checks_of
from include.customer_360.operators.nights import LogNightOperator
from include.customer_360.operators.publish import DropRunSchemasOperator, PublishMartsOperator, WriteHistoryOperator
from include.customer_360.operators.validate import (
    RESULTS,
    KeepValidationResultsOperator,
    ValidateMartOperator,
    ValidateOperator,
    ValidateSourcesOperator,
)
from include.customer_360.ops_tables import ops_columns
from include.customer_360.settings import DBT_PROJECT, TEMPLATE_FOLDERS

DATABASE = "customer_360"
"""The database of the connection that the operators are given; none of their statements names it."""
READER, EXPORTER = f"{DATABASE}_reader", f"{DATABASE}_exporter"
"""The roles that a publication looks for among the grants."""
DBT_SECONDS = 600
EXPLAINED = re.compile(
    r"(select|with|insert|delete|update|merge)\b"
    r"|create\s+(or\s+replace\s+)?(transient\s+|temporary\s+)?table\s+(if\s+not\s+exists\s+)?\S+\s+as\b",
    re.IGNORECASE,
)
OF_A_RUN = ("intermediate", "marts")
"""The layers whose models are built in the schema of a run, and published into the schema of their name."""


# An operator tells its log what it has done, and here it does nothing.
_QUIET: Any = logging.getLogger(f"{__name__}.operators")
_QUIET.setLevel(logging.ERROR)


class NotCompiled(RuntimeError):
    """dbt did not compile; the message is the end of what it printed."""


@dataclass(frozen=True)
class Run:
    """The run for which statements are rendered.

    :param run_schema: where it would build its marts.
    :param as_of_date: YYYY-MM-DD.
    """

    run_schema: str
    as_of_date: str


@dataclass(frozen=True)
class Statement:
    """A statement, with the node of dbt or the task that sends it."""

    sender: str
    sql: str


class RecordingCursor:
    """Keeps what an operator executes, and answers what lets it go on."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.statements: list[str] = []
        self.turn: tuple[Any, ...] = ()

    @property
    def description(self) -> tuple[tuple[str], ...]:
        if self.statements[-1].startswith("show grants"):
            return (("privilege",), ("grantee_name",))
        return (("AS_OF_DATE",), ("CUSTOMER_ID",), ("LIFETIME_VALUE",))

    def execute(self, sql: str, parameters: Sequence[object] | None = None) -> None:
        if sql.startswith("merge into ops.publishing") and parameters:
            task_id, dag_run_id, as_of_date, run_schema, begun_at = map(str, parameters)
            days = datetime.date.fromisoformat(as_of_date), datetime.datetime.fromisoformat(begun_at)
            self.turn = (task_id, dag_run_id, days[0], run_schema, days[1])
        # The connector puts parameters in as literals.
        for value in parameters or ():
            sql = sql.replace("%s", _literal(value), 1)
        self.statements.append(sql)

    def executemany(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        self.execute(sql, rows[0])

    def fetchone(self) -> tuple[object]:
        statement = self.statements[-1]
        if "min(decided_at)" in statement:
            return (None,)
        if f"= '{MASKED}'" in statement:
            return (0,)
        return (datetime.date.fromisoformat(self.run.as_of_date) if "max(as_of_date)" in statement else 1,)

    def fetchmany(self, size: int) -> list[tuple[Any, ...]]:
        """Answer as an audience of nobody."""
        return []

    def fetchall(self) -> list[tuple[Any, ...]]:
        statement = self.statements[-1]
        as_of_date = datetime.date.fromisoformat(self.run.as_of_date)
        if statement.startswith("select mart, row_count"):
            return [(PROFILE, 1)]
        if statement.startswith("show grants"):
            return [("SELECT", READER), ("SELECT", EXPORTER)]
        if statement.startswith("select task_id, dag_run_id"):
            return [self.turn]
        if statement.startswith("select lower(table_name), lower(column_name)"):
            return self._columns_of_tables()
        if statement.startswith("select run_schema from ops.publishing"):
            return [("marts_run_unfinished",)]
        if statement.startswith("select publications.mart"):
            return [("metric_of_old", as_of_date)]
        if statement.startswith("select table_name, table_type"):
            return [(PROFILE.upper(), "BASE TABLE"), ("A_VIEW", "VIEW")]
        if statement.startswith("select max(as_of_date) from ops.export_runs"):
            return [(None,)]
        if statement.startswith("select status, count(*)"):
            return [("exported", 1)]
        if "as all_the_same" in statement:
            return [(2, 2, False, 2)]
        if any(found in statement for found in ("as median_entered_pct", "as entered\nfrom ops.audience_memberships")):
            return []
        if statement.startswith("select count(*), count(case"):
            return [(1,) * (1 + statement.count("case when"))]
        if statement.startswith("select distinct as_of_date"):
            return [(as_of_date,)]
        if statement.startswith("select results.run_schema"):
            return [(self.run.run_schema, as_of_date, "run_1", datetime.datetime(2026, 3, 31))]
        return [("check", "error", "observed", "expected", True)]

    def close(self) -> None:
        pass

    def _columns_of_tables(self) -> list[tuple[Any, ...]]:
        """Answer as a warehouse whose tables of schema ops, and history, lack their last column."""
        history = {"as_of_date": "date", "customer_id": "varchar", "lifetime_value": "decimal(18, 2)"}
        if "table_schema) = 'ops'" in self.statements[-1]:
            tables = {table: list(columns.items())[:-1] for table, columns in ops_columns().items()}
        elif "table_schema) = 'marts'" in self.statements[-1]:
            profile = [(name, "varchar") for name in NEEDED]
            tables = {"customer_360_history": list(history.items())[:-1], PROFILE: profile}
        else:
            tables = {"customer_360_history": list(history.items())}
        return [(table, name, kind, None, None) for table, columns in tables.items() for name, kind in columns]


def _literal(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return "'" + str(value).replace("'", "''") + "'"


class _Anything:
    """Holds whatever is looked for in it."""

    def __contains__(self, _: object) -> bool:
        return True


def validation(mart: str, run: Run, catalog: Catalog) -> ValidateMartOperator:
    """Return the operator that validates a mart, or `sources`; it belongs into a Dag."""
    drift = {model.name: model.drift for model in catalog.marts}
    return ValidateMartOperator(
        task_id=f"validate_{mart}",
        mart=mart,
        drift=drift.get(mart),
        run_schema=run.run_schema,
        as_of_date=run.as_of_date,
    )


def executed(operator: WarehouseOperator, run: Run) -> list[str]:
    """Return what an operator of a Dag with the project's templates executes."""
    cursor = RecordingCursor(run)
    hook = SimpleNamespace(
        get_conn=lambda: SimpleNamespace(cursor=lambda: cursor, close=lambda: None),
        split_sql_string=DbApiHook.split_sql_string,
        placeholder="%s",
    )
    operator._cached_logger = _QUIET
    operator.get_db_hook = lambda: hook  # type: ignore[method-assign,assignment,return-value]
    operator.resolve_template_files()
    operator.render_template_fields({"run_id": "run_1", "macros": SimpleNamespace(datetime=datetime.datetime)})
    if isinstance(operator, ExportAudienceOperator):
        with tempfile.TemporaryDirectory(prefix="exports-") as folder:
            operator.export_root = folder
            operator.execute({"dag_run": SimpleNamespace(run_id="run_1")})
        # As when nobody is eligible, and as when values are masked; here it is neither.
        operator._why_empty(cursor, {})
    elif isinstance(operator, LogExportsOperator):
        operator._write([(None,) * len(COLUMNS)], operator.campaigns)
    else:
        partitions = SimpleNamespace(add_partitions=lambda key: None)
        kept = ["run_1", "metric_customer_ltv", run.as_of_date, run.run_schema, "check", "error", "1", "1", True]
        failing = {"mart": "metric_customer_ltv", "check": "check", "severity": "error", "reason": "1", "keys": ["1"]}
        handed_on = {
            "dag_run_id": "run_1",
            "mart": "metric_customer_ltv",
            "rows": [[*kept, "2026-03-31"]],
            "failing": [failing],
        }
        xcoms: dict[str, Any] = {RESULTS: [handed_on], FAILED_TESTS: {}}
        failed = {"task_id": "publish", "state": "failed", "operator": "PublishMartsOperator", "duration": 1.0}
        ti = SimpleNamespace(
            xcom_push=lambda **_: None,
            xcom_pull=lambda key, **_: xcoms.get(key),
            get_task_breadcrumbs=lambda **_: [failed],
        )
        dag_run = SimpleNamespace(
            run_type=SimpleNamespace(value="scheduled"), start_date=datetime.datetime.now(datetime.UTC)
        )
        context: Any = {"outlet_events": {PUBLISHED: partitions}, "ti": ti, "dag_run": dag_run}
        operator.execute(context)
        if isinstance(operator, PublishMartsOperator):
            # As where OpenLineage is configured.
            checks_of(cursor, hook.placeholder, operator.dag_run_id)
        if isinstance(operator, ValidateOperator):
            # As when all that is about rows fails.
            cursor.execute(operator.render_sql(f"validations/{operator.mart}.sql", failing=_Anything()))
    return cursor.statements


def of_operators(run: Run, catalog: Catalog, edition: str = ENTERPRISE) -> dict[str, list[Statement]]:
    """Return what the operators of a run execute on Snowflake, in order, by group: validations, publish,
    audiences, exports.

    :param edition: STANDARD or ENTERPRISE.
    """
    of_date: dict[str, Any] = {"as_of_date": run.as_of_date}
    settings = {"run_schema": run.run_schema, **of_date}
    drift = {measure: limits for mart in catalog.marts for measure, limits in mart.drift.items()}
    marts = [mart.name for mart in catalog.marts]
    with _on_snowflake(edition), DAG("statements", schedule=None, template_searchpath=TEMPLATE_FOLDERS):
        groups: dict[str, list[WarehouseOperator]] = {
            "validations": [
                ValidateSourcesOperator(task_id="validate_sources", drift=drift, **settings),
                *(validation(mart, run, catalog) for mart in marts),
            ],
            "publish": [
                KeepValidationResultsOperator(
                    task_id="keep_validation_results", validations=marts, build="dbt_build", **settings
                ),
                WriteHistoryOperator(task_id="write_history", **settings),
                PublishMartsOperator(task_id="publish", published=catalog.published, **settings),
                DropRunSchemasOperator(task_id="drop_run_schemas", **settings),
                LogNightOperator(task_id="log_night", **of_date),
            ],
            "audiences": [
                DecideAudiencesOperator(task_id="decide_audiences", campaigns=catalog.campaigns, **of_date),
                ValidateAudiencesOperator(task_id="validate_audiences", campaigns=catalog.campaigns, **of_date),
                LogExportsOperator(task_id="log_exports", campaigns=catalog.campaigns, export_root="", **of_date),
            ],
            "exports": [
                ExportAudienceOperator(
                    task_id=f"export_{campaign.name}",
                    campaign=campaign,
                    destination=destination.name,
                    export_root="",
                    **of_date,
                )
                for campaign in catalog.campaigns
                for destination in campaign.destinations
            ],
        }
        return {
            group: [Statement(operator.task_id, sql) for operator in operators for sql in executed(operator, run)]
            for group, operators in groups.items()
        }


@contextmanager
def _on_snowflake(edition: str) -> Iterator[None]:
    """Have the settings say that the warehouse is Snowflake, and a connection that is never opened."""
    extra = {"account": "none", "database": DATABASE, "warehouse": "none", "private_key_file": "none"}
    variables = {"WAREHOUSE": "snowflake", "SNOWFLAKE_EDITION": edition, "READER_ROLE": READER}
    for conn_id, role in (("WAREHOUSE", "none"), ("WAREHOUSE_EXPORT", EXPORTER)):
        connection = {"conn_type": "snowflake", "login": "none", "extra": extra | {"role": role}}
        variables[f"AIRFLOW_CONN_{conn_id}"] = json.dumps(connection)
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def compile_project(environment: Mapping[str, str], run: Run, target: Path) -> Path:
    """Have dbt compile models and data tests for a run on target snowflake; return the manifest, with the SQL in it.

    It asks the account which tables there are, and builds nothing.

    :param environment: the variables that include/dbt/profiles.yml reads.
    :param target: a folder for what dbt writes.
    :raises NotCompiled: when it fails or takes longer than DBT_SECONDS, or there is nothing to log in with.
    """
    if not environment:
        raise NotCompiled("not asked: dbt's target snowflake logs in with a key only")
    command = [str(Path(sys.executable).with_name("dbt")), "--quiet", "compile", "--target=snowflake"]
    command += ["--exclude=resource_type:unit_test", f"--target-path={target}", f"--log-path={target}"]
    of_run = {"RUN_SCHEMA": run.run_schema, "AS_OF_DATE": run.as_of_date, "TEST_SCOPE": "touched", "NO_COLOR": "1"}
    try:
        done = subprocess.run(
            command,
            cwd=DBT_PROJECT,
            env=os.environ | {"WAREHOUSE": "snowflake"} | dict(environment) | of_run,
            capture_output=True,
            text=True,
            check=False,
            timeout=DBT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise NotCompiled(f"dbt compile took longer than {DBT_SECONDS} s.") from None
    if done.returncode != 0:
        said = " ".join((done.stdout + done.stderr).split())
        if secret := environment.get("SNOWFLAKE_PRIVATE_KEY_PASSPHRASE"):
            said = said.replace(secret, "***")
        raise NotCompiled(said[-400:] or f"dbt compile ended with exit code {done.returncode}.")
    return target / "manifest.json"


def of_dbt(manifest: Mapping[str, Any]) -> dict[str, list[Statement]]:
    """Return what dbt compiled by group: models, with the snapshots, and tests. Seeds have no SQL."""
    groups: dict[str, list[Statement]] = {"models": [], "tests": []}
    for node in manifest["nodes"].values():
        if node.get("compiled_code"):
            group = "tests" if node["resource_type"] == "test" else "models"
            groups[group].append(Statement(node["name"], node["compiled_code"]))
    return groups


def as_explained(sql: str) -> str:
    """Return a statement without comments; empty for one that explain does not take, such as a drop or a clone."""
    # By the lexer alone: the whole parser refuses a statement of more than 10,000 tokens, each blank one of them.
    parts = ("\n" if kind in tokens.Comment else text for kind, text in lexer.tokenize(sql))  # type: ignore[no-untyped-call]
    plain = "".join(parts).strip().rstrip(";")
    return plain if EXPLAINED.match(plain) else ""


def tables_of(manifest: Mapping[str, Any], run: Run) -> dict[tuple[str, str], str]:
    """Return every table and view that a run makes, by schema and name, with its columns as `create table` takes them.

    Those of OF_A_RUN twice: in the run's schema, and where they are published.
    """
    tables: dict[tuple[str, str], str] = {}
    for node in manifest["nodes"].values():
        if node["resource_type"] not in ("model", "seed", "snapshot"):
            continue
        columns = ", ".join(f"{name} {column['data_type']}" for name, column in node["columns"].items())
        layer = node["fqn"][1]
        schemas = (run.run_schema, layer) if layer in OF_A_RUN else (node["schema"],)
        tables |= {(schema.lower(), node["alias"].lower()): columns for schema in schemas}
    return tables


def on_others(sql: str, deployment: str, others: Mapping[tuple[str, str], str]) -> str:
    """Return the SQL with other tables in place of some, given by schema and name; the database may stand before."""
    if not others:
        return sql
    schemas, names = ("|".join(sorted({re.escape(key[part]) for key in others})) for part in (0, 1))
    # Neither the end of a longer name nor the beginning of one.
    named = re.compile(rf"(?<![\w.\"'])(?:{deployment}\.)?({schemas})\.({names})(?![\w\"'])", re.IGNORECASE)
    return named.sub(lambda found: others.get((found[1].lower(), found[2].lower()), found[0]), sql)


def read_manifest(file: Path = MANIFEST) -> tuple[dict[str, Any], Catalog]:
    """Return dbt's manifest, and the catalog that is in it.

    :raises CatalogError: when it is not there.
    """
    catalog = load_catalog(file)
    return dict(catalog.manifest), catalog
