"""One reader of the published copy: asks it so many times a second until it is told to end, in a process of its own.

`python -m benchmarks.readers FILE CUSTOMERS READS_A_SECOND`; ends when its input does, and prints what it saw as JSON:
the errors, the number of answers of more than one as_of_date, the dates, the milliseconds of each read.
"""

from __future__ import annotations

import datetime
import json
import random
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from include.customer_360.duckdb_file import path_literal

# What the screens ask, each beside the date that the copy says it is of; $1 is a customer.
QUERIES = (
    """
    select state.as_of_date, profile.as_of_date, segments.as_of_date
    from copy.marts.customer_360_profile as profile
    inner join copy.marts.customer_segments as segments on profile.customer_id = segments.customer_id
    cross join copy.marts.publication_state as state
    where profile.customer_id = $1
    """,
    """
    select state.as_of_date, max(history.as_of_date)
    from copy.marts.publication_state as state
    inner join copy.marts.customer_360_history as history on history.customer_id = $1
    group by state.as_of_date
    """,
    """
    select distinct state.as_of_date, spend.as_of_date
    from copy.marts.publication_state as state
    left join copy.marts.customer_category_spend as spend on spend.customer_id = $1
    """,
    """
    select
        state.as_of_date,
        min(profile.as_of_date),
        max(profile.as_of_date),
        profile.customer_segment,
        avg(profile.lifetime_value)
    from copy.marts.customer_360_profile as profile
    cross join copy.marts.publication_state as state
    where $1 is not null
    group by state.as_of_date, profile.customer_segment
    """,
)


class Reader:
    """Keeps the copy open as the screens do, until another file has its name."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.opened = (0, 0)
        self.connection: duckdb.DuckDBPyConnection | None = None

    def ask(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a select."""
        found = self.file.stat()
        identity = (found.st_ino, found.st_mtime_ns)
        if self.connection is None or self.opened != identity:
            if self.connection:
                self.connection.close()
            self.connection = duckdb.connect(config={"threads": 1})
            self.connection.execute(f"attach {path_literal(self.file)} as copy (read_only)")
            self.opened = identity
        return self.connection.execute(sql, parameters).fetchall()


def read_until_told(file: Path, customers: int, a_second: float, told: threading.Event) -> dict[str, Any]:
    """Read at that pace until `told` is set."""
    reader, dates = Reader(file), set()
    milliseconds: list[float] = []
    errors: list[str] = []
    mixed = 0
    due = time.monotonic()
    while not told.is_set():
        time.sleep(max(due - time.monotonic(), 0))
        due += 1 / a_second
        began = time.perf_counter()
        try:
            rows = reader.ask(random.choice(QUERIES), [f"CUST{random.randint(1, customers):08}"])
        except (duckdb.Error, OSError) as error:
            errors.append(f"{type(error).__name__}: {error}")
            continue
        if not rows:
            errors.append("an answer without a row")
        milliseconds.append((time.perf_counter() - began) * 1000)
        of_answer = {str(value) for row in rows for value in row if isinstance(value, datetime.date)}
        mixed += len(of_answer) > 1
        dates |= of_answer
    return {
        "errors": errors,
        "mixed": mixed,
        "dates": sorted(dates),
        "milliseconds": [round(each, 3) for each in milliseconds],
    }


def main() -> None:
    file, customers, a_second = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    told = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        told.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    print(json.dumps(read_until_told(file, customers, a_second, told)))


if __name__ == "__main__":
    main()
