"""A project with the metric and the campaigns that the README adds."""

from __future__ import annotations

from pathlib import Path

from tests.documented import commands_under
from tests.project_copy import MAKE, run

KINDS = ("metric", "campaign", "campaign")


def add_what_the_readme_adds(project: Path) -> None:
    """Run the README's commands of *Add a metric* and *Add a campaign* in a copy of the project."""
    commands = commands_under("Add a metric") + commands_under("Add a campaign")
    assert [command.split()[:2] for command in commands] == [["make", f"new-{kind}"] for kind in KINDS]
    for command in commands:
        run(project, *MAKE, *command.split()[1:])
