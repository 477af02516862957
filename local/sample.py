"""The sample sources: a card portfolio, made up in DuckDB, that holds what real feeds hold.

Every value comes from a hash of the seed and the number of its row, never from a random generator's state, so the same
size, seed and date give the same rows on any number of threads.
"""

from __future__ import annotations

import datetime
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from include.customer_360.as_of_date import decide_as_of_date
from include.customer_360.settings import HALF_OF_THE_MACHINE, PROJECT_ROOT, Settings
from local.sources import (
    CUSTOMERS,
    TRANSACTIONS,
    WarehouseError,
    attach_warehouse,
    connect_beside,
    remember_source_load,
    warehouse_transaction,
)

# hash(a, b) combines linearly, so draws that differ in `what` alone would move together: hash one text instead.
_MACROS = """
create temp macro draw(key, what) as cast(hash(concat_ws('/', what, key, getvariable('seed'))) >> 1 as bigint);
create temp macro pick(choices, drawn) as choices[1 + drawn % len(choices)];
create temp macro within_range(low, high, drawn) as low + (high - low) * (drawn % 10000) / 10000.0;
"""

# slots: out of 100 customers. counts: transactions in a month, halved when made, so that 50,000 customers have about
# 13.5 million in 18 months. amounts: before growth. growth: a month's factor, over the last trend_months months.
_SEGMENTS = """
create temp table segments as
select *
from (
    values
        ('travel', 0, 14, 40, 80, 50, 500, 1.0, 1.0, 0),
        ('stable', 15, 54, 20, 40, 30, 150, 1.0, 1.0, 0),
        ('budget', 55, 79, 15, 30, 10, 80, 1.0, 1.0, 0),
        ('declining', 80, 89, 20, 40, 50, 350, 0.68, 0.84, 6),
        ('growing', 90, 99, 25, 50, 15, 50, 1.25, 1.35, 6),
) as segments (
    segment, first_slot, last_slot, low_count, high_count, low_amount, high_amount, low_growth, high_growth,
    trend_months
)
"""

# Where a segment spends, out of 100 transactions; 60 merchants in a category.
_MERCHANTS = """
create temp table merchants as
with shares as (
    unpivot (
        from (
            values
                ('travel', 15, 17, 14, 8, 5, 3, 16, 8, 10, 4),
                ('stable', 3, 3, 3, 18, 10, 8, 20, 11, 18, 6),
                ('budget', 1, 1, 0, 44, 19, 14, 7, 4, 6, 4),
                ('declining', 4, 4, 3, 16, 8, 7, 19, 12, 21, 6),
                ('growing', 3, 4, 3, 14, 8, 6, 22, 15, 20, 5),
        ) as shares (
            segment, Travel, Airlines, Hotels, Grocery, Gas, Utilities, Dining, Entertainment, Retail, Healthcare
        )
    ) on columns(* exclude (segment)) into name merchant_category value share
)

select
    segment,
    merchant_category,
    merchant_category || ' ' || lpad(cast(merchant as varchar), 3, '0') as merchant_name,
    row_number() over (partition by segment order by merchant_category, copy, merchant) - 1 as slot,
from shares, unnest(range(share)) as copies (copy), range(1, 61) as numbers (merchant)
"""

_PEOPLE = """
create temp table people as
with numbered as (
    select
        number,
        (number * 37 + getvariable('seed')) % 100 as slot,
    from range(1, getvariable('customers') + 1) as numbers (number)
),

dated as (
    select
        numbered.number,
        segments.*,
        getvariable('as_of_date') - case
            when segments.segment = 'growing' then 15 + cast(draw(number, 'joined') % 160 as integer)
            else 31 * getvariable('months') + cast(draw(number, 'joined') % 3650 as integer)
        end as joined_on,
    from numbered
    inner join segments on numbered.slot between segments.first_slot and segments.last_slot
)

select
    *,
    draw(number, 'never spends') % 100 = 0 as never_spends,
    if(
        segment not in ('travel', 'growing') and draw(number, 'leaves') % 100 < 3,
        getvariable('as_of_date') - 30 - cast(draw(number, 'left') % 150 as integer),
        getvariable('as_of_date')
    ) as last_spent_on,
    within_range(low_count, high_count, draw(number, 'count')) / 2 as monthly_count,
    within_range(low_growth, high_growth, draw(number, 'growth')) as growth,
    if(segment = 'declining', within_range(0.5, 2.5, draw(number, 'level')), 1) as amount_level,
from dated
"""

