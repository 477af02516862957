"""A disk that is too small, for one program: no file of it may become larger than a limit."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


def run_on_a_small_disk(
    command: Sequence[str], largest_file: int, cwd: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a command that cannot write a file beyond `largest_file` bytes; DuckDB sees it as it sees a full disk."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    return subprocess.run(
        command, cwd=cwd, env=environment, preexec_fn=limit, capture_output=True, text=True, check=False
    )


@contextmanager
def no_larger_file(largest_file: int) -> Iterator[None]:
    """Have this process write no file beyond `largest_file` bytes, until the end of the body."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
