"""The marts and the campaigns of the project, as they are described where they are defined: in dbt's yml.

A mart says in its `config.meta` that it is validated and published, and which measures are watched for drift. An
exposure with `config.meta.campaign` is a campaign. Both are read from the manifest that Cosmos draws the Dag from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, ValidationError, field_validator

from include.customer_360.settings import DBT_PROJECT, PROJECT_ROOT, SQL_TEMPLATES

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_Found = TypeVar("_Found")

MANIFEST = DBT_PROJECT / "target" / "manifest.json"
PROFILE = "customer_360_profile"

_COLUMN = r"[a-z_][a-z0-9_]*"
_LITERAL = r"(?:-?[0-9]+(?:\.[0-9]+)?|'(?:[^']|'')*'|date '[0-9]{4}-[0-9]{2}-[0-9]{2}'|true|false)"
_CONDITION = re.compile(
    rf"(?P<column>{_COLUMN})(?:\s*(?:=|<>|<=|>=|<|>)\s*{_LITERAL}"
    rf"|\s+in\s*\(\s*{_LITERAL}(?:\s*,\s*{_LITERAL})*\s*\)|\s+is\s+(?:not\s+)?null)?"
)
_AND = re.compile(r"\s+and\s+(?=(?:[^']*'[^']*')*[^']*$)")


class CatalogError(ValueError):
    """An entry cannot be used; the message names its file, the mart or campaign, the key, the value, and what to do."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DriftLimits(_Entry):
    """How far a measure may move against what is published, in percent of it."""

    lowest_pct: float
    highest_pct: float


class MartMeta(_Entry):
    """What a model says of itself in `config.meta`.

    :param validated: include/sql/validations/<name>.sql is run on it before anything of the run is published.
    :param published: it is put before the readers when the whole run is valid.
    :param drift: limits per measure: `row_count`, or a column, whose sum is watched.
    """

    validated: StrictBool
    published: StrictBool
    drift: dict[str, DriftLimits] = {}


class Mart(_Entry):
    """A model that a run validates or publishes: its name, its schema before the readers, what is watched of it.

    Its columns stand in the order of its yml; personal are those with `config.meta.personal_data` there.
    """

    name: str
    table_schema: str
    validated: bool
    published: bool
    drift: dict[str, DriftLimits]
    columns: tuple[str, ...] = ()
    personal_columns: tuple[str, ...] = ()

    @property
    def columns_without_personal_data(self) -> tuple[str, ...]:
        """The columns that may be shown to everybody."""
        return tuple(column for column in self.columns if column not in self.personal_columns)

    @property
    def measures(self) -> tuple[str, ...]:
        """The columns whose sum is watched, besides the number of rows."""
        return tuple(measure for measure in self.drift if measure != "row_count")


