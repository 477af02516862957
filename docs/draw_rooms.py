"""Draw the rooms of the project and the imports between them: docs/images/rooms.svg.

Run by `make rooms`. The arrows are what grimp, the library behind import-linter, reads from the code.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

import grimp

ROOMS_SVG = Path(__file__).parent / "images" / "rooms.svg"
PACKAGES = ("dags", "plugins", "include", "local", "deploy", "app", "benchmarks")
PRODUCTION = "include.customer_360."
CONTENTS = {
    "dags": "wiring",
    "plugins": "macros, notes, links, alerts",
    "operators": "build, validate, publish, export",
    "catalog": "marts, campaigns",
    "connection": "the warehouse's",
    "settings": "environment, .env",
    "csv_cells": "no spreadsheet runs them",
    "semantics": "metrics, dimensions",
    "assets": "what Dags exchange",
    "dbt_vars": "thresholds",
    "dbt_seeds": "known names",
    "ops_tables": "columns of schema ops",
    "failures": "what passes by itself",
    "runbook": "where it says what to do",
    "alerts": "who is told of what",
    "deadline": "published by when",
    "heartbeat": "a watch outside",
    "known_warnings": "of libraries",
    "duckdb_file": "waiting for it, its faults",
    "as_of_date": "a run's date",
    "holidays": "a bank's",
    "local": "make refresh, up, load",
    "deploy": "Snowflake: set-up, doctor",
    "app": "the screens",
    "benchmarks": "what is measured",
}
OUT_OF_THE_IMAGE = ("local", "deploy", "app", "benchmarks")
WIDTH, HEIGHT = 176, 46
GAP, RISE, MARGIN = 24, 96, 20


def room_of(module: str) -> str:
    """Return the room that a module is in: its top-level folder, or its part of include/customer_360."""
    if module.startswith(PRODUCTION):
        return module.removeprefix(PRODUCTION).partition(".")[0]
    return module.partition(".")[0]


def imports_between_rooms() -> dict[str, set[str]]:
    """Return the rooms that each room imports from."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    rooms: dict[str, set[str]] = {}
    for module in graph.modules - {"include", PRODUCTION.rstrip(".")}:
        room = rooms.setdefault(room_of(module), set())
        room |= {room_of(imported) for imported in graph.find_modules_directly_imported_by(module)}
    return {room: imported - {room} for room, imported in rooms.items()}


def floors(rooms: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the rooms by floor, the ground floor first: each stands above all that it imports from."""
    heights: dict[str, int] = {}

    def height(room: str) -> int:
        if room not in heights:
            heights[room] = 1 + max((height(below) for below in rooms[room]), default=-1)
        return heights[room]

    for room in rooms:
        height(room)
    return [
        sorted(room for room, floor in heights.items() if floor == number)
        for number in range(max(heights.values()) + 1)
    ]


def colours(room: str) -> str:
    """Return how a room's box looks: blue in the image, grey out of it."""
    return 'fill="#f1f1f1" stroke="#8a8a8a"' if room in OUT_OF_THE_IMAGE else 'fill="#e8f1fa" stroke="#3b6ea5"'


def as_svg(rooms: Mapping[str, set[str]]) -> str:
    """Return the picture: rooms as boxes, an arrow from each to those that it imports from."""
    by_floor = floors(rooms)
    widest = max(map(len, by_floor))
    width = 2 * MARGIN + widest * WIDTH + (widest - 1) * GAP
    height = 2 * MARGIN + (len(by_floor) - 1) * RISE + HEIGHT
    places: dict[str, tuple[float, float]] = {}
    for number, floor in enumerate(by_floor):
        begin = (width - len(floor) * WIDTH - (len(floor) - 1) * GAP) / 2
        for place, room in enumerate(floor):
            places[room] = begin + place * (WIDTH + GAP), height - MARGIN - HEIGHT - number * RISE
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' font-family="sans-serif" font-size="13">',
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#7a8794"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for room in sorted(rooms):
        left, top = places[room]
        for below in sorted(rooms[room]):
            end_left, end_top = places[below]
            from_x, to_x = left + WIDTH / 2, end_left + WIDTH / 2
            # Down first, so that an arrow over several floors passes between the boxes.
            lines.append(
                f'<path d="M{from_x:g},{top + HEIGHT:g} C{from_x:g},{top + HEIGHT + RISE / 2:g} '
                f'{to_x:g},{end_top - RISE / 2:g} {to_x:g},{end_top:g}" fill="none" stroke="#7a8794"'
                ' marker-end="url(#arrow)"/>'
            )
    for room in sorted(rooms):
        left, top = places[room]
        lines += [
            f'<rect x="{left:g}" y="{top:g}" width="{WIDTH}" height="{HEIGHT}" rx="5" {colours(room)}/>',
            f'<text x="{left + WIDTH / 2:g}" y="{top + 19:g}" text-anchor="middle" font-weight="bold">{room}</text>',
            f'<text x="{left + WIDTH / 2:g}" y="{top + 36:g}" text-anchor="middle" font-size="10" fill="#44505c">'
            f"{escape(CONTENTS.get(room, ''))}</text>",
        ]
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    ROOMS_SVG.write_text(as_svg(imports_between_rooms()), encoding="utf-8")
