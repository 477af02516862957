"""One reader of the published copy: asks it so many times a second until it is told to end, in a process of its own.

`python -m benchmarks.readers FILE CUSTOMERS READS_A_SECOND`; ends when its input does, and prints what it saw as JSON:
the errors, the number of answers of more than one as_of_date, the dates, the milliseconds of each read.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

# A customer as the screens show one: each mart says of which date its row is.
LOOK_UP = """
select
    state.as_of_date,
    profile.as_of_date,
    segments.as_of_date,
    ltv.as_of_date,
    (select max(history.as_of_date) from copy.marts.customer_360_history as history where history.customer_id = $1),
    (select max(spend.as_of_date) from copy.marts.customer_category_spend as spend where spend.customer_id = $1)
from copy.marts.customer_360_profile as profile
inner join copy.marts.customer_segments as segments on profile.customer_id = segments.customer_id
inner join copy.marts.metric_customer_ltv as ltv on profile.customer_id = ltv.customer_id
cross join copy.marts.publication_state as state
where profile.customer_id = $1
"""
DASHBOARD = """
select
    profile.as_of_date,
    profile.customer_segment,
    count(*),
    avg(profile.lifetime_value)
from copy.marts.customer_360_profile as profile
group by profile.as_of_date, profile.customer_segment
"""
ONE_DASHBOARD_OF = 20
"""Of so many reads one is a dashboard, the others are look-ups."""
SECONDS_OPEN = 1.0
"""A reader opens the copy anew when it was swapped, and after so long in any case."""


class Reader:
    """Keeps the copy open as the screens do, until another file has its name."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.opened: tuple[tuple[int, int], float] = ((0, 0), 0.0)
        self.connection: duckdb.DuckDBPyConnection | None = None

    def ask(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a select."""
        found = self.file.stat()
        identity = (found.st_ino, found.st_mtime_ns)
        if self.connection is None or self.opened[0] != identity or self.opened[1] + SECONDS_OPEN < time.monotonic():
            if self.connection:
                self.connection.close()
            self.connection = duckdb.connect(config={"threads": 1})
            self.connection.execute(f"attach '{self.file}' as copy (read_only)")
            self.opened = (identity, time.monotonic())
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
            if random.randrange(ONE_DASHBOARD_OF):
                [seen] = reader.ask(LOOK_UP, [f"CUST{random.randint(1, customers):08}"])
            else:
                seen = tuple(row[0] for row in reader.ask(DASHBOARD))
        except (duckdb.Error, OSError, ValueError) as error:
            errors.append(f"{type(error).__name__}: {error}")
            continue
        milliseconds.append((time.perf_counter() - began) * 1000)
        of_answer = {str(date) for date in seen if date is not None}
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
