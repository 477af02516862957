"""The text of a cell, what DuckDB writes of it and what Python does, and the addresses that ad platforms take."""

from __future__ import annotations

import csv
import datetime
import hashlib
import io
import random
import unicodedata
from collections.abc import Sequence
from decimal import Decimal

import duckdb
import pytest

from include.customer_360.csv_cells import csv_line, runs_as_formula
from include.customer_360.operators.audience_files import (
    PLAIN_FIRST,
    Csv,
    Upload,
    form_of,
    googles_address,
    metas_address,
)

# The text of a cell


def test_each_type_has_one_text_form() -> None:
    row = (True, False, None, Decimal("1E+3"), Decimal("0.0000000"), 7, datetime.date(2026, 3, 1))
    assert csv_line(row) == "true,false,,1000,0.0000000,7,2026-03-01\n"


def csv_text(*values: object) -> str:
    """Return the line of one row with these values, without its end."""
    return csv_line(values).removesuffix("\n")


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+15551234567", "'+15551234567"),
        ("-Anna", "'-Anna"),
        ("@sum(A1)", "'@sum(A1)"),
        ("\tAnna", "'\tAnna"),
        ("\rAnna", '"\'\rAnna"'),
        ("\nAnna", '"\'\nAnna"'),
        ("  =1+1", "'  =1+1"),
        ("\N{NO-BREAK SPACE}\N{ZERO WIDTH SPACE}\ufeff-1", "'\N{NO-BREAK SPACE}\N{ZERO WIDTH SPACE}\ufeff-1"),
        ("\x00=1", "'\x00=1"),
        ("\N{FULLWIDTH EQUALS SIGN}1+1", "'\N{FULLWIDTH EQUALS SIGN}1+1"),
        ("\N{FULLWIDTH PLUS SIGN}1", "'\N{FULLWIDTH PLUS SIGN}1"),
        ("\N{FULLWIDTH HYPHEN-MINUS}1", "'\N{FULLWIDTH HYPHEN-MINUS}1"),
        ("\N{FULLWIDTH COMMERCIAL AT}a", "'\N{FULLWIDTH COMMERCIAL AT}a"),
        ("\N{MINUS SIGN}1", "'\N{MINUS SIGN}1"),
        ('=HYPERLINK("http://example.com","Ada")', '"\'=HYPERLINK(""http://example.com"",""Ada"")"'),
        ("-12.50", "'-12.50"),
        ("'=1", "''=1"),
        ("'t Hart", "''t Hart"),
    ],
)
def test_a_text_that_a_spreadsheet_would_run_has_a_quote_before_it(text: str, cell: str) -> None:
    assert csv_text(text) == cell


@pytest.mark.parametrize(
    "text", ["Anna-Lena", "a@example.com", "O'Brien", "1+1=2", " Ada", "", "李", "*", "(Ada)", "#1"]
)
def test_any_other_text_stays_as_it_is(text: str) -> None:
    assert csv_text(text) == text


def test_numbers_keep_their_sign() -> None:
    assert csv_text(Decimal("-12.50"), -7, -0.5, None, datetime.date(2026, 3, 1)) == "-12.50,-7,-0.5,,2026-03-01"


def test_a_program_gets_each_text_back_by_taking_one_quote_off() -> None:
    texts = ["=1+1", "'=1+1", "''", "'", "\t-", "'t Hart", "-Anna, the first", "Ada", '"=1"', "\n=1", "O'Brien", "'\r"]
    content = "".join(csv_line([text]) for text in texts)
    rows = csv.reader(io.StringIO(content, newline=""))
    assert [cell.removeprefix("'") for (cell,) in rows] == texts


# What DuckDB writes is what Python would


def test_what_begins_plainly_is_no_formula_and_has_no_quote_before_it() -> None:
    for first, last in PLAIN_FIRST:
        for character in map(chr, range(ord(first), ord(last) + 1)):
            assert not runs_as_formula(f"{character}=1"), character
            assert unicodedata.category(character)[0] not in "CZ", character


SIGNS = (
    *(
        "=",
        "+",
        "-",
        "@",
        "\N{MINUS SIGN}",
        "\N{FULLWIDTH EQUALS SIGN}",
        "\N{FULLWIDTH PLUS SIGN}",
        "\N{SMALL PLUS SIGN}",
    ),
    *(
        "\t",
        "\r",
        "\n",
        "\r\n",
        ",",
        '"',
        "'",
        " ",
        "\x00",
        "\x1b",
        "\N{NO-BREAK SPACE}",
        "\N{ZERO WIDTH SPACE}",
        "\ufeff",
    ),
    *(
        "\N{RIGHT-TO-LEFT OVERRIDE}",
        "\N{SOFT HYPHEN}",
        "\u0378",
        "\U000e0020",
        "\U0001f600",
        "é",
        "Ł",
        "Ж",
        "李",
        "ﬁ",
        "\N{MULTIPLICATION SIGN}",
    ),
    *("a", "Z", "0", ";", "|", "*****", "\\", "%"),
)
TYPES = {"a": "varchar", "b": "decimal(18, 2)", "c": "varchar", "d": "boolean", "e": "date", "f": "bigint"}


