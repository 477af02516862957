"""Write the lists of docs/semantics.md, metrics and dimensions, from the definitions. Run by `make semantics`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from include.customer_360.semantics import Semantics, Table, load_semantics

PAGE = Path(__file__).parent / "semantics.md"
HEADING = "## The metrics\n"
"""What follows it is written here."""
_UNITS = {"usd": "dollars", "percent": "percent", "count": "number", "days": "days"}


def page(text: str, semantics: Semantics) -> str:
    """Return the page with the lists as the definitions give them.

    :param text: the page, of which everything up to HEADING is kept.
    """
    kept, heading, _ = text.partition(HEADING)
    sections = [*(_section(table, semantics) for table in semantics.tables.values()), _wanted(semantics)]
    return kept + heading + "".join(f"\n{section}" for section in sections)


def _section(table: Table, semantics: Semantics) -> str:
    lines = [f"### {table.label}: `{table.relation}`", "", *_sentences(table, semantics), ""]
    lines += ["| metric | label | unit | what it is |", "|---|---|---|---|"]
    lines += [
        f"| `{metric.name}` | {metric.label} | {_UNITS[metric.unit]} | {metric.description} |"
        for metric in semantics.metrics.values()
        if metric.table == table.name
    ]
    return "\n".join(lines) + "\n"


def _sentences(table: Table, semantics: Semantics) -> Iterator[str]:
    yield table.description
    yield f"By {', '.join(f'`{dimension.name}`' for dimension in table.dimensions)}."
    for other in table.joins:
        yield f"And by what the customer is in `{semantics.tables[other].relation}`."


def _wanted(semantics: Semantics) -> str:
    lines = ["### Not yet modelled", "", "| figure | label | what it would be |", "|---|---|---|"]
    lines += [f"| `{each.name}` | {each.label} | {each.description} |" for each in semantics.not_yet_modelled]
    return "\n".join(lines) + "\n"


def main() -> None:
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), load_semantics()), encoding="utf-8")


if __name__ == "__main__":
    main()
