"""Load a long history into core in ranges of months: `make load-history FROM=2023-01 UNTIL=2026-01`.

A first load of a billion rows in one statement exceeds the hour after which a warehouse of the set-up stops it. This
builds core once per range of months of arrival, each with statements of a range's length, and tests each range as it
tests a night's load. What was loaded is known by day: a load that stopped is started again as it was, and takes what is
missing. What arrived in UNTIL and later is left to the next nightly run, before which `customer_360_refresh` has to be
paused. dbt logs in with the variables of include/dbt/profiles.yml; SNOWFLAKE_WAREHOUSE_CORE names a larger warehouse.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator

from dbt.cli.main import dbtRunner
from dbt.contracts.graph.manifest import Manifest

from include.customer_360.settings import DBT_PROJECT, load_settings

BUILD = (
    "build --select +core --indirect-selection buildable "
    "--exclude-resource-type unit_test --exclude tag:first_load_only"
)
RUN_SCHEMA = "marts_run_history"
"""What the Dag's target asks for; nothing is built in it."""


class LoadHistoryError(RuntimeError):
    """The load cannot begin, or stopped; the message says at which range, and how to go on."""


def month(name: str) -> tuple[int, int]:
    """Return year and month of an environment variable, YYYY-MM.

    :raises LoadHistoryError: when it is missing or no month.
    """
    value = os.environ.get(name, "")
    found = re.fullmatch(r"(\d{4})-(0[1-9]|1[0-2])", value)
    if not found:
        raise LoadHistoryError(
            f"{name}={value!r} is no month: make load-history FROM=2023-01 UNTIL=2026-01 [MONTHS_AT_ONCE=1]. FROM is "
            "the month in which the first rows arrived, UNTIL the first that is left to the nightly run."
        )
    return int(found[1]), int(found[2])


def months_at_once() -> int:
    """Return MONTHS_AT_ONCE, by default 1.

    :raises LoadHistoryError: when it is no whole number above 0.
    """
    value = os.environ.get("MONTHS_AT_ONCE", "") or "1"
    if not re.fullmatch(r"[1-9]\d*", value):
        raise LoadHistoryError(f"MONTHS_AT_ONCE={value!r} is no whole number above 0.")
    return int(value)


def ends_of_ranges(first: tuple[int, int], until: tuple[int, int], at_once: int) -> Iterator[str]:
    """Yield the day before which each range ends, YYYY-MM-DD; the last is the first day of `until`.

    :param first: the first month, as year and month.
    :param until: the month after the last.
    :raises LoadHistoryError: when it is not after the first.
    """
    if until <= first:
        raise LoadHistoryError("UNTIL={}-{:02} is not after FROM={}-{:02}.".format(*until, *first))
    begin, end = (year * 12 + number - 1 for year, number in (first, until))
    for after in range(begin + at_once, end + at_once, at_once):
        year, number = divmod(min(after, end), 12)
        yield f"{year:04}-{number + 1:02}-01"


def load(ends: list[str], target: str) -> None:
    """Build core once per range.

    :param target: dbt's.
    :raises LoadHistoryError: when a range fails; those before it are loaded.
    """
    os.chdir(DBT_PROJECT)
    os.environ.setdefault("RUN_SCHEMA", RUN_SCHEMA if target == "snowflake" else "")
    options = ["--target", target, "--profiles-dir", ".", "--quiet"]
    parsed = dbtRunner().invoke(["parse", *options])
    if not isinstance(parsed.result, Manifest):
        raise LoadHistoryError(f"dbt cannot read the project or its variables: {parsed.exception}")
    for number, end in enumerate(ends, start=1):
        began = time.monotonic()
        os.environ["LOAD_ARRIVED_BEFORE"] = end
        built = dbtRunner(manifest=parsed.result).invoke([*BUILD.split(), *options])
        if not built.success:
            raise LoadHistoryError(
                f"What arrived before {end} could not be loaded (range {number} of {len(ends)}): dbt says above why"
                f"{f', {built.exception}' if built.exception else ''}. Correct it and start the same command again: "
                "what is loaded already is not loaded again."
            )
        print(
            f"Loaded what arrived before {end} ({number} of {len(ends)}), {time.monotonic() - began:.0f} s", flush=True
        )


def main() -> int:
    """Load; return the exit code."""
    try:
        first, until = month("FROM"), month("UNTIL")
        load(list(ends_of_ranges(first, until, months_at_once())), load_settings().warehouse)
    except LoadHistoryError as error:
        print(error, file=sys.stderr)
        return 1
    print("The history is loaded. Unpause customer_360_refresh: its next run loads what has arrived since.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
