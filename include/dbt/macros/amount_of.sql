{#- What an amount in dollars is, delivered as text: ASCII digits with at most one point, a sign before and an exponent behind them,
    blanks around it. No other separator, no currency, no word such as NaN. -#}

{% macro number_pattern() -%}
    [[:space:]]*[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?[[:space:]]*
{%- endmacro %}

{% macro amount_of(text) -%}
    {#- The amount rounded to cents, half away from zero; null where it is no number, or one that decimal(18, 2) does not hold. -#}
    {{ return(adapter.dispatch('amount_of')(text)) }}
{%- endmacro %}

{% macro default__amount_of(text) -%}
    {#- DuckDB's cast takes what the pattern does, and underscores between digits. The pattern itself costs three times as much. -#}
    try_cast(case when not contains({{ text }}, '_') then {{ text }} end as decimal(18, 2))
{%- endmacro %}

{% macro snowflake__amount_of(text) -%}
    try_cast(case when {{ matches(text, number_pattern()) }} then {{ trimmed(text) }} end as decimal(18, 2))
{%- endmacro %}

{% macro matches(text, pattern) -%}
    {#- Whether the whole text is as the pattern says. One without a backslash means the same on both engines. -#}
    {{ return(adapter.dispatch('matches')(text, pattern)) }}
{%- endmacro %}

{% macro default__matches(text, pattern) -%}
    regexp_full_match({{ text }}, '{{ pattern }}')
{%- endmacro %}

{% macro snowflake__matches(text, pattern) -%}
    regexp_like({{ text }}, '{{ pattern }}')
{%- endmacro %}
