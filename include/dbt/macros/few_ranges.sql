{% macro few_ranges(first_days, last_days) -%}
    {#- Ranges of days in order, as (first, last) pairs. Of more than 50 the one that spans them: reading too much costs less than
        comparing every row with each. -#}
    {{ return([(first_days[0], last_days[-1])] if first_days | length > 50 else zip(first_days, last_days) | list) }}
{%- endmacro %}
