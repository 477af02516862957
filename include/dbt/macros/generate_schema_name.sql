{% macro generate_schema_name(custom_schema_name, node) -%}
    {#- Schemas carry their own names (core, marts, ...) on both warehouses; on target dev behind dev_<user>_, dbt's own way. -#}
    {%- if target.name == 'dev' -%}
        {{ default__generate_schema_name(custom_schema_name, node) }}
    {%- else -%}
        {{ custom_schema_name or target.schema }}
    {%- endif -%}
{%- endmacro %}
