{% macro rows_checksum(columns) -%}
    {#- One text for a group of rows, in whatever order they come, that differs when one of them differs in a value. Compared
        only with what the same engine made: the engines' hashes differ. -#}
    {{ return(adapter.dispatch('rows_checksum')(columns)) }}
{%- endmacro %}

{% macro default__rows_checksum(columns) -%}
    cast(coalesce(sum(hash({{ columns | join(', ') }})), 0) as varchar)
{%- endmacro %}

{% macro snowflake__rows_checksum(columns) -%}
    cast(hash_agg({{ columns | join(', ') }}) as varchar)
{%- endmacro %}
