"""The metrics and dimensions of the project, as dbt's semantic models define them, and the SQL that they are.

A figure is defined once, in include/dbt/models/semantic: this module reads it from dbt's manifest and writes the select
that computes it, for DuckDB and for Snowflake alike. It imports nothing but the standard library, so that an
application may use it wherever the manifest is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST = Path(__file__).parents[1] / "dbt" / "target" / "manifest.json"
UNITS = ("usd", "percent", "count", "days")
OPERATORS = ("=", "<>", ">=", "<=", "in", "between", "is null")
_AGGREGATIONS = {
    "sum": "sum({})",
    "count": "count({})",
    "count_distinct": "count(distinct {})",
    "average": "avg(cast({} as double))",
    "min": "min({})",
    "max": "max({})",
}
_NUMBERS = ("decimal", "integer", "bigint")
# A text in quotes is passed over; what stands behind a point is a column already qualified.
_NAME = re.compile(r"'(?:[^']|'')*'|(?<![\w.])[a-z_]\w*")


class SemanticsError(ValueError):
    """A figure is not defined so, or cannot be asked for so; the message names it, and what there is."""


@dataclass(frozen=True)
class Dimension:
    """What figures can be cut by.

    :param type: `categorical` or `time`.
    :param data_type: as in the model's contract.
    :param table: the name of its table.
    :param expression: its SQL, columns qualified by the table's name.
    """

    name: str
    label: str
    description: str
    type: str
    data_type: str
    synonyms: tuple[str, ...]
    table: str
    expression: str


@dataclass(frozen=True)
class Fact:
    """A number of each row, as the model has it."""

    name: str
    description: str


@dataclass(frozen=True)
class Metric:
    """A figure: an aggregate of a table's rows, or a formula of other metrics.

    :param unit: one of UNITS; a percentage is 0 to 100.
    :param decimals: how many are shown.
    :param table: the name of the table whose rows it is of.
    :param aggregate: its SQL, columns qualified by the table's name; empty for a formula.
    :param formula: SQL in which the names of `inputs` stand for the metrics that they name; empty for an aggregate.
    :param latest_of: a dimension over which it is never added up: without it, it is that of the latest.
    """

    name: str
    label: str
    description: str
    unit: str
    decimals: int
    synonyms: tuple[str, ...]
    table: str
    aggregate: str
    formula: str
    inputs: Mapping[str, str]
    latest_of: str

    def sql(self, of_input: Callable[[str], str]) -> str:
        """Return its SQL, with what `of_input` gives for the name of each metric that it is a formula of."""
        if self.aggregate:
            return self.aggregate
        return _replaced(self.formula, {name: of_input(metric) for name, metric in self.inputs.items()})


@dataclass(frozen=True)
class Table:
    """A mart, as a semantic model describes it.

    :param relation: the name of table or view in the schema that readers select from.
    :param key: the columns that no two rows share.
    :param joins: tables that have at most one row for each of this one, with the column of both.
    :param one_value_of: a dimension by which each query cuts, or which it holds to one value; empty: none.
    """

    name: str
    label: str
    description: str
    synonyms: tuple[str, ...]
    relation: str
    key: tuple[str, ...]
    dimensions: tuple[Dimension, ...]
    facts: tuple[Fact, ...]
    joins: Mapping[str, str]
    one_value_of: str


@dataclass(frozen=True)
class NotYetModelled:
    """A figure that is wanted and has no definition, because its columns do not exist."""

    name: str
    label: str
    description: str


@dataclass(frozen=True)
class Filter:
    """A condition on a dimension; the value is bound, a sequence for `in`, two for `between`, none for `is null`."""

    dimension: str
    operator: str
    value: object = None


@dataclass(frozen=True)
class Query:
    """A select whose placeholders are `?`, with their values in order."""

    sql: str
    parameters: tuple[object, ...]


@dataclass(frozen=True)
class Semantics:
    """All metrics, by name, and the tables that they are of."""

    metrics: Mapping[str, Metric]
    tables: Mapping[str, Table]
    not_yet_modelled: tuple[NotYetModelled, ...]

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The dimensions of all tables; several may have one name."""
        return tuple(dimension for table in self.tables.values() for dimension in table.dimensions)

    def dimensions_of(self, metrics: Sequence[str]) -> tuple[Dimension, ...]:
        """Return what these metrics can be cut by: their table's dimensions, then those of the tables it joins.

        :raises SemanticsError: when one is not defined, or they are of several tables.
        """
        table = self._table_of(metrics)
        found = {dimension.name: dimension for dimension in table.dimensions}
        for joined in table.joins:
            found = {dimension.name: dimension for dimension in self.tables[joined].dimensions} | found
        own = {dimension.name for dimension in table.dimensions}
        return tuple(sorted(found.values(), key=lambda dimension: dimension.name not in own))

    def query(
        self,
        metrics: Sequence[str],
        by: Sequence[str] = (),
        where: Sequence[Filter] = (),
        schema: str = "marts",
    ) -> Query:
        """Return the select of the metrics: one row per combination of the dimensions, in their order, NULL last.

        Its columns are the dimensions and then the metrics, under their names. Without dimensions it has one row.

        :param schema: where readers have the marts; a database may stand before it.
        :raises SemanticsError: when a name is not defined, the metrics are of several tables, or a filter is none.
        """
        table = self._table_of(metrics)
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?", schema):
            raise SemanticsError(f"schema {schema!r} is no name: give one like marts or customer_360.marts")
        known = {dimension.name: dimension for dimension in self.dimensions_of(metrics)}
        asked = [*by, *(condition.dimension for condition in where)]
        for name in asked:
            if name not in known:
                raise SemanticsError(
                    f"{', '.join(metrics)} cannot be cut by {name!r}: the dimensions of {table.name} are "
                    f"{', '.join(known)}"
                )
        for names in (metrics, by):
            if twice := sorted({name for name in names if list(names).count(name) > 1}):
                raise SemanticsError(f"{', '.join(twice)} is asked for twice: name each once")
        one = table.one_value_of
        if one and one not in by and not any(each.dimension == one and each.operator == "=" for each in where):
            raise SemanticsError(
                f"{', '.join(metrics)}: figures of {table.name} are of one {one}: cut by it, or filter it by ="
            )

        conditions, parameters = _conditions(where, known)
        latest = {self.metrics[name].latest_of for name in metrics} - {""}
        for name in sorted(latest.difference(by)):
            of_it = [condition for condition in where if condition.dimension == name]
            if any(condition.operator == "=" for condition in of_it):
                continue
            inner, bound = _conditions(of_it, known)
            expression = known[name].expression
            source = f"select max({expression}) from {schema}.{table.relation} as {table.name}"
            conditions.append(f"{expression} = ({source}{' where ' + ' and '.join(inner) if inner else ''})")
            parameters += bound

        joined = sorted({known[name].table for name in asked} - {table.name})
        cut = [known[name] for name in by]
        selected = [f"{dimension.expression} as {dimension.name}" for dimension in cut]
        selected += [f"{self.expression(name)} as {name}" for name in metrics]
        clauses = ["select\n    " + ",\n    ".join(selected), f"from {schema}.{table.relation} as {table.name}"]
        clauses += [
            f"left join {schema}.{self.tables[other].relation} as {other}\n    on "
            f"{table.name}.{table.joins[other]} = {other}.{table.joins[other]}"
            for other in joined
        ]
        if conditions:
            clauses.append("where\n    " + "\n    and ".join(conditions))
        if cut:
            clauses.append("group by\n    " + ",\n    ".join(dimension.expression for dimension in cut))
            clauses.append("order by\n    " + ",\n    ".join(f"{dimension.name} nulls last" for dimension in cut))
        return Query("\n".join(clauses), tuple(parameters))

    def expression(self, metric: str) -> str:
        """Return the aggregate that a metric is, in SQL, columns qualified by its table's name."""
        return self.metrics[metric].sql(lambda name: f"({self.expression(name)})")

    def _table_of(self, metrics: Sequence[str]) -> Table:
        if not metrics:
            raise SemanticsError("no metric is asked for: name one or more")
        for name in metrics:
            if name in self.metrics:
                continue
            if any(wanted.name == name for wanted in self.not_yet_modelled):
                raise SemanticsError(f"{name} is not yet modelled: the columns that it is made of do not exist")
            raise SemanticsError(f"there is no metric {name!r}: the metrics are {', '.join(self.metrics)}")
        tables = {name: self.metrics[name].table for name in metrics}
        if len(set(tables.values())) > 1:
            told = ", ".join(f"{name} of {table}" for name, table in tables.items())
            raise SemanticsError(f"the metrics are of several tables: {told}. Ask for those of each by themselves")
        return self.tables[next(iter(tables.values()))]


