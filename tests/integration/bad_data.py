"""The kinds of bad data of tests/bad_data: their files, what must become of them, their tables in docs/bad_data.md."""

from __future__ import annotations

import datetime
import gzip
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import duckdb
import yaml

from include.customer_360.settings import PROJECT_ROOT

FOLDER = PROJECT_ROOT / "tests" / "bad_data"
GOOD = {table: FOLDER / f"{table}.csv" for table in ("customers", "transactions")}
HEADER = "transaction_id,customer_id,transaction_date,transaction_amount,merchant_name\n"
GOOD_ROWS = 20_000

HEAD = ("| what comes | what happens | what `make load` says, shortened |", "|---|---|---|")

Values = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A kind of bad data and its expected end; tests/bad_data/kinds.yml says what the fields mean.

    `accepted` and `customers` have the expected values by row, `rejected` and `superseded` count by row and reason.
    """

    name: str
    section: str
    what: str
    refused: tuple[str, ...] = ()
    accepted: dict[str, Values] = field(default_factory=dict)
    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)
    superseded: Counter[str] = field(default_factory=Counter)
    customers: dict[str, Values] = field(default_factory=dict)
    report: tuple[str, ...] = ()
    note: str = ""

    @property
    def rows(self) -> int:
        """How many rows its file has."""
        return len(self.accepted) + self.rejected.total() + self.superseded.total() + len(self.customers)

    @property
    def reasons(self) -> Counter[str]:
        """How many rows are rejected for each reason."""
        return sum((Counter({reason: count}) for (_, reason), count in self.rejected.items()), Counter())

    @property
    def table(self) -> Literal["customers", "transactions"]:
        """The table that its file is one of."""
        if self.name in WRITTEN:
            return "transactions"
        return "customers" if next(FOLDER.glob(f"{self.name}.*")).name.split(".")[1] == "customers" else "transactions"

    def files(self, folder: Path) -> tuple[str, str]:
        """Return its files of customers and of transactions; what is not checked in as it is, `folder` gets."""
        if self.name in WRITTEN:
            file = WRITTEN[self.name](folder)
        else:
            [file] = FOLDER.glob(f"{self.name}.*")
            if file.suffix == ".sql":
                written = folder / file.name.removesuffix(".sql")
                duckdb.sql(file.read_text(encoding="utf-8")).write_parquet(str(written))
                file = written
        both = GOOD | {self.table: file}
        return str(both["customers"]), str(both["transactions"])

    @property
    def line(self) -> str:
        """Its line in the table of docs/bad_data.md."""
        reasons = ", ".join(dict.fromkeys(reason for _, reason in self.rejected))
        if self.refused:
            end = "refused"
        elif reasons:
            end = f"rejected: {reasons}"
        else:
            end = "accepted once" if self.superseded else "accepted"
        said = " … ".join(f"`{part.strip()}`" for part in self.refused or self.report)
        cells = (self.what, f"{end}; {self.note}" if self.note else end, said)
        return "| " + " | ".join(cell.replace("`|`", "a vertical bar").replace("|", "\\|") for cell in cells) + " |"


def read_kinds() -> dict[str, Kind]:
    """Read the kinds from kinds.yml, in its order.

    :raises TypeError: when a kind has an entry that Kind does not know.
    """
    sections = yaml.safe_load((FOLDER / "kinds.yml").read_text(encoding="utf-8"))
    return {name: _kind(name, section, given) for section, kinds in sections.items() for name, given in kinds.items()}


def _kind(name: str, section: str, given: dict[str, Any]) -> Kind:
    rejected = [
        (row, reason)
        for row, reasons in _by_row(given.pop("rejected", {}))
        for reason in ([reasons] if isinstance(reasons, str) else reasons)
    ]
    return Kind(
        name,
        section,
        refused=tuple(given.pop("refused", ())),
        accepted={row: _values(values) for row, values in _by_row(given.pop("accepted", {}))},
        rejected=Counter(rejected),
        superseded=Counter(dict(_by_row(given.pop("superseded", {})))),
        customers=dict(_by_row(given.pop("customers", {}))),
        report=tuple(given.pop("report", ())),
        **given,
    )


def _by_row(given: dict[object, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what is given row by row; `2-4` stands for the rows 2, 3 and 4."""
    for rows, value in given.items():
        numbers = re.fullmatch(r"(\d+)-(\d+)", str(rows))
        if numbers:
            for number in range(int(numbers[1]), int(numbers[2]) + 1):
                yield str(number), value
        else:
            yield str(rows), value


