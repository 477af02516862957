"""The workflow that runs doctor and tests on a Snowflake account, read from its file; its shell steps are run."""

from __future__ import annotations

import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.customer_360.settings import PROJECT_ROOT

WORKFLOWS = PROJECT_ROOT / ".github" / "workflows"
SECRETS = ("SNOWFLAKE_ACCOUNT", "SNOWFLAKE_USER", "SNOWFLAKE_PRIVATE_KEY")
NAMED = "steps.account.outputs.named == 'true'"
# YAML 1.1 reads the key `on` as true.
WORKFLOW = yaml.safe_load((WORKFLOWS / "snowflake.yml").read_text(encoding="utf-8"))
STEPS: list[dict[str, Any]] = WORKFLOW["jobs"]["account"]["steps"]


def step(name: str) -> dict[str, Any]:
    (found,) = (step for step in STEPS if step.get("name") == name)
    return found


def run(name: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a step's shell as a runner does, with its files for outputs and variables in `folder`."""
    files = {"GITHUB_OUTPUT": str(folder / "output"), "GITHUB_ENV": str(folder / "env"), "RUNNER_TEMP": str(folder)}
    for file in ("output", "env"):
        (folder / file).touch()
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step(name)["run"]],
        env={"PATH": "/usr/bin:/bin", **files, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_runs_by_hand_and_once_a_week() -> None:
    assert set(WORKFLOW[True]) == {"workflow_dispatch", "schedule"}
    (schedule,) = WORKFLOW[True]["schedule"]
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", schedule["cron"])


def test_it_may_only_read_the_repository() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}


def test_it_runs_the_doctor_and_the_tests_whatever_the_doctor_found() -> None:
    assert step("Doctor")["run"] == "make snowflake-doctor"
    assert step("Tests")["run"] == "make test-snowflake"
    assert step("Tests")["if"] == f"{NAMED} && !cancelled()"


def test_all_steps_but_the_first_need_the_account() -> None:
    assert "if" not in STEPS[0]
    assert [step for step in STEPS[1:] if NAMED not in step["if"]] == []


@pytest.mark.parametrize("missing", SECRETS)
def test_without_a_secret_it_says_so_in_one_line_and_is_green(missing: str, tmp_path: Path) -> None:
    values = dict.fromkeys(SECRETS, "a value") | {missing: ""}
    done = run("See whether there is an account", tmp_path, values)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "Nothing was checked: the secrets SNOWFLAKE_ACCOUNT, SNOWFLAKE_USER and SNOWFLAKE_PRIVATE_KEY are not set.\n"
    )
    assert (tmp_path / "output").read_text() == ""


def test_with_all_secrets_the_other_steps_run(tmp_path: Path) -> None:
    done = run("See whether there is an account", tmp_path, dict.fromkeys(SECRETS, "a value"))
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "output").read_text() == "named=true\n"


def test_only_its_owner_reads_the_key_and_it_is_not_printed(tmp_path: Path) -> None:
    key = "-----BEGIN PRIVATE KEY-----\nthe content of a key\n-----END PRIVATE KEY-----"
    done = run("Write the key", tmp_path, {"SNOWFLAKE_PRIVATE_KEY": key})
    written = tmp_path / "snowflake.p8"
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert written.read_text() == key + "\n"
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert (tmp_path / "env").read_text() == f"SNOWFLAKE_PRIVATE_KEY_PATH={written}\n"


def test_the_key_is_given_to_the_two_steps_that_look_at_it_and_removed_at_the_end() -> None:
    holders = [step["name"] for step in STEPS if "SNOWFLAKE_PRIVATE_KEY" in step.get("env", {})]
    assert holders == ["See whether there is an account", "Write the key"]
    assert "SNOWFLAKE_PRIVATE_KEY" not in WORKFLOW["jobs"]["account"]["env"]
    assert STEPS[-1]["name"] == "Remove the key"
    assert STEPS[-1]["if"].startswith("always()")


def test_its_actions_are_pinned_as_those_of_ci() -> None:
    def actions(file: str) -> set[str]:
        text = (WORKFLOWS / file).read_text(encoding="utf-8")
        return set(re.findall(r"uses: (\S+@[0-9a-f]{40} # v[\d.]+)$", text, flags=re.MULTILINE))

    assert set() != actions("snowflake.yml") <= actions("ci.yml")
    assert all("@" in step["uses"] for step in STEPS if "uses" in step)
