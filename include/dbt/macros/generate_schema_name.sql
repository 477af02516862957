{% macro generate_schema_name(custom_schema_name, node) -%}
    {#- Schemas carry their own names (core, marts, ...) on both warehouses. -#}
    {{ custom_schema_name or target.schema }}
{%- endmacro %}
