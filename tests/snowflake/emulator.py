"""A Snowflake that answers the real clients on this machine: fakesnow on DuckDB, with what dbt needs and it lacks.

Each database is a file in --folder. It speaks https with server.pem and server.key of --certificates, on loopback, and
appends each statement it is sent to the file --statements, as a line of JSON with its query_tag.

What differs from fakesnow 0.12.1 is repaired here, on the server's side; each repair says what for. What it cannot
show, whatever is repaired, stands in docs/snowflake.md.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakesnow.arrow
import fakesnow.server
import pyarrow as pa
import pyarrow.compute as pc
import snowflake.connector.errors
import uvicorn
from fakesnow import info_schema, macros, transforms
from fakesnow.cursor import FakeSnowflakeCursor
from fakesnow.instance import FakeSnow
from sqlglot import exp
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.snowflake.blocks import changes_of

# Statements of a real account that mean nothing here.
WITHOUT_EFFECT = [
    r"\s*alter\s+session\b(?!\s+set\s+autocommit)",
    r"\s*(grant|revoke)\b",
    r"\s*alter\s+table\s+\S+\s+(resume|suspend)\s+recluster",
    r"\s*(create|alter)\s+(role|warehouse|resource\s+monitor|masking\s+policy|user)\b",
    r"\s*alter\s+table\s+(if\s+exists\s+)?\S+\s+modify\s[\s\S]*\bmasking\s+policy\b",
    r"\s*alter\s+table\s+(if\s+exists\s+)?\S+\s+cluster\s+by\b",
    r"\s*alter\s+(table|view)\s+\S+\s+(alter|modify)\s[\s\S]*\bcomment\s+\$\$",
    r"\s*use\s+(secondary\s+)?(role|roles|warehouse)\b",
]
SHOW_QUERY_TAG = re.compile(r"\s*show\s+parameters\s+like\s+'query_tag'", re.IGNORECASE)
SHOW_GRANTS = re.compile(r"\s*show\s+grants\s+on\s+(table|view)\b", re.IGNORECASE)
SET_QUERY_TAG = re.compile(r"\s*alter\s+session\s+set\s+query_tag\s*=\s*'((?:[^']|'')*)'", re.IGNORECASE)
# fakesnow forgets the "or replace" of a clone, and sqlglot does not read the grants behind it.
CLONE = re.compile(r"^(\s*create\b.*?)\bclone\s+(\S+?)(\s+copy\s+grants)?\s*;?\s*$", re.IGNORECASE | re.DOTALL)
# There are no grants, so there is nobody to manage their access.
MANAGED_ACCESS = re.compile(r"^(\s*create\s+schema\b.*?)\s+with\s+managed\s+access\b", re.IGNORECASE | re.DOTALL)
NO_QUERY_TAG = """select 'QUERY_TAG' as "key", '' as "value", '' as "default", 'SESSION' as "level" """
# Of as many columns as the models give it.
HASH_AGG = ", ".join(
    f"({', '.join(names)}) as coalesce(sum(hash({', '.join(names)})), 0)"
    for count in range(1, 13)
    if (names := [f"value_{number}" for number in range(count)])
)
SESSION = {
    "current_warehouse": "CUSTOMER_360_TRANSFORM",
    "current_role": "CUSTOMER_360_TRANSFORMER",
    "current_account": "FAKESNOW",
    "current_region": "LOCAL",
}
# After a statement that failed the emulator rolls back, and outside of a transaction there is none.
NO_TRANSACTION = "current_transaction() as null"
EXPLAIN = re.compile(r"\s*explain\s+using\s+text\s+", re.IGNORECASE)


def as_granted(database: str) -> str:
    """Return a query with what `show grants` says of a mart where the set-up's future grants hold."""
    return " union all ".join(
        f"""select 'SELECT' as "privilege", '{database.upper()}_{role}' as "grantee_name" """
        for role in ("READER", "EXPORTER")
    )


def sql_error(error: Exception) -> snowflake.connector.errors.ProgrammingError:
    """Return an error that the connector reports; it repeats an HTTP 500 without end."""
    message = f"fakesnow: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return snowflake.connector.errors.ProgrammingError(msg=message, errno=999, sqlstate="XX000")