class CampaignMeta(_Entry):
    """What an exposure says in `config.meta.campaign`; the columns are those of customer_360_profile.

    :param name: the task's, the folder's and, where there is one, the template's name.
    :param eligibility: conditions that all hold, as a list or joined by `and`: a boolean column, or a column compared
        with a literal. Absent: the template include/sql/exports/<name>.sql says who is eligible.
    :param order: a column and asc or desc; decides who is within the limit.
    :param limit: the largest number of customers.
    :param columns: what is exported.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    eligibility: tuple[str, ...] = ()
    order: Annotated[str, Field(pattern=rf"^{_COLUMN} (asc|desc)$")]
    limit: Annotated[StrictInt, Field(ge=1)]
    columns: Annotated[tuple[str, ...], Field(min_length=1)] = ("customer_id", "full_name", "email")

    @field_validator("eligibility", mode="before")
    @classmethod
    def _each_condition(cls, value: object) -> object:
        if isinstance(value, str):
            value = [value]
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return [condition.strip() for item in value for condition in _AND.split(item.strip())]
        return value

    @field_validator("eligibility")
    @classmethod
    def _well_formed(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for condition in value:
            if not _CONDITION.fullmatch(condition):
                raise ValueError(
                    f"{condition!r} is no condition: name a boolean column, or compare one column with a literal, such "
                    "as lifetime_value >= 50000; what needs more is a template of its own in include/sql/exports"
                )
        return value


class Campaign(CampaignMeta):
    """One campaign; label, description and owner are the exposure's own.

    :param conditions: its eligibility as SQL over customer_360_profile.
    :param template: the SQL of its audience, a path under include/sql.
    """

    label: str
    description: str
    owner: Annotated[str, Field(min_length=1)]
    conditions: tuple[str, ...]
    template: str

    @property
    def order_by(self) -> str:
        """The order, complete: the same on every engine, and no two customers tie."""
        return f"{self.order} nulls last, customer_id"


@dataclass(frozen=True)
class Catalog:
    """All marts, in the order in which they can be published, and all campaigns, by name.

    Each is read when it is first asked for: a campaign that cannot be used stops the exports and not the night.

    :param manifest: dbt's.
    :param templates: the folder that holds validations/ and exports/.
    """

    manifest: Mapping[str, Any]
    templates: Path

    @cached_property
    def models(self) -> tuple[Mart, ...]:
        """What a run validates, publishes or keeps; raises CatalogError naming every model that cannot be used."""
        problems: list[str] = []
        return _none_wrong(_models(self.manifest, self.templates, problems), problems)

    @cached_property
    def campaigns(self) -> tuple[Campaign, ...]:
        """The campaigns; raises CatalogError naming every one that cannot be used."""
        problems: list[str] = []
        return _none_wrong(_campaigns(self.manifest, self.templates, problems), problems)

    @property
    def marts(self) -> tuple[Mart, ...]:
        """The marts that are validated."""
        return tuple(model for model in self.models if model.validated)

    @property
    def published(self) -> tuple[Mart, ...]:
        """What is put before the readers, the intermediate models that the marts are made of included."""
        return tuple(model for model in self.models if model.published)


def load_catalog(manifest_file: Path = MANIFEST, templates: Path = SQL_TEMPLATES) -> Catalog:
    """Return the catalog of the project.

    :raises CatalogError: when there is no manifest; reading a part of it, when an entry of that part cannot be used.
    """
    try:
        return Catalog(json.loads(manifest_file.read_text(encoding="utf-8")), templates)
    except FileNotFoundError:
        raise CatalogError(
            f"{manifest_file} is not there: write it with `dbt parse` in {DBT_PROJECT} (make refresh, up and test do)."
        ) from None


def _none_wrong(found: tuple[_Found, ...], problems: list[str]) -> tuple[_Found, ...]:
    if problems:
        raise CatalogError("\n".join(problems))
    return found


def _models(manifest: Mapping[str, Any], templates: Path, problems: list[str]) -> tuple[Mart, ...]:
    found: list[tuple[int, Mart]] = []
    depths: dict[str, int] = {}
    for unique_id, node in manifest["nodes"].items():
        meta = node["config"].get("meta") or {}
        layer = node["fqn"][1]
        if node["resource_type"] != "model" or not (layer == "marts" or {"validated", "published"} & meta.keys()):
            continue
        place = f"{_file_of(node)}: mart {node['name']}, config.meta"
        try:
            described = MartMeta.model_validate(meta)
        except ValidationError as invalid:
            problems += _what_is_wrong(place, invalid, MartMeta.model_fields)
            continue
        for measure in described.drift:
            if measure != "row_count" and measure not in node["columns"]:
                problems.append(f"{place}.drift is {measure!r}: name row_count or a column of {node['name']}.")
        if described.published and layer == "marts" and not described.validated:
            problems.append(f"{place}.validated is False: what is published has to be validated.")
        template = templates / "validations" / f"{node['name']}.sql"
        if described.validated and not template.is_file():
            problems.append(f"{place}.validated is True, but there is no template: write {_shown(template)}.")
        columns = node["columns"]
        personal = (name for name, column in columns.items() if column["config"].get("meta", {}).get("personal_data"))
        mart = Mart(
            name=node["name"],
            table_schema=layer,
            columns=tuple(columns),
            personal_columns=tuple(personal),
            **dict(described),
        )
        found.append((_depth(unique_id, manifest, depths), mart))
    # A mart comes after all that it is made of, so that what holds the others is the last to change.
    return tuple(mart for _, mart in sorted(found, key=lambda entry: (entry[0], entry[1].name)))


def _depth(unique_id: str, manifest: Mapping[str, Any], depths: dict[str, int]) -> int:
    """Return the number of nodes on the longest path that leads to this one."""
    if unique_id not in depths:
        parents = manifest["parent_map"].get(unique_id, ())
        depths[unique_id] = 1 + max((_depth(parent, manifest, depths) for parent in parents), default=0)
    return depths[unique_id]


def _campaigns(manifest: Mapping[str, Any], templates: Path, problems: list[str]) -> tuple[Campaign, ...]:
    profile = next(node for node in manifest["nodes"].values() if node["name"] == PROFILE)
    types = {name: column["data_type"] for name, column in profile["columns"].items()}
    found: dict[str, Campaign] = {}
    named: dict[str, str] = {}
    for exposure in manifest["exposures"].values():
        meta = exposure["config"].get("meta") or {}
        if "campaign" not in meta:
            continue
        place = f"{_file_of(exposure)}: campaign {exposure['name']}"
        try:
            settings = CampaignMeta.model_validate(meta["campaign"])
        except ValidationError as invalid:
            problems += _what_is_wrong(f"{place}, config.meta.campaign", invalid, CampaignMeta.model_fields)
            continue
        owner = exposure["owner"].get("name") or ""
        wrong = list(_wrong_in(settings, types, templates))
        if (other := named.setdefault(settings.name, exposure["name"])) != exposure["name"]:
            wrong.append(f"name is {settings.name!r}: campaign {other} has it")
        problems += [f"{place}, config.meta.campaign.{remark}." for remark in wrong]
        if not owner:
            problems.append(f"{place}, owner.name is {owner!r}: name the team that uses its audience.")
        if wrong or not owner:
            continue
        own = templates / "exports" / f"{settings.name}.sql"
        found[settings.name] = Campaign(
            **dict(settings),
            label=exposure["label"] or settings.name,
            description=(exposure["description"] or "").strip(),
            owner=owner,
            conditions=tuple(_as_sql(condition, types) for condition in settings.eligibility),
            template=f"exports/{settings.name if own.is_file() else '_audience'}.sql",
        )
    return tuple(found[name] for name in sorted(found))


def _wrong_in(settings: CampaignMeta, types: Mapping[str, str], templates: Path) -> Iterable[str]:
    """Yield what is wrong with a campaign in view of the profile's columns and the templates there are."""
    template = templates / "exports" / f"{settings.name}.sql"
    if not settings.eligibility and not template.is_file():
        yield f"eligibility is not given: say who is eligible, or write {_shown(template)}"
    for condition in settings.eligibility:
        column = _column_of(condition)
        if column not in types:
            yield f"eligibility is {condition!r}: {PROFILE} has no column {column}"
        elif condition == column and types[column] != "boolean":
            yield f"eligibility is {condition!r}: the column is {types[column]}, so compare it with something"
    if settings.order.split()[0] not in types:
        yield f"order is {settings.order!r}: {PROFILE} has no such column"
    for column in settings.columns:
        if column not in types:
            yield f"columns is {column!r}: {PROFILE} has no such column"
    if "customer_id" not in settings.columns:
        yield f"columns is {list(settings.columns)}: customer_id is missing"


