"""The questions whose answers are verified: those that Snowflake's semantic view knows, from the guide's examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from include.customer_360.settings import PROJECT_ROOT

VERIFIED_QUERIES = PROJECT_ROOT / "deploy" / "snowflake" / "after_publication" / "verified_queries.yml"


class NoVerifiedQueries(RuntimeError):
    """The file of the questions cannot be read; the message names it."""


@dataclass(frozen=True)
class VerifiedQuery:
    """A question and the select that answers it, which names the marts without their schema."""

    name: str
    question: str
    sql: str


def load_verified_queries(file: Path = VERIFIED_QUERIES) -> Sequence[VerifiedQuery]:
    """Return the questions, in the order of the file.

    :raises NoVerifiedQueries: when it is missing, or no list of questions.
    """
    try:
        entries = yaml.safe_load(file.read_text(encoding="utf-8"))
        return [VerifiedQuery(entry["name"], entry["question"], entry["sql"].strip()) for entry in entries]
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise NoVerifiedQueries(
            f"{file} has no questions that can be used: {type(error).__name__}: {error}. See that it lies there as in "
            "the repository."
        ) from error
