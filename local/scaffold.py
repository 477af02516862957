"""Write the files of a new metric or a new campaign, ready to run, with the places to fill in.

Run by `make new-metric NAME=...` and `make new-campaign NAME=... [TEMPLATE=1]`. No other file has to be touched: the
Dags, the publication and the summary follow from what the files say.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import warnings
from pathlib import Path
from string import Template

import yaml

from include.customer_360.settings import DBT_PROJECT, PROJECT_ROOT, SQL_TEMPLATES

SCAFFOLD_FILES = Path(__file__).parent / "scaffold_files"
LONGEST_NAME = 50
TEMPLATE_REMARK = (
    "{#- Fill in: what the exposure's eligibility cannot say. It selects the customer_id of who is eligible, and may\n"
    "    use `campaign` (name, conditions) and `as_of_date`. -#}"
)


class ScaffoldError(ValueError):
    """Nothing was written; the message names what is in the way and what to do."""


def metric_files(name: str) -> dict[Path, str]:
    """Return the three files of a metric by path; its name gets the prefix metric_ where it has none.

    :raises ScaffoldError: when the name cannot be used.
    """
    column = _usable(_usable(name, "NAME=weekend_spend").removeprefix("metric_"), "NAME=weekend_spend")
    if (model := _model_with(column)) not in (None, f"metric_{column}"):
        raise ScaffoldError(
            f"NAME={name!r} cannot be used: {column} is a column of {model} already, and would be a metric's. Choose "
            "another, for example NAME=weekend_spend."
        )
    values = {"name": f"metric_{column}", "column": column}
    models = DBT_PROJECT / "models" / "marts" / "marketing"
    return {
        models / f"metric_{column}.sql": _filled_in("metric.sql", values),
        models / f"metric_{column}.yml": _filled_in("metric.yml", values),
        SQL_TEMPLATES / "validations" / f"metric_{column}.sql": _filled_in("validation.sql", values),
    }


def campaign_files(name: str, own_template: bool) -> dict[Path, str]:
    """Return the exposure of a campaign by path, with a template of its own when asked for.

    :raises ScaffoldError: when the name cannot be used.
    """
    name = _usable(name, "NAME=winback").removesuffix("_campaign")
    values = {"name": name, "label": name.replace("_", " ").capitalize()}
    files = {DBT_PROJECT / "models" / "exposures" / f"{name}_campaign.yml": _filled_in("campaign.yml", values)}
    if own_template:
        # That of all other campaigns, to begin with.
        common = (SQL_TEMPLATES / "exports" / "_eligible.sql").read_text(encoding="utf-8").partition("-#}\n")[2]
        files[SQL_TEMPLATES / "exports" / f"{name}.sql"] = f"{TEMPLATE_REMARK}\n{common}"
    return files


def _usable(name: str, example: str) -> str:
    if not name:
        raise ScaffoldError(f"Say how it is called, for example {example}.")
    if not re.fullmatch("[a-z][a-z0-9_]*[a-z0-9]", name) or len(name) > LONGEST_NAME:
        raise ScaffoldError(
            f"NAME={name!r} cannot be used: give lower-case letters, digits and underscores, {LONGEST_NAME} at most, "
            f"for example {example}."
        )
    if name in _sql_words():
        raise ScaffoldError(
            f"NAME={name!r} cannot be used: it is a word of SQL. Choose another, for example {example}."
        )
    return name


def _sql_words() -> set[str]:
    """Return the words that a column cannot be called by on DuckDB or on Snowflake, in lower case."""
    # Imported here: they take a second, which only this needs.
    import duckdb

    with warnings.catch_warnings():
        # Of versions that the connector was not made with, which is nothing to whoever writes a metric.
        warnings.simplefilter("ignore")
        from snowflake.sqlalchemy.base import RESERVED_WORDS

    kept = "select keyword_name from duckdb_keywords() where keyword_category <> 'unreserved'"
    return {word for (word,) in duckdb.execute(kept).fetchall()} | {word.lower() for word in RESERVED_WORDS}


def _model_with(column: str) -> str | None:
    """Return a model that has this column, by its yml; None when no model has it."""
    for file in sorted((DBT_PROJECT / "models").rglob("*.yml")):
        for model in yaml.safe_load(file.read_text(encoding="utf-8")).get("models", ()):
            if column in (described["name"] for described in model.get("columns", ())):
                return str(model["name"])
    return None


def _filled_in(file: str, values: dict[str, str]) -> str:
    # safe: a $ that is none of ours stays.
    return Template((SCAFFOLD_FILES / file).read_text(encoding="utf-8")).safe_substitute(values)


def write(files: dict[Path, str]) -> None:
    """Write the files, none over another.

    :raises ScaffoldError: when one is there already; then none is written.
    """
    there = [str(file.relative_to(PROJECT_ROOT)) for file in files if file.exists()]
    if there:
        raise ScaffoldError(f"{', '.join(there)} is there already: choose another NAME, or change what is there.")
    for file, content in files.items():
        file.write_text(content, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("metric", "campaign"))
    options = parser.parse_args()
    name = os.environ.get("NAME", "")
    try:
        if options.kind == "metric":
            files = metric_files(name)
        else:
            files = campaign_files(name, own_template=os.environ.get("TEMPLATE", "") not in ("", "0"))
        write(files)
    except ScaffoldError as problem:
        print(problem, file=sys.stderr)
        return 1
    print("Written:")
    for file in files:
        print(f"  {file.relative_to(PROJECT_ROOT)}")
    print("It runs as it is: make refresh. What to change is marked `Fill in`.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
