"""A DuckDB file that another program has open, for the tests of what waits for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HOLD = """
import duckdb, select, sys
file, read_only, seconds = sys.argv[1], sys.argv[2] == "True", float(sys.argv[3])
connection = duckdb.connect(file, read_only=read_only)
print("held", flush=True)
select.select([sys.stdin], [], [], seconds)
"""


@contextmanager
def held(file: Path, seconds: float = 60, read_only: bool = False) -> Iterator[int]:
    """Have another process open the file for so many seconds, and no longer than the body; gives its process id."""
    command = [sys.executable, "-c", _HOLD, str(file), str(read_only), str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        try:
            yield holder.pid
        finally:
            holder.communicate()
