"""What the settings take, and what they say of a value that they do not take."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from include.customer_360.settings import SettingsError, load_settings


def test_as_of_date_is_taken_as_it_is_written_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AS_OF_DATE", "2026-03-31")
    assert load_settings().as_of_date == datetime.date(2026, 3, 31)


@pytest.mark.parametrize("no_date", ["2026-03-31T00:00:00", "1774915200", "20260331", "2026-02-30", " 2026-03-31"])
def test_an_as_of_date_that_is_written_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch, no_date: str) -> None:
    monkeypatch.setenv("AS_OF_DATE", no_date)
    with pytest.raises(SettingsError, match=f"AS_OF_DATE='{no_date}'"):
        load_settings()


@pytest.mark.parametrize(
    ("value", "hour"),
    [("", datetime.time(5)), ("04:30", datetime.time(4, 30)), ("00:00", datetime.time(0)), ("never", None)],
)
def test_sources_are_waited_for_until_an_hour_or_never(
    monkeypatch: pytest.MonkeyPatch, value: str, hour: datetime.time | None
) -> None:
    monkeypatch.setenv("SOURCES_WAIT_UNTIL", value)
    assert load_settings().sources_wait_until == hour


@pytest.mark.parametrize("no_hour", ["5", "24:00", "05:00:30", "5 AM", "18000"])
def test_what_is_no_hour_is_refused_with_what_is_taken(monkeypatch: pytest.MonkeyPatch, no_hour: str) -> None:
    monkeypatch.setenv("SOURCES_WAIT_UNTIL", no_hour)
    with pytest.raises(SettingsError, match=f"SOURCES_WAIT_UNTIL='{no_hour}'.*HH:MM, for example 05:00, or never"):
        load_settings()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"KEEP_RUN_SCHEMAS_DAYS": "0"}, "KEEP_RUN_SCHEMAS_DAYS='0'"),
        ({"KEEP_FAILING_ROWS_DAYS": "0"}, "KEEP_FAILING_ROWS_DAYS='0'"),
        ({"KEEP_VALIDATION_RESULTS_DAYS": "6"}, "KEEP_VALIDATION_RESULTS_DAYS=6 is less than KEEP_RUN_SCHEMAS_DAYS=7"),
        ({"KEEP_HISTORY_DAYS": "89"}, "KEEP_HISTORY_DAYS=89 is less than 90"),
        ({"KEEP_EXPORTS_DAYS": "-1"}, "KEEP_EXPORTS_DAYS='-1'"),
    ],
)
def test_less_is_not_kept_than_runs_need(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=message):
        load_settings()


def test_what_is_kept_for_ever_is_0(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VALIDATION_RESULTS", "EXPORTS", "HISTORY"):
        monkeypatch.setenv(f"KEEP_{name}_DAYS", "0")
    settings = load_settings()
    assert (settings.keep_validation_results_days, settings.keep_exports_days, settings.keep_history_days) == (0, 0, 0)


@pytest.mark.parametrize(
    ("warehouse", "files"),
    [
        ("warehouse", ["published.duckdb", "published_personal.duckdb", "screens_log.jsonl"]),
        ("own", ["own_published.duckdb", "own_published_personal.duckdb", "own_screens_log.jsonl"]),
    ],
)
def test_two_warehouses_in_one_folder_share_no_file_of_their_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warehouse: str, files: list[str]
) -> None:
    monkeypatch.setenv("WAREHOUSE_FILE", str(tmp_path / f"{warehouse}.duckdb"))
    settings = load_settings()
    found = [settings.published_file, settings.published_personal_file, settings.screens_log_file]
    assert found == [tmp_path / name for name in files]


def test_the_copy_lies_where_it_is_told_to_and_its_other_files_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBLISHED_FILE", str(tmp_path / "readers" / "customers.duckdb"))
    settings = load_settings()
    assert settings.published_file == tmp_path / "readers" / "customers.duckdb"
    assert settings.published_personal_file == tmp_path / "readers" / "customers_personal.duckdb"
    assert settings.screens_log_file == tmp_path / "readers" / "screens_log.jsonl"


@pytest.mark.parametrize(
    ("warehouse", "published", "message"),
    [
        ("w.duckdb", "w.duckdb", "would have the copy take the place of the warehouse"),
        ("w_personal.duckdb", "w.duckdb", "would have the copy take the place of the warehouse"),
        ("w.duckdb", "marts.duckdb", "is called like the schema in it"),
    ],
)
def test_a_copy_in_the_place_of_the_warehouse_or_called_like_its_schema_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warehouse: str, published: str, message: str
) -> None:
    monkeypatch.setenv("WAREHOUSE_FILE", str(tmp_path / warehouse))
    monkeypatch.setenv("PUBLISHED_FILE", str(tmp_path / published))
    with pytest.raises(SettingsError, match=f"PUBLISHED_FILE=.*{message}"):
        load_settings()
