"""The settings of a deployment, from environment variables and from .env in the project's folder.

The names, defaults and meanings stand in .env.example.
"""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT_ROOT = Path(__file__).resolve().parents[2]
DBT_PROJECT = PROJECT_ROOT / "include" / "dbt"
SQL_TEMPLATES = PROJECT_ROOT / "include" / "sql"
# Where templates look for files: the validations share a macro with the models.
TEMPLATE_FOLDERS = [str(SQL_TEMPLATES), str(DBT_PROJECT / "macros")]
POOL = "warehouse"
POOL_SLOTS = 8
"""The slots of pool `warehouse`: so many tasks have the warehouse open at once, on DuckDB as long as they only read."""

ALERT_CONNECTIONS = ("alerts_http", "alerts_slack", "alerts_smtp")
"""The Airflow connections that people are told by, in this order: a mail server may take longest to say nothing."""
NOBODY_IS_TOLD = (
    f"Nobody is told when a run fails: there is no Airflow connection {', '.join(ALERT_CONNECTIONS[:-1])} or "
    f"{ALERT_CONNECTIONS[-1]}. See docs/alerts.md."
)

WRITTEN_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
"""The one way in which a date is written; Python's and pydantic's readers take others too."""

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
# Of the machine, or of the container when its limit is lower: DuckDB reads both.
HALF_OF_THE_MACHINE = "50%"
# The longest wait for a DuckDB file: what a task may take grows by it, and a run has five hours.
LONGEST_LOCK_WAIT = 3600
# What moved in an audience is measured against the history of up to 14 audiences, of a campaign that may not run daily.
LEAST_HISTORY_DAYS = 90
# With less a build cannot hold what it has open at once, however much it spills; a share may come to less.
LEAST_MEGABYTES = 500
_MEGABYTES = {"kb": 1e-3, "mb": 1, "gb": 1e3, "tb": 1e6}
_MEGABYTES |= {"kib": 2**10 / 1e6, "mib": 2**20 / 1e6, "gib": 2**30 / 1e6, "tib": 2**40 / 1e6}


class SettingsError(ValueError):
    """A setting has a value that cannot be used; the message names it and says what it takes."""