def _values(given: Values | float | datetime.date) -> Values:
    if isinstance(given, dict):
        return given
    return {"transaction_date" if isinstance(given, datetime.date) else "transaction_amount": given}


def tables() -> str:
    """Return the tables of docs/bad_data.md, one per section."""
    kinds = read_kinds().values()
    lines = []
    for section in dict.fromkeys(kind.section for kind in kinds):
        lines += [f"## {section}", "", *HEAD]
        lines += [kind.line for kind in kinds if kind.section == section]
        lines.append("")
    return "\n".join(lines)


def _row(name: str, row: object, amount: str = "12.50", merchant: str = "Shop") -> str:
    return f"{name}-{row},c1,2026-03-02,{amount},{merchant}\n"


def _late(name: str, bad_row: bytes) -> Callable[[Path], Path]:
    """Write good rows, the bad one on line 20,002, and more good ones."""

    def write(folder: Path) -> Path:
        good = [_row(name, number) for number in range(GOOD_ROWS + 500)]
        file = folder / f"{name}.csv"
        file.write_bytes(
            HEADER.encode() + "".join(good[:GOOD_ROWS]).encode() + bad_row + "".join(good[GOOD_ROWS:]).encode()
        )
        return file

    return write


def _rows(name: str, *rows: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        file = folder / f"{name}.csv"
        file.write_text(HEADER + "".join(rows), encoding="utf-8")
        return file

    return write


def _gz(name: str, damage: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        amounts = random.Random(1)
        rows = "".join(_row(name, number, f"{amounts.uniform(1, 99):.2f}") for number in range(5_000))
        file = folder / f"{name}.csv.gz"
        file.write_bytes(damage(gzip.compress((HEADER + rows).encode(), mtime=0)))
        return file

    return write


def _parquet(name: str, damage: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        file = folder / f"{name}.parquet"
        duckdb.sql(
            f"""
            select
                '{name}-' || range as transaction_id, 'c1' as customer_id, date '2026-03-02' as transaction_date,
                range + 0.5 as transaction_amount,
            from range(1000)
            """
        ).write_parquet(str(file))
        file.write_bytes(damage(file.read_bytes()))
        return file

    return write


WRITTEN: dict[str, Callable[[Path], Path]] = {
    "missing_file": lambda folder: folder / "missing_file.csv",
    "latin_1_late": _late("latin_1_late", _row("latin_1_late", "bad", merchant="Café").encode("latin-1")),
    "quote_not_closed_late": _late(
        "quote_not_closed_late", _row("quote_not_closed_late", "bad", merchant='"Shop').encode()
    ),
    "text_behind_a_quote_late": _late(
        "text_behind_a_quote_late", _row("text_behind_a_quote_late", "bad", merchant='"Joe" Shop').encode()
    ),
    "megabyte_texts": _rows(
        "megabyte_texts",
        _row("megabyte_texts", 1, merchant="é" * 500_000),
        f"{'x' * 1_000_000},c1,2026-03-02,7,megabyte_texts-2\n",
    ),
    "row_of_three_megabytes": _rows(
        "row_of_three_megabytes", _row("row_of_three_megabytes", 1, merchant="x" * 3_000_000)
    ),
    "megabyte_amount": _rows(
        "megabyte_amount",
        *(_row("megabyte_amount", number) for number in (1, 2, 3)),
        _row("megabyte_amount", 4, amount="9" * 1_000_000),
    ),
    "csv_gz_truncated": _gz("csv_gz_truncated", lambda whole: whole[:20]),
    "csv_gz_truncated_late": _gz("csv_gz_truncated_late", lambda whole: whole[: len(whole) // 2]),
    "csv_gz_with_garbage": _gz(
        "csv_gz_with_garbage", lambda whole: whole[: len(whole) // 2] + bytes(9) + whole[len(whole) // 2 + 9 :]
    ),
    "parquet_truncated": _parquet("parquet_truncated", lambda whole: whole[:-20]),
    "parquet_with_garbage": _parquet("parquet_with_garbage", lambda whole: whole[:4] + bytes(400) + whole[404:]),
}

if __name__ == "__main__":
    page = PROJECT_ROOT / "docs" / "bad_data.md"
    before_the_first, _, _ = page.read_text(encoding="utf-8").partition("\n## ")
    page.write_text(f"{before_the_first}\n{tables()}", encoding="utf-8")