_CUSTOMERS = """
insert into warehouse.raw.customers by name
with named as (
    select
        *,
        pick([
            'Alice', 'Andre', 'Anna', 'Ben', 'Carla', 'Carlos', 'Chloe', 'Daniel', 'David', 'Elena', 'Emma', 'Eric',
            'Fatima', 'Grace', 'Hannah', 'Hugo', 'Ines', 'Isaac', 'James', 'Julia', 'Karim', 'Kevin', 'Laura', 'Leo',
            'Linda', 'Lucas', 'Maria', 'Marcus', 'Mei', 'Nadia', 'Nathan', 'Nina', 'Oliver', 'Olivia', 'Paul', 'Priya',
            'Rosa', 'Samuel', 'Sofia', 'Thomas', 'Victor', 'Yara',
        ], draw(number, 'first name')) as first_name,
        pick([
            'Adams', 'Allen', 'Baker', 'Bell', 'Brooks', 'Carter', 'Clark', 'Cole', 'Cooper', 'Cruz', 'Diaz', 'Evans',
            'Fisher', 'Flores', 'Garcia', 'Gray', 'Green', 'Hall', 'Hill', 'Hughes', 'Jones', 'Kim', 'King', 'Lee',
            'Lewis', 'Lopez', 'Martin', 'Miller', 'Moore', 'Morris', 'Nguyen', 'Ortiz', 'Parker', 'Patel', 'Perez',
            'Price', 'Reed', 'Rivera', 'Shah', 'Smith', 'Turner', 'Walker', 'Ward', 'White', 'Young',
        ], draw(number, 'last name')) as last_name,
        pick([
            'NY/New York', 'NY/Buffalo', 'CA/Los Angeles', 'CA/San Diego', 'TX/Houston', 'TX/Austin', 'FL/Miami',
            'FL/Tampa', 'IL/Chicago', 'PA/Philadelphia', 'OH/Columbus', 'GA/Atlanta', 'NC/Charlotte', 'MI/Detroit',
            'NJ/Newark', 'VA/Richmond', 'WA/Seattle', 'AZ/Phoenix', 'MA/Boston', 'TN/Nashville', 'CO/Denver',
        ], draw(number, 'place')) as place,
        draw(number, 'card') % 100 < if(segment = 'travel', 80, 25) as is_premium,
    from people
)

select
    'CUST' || lpad(cast(number as varchar), 8, '0') as customer_id,
    first_name,
    last_name,
    -- One in a hundred is none that anybody could be written to: missing, wrong, a household's, an office's, a test's.
    case
        when draw(number, 'address') % 1000 < 3 then null
        when draw(number, 'address') % 1000 < 5 then lower(first_name || '.' || last_name || '@example')
        when draw(number, 'address') % 1000 < 8 then lower(last_name || '.household@example.com')
        when draw(number, 'address') % 1000 < 9 then lower('info@' || last_name || '.example.com')
        when draw(number, 'address') % 1000 < 10 then lower(first_name || '.' || number || '@example.org')
        else lower(first_name || '.' || last_name || '.' || number || '@example.com')
    end as email,
    cast(18 + draw(number, 'age') % 67 as integer) as age,
    split_part(place, '/', 1) as state,
    split_part(place, '/', 2) as city,
    pick(
        ['Employed', 'Employed', 'Employed', 'Employed', 'Self-Employed', 'Retired', 'Student', 'Unemployed'],
        draw(number, 'employment')
    ) as employment_status,
    if(is_premium, 'Premium', 'Standard') as card_type,
    500 * if(is_premium, 30 + draw(number, 'limit') % 71, 10 + draw(number, 'limit') % 41) as credit_limit,
    joined_on as account_open_date,
    draw(number, 'opt in') % 100 >= 8 as marketing_opt_in,
    if(draw(number, 'ads opt in') % 100 < 10, null, draw(number, 'ads opt in') % 100 < 55) as ads_opt_in,
    if(
        draw(number, 'closes') % 100 = 0,
        getvariable('as_of_date') - cast(draw(number, 'closed') % 90 as integer),
        null
    ) as account_closed_date,
    if(
        draw(number, 'dies') % 500 = 0,
        getvariable('as_of_date') - cast(draw(number, 'died') % 90 as integer),
        null
    ) as deceased_date,
    joined_on + interval 2 hours + to_days(
        cast(draw(number, 'updated') % (getvariable('as_of_date') - joined_on) as integer)
    ) as updated_at,
from named
order by number
"""

