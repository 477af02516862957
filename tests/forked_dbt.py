"""dbt, and what calls it, in a process of its own that begins with the project read: a fork of one that has read it.

Of processor time dbt takes 1.5 s to be imported, 4 s to read the project for the first time, and 2 s for every further.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from include.customer_360.settings import DBT_PROJECT

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.parsed_project"])

# dbt's parser in Rust waits for threads that are not forked with it.
WITHOUT_THREADS = {"DBT_STATIC_PARSER": "false"}


def run_dbt(
    *arguments: str, environment: Mapping[str, str], project: Path = DBT_PROJECT
) -> subprocess.CompletedProcess[str]:
    """Run `dbt` with these arguments in a project, with these variables beside the caller's."""
    return run_module("dbt.cli.main", *arguments, folder=project, environment=environment)


def run_module(
    module: str, *arguments: str, folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run `python -m module` with these arguments in a folder, with these variables beside the caller's."""
    return run_function(_as_main, module, arguments, folder=folder, environment=environment)


def run_function(
    function: Callable[..., object], *arguments: object, folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Call a function of a module in a folder, with these variables beside the caller's; it may change both."""
    with tempfile.TemporaryDirectory() as printed:
        outputs = [Path(printed) / name for name in ("stdout", "stderr")]
        variables = {**os.environ, **environment, **WITHOUT_THREADS}
        process = FORKS.Process(target=_call, args=(function, arguments, folder, variables, outputs))
        process.start()
        process.join()
        texts = [output.read_text(encoding="utf-8") for output in outputs]
    assert process.exitcode is not None
    return subprocess.CompletedProcess([function.__name__, *map(str, arguments)], process.exitcode, *texts)


def _call(
    function: Callable[..., object],
    arguments: tuple[object, ...],
    folder: Path,
    variables: dict[str, str],
    outputs: list[Path],
) -> None:
    for descriptor, output in enumerate(outputs, start=1):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    try:
        function(*arguments)
    finally:
        # A fork ends at once: what it left open would stay beside the file, not in it.
        DuckDBConnectionManager.close_all_connections()


def _as_main(module: str, arguments: tuple[str, ...]) -> None:
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