def repair_cursor(statements: Path) -> None:
    """Log statements, answer with SQL errors, roll back after one, execute blocks, and read dbt's DDL and merges."""
    cursor = FakeSnowflakeCursor
    execute, describe, explode = cursor.execute, cursor._describe_last_sql, cursor._transform_explode

    def roll_back(self: Any) -> None:  # noqa: ANN401
        # After an error DuckDB refuses everything until a rollback, which dbt does not send: Snowflake needs none.
        try:
            self._duck_conn.execute("rollback")
        except fakesnow.instance.duckdb.Error:
            return
        self._conn._in_transaction = False

    def explain(self: Any, command: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        # No plan like Snowflake's, but the same refusals: the statement is executed and taken back.
        self._duck_conn.execute("begin")
        try:
            execute(self, command, *args, **kwargs)
        except snowflake.connector.errors.Error:
            raise
        except Exception as error:
            raise sql_error(error) from error
        finally:
            roll_back(self)
        return execute(self, "select 'GlobalStats:' as content")

    def logged_execute(self: Any, command: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        if explained := EXPLAIN.match(command):
            return explain(self, command[explained.end() :], *args, **kwargs)
        if given := SET_QUERY_TAG.match(command):
            self._conn.query_tag = given[1].replace("''", "'")
        with statements.open("a") as log:
            log.write(json.dumps({"query_tag": getattr(self._conn, "query_tag", ""), "sql": command}) + "\n")
        if changes := changes_of(command):
            return in_one_transaction(self, changes, *args, **kwargs)
        return understand_and_execute(self, command, *args, **kwargs)

    def understand_and_execute(self: Any, command: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        if SHOW_QUERY_TAG.match(command):
            command = NO_QUERY_TAG
        if SHOW_GRANTS.match(command):
            command = as_granted(self._conn.database)
        command = MANAGED_ACCESS.sub(r"\1", command)
        command = CLONE.sub(r"\1 as select * from \2", command)
        try:
            return execute(self, command, *args, **kwargs)
        except snowflake.connector.errors.Error:
            roll_back(self)
            raise
        except Exception as error:
            roll_back(self)
            raise sql_error(error) from error

    def in_one_transaction(self: Any, changes: list[str], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        # There is no Snowflake Scripting: what the block consists of is executed as it would be, errors roll it back.
        for sql in ("begin", *changes, "commit"):
            result = understand_and_execute(self, sql, *args, **kwargs)
        return result

    def described(self: Any) -> Any:  # noqa: ANN401
        try:
            return describe(self)
        except snowflake.connector.errors.Error:
            raise
        except Exception as error:
            raise sql_error(error) from error

    def understood(self: Any, expression: exp.Expression) -> Any:  # noqa: ANN401
        if isinstance(expression, exp.Create) and expression.kind in ("TABLE", "VIEW"):
            make_ordinary(expression)
        if isinstance(expression, exp.Merge):
            name_source_of_inserts(expression)
            # A merge makes a temporary table, which asks for a current schema: on an account there is always public.
            self._conn._schema = self._conn._schema or "PUBLIC"
        return explode(self, expression)

    cursor.execute = logged_execute
    cursor._describe_last_sql = described
    cursor._transform_explode = understood


def make_ordinary(create: exp.Create) -> None:
    """Have dbt's temporary tables be ordinary ones, and a table made from a query without constraints."""
    properties, table = create.args.get("properties"), create.find(exp.Table)
    if properties and table is not None and table.db:
        kept = [item for item in properties.expressions if not isinstance(item, exp.TemporaryProperty)]
        properties.set("expressions", kept)
    if isinstance(create.this, exp.Schema) and create.expression is not None:
        create.this.set("expressions", [item for item in create.this.expressions if isinstance(item, exp.ColumnDef)])


def name_source_of_inserts(merge: exp.Merge) -> None:
    """In `when not matched then insert (a) values (a)` the second a is the source's."""
    source = merge.args["using"].alias_or_name
    whens = merge.args["whens"]
    for when in whens.expressions if isinstance(whens, exp.Whens) else whens:
        then = when.args.get("then")
        if not when.args.get("matched") and isinstance(then, exp.Insert) and then.expression is not None:
            for column in then.expression.find_all(exp.Column):
                if not column.table:
                    column.set("table", exp.to_identifier(source))


def repair_values() -> None:
    """Keep decimals exact in aggregates, and NULL timestamps NULL."""
    transforms.numeric_agg_implicit_cast = lambda expression: expression
    to_struct = fakesnow.arrow.timestamp_to_sf_struct

    def with_nulls(timestamps: pa.Array | pa.ChunkedArray) -> pa.StructArray:
        if isinstance(timestamps, pa.ChunkedArray):
            timestamps = timestamps.combine_chunks()
        if not timestamps.null_count:
            return to_struct(timestamps)
        struct = to_struct(timestamps.fill_null(0))
        fields = [struct.type.field(number) for number in range(struct.type.num_fields)]
        values = [struct.field(number) for number in range(struct.type.num_fields)]
        return pa.StructArray.from_arrays(values, fields=fields, mask=pc.is_null(timestamps))

    fakesnow.arrow.timestamp_to_sf_struct = with_nulls


def repair_catalog() -> None:
    """List views in information_schema.tables, know the session's role and warehouse, and keep no comment of None."""
    create_database, connect = info_schema.per_db_creation_sql, FakeSnow.connect

    def create_with_views(catalog: str) -> str:
        stock = info_schema.SQL_CREATE_INFORMATION_SCHEMA_TABLES_VIEW.substitute(catalog=catalog)
        tables = stock.split(" AS\n", 1)[1].rstrip().rstrip(";")
        views = tables.replace(
            "from duckdb_tables tables",
            "from (select *, view_name as table_name, 0 as estimated_size from duckdb_views where not internal) tables",
        ).replace("'BASE TABLE'", "'VIEW'")
        view = f"{catalog}._fs_information_schema._fs_tables"
        return f"{create_database(catalog)}; create or replace view {view} as {tables} union all {views};"

    def connect_with_session(self: FakeSnow, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        connection = connect(self, *args, **kwargs)
        connection._duck_conn.execute(f"create or replace temp macro hash_agg {HASH_AGG}")
        for function, value in SESSION.items():
            connection._duck_conn.execute(f"create or replace temp macro {function}() as '{value}'")
        connection._duck_conn.execute(f"create or replace temp macro {NO_TRANSACTION}")
        return connection

    comment_table = info_schema.insert_table_comment_sql

    def comment(catalog: str, schema: str, table: str, text: str | None) -> str:
        return "select 1" if text is None else comment_table(catalog, schema, table, text)

    info_schema.per_db_creation_sql = create_with_views
    info_schema.insert_table_comment_sql = comment
    FakeSnow.connect = connect_with_session


def planted_answer(faults: Path, sql: str) -> Response | None:
    """Return the answer that a test planted for the next statement like this one; None without one.

    :param faults: a file with a list of `pattern` (of the whole statement), `status` (of HTTP), `code` (the errno; none
        with a status other than 200, for which the connector sends the statement again). Each is used once.
    """
    planted = json.loads(faults.read_text()) if faults.exists() else []
    for fault in planted:
        if re.search(fault["pattern"], " ".join(sql.split()), re.IGNORECASE):
            planted.remove(fault)
            faults.write_text(json.dumps(planted))
            data = {"errorCode": fault["code"], "sqlState": "08001"}
            answer = {"data": data, "code": fault["code"], "message": "planted by a test", "success": False}
            return JSONResponse(answer, status_code=fault["status"])
    return None


def repair_requests(faults: Path) -> None:
    """Keep a login's query tag, answer a repeated request with the first one's result, and failures with a SQL error.

    The connector sends a statement again, under the same id, when it takes longer than its read timeout.
    """
    stock_login: Callable[[Request], Any] = fakesnow.server.login_request
    stock: Callable[[Request], Any] = fakesnow.server.query_request
    under_way: dict[str, asyncio.Task[Response]] = {}

    def failed(message: str) -> JSONResponse:
        data = {"errorCode": "000999", "sqlState": "XX000"}
        return JSONResponse({"data": data, "code": "000999", "message": f"fakesnow: {message}", "success": False})

    async def sql_of(request: Request) -> str:
        body = await request.body()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        return str(json.loads(body).get("sqlText", ""))

    async def answer(request: Request) -> Response:
        try:
            response = await stock(request)
        except Exception as error:
            return failed(f"{type(error).__name__}: {error}")
        return failed(json.loads(response.body).get("message")) if response.status_code == 500 else response

    async def log_in(request: Request) -> Response:
        body = await request.body()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        response = await stock_login(request)
        session = fakesnow.server.sessions[json.loads(response.body)["data"]["token"]]
        session.query_tag = json.loads(body)["data"]["SESSION_PARAMETERS"].get("QUERY_TAG", "")
        return response

    async def answer_once(request: Request) -> Response:
        request_id = request.query_params["requestId"]
        if request_id not in under_way:
            if planted := planted_answer(faults, await sql_of(request)):
                return planted
            task = under_way[request_id] = asyncio.ensure_future(answer(request))
            task.add_done_callback(
                lambda _: asyncio.get_running_loop().call_later(120, under_way.pop, request_id, None)
            )
        return await asyncio.shield(under_way[request_id])

    routes = fakesnow.server.app.router.routes
    repaired = {"/queries/v1/query-request": answer_once, "/session/v1/login-request": log_in}
    for number, route in enumerate(routes):
        if route.path in repaired:
            routes[number] = fakesnow.server.Route(route.path, repaired[route.path], methods=["POST"])


def with_databases(folder: Path) -> FakeSnow:
    """Return the emulator with the databases that an earlier one, or a test, left in the folder."""
    instance = FakeSnow(db_path=str(folder), nop_regexes=WITHOUT_EFFECT)
    for file in sorted(folder.glob("*.db")):
        instance.duck_conn.execute(f"attach if not exists '{file}' as {file.stem}")
        instance.duck_conn.execute(info_schema.per_db_creation_sql(file.stem))
        instance.duck_conn.execute(macros.creation_sql(file.stem))
    return instance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certificates", type=Path, required=True)
    parser.add_argument("--statements", type=Path, required=True)
    options = parser.parse_args()
    repair_cursor(options.statements)
    repair_values()
    repair_catalog()
    repair_requests(options.statements.with_name("faults.json"))
    fakesnow.server.shared_fs = with_databases(options.folder)
    try:
        uvicorn.run(
            fakesnow.server.app,
            host="127.0.0.1",
            port=options.port,
            ssl_certfile=options.certificates / "server.pem",
            ssl_keyfile=options.certificates / "server.key",
            access_log=False,
        )
    finally:
        fakesnow.server.shared_fs.duck_conn.close()


if __name__ == "__main__":
    main()
