"""What a refresh has made, read from the warehouse and printed for people."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from contextlib import closing

import duckdb
from rich.console import Console

from include.customer_360.catalog import load_catalog
from include.customer_360.settings import Settings
from local.sources import attach_warehouse, connect_beside

SOURCE_ROWS = """
select
    (select count(*) from raw.customers) as customers,
    (select count(*) from raw.transactions) as raw_rows,
    (select count(*) from core.fct_transactions) as accepted,
    (select count(*) from core.rejected_transactions) as rejected
"""
REJECTED_BY_REASON = "select reject_reason, count(*) from core.rejected_transactions group by all order by 2 desc, 1"
PUBLISHED_ROWS = "select mart, row_count from ops.publications where dag_run_id = ?"
VALIDATIONS = """
select
    mart,
    count(*) filter (where passed),
    count(*),
    list(check_name || ': observed ' || observed || '; expected ' || expected order by check_name)
        filter (where not passed)
from ops.validation_results
where dag_run_id = ?
group by mart
order by mart
"""
LEFT_OUT_BY = {"suppressed": "suppressed", "capped": "capped", "outranked": "outranked", "over_limit": "over limit"}
"""How the ends are called by which an eligible customer is left out of an audience."""
SEGMENTS = """
select
    coalesce(customer_segment, 'no transaction yet'),
    count(*),
    avg(lifetime_value),
    avg(avg_transaction_value),
    avg(spend_change_pct)
from marts.customer_360_profile
group by all
order by 2 desc, 1
"""


def print_summary(
    console: Console,
    settings: Settings,
    as_of_date: datetime.date,
    run_id: str,
    dbt_seconds: Mapping[str, float],
    decided: Mapping[str, Mapping],
    audiences: Sequence[Mapping],
) -> None:
    """Print the summary of one run.

    :param dbt_seconds: how long dbt took to build each model.
    :param decided: what decide_audiences returned of each campaign: customers by status and by reason.
    :param audiences: what the export tasks returned: campaign, destination, row_count, path, and why_empty of an empty
        one.
    """
    console.print()
    if settings.warehouse != "duckdb":
        console.print(f"Done: the marts of {as_of_date} are in Snowflake; ops.publications has their row counts.")
        console.print()
        print_audiences(console, decided, audiences)
        return
    # Not connected to directly: DuckDB could not tell a file raw.duckdb from the schema raw.
    with closing(connect_beside(settings.warehouse_file, settings.warehouse_memory)) as connection:
        attach_warehouse(connection, settings.warehouse_file, settings.warehouse_lock_wait, read_only=True)
        connection.execute("use warehouse")
        print_sources(console, connection)
        print_marts(console, connection, run_id, dbt_seconds)
        print_segments(console, connection)
    print_audiences(console, decided, audiences)
    query = "select * from marts.customer_360_profile limit 5"
    say(console, f"Warehouse: {settings.warehouse_file}. To query what is published of it, also while Airflow runs:")
    say(
        console,
        f'  .venv/bin/python -c "import duckdb; duckdb.connect({str(settings.published_file)!r}, read_only=True)'
        f".sql('{query}').show()\"",
    )


def print_sources(console: Console, connection: duckdb.DuckDBPyConnection) -> None:
    """Print what became of the raw rows, to the row."""
    [(customers, raw_rows, accepted, rejected)] = connection.execute(SOURCE_ROWS).fetchall()
    reasons = [f"{count:,} {reason}" for reason, count in connection.execute(REJECTED_BY_REASON).fetchall()]
    say(
        console,
        f"{customers:,} customer rows; {raw_rows:,} transaction rows = {accepted:,} accepted "
        f"+ {raw_rows - accepted - rejected:,} duplicates + {rejected:,} rejected"
        + (f" ({', '.join(reasons)})" if reasons else ""),
    )
    console.print()


def print_marts(
    console: Console, connection: duckdb.DuckDBPyConnection, run_id: str, dbt_seconds: Mapping[str, float]
) -> None:
    """Print rows, seconds and validation checks per mart, and the checks that warn."""
    rows = dict(connection.execute(PUBLISHED_ROWS, [run_id]).fetchall())
    checks = {mart: counts for mart, *counts in connection.execute(VALIDATIONS, [run_id]).fetchall()}
    lines = []
    marts = [mart.name for mart in load_catalog().marts]
    for mart in (*sorted(checks.keys() - set(marts)), *marts):
        passed, total, _ = checks.get(mart, (0, 0, None))
        seconds = f"{dbt_seconds[mart]:.1f}" if mart in dbt_seconds else ""
        lines.append((mart, f"{rows[mart]:,}" if mart in rows else "", seconds, f"{passed} of {total}"))
    print_table(console, ("mart", "rows", "seconds", "checks passed"), lines)
    for mart, (_, _, warnings) in checks.items():
        for warning in warnings or ():
            say(console, f"Warning, {mart}: {warning}")


def print_segments(console: Console, connection: duckdb.DuckDBPyConnection) -> None:
    """Print customers and averages by segment, of the published marts."""
    lines = [
        (segment, f"{customers:,}", *("" if value is None else f"{value:,.2f}" for value in averages))
        for segment, customers, *averages in connection.execute(SEGMENTS).fetchall()
    ]
    [(as_of_date,)] = connection.execute("select max(as_of_date) from marts.customer_360_profile").fetchall()
    say(console, f"Published, as of {as_of_date}:")
    print_table(console, ("segment", "customers", "average LTV", "average ATV", "average spend change %"), lines)


def print_audiences(console: Console, decided: Mapping[str, Mapping], audiences: Sequence[Mapping]) -> None:
    """Print what became of the eligible customers of each campaign, where its files are, and why an empty one is."""
    print_table(
        console,
        ("campaign", "eligible", *LEFT_OUT_BY.values(), "held out", "exported", "entered"),
        [
            (
                name,
                *(f"{counts[status]:,}" for status in ("eligible", *LEFT_OUT_BY, "held_out", "exported", "entered")),
            )
            for name, counts in decided.items()
        ],
    )
    for name, counts in decided.items():
        if reasons := sorted(counts["reasons"].items(), key=lambda reason: (-reason[1], reason[0])):
            say(console, f"Suppressed, {name}: {', '.join(f'{customers:,} {reason}' for reason, customers in reasons)}")
    if any(counts["reasons"] for counts in decided.values()):
        console.print()
    lines = [
        (audience["campaign"], audience["destination"], f"{audience['row_count']:,}", audience["path"])
        for audience in audiences
    ]
    print_table(console, ("audience", "destination", "customers", "file"), lines)
    for audience in audiences:
        if not audience["row_count"]:
            say(console, f"Warning, audience {audience['campaign']} is empty: {audience['why_empty']}")
            console.print()


def print_table(console: Console, header: tuple[str, ...], lines: Sequence[tuple[str, ...]]) -> None:
    """Print a table as wide as its cells, figures flush right; nothing when it has no line."""
    if not lines:
        return
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    for line in (header, tuple("-" * width for width in widths), *lines):
        cells = [
            cell.ljust(width) if number == 0 or title in ("file", "destination") else cell.rjust(width)
            for number, (cell, width, title) in enumerate(zip(line, widths, header, strict=True))
        ]
        say(console, "  ".join(cells).rstrip())
    console.print()


def say(console: Console, text: str) -> None:
    """Print a line as it is, however long."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
