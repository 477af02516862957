"""Page Ask: questions over the semantic definitions, by controls that write the SQL, or verified, or in words."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import pandas as pd
import streamlit as st

from app import charts
from app.cortex_analyst import Answer, NoAnswer, NotASelect, ask, one_select
from app.figures import semantics, show_figure
from app.formats import day, plain, written, yes_or_no
from app.header import show_header, show_nothing_there
from app.page import show_page
from app.published import NotReadable, SnowflakeMarts, State, Warehouse
from app.questions import (
    MOST_VALUES,
    OPERATORS,
    customers_of,
    dimensions_for,
    latest_date,
    names_customers,
    operators_of,
    values_of,
)
from app.reader import Reader
from app.screens_log import NotLogged, write_down
from app.tables import ROWS_SHOWN, show_table
from app.verified_queries import NoVerifiedQueries, load_verified_queries
from include.customer_360.semantics import Dimension, Filter, Query, SemanticsError

BY_FIGURES, VERIFIED, IN_WORDS = "By figures", "Verified questions", "In words"
FIRST_TABLE, FIRST_METRIC = "customer_360_profile", "customers"
MOST_DIMENSIONS, MOST_FILTERS = 2, 3
MOST_LINES_OF_THE_LOG = 20
"""How many customers of one answer have a line each; of more it is written down how many they are."""
MOST_BARS = 30
MOST_LINES = 7
NO_VALUE = "No value"
LATEST = {"audience_memberships": " that any campaign decided for: one that decided nothing for it has 0"}
"""What else is to be known, by table, of the date of figures that are asked for without one."""
SEMANTIC_VIEW = "customer_360"
ANSWERED = "ask_answered"
ANSWER = "ask_answer"
QUESTION = "ask_question"


def show(warehouse: Warehouse, reader: Reader) -> None:
    """Show the page."""
    state = show_header("Ask", warehouse)
    ways = [BY_FIGURES, VERIFIED, *([IN_WORDS] if isinstance(warehouse, SnowflakeMarts) else [])]
    way = st.radio("How to ask", ways, horizontal=True)
    try:
        if way == BY_FIGURES:
            ask_by_figures(warehouse, state)
        elif way == VERIFIED:
            ask_verified(warehouse, reader, state)
        elif isinstance(warehouse, SnowflakeMarts):
            ask_in_words(warehouse, reader, state)
    except NotLogged as error:
        st.error(str(error))


def ask_by_figures(warehouse: Warehouse, state: State) -> None:
    """Ask by controls, which write the SQL."""
    defined = semantics()
    tables = {metric.table: defined.tables[metric.table] for metric in defined.metrics.values()}
    names = sorted(tables, key=lambda name: (name != FIRST_TABLE, tables[name].label))
    table = st.selectbox("About", names, format_func=lambda name: tables[name].label)
    st.caption(tables[table].description)
    metrics = [name for name, metric in defined.metrics.items() if metric.table == table]
    asked = st.multiselect(
        "Figures",
        metrics,
        default=[FIRST_METRIC if FIRST_METRIC in metrics else metrics[0]],
        format_func=lambda name: defined.metrics[name].label,
        key=f"ask_figures_{table}",
    )
    if not asked:
        show_nothing_there("Choose one figure or more.")
        return
    dimensions = dimensions_for(defined, asked)
    by = st.multiselect(
        "Cut by",
        list(dimensions),
        format_func=lambda name: dimensions[name].label,
        max_selections=MOST_DIMENSIONS,
        key=f"ask_by_{table}",
    )
    filtered = st.multiselect(
        "Filter on",
        list(dimensions),
        format_func=lambda name: dimensions[name].label,
        max_selections=MOST_FILTERS,
        key=f"ask_on_{table}",
    )
    st.caption("Single customers are looked up on page Customer, where each look-up is logged.")
    filters: list[Filter] = []
    # Figures that are of one value of it are never added up over it.
    one = tables[table].one_value_of
    if one and one not in by:
        filters += chosen_filter(warehouse, dimensions[one], state, ("=",), first=True)
    for name in filtered:
        if name != one or one in by:
            filters += chosen_filter(warehouse, dimensions[name], state, operators_of(dimensions[name]))
    try:
        question = defined.query(asked, by=by, where=filters)
    except SemanticsError as error:
        st.warning(plain(str(error)))
        return
    answer = warehouse.frame(question.sql, question.parameters)
    show_answer(answer, asked, [dimensions[name] for name in by])
    if latest := latest_date(warehouse, defined, asked, by, filters):
        within = " within the filter of dates" if any(dimensions[each].type == "time" for each in filtered) else ""
        st.caption(f"Figures of {day(latest)}, the latest date{within}{LATEST.get(table, '')}.")
    show_sql(question)
    with st.expander("What the figures are"):
        for name in asked:
            st.markdown(f"**{plain(defined.metrics[name].label)}**: {plain(defined.metrics[name].description)}")
        for wanted in defined.not_yet_modelled:
            st.markdown(f"**{plain(wanted.label)}**: not yet modelled\\. {plain(wanted.description)}")


def chosen_filter(
    warehouse: Warehouse, dimension: Dimension, state: State, operators: Sequence[str], first: bool = False
) -> Sequence[Filter]:
    """Return the filter that the reader has chosen on a dimension; none while there is no value.

    :param first: its first value is chosen when the reader has chosen none.
    """
    key = f"ask_{dimension.table}_{dimension.name}"
    left, right = st.columns(2)
    operator = left.selectbox(
        f"{dimension.label}: how",
        operators,
        format_func=lambda each: OPERATORS[each],
        key=f"{key}_operator",
        disabled=len(operators) == 1,
    )
    if operator == "is null":
        return [Filter(dimension.name, operator)]
    values = known_values(warehouse, dimension.table, dimension.name, state)
    label = f"{dimension.label}: {OPERATORS[operator]}"
    with right:
        if not values:
            show_nothing_there(f"{dimension.label} has no value yet.")
            return []
        if operator == "between":
            since, until = st.columns(2)
            from_day = since.date_input(
                f"{dimension.label}: from", value=min(values), format="YYYY-MM-DD", key=f"{key}_from"
            )
            until_day = until.date_input(
                f"{dimension.label}: until", value=max(values), format="YYYY-MM-DD", key=f"{key}_until"
            )
            return [Filter(dimension.name, operator, (from_day, until_day))]
        if operator == "in":
            several = st.multiselect(label, values, key=f"{key}_in")
            return [Filter(dimension.name, operator, tuple(several))] if several else []
        one = st.selectbox(
            label, values, index=0 if first else None, format_func=told, placeholder="Choose", key=f"{key}_{operator}"
        )
    if len(values) == MOST_VALUES:
        right.caption(f"{MOST_VALUES} values are listed; there are more.")
    return [] if one is None else [Filter(dimension.name, operator, one)]


# Kept for the reader, whose rights they are, as long as the copy is the same: an export renews a part of it. In
# Snowflake, where there is no copy, audiences change beside the publication.
@st.cache_data(scope="session", show_spinner=False, max_entries=50, ttl="10m")
def known_values(_warehouse: Warehouse, table: str, dimension: str, state: State) -> list[Any]:
    """Return the values of a dimension."""
    [found] = [each for each in semantics().tables[table].dimensions if each.name == dimension]
    return list(values_of(_warehouse, semantics(), found))


def told(value: object) -> str:
    """Return a value as the lists show it."""
    if isinstance(value, bool):
        return yes_or_no(value)
    return day(value) if isinstance(value, datetime.date) else str(value)


def show_answer(answer: pd.DataFrame, metrics: Sequence[str], by: Sequence[Dimension]) -> None:
    """Show what was asked for: figures alone, or a chart and a table."""
    st.subheader("Answer")
    defined = {name: semantics().metrics[name] for name in metrics}
    if not by:
        for start in range(0, len(metrics), 3):
            for column, name in zip(st.columns(3), metrics[start : start + 3], strict=False):
                with column:
                    show_figure(name, answer[name][0])
        return
    if answer.empty:
        show_nothing_there("No row fits: take a filter away.")
        return
    show_chart(answer, metrics[0], by)
    units = {each.name: unit_of(each) for each in by} | {name: metric.unit for name, metric in defined.items()}
    show_rows(
        answer,
        {each.name: each.label for each in by} | {name: metric.label for name, metric in defined.items()},
        units,
        {name: metric.decimals for name, metric in defined.items()},
    )


def unit_of(dimension: Dimension) -> str:
    """Return how the values of a dimension are written."""
    if dimension.type == "time":
        return "day"
    return "flag" if dimension.data_type == "boolean" else ""


def show_chart(answer: pd.DataFrame, metric: str, by: Sequence[Dimension]) -> None:
    """Draw the first figure where a chart can show it, or say why there is none."""
    defined = semantics().metrics[metric]
    drawn = answer[answer[metric].notna()].copy()
    time = next((each.name for each in by if each.type == "time"), None)
    others = [each for each in by if each.name != time]
    for each in others:
        drawn[each.name] = [NO_VALUE if pd.isna(value) else told(value) for value in drawn[each.name].astype(object)]
    if drawn.empty:
        st.caption(f"No chart: {defined.label} has no value in any row.")
    elif time and len(others) <= 1 and (not others or drawn[others[0].name].nunique() <= MOST_LINES):
        series = others[0].name if others else None
        st.altair_chart(charts.lines(drawn, time, metric, defined.unit, series=series, title=defined.label))
        st.caption(f"The chart is of {defined.label}. The table has the same figures.")
    elif not time and len(others) == 1 and len(drawn) <= MOST_BARS:
        st.altair_chart(charts.bars(drawn, others[0].name, metric, defined.unit, title=defined.label))
        st.caption(f"The chart is of {defined.label}. The table has the same figures.")
    else:
        st.caption(
            f"No chart: one shows {MOST_BARS} bars, or {MOST_LINES} lines over time, at most. Filter, or cut by less."
        )


def show_rows(
    answer: pd.DataFrame, labels: Mapping[str, str], units: Mapping[str, str], decimals: Mapping[str, int] | None = None
) -> None:
    """Show the rows of an answer, the first of them where they are many."""
    show_table(answer.head(ROWS_SHOWN), labels, units, alt="The answer", decimals=decimals)
    rows = written(len(answer), "count")
    if len(answer) > ROWS_SHOWN:
        st.caption(f"The first {written(ROWS_SHOWN, 'count')} of {rows} rows.")
    else:
        st.caption(f"{rows} row{'s' if len(answer) != 1 else ''}.")


def show_sql(question: Query) -> None:
    """Show the SQL that was run, and what it bound."""
    st.subheader("SQL")
    st.code(question.sql, language="sql", wrap_lines=True)
    if question.parameters:
        st.text("Values of the ? in their order: " + ", ".join(map(bound, question.parameters)))


def bound(value: object) -> str:
    """Return a bound value as SQL would have it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else "'" + str(value).replace("'", "''") + "'"


