"""Whether a login is configured: section [auth] of Streamlit's secrets.toml, as docs/screens.md has it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path


class LoginError(ValueError):
    """Whether there is a login cannot be told, or one was asked for and there is none; the message says what to do."""


def has_login(files: Iterable[Path], wanted: bool) -> bool:
    """Tell whether files of secrets have a login. Where no file is, there is none.

    A file that is there is there for the login: one that does not have it is broken, and never means none.

    :param wanted: SCREENS_SECRETS names a file, which so has to be there.
    :raises LoginError: when a file cannot be read, is no TOML or has no [auth], or none is there though one is wanted.
    """
    files = list(files)
    there = {file: secrets for file in files if (secrets := _secrets(file)) is not None}
    if any("auth" in secrets for secrets in there.values()):
        return True
    if there:
        raise LoginError(
            f"{_named(there)} has no section [auth], and so no login: add it (docs/screens.md, Login, has an example), "
            "or take the file away."
        )
    if wanted:
        raise LoginError(
            f"SCREENS_SECRETS asks for a login, and {_named(files)} does not exist. Write the file (docs/screens.md, "
            "Login, has an example) and start the screens with `make app`, or leave SCREENS_SECRETS empty."
        )
    return False


def _secrets(file: Path) -> dict[str, object] | None:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise LoginError(f"{file} cannot be read: {error}. docs/screens.md, Login, has an example.") from error


def _named(files: Iterable[Path]) -> str:
    return ", ".join(map(str, files))
