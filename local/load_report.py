"""What a build will make of delivered transactions, foretold while they are loaded, and what to run next."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from include.customer_360.dbt_seeds import dbt_seeds
from local.dbt_sql import expression, transaction_rows_query
from local.sources import SourceTable

# More days than this without any transaction separate a stretch of days from the others.
_LONGEST_PAUSE = datetime.timedelta(days=31)
# So many unknown names are told.
_NAMED = 5

DayRows = tuple[datetime.date, int]

# Float noise behind the twelfth place is no rounding. Only long and scientific amounts are read a second time.
_IS_ROUNDED = """
case
    when
        (strpos(raw_transaction_amount, '.') > 0
            and length(raw_transaction_amount) - strpos(raw_transaction_amount, '.') > 2)
        or contains(raw_transaction_amount, 'e') or contains(raw_transaction_amount, 'E')
        then try_cast(raw_transaction_amount as decimal(38, 12)) <> transaction_amount
end
"""


@dataclass(frozen=True)
class UnknownNames:
    """Rows whose status or category the seed does not know, and the most frequent of those names as delivered."""

    rows: int = 0
    names: int = 0
    examples: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class TransactionsReport:
    """What a build will make of the rows: each is accepted, a duplicate of an accepted one, or rejected.

    `rounded` counts amounts of usable rows with more than two decimals, `days` has the rows of each day that has usable
    ones, in order.
    """

    accepted: int
    duplicates: int
    rejected: tuple[tuple[str, int], ...]
    rounded: int
    days: tuple[DayRows, ...]
    unknown_statuses: UnknownNames
    unknown_categories: UnknownNames


@dataclass(frozen=True)
class Days:
    """Days with usable rows: the usual ones, those far from them, and those that are not over yet; each in order."""

    usual: tuple[DayRows, ...]
    far: tuple[DayRows, ...]
    later: tuple[DayRows, ...]


def report_transactions(
    connection: duckdb.DuckDBPyConnection, transactions: str, customers: str, table: SourceTable
) -> TransactionsReport:
    """Judge delivered transactions by the query of stg_transaction_rows.

    :param transactions: a table or view with the columns and types that raw.transactions is going to have.
    :param customers: one with their customer_id, once each.
    :param table: the types of the transactions.
    """
    for seed, rows in dbt_seeds().items():
        columns = ", ".join(f"{name} varchar" for name in rows[0])
        connection.execute(f"create or replace temp table {seed} ({columns})")
        places = ", ".join("?" for _ in rows[0])
        connection.executemany(f"insert into {seed} values ({places})", [list(row.values()) for row in rows])
    judged = transaction_rows_query(
        {
            "transactions": transactions,
            "customers_snapshot": customers,
            "merchant_categories": "merchant_categories",
        },
        next(column.type for column in table.columns if column.name == "transaction_date"),
    )
    counts = connection.execute(
        f"""
        select
            reject_reason,
            case when reject_reason is null then transaction_date end as day,
            count(*),
            count(*) filter (reject_reason is null and {_IS_ROUNDED})
        from ({judged})
        group by reject_reason, day
        """
    ).fetchall()
    days = sorted((day, rows) for reason, day, rows, _ in counts if reason is None)
    rejected = [(reason, rows) for reason, _, rows, _ in counts if reason is not None]
    usable = sum(rows for _, rows in days)
    # Only the few repeated ones are judged once more.
    [(duplicates,)] = connection.execute(
        f"""
        with repeated as (
            select transaction_id from {transactions} where transaction_id is not null
            group by transaction_id having count(*) > 1
        )

        select count(*) - count(distinct transaction_id)
        from ({judged}) where reject_reason is null and transaction_id in (from repeated)
        """
    ).fetchall()
    return TransactionsReport(
        accepted=usable - duplicates,
        duplicates=duplicates,
        rejected=tuple(sorted(rejected, key=lambda of: (-of[1], of[0]))),
        rounded=sum(rounded for *_, rounded in counts),
        days=tuple(days),
        unknown_statuses=_unknown(connection, transactions, "status", "transaction_statuses", blank_is_known=False),
        unknown_categories=_unknown(
            connection, transactions, "merchant_category", "merchant_categories", blank_is_known=True
        ),
    )


def _unknown(
    connection: duckdb.DuckDBPyConnection, transactions: str, column: str, seed: str, *, blank_is_known: bool
) -> UnknownNames:
    """Count the rows whose name is not in the first column of the seed, as sources_names.jinja does for a run."""
    key = next(iter(dbt_seeds()[seed][0]))
    found = connection.execute(
        f"""
        with delivered as (select {column} as name, count(*) as row_count from {transactions} group by all),

        named as (
            select
                {expression("normalised", "name")} as key,
                max_by(name, row_count) as spelling,
                sum(row_count) as rows
            from delivered group by key
        )

        select coalesce(spelling, '(blank)'), rows::bigint, sum(rows) over ()::bigint, count(*) over ()
        from named
        where
            coalesce(key not in (select {expression("normalised", key)} from {seed}), {not blank_is_known})
        order by rows desc, spelling nulls last
        limit {_NAMED}
        """
    ).fetchall()
    if not found:
        return UnknownNames()
    _, _, rows, names = found[0]
    return UnknownNames(rows, names, tuple((spelling, count) for spelling, count, *_ in found))


def sort_days(days: Sequence[DayRows], last_day: datetime.date) -> Days:
    """Tell the usual days from those far from them, and from those after `last_day`; `days` are in order.

    A stretch of days at an end, apart from the rest by more than 31 days without a transaction, is far when all that is
    set aside at that end is at most one percent of the rows. So is a single row, whatever its share, if at least three
    are left and the pause is longer than they span.
    """
    later = tuple(of for of in days if of[0] > last_day)
    over = days[: len(days) - len(later)]
    end = _usual_until(over)
    start = len(over) - _usual_until(over[::-1])
    if start >= end:
        return Days(tuple(over), (), later)
    return Days(tuple(over[start:end]), (*over[:start], *over[end:]), later)


def _usual_until(days: Sequence[DayRows]) -> int:
    """Return how many of the days, from the first, are not far; they may also run backwards."""
    total = sum(rows for _, rows in days)
    end, set_aside = len(days), 0
    while end:
        start = end - 1
        while start and abs(days[start][0] - days[start - 1][0]) <= _LONGEST_PAUSE:
            start -= 1
        if not start:
            break
        here = set_aside + sum(rows for _, rows in days[start:end])
        pause = abs(days[start][0] - days[start - 1][0])
        is_lone = here == 1 and total - here >= 3 and pause > abs(days[start - 1][0] - days[0][0])
        if here * 100 > total and not is_lone:
            break
        end, set_aside = start, here
    return end
