"""The marts and the campaigns of the project, as they are described where they are defined: in dbt's yml.

A mart says in its `config.meta` that it is validated and published, and which measures are watched for drift. An
exposure with `config.meta.campaign` is a campaign. Both are read from the manifest that Cosmos draws the Dag from.
"""

from __future__ import annotations

import datetime
import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationError,
    field_validator,
    model_validator,
)

from include.customer_360.settings import DBT_PROJECT, PROJECT_ROOT, SQL_TEMPLATES

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_Found = TypeVar("_Found")

MANIFEST = DBT_PROJECT / "target" / "manifest.json"
PROFILE = "customer_360_profile"

_COLUMN = r"[a-z_][a-z0-9_]*"
_LITERAL = r"(?:-?[0-9]+(?:\.[0-9]+)?|'(?:[^']|'')*'|date '[0-9]{4}-[0-9]{2}-[0-9]{2}'|true|false)"
_CONDITION = re.compile(
    rf"(?P<column>{_COLUMN})(?:\s*(?P<sign>=|<>|<=|>=|<|>)\s*(?P<literal>{_LITERAL})"
    rf"|\s+in\s*\((?P<literals>\s*{_LITERAL}(?:\s*,\s*{_LITERAL})*\s*)\)|\s+is\s+(?:not\s+)?null)?"
)
_KINDS = {
    "text": ("varchar", "text", "string", "char"),
    "number": ("decimal", "numeric", "number", "integer", "int", "bigint", "smallint", "tinyint", "double", "float"),
    "boolean": ("boolean",),
    "date": ("date",),
}
"""The types of columns by the kind of literal that they are compared with."""
_WRITTEN = {
    "text": "a text such as 'NY'",
    "number": "a number such as 50000",
    "boolean": "true or false",
    "date": "a day such as date '2026-03-31'",
}
_CONSENT = {"email": "marketing_opt_in", "ads": "ads_opt_in"}
_AND = re.compile(r"\s+and\s+(?=(?:[^']*'[^']*')*[^']*$)")


class CatalogError(ValueError):
    """An entry cannot be used; the message names its file, the mart or campaign, the key, the value, and what to do."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DriftLimits(_Entry):
    """How far a measure may move against what is published, in percent of it."""

    lowest_pct: Annotated[float, Field(strict=True, allow_inf_nan=False)]
    highest_pct: Annotated[float, Field(strict=True, allow_inf_nan=False)]

    @model_validator(mode="after")
    def _in_order(self) -> DriftLimits:
        if self.lowest_pct > self.highest_pct:
            raise ValueError(f"lowest_pct {self.lowest_pct:g} is above highest_pct {self.highest_pct:g}: exchange them")
        return self


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


class ApprovalLimits(_Entry):
    """How far an audience may lie from the median of its campaign's earlier ones before a person is asked.

    :param size_pct: the number of exported customers, in percent of that median.
    :param entered_points: the share of entrants among them, in percentage points.
    :param average_value_pct: their average lifetime value, in percent.
    :param answer_within_hours: without an answer by then, nothing is exported.
    """

    size_pct: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 50
    entered_points: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 40
    average_value_pct: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 50
    answer_within_hours: Annotated[float, Field(gt=0, le=20)] = 12


class Destination(_Entry):
    """Where an audience goes, and in which form.

    :param name: the task's label and, but for `csv`, the folder's name below that of the date.
    :param format: `csv`, or what an ad platform takes: hashed addresses.
    :param place: any ObjectStoragePath; empty: the export root.
    :param lifetime_days: after so many days the platform forgets a customer, who is then sent anew.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = "csv"
    format: Literal["csv", "google_customer_match", "meta_custom_audience"] = "csv"
    place: str = ""
    lifetime_days: Annotated[StrictInt, Field(ge=1)] | None = None

    @field_validator("place")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if value and "://" not in value and not value.startswith("/"):
            raise ValueError("hangs on the folder that a task happens to run in: write a whole path or URI (s3://...)")
        return value

    @model_validator(mode="after")
    def _named_by_its_format(self) -> Self:
        if self.name == "csv" and self.format != "csv":
            raise ValueError(f"has format {self.format} and the name of plain files: give it a name of its own")
        return self


