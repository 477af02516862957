"""The benchmarks as a person runs them, on as little as they take."""

from __future__ import annotations

import subprocess
import sys

from include.customer_360.settings import PROJECT_ROOT


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run these parts of the benchmarks on 300 customers, once."""
    small = ["--customers", "300", "--months", "2", "--rounds", "1"]
    command = [sys.executable, "-m", "benchmarks.run", *arguments, *small]
    return subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
