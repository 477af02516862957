"""A copy of the project, for the tests that do in it what a user does."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from include.customer_360.settings import PROJECT_ROOT

MAKE = ("make", "--silent", "-o", ".venv/.made-from-lock", f"PY={sys.executable}")
"""`make` in a copy, which takes the environment that runs the tests as it is."""


def files_of(project: Path) -> dict[str, str]:
    """Return the hash of every file that belongs to the project, by path: git's and those it does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=project,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    there = [path for path in listed if (project / path).is_file()]
    return {path: hashlib.sha256((project / path).read_bytes()).hexdigest() for path in there}


def copy_project(folder: Path) -> Path:
    """Copy the project into `folder`, with the environment that runs the tests as its .venv; return `folder`."""
    for path in files_of(PROJECT_ROOT):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes((PROJECT_ROOT / path).read_bytes())
    subprocess.run(["git", "init", "--quiet", "."], cwd=folder, check=True)
    (folder / ".venv").symlink_to(sys.prefix)
    # make sets an environment up again that is older than the lock.
    os.utime(folder / "requirements.lock", (0, 0))
    with (folder / ".git" / "info" / "exclude").open("a") as exclude:
        exclude.write(".venv\n")
    return folder


def run(project: Path, *command: str, **variables: str) -> str:
    """Run a command in the copy, with this environment's packages, and return what it printed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MAKE"))}
    done = subprocess.run(
        command,
        cwd=project,
        env=inherited | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-6000:]}{done.stderr[-6000:]}"
    return done.stdout
