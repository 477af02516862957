"""Cortex Analyst, Snowflake's service that answers a question in words with SQL over the semantic view.

It is asked from inside Snowflake only, with the session of whoever looks.
https://docs.snowflake.com/en/user-guide/snowflake-cortex/cortex-analyst/rest-api
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

PATH = "/api/v2/cortex/analyst/message"
SECONDS_FOR_AN_ANSWER = 60.0
# Before a statement, and behind the last semicolon.
_COMMENT = r"(?:\s|--[^\n]*(?:\n|$)|/\*(?:[^*]|\*(?!/))*\*/)*"
_SELECT = re.compile(rf"{_COMMENT}(?:select|with)\b", re.IGNORECASE)
_END = re.compile(rf";{_COMMENT}$")


class NoAnswer(RuntimeError):
    """The service has given none; the message says why, and what to do."""


class NotASelect(ValueError):
    """What is to be run is not one select for certain; the message says why."""


@dataclass(frozen=True)
class Answer:
    """What the service says to a question.

    :param texts: how it understood it, or why it cannot answer.
    :param sql: the select that answers it; empty for none.
    :param suggestions: questions that it could answer instead.
    :param warnings: what it has to say against its own answer.
    :param request_id: under which Snowflake knows the question.
    """

    texts: tuple[str, ...]
    sql: str
    suggestions: tuple[str, ...]
    warnings: tuple[str, ...]
    request_id: str


def ask(question: str, semantic_view: str, server: str, token: str) -> Answer:
    """Ask a question.

    :param semantic_view: with its database and schema.
    :param server: https://<account's host>.
    :param token: of the session of whoever asks.
    :raises NoAnswer: when there is none.
    """
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": question}]}],
        "semantic_view": semantic_view,
        "stream": False,
    }
    headers = {"Authorization": f'Snowflake Token="{token}"', "Accept": "application/json"}
    try:
        # To another address than Snowflake's the token does not go.
        response = requests.post(
            f"{server}{PATH}", json=body, headers=headers, timeout=SECONDS_FOR_AN_ANSWER, allow_redirects=False
        )
    except requests.RequestException as error:
        raise NoAnswer(f"Cortex Analyst did not answer: {type(error).__name__}. Ask again in a moment.") from None
    try:
        said = response.json()
    except ValueError:
        said = None
    if response.status_code != requests.codes.ok or not isinstance(said, Mapping):
        raise NoAnswer(_why(response.status_code, said if isinstance(said, Mapping) else {}, semantic_view))
    return _answer(said)


def _answer(said: Mapping[str, Any]) -> Answer:
    try:
        content = [(each["type"], each) for each in said["message"]["content"]]
        return Answer(
            texts=tuple(str(each["text"]) for kind, each in content if kind == "text"),
            sql=next((str(each["statement"]) for kind, each in content if kind == "sql"), ""),
            suggestions=tuple(
                str(one) for kind, each in content if kind == "suggestions" for one in each["suggestions"]
            ),
            warnings=tuple(str(each["message"]) for each in said.get("warnings") or ()),
            request_id=str(said.get("request_id", "")),
        )
    except (KeyError, TypeError) as error:
        raise NoAnswer(
            f"Cortex Analyst answered in a form that these screens do not know ({error!r} in request "
            f"{said.get('request_id', 'without an id')})."
        ) from None


def _why(status: int, said: Mapping[str, Any], semantic_view: str) -> str:
    told = f"Cortex Analyst gave no answer: HTTP {status}"
    if message := said.get("message"):
        told += f", {message}"
    if said.get("request_id"):
        told += f" (request {said['request_id']})"
    if status in (401, 403):
        return f"{told}. It takes database role snowflake.cortex_user, and select on semantic view {semantic_view}."
    if status == 404:
        return f"{told}. It takes semantic view {semantic_view}: `make snowflake-setup AFTER_PUBLICATION=1` makes it."
    if status == 429:
        return f"{told}. Too much is asked at once: ask again in a moment."
    return f"{told}."


def one_select(sql: str) -> str:
    """Return SQL that is one select, without the semicolon at its end.

    It takes no parser: what could be a second statement is refused, even where it stands in quotes.

    :raises NotASelect: when it is not, for certain.
    """
    statement = _END.sub("", sql.rstrip())
    if ";" in statement:
        raise NotASelect("There is a semicolon inside it: it may be more than one statement.")
    if not _SELECT.match(statement):
        raise NotASelect("It begins with neither select nor with.")
    return statement
