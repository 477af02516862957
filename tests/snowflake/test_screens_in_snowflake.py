"""What the screens ask Snowflake, by Snowflake's own connector: the same answers as of the published copy.

The copy is the small one of tests/screens, whose figures are worked out by hand; the emulator has its tables in schema
marts, as tables and views of a publication have them there.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
import snowflake.connector
import streamlit as st
from streamlit.testing.v1 import AppTest

from app import published, reader, screens_log
from app.published import NotReadable, PublishedCopy, SnowflakeMarts, open_copy
from app.reader import CHOSEN, Reader
from app.roles import Roles, load_roles
from app.screens_log import NotLogged
from include.customer_360.semantics import Filter, load_semantics
from include.customer_360.settings import PROJECT_ROOT, Settings
from tests.screens.small_copy import make_copy
from tests.snowflake.account import EmulatedAccount
from tests.snowflake.asked_by_screens import AS_OF, SELECTS, VALUES, asked

DATABASE = "customer_360_screens"
SEMANTICS = load_semantics()
COLUMNS_OF_LOG = ("event_id", "happened_at", "reader", "role", "event", "customer_id", "detail")
ROLES = load_roles(PROJECT_ROOT / "app" / "roles.yml")
PAGES = sorted({page for role in ROLES.roles.values() for page in role.pages})


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> PublishedCopy:
    """The published copy, without personal data."""
    folder = tmp_path_factory.mktemp("published")
    make_copy(folder)
    return open_copy(Settings(warehouse_file=folder / "warehouse.duckdb", _env_file=None), personal_data=False)


def copy_into(connection: snowflake.connector.SnowflakeConnection, file: Path) -> None:
    """Make the tables of a published copy in schema marts of the connection's database."""
    cursor = connection.cursor()
    with duckdb.connect(str(file), read_only=True) as published_copy:
        tables = published_copy.execute("select table_name from duckdb_tables() where schema_name = 'marts'").fetchall()
        for (table,) in tables:
            described = published_copy.execute(f"describe marts.{table}").fetchall()
            cursor.execute(
                f"create table marts.{table} ({', '.join(f'{name} {kind}' for name, kind, *_ in described)})"
            )
            if rows := published_copy.execute(f"from marts.{table}").fetchall():
                insert = f"insert into marts.{table} values ({', '.join(['%s'] * len(described))})"
                cursor.executemany(insert, rows)


