{% macro cents(amount) -%}
    {#- A whole number, wide enough for its square. -#}
    cast(cast({{ amount }} as decimal(38, 2)) * 100 as decimal(38, 0))
{%- endmacro %}
