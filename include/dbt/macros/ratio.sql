{% macro ratio(numerator, denominator, factor=1) -%}
    {#- numerator / denominator * factor, in double, rounded and stored as decimal(18,4); null when the denominator is 0.
        Unrounded doubles differ with summation order, and Snowflake's decimal division keeps only a few digits. Plain Jinja,
        without anything of dbt's: the validations import it too. -#}
    cast(round(cast({{ numerator }} as double) / nullif(cast({{ denominator }} as double), 0) * {{ factor }}, 4) as decimal(18, 4))
{%- endmacro %}