class Settings(BaseSettings):
    """One deployment's settings. Relative paths count from the project's folder."""

    model_config = SettingsConfigDict(
        env_file=PROJECT_ROOT / ".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    warehouse: Literal["duckdb", "snowflake"] = "duckdb"
    warehouse_file: Path = Path("data/warehouse.duckdb")
    published_file: Path = Field(default_factory=lambda given: _beside(given["warehouse_file"], "published.duckdb"))
    warehouse_memory: str = HALF_OF_THE_MACHINE
    warehouse_lock_wait: int = Field(default=600, ge=0, le=LONGEST_LOCK_WAIT)
    export_root: str = "data/exports"
    customers: int = Field(default=50_000, ge=1, le=10_000_000)
    months: int = Field(default=18, ge=1, le=240)
    seed: int = Field(default=42, ge=0, le=2_147_483_647)
    sample: bool = False
    as_of_date: datetime.date | None = None
    test_everything_on: Literal[
        "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "every day", "never"
    ] = "sunday"
    run_again_after_minutes: float = Field(default=5, ge=0, le=180)
    sources_wait_until: datetime.time | None = datetime.time(5)
    sources_look_every: int = Field(default=10, ge=1, le=240)
    snowflake_edition: Literal["enterprise", "standard"] = "enterprise"
    reader_role: str = ""
    removed_marts: Literal["report", "drop"] = "report"
    keep_run_schemas_days: int = Field(default=7, ge=1)
    keep_failing_rows_days: int = Field(default=7, ge=1)
    keep_validation_results_days: int = Field(default=400, ge=0)
    keep_exports_days: int = Field(default=400, ge=0)
    keep_history_days: int = Field(default=0, ge=0)
    keep_screens_log_days: int = Field(default=400, ge=0)
    runbook_url: str = ""
    published_by: datetime.time | None = datetime.time(5)
    heartbeat_url: SecretStr = SecretStr("")
    screens_address: str = "127.0.0.1"
    screens_port: int = Field(default=8501, ge=1, le=65_535)
    screens_url: str = "http://localhost:8501"
    screens_roles: Path = Path("app/roles.yml")
    screens_secrets: Path = Path("app/.streamlit/secrets.toml")
    screens_unverified_addresses: bool = False
    airflow_url: str = "http://localhost:8080"

    @field_validator("warehouse_file", "published_file", "screens_roles", "screens_secrets")
    @classmethod
    def _from_project_root(cls, value: Path) -> Path:
        return (PROJECT_ROOT / value.expanduser()).resolve()

    @field_validator("warehouse_memory")
    @classmethod
    def _as_duckdb_takes_it(cls, value: str) -> str:
        found = re.fullmatch(r"(\d+(?:\.\d+)?) *([kmgt]i?b|%)", value.strip().lower())
        if found is None:
            raise ValueError("give a size such as 6GB or 6GiB, or a share of the machine such as 50%")
        number, unit = float(found[1]), found[2]
        if unit == "%" and not 1 <= number <= 100:
            raise ValueError("a share of the machine is from 1% to 100%")
        if unit != "%" and number * _MEGABYTES[unit] < LEAST_MEGABYTES:
            raise ValueError(f"give at least {LEAST_MEGABYTES}MB")
        return value.strip()

    @field_validator("as_of_date", mode="before")
    @classmethod
    def _as_it_is_written(cls, value: object) -> object:
        if isinstance(value, str) and not re.fullmatch(WRITTEN_DATE, value):
            raise ValueError("give it as YYYY-MM-DD, for example 2026-03-31")
        return value

    @field_validator("sources_wait_until", "published_by", mode="before")
    @classmethod
    def _an_hour_or_never(cls, value: object) -> object:
        if value == "never":
            return None
        if isinstance(value, str) and not re.fullmatch("([01][0-9]|2[0-3]):[0-5][0-9]", value):
            raise ValueError("give an hour in New York as HH:MM, for example 05:00, or never")
        return value

    @model_validator(mode="after")
    def _keeps_what_is_needed(self) -> Settings:
        # By the results of its validations a run schema is known.
        if 0 < self.keep_validation_results_days < self.keep_run_schemas_days:
            raise ValueError(
                f"KEEP_VALIDATION_RESULTS_DAYS={self.keep_validation_results_days} is less than "
                f"KEEP_RUN_SCHEMAS_DAYS={self.keep_run_schemas_days}, whose schemas are found by these results"
            )
        if 0 < self.keep_history_days < LEAST_HISTORY_DAYS:
            raise ValueError(
                f"KEEP_HISTORY_DAYS={self.keep_history_days} is less than {LEAST_HISTORY_DAYS}: audiences are "
                "compared with those before them"
            )
        return self

    @model_validator(mode="after")
    def _is_a_file_of_its_own(self) -> Settings:
        if self.warehouse_file in (self.published_file, self.published_personal_file):
            raise ValueError(
                f"PUBLISHED_FILE={self.published_file} would have the copy take the place of the warehouse, "
                f"WAREHOUSE_FILE={self.warehouse_file}: give it another name"
            )
        if self.published_file.stem == "marts":
            raise ValueError(
                f"PUBLISHED_FILE={self.published_file} is called like the schema in it, and DuckDB could not tell "
                "marts.customer_360_profile from it: give it another name"
            )
        return self

    @property
    def asks_for_login(self) -> bool:
        """Whether SCREENS_SECRETS names a file, so that the screens are not to go without a login."""
        return "screens_secrets" in self.model_fields_set

    @property
    def published_personal_file(self) -> Path:
        """The copy's second file: names and addresses, for readers who may see them."""
        return self.published_file.with_stem(f"{self.published_file.stem}_personal")

    @property
    def screens_log_file(self) -> Path:
        """The log that the screens append to, until a night takes it into ops.screens_log."""
        return self.published_file.parent / _beside(self.warehouse_file, "screens_log.jsonl").name

    @property
    def memory_of_a_reader(self) -> str:
        """What one of POOL_SLOTS sessions side by side may take of WAREHOUSE_MEMORY, as DuckDB takes it."""
        number, unit = re.fullmatch(r"([\d.]+) *(\S+)", self.warehouse_memory).groups()  # type: ignore[union-attr]
        return f"{float(number) / POOL_SLOTS:g}{unit}"

    @property
    def dbt_connect_attempts(self) -> int:
        """How often dbt-duckdb has to try for WAREHOUSE_LOCK_WAIT to pass: after try n it pauses 2 ** (n - 1) s."""
        return max(self.warehouse_lock_wait.bit_length(), 1)

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


def _beside(warehouse_file: Path, name: str) -> Path:
    """Return the place of a file that belongs to a warehouse: two warehouses in one folder share none."""
    stem = warehouse_file.stem
    return warehouse_file.with_name(name if stem == "warehouse" else f"{stem}_{name}")


def load_settings() -> Settings:
    """Read the settings.

    :raises SettingsError: naming each variable that cannot be used, its value and what it takes.
    """
    try:
        return Settings()
    except ValidationError as invalid:
        problems = [
            f"{str(error['loc'][0]).upper()}={error['input']!r}: {error['msg']}" if error["loc"] else error["msg"]
            for error in invalid.errors()
        ]
        raise SettingsError(
            "Settings cannot be used: " + "; ".join(problems) + ". See .env.example for what each takes."
        ) from None
