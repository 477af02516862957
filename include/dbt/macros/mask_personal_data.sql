{% macro mask_personal_data(columns) -%}
    {#- Puts the masking policy of include/sql/setup on columns of the model just built; a clone keeps it. DuckDB has none. -#}
    {%- if target.type == 'snowflake' -%}
        alter table {{ this }} modify
        {%- for column in columns %}
            column {{ column }} set masking policy {{ target.database }}.ops.mask_personal_data
            {{- "," if not loop.last }}
        {%- endfor %}
    {%- endif -%}
{%- endmacro %}