def _column_of(condition: str) -> str:
    matched = _CONDITION.fullmatch(condition)
    return matched["column"] if matched else condition


def _as_sql(condition: str, types: Mapping[str, str]) -> str:
    """Return a condition as SQL: a boolean column counts when it is true, and not when it is NULL."""
    return f"{condition} = true" if condition in types else condition


def _what_is_wrong(place: str, invalid: ValidationError, keys: Iterable[str]) -> list[str]:
    """Return one line per problem that pydantic found in an entry that may have these keys."""
    return [f"{'.'.join([place, *map(str, error['loc'])])} {_remark(error, keys)}." for error in invalid.errors()]


def _remark(error: ErrorDetails, keys: Iterable[str]) -> str:
    if error["type"] == "missing":
        return "is not given: add it"
    if error["type"] == "extra_forbidden":
        known = f": the keys here are {', '.join(keys)}" if len(error["loc"]) == 1 else ""
        return f"is {error['input']!r}, but there is no such key{known}"
    return f"is {error['input']!r}: {error['msg'].removeprefix('Value error, ')}"


def _file_of(node: Mapping[str, Any]) -> str:
    """Return the yml that describes a node, else its own file, as a path from the project's folder."""
    described_in = (node.get("patch_path") or "").partition("://")[2]
    return f"{DBT_PROJECT.relative_to(PROJECT_ROOT)}/{described_in or node['original_file_path']}"


def _shown(file: Path) -> str:
    return str(file.relative_to(PROJECT_ROOT) if file.is_relative_to(PROJECT_ROOT) else file)