class CampaignMeta(_Entry):
    """What an exposure says in `config.meta.campaign`; the columns are those of customer_360_profile.

    :param name: the task's, the folder's and, where there is one, the template's name.
    :param eligibility: conditions that all hold, as a list or joined by `and`: a boolean column, or a column compared
        with a literal. Absent: the template include/sql/exports/<name>.sql says who is eligible.
    :param order: a column and asc or desc; decides who is within the limit.
    :param limit: the largest number of customers that are exported; who is held out comes beside it.
    :param columns: what is exported, of the columns with `config.meta.exportable` in the profile's yml.
    :param priority: of the campaigns that could have a customer on a day, the one with the lowest number has.
    :param holdout_share: the part of the customers that is never exported, so that the others can be held against it.
    :param holdout_salt: another one draws other customers.
    :param cap_days: so many days after a customer entered any audience may this one be entered.
    :param purpose: the consent that it takes: `email` (marketing_opt_in) or `ads` (ads_opt_in).
    :param approval: how far the audience may move before a person is asked.
    :param destinations: where it goes; without any, as csv under the export root.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    eligibility: tuple[str, ...] = ()
    order: Annotated[str, Field(pattern=rf"^{_COLUMN} (asc|desc)$")]
    limit: Annotated[StrictInt, Field(ge=1)]
    columns: Annotated[tuple[str, ...], Field(min_length=1)] = ("customer_id", "full_name", "email")
    priority: Annotated[StrictInt, Field(ge=1)] = 100
    holdout_share: Annotated[float, Field(ge=0, le=0.5, allow_inf_nan=False)] = 0.05
    holdout_salt: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]*$")] = ""
    cap_days: Annotated[StrictInt, Field(ge=0, le=365)] = 7
    purpose: Literal["email", "ads"] = "email"
    approval: ApprovalLimits = ApprovalLimits()
    destinations: Annotated[tuple[Destination, ...], Field(min_length=1)] = (Destination(),)

    @field_validator("eligibility", mode="before")
    @classmethod
    def _each_condition(cls, value: object) -> object:
        if isinstance(value, str):
            value = [value]
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return [condition.strip() for item in value for condition in _AND.split(item.strip())]
        return value

    @field_validator("destinations")
    @classmethod
    def _each_once(cls, value: tuple[Destination, ...]) -> tuple[Destination, ...]:
        names = [destination.name for destination in value]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)} is there twice: give each destination a name of its own")
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
    :param template: the SQL that selects the customer_id of who is eligible, a path under include/sql.
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

    def destination(self, name: str) -> Destination:
        """Return the destination of this name."""
        return next(destination for destination in self.destinations if destination.name == name)

    def purpose_of(self, destination: Destination) -> str:
        """Return the consent that a destination's file takes: an ad platform's is another than an e-mail's."""
        return self.purpose if destination.format == "csv" else "ads"

    @property
    def consent_column(self) -> str:
        """The column of customer_360_profile that says whether a customer agreed to the purpose."""
        return _CONSENT[self.purpose]

    @property
    def holdout_threshold(self) -> str:
        """Whoever's hash, the first eight hexadecimal digits of it, comes before this is held out."""
        return f"{int(self.holdout_share * 2**32):08x}"


@dataclass(frozen=True)
class ProfileColumn:
    """A column of customer_360_profile, as its yml describes it.

    :param data_type: as in its contract.
    :param accepted: the values that its accepted_values test names; empty without one.
    :param exportable: an audience may hold it.
    """

    data_type: str
    accepted: Sequence[str] = ()
    exportable: bool = False


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
        problems += [f"{place}.{remark}." for remark in _wrong_drift(described, node, templates)]
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


