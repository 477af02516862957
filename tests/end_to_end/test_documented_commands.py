"""Every command of the README and docs/ is run, here or by the test named, unless the page says what it needs."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest

from include.customer_360.settings import PROJECT_ROOT
from tests.documented import Documented, documented, pages
from tests.documented_run import (
    ADD_CONNECTIONS,
    BACKED_UP,
    COMMANDS,
    ERASE,
    LOAD_FILES,
    ON_MAKE_UP,
    QUERY,
    RESTORED,
    SUPPRESS,
    DocumentedRun,
)
from tests.project_copy import files_of

GUIDE = "tests/integration/test_guide_examples.py::test_dbt_commands"
MARTS = "tests/integration/test_aggregate_marts.py"
RUN_BY = {
    "make refresh": (
        "tests/end_to_end/test_scaffolds.py::test_the_new_metric_is_validated_published_and_in_the_summary"
    ),
    "make app": "tests/screens/test_screens_in_a_browser.py::test_the_figures_are_those_of_the_marts",
    # Three nights of its fifty.
    "make chaos": (
        "tests/end_to_end/test_chaos.py::test_a_night_in_which_something_is_killed_ends_as_one_that_nobody_disturbs"
    ),
    "airflow backfill create --dag-id customer_360_refresh --from-date 2026-03-01 --to-date 2026-04-01": (
        "tests/end_to_end/test_schedule.py::test_a_backfilled_date_writes_history_and_publishes_nothing"
    ),
    (
        "airflow backfill create --dag-id customer_360_refresh --from-date 2026-03-01 --to-date 2026-04-01 "
        "--reprocess-behavior completed"
    ): (
        "tests/end_to_end/test_refresh.py::"
        "test_a_backfill_of_dates_that_were_run_restates_them_and_keeps_what_that_changed"
    ),
    "dbt build --exclude-resource-type unit_test": GUIDE,
    "dbt run --select marts": GUIDE,
    "dbt run --select marts.marketing": GUIDE,
    "dbt run --select customer_360_profile": GUIDE,
    "dbt test --select marts": GUIDE,
    "dbt test --select metric_customer_ltv": GUIDE,
    "dbt test --select customer_360_profile": GUIDE,
    f".venv/bin/python -m pytest {MARTS} -v": f"{MARTS}::test_all_marts_build",
    f".venv/bin/python -m pytest {MARTS}::test_metric_customer_ltv -v": f"{MARTS}::test_metric_customer_ltv",
}
# .ci/run calls these two; the third takes half an hour.
NOT_BY_A_TEST = {"make test", "make lint", "make bench"}
ENTRIES = [entry for page in pages() for entry in documented(page)]


def test_every_command_is_run_or_says_what_it_needs() -> None:
    known = {*RUN_BY, *COMMANDS, *NOT_BY_A_TEST}
    # In the prose a command may stand for one that a block has whole.
    marked = {entry.command for entry in ENTRIES if entry.needs}

    def is_run(entry: Documented) -> bool:
        if entry.needs or entry.command in known:
            return True
        return not entry.heading and any(command.startswith(entry.command) for command in {*known, *marked})

    assert len(ENTRIES) > 80
    assert [entry.place for entry in ENTRIES if not is_run(entry)] == []


def test_no_command_is_run_that_no_page_has() -> None:
    written = {entry.command for entry in ENTRIES}
    assert {*RUN_BY, *COMMANDS, *NOT_BY_A_TEST} - written == set()


@pytest.mark.parametrize("command", RUN_BY)
def test_the_test_that_runs_it_is_there(command: str) -> None:
    file, _, name = RUN_BY[command].partition("::")
    assert re.search(rf"^def {name}\(", (PROJECT_ROOT / file).read_text(), flags=re.MULTILINE)


def test_what_no_test_runs_is_called_by_the_build_or_takes_long() -> None:
    targets = re.findall(r"^make .*?(\w+)$", (PROJECT_ROOT / ".ci" / "run").read_text(), flags=re.MULTILINE)
    called = {f"make {target}" for target in targets}
    assert NOT_BY_A_TEST - called == {"make bench"}


LOAD, UP = "    make load\n", "    make up\n"
NEEDS, ASTRO = "*Needs an Astro account.*\n", "an Astro account"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"## A\n\n{LOAD}", [("make load", "")]),
        (
            f"## A\n\n{NEEDS}\n{LOAD}\nText.\n\n{UP}",
            [("make load", ASTRO), ("make up", ASTRO)],
        ),
        (f"## A\n\nText.\n\n{NEEDS}\n{LOAD}\nText.\n\n{UP}", [("make load", ASTRO), ("make up", "")]),
        (f"## A\n\n{LOAD}\n{NEEDS}\n{UP}", [("make load", ""), ("make up", ASTRO)]),
        ("## A\n\n    astro x \\\n        --y    # why\n", [("astro x --y", "")]),
        ("## A\n\n```bash\ndbt build   # all\n```\n\n    select 1\n", [("dbt build", "")]),
        ("## A\n\nDo `CUSTOMERS=2 make refresh` first.\n", [("CUSTOMERS=2 make refresh", "")]),
    ],
)
def test_a_pages_commands_are_found(
    text: str, expected: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "page.md").write_text(text)
    monkeypatch.setattr("tests.documented.PROJECT_ROOT", tmp_path)
    assert [(entry.command, entry.needs) for entry in documented("page.md")] == expected


@pytest.fixture
def printed(documented_run: DocumentedRun) -> dict[str, str]:
    """What each of COMMANDS printed."""
    return documented_run.printed


@pytest.fixture
def project(documented_run: DocumentedRun) -> Path:
    """The copy of the project in which they ran."""
    return documented_run.project


def test_the_first_commands_do_what_the_readme_says(printed: dict[str, str]) -> None:
    assert "make new-metric" in printed["make help"]
    assert re.search(r"[0-9]{3} tests collected", printed["make test-fast"])
    assert "Published, as of" in printed["CUSTOMERS=2000 make refresh"]
    assert "2,000 customer rows" in printed["CUSTOMERS=2000 make refresh"]
    assert "customer_id" in printed[QUERY]
    assert "UI        http://localhost:" in printed["make up"]
    assert "is stopped" in printed["make down"]


def test_the_command_line_of_airflow_works_on_what_make_up_left_and_a_range_ends_before_its_last_day(
    printed: dict[str, str], project: Path
) -> None:
    dates = re.findall(r"\| (2026-0[34]-\d\d) ", printed[ON_MAKE_UP].partition("Airflow is up already")[0])
    assert sorted(set(dates)) == [f"2026-03-{day:02}" for day in range(1, 32)]


def test_each_connection_by_which_people_are_told_is_added(printed: dict[str, str]) -> None:
    assert ["Successfully added" in printed[command] for command in ADD_CONNECTIONS] == [True] * 3


def test_a_second_make_up_says_how_to_log_in_and_make_down_names_an_airflow_elsewhere(
    printed: dict[str, str], project: Path
) -> None:
    [password] = re.findall(r"password  (\S+)", printed["make up"])
    again = printed[ON_MAKE_UP].partition("Airflow is up already, on ")[2]
    assert f"password  {password}" in again
    file = project / "data" / "warehouse.duckdb"
    assert re.search(
        rf"No Airflow runs on {project}/data/other\.duckdb\. One runs on {file} \(pid \d+, http://127.0.0.1:\d+\): "
        rf"`WAREHOUSE_FILE={file} make down` stops it\.",
        again,
    )


def test_a_backup_is_made_and_restored_as_the_page_says(printed: dict[str, str], project: Path) -> None:
    backup = project / "data" / "backups" / "monday.duckdb"
    assert f"To restore it: make restore FILE={backup}" in printed[BACKED_UP]
    assert "Restored" in printed[RESTORED]
    [earlier] = (project / "data").glob("warehouse_before_restore_*.duckdb")
    files = [backup, earlier, project / "data" / "warehouse.duckdb", project / "data" / "by_hand.duckdb"]
    found = []
    for file in files:
        # As `warehouse`, by which its views name it.
        with duckdb.connect() as connection:
            connection.execute(f"attach '{file}' as warehouse (read_only)")
            found += connection.execute("select count(*) from warehouse.staging.stg_transactions").fetchall()
    assert found == [(2,)] * 4


def test_data_of_ones_own_is_loaded_and_refreshed(printed: dict[str, str], project: Path) -> None:
    assert "transactions: 2 rows from transactions.parquet" in printed[LOAD_FILES]
    assert "of which a refresh makes 2 accepted + 0 duplicates + 0 rejected" in printed[LOAD_FILES]
    assert "Next: AS_OF_DATE=2024-12-31 make refresh" in printed[LOAD_FILES]
    assert (
        "2 customer rows; 2 transaction rows = 2 accepted + 0 duplicates + 0 rejected"
        in printed["AS_OF_DATE=2024-12-31 make refresh"]
    )
    with duckdb.connect(str(project / "data" / "warehouse.duckdb"), read_only=True) as connection:
        values = "select customer_id, lifetime_value, as_of_date::varchar from marts.customer_360_profile order by 1"
        rows = [(customer, str(value), date) for customer, value, date in connection.execute(values).fetchall()]
    assert rows == [("C1", "10.50", "2024-12-31"), ("C2", "20.00", "2024-12-31")]


def test_the_suppression_list_of_the_page_is_taken_and_survives_the_refresh(
    printed: dict[str, str], project: Path
) -> None:
    assert "suppressions.csv: 1 rows, 1 new on the suppression list of " in printed[SUPPRESS]
    with duckdb.connect(str(project / "data" / "warehouse.duckdb"), read_only=True) as connection:
        listed = connection.execute("select reason, valid_from::varchar from ops.suppressions order by 1").fetchall()
    # Behind the person who was erased before: id and address.
    assert listed == [("erased", None), ("erased", None), ("unsubscribed", "2024-11-26")]


def test_a_person_is_erased_as_the_page_says(printed: dict[str, str]) -> None:
    assert "Erased customer CUST00000001: rows taken out of" in printed[ERASE]
    assert re.search(r"raw\.transactions +\d", printed[ERASE])


def test_each_key_pair_comes_out_as_the_statement_for_its_user(printed: dict[str, str]) -> None:
    keys = set()
    for user in ("airflow", "export"):
        (command,) = (command for command in COMMANDS if command.startswith(f'echo "alter user customer_360_{user} '))
        wanted = rf"alter user customer_360_{user} set rsa_public_key = '([A-Za-z0-9+/=]{{300,}})';"
        statement = re.fullmatch(wanted, printed[command].strip())
        assert statement
        keys.add(statement[1])
    assert len(keys) == 2
    assert re.fullmatch(r"[A-Za-z0-9+/=]{300,}", printed[COMMANDS[-1]].strip())


def test_the_dry_run_prints_the_whole_set_up(printed: dict[str, str]) -> None:
    statements = printed["make snowflake-setup DRY_RUN=1"]
    assert "create database if not exists customer_360" in statements
    assert statements.count("\n-- ") > 70


def test_the_picture_that_is_drawn_anew_is_the_one_there_was(printed: dict[str, str], project: Path) -> None:
    picture = "docs/images/rooms.svg"
    assert printed["make rooms"] == ""
    assert files_of(project)[picture] == files_of(PROJECT_ROOT)[picture]


@pytest.mark.parametrize("file", ["deploy/snowflake/after_publication/semantic_view.sql", "docs/semantics.md"])
def test_what_follows_from_the_metrics_is_written_as_it_was(printed: dict[str, str], project: Path, file: str) -> None:
    assert "Written: " in printed["make semantics"]
    assert files_of(project)[file] == files_of(PROJECT_ROOT)[file]
