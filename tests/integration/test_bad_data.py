"""Each kind of bad data of tests/bad_data is accepted, rejected or refused as tests/bad_data/kinds.yml says.

A kind is loaded as `make load` does, into a warehouse of its own; what was loaded is then built together: kinds whose
dates are all dates by a whole build, those with one that is none, so that the column is text, up to core.
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
from warehouse_builds import BUILD, DbtBuilds

from include.customer_360.settings import PROJECT_ROOT, Settings
from local.load import LoadError, LoadSummary, describe, load_sources

AS_OF_DATE = datetime.date(2026, 3, 31)
KINDS = read_kinds()
REFUSED = [kind for kind in KINDS.values() if kind.refused]
LOADED = [kind for kind in KINDS.values() if not kind.refused]
WITH_TRANSACTIONS = [kind for kind in LOADED if kind.table == "transactions"]
WITH_CUSTOMERS = [kind for kind in LOADED if kind.table == "customers"]
TRANSACTION_TABLES = ("raw.transactions", "core.fct_transactions", "core.rejected_transactions")


def settings_for(warehouse_file: Path) -> Settings:
    return Settings(_env_file=None, warehouse_file=warehouse_file)


def named(kinds: Iterable[Kind]) -> dict[str, object]:
    """Return the arguments of a test that runs once for each kind."""
    kinds = list(kinds)
    return {"argnames": "kind", "argvalues": kinds, "ids": [kind.name for kind in kinds]}


@dataclass(frozen=True)
class Loaded:
    """What `make load` made of a kind: its warehouse, and what it told of it; or its error."""

    warehouse_file: Path
    summary: LoadSummary | None = None
    error: str = ""

    @property
    def report(self) -> str:
        """What is printed on the first of April 2026; nothing after an error."""
        moment = datetime.datetime(2026, 4, 1, 12, tzinfo=datetime.UTC)
        return describe(self.summary, self.warehouse_file, moment) if self.summary else ""


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
            loads[kind.name] = Loaded(warehouse_file, load_sources(settings_for(warehouse_file), *kind.files(folder)))
        except LoadError as error:
            loads[kind.name] = Loaded(warehouse_file, error=str(error))
    return loads


@pytest.fixture(scope="module")
def ends(good_warehouse: Path, loads: dict[str, Loaded], dbt_builds: DbtBuilds) -> Ends:
    """Two builds of the rows of all kinds."""
    with_days, with_texts = dbt_builds.folder / "bad_data.duckdb", dbt_builds.folder / "bad_dates.duckdb"
    for file in (with_days, with_texts):
        shutil.copyfile(good_warehouse, file)
    with duckdb.connect(with_texts) as connection:
        connection.execute("alter table raw.transactions alter transaction_date set data type varchar")
    for kind in LOADED:
        if not loads[kind.name].error:
            add_rows(kind, loads[kind.name].warehouse_file, with_days, with_texts)
    built = []
    for file, command in ((with_days, BUILD), (with_texts, f"{BUILD} --select +core --indirect-selection cautious")):
        (statuses,) = dbt_builds.run(file, [command], AS_OF_DATE)
        assert statuses["test.customer_analytics.raw_equals_accepted_plus_superseded_plus_rejected"] == "pass"
        built.append(dbt_builds.warehouse.rename(file))
    transactions = {table: [row for file in built for row in rows_of(file, table)] for table in TRANSACTION_TABLES}
    in_marts = {values["customer_id"] for values in rows_of(with_days, "marts.customer_360_profile")}
    return Ends(
        Counter(row_of(values) for values in transactions["raw.transactions"]),
        {row_of(values): values for values in transactions["core.fct_transactions"]},
        Counter((*row_of(values), values["reject_reason"]) for values in transactions["core.rejected_transactions"]),
        {
            tuple(values["customer_id"].split("-", 1)): values | {"in_marts": values["customer_id"] in in_marts}
            for values in rows_of(with_days, "core.dim_customer")
            if "-" in values["customer_id"]
        },
    )


def add_rows(kind: Kind, loaded: Path, with_days: Path, with_texts: Path) -> None:
    """Add what was loaded of a kind to the sources with the type of its dates."""
    with duckdb.connect() as connection:
        connection.execute(f"attach '{loaded}' as kind (read_only)")
        [(data_type,)] = connection.execute(
            "select data_type from information_schema.columns where table_catalog = 'kind' "
            "and (table_name, column_name) = ('transactions', 'transaction_date')"
        ).fetchall()
        connection.execute(f"attach '{with_days if data_type == 'DATE' else with_texts}' as sources")
        connection.execute(f"insert into sources.raw.{kind.table} by name select * from kind.raw.{kind.table}")


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
def test_a_file_of_this_kind_is_loaded_row_by_row_and_foretold(kind: Kind, loads: dict[str, Loaded]) -> None:
    """What is foretold are the ends that the next test finds in the builds."""
    loaded = loads[kind.name]
    assert (loaded.error, loaded.summary is None) == ("", False)
    assert getattr(loaded.summary, kind.table).rows == kind.rows
    if kind.table == "transactions":
        foretold = loaded.summary.report
        assert (foretold.accepted, foretold.duplicates) == (len(kind.accepted), kind.superseded.total())
        assert Counter(dict(foretold.rejected)) == kind.reasons
    assert [part for part in kind.report if part not in loaded.report] == [], loaded.report


@pytest.mark.parametrize(**named(WITH_TRANSACTIONS))
def test_each_row_of_this_kind_ends_as_told_and_none_is_lost(kind: Kind, ends: Ends) -> None:
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
    assert raw.total() == kind.rows == len(accepted) + rejected.total() + superseded.total()


@pytest.mark.parametrize(**named(WITH_CUSTOMERS))
def test_each_customer_of_this_kind_has_its_values(kind: Kind, ends: Ends) -> None:
    observed = {row: values for (name, row), values in ends.customers.items() if name == kind.name}
    assert observed.keys() == kind.customers.keys()
    for row, expected in kind.customers.items():
        assert_values(observed[row], expected, f"{kind.name}-{row}")


def test_every_file_is_a_kind_and_every_kind_has_one_file() -> None:
    of_no_kind = (*GOOD.values(), FOLDER / "kinds.yml")
    files = [file.name.partition(".")[0] for file in FOLDER.iterdir() if file not in of_no_kind]
    assert sorted([*files, *WRITTEN]) == sorted(KINDS)


def test_the_table_in_docs_is_the_one_of_the_kinds() -> None:
    """`python -m tests.integration.bad_data` writes the tables anew."""
    written = (PROJECT_ROOT / "docs" / "bad_data.md").read_text(encoding="utf-8")
    _, _, from_the_first_table = written.partition("\n## ")
    assert ("## " + from_the_first_table).strip().splitlines() == tables().strip().splitlines()
