"""The project's own tests hold for a metric and a campaign that somebody adds as the README says."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.project_copy import copy_project, run
from tests.scaffolded import add_what_the_readme_adds

EVERY_UNIT_TEST = "tests/integration/test_dbt_project.py::test_every_unit_test_passes"
EVERY_CAMPAIGN = "tests/unit/test_export.py::test_every_campaign_can_be_exported"


def test_the_projects_own_tests_pass_with_them(tmp_path: Path) -> None:
    project = copy_project(tmp_path)
    add_what_the_readme_adds(project)
    over_the_catalog = ["tests/dags", "tests/unit/test_catalog.py", "tests/unit/test_publish.py", EVERY_CAMPAIGN]
    # Its unit tests are run where it is built: tests/end_to_end/test_scaffolds.py.
    of_the_manifest = ("tests/integration/test_dbt_project.py", "--deselect", EVERY_UNIT_TEST)
    # What is planted in the other marts is theirs, whatever stands beside them.
    of_all = "every_check_has_a_planted_fault or a_model_as_it_is"
    of_validations = (
        "tests/unit/test_validations.py",
        "-k",
        f"not test_validations or metric_recent_share or {of_all}",
    )
    pytest = (sys.executable, "-m", "pytest", "-vv", "-x", "-p", "no:cacheprovider")
    printed = run(project, *pytest, *over_the_catalog, *of_the_manifest, *of_validations)
    assert "metric_recent_share" in printed