def ask_verified(warehouse: Warehouse, reader: Reader, state: State) -> None:
    """Ask a question whose SQL is verified, as it is."""
    try:
        questions = {each.name: each for each in load_verified_queries()}
    except NoVerifiedQueries as error:
        st.error(plain(str(error)))
        return
    name = st.radio("Question", list(questions), index=None, format_func=lambda each: questions[each].question)
    if name is None:
        st.session_state.pop(ANSWERED, None)
        return
    show_run(warehouse, reader, state, questions[name].sql, {"by": "verified question", "question": name})


def show_run(
    warehouse: Warehouse, reader: Reader, state: State, sql: str, asked: Mapping[str, object], always: bool = False
) -> None:
    """Run a select as it is and show its rows; who asks about single customers is written down before.

    :param asked: how it was asked, for the log.
    :param always: who asks is written down, whatever the answer is about, and when there is none.
    :raises NotLogged: when it cannot be written down.
    """
    view = (reader.name, reader.role_name, sql, state)
    new = st.session_state.get(ANSWERED) != view
    try:
        answer = warehouse.in_marts(sql)
    except NotReadable:
        # What is said of a select that fails may be of the data.
        if always and new:
            write_down(reader, "look_up", None, {**asked, "rows": None}, warehouse)
            st.session_state[ANSWERED] = view
        raise
    if new and (always or names_customers(sql, answer)):
        write_answer_down(warehouse, reader, sql, answer, asked)
    st.session_state[ANSWERED] = view
    st.subheader("Answer")
    if answer.empty:
        show_nothing_there("No row fits.")
    else:
        kinds = {str(name): kind_of(answer[name]) for name in answer.columns}
        show_rows(
            answer,
            {name: name for name in kinds},
            {name: unit for name, (unit, _) in kinds.items()},
            {name: places for name, (unit, places) in kinds.items() if unit == "count"},
        )
    st.subheader("SQL")
    st.code(sql, language="sql", wrap_lines=True)


