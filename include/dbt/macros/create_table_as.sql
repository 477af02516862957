{% macro snowflake__create_table_as(temporary, relation, compiled_code, language='sql') -%}
    {#- A snapshot has no contract, by which dbt names the columns of a table when it makes it. It needs them: personal data is
        masked in the statement that makes the table, and not after it, when whoever reads core could have read it. -#}
    {%- if model.resource_type == 'snapshot' and not temporary -%}
        create or replace {{ 'transient ' if config.get('transient', true) }}table {{ relation }} (
            {%- for column in model.columns.values() %}
            {{ column.name }} {{ column.data_type }} {{ masking_policy(column) }}{{ ',' if not loop.last }}
            {%- endfor %}
        )
        as (
            select {{ model.columns.keys() | join(', ') }}
            from ({{ compiled_code }})
        )
    {%- else -%}
        {{ dbt.snowflake__create_table_as(temporary, relation, compiled_code, language) }}
    {%- endif -%}
{%- endmacro %}

{% macro masking_policy(column) -%}
    {#- Of a column whose yml says that it is personal data. Only the Dag's target sees what there is to mask: on target dev it
        arrives masked. Snowflake's Standard Edition has no policies. Contracts have the same in their constraints. -#}
    {%- if column.config.meta.personal_data and target.name == 'snowflake' and env_var('SNOWFLAKE_EDITION', '') != 'standard' -%}
        with masking policy {{ target.database }}.ops.mask_personal_data
    {%- endif -%}
{%- endmacro %}
