"""The picture of the rooms is what the code's imports give."""

from __future__ import annotations

import subprocess
import sys

from docs.draw_rooms import CONTENTS, ROOMS_SVG, as_svg, floors
from include.customer_360.settings import PROJECT_ROOT


def test_the_picture_is_what_the_imports_give() -> None:
    # In a process of its own: under pytest tests/dags is a part of the package dags.
    code = "from docs.draw_rooms import as_svg, imports_between_rooms; print(as_svg(imports_between_rooms()), end='')"
    drawn = subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT_ROOT, capture_output=True, text=True)
    assert ROOMS_SVG.read_text(encoding="utf-8") == drawn.stdout, "draw it again: make rooms"
    assert [room for room in CONTENTS if f">{room}</text>" not in drawn.stdout] == []


def test_a_room_stands_above_all_that_it_imports_from() -> None:
    by_floor = floors({"dags": {"operators", "settings"}, "operators": {"settings"}, "settings": set(), "local": set()})
    assert by_floor == [["local", "settings"], ["operators"], ["dags"]]


def test_each_import_between_rooms_is_an_arrow() -> None:
    rooms = {"dags": {"settings"}, "settings": set(), "local": set()}
    assert as_svg(rooms).count("marker-end") == 1
    assert as_svg(rooms | {"local": {"settings"}}).count("marker-end") == 2