def write_answer_down(
    warehouse: Warehouse, reader: Reader, sql: str, answer: pd.DataFrame, asked: Mapping[str, object]
) -> None:
    """Write down whom an answer is about: a line for each customer while they are few, else how many they are.

    :raises NotLogged: when it cannot be written down.
    """
    detail = {**asked, "rows": len(answer)}
    customers: list[str | None] = [*customers_of(warehouse, sql, answer)]
    if len(customers) > MOST_LINES_OF_THE_LOG:
        detail["customers"] = len(customers)
        customers = []
    for customer_id in customers or [None]:
        write_down(reader, "look_up", customer_id, detail, warehouse)


def kind_of(column: pd.Series) -> tuple[str, int]:
    """Return unit and decimals of a column that no definition describes, by what is in it."""
    values = column.dropna().astype(object)
    if all(isinstance(value, bool) for value in values):
        return ("flag", 0) if len(values) else ("", 0)
    if all(isinstance(value, datetime.date) for value in values):
        return ("day", 0)
    if all(isinstance(value, int | float | Decimal) for value in values):
        return ("count", 0 if all(value == int(value) for value in values) else 2)
    return ("", 0)


def ask_in_words(warehouse: SnowflakeMarts, reader: Reader, state: State) -> None:
    """Ask Cortex Analyst; the SQL that it answers with is shown before it is run."""
    # Streamlit forgets what stands in a field when its page is left: then a question is asked anew.
    if QUESTION not in st.session_state:
        forget()
    with st.form("words", border=False):
        question = st.text_input("Question", key=QUESTION)
        asked = st.form_submit_button("Ask", type="primary")
    st.caption(
        "Cortex Analyst, a service of Snowflake, writes the SQL. It sees the question and the definitions. Each SQL "
        "that is run is logged: who, what, when."
    )
    if asked and question.strip():
        forget()
        with st.spinner("Cortex Analyst is asked"):
            try:
                st.session_state[ANSWER] = ask(
                    question.strip(), warehouse.in_database(SEMANTIC_VIEW), *warehouse.rest_session()
                )
            except NoAnswer as error:
                st.error(plain(str(error)))
    answer: Answer | None = st.session_state.get(ANSWER)
    if answer:
        show_words(warehouse, reader, state, answer)


def forget() -> None:
    """Forget what was answered."""
    for key in (ANSWER, ANSWERED):
        st.session_state.pop(key, None)


def show_words(warehouse: SnowflakeMarts, reader: Reader, state: State, answer: Answer) -> None:
    """Show an answer: what it says, what it would rather be asked, and its SQL, which runs at a click."""
    for text in answer.texts:
        st.write(plain(text))
    for warning in answer.warnings:
        st.warning(plain(warning))
    for suggestion in answer.suggestions:
        st.write(f"- {plain(suggestion)}")
    if not answer.sql:
        show_nothing_there("There is no SQL to run: ask in other words.")
        return
    try:
        select = one_select(answer.sql)
    except NotASelect as error:
        st.code(answer.sql, language="sql", wrap_lines=True)
        st.error(f"This SQL is not run. {error}")
        return
    if st.session_state.get(ANSWERED, ("", "", ""))[2] == select or st.button("Run this SQL", type="primary"):
        asked = {"by": "words", "question": answer.request_id, "statement": select}
        show_run(warehouse, reader, state, select, asked, always=True)
    else:
        st.code(select, language="sql", wrap_lines=True)


show_page(show)
