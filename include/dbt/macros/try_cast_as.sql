{% macro try_cast_as(expression, data_type) -%}
    {#- The value as data_type, or null where it is not one. dbt.safe_cast is a plain cast on DuckDB. -#}
    {{ return(adapter.dispatch('try_cast_as')(expression, data_type)) }}
{%- endmacro %}

{% macro default__try_cast_as(expression, data_type) -%}
    try_cast({{ expression }} as {{ data_type }})
{%- endmacro %}

{% macro snowflake__try_cast_as(expression, data_type) -%}
    {#- Snowflake's try_cast takes strings only. A DATE is taken as it is: as text it would depend on the session's formats. -#}
    {%- if data_type == 'date' -%}
        coalesce(as_date(to_variant({{ expression }})), try_cast(cast({{ expression }} as varchar) as date))
    {%- else -%}
        try_cast(cast({{ expression }} as varchar) as {{ data_type }})
    {%- endif -%}
{%- endmacro %}