def _wrong_drift(described: MartMeta, node: Mapping[str, Any], templates: Path) -> Iterable[str]:
    """Yield what is wrong with the measures of a mart, in view of its columns and of its validation."""
    for measure in described.drift:
        if measure == "row_count":
            continue
        if measure not in node["columns"]:
            yield f"drift is {measure!r}: name row_count or a column of {node['name']}"
        elif (data_type := node["columns"][measure].get("data_type")) and _kind_of_type(data_type) != "number":
            yield f"drift is {measure!r}: the column is {data_type}, and what is watched is a sum, so name a number"
    if described.drift and not described.validated:
        yield "drift is given, but validated is False: only a mart that is validated is watched"
    template = templates / "validations" / f"{node['name']}.sql"
    if described.drift and described.validated and template.is_file():
        sql = re.sub(r"\{#.*?#\}", "", template.read_text(encoding="utf-8"), flags=re.DOTALL)
        if "drift_checks(" not in sql:
            yield (
                f"drift is given, but {_shown(template)} has no drift_checks, so that nothing would be watched: "
                "add drift_of_measures and drift_checks of checks.jinja, or leave drift out"
            )


def _depth(unique_id: str, manifest: Mapping[str, Any], depths: dict[str, int]) -> int:
    """Return the number of nodes on the longest path that leads to this one."""
    if unique_id not in depths:
        parents = manifest["parent_map"].get(unique_id, ())
        depths[unique_id] = 1 + max((_depth(parent, manifest, depths) for parent in parents), default=0)
    return depths[unique_id]


def _campaigns(manifest: Mapping[str, Any], templates: Path, problems: list[str]) -> tuple[Campaign, ...]:
    columns = _profile_columns(manifest)
    found: dict[str, Campaign] = {}
    named: dict[str, str] = {}
    for exposure in manifest["exposures"].values():
        meta = exposure["config"].get("meta") or {}
        if misspelt := _misspelt_campaign(meta):
            problems.append(
                f"{_file_of(exposure)}: exposure {exposure['name']}, config.meta.{misspelt} is given, but a campaign "
                "stands under config.meta.campaign: correct the key."
            )
        if "campaign" not in meta:
            continue
        place = f"{_file_of(exposure)}: campaign {exposure['name']}"
        try:
            settings = CampaignMeta.model_validate(meta["campaign"])
        except ValidationError as invalid:
            problems += _what_is_wrong(f"{place}, config.meta.campaign", invalid, CampaignMeta.model_fields)
            continue
        owner = exposure["owner"].get("name") or ""
        wrong = list(_wrong_in(settings, columns, templates))
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
            conditions=tuple(_as_sql(condition, columns) for condition in settings.eligibility),
            template=f"exports/{settings.name if own.is_file() else '_eligible'}.sql",
        )
    return tuple(found[name] for name in sorted(found))


def _misspelt_campaign(meta: Mapping[str, Any]) -> str | None:
    """Return the key of an exposure's meta that was meant to be `campaign`: by its look, or by what is in it."""
    for key, value in meta.items():
        looks_like_it = difflib.get_close_matches(key.casefold(), ["campaign"], cutoff=0.75)
        if key != "campaign" and (looks_like_it or (isinstance(value, Mapping) and {"order", "limit"} <= value.keys())):
            return key
    return None


def _profile_columns(manifest: Mapping[str, Any]) -> dict[str, ProfileColumn]:
    """Return the columns of the profile, by name, with what its accepted_values tests name."""
    unique_id, profile = next(item for item in manifest["nodes"].items() if item[1]["name"] == PROFILE)
    accepted: dict[str, list[str]] = {}
    for node in manifest["nodes"].values():
        test = node.get("test_metadata") or {}
        # A test with a condition of its own says nothing of the other rows.
        if test.get("name") == "accepted_values" and node["attached_node"] == unique_id and not node["config"]["where"]:
            accepted[node["column_name"]] = [str(value) for value in test["kwargs"]["values"]]
    return {
        name: ProfileColumn(
            column["data_type"], accepted.get(name, ()), column["config"].get("meta", {}).get("exportable", False)
        )
        for name, column in profile["columns"].items()
    }


