"""How the published copy is read on DuckDB: within bounds, and what is said of a copy that cannot be."""

from __future__ import annotations

import stat
from pathlib import Path

import duckdb
import pytest

from app import page
from app.published import NotReadable, PublishedCopy, open_copy, spill_folder
from include.customer_360.semantics import SemanticsError
from include.customer_360.settings import Settings
from tests.screens.conftest import Screen
from tests.screens.looking import in_the_copy


@pytest.fixture
def copy(settings: Settings) -> PublishedCopy:
    return open_copy(settings, personal_data=True)


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_text('/etc/hostname')",
        "copy (select 1) to 'taken.csv'",
        "attach 'other.duckdb' as other",
        "set memory_limit = '10GB'",
        "set enable_external_access = true",
    ],
)
def test_what_is_asked_reaches_no_other_file_and_no_setting(copy: PublishedCopy, sql: str) -> None:
    with pytest.raises(NotReadable, match=r"cannot be read: .*(disabled|locked|Cannot)"):
        copy.frame(sql)
    assert len(copy.frame("select * from marts.customer_360_profile")) == 8
    assert len(copy.in_marts("select * from customer_360_profile")) == 8


def test_what_a_reader_spills_lies_where_only_its_user_looks_and_goes_with_the_session(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_MEMORY", "512MB")
    settings = Settings()
    opened = open_copy(settings, personal_data=True)
    folder = spill_folder(settings)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.parent == settings.published_file.parent
    [limit, temporary] = opened.frame(
        "select current_setting('memory_limit') as a, current_setting('temp_directory') as b"
    ).iloc[0]
    with duckdb.connect(config={"memory_limit": settings.memory_of_a_reader}) as other:
        assert (limit,) == other.execute("select current_setting('memory_limit')").fetchone()
    assert Path(temporary).parent == folder
    assert not list(folder.iterdir())


def test_a_folder_that_others_could_read_is_closed_to_them(settings: Settings) -> None:
    spill_folder(settings).mkdir(mode=0o755)
    open_copy(settings, personal_data=False)
    assert stat.S_IMODE(spill_folder(settings).stat().st_mode) == 0o700


def test_no_place_to_spill_is_said(settings: Settings) -> None:
    spill_folder(settings).write_text("")
    with pytest.raises(NotReadable, match=r"readers\.tmp, which takes what .* cannot be made"):
        open_copy(settings, personal_data=False)


@pytest.mark.parametrize(
    "statement",
    [
        "drop table marts.publication_state",
        "alter table marts.publication_state drop column copied_at",
        "alter table marts.nights drop column failed_task",
        "drop table marts.customer_360_history",
    ],
)
def test_a_copy_of_an_older_shape_says_what_renews_it(settings: Settings, screen: Screen, statement: str) -> None:
    in_the_copy(settings, statement)
    [error] = screen("executive").error
    assert error.value.startswith(f"The published copy {settings.published_file} cannot be read: ")
    assert error.value.endswith("clear task publish of the last run of customer_360_refresh.")


def test_a_figure_that_is_not_defined_is_said(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    def undefined(personal_data: bool) -> None:
        raise SemanticsError("metric 'nothing' is not defined")

    monkeypatch.setattr(page, "warehouse", undefined)
    assert [each.value for each in screen("executive").error] == ["metric 'nothing' is not defined"]
