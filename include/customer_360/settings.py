"""The settings of a deployment, from environment variables and from .env in the project's folder.

The names, defaults and meanings stand in .env.example.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT_ROOT = Path(__file__).resolve().parents[2]
DBT_PROJECT = PROJECT_ROOT / "include" / "dbt"
SQL_TEMPLATES = PROJECT_ROOT / "include" / "sql"
# Where templates look for files: the validations share a macro with the models.
TEMPLATE_FOLDERS = [str(SQL_TEMPLATES), str(DBT_PROJECT / "macros")]
POOL = "warehouse"
POOL_SLOTS = 8
"""The slots of pool `warehouse`: so many tasks have the warehouse open at once, on DuckDB as long as they only read."""

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class SettingsError(ValueError):
    """A setting has a value that cannot be used; the message names it and says what it takes."""


class Settings(BaseSettings):
    """One deployment's settings. Relative paths count from the project's folder."""

    model_config = SettingsConfigDict(
        env_file=PROJECT_ROOT / ".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    warehouse: Literal["duckdb", "snowflake"] = "duckdb"
    warehouse_file: Path = Path("data/warehouse.duckdb")
    export_root: str = "data/exports"
    customers: int = Field(default=50_000, ge=1, le=10_000_000)
    months: int = Field(default=18, ge=1, le=240)
    seed: int = Field(default=42, ge=0, le=2_147_483_647)
    as_of_date: datetime.date | None = None
    test_everything_on: Literal[
        "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "every day", "never"
    ] = "sunday"
    export_role: str = ""
    export_warehouse: str = ""

    @field_validator("warehouse_file")
    @classmethod
    def _from_project_root(cls, value: Path) -> Path:
        return (PROJECT_ROOT / value.expanduser()).resolve()

    @field_validator("export_root")
    @classmethod
    def _uri_or_absolute(cls, value: str) -> str:
        return value if "://" in value else str((PROJECT_ROOT / Path(value).expanduser()).resolve())

    def tests_everything(self, as_of_date: str) -> bool:
        """Return whether the scheduled run of this date (YYYY-MM-DD; empty: none) tests all of the fact."""
        if not as_of_date or self.test_everything_on == "never":
            return False
        weekday = WEEKDAYS[datetime.date.fromisoformat(as_of_date).weekday()]
        return self.test_everything_on in ("every day", weekday)


def load_settings() -> Settings:
    """Read the settings.

    :raises SettingsError: naming each variable that cannot be used, its value and what it takes.
    """
    try:
        return Settings()
    except ValidationError as invalid:
        problems = [f"{str(error['loc'][0]).upper()}={error['input']!r}: {error['msg']}" for error in invalid.errors()]
        raise SettingsError(
            "Settings cannot be used: " + "; ".join(problems) + ". See .env.example for what each takes."
        ) from None