def _wrong_in(settings: CampaignMeta, columns: Mapping[str, ProfileColumn], templates: Path) -> Iterable[str]:
    """Yield what is wrong with a campaign in view of the profile's columns and the templates there are."""
    template = templates / "exports" / f"{settings.name}.sql"
    if not settings.eligibility and not template.is_file():
        yield f"eligibility is not given: say who is eligible, or write {_shown(template)}"
    for condition in settings.eligibility:
        name = _column_of(condition)
        if name not in columns:
            yield f"eligibility is {condition!r}: {PROFILE} has no column {name}"
        elif condition == name and columns[name].data_type != "boolean":
            yield f"eligibility is {condition!r}: the column is {columns[name].data_type}, so compare it with something"
        else:
            yield from (
                f"eligibility is {condition!r}: {remark}" for remark in _wrong_literals(condition, columns[name])
            )
    if settings.order.split()[0] not in columns:
        yield f"order is {settings.order!r}: {PROFILE} has no such column"
    for column in settings.columns:
        if column not in columns:
            yield f"columns is {column!r}: {PROFILE} has no such column"
        elif not columns[column].exportable:
            yield (
                f"columns is {column!r}: no audience may hold it. Those that it may are "
                f"{', '.join(name for name, each in columns.items() if each.exportable)} "
                f"(config.meta.exportable in {PROFILE}.yml)"
            )
    if "customer_id" not in settings.columns:
        yield f"columns is {list(settings.columns)}: customer_id is missing"


def _wrong_literals(condition: str, column: ProfileColumn) -> Iterable[str]:
    """Yield what is wrong with the literals of a condition: their type, or that no customer can have them."""
    matched = _CONDITION.fullmatch(condition)
    if not matched:
        return
    name, kind = matched["column"], _kind_of_type(column.data_type)
    for literal in re.findall(_LITERAL, matched["literal"] or matched["literals"] or ""):
        if kind and _kind_of_literal(literal) != kind:
            yield f"{literal} is of another type than {name}, which is {column.data_type}: give {_WRITTEN[kind]}"
        elif kind == "date" and not _is_day(literal):
            yield f"{literal} is no day of the calendar"
        elif kind == "text" and column.accepted and matched["sign"] in ("=", "<>", None):
            value = literal[1:-1].replace("''", "'")
            if value not in column.accepted:
                known = ", ".join(map(repr, column.accepted))
                yield (
                    f"{name} is never {value!r}; its accepted values are {known}; the nearest is "
                    f"{_nearest(value, column.accepted)!r}. A new one belongs into accepted_values of {name} in "
                    f"{PROFILE}.yml"
                )


def _kind_of_type(data_type: str) -> str | None:
    """Return the kind of literal that a type of column is compared with; None for a type that no mart has."""
    base = data_type.split("(")[0].strip().lower()
    return next((kind for kind, types in _KINDS.items() if base in types), None)


def _kind_of_literal(literal: str) -> str:
    if literal in ("true", "false"):
        return "boolean"
    return {"'": "text", "d": "date"}.get(literal[0], "number")


def _is_day(literal: str) -> bool:
    try:
        datetime.date.fromisoformat(literal.split("'")[1])
    except ValueError:
        return False
    return True


def _nearest(value: str, accepted: Sequence[str]) -> str:
    """Return the accepted value that is most like the one that was given, whatever its case."""

    def likeness(other: str) -> float:
        return difflib.SequenceMatcher(None, value.casefold(), other.casefold()).ratio()

    return max(accepted, key=likeness)


def _column_of(condition: str) -> str:
    matched = _CONDITION.fullmatch(condition)
    return matched["column"] if matched else condition


def _as_sql(condition: str, columns: Mapping[str, ProfileColumn]) -> str:
    """Return a condition as SQL: a boolean column counts when it is true, and not when it is NULL."""
    return f"{condition} = true" if condition in columns else condition


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