@pytest.fixture(scope="module")
def connection(
    account: EmulatedAccount, copy: PublishedCopy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[snowflake.connector.SnowflakeConnection]:
    """A connection as Streamlit opens it: with `?` for values, in the database of the app."""
    if not isinstance(account, EmulatedAccount):
        pytest.skip("a real account's marts are its own")
    [(_, file)] = copy.frame("select database_name, path from duckdb_databases() where path is not null").to_numpy()
    account.query(f"create database {DATABASE}")
    for schema in ("marts", "ops"):
        account.query(f"create schema {schema}", DATABASE)
    columns = ", ".join(f"{name} {'timestamp' if name == 'happened_at' else 'varchar'}" for name in COLUMNS_OF_LOG)
    account.query(f"create table ops.screens_log ({columns})", DATABASE)
    with closing(account.connect(DATABASE)) as filling:
        copy_into(filling, Path(file))
    with pytest.MonkeyPatch.context() as patch:
        # As streamlit.connections.SnowflakeCallersRightsConnection does before it connects.
        patch.setattr(snowflake.connector, "paramstyle", "qmark")
        with closing(account.connect(DATABASE)) as opened:
            yield opened


@pytest.fixture(scope="module")
def marts(connection: snowflake.connector.SnowflakeConnection) -> SnowflakeMarts:
    return SnowflakeMarts(connection)


def assert_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    # What is missing is None or NaN, which the screens write alike.
    as_it_is_read = [frame.astype(object).where(frame.notna(), None) for frame in (found, expected)]
    pd.testing.assert_frame_equal(*as_it_is_read, check_dtype=False)
    # A figure that is no number could not be drawn.
    assert numbers_of(found) == numbers_of(expected)


def numbers_of(frame: pd.DataFrame) -> list[str]:
    return list(frame.select_dtypes("number"))


def test_every_statement_with_values_has_some_here() -> None:
    assert [name for name in SELECTS if asked(name).count("?") != len(VALUES.get(name, ()))] == []


@pytest.mark.parametrize("name", SELECTS)
def test_a_statement_has_the_same_answer_as_on_the_copy(name: str, marts: SnowflakeMarts, copy: PublishedCopy) -> None:
    expected = copy.frame(asked(name), VALUES.get(name, ()))
    assert_same(marts.frame(asked(name), VALUES.get(name, ())), expected)


@pytest.mark.parametrize("table", sorted(SEMANTICS.tables))
def test_every_figure_is_the_same_as_on_the_copy(table: str, marts: SnowflakeMarts, copy: PublishedCopy) -> None:
    metrics = [metric.name for metric in SEMANTICS.metrics.values() if metric.table == table]
    cut_by = SEMANTICS.tables[table].one_value_of
    figure = SEMANTICS.query(metrics, by=[cut_by] if cut_by else [])
    assert_same(marts.frame(figure.sql, figure.parameters), copy.frame(figure.sql, figure.parameters))


@pytest.mark.parametrize(
    ("metrics", "by", "where"),
    [
        (["customers", "average_lifetime_value"], ["customer_segment"], []),
        (["customers_on_date"], ["as_of_date", "customer_segment"], [Filter("as_of_date", "<=", AS_OF)]),
        (["customers"], ["state"], [Filter("customer_segment", "in", ["Declining", "New & Growing"])]),
        (["customers_on_date"], ["card_type"], [Filter("as_of_date", "between", [datetime.date(2026, 3, 2), AS_OF])]),
        (["customers"], [], [Filter("customer_segment", "is null", None)]),
    ],
)
def test_figures_by_dimensions_and_filters_are_the_same(
    metrics: list[str], by: list[str], where: list[Filter], marts: SnowflakeMarts, copy: PublishedCopy
) -> None:
    figure = SEMANTICS.query(metrics, by=by, where=where)
    assert_same(marts.frame(figure.sql, figure.parameters), copy.frame(figure.sql, figure.parameters))


def test_a_bound_value_is_a_value_whatever_it_says(marts: SnowflakeMarts) -> None:
    text = "x' or '1' = '1"
    [found] = marts.frame(
        "select ? as said, count(*) as customers from marts.customer_360_profile where state = ?", [text, text]
    ).to_dict("records")
    assert found == {"said": text, "customers": 0}


def test_what_is_published_is_told(marts: SnowflakeMarts, copy: PublishedCopy) -> None:
    assert (marts.state().as_of_date, marts.state().published_at) == (AS_OF, copy.state().published_at)


def test_the_database_that_the_semantic_view_is_in_is_the_apps(marts: SnowflakeMarts) -> None:
    assert marts.in_database("customer_360").upper() == f"{DATABASE}.marts.customer_360".upper()


def test_a_look_up_is_in_the_log_before_the_answer_is_shown(
    marts: SnowflakeMarts, connection: snowflake.connector.SnowflakeConnection
) -> None:
    service = Reader("agent@example.com", "service", ROLES.roles["service"])
    screens_log.write_down(service, "look_up", "CUST00000003", {"asked": 'it\'s "C3"', "rows": 1}, marts)
    [row] = connection.cursor().execute(f"select {', '.join(COLUMNS_OF_LOG)} from ops.screens_log").fetchall()
    event_id, happened_at, *rest, detail = row
    assert len(event_id) == 36
    assert abs(datetime.datetime.now(datetime.UTC).replace(tzinfo=None) - happened_at) < datetime.timedelta(minutes=1)
    assert rest == ["agent@example.com", "service", "look_up", "CUST00000003"]
    assert json.loads(detail) == {"asked": 'it\'s "C3"', "rows": 1}


def test_what_snowflake_refuses_is_said_with_what_the_viewer_needs(marts: SnowflakeMarts) -> None:
    with pytest.raises(NotReadable, match=r"Snowflake refuses it: .*customer_360_reader"):
        marts.frame("select customer_id from marts.no_such_table")


def test_a_look_up_that_cannot_be_logged_is_refused(marts: SnowflakeMarts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screens_log, "query", lambda name: "insert into ops.no_such_log (event_id) values (?)")
    service = Reader("agent@example.com", "service", ROLES.roles["service"])
    with pytest.raises(NotLogged, match=r"ops\.screens_log: Snowflake refuses it"):
        screens_log.write_down(service, "look_up", "CUST00000003", {}, marts)


@pytest.fixture
def in_snowflake(connection: snowflake.connector.SnowflakeConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app as it runs there: who looks is named by Snowflake, and has every role here."""
    everybody = {
        name: role.model_copy(update={"readers": ("someone@example.com",)}) for name, role in ROLES.roles.items()
    }
    monkeypatch.setenv("WAREHOUSE", "snowflake")
    monkeypatch.setattr(published, "_snowflake", lambda: connection)
    monkeypatch.setattr(reader, "load_roles", lambda file: Roles(roles=everybody))
    monkeypatch.setattr(st, "user", {"email": "Someone@example.com", "user_name": "SOMEONE"})
    monkeypatch.setattr("streamlit.components.v2.manifest_scanner.scan_component_manifests", list)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_in_snowflake(page: str, in_snowflake: None) -> None:
    app = AppTest.from_file(str(PROJECT_ROOT / "app" / "main.py"), default_timeout=30)
    app.session_state[CHOSEN] = next(name for name, role in ROLES.roles.items() if page in role.pages)
    app.switch_page(f"screens/{page}.py")
    app.run()
    assert not app.exception, app.exception
    assert [error.value for error in app.error] == []
    assert [title.value.lower() for title in app.title] == [page]


def test_a_session_without_a_database_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class WithoutDatabase:
        raw_connection: Any = type("Connection", (), {"database": None})()

    monkeypatch.setattr(st, "connection", lambda name: WithoutDatabase())
    monkeypatch.setenv("WAREHOUSE", "snowflake")
    with pytest.raises(NotReadable, match=r"no database: deploy the screens into the database of the marts"):
        published.warehouse(personal_data=False)