# A row per customer and month with spend. Months end on as_of_date's day; month_back 0 is the latest. Transactions are
# numbered month by month, so that they are stored roughly by date. Repeats are rows that the feed delivers again.
_SPENDING_MONTHS = """
create temp table spending_months as
with months as (
    select
        cast(month_back as integer) as month_back,
        cast(getvariable('as_of_date') - to_months(cast(month_back as integer) + 1) as date) + 1 as first_day,
        cast(getvariable('as_of_date') - to_months(cast(month_back as integer)) as date) as last_day,
    from range(getvariable('months')) as months (month_back)
),

spending as (
    select
        *,
        greatest(first_day, joined_on) as from_day,
        least(last_day, last_spent_on) - greatest(first_day, joined_on) + 1 as days,
        last_day - first_day + 1 as days_in_month,
        number || '/' || month_back as month_key,
    from people
    inner join months on people.joined_on <= months.last_day and people.last_spent_on >= months.first_day
    where not never_spends and draw(month_key, 'no spend') % 100 > 0
),

counted as (
    select
        *,
        cast(floor(
            monthly_count * within_range(0.85, 1.15, draw(month_key, 'count')) * days / days_in_month
            + within_range(0, 1, draw(month_key, 'part'))
        ) as bigint) as transactions,
    from spending
    where days > 0
)

select
    'CUST' || lpad(cast(number as varchar), 8, '0') as customer_id,
    segment,
    from_day,
    days,
    low_amount * amount_level * growth ^ greatest(0, trend_months - month_back) as low_amount,
    high_amount * amount_level * growth ^ greatest(0, trend_months - month_back) as high_amount,
    transactions,
    if(draw(month_key, 'repeat') % 1000 < 75, 1, 0) as repeats,
    cast(sum(transactions) over (order by month_back desc, number) as bigint) - transactions + 1 as first_number,
from counted
where transactions > 0
order by month_back desc, number
"""

# Two hashes of 63 bits per transaction; each value takes bits of its own.
_TRANSACTIONS = """
insert into warehouse.raw.transactions by name
with slotted as (
    select
        *,
        unnest(range(transactions + repeats)) as slot,
    from spending_months
),

numbered as (
    select
        *,
        first_number + slot % transactions as number,
        slot >= transactions as is_repeat,
    from slotted
),

drawn as (
    select
        *,
        cast(hash(hash(number, getvariable('seed'))) >> 1 as bigint) as a,
        cast(hash(a) >> 1 as bigint) as b,
    from numbered
),

valued as (
    select
        drawn.*,
        merchants.merchant_name,
        merchants.merchant_category as category,
        from_day + cast(a % days as integer) as spent_on,
        low_amount + (high_amount - low_amount) * ((a >> 20) & 65535) / 65535 as amount,
        is_repeat and b % 3 = 0 as is_corrected,
        is_repeat and b % 3 < 2 as is_sent_later,
    from drawn
    inner join merchants on drawn.segment = merchants.segment and (drawn.a >> 40) % 6000 = merchants.slot
)

select
    'TXN' || substr(cast(100000000000 + number as varchar), 2) as transaction_id,
    customer_id,
    spent_on as transaction_date,
    cast(cast(if(is_corrected, amount * 0.9, amount) as decimal(18,2)) as varchar) as transaction_amount,
    merchant_name,
    case (b >> 12) % 200 when 0 then null when 1 then 'Subscriptions' else category end as merchant_category,
    case when (b >> 20) % 100 < 40 then 'In-Store' when (b >> 20) % 100 < 75 then 'Online' else 'Mobile' end as channel,
    case
        when (b >> 28) % 1000 < 970 then 'approved'
        when (b >> 28) % 1000 < 994 then 'declined'
        when (b >> 28) % 1000 < 998 then 'pending'
        else 'reversed'
    end as status,
    -- The night after, between 1 and 2; 1 % some days late; what is sent again, between 2 and 3. Nothing comes after
    -- the night that follows as_of_date.
    least(
        spent_on + if((b >> 40) % 100 = 0, 2 + cast((b >> 48) % 20 as integer), 1)
            + if(is_sent_later, 1 + cast((b >> 56) % 5 as integer), 0),
        getvariable('as_of_date') + 1
    ) + to_seconds(3600 * if(is_sent_later, 2, 1) + cast((b >> 32) % 3600 as bigint)) as ingested_at,
from valued
"""

