{% macro mask_personal_data(column) -%}
    {#- Puts the masking policy of deploy/snowflake on a column of the model just built; a clone keeps it. DuckDB has none. -#}
    {%- if target.type == 'snowflake' -%}
        alter table {{ this }} modify column {{ column }} set masking policy {{ target.database }}.ops.mask_personal_data
    {%- endif -%}
{%- endmacro %}
