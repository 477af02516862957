"""Each kind of bad data of tests/bad_data is accepted, rejected with its reason or refused as tests/bad_data/kinds.yml says.

A kind is loaded as `make load` does, into a warehouse of its own; the rows that were loaded are then built together.
"""

from __future__ import annotations

import datetime
import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from bad_data import FOLDER, GOOD, WRITTEN, Kind, Values, read_kinds, tables
from warehouse_builds import DbtBuilds

from include.customer_360.settings import PROJECT_ROOT, Settings
from local.load import LoadError, describe, load_sources

AS_OF_DATE = datetime.date(2026, 3, 31)
KINDS = read_kinds()
REFUSED = [kind for kind in KINDS.values() if kind.refused]
LOADED = [kind for kind in KINDS.values() if not kind.refused]
WITH_TRANSACTIONS = [kind for kind in LOADED if kind.table == "transactions"]
WITH_CUSTOMERS = [kind for kind in LOADED if kind.table == "customers"]


def settings_for(warehouse_file: Path) -> Settings:
    return Settings(_env_file=None, warehouse_file=warehouse_file)


def named(kinds: Iterable[Kind]) -> dict[str, object]:
    """Return the arguments of a test that runs once for each kind."""
    kinds = list(kinds)
    return {"argnames": "kind", "argvalues": kinds, "ids": [kind.name for kind in kinds]}


@dataclass(frozen=True)
class Loaded:
    """What `make load` made of a kind: its warehouse, how many rows it counted, and its report; or its error."""

    warehouse_file: Path
    rows: int = 0
    report: str = ""
    error: str = ""


@dataclass(frozen=True)
class Ends:
    """What became of the rows of every kind, by kind and row; `raw` counts what was loaded."""

    raw: Counter[tuple[str, str]]
    accepted: dict[tuple[str, str], Values]
    rejected: Counter[tuple[str, str, str]]
    customers: dict[tuple[str, str], Values]


@pytest.fixture(scope="module")
def good_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with the customers and transactions that the bad files stand beside."""
    warehouse_file = tmp_path_factory.mktemp("good") / "good.duckdb"
    load_sources(settings_for(warehouse_file), str(GOOD["customers"]), str(GOOD["transactions"]))
    return warehouse_file


@pytest.fixture(scope="module")
def loads(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Loaded]:
    """Every kind that is not to be refused, loaded into a warehouse of its own."""
    folder = tmp_path_factory.mktemp("loads")
    loads = {}
    for kind in LOADED:
        warehouse_file = folder / f"{kind.name}.duckdb"
        try:
            summary = load_sources(settings_for(warehouse_file), *kind.files(folder))
        except LoadError as error:
            loads[kind.name] = Loaded(warehouse_file, error=str(error))
            continue
        report = describe(summary, warehouse_file, datetime.datetime(2026, 4, 1, 12, tzinfo=datetime.UTC))
        loads[kind.name] = Loaded(warehouse_file, getattr(summary, kind.table).rows, report)
    return loads


@pytest.fixture(scope="module")
def ends(good_warehouse: Path, loads: dict[str, Loaded], dbt_builds: DbtBuilds) -> Ends:
    """One build of the rows of all kinds."""
    sources = dbt_builds.folder / "bad_data_sources.duckdb"
    shutil.copyfile(good_warehouse, sources)
    with duckdb.connect(sources) as connection:
        for kind in LOADED:
            if loads[kind.name].error:
                continue
            connection.execute(f"attach '{loads[kind.name].warehouse_file}' as kind (read_only)")
            connection.execute(f"insert into raw.{kind.table} by name select * from kind.raw.{kind.table}")
            connection.execute("detach kind")
    file = dbt_builds.build(sources, "bad_data", AS_OF_DATE).file
    accepted = {row_of(values): values for values in rows_of(file, "core.fct_transactions")}
    in_marts = {values["customer_id"] for values in rows_of(file, "marts.customer_360_profile")}
    return Ends(
        Counter(row_of(values) for values in rows_of(file, "raw.transactions")),
        accepted,
        Counter((*row_of(values), values["reject_reason"]) for values in rows_of(file, "core.rejected_transactions")),
        {
            tuple(values["customer_id"].split("-", 1)): values | {"in_marts": values["customer_id"] in in_marts}
            for values in rows_of(file, "core.dim_customer")
            if "-" in values["customer_id"]
        },
    )


def rows_of(file: Path, table: str) -> list[Values]:
    with duckdb.connect(file, read_only=True) as connection:
        rows = connection.execute(f"from {table}")
        names = [column[0] for column in rows.description]
        return [dict(zip(names, row, strict=True)) for row in rows.fetchall()]


def row_of(values: Values) -> tuple[str, str]:
    """Return the kind of a row of transactions and what stands behind the kind's name."""
    for column in ("transaction_id", "merchant_name"):
        before, dash, row = (values[column] or "").partition("-")
        kind = re.sub(r"^.*\W", "", before) if dash else ""
        if kind in KINDS or kind == "ok":
            return kind, row
    raise AssertionError(f"No kind has the row {values}.")


