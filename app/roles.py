"""The roles of the screens: which pages a reader sees, and whether with names and addresses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError, model_validator

Page = Literal["executive", "campaigns", "segments", "customer", "nights", "ask"]


class RolesError(ValueError):
    """The file of the roles cannot be used; the message names it, the key and the value."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Role(_Entry):
    """What a reader of this role may see.

    :param pages: in the order of the navigation; the first one opens.
    :param personal_data: names and addresses are shown.
    :param export_lists: a list of customers may be downloaded.
    :param readers: the addresses of who has the role.
    """

    label: str = Field(min_length=1)
    pages: tuple[Page, ...] = Field(min_length=1)
    personal_data: StrictBool
    export_lists: StrictBool
    readers: tuple[str, ...] = ()


class Roles(_Entry):
    """The roles by name."""

    roles: Mapping[str, Role] = Field(min_length=1)

    @model_validator(mode="after")
    def _each_label_once(self) -> Roles:
        labels = [role.label for role in self.roles.values()]
        if twice := sorted({label for label in labels if labels.count(label) > 1}):
            raise ValueError(f"label {', '.join(twice)} stands twice: readers choose a role by its label")
        return self

    def of(self, address: str) -> dict[str, Role]:
        """Return the roles of a reader, by name; none for who is not listed."""
        wanted = address.strip().lower()
        return {
            name: role
            for name, role in self.roles.items()
            if wanted and wanted in (reader.strip().lower() for reader in role.readers)
        }


def load_roles(file: Path) -> Roles:
    """Read the roles.

    :raises RolesError: when the file is missing, no yml, or says what cannot be used.
    """
    try:
        return Roles.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise RolesError(f"The roles of the screens, {file}, cannot be read: {error}. Set SCREENS_ROLES.") from error
    except yaml.YAMLError as error:
        raise RolesError(f"The roles of the screens, {file}, are no yml: {error}") from error
    except ValidationError as invalid:
        problems = "; ".join(
            f"{'.'.join(map(str, error['loc'])) or 'the file'}={error['input']!r}: {error['msg']}"
            for error in invalid.errors()
        )
        raise RolesError(f"The roles of the screens, {file}, cannot be used: {problems}") from None