def random_rows(seed: int, rows: int) -> list[tuple[object, ...]]:
    """Return rows of TYPES, NULLs among them, whose texts are made of the signs that may matter."""
    draw = random.Random(seed)

    def text() -> str | None:
        return draw.choice([None, "", *["".join(draw.choices(SIGNS, k=draw.randint(1, 5))) for _ in range(8)]])

    return [
        (
            text(),
            draw.choice([None, Decimal("0.00"), Decimal("-0.10"), Decimal(draw.randint(-(10**17), 10**17)).scaleb(-2)]),
            text(),
            draw.choice([None, True, False]),
            draw.choice([None, datetime.date(1900, 1, 1), datetime.date(2026, 3, 31), datetime.date(9999, 12, 31)]),
            draw.choice([None, 0, -7, 2**63 - 1]),
        )
        for _ in range(rows)
    ]


def written(connection: duckdb.DuckDBPyConnection, columns: Sequence[str]) -> tuple[bytes, bytes, int, int]:
    """Return what is written of table rows: everybody, who enters, and how many they are."""
    batches = list(Csv(columns).batches(connection, lambda selected: f"select {selected} from rows order by number"))
    return (
        b"".join(bytes(batch.lines) for batch in batches),
        b"".join(bytes(batch.entered) for batch in batches),
        sum(batch.rows for batch in batches),
        sum(batch.entrants for batch in batches),
    )


@pytest.mark.parametrize("seed", range(3))
def test_random_rows_have_the_same_bytes_by_duckdb_as_by_python(seed: int) -> None:
    rows = random_rows(seed, 3000)
    with duckdb.connect() as connection:
        described = ", ".join(f"{name} {kind}" for name, kind in TYPES.items())
        connection.execute(f"create table rows (number integer, {described}, enters boolean)")
        values = [value for number, row in enumerate(rows) for value in (number, *row, number % 3 == 0)]
        marks = ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?)"] * len(rows))
        connection.execute(f"insert into rows values {marks}", values)
        everybody, entered, customers, entrants = written(connection, list(TYPES))
    assert everybody == "".join(map(csv_line, rows)).encode()
    assert entered == "".join(map(csv_line, rows[::3])).encode()
    assert (customers, entrants) == (3000, 1000)


def test_many_batches_are_one_file_in_order() -> None:
    with duckdb.connect() as connection:
        connection.execute(
            "create table rows as select i as number, 'C' || i as a, i % 2 = 0 as enters from range(50000) t(i)"
        )
        everybody, _, customers, entrants = written(connection, ["a"])
    assert everybody == "".join(f"C{number}\n" for number in range(50_000)).encode()
    assert (customers, entrants) == (50_000, 25_000)


def test_a_type_whose_text_is_another_in_duckdb_is_written_by_python() -> None:
    with duckdb.connect() as connection:
        connection.execute("create table rows as select 1 as number, 1e16::double as a, '=1' as b, false as enters")
        assert written(connection, ["a", "b"])[0] == b"1e+16,'=1\n"


# Addresses as ad platforms hash them

JOHN = "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f"


@pytest.mark.parametrize("normalise", [googles_address, metas_address])
def test_the_published_vector(normalise: object) -> None:
    with duckdb.connect() as connection:
        connection.execute("create table rows as select ' John_Smith@Gmail.com' as email, true as enters")
        [batch] = Upload("email", normalise).batches(connection, lambda selected: f"select {selected} from rows")
    assert (batch.lines, batch.entered, batch.rows, batch.entrants) == (
        f"{JOHN}\n".encode(),
        f"{JOHN}\n".encode(),
        1,
        1,
    )
    assert hashlib.sha256(b"john_smith@gmail.com").hexdigest() == JOHN


@pytest.mark.parametrize(
    ("address", "googles", "metas"),
    [
        ("John.Smith@gmail.com", "johnsmith@gmail.com", "john.smith@gmail.com"),
        ("john.smith+news@googlemail.com", "johnsmith@googlemail.com", "john.smith+news@googlemail.com"),
        ("john.smith+news@example.com", "john.smith+news@example.com", "john.smith+news@example.com"),
        ("john.smith@mail.gmail.com", "john.smith@mail.gmail.com", "john.smith@mail.gmail.com"),
        (" John Smith@Example.com\t", "johnsmith@example.com", "john smith@example.com"),
        ("", "", ""),
        ("  ", "", ""),
    ],
)
def test_each_platform_has_rules_of_its_own(address: str, googles: str, metas: str) -> None:
    assert (googles_address(address), metas_address(address)) == (googles, metas)


def test_a_format_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match="'tsv' is no format of a destination: name csv, google_customer_match or"):
        form_of("tsv", ["customer_id"])
