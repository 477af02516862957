"""What tests of the pages share: a table as its reader sees it, and a copy that has changed."""

from __future__ import annotations

import json
import re

import duckdb
import pandas as pd
from streamlit.testing.v1 import AppTest

from include.customer_360.settings import Settings


def texts(table: pd.DataFrame) -> dict[str, list[str]]:
    """Return a table's rows by their name, as a reader sees them."""

    def shown(text: object) -> str:
        return re.sub(r"\\(.)", r"\1", str(text))

    return {shown(name): [shown(cell) for cell in row] for name, row in zip(table.index, table.to_numpy(), strict=True)}


def in_the_copy(settings: Settings, *statements: str) -> None:
    """Change the copy as a publication does: a file of its own, put in its place."""
    new = settings.published_file.with_suffix(".new")
    new.write_bytes(settings.published_file.read_bytes())
    with duckdb.connect(str(new)) as connection:
        for statement in statements:
            connection.execute(statement)
    new.replace(settings.published_file)


def number(page: AppTest, label: str, value: float) -> AppTest:
    """Give a number to the field of this label; the page is not run yet."""
    [given] = [each for each in page.number_input if each.label == label]
    given.set_value(value)
    return page


def metrics(page: AppTest) -> dict[str, str]:
    """Return the figures of a page by their label."""
    return {each.label: each.value for each in page.metric}


def captions(page: AppTest) -> list[str]:
    """Return the captions of a page as a reader sees them."""
    return [re.sub(r"\\(.)", r"\1", each.value) for each in page.caption]


def downloads(page: AppTest) -> list[str]:
    """Return the labels of what can be downloaded."""
    return [each.proto.label for each in page.get("download_button")]


def prepare(page: AppTest) -> AppTest:
    """Press the button that prepares the list."""
    [button] = [each for each in page.button if each.label == "Prepare the list"]
    return button.click().run()


def log_of(settings: Settings) -> list[dict[str, object]]:
    """Return the lines of the log of the screens."""
    file = settings.screens_log_file
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