_UNUSABLE_TRANSACTIONS = """
insert into warehouse.raw.transactions by name
with faults as (
    select
        *,
        row_number() over (order by copy, fault) as fault_number,
    from
        unnest([
            'no id', 'unknown customer', 'no amount', 'no number', 'zero', 'negative', 'no date',
        ]) as faults (fault),
        range(greatest(2, getvariable('customers') // 1000)) as copies (copy)
),

placed as (
    select
        *,
        coalesce((select max(first_number + transactions) - 1 from spending_months), 0) + fault_number as number,
        if(
            fault = 'unknown customer',
            getvariable('customers') + fault_number,
            1 + draw(fault_number, 'faulty customer') % getvariable('customers')
        ) as customer_number,
        getvariable('as_of_date') - cast(draw(fault_number, 'faulty day') % 28 as integer) as spent_on,
        cast(cast(within_range(10, 150, draw(fault_number, 'faulty amount')) as decimal(18,2)) as varchar) as amount,
    from faults
)

select
    if(fault = 'no id', null, 'TXN' || lpad(cast(number as varchar), 11, '0')) as transaction_id,
    'CUST' || lpad(cast(customer_number as varchar), 8, '0') as customer_id,
    if(fault = 'no date', null, spent_on) as transaction_date,
    case fault
        when 'no amount' then null
        when 'no number' then pick(['n/a', 'USD 20.00', '12,50'], draw(fault_number, 'no number'))
        when 'zero' then '0.00'
        when 'negative' then '-' || amount
        else amount
    end as transaction_amount,
    'Retail ' || lpad(cast(1 + fault_number % 60 as varchar), 3, '0') as merchant_name,
    'Retail' as merchant_category,
    'Online' as channel,
    'approved' as status,
    spent_on + interval 1 day + interval 1 hour as ingested_at,
from placed
order by fault_number
"""


@dataclass(frozen=True)
class SampleCounts:
    """Rows in the sample's source tables; transactions with repeated and unusable rows."""

    customers: int
    transactions: int


def needs_sample(settings: Settings, home: Path) -> bool:
    """Tell whether the sample is to be made: where nothing was ever built, or where it is asked for (SAMPLE=1).

    A warehouse that has sources never gets it, nor does Snowflake.

    :param home: the folder with the state of the Airflow on this warehouse, with or without one.
    :raises ValueError: when as_of_date is not over yet in New York.
    :raises WarehouseError: when the warehouse file cannot be used, or holds one of the two source tables only; when it
        has none although something was built with it; when the sample is asked for where it would replace something.
    """
    if settings.warehouse == "snowflake":
        if settings.sample:
            raise WarehouseError("SAMPLE=1 is for DuckDB, and WAREHOUSE is snowflake: leave one of them out.")
        return False
    _as_of_date(settings)
    present = _source_tables(settings)
    if len(present) == 1:
        raise WarehouseError(
            f"{settings.warehouse_file} holds raw.{present.pop()} but not the other source table. "
            "Load both with `make load CUSTOMERS_FILE=... TRANSACTIONS_FILE=...`, or use a new WAREHOUSE_FILE."
        )
    if present and settings.sample:
        raise WarehouseError(
            f"SAMPLE=1 asks for the sample, but {settings.warehouse_file} has sources, which are never replaced by it: "
            "leave SAMPLE out, or have WAREHOUSE_FILE name a new file."
        )
    if not present:
        _refuse_to_replace(settings, home)
    return not present


def make_sample(settings: Settings) -> SampleCounts:
    """Write the sample as the settings describe it; it ends at settings.as_of_date, or yesterday in New York.

    :raises ValueError: when as_of_date is not over yet in New York.
    :raises WarehouseError: when the warehouse file cannot be used, or has one of the tables already.
    """
    return write_sample(
        settings.warehouse_file,
        customers=settings.customers,
        months=settings.months,
        seed=settings.seed,
        as_of_date=_as_of_date(settings),
        memory=settings.warehouse_memory,
        lock_wait=settings.warehouse_lock_wait,
    )


def _as_of_date(settings: Settings) -> datetime.date:
    requested = settings.as_of_date.isoformat() if settings.as_of_date else None
    return decide_as_of_date(None, requested, datetime.datetime.now(datetime.UTC))


def _refuse_to_replace(settings: Settings, home: Path) -> None:
    """Do nothing where the sample takes nobody's place.

    :raises WarehouseError: naming what was built here before, by a warehouse that is lost, renamed, or another one.
    """
    file = settings.warehouse_file
    manifest = _a_manifest(settings.export_root)
    run = _last_run(home)
    own_root = f"EXPORT_ROOT={_shown(file.parent / f'exports_{file.stem}')}"
    if settings.sample and manifest:
        raise WarehouseError(
            f"SAMPLE=1 asks for the sample in {file}, but EXPORT_ROOT {settings.export_root} holds audiences of "
            f"another warehouse ({manifest}), and the sample's would stand among them. Give it a folder of its own: "
            f"{own_root}."
        )
    found = [f"audiences were exported ({manifest})"] if manifest else []
    found += [f"its Airflow ran {run} ({home})"] if run else []
    if settings.sample or not found:
        return
    raise WarehouseError(
        f"The warehouse {file} {'has no sources' if file.exists() else 'is not there'}, but something was built here "
        f"before: {' and '.join(found)}. The sample is not made in its place. Where the file was moved, renamed or "
        "deleted, put it back or name it (WAREHOUSE_FILE=...); docs/backup.md says how to restore a backup. "
        "`make load CUSTOMERS_FILE=... TRANSACTIONS_FILE=...` fills it with data of your own, and SAMPLE=1"
        f"{f' {own_root}' if manifest else ''} with the sample."
    )