def assert_values(observed: Values, expected: Values, where: str) -> None:
    for column, value in expected.items():
        wanted = Decimal(str(value)) if isinstance(observed[column], Decimal) else value
        assert observed[column] == wanted, f"{where}, {column}: {observed[column]!r}, expected {value!r}"


@pytest.mark.parametrize(**named(REFUSED))
def test_a_file_of_this_kind_is_refused_before_anything_changes(
    kind: Kind, good_warehouse: Path, tmp_path: Path
) -> None:
    warehouse_file = tmp_path / "w.duckdb"
    shutil.copyfile(good_warehouse, warehouse_file)
    with pytest.raises(LoadError) as refusal:
        load_sources(settings_for(warehouse_file), *kind.files(tmp_path))
    message = str(refusal.value)
    assert kind.name in message, "it names the file"
    assert [part for part in kind.refused if part not in message] == [], message
    assert "\0" not in message
    assert len(message) < 2_000
    assert file_hash(warehouse_file) == file_hash(good_warehouse)


def file_hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize(**named(LOADED))
def test_a_file_of_this_kind_is_loaded_row_by_row_and_reported(kind: Kind, loads: dict[str, Loaded]) -> None:
    loaded = loads[kind.name]
    assert (loaded.error, loaded.rows) == ("", kind.rows)
    assert [part for part in kind.report if part not in loaded.report] == [], loaded.report


@pytest.mark.parametrize(**named(WITH_TRANSACTIONS))
def test_each_row_of_this_kind_ends_as_told_and_none_is_lost(
    kind: Kind, loads: dict[str, Loaded], ends: Ends
) -> None:
    accepted = {row: values for (name, row), values in ends.accepted.items() if name == kind.name}
    rejected = Counter({(row, why): n for (name, row, why), n in ends.rejected.items() if name == kind.name})
    raw = Counter({row: n for (name, row), n in ends.raw.items() if name == kind.name})
    assert rejected == kind.rejected
    assert accepted.keys() == kind.accepted.keys()
    for row, expected in kind.accepted.items():
        assert_values(accepted[row], expected, f"{kind.name}-{row}")
    superseded = raw - Counter(accepted.keys())
    for (row, _), count in rejected.items():
        superseded[row] -= count
    assert +superseded == kind.superseded
    assert raw.total() == loads[kind.name].rows == len(accepted) + rejected.total() + superseded.total()


@pytest.mark.parametrize(**named(WITH_CUSTOMERS))
def test_each_customer_of_this_kind_has_its_values(kind: Kind, ends: Ends) -> None:
    observed = {row: values for (name, row), values in ends.customers.items() if name == kind.name}
    assert observed.keys() == kind.customers.keys()
    for row, expected in kind.customers.items():
        assert_values(observed[row], expected, f"{kind.name}-{row}")


def test_every_file_is_a_kind_and_every_kind_has_one_file() -> None:
    files = [file.name.partition(".")[0] for file in FOLDER.iterdir() if file not in (*GOOD.values(), FOLDER / "kinds.yml")]
    assert sorted([*files, *WRITTEN]) == sorted(KINDS)


def test_the_table_in_docs_is_the_one_of_the_kinds() -> None:
    """`python tests/integration/bad_data.py` writes the tables anew."""
    written = (PROJECT_ROOT / "docs" / "bad_data.md").read_text(encoding="utf-8")
    _, _, from_the_first_table = written.partition("\n## ")
    assert ("## " + from_the_first_table).strip().splitlines() == tables().strip().splitlines()
