{% macro days_before_as_of(days) -%}
    cast({{ dbt.dateadd('day', -days, as_of_date()) }} as date)
{%- endmacro %}