def load_semantics(manifest: Path = MANIFEST) -> Semantics:
    """Return the metrics and dimensions that dbt's manifest has.

    :raises SemanticsError: when there is no manifest, or a definition in it cannot be used.
    """
    try:
        found = json.loads(manifest.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SemanticsError(f"{manifest} is not there: write it with `dbt parse` (make refresh does)") from None
    models = sorted(found["semantic_models"].values(), key=lambda model: str(model["name"]))
    nodes = [found["nodes"][model["depends_on"]["nodes"][0]] for model in models]
    entities = {
        entity["name"]: model["name"] for model in models for entity in model["entities"] if entity["type"] == "primary"
    }
    tables = {model["name"]: _table(model, node, entities) for model, node in zip(models, nodes, strict=True)}
    measures = {
        measure["name"]: (model["name"], measure, node["columns"])
        for model, node in zip(models, nodes, strict=True)
        for measure in model["measures"]
    }
    written = {metric["name"]: metric for metric in found["metrics"].values()}
    metrics = {name: _metric(name, written, measures) for name in sorted(written)}
    for table in tables:
        of_table = [metric for metric in metrics.values() if metric.table == table]
        if len({metric.latest_of for metric in of_table}) > 1:
            told = ", ".join(f"{metric.name} of {metric.latest_of or 'all'}" for metric in of_table)
            raise SemanticsError(
                f"semantic model {table}: give all measures one non_additive_dimension, or none; {told}"
            )
    wanted = [
        NotYetModelled(**entry)
        for exposure in found["exposures"].values()
        for entry in (exposure["config"].get("meta") or {}).get("not_yet_modelled", ())
    ]
    return Semantics(metrics, tables, tuple(sorted(wanted, key=lambda entry: entry.name)))


def _table(model: Mapping[str, Any], node: Mapping[str, Any], entities: Mapping[str, str]) -> Table:
    name, meta, columns = model["name"], model["config"]["meta"], node["columns"]
    primary = [entity["expr"] for entity in model["entities"] if entity["type"] == "primary"]
    joins = {
        entities[entity["name"]]: entity["expr"]
        for entity in model["entities"]
        if entity["type"] == "foreign" and entity["name"] in entities
    }
    # An entity is cut by like a dimension, under the name of its column.
    dimensions = [{**entity, "name": entity["expr"], "type": "categorical"} for entity in model["entities"]]
    dimensions += model["dimensions"]
    for column in meta.get("facts", ()):
        if column not in columns or not columns[column]["data_type"].startswith(_NUMBERS):
            raise SemanticsError(f"semantic model {name}, fact {column!r}: {node['name']} has no number of that name")
    return Table(
        name=name,
        label=model["label"] or name,
        description=_described(f"semantic model {name}", model),
        synonyms=tuple(meta.get("synonyms", ())),
        relation=meta.get("published_as", model["node_relation"]["alias"]),
        key=tuple(meta.get("key", primary)),
        dimensions=tuple(
            Dimension(
                name=dimension["name"],
                label=dimension["label"] or dimension["name"],
                description=_described(f"semantic model {name}, dimension {dimension['name']}", dimension),
                type=dimension["type"],
                data_type=columns.get(dimension["expr"] or dimension["name"], {}).get("data_type", ""),
                synonyms=tuple(dimension["config"]["meta"].get("synonyms", ())),
                table=name,
                expression=_qualified(dimension["expr"] or dimension["name"], name, columns),
            )
            for dimension in dimensions
        ),
        facts=tuple(Fact(column, columns[column]["description"].strip()) for column in meta.get("facts", ())),
        joins=joins,
        one_value_of=meta.get("one_value_of", ""),
    )


def _metric(
    name: str, written: Mapping[str, Mapping[str, Any]], measures: Mapping[str, tuple[str, Mapping[str, Any], Any]]
) -> Metric:
    metric, place = written[name], f"metric {name}"
    params, meta = metric["type_params"], metric["config"]["meta"]
    if meta.get("unit") not in UNITS or not isinstance(meta.get("decimals"), int):
        raise SemanticsError(
            f"{place}, config.meta: unit is {meta.get('unit')!r} and decimals {meta.get('decimals')!r}; give a unit "
            f"of {', '.join(UNITS)} and a number of decimals"
        )
    aggregate = formula = ""
    inputs: dict[str, str] = {}
    found = [measures[each["name"]] for each in params["input_measures"]]
    if metric["type"] == "simple":
        table, measure, columns = found[0]
        if measure["agg"] not in _AGGREGATIONS:
            raise SemanticsError(f"{place}: its measure is {measure['agg']}; known are {', '.join(_AGGREGATIONS)}")
        expression = _qualified(measure["expr"] or measure["name"], table, columns)
        aggregate = _AGGREGATIONS[measure["agg"]].format(expression)
    elif metric["type"] == "ratio":
        numerator, denominator = params["numerator"]["name"], params["denominator"]["name"]
        inputs = {numerator: numerator, denominator: denominator}
        formula = f"cast({numerator} as double) / nullif({denominator}, 0)"
    elif metric["type"] == "derived":
        inputs = {each["alias"] or each["name"]: each["name"] for each in params["metrics"]}
        formula = params["expr"]
    else:
        raise SemanticsError(f"{place}: its type is {metric['type']}; known are simple, ratio and derived")
    asked = [metric, *params["input_measures"], params["numerator"], params["denominator"], *params["metrics"]]
    more = ("filter", "offset_window", "offset_to_grain", "join_to_timespine", "fill_nulls_with")
    if used := [key for key in more for each in asked if each and each.get(key)]:
        raise SemanticsError(f"{place} has {used[0]}, which is not read: write it into the expr of a measure")
    if len(tables := {table for table, _, _ in found}) > 1:
        raise SemanticsError(f"{place} is of several semantic models: {', '.join(sorted(tables))}; make it of one")
    return Metric(
        name=name,
        label=metric["label"],
        description=_described(place, metric),
        unit=meta["unit"],
        decimals=meta["decimals"],
        synonyms=tuple(meta.get("synonyms", ())),
        table=found[0][0],
        aggregate=aggregate,
        formula=formula,
        inputs=inputs,
        latest_of=(found[0][1]["non_additive_dimension"] or {}).get("name", ""),
    )


def _described(place: str, entry: Mapping[str, Any]) -> str:
    if not (description := " ".join((entry["description"] or "").split())):
        raise SemanticsError(f"{place} has no description: add one")
    return description


def _qualified(expression: str, table: str, columns: Iterable[str]) -> str:
    return _replaced(expression, {column: f"{table}.{column}" for column in columns})


def _replaced(expression: str, names: Mapping[str, str]) -> str:
    """Return SQL with something else in place of some names; what stands in quotes is no name."""
    return _NAME.sub(lambda found: names.get(found[0], found[0]), expression)


def _conditions(where: Iterable[Filter], known: Mapping[str, Dimension]) -> tuple[list[str], list[object]]:
    """Return the conditions as SQL, and the values that they bind."""
    conditions: list[str] = []
    parameters: list[object] = []
    for each in where:
        expression, values = known[each.dimension].expression, _values(each)
        marks = ["?"] * len(values)
        right = {"in": f"({', '.join(marks)})", "between": " and ".join(marks), "is null": ""}
        conditions.append(f"{expression} {each.operator} {right.get(each.operator, '?')}".rstrip())
        parameters += values
    return conditions, parameters


def _values(condition: Filter) -> list[object]:
    """Return the values that a filter binds.

    :raises SemanticsError: when there is no such operator, or it takes another number of values.
    """
    value, place = condition.value, f"filter on {condition.dimension}: {condition.operator!r}"
    if condition.operator not in OPERATORS:
        raise SemanticsError(f"{place} is no operator: they are {', '.join(OPERATORS)}")
    if condition.operator == "is null":
        return []
    if condition.operator in ("in", "between"):
        given = list(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes) else []
        if not given or (condition.operator == "between" and len(given) != 2):
            takes = "two values" if condition.operator == "between" else "one value or more"
            raise SemanticsError(f"{place} takes {takes}, in a sequence, and not {value!r}")
        return given
    if value is None:
        raise SemanticsError(f"{place} takes a value; nothing equals NULL: use 'is null'")
    return [value]
