{% macro mask_personal_data(column) -%}
    {#- Puts the masking policy of deploy/snowflake on a column of the model just built; a clone keeps it. Only the Dag's target
        sees what there is to mask: on target dev personal data arrive masked, and DuckDB has no policies. With force: a
        snapshot keeps its table, which has the policy already. -#}
    {%- if target.name == 'snowflake' -%}
        alter table {{ this }} modify column {{ column }} set masking policy {{ target.database }}.ops.mask_personal_data force
    {%- endif -%}
{%- endmacro %}
