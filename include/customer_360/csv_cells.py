"""Rows as CSV: the text of a cell, which no spreadsheet takes for a formula."""

from __future__ import annotations

import datetime
import unicodedata
from collections.abc import Iterable
from decimal import Decimal

FORMULA_SIGNS = "=+-@\N{MINUS SIGN}"
"""With one of these, also in full width, a spreadsheet's formula begins."""

_BREAKS = ("\t", "\r", "\n")


def text_of(value: object) -> str:
    """Return the text of a cell, without the quotes that a separator in it asks for.

    Decimals keep their scale, dates are YYYY-MM-DD, booleans true and false, NULL is empty. A text that a spreadsheet
    would run as a formula, or that begins with a single quote, has one before it.
    """
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case Decimal():
            return format(value, "f")
        case int() | float():
            return str(value)
        case datetime.date():
            return value.isoformat()
        case _:
            text = str(value)
            # Also before a quote of its own, so that a program takes one off each text that begins with one.
            return f"'{text}" if text.startswith("'") or runs_as_formula(text) else text


def runs_as_formula(text: str) -> bool:
    """Return whether a spreadsheet may take a cell with this text for a formula.

    That is when it begins with a tab or a line break, or, after blanks and characters that cannot be seen, with one of
    FORMULA_SIGNS.
    """
    if text.startswith(_BREAKS):
        return True
    first = next((character for character in text if unicodedata.category(character)[0] not in "CZ"), "")
    return bool(first) and unicodedata.normalize("NFKC", first)[0] in FORMULA_SIGNS


def csv_line(values: Iterable[object]) -> str:
    """Return a row as a line of CSV: RFC 4180 quoting, ending in a line feed."""
    return ",".join(map(quoted, map(text_of, values))) + "\n"


def quoted(text: str) -> str:
    """Return a text with the quotes that a separator in it asks for."""
    # Not csv.writer: until Python 3.13 it leaves a lone carriage return bare, so bytes would depend on the version.
    return '"' + text.replace('"', '""') + '"' if any(character in text for character in ',"\r\n') else text