def _shown(path: Path) -> str:
    return str(path.relative_to(PROJECT_ROOT) if path.is_relative_to(PROJECT_ROOT) else path)


def _a_manifest(export_root: str) -> str | None:
    """Return the path of one audience's manifest below the export root, the latest date's of a campaign; else None."""
    root: Any = Path(export_root)
    if "://" in export_root:
        # Imported here: it takes seconds.
        from airflow.sdk import ObjectStoragePath

        root = ObjectStoragePath(export_root)
    try:
        found = [str(path) for path in root.glob("*/as_of_date=*/manifest.json")]
    except (OSError, ValueError, ImportError) as error:
        raise WarehouseError(
            f"Whether audiences were exported before cannot be seen: EXPORT_ROOT {export_root} cannot be read: {error}."
        ) from error
    return max(found, default=None)


def _last_run(home: Path) -> str | None:
    """Return the id of the last run of customer_360_refresh that the Airflow of this home has on record; else None."""
    database = home / "airflow.db"
    if not database.is_file():
        return None
    last = "select run_id from dag_run where dag_id = 'customer_360_refresh' order by id desc limit 1"
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            found: tuple[str] | None = connection.execute(last).fetchone()
    except sqlite3.DatabaseError:
        # Left by a start that was cut off before it had any table.
        return None
    return found[0] if found else None


def _source_tables(settings: Settings) -> set[str]:
    if not settings.warehouse_file.exists():
        return set()
    with connect_beside(settings.warehouse_file, settings.warehouse_memory) as connection:
        attach_warehouse(connection, settings.warehouse_file, settings.warehouse_lock_wait, read_only=True)
        found = connection.execute(
            """
            select table_name from information_schema.tables
            where table_catalog = 'warehouse' and table_schema = 'raw' and table_name in (?, ?)
            """,
            [CUSTOMERS.name, TRANSACTIONS.name],
        )
        return {name for (name,) in found.fetchall()}


def write_sample(
    warehouse_file: Path,
    *,
    customers: int,
    months: int,
    seed: int,
    as_of_date: datetime.date,
    threads: int | None = None,
    memory: str = HALF_OF_THE_MACHINE,
    lock_wait: float = 0,
) -> SampleCounts:
    """Write raw.customers and raw.transactions in one transaction, and note it in ops.source_loads.

    The transactions cover `months` months that end on as_of_date. The rows depend on the arguments other than
    `threads` (DuckDB's; all cores when None), `memory` (as WAREHOUSE_MEMORY) and `lock_wait` (in seconds) alone.

    :raises WarehouseError: when the warehouse file cannot be used, or has one of the tables already.
    """
    with connect_beside(warehouse_file, memory) as connection:
        if threads:
            connection.execute("set threads = ?", [threads])
        attach_warehouse(connection, warehouse_file, lock_wait)
        variables = {"customers": customers, "months": months, "seed": seed, "as_of_date": as_of_date}
        for name, value in variables.items():
            connection.execute(f"set variable {name} = $value", {"value": value})
        with warehouse_transaction(connection, warehouse_file):
            connection.execute("create schema if not exists warehouse.raw")
            for table in (CUSTOMERS, TRANSACTIONS):
                connection.execute(f"create table warehouse.raw.{table.name} ({table.column_definitions})")
            for statement in (
                _MACROS,
                _SEGMENTS,
                _MERCHANTS,
                _PEOPLE,
                _SPENDING_MONTHS,
                _CUSTOMERS,
                _TRANSACTIONS,
                _UNUSABLE_TRANSACTIONS,
            ):
                connection.execute(statement)
            described = ", ".join(f"{name}={value}" for name, value in variables.items())
            counts = remember_source_load(
                connection,
                "sample",
                customers_source=described,
                transactions_source=described,
                loaded_at=datetime.datetime.now(datetime.UTC).replace(tzinfo=None),
            )
        return SampleCounts(*counts)
